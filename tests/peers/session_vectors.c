/* Encodes and decodes the vectors of docs/sessions.md with docs/send-from/c/blocks_session.h, and prints the results.
 *
 * session_vectors WELCOME ACK ACK_WITH_TIME CLOSING, in hexadecimal */
#include <stdio.h>
#include <stdlib.h>

#include "../../docs/send-from/c/blocks_session.h"

static uint8_t ring[4096];
static struct blocks_session session;

static size_t unhex(const char *hex, uint8_t *bytes)
{
    size_t len = 0;
    for (; hex[0] != '\0' && hex[1] != '\0'; hex += 2) {
        char digits[3] = {hex[0], hex[1], '\0'};
        bytes[len++] = (uint8_t)strtoul(digits, NULL, 16);
    }
    return len;
}

static void print(const char *name, const uint8_t *bytes, size_t len)
{
    printf("%s ", name);
    for (size_t i = 0; i < len; i++) printf("%02x", bytes[i]);
    putchar('\n');
}

/* Begins a session with these messages, and sends its HELLO. */
static void begin(const char *const *messages, uint32_t ring_len)
{
    blocks_init(&session, "boiler-01234", ring, ring_len);
    session.drop_oldest = true;
    session.wants_time = true;
    session.heartbeat_10s = 0;
    for (; *messages != NULL; messages++) blocks_push(&session, *messages, (uint32_t)strlen(*messages));
    blocks_connected(&session, 1500000);
}

/* Takes bytes, and writes them. */
static void take(const char *name)
{
    const uint8_t *bytes;
    size_t len = blocks_take(&session, 2500000, &bytes);
    if (name != NULL) print(name, bytes, len);
    blocks_sent(&session, len);
}

/* Takes and writes everything. */
static void take_all(const char *name)
{
    uint8_t all[256];
    const uint8_t *bytes;
    size_t len = 0;
    for (size_t part; (part = blocks_take(&session, 2500000, &bytes)) > 0; len += part) {
        memcpy(all + len, bytes, part);
        blocks_sent(&session, part);
    }
    print(name, all, len);
}

/* Fills a ring of 4 messages while 7 of the 10 bytes of two messages are written, and later. */
static void drop(const char *welcome)
{
    static const char *const three[] = {"a", "b", "c", NULL};
    uint8_t frame[64];
    const uint8_t *bytes;
    begin(three, 20);
    take(NULL);
    size_t len = unhex(welcome, frame);
    memset(frame + 4 + 8, 0, 8);
    memset(frame + 4 + 40, 0, 4);
    blocks_received(&session, frame, len);
    take(NULL);
    blocks_take(&session, 0, &bytes);
    blocks_sent(&session, 7);
    printf("PUSHED");
    for (const char *c = "def"; *c != '\0'; c++) printf(" %d", blocks_push(&session, c, 1) == BLOCKS_KEPT);
    blocks_take(&session, 0, &bytes);
    blocks_sent(&session, 3);
    for (const char *c = "fg"; *c != '\0'; c++) printf(" %d", blocks_push(&session, c, 1) == BLOCKS_KEPT);
    printf(" first=%llu lost=%lu\n", (unsigned long long)session.first, (unsigned long)session.lost);
    take_all("GAP");
}

int main(int argc, char **argv)
{
    static const char *const one[] = {"temp=21.5", NULL}, *const other[] = {"temp=21.6", NULL};
    static const char *const three[] = {"a", "b", "c", NULL};
    uint8_t frame[64];
    if (argc != 5) return 2;

    begin(one, sizeof ring);
    take("HELLO");
    int status = blocks_received(&session, frame, unhex(argv[1], frame));
    printf("WELCOME %d session=%llx time=%llu block_max=%lu silence_ms=%lu next=%llu held=%lu\n", status,
           (unsigned long long)session.session, (unsigned long long)session.time_ns, (unsigned long)session.block_max,
           (unsigned long)blocks_silence_max_ms(&session), (unsigned long long)session.next, (unsigned long)session.held);

    begin(other, sizeof ring);
    take(NULL);
    status = blocks_received(&session, frame, unhex(argv[1], frame));
    printf("OTHER %d session=%llx held=%lu\n", status, (unsigned long long)session.session, (unsigned long)session.held);

    begin(three, sizeof ring);
    take(NULL);
    size_t len = unhex(argv[1], frame);
    memset(frame + 4 + 8, 0, 8);  /* resume 0 */
    memset(frame + 4 + 40, 0, 4); /* check unknown */
    blocks_received(&session, frame, len);
    take("CONT");
    take("MESSAGES");
    status = blocks_received(&session, frame, unhex(argv[2], frame));
    printf("ACK %d acked=%llu held=%lu\n", status, (unsigned long long)session.acked, (unsigned long)session.held);
    status = blocks_received(&session, frame, unhex(argv[3], frame));
    printf("ACK %d time=%llu\n", status, (unsigned long long)session.time_ns);
    status = blocks_received(&session, frame, unhex(argv[4], frame));
    printf("CLOSING %d code=%d retry_ms=%lu text=%s\n", status, session.closing_code,
           (unsigned long)blocks_retry_ms(&session), session.closing_text);

    drop(argv[1]);
    status = blocks_received(&session, frame, unhex(argv[2], frame));
    printf("ACK %d first=%llu lost=%lu\n", status, (unsigned long long)session.first, (unsigned long)session.lost);
    return 0;
}
