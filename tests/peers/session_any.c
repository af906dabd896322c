/* Calls the functions of docs/send-from/c/blocks_session.h in random order, with random frames of the host, and checks the ring
 * after each call; and frames messages without a session. The sanitizers find bad accesses.
 *
 * session_any SEEDS: prints how many frames were accepted. */
#include <stdio.h>
#include <stdlib.h>

#include "../../docs/send-from/c/blocks_session.h"

#define CALLS 300

static struct blocks_session session;
static uint8_t ring[300];
static uint64_t random_state;
static unsigned long welcomes, acks;

static unsigned below(unsigned count)
{
    random_state = random_state * 6364136223846793005u + 1442695040888963407u;
    return (unsigned)(random_state >> 33) % count;
}

static void expect(bool is_so, const char *what)
{
    if (is_so) return;
    fprintf(stderr, "%s\n", what);
    exit(1);
}

static void check(void)
{
    expect(blocks_offset(&session, blocks_end(&session)) == session.used, "the ring holds the messages");
    expect(session.used <= session.ring_len && session.start < session.ring_len, "the ring is not too full");
    if (!session.is_welcome) return;
    expect(session.first <= session.next && session.next <= blocks_end(&session), "the next message is in the ring");
    expect(blocks_offset(&session, session.next) == session.next_start, "the next message has its place");
    expect(session.next_start <= session.next_byte && session.next_byte <= session.used, "the next byte is in the ring");
}

static void push(void)
{
    static const uint8_t payload[300];
    uint64_t end = blocks_end(&session);
    unsigned len = below(below(3) == 0 ? 300 : 30);
    bool is_kept = blocks_push(&session, payload, len) == BLOCKS_KEPT;
    expect(blocks_end(&session) == end + (is_kept ? 1 : 0), "a message that is kept has a number");
}

static void write_some(void)
{
    const uint8_t *bytes;
    size_t len = blocks_take(&session, 5, &bytes);
    volatile uint8_t sum = 0;
    for (size_t i = 0; i < len; i++) sum = (uint8_t)(sum ^ bytes[i]);
    blocks_sent(&session, below(2) == 0 ? len : below((unsigned)len + 1));
}

/* Passes a frame in pieces: a WELCOME or an ACK near the numbers of the ring, another type, or CLOSING. */
static void receive(void)
{
    uint8_t frame[80] = {0};
    unsigned kind = below(4);
    unsigned len = kind == 0 ? 44 : kind == 1 ? 8 + 8 * below(2) : kind == 2 ? below(60) : 28;
    uint64_t acked = session.first + below(6) - (below(3) == 0 ? 2 : 0);
    frame[3] = (uint8_t)len;
    frame[4] = (uint8_t)(kind == 0 ? 0x01 : kind == 1 ? 0x02 : kind == 2 ? below(256) : 0x0F);
    blocks_put(frame + 5, 7, acked);
    if (kind == 0) {
        blocks_put(frame + 12, 8, acked + below(4));
        blocks_put(frame + 20, 8, below(20));
        blocks_put(frame + 36, 4, 100);
        blocks_put(frame + 44, 4, below(8) == 0);
    }
    enum blocks_status status = BLOCKS_OK;
    for (unsigned at = 0, part; at < 4 + len && status == BLOCKS_OK; at += part) {
        part = 1 + below(10);
        if (4 + len - at < part) part = 4 + len - at;
        uint32_t held = session.held;
        status = blocks_received(&session, frame + at, part);
        expect(status == BLOCKS_OK || session.held == held, "nothing is removed by a frame that ends the connection");
    }
    welcomes += kind == 0 && status == BLOCKS_OK;
    acks += kind == 1 && status == BLOCKS_OK;
    if (status != BLOCKS_OK) blocks_closed(&session, status, below(100000000));
}

/* Frames messages into buffers of the longest frame, and of one byte less. */
static void frames(void)
{
    static uint8_t payload[600];
    memset(payload, 1, sizeof payload);
    for (uint32_t len = 0; len <= sizeof payload; len++) {
        size_t block_max = BLOCKS_BLOCK_MAX(len), cobs_max = BLOCKS_COBS_CRC32_MAX(len);
        uint8_t *out = malloc(cobs_max + 1);
        expect(out != NULL, "memory");
        out[block_max] = out[cobs_max] = 0xA5;
        expect(blocks_put_block(out, block_max, payload, len) == block_max, "a block fits");
        expect(out[block_max] == 0xA5, "a block ends in its buffer");
        expect(blocks_put_block(out, block_max - 1, payload, len) == 0, "a block does not fit");
        size_t used = blocks_put_cobs_crc32(out, cobs_max, payload, len);
        expect(0 < used && used <= cobs_max && used + 1 >= cobs_max, "a frame fits");
        expect(out[cobs_max] == 0xA5 && out[used - 1] == 0, "a frame ends in its buffer");
        expect(blocks_put_cobs_crc32(out, cobs_max - 1, payload, len) == 0, "a frame does not fit");
        free(out);
    }
}

int main(int argc, char **argv)
{
    frames();
    unsigned long seeds = argc == 2 ? strtoul(argv[1], NULL, 10) : 0;
    for (unsigned long seed = 0; seed < seeds; seed++) {
        random_state = seed;
        blocks_init(&session, "device", ring, 20 + below(280));
        session.drop_oldest = below(2) == 0;
        for (int call = 0; call < CALLS; call++) {
            switch (below(9)) {
            case 0: case 1: push(); break;
            case 2: if (!session.is_connected) blocks_connected(&session, 1); break;
            case 3: case 4: if (session.is_connected) write_some(); break;
            case 5: case 6: if (session.is_connected) receive(); break;
            case 7: below(4) == 0 ? blocks_ping(&session) : blocks_finish(&session); break;
            default: if (session.is_connected && below(4) == 0) blocks_closed(&session, BLOCKS_OK, 9);
            }
            check();
        }
    }
    printf("accepted %lu WELCOMEs and %lu ACKs\n", welcomes, acks);
    return 0;
}
