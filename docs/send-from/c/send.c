/* Sends each line of standard input over an acknowledged session, and connects again after each interruption.
 *
 *     cc -std=c99 -O2 -o send send.c
 *     ./send [-d] [-t SECONDS] [-b MS] [-r BYTES] HOST:PORT DEVICE < lines
 *
 * With TLS, over OpenSSL 1.1.1 or later:
 *
 *     cc -std=c99 -O2 -DBLOCKS_TLS -o send send.c -lssl -lcrypto
 *     ./send -C ca.pem [-c device.pem -k device.key] [-n NAME] [-d] [-t SECONDS] [-b MS] [-r BYTES] HOST:PORT DEVICE < lines
 *
 * -d: drop the oldest messages if the ring is full; -t: time until it gives up, after the end of the input; -b: longest wait between
 * two attempts; -r: length of the ring, at most 65,536 bytes; -C: the authority of the host's certificate; -c, -k: certificate and
 * key of this device; -n: the name in the host's certificate, if it is not HOST. All files are PEM.
 * Exits with 0 only if the host has acknowledged every line; with 1 if not; with 2 after wrong arguments. */
#define _POSIX_C_SOURCE 200809L

#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

#ifdef BLOCKS_TLS
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>
#endif

#include "blocks_session.h"

#define RING_MAX 65536
#define LINE_LEN_MAX 16384
#define BATCH_LEN 16384 /* the longest record of TLS */
#define DRAIN_MS 1000

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

/* The connection. */
static int fd = -1;
static bool is_refused; /* by TLS: a person must look at it */

/* Bytes to write: many messages, so that one call, and one record of TLS, has all of them. */
static struct {
    uint8_t bytes[BATCH_LEN];
    size_t len;
} out;

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

/* Waits for the input, and for the connection if there is one. Returns the events of the connection. */
static short wait_for(short events, uint64_t wait_ms)
{
    struct pollfd fds[2] = {{.fd = wants_input() ? STDIN_FILENO : -1, .events = POLLIN}, {.fd = fd, .events = events}};
    if (poll(fds, 2, wait_ms < 1000 ? (int)wait_ms : 1000) <= 0) return 0;
    if (fds[0].revents != 0) read_input();
    return fds[1].revents;
}

static bool connect_to(const char *host, const char *port)
{
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM}, *found, *it;
    int error = getaddrinfo(host, port, &hints, &found);
    if (error != 0) {
        fprintf(stderr, "send: %s: %s\n", host, gai_strerror(error));
        return false;
    }
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
    return 0 <= fd;
}

#ifdef BLOCKS_TLS
static SSL_CTX *context; /* NULL: the connection is plain */
static SSL *tls;

/* Does not ask for the password of a key. */
static int no_password(char *bytes, int size, int is_writing, void *data)
{
    (void)bytes, (void)size, (void)is_writing, (void)data;
    return 0;
}

static bool tls_init(const char *ca, const char *certificate, const char *key)
{
    context = SSL_CTX_new(TLS_client_method());
    if (context == NULL) return false;
    SSL_CTX_set_default_passwd_cb(context, no_password);
    SSL_CTX_set_verify(context, SSL_VERIFY_PEER, NULL);
    SSL_CTX_set_mode(context, SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
    signal(SIGPIPE, SIG_IGN); /* OpenSSL writes without MSG_NOSIGNAL */
    return SSL_CTX_set_min_proto_version(context, TLS1_2_VERSION) == 1 && SSL_CTX_load_verify_locations(context, ca, NULL) == 1 &&
           (certificate == NULL || (SSL_CTX_use_certificate_chain_file(context, certificate) == 1 &&
                                    SSL_CTX_use_PrivateKey_file(context, key, SSL_FILETYPE_PEM) == 1));
}

/* Whether a person must look at an error: a certificate or a version was refused, here or by an alert of the host. */
static bool is_refusal(int reason)
{
    switch (reason - SSL_AD_REASON_OFFSET) {
    case SSL_AD_HANDSHAKE_FAILURE:
    case SSL_AD_BAD_CERTIFICATE:
    case SSL_AD_UNSUPPORTED_CERTIFICATE:
    case SSL_AD_CERTIFICATE_REVOKED:
    case SSL_AD_CERTIFICATE_EXPIRED:
    case SSL_AD_CERTIFICATE_UNKNOWN:
    case SSL_AD_UNKNOWN_CA:
    case SSL_AD_ACCESS_DENIED:
    case SSL_AD_DECRYPT_ERROR: /* a certificate of an authority with the same name and another key */
    case SSL_AD_PROTOCOL_VERSION:
    case SSL_AD_CERTIFICATE_REQUIRED: return true;
    default: return reason == SSL_R_CERTIFICATE_VERIFY_FAILED || reason == SSL_R_WRONG_VERSION_NUMBER;
    }
}

/* Returns the events to wait for after a call of TLS that did not succeed; 0, and reports, if the connection is over. */
static short tls_events(int result)
{
    int error = SSL_get_error(tls, result), os_error = errno;
    if (error == SSL_ERROR_WANT_READ) return POLLIN;
    if (error == SSL_ERROR_WANT_WRITE) return POLLOUT;
    unsigned long code = ERR_peek_last_error();
    int reason = ERR_GET_REASON(code);
    const char *text = "the host closed the connection";
    if (error == SSL_ERROR_SSL) text = ERR_reason_error_string(code);
    if (error == SSL_ERROR_SYSCALL && os_error != 0) text = strerror(os_error);
    if (error == SSL_ERROR_SSL && is_refusal(reason)) is_refused = true;
    if (error == SSL_ERROR_SSL && reason == SSL_R_CERTIFICATE_VERIFY_FAILED) {
        text = X509_verify_cert_error_string(SSL_get_verify_result(tls));
    }
    fprintf(stderr, "send: TLS%s: %s\n", is_refused ? " refuses the connection" : "", text != NULL ? text : "unknown error");
    return 0;
}

/* Performs the handshake. The name is that of the host's certificate: a DNS name or an IP address. */
static bool tls_connect(const char *name)
{
    tls = SSL_new(context);
    if (tls == NULL || SSL_set_fd(tls, fd) != 1) return false;
    bool is_named = X509_VERIFY_PARAM_set1_ip_asc(SSL_get0_param(tls), name) == 1;
    if (!is_named) is_named = SSL_set1_host(tls, name) == 1 && SSL_set_tlsext_host_name(tls, name) == 1;
    if (!is_named) return false;
    uint64_t end_us = clock_us() + BLOCKS_WELCOME_TIMEOUT_MS * 1000u;
    for (uint64_t now_us; (now_us = clock_us()) < end_us && now_us < until_us;) {
        ERR_clear_error();
        errno = 0;
        int result = SSL_connect(tls);
        if (result == 1) return true;
        short events = tls_events(result);
        if (events == 0) return false;
        wait_for(events, (end_us - now_us) / 1000);
    }
    fputs("send: TLS: the handshake takes too long\n", stderr);
    return false;
}

/* Sends `close_notify`, so that the host does not report a cut, and waits for that of the host. */
static void tls_end(void)
{
    uint64_t end_us = clock_us() + DRAIN_MS * 1000u;
    for (uint64_t now_us; (now_us = clock_us()) < end_us;) {
        ERR_clear_error();
        int result = SSL_shutdown(tls);
        int error = result < 0 ? SSL_get_error(tls, result) : SSL_ERROR_WANT_READ;
        if (result == 1 || (error != SSL_ERROR_WANT_READ && error != SSL_ERROR_WANT_WRITE)) return;
        wait_for(error == SSL_ERROR_WANT_READ ? POLLIN : POLLOUT, (end_us - now_us) / 1000);
    }
}
#endif

static bool reports(ssize_t len, const char *what)
{
    fprintf(stderr, "send: %s%s%s\n", what, len < 0 ? ": " : "", len < 0 ? strerror(errno) : "");
    return false;
}

/* Reads once, or writes once. Returns whether the connection goes on; `len` is 0 if it does, and cannot now. */
static bool read_some(void *bytes, size_t size, size_t *len)
{
    *len = 0;
#ifdef BLOCKS_TLS
    if (tls != NULL) {
        ERR_clear_error();
        errno = 0;
        int result = SSL_read(tls, bytes, (int)size);
        if (0 < result) *len = (size_t)result;
        return 0 < result || tls_events(result) != 0;
    }
#endif
    ssize_t result = recv(fd, bytes, size, 0);
    if (0 < result) *len = (size_t)result;
    if (0 < result || (result < 0 && (errno == EAGAIN || errno == EWOULDBLOCK || errno == EINTR))) return true;
    return reports(result, "the host closed the connection");
}

static bool write_some(const void *bytes, size_t size, size_t *len)
{
    *len = 0;
#ifdef BLOCKS_TLS
    if (tls != NULL) {
        ERR_clear_error();
        errno = 0;
        int result = SSL_write(tls, bytes, (int)size);
        if (0 < result) *len = (size_t)result;
        return 0 < result || tls_events(result) != 0;
    }
#endif
    ssize_t result = send(fd, bytes, size, MSG_NOSIGNAL);
    if (0 < result) *len = (size_t)result;
    return 0 <= result || errno == EAGAIN || errno == EWOULDBLOCK || errno == EINTR;
}

/* Bytes that TLS has decrypted are no longer in the socket, where `poll` could see them. */
static bool has_input(void)
{
#ifdef BLOCKS_TLS
    return tls != NULL && SSL_pending(tls) > 0;
#else
    return false;
#endif
}

/* Moves messages to the bytes to write. */
static void fill(void)
{
    const uint8_t *bytes;
    for (size_t len; out.len < BATCH_LEN && (len = blocks_take(&session, clock_us(), &bytes)) > 0;) {
        if (BATCH_LEN - out.len < len) len = BATCH_LEN - out.len;
        memcpy(out.bytes + out.len, bytes, len);
        out.len += len;
        blocks_sent(&session, len);
    }
}

/* Reads what has arrived. Returns whether the connection goes on. */
static bool receive(enum blocks_status *status)
{
    uint8_t bytes[512];
    size_t len;
    do {
        if (!read_some(bytes, sizeof bytes, &len)) return false;
        if (len > 0) *status = blocks_received(&session, bytes, len);
    } while (*status == BLOCKS_OK && has_input());
    if (*status == BLOCKS_BROKEN) fprintf(stderr, "send: the host broke the protocol: fault %d\n", (int)session.fault);
    if (*status == BLOCKS_CLOSING) {
        fprintf(stderr, "send: the host closes: code %d, %s\n", session.closing_code, session.closing_text);
    }
    return *status == BLOCKS_OK;
}

/* Runs one connection, until it is over or everything is acknowledged. */
static enum blocks_status run(void)
{
    enum blocks_status status = BLOCKS_OK;
    uint64_t read_at_us = clock_us();
    bool is_finishing = false, goes_on = true;
    out.len = 0;
    blocks_connected(&session, read_at_us);
    while (goes_on && !is_complete() && clock_us() < until_us) {
        push_lines();
        if (is_all_pushed() && session.is_welcome && !is_finishing) {
            blocks_finish(&session);
            is_finishing = true;
        }
        fill();
        uint64_t silence_ms = (clock_us() - read_at_us) / 1000, silence_max_ms = blocks_silence_max_ms(&session);
        if (silence_max_ms <= silence_ms) {
            fprintf(stderr, "send: nothing read for %lu ms\n", (unsigned long)silence_ms);
            break;
        }
        short ready = wait_for((short)(out.len > 0 ? POLLIN | POLLOUT : POLLIN), silence_max_ms - silence_ms);
        if (ready & ~POLLOUT) {
            read_at_us = clock_us();
            goes_on = receive(&status);
            push_lines();
        }
        if (!goes_on || out.len == 0 || !(ready & POLLOUT)) continue;
        size_t len;
        if (write_some(out.bytes, out.len, &len)) {
            out.len -= len;
            memmove(out.bytes, out.bytes + len, out.len);
        } else {
            /* Read the rest: acknowledgements, and perhaps CLOSING, or why TLS refuses. */
            while (wait_for(POLLIN, DRAIN_MS) != 0 && receive(&status)) {}
            goes_on = false;
        }
    }
#ifdef BLOCKS_TLS
    if (tls != NULL && (goes_on || status != BLOCKS_OK)) tls_end();
#endif
    return status;
}

/* Connects, and runs the connection. */
static enum blocks_status connect_and_run(const char *host, const char *port, const char *name)
{
    enum blocks_status status = BLOCKS_OK;
    is_refused = false;
    bool is_ready = connect_to(host, port);
#ifdef BLOCKS_TLS
    if (is_ready && context != NULL) is_ready = tls_connect(name);
#endif
    (void)name;
    if (is_ready) status = run();
#ifdef BLOCKS_TLS
    SSL_free(tls);
    tls = NULL;
#endif
    if (0 <= fd) close(fd);
    fd = -1;
    return status;
}

static int usage(void)
{
    fputs("usage: send [-C CA [-c CERTIFICATE -k KEY] [-n NAME]] [-d] [-t SECONDS] [-b MS] [-r BYTES] HOST:PORT DEVICE < lines\n",
          stderr);
    return 2;
}

int main(int argc, char **argv)
{
    unsigned long backoff_ms = 60000, ring_len = RING_MAX;
    bool drop_oldest = false;
    const char *ca = NULL, *certificate = NULL, *key = NULL, *name = NULL;
    for (int option; (option = getopt(argc, argv, "dt:b:r:C:c:k:n:")) != -1;) {
        if (option == 'd') {
            drop_oldest = true;
            continue;
        }
        const char **text = option == 'C' ? &ca : option == 'c' ? &certificate : option == 'k' ? &key : option == 'n' ? &name : NULL;
        if (text != NULL) {
            *text = optarg;
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
    if ((ca == NULL && (certificate != NULL || name != NULL)) || (certificate == NULL) != (key == NULL)) return usage();
#ifdef BLOCKS_TLS
    if (ca != NULL && !tls_init(ca, certificate, key)) {
        ERR_print_errors_fp(stderr);
        return usage();
    }
#else
    if (ca != NULL) {
        fputs("send: compiled without TLS; compile it with -DBLOCKS_TLS\n", stderr);
        return 2;
    }
#endif
    session.drop_oldest = drop_oldest;
    session.backoff_max_ms = (uint32_t)backoff_ms;
    session.backoff_long_ms = 10 * session.backoff_max_ms;
    srand((unsigned)clock_us() ^ (unsigned)getpid());

    while (!is_complete() && clock_us() < until_us) {
        enum blocks_status status = connect_and_run(host, port, name != NULL ? name : host);
        uint32_t wait_ms = blocks_closed(&session, status, clock_us());
        if (is_refused) wait_ms = session.backoff_long_ms;
        wait_ms = blocks_wait_ms(&session, wait_ms, (uint32_t)rand());
        for (uint64_t again_us = clock_us() + wait_ms * 1000ull, now_us; (now_us = clock_us()) < again_us;) {
            if (is_complete() || until_us < now_us) break;
            push_lines();
            wait_for(0, (again_us - now_us) / 1000 + 1);
        }
    }
    if (is_complete() && session.dropped == 0 && session.refused_by_host == 0 && lines_too_long == 0) return 0;
    fprintf(stderr, "send: %lu messages not acknowledged, %lu dropped, %lu too long\n", (unsigned long)session.held,
            (unsigned long)session.dropped, (unsigned long)(session.refused_by_host + lines_too_long));
    return 1;
}
