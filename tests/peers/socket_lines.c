/* Sends lines with docs/send-from/c/blocks_socket.h, as the projects for ESP-IDF and Zephyr do. The arguments are in lines.h. */
#define _POSIX_C_SOURCE 200809L

#include "../../docs/send-from/c/blocks_socket.h"
#include "lines.h"

static struct lines lines;
static uint8_t ring[LINES_ROOM_MAX];
static struct blocks_socket uplink;

/* Pushes lines while the ring takes them. */
static void push(void)
{
    while (lines_next(&lines)) {
        enum blocks_pushed pushed = blocks_push(&uplink.session, lines.bytes, lines.len);
        if (pushed == BLOCKS_FULL) return;
        if (pushed == BLOCKS_TOO_LONG) lines.too_long++;
        lines_take(&lines);
    }
}

int main(int argc, char **argv)
{
    if (!lines_begin(&lines, argc, argv)) return 2;
    if (!blocks_socket_init(&uplink, lines.host, lines.port, lines.device, ring, lines.room)) return 2;
    uplink.session.drop_oldest = lines.drop_oldest;
    uplink.session.backoff_max_ms = lines.backoff_max_ms;
    uplink.session.backoff_long_ms = 10 * lines.backoff_max_ms;
    bool is_done = false;
    while (!is_done && !lines_are_late(&lines)) {
        push();
        if (lines_are_taken(&lines)) blocks_socket_finish(&uplink);
        blocks_socket_poll(&uplink);
        is_done = lines_are_taken(&lines) && blocks_is_done(&uplink.session);
        lines_sleep();
    }
    return lines_end(&lines, is_done, uplink.session.dropped + uplink.session.refused_by_host);
}
