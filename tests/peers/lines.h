/* The command line and the input of the programs here that send lines over a session, in C99 and C++: start with `lines_begin`.
 *
 *     PROGRAM [-d] [-t SECONDS] [-b MS] [-r BYTES] HOST:PORT DEVICE < lines
 *
 * The options are those of docs/send-from/c/send.c. A program reads lines with `lines_next`, and ends with `lines_end`. */
#ifndef LINES_H
#define LINES_H

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define LINES_ROOM_MAX 65536
#define LINE_LEN_MAX 16384

struct lines {
    bool drop_oldest;
    uint32_t timeout_s, backoff_max_ms, room;
    const char *device;
    char host[64];
    char port[8];

    /* The line that is read. */
    uint8_t bytes[LINE_LEN_MAX];
    uint32_t len, too_long;
    bool is_whole, is_end;
    uint8_t input[4096];
    size_t input_len, input_at;
    time_t until; /* after the end of the input */
};

static inline time_t lines_now_s(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec;
}

/* Reads the arguments. Returns whether they are well-formed. */
static inline bool lines_begin(struct lines *lines, int argc, char **argv)
{
    memset(lines, 0, sizeof *lines);
    lines->timeout_s = 60;
    lines->backoff_max_ms = 60000;
    lines->room = LINES_ROOM_MAX;
    for (int option; (option = getopt(argc, argv, "dt:b:r:")) != -1;) {
        uint32_t value = option == 'd' || option == '?' ? 0 : (uint32_t)strtoul(optarg, NULL, 10);
        if (option == '?') return false;
        if (option == 'd') lines->drop_oldest = true;
        if (option == 't') lines->timeout_s = value;
        if (option == 'b') lines->backoff_max_ms = value;
        if (option == 'r') lines->room = value;
    }
    if (argc - optind != 2 || LINES_ROOM_MAX < lines->room) return false;
    lines->device = argv[optind + 1];
    return fcntl(STDIN_FILENO, F_SETFL, O_NONBLOCK) == 0 &&
           sscanf(argv[optind], "%63[^:]:%7[0-9]", lines->host, lines->port) == 2;
}

/* Returns whether `bytes` is a whole line of `len` bytes, 1 or more. It stays until `lines_take`. */
static inline bool lines_next(struct lines *lines)
{
    while (!lines->is_whole) {
        if (lines->input_at == lines->input_len) {
            if (lines->is_end) return false;
            ssize_t len = read(STDIN_FILENO, lines->input, sizeof lines->input);
            if (len < 0) return false;
            if (len == 0) lines->until = lines_now_s() + (time_t)lines->timeout_s;
            lines->is_end = len == 0;
            lines->input_len = (size_t)len;
            lines->input_at = 0;
            lines->is_whole = lines->is_end && lines->len > 0;
            continue;
        }
        uint8_t byte = lines->input[lines->input_at++];
        if (byte == '\n') lines->is_whole = lines->len > 0;
        else if (lines->len < LINE_LEN_MAX) lines->bytes[lines->len++] = byte;
    }
    return true;
}

static inline void lines_take(struct lines *lines)
{
    lines->len = 0;
    lines->is_whole = false;
}

/* Whether all lines were taken. */
static inline bool lines_are_taken(const struct lines *lines)
{
    return lines->is_end && !lines->is_whole && lines->input_at == lines->input_len;
}

/* Whether the time after the end of the input is over. */
static inline bool lines_are_late(const struct lines *lines) { return lines->is_end && lines->until < lines_now_s(); }

/* The exit code: 0 only if every line was acknowledged. */
static inline int lines_end(const struct lines *lines, bool is_done, uint32_t lost)
{
    if (is_done && lost == 0 && lines->too_long == 0) return 0;
    fprintf(stderr, "%s, %lu lost, %lu too long\n", is_done ? "all decided" : "not all acknowledged", (unsigned long)lost,
            (unsigned long)lines->too_long);
    return 1;
}

/* Lets other programs run. */
static inline void lines_sleep(void)
{
    struct timespec pause;
    pause.tv_sec = 0;
    pause.tv_nsec = 200000;
    nanosleep(&pause, NULL);
}

#endif
