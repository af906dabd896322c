#include "blocks_socket.h"
#include "esp_event.h"
#include "esp_netif.h"
#include "nvs_flash.h"
#include "protocol_examples_common.h"

static uint8_t ring[4096];
static struct blocks_socket uplink;

void app_main(void)
{
    ESP_ERROR_CHECK(nvs_flash_init());
    ESP_ERROR_CHECK(esp_netif_init());
    ESP_ERROR_CHECK(esp_event_loop_create_default());
    ESP_ERROR_CHECK(example_connect());
    blocks_socket_init(&uplink, "192.168.1.10", "1060", "boiler-01234", ring, sizeof ring);
    blocks_push(&uplink.session, "temp=21.5", 9);
    for (;;) {
        blocks_socket_poll(&uplink);
        usleep(10000);
    }
}
