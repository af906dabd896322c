#include <zephyr/kernel.h>

#include "blocks_socket.h"

static uint8_t ring[4096];
static struct blocks_socket uplink;

int main(void)
{
    blocks_socket_init(&uplink, "192.168.1.10", "1060", "boiler-01234", ring, sizeof ring);
    blocks_push(&uplink.session, "temp=21.5", 9);
    for (;;) {
        blocks_socket_poll(&uplink);
        k_msleep(10);
    }
}
