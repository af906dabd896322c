/* A sketch that sends lines of standard input with BlocksSession, over WiFiClient; with -DWITH_ETHERNET, over EthernetClient. The
 * arguments are in ../lines.h. */
#include <Arduino.h>
#include <Blocks.h>
#include <Ethernet.h>
#include <WiFi.h>

#include "../lines.h"

#ifdef WITH_ETHERNET
static EthernetClient client;
#else
static WiFiClient client;
#endif
static struct lines lines;
static uint8_t ring[LINES_ROOM_MAX];
static BlocksSession *uplink;

void setup()
{
    if (!lines_begin(&lines, shim_argc, shim_argv)) exit(2);
    static BlocksSession session(client, lines.host, (uint16_t)atoi(lines.port), ring, lines.room);
    uplink = &session;
    if (!uplink->begin(lines.device)) exit(2);
    uplink->state.drop_oldest = lines.drop_oldest;
    uplink->state.backoff_max_ms = lines.backoff_max_ms;
    uplink->state.backoff_long_ms = 10 * lines.backoff_max_ms;
}

void loop()
{
    static uint32_t tried_again = 0;
    while (lines_next(&lines)) {
        bool is_too_long = uplink->lenMax() < lines.len;
        if (is_too_long) lines.too_long++;
        else if (!uplink->push(lines.bytes, lines.len)) {
            tried_again++;
            break;
        }
        lines_take(&lines);
    }
    if (lines_are_taken(&lines)) uplink->finish();
    uplink->poll();
    bool is_done = lines_are_taken(&lines) && uplink->isDone();
    if (is_done || lines_are_late(&lines)) exit(lines_end(&lines, is_done, uplink->lost() - tried_again));
}
