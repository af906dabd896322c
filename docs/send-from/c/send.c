/* Sends each line of standard input over an acknowledged session, and connects again after each interruption.
 *
 *     cc -std=c99 -O2 -o send send.c
 *     ./send [-d] [-t SECONDS] [-b MS] [-r BYTES] HOST:PORT DEVICE < lines
 *
 * -d: drop the oldest messages if the ring is full; -t: time until it gives up, after the end of the input; -b: longest wait between
 * two attempts; -r: length of the ring, at most 65,536 bytes.
 * Exits with 0 only if the host has acknowledged every line; with 1 if not; with 2 after wrong arguments. */
#define _POSIX_C_SOURCE 200809L

#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

#include "blocks_session.h"

#define RING_MAX 65536
#define LINE_LEN_MAX 16384

static struct blocks_session session;
static uint8_t ring[RING_MAX];

/* The line that is read: bytes up to a line feed. */
static struct {
    uint8_t bytes[LINE_LEN_MAX];
    uint32_t len;
    bool is_whole, is_too_long;
} line;

static uint8_t input[4096];
static size_t input_len, input_at;
static bool is_end_of_input;
static unsigned lines_too_long;
static uint64_t timeout_us, until_us = UINT64_MAX; /* after the end of the input */

static uint64_t clock_us(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000u + (uint64_t)now.tv_nsec / 1000u + 1;
}

/* Pushes the lines of the input buffer, as far as the ring takes them. */
static void push_lines(void)
{
    for (;;) {
        if (line.is_whole) {
            bool is_too_long = line.is_too_long;
            if (line.len > 0 && !is_too_long) {
                enum blocks_pushed pushed = blocks_push(&session, line.bytes, line.len);
                if (pushed == BLOCKS_FULL) return;
                is_too_long = pushed == BLOCKS_TOO_LONG;
            }
            if (is_too_long) lines_too_long++;
            line.len = 0;
            line.is_whole = line.is_too_long = false;
        }
        if (input_at == input_len) {
            if (!is_end_of_input || line.len == 0) return;
            line.is_whole = true; /* the last line has no line feed */
            continue;
        }
        uint8_t byte = input[input_at++];
        if (byte == '\n') {
            line.is_whole = true;
        } else if (line.len < LINE_LEN_MAX) {
            line.bytes[line.len++] = byte;
        } else {
            line.is_too_long = true;
        }
    }
}

static bool wants_input(void) { return !is_end_of_input && !line.is_whole && input_at == input_len; }

static void read_input(void)
{
    ssize_t len = read(STDIN_FILENO, input, sizeof input);
    if (len < 0 && errno == EINTR) return;
    input_at = 0;
    input_len = len > 0 ? (size_t)len : 0;
    is_end_of_input = len <= 0;
    if (is_end_of_input && timeout_us > 0) until_us = clock_us() + timeout_us;
    push_lines();
}

/* Every line was pushed. */
static bool is_all_pushed(void) { return is_end_of_input && input_at == input_len && !line.is_whole; }

static bool is_complete(void) { return is_all_pushed() && blocks_is_done(&session); }

/* Waits for the input, and for `fd` if it is not -1. Returns the events of `fd`. */
static short wait_for(int fd, short events, uint64_t wait_ms)
{
    struct pollfd fds[2] = {{.fd = wants_input() ? STDIN_FILENO : -1, .events = POLLIN}, {.fd = fd, .events = events}};
    if (poll(fds, 2, wait_ms < 1000 ? (int)wait_ms : 1000) <= 0) return 0;
    if (fds[0].revents != 0) read_input();
    return fds[1].revents;
}

static int connect_to(const char *host, const char *port)
{
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM}, *found, *it;
    int error = getaddrinfo(host, port, &hints, &found);
    if (error != 0) {
        fprintf(stderr, "send: %s: %s\n", host, gai_strerror(error));
        return -1;
    }
    int fd = -1;
    for (it = found; it != NULL && fd < 0; it = it->ai_next) {
        fd = socket(it->ai_family, it->ai_socktype, it->ai_protocol);
        if (fd < 0) continue;
        struct timeval timeout = {.tv_sec = BLOCKS_WELCOME_TIMEOUT_MS / 1000};
        setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &timeout, sizeof timeout); /* also that of `connect`, on Linux */
        if (connect(fd, it->ai_addr, it->ai_addrlen) != 0 || fcntl(fd, F_SETFL, O_NONBLOCK) != 0) {
            fprintf(stderr, "send: %s:%s: %s\n", host, port, strerror(errno));
            close(fd);
            fd = -1;
        }
    }
    freeaddrinfo(found);
    return fd;
}

/* Reads once. Returns whether the connection goes on. */
static bool receive(int fd, enum blocks_status *status)
{
    uint8_t bytes[512];
    ssize_t len = recv(fd, bytes, sizeof bytes, 0);
    if (len < 0 && (errno == EAGAIN || errno == EWOULDBLOCK || errno == EINTR)) return true;
    if (len <= 0) {
        fprintf(stderr, "send: the host closed the connection%s%s\n", len < 0 ? ": " : "", len < 0 ? strerror(errno) : "");
        return false;
    }
    *status = blocks_received(&session, bytes, (size_t)len);
    if (*status == BLOCKS_BROKEN) fprintf(stderr, "send: the host broke the protocol: fault %d\n", (int)session.fault);
    if (*status == BLOCKS_CLOSING) {
        fprintf(stderr, "send: the host closes: code %d, %s\n", session.closing_code, session.closing_text);
    }
    return *status == BLOCKS_OK;
}

/* Runs one connection, until it is over or everything is acknowledged. */
static enum blocks_status run(int fd)
{
    enum blocks_status status = BLOCKS_OK;
    uint64_t read_at_us = clock_us();
    bool is_finishing = false, goes_on = true;
    blocks_connected(&session, read_at_us);
    while (goes_on && !is_complete() && clock_us() < until_us) {
        push_lines();
        if (is_all_pushed() && session.is_welcome && !is_finishing) {
            blocks_finish(&session);
            is_finishing = true;
        }
        const uint8_t *bytes;
        size_t len = blocks_take(&session, clock_us(), &bytes);
        uint64_t silence_ms = (clock_us() - read_at_us) / 1000, silence_max_ms = blocks_silence_max_ms(&session);
        if (silence_max_ms <= silence_ms) {
            fprintf(stderr, "send: nothing read for %lu ms\n", (unsigned long)silence_ms);
            break;
        }
        /* A message that is pushed must not move the bytes that were taken, so they are taken again after the wait. */
        short ready = wait_for(fd, (short)(len > 0 ? POLLIN | POLLOUT : POLLIN), silence_max_ms - silence_ms);
        if (ready & ~POLLOUT) {
            read_at_us = clock_us();
            goes_on = receive(fd, &status);
            push_lines();
        }
        if (!goes_on || !(ready & POLLOUT)) continue;
        len = blocks_take(&session, clock_us(), &bytes);
        ssize_t sent = len > 0 ? send(fd, bytes, len, MSG_NOSIGNAL) : 0;
        if (sent >= 0) {
            blocks_sent(&session, (size_t)sent);
        } else if (errno != EAGAIN && errno != EWOULDBLOCK && errno != EINTR) {
            /* Read the rest: acknowledgements, and perhaps CLOSING. */
            while (wait_for(fd, POLLIN, 1000) != 0 && receive(fd, &status)) {}
            goes_on = false;
        }
    }
    return status;
}

static int usage(void)
{
    fputs("usage: send [-d] [-t SECONDS] [-b MS] [-r BYTES] HOST:PORT DEVICE < lines\n", stderr);
    return 2;
}

int main(int argc, char **argv)
{
    unsigned long backoff_ms = 60000, ring_len = RING_MAX;
    bool drop_oldest = false;
    for (int option; (option = getopt(argc, argv, "dt:b:r:")) != -1;) {
        if (option == 'd') {
            drop_oldest = true;
            continue;
        }
        unsigned long value = option == '?' ? 0 : strtoul(optarg, NULL, 10);
        if (value == 0) return usage();
        if (option == 't') timeout_us = (uint64_t)value * 1000000u;
        if (option == 'b') backoff_ms = value;
        if (option == 'r') ring_len = value;
    }
    if (argc - optind != 2 || RING_MAX < ring_len || backoff_ms > 3600000) return usage();
    char *host = argv[optind], *port = strrchr(host, ':');
    if (port == NULL || !blocks_init(&session, argv[optind + 1], ring, (uint32_t)ring_len)) return usage();
    *port++ = '\0';
    session.drop_oldest = drop_oldest;
    session.backoff_max_ms = (uint32_t)backoff_ms;
    session.backoff_long_ms = 10 * session.backoff_max_ms;
    srand((unsigned)clock_us() ^ (unsigned)getpid());

    while (!is_complete() && clock_us() < until_us) {
        int fd = connect_to(host, port);
        enum blocks_status status = BLOCKS_OK;
        if (fd >= 0) {
            status = run(fd);
            close(fd);
        }
        uint64_t wait_ms = blocks_closed(&session, status, clock_us());
        wait_ms -= (uint64_t)rand() % (wait_ms / 2 + 1);
        if (wait_ms < blocks_retry_ms(&session)) wait_ms = blocks_retry_ms(&session);
        for (uint64_t again_us = clock_us() + wait_ms * 1000, now_us; (now_us = clock_us()) < again_us;) {
            if (is_complete() || until_us < now_us) break;
            push_lines();
            wait_for(-1, 0, (again_us - now_us) / 1000 + 1);
        }
    }
    if (is_complete() && session.dropped == 0 && session.refused_by_host == 0 && lines_too_long == 0) return 0;
    fprintf(stderr, "send: %lu messages not acknowledged, %lu dropped, %lu too long\n", (unsigned long)session.held,
            (unsigned long)session.dropped, (unsigned long)(session.refused_by_host + lines_too_long));
    return 1;
}
