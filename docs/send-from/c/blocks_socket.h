/* Runs a session of blocks_session.h over TCP, with the sockets of POSIX: those of ESP-IDF (lwIP), Zephyr and Linux. It allocates
 * nothing itself; `getaddrinfo` does. Start with `blocks_socket_init`, and call `blocks_socket_poll` again and again.
 *
 *     static uint8_t ring[4096];
 *     static struct blocks_socket uplink;
 *     blocks_socket_init(&uplink, "192.0.2.10", "1060", "boiler-01234", ring, sizeof ring);
 *     blocks_push(&uplink.session, "temp=21.5", 9);
 *     for (;;) {
 *         blocks_socket_poll(&uplink);
 *         // Sleep for 10 ms or more.
 *     }
 *
 * No function waits, except for the resolution of a host name. A function must not be called while another one runs, and neither
 * must a function of blocks_session.h with this session: use a mutex around `blocks_push` and `blocks_socket_poll`. */
#ifndef BLOCKS_SOCKET_H
#define BLOCKS_SOCKET_H

#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#ifdef ESP_PLATFORM
#include <sys/poll.h> /* ESP-IDF has no <poll.h> */
#else
#include <poll.h>
#endif
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "blocks_session.h"

/* A write to a connection that is closed must not end a process; on a microcontroller nothing is to be prevented. */
#ifdef MSG_NOSIGNAL
#define BLOCKS_SOCKET_FLAGS MSG_NOSIGNAL
#else
#define BLOCKS_SOCKET_FLAGS 0
#endif
#define BLOCKS_SOCKET_DRAIN_US 1000000u

struct blocks_socket {
    struct blocks_session session; /* its settings, its results, and `blocks_push` */
    int fd;                        /* -1: none. To wait for it with `poll` is allowed */

    /* Private. */
    const char *host, *port;
    bool is_connecting, is_cut, is_finishing;
    uint32_t random;
    unsigned attempts;
    uint64_t again_us, until_us; /* when it connects again; when the connection is given up */
};

/* Begins without a session. The texts and the ring must live as long as `s`. Returns whether `device` is valid: see `blocks_init`. */
static inline bool blocks_socket_init(struct blocks_socket *s, const char *host, const char *port, const char *device, void *ring,
                                      uint32_t ring_len);

/* Connects, writes and reads, as far as that is possible without waiting. */
static inline void blocks_socket_poll(struct blocks_socket *s);

/* Asks the host to acknowledge soon what was pushed: after the last message, or before a sleep. */
static inline void blocks_socket_finish(struct blocks_socket *s) { s->is_finishing = true; }

/* Helpers: private. */

static inline uint64_t blocks_socket_clock_us(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000u + (uint64_t)now.tv_nsec / 1000u + 1;
}

static inline bool blocks_socket_can_later(void)
{
    return errno == EAGAIN || errno == EWOULDBLOCK || errno == EINTR;
}

/* After this time without a byte, the connection is given up. */
static inline void blocks_socket_expect(struct blocks_socket *s)
{
    uint32_t silence_ms = blocks_silence_max_ms(&s->session);
    if (!s->is_cut) s->until_us = silence_ms == BLOCKS_NEVER ? ~(uint64_t)0 : blocks_socket_clock_us() + silence_ms * (uint64_t)1000;
}

static inline void blocks_socket_close(struct blocks_socket *s, enum blocks_status status)
{
    uint64_t now_us = blocks_socket_clock_us();
    uint32_t wait_ms = blocks_closed(&s->session, status, now_us);
    if (s->fd >= 0) close(s->fd);
    s->fd = -1;
    s->random = blocks_random(&s->session, s->random, now_us);
    s->again_us = now_us + blocks_wait_ms(&s->session, wait_ms, s->random) * (uint64_t)1000;
}

/* Begins to connect, to another address of the host each time. */
static inline void blocks_socket_connect(struct blocks_socket *s)
{
    struct addrinfo hints, *found = NULL;
    memset(&hints, 0, sizeof hints);
    hints.ai_socktype = SOCK_STREAM;
    if (getaddrinfo(s->host, s->port, &hints, &found) == 0 && found != NULL) {
        unsigned count = 0, chosen;
        for (struct addrinfo *it = found; it != NULL; it = it->ai_next) count++;
        struct addrinfo *address = found;
        for (chosen = s->attempts++ % count; chosen > 0; chosen--) address = address->ai_next;
        s->fd = socket(address->ai_family, address->ai_socktype, address->ai_protocol);
        if (s->fd >= 0 && (fcntl(s->fd, F_SETFL, O_NONBLOCK) != 0 ||
                           (connect(s->fd, address->ai_addr, address->ai_addrlen) != 0 && errno != EINPROGRESS))) {
            close(s->fd);
            s->fd = -1;
        }
        freeaddrinfo(found);
    }
    s->is_connecting = true;
    s->is_cut = false;
    if (s->fd < 0) blocks_socket_close(s, BLOCKS_OK);
    else blocks_socket_expect(s);
}

/* Returns whether the attempt goes on, or has succeeded. */
static inline bool blocks_socket_connected(struct blocks_socket *s)
{
    struct pollfd ready;
    int error = 0;
    socklen_t len = sizeof error;
    ready.fd = s->fd;
    ready.events = (short)POLLOUT;
    ready.revents = 0;
    if (poll(&ready, 1, 0) <= 0) return true;
    if (getsockopt(s->fd, SOL_SOCKET, SO_ERROR, &error, &len) != 0 || error != 0 || (ready.revents & POLLOUT) == 0) return false;
    s->is_connecting = false;
    blocks_connected(&s->session, blocks_socket_clock_us());
    blocks_socket_expect(s);
    return true;
}

/* Returns whether the connection can go on. */
static inline bool blocks_socket_read(struct blocks_socket *s, enum blocks_status *status)
{
    uint8_t bytes[128];
    for (int reads = 0; reads < 8; reads++) {
        ssize_t len = recv(s->fd, bytes, sizeof bytes, 0);
        if (len <= 0) return len < 0 && blocks_socket_can_later();
        *status = blocks_received(&s->session, bytes, (size_t)len);
        if (*status != BLOCKS_OK) return false;
        blocks_socket_expect(s);
    }
    return true;
}

static inline void blocks_socket_write(struct blocks_socket *s)
{
    const uint8_t *bytes;
    for (size_t len; (len = blocks_take(&s->session, blocks_socket_clock_us(), &bytes)) > 0;) {
        ssize_t written = send(s->fd, bytes, len, BLOCKS_SOCKET_FLAGS);
        if (written < 0 && !blocks_socket_can_later()) {
            /* Read the rest: acknowledgements, and perhaps CLOSING. */
            s->is_cut = true;
            s->until_us = blocks_socket_clock_us() + BLOCKS_SOCKET_DRAIN_US;
        }
        if (written <= 0) return;
        blocks_sent(&s->session, (size_t)written);
    }
}

/* The public functions. */

static inline bool blocks_socket_init(struct blocks_socket *s, const char *host, const char *port, const char *device, void *ring,
                                      uint32_t ring_len)
{
    memset(s, 0, sizeof *s);
    s->host = host;
    s->port = port;
    s->fd = -1;
    return blocks_init(&s->session, device, ring, ring_len);
}

static inline void blocks_socket_poll(struct blocks_socket *s)
{
    enum blocks_status status = BLOCKS_OK;
    if (s->session.device_len == 0) return;
    if (s->fd < 0 && s->again_us <= blocks_socket_clock_us()) blocks_socket_connect(s);
    if (s->fd < 0) return;
    bool goes_on = !s->is_connecting || blocks_socket_connected(s);
    if (goes_on && !s->is_connecting) goes_on = blocks_socket_read(s, &status);
    if (!goes_on || s->until_us <= blocks_socket_clock_us()) {
        blocks_socket_close(s, status);
        return;
    }
    if (s->is_connecting || s->is_cut) return;
    if (s->is_finishing && s->session.is_welcome) {
        /* Until everything is acknowledged, also on the next connection. */
        s->is_finishing = !blocks_is_done(&s->session);
        if (s->is_finishing && s->session.in_series) blocks_finish(&s->session);
    }
    blocks_socket_write(s);
}

#endif
