/* Frames each line of standard input, without a session, and writes the frames to standard output.
 *
 *     cc -std=c99 -O2 -o frame frame.c
 *     ./frame blocks < lines | nc -N HOST PORT
 *     ./frame cobs-crc32 < lines > /dev/ttyACM0
 *
 * Empty lines are left out. Exits with 0 if every frame was written; with 1 if not; with 2 after wrong arguments. */
#include <stdio.h>

#include "blocks_session.h"

#define LINE_LEN_MAX 16384

static uint8_t line[LINE_LEN_MAX], frame[BLOCKS_COBS_CRC32_MAX(LINE_LEN_MAX)];

/* Reads a line, without its end. Returns its length, more than LINE_LEN_MAX if it is too long, -1 at the end of the input. */
static long read_line(void)
{
    long len = 0;
    int byte;
    while ((byte = getchar()) != EOF && byte != '\n') {
        if (len < LINE_LEN_MAX) line[len] = (uint8_t)byte;
        if (len <= LINE_LEN_MAX) len++;
    }
    if (byte == EOF && len == 0) return -1;
    return len > 0 && len <= LINE_LEN_MAX && line[len - 1] == '\r' ? len - 1 : len;
}

static bool write_frame(size_t len) { return fwrite(frame, 1, len, stdout) == len; }

int main(int argc, char **argv)
{
    bool is_blocks = argc == 2 && strcmp(argv[1], "blocks") == 0, is_written = true;
    unsigned long too_long = 0;
    if (!is_blocks && (argc != 2 || strcmp(argv[1], "cobs-crc32") != 0)) {
        fputs("usage: frame blocks|cobs-crc32 < lines > frames\n", stderr);
        return 2;
    }
    for (long len; is_written && (len = read_line()) >= 0;) {
        if (len > LINE_LEN_MAX) {
            too_long++;
        } else if (len > 0 && is_blocks) {
            is_written = write_frame(blocks_put_block(frame, sizeof frame, line, (uint32_t)len));
        } else if (len > 0) {
            is_written = write_frame(blocks_put_cobs_crc32(frame, sizeof frame, line, (uint32_t)len));
        }
        if (fflush(stdout) != 0) is_written = false; /* a message is sent when its line is there */
    }
    if (is_blocks && is_written) is_written = write_frame(blocks_put_block(frame, sizeof frame, NULL, 0)); /* the end */
    if (fflush(stdout) != 0) is_written = false;
    if (!is_written) fputs("frame: standard output takes no more\n", stderr);
    if (too_long > 0) fprintf(stderr, "frame: %lu lines were longer than %d bytes\n", too_long, LINE_LEN_MAX);
    return is_written && too_long == 0 ? 0 : 1;
}
