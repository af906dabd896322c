/* A sketch that frames lines of standard input with BlocksSerial, and writes them to the serial line: `serial_lines cobs-crc32`. */
#include <Arduino.h>
#include <Blocks.h>

#include "../lines.h"

static struct lines lines;
static uint8_t buffer[BLOCKS_COBS_CRC32_MAX(LINE_LEN_MAX)];
static BlocksSerial uplink(Serial, buffer);

void setup()
{
    if (shim_argc != 2 || strcmp(shim_argv[1], "cobs-crc32") != 0) exit(2);
    Serial.begin(115200);
}

void loop()
{
    static uint32_t tried_again = 0;
    while (lines_next(&lines)) {
        uint32_t len = lines.len;
        if (lines.bytes[len - 1] == '\r') len--;
        if (len > 0 && !uplink.push(lines.bytes, len)) {
            tried_again++;
            break;
        }
        lines_take(&lines);
    }
    uplink.poll();
    if (lines_are_taken(&lines) && uplink.isDone()) exit(lines_end(&lines, true, uplink.lost() - tried_again));
}
