/* The Wi-Fi of the examples of ESP-IDF, for docs/send-from/esp-idf on a computer, which is connected already. Runs `app_main`. */
#include "esp_err.h"

static inline esp_err_t example_connect(void) { return ESP_OK; }

void app_main(void);

int main(void)
{
    app_main();
    return 0;
}
