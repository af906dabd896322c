/* Sends messages over an acknowledged session of `blocks`, as docs/sessions.md describes it: a state machine without I/O,
 * without heap and without floating point, in C99. Start with `blocks_init`. Without a session, `blocks_put_block` and
 * `blocks_put_cobs_crc32` frame one message.
 *
 *     static uint8_t ring[4096];
 *     static struct blocks_session session;
 *     blocks_init(&session, "boiler-01234", ring, sizeof ring);
 *     blocks_push(&session, "temp=21.5", 9);
 *
 * For each connection: call `blocks_connected`; write the bytes of `blocks_take`, and report the written ones with
 * `blocks_sent`; pass the bytes that were read to `blocks_received`, also while there is more to write. When the connection is
 * over, call `blocks_closed`, wait for the time that it returns, and connect again. A function must not be called while another
 * one runs. */
#ifndef BLOCKS_SESSION_H
#define BLOCKS_SESSION_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#define BLOCKS_DEVICE_MAX 64
#define BLOCKS_FRAME_MAX 44
#define BLOCKS_HEAD_MAX (4 + 48 + BLOCKS_DEVICE_MAX) /* HELLO, the longest */
#define BLOCKS_WELCOME_TIMEOUT_MS 10000u
#define BLOCKS_NEVER BLOCKS_UINT32_MAX
#define BLOCKS_UINT32_MAX 0xFFFFFFFFu /* UINT32_MAX, which the C library for AVR hides from C++ */
/* The longest frames of a payload of `len` bytes, without a session. */
#define BLOCKS_BLOCK_MAX(len) ((len) + 4u)
#define BLOCKS_COBS_CRC32_MAX(len) ((len) + 4u + ((len) + 3u) / 254u + 2u)

enum blocks_pushed { BLOCKS_KEPT, BLOCKS_FULL, BLOCKS_TOO_LONG };

/* After anything but BLOCKS_OK: close the connection. */
enum blocks_status { BLOCKS_OK, BLOCKS_CLOSING, BLOCKS_BROKEN };

enum blocks_fault {
    BLOCKS_NO_FAULT,
    BLOCKS_SHORT_FRAME,    /* a frame of 1 to 7 bytes, or a WELCOME of less than 44 */
    BLOCKS_NO_WELCOME,     /* the first frame is neither WELCOME nor CLOSING */
    BLOCKS_SECOND_WELCOME,
    BLOCKS_BAD_WELCOME,    /* session 0, `resume` below `acked` or after the last message */
    BLOCKS_OTHER_MESSAGE,  /* `check` differs: the next HELLO has session 0 */
    BLOCKS_NOT_SENT,       /* an acknowledgement of a message that was not sent */
    BLOCKS_UNKNOWN_TYPE    /* a frame of a type that must be understood */
};

struct blocks_session {
    /* Settings: change them after `blocks_init`. */
    bool drop_oldest;         /* if the ring is full; else the new message is refused */
    bool wants_time;          /* each ACK has the host's time: see `time_ns` */
    uint8_t heartbeat_10s;    /* wished time between frames of the host, in units of 10 s; 255: none */
    uint32_t backoff_min_ms, backoff_max_ms, backoff_long_ms;

    /* Results: read them at any time. */
    uint64_t session;         /* 0: none yet */
    uint64_t acked;           /* every message with a smaller number is durable */
    uint64_t first;           /* number of the oldest message in the ring */
    uint32_t held;            /* messages in the ring */
    uint32_t lost;            /* messages right before `first` that were dropped without an acknowledgement */
    uint32_t dropped;         /* all messages that were dropped */
    uint32_t refused_by_host; /* acknowledged, but longer than the host takes: not recorded */
    uint32_t block_max;       /* longest message that the host takes, in bytes; 0: unknown */
    uint64_t time_ns;         /* the host's clock at the last frame that has it, in ns since 1970; 0: none */
    bool is_welcome;
    enum blocks_fault fault;
    uint8_t closing_code;
    uint16_t closing_retry_s;
    const char *closing_text; /* valid until the next connection */

    /* Private. */
    uint8_t *ring;
    uint32_t ring_len, start, used; /* offset of the oldest message; bytes used */
    uint64_t next, sent;            /* number of the message to send next; every smaller one than `sent` was sent or skipped */
    uint32_t next_start, next_byte; /* offsets from `start`: of message `next`, of the next byte to send */
    uint64_t hello_end, head_after;
    uint64_t superseded_us[2];
    uint32_t heartbeat_s, skip, attempts;
    bool is_connected, in_series, wants_cont, wants_end;
    uint8_t device_len, head_len, head_done, in_len;
    const char *device;
    uint8_t head[BLOCKS_HEAD_MAX]; /* HELLO, CONT or END, before the messages */
    uint8_t in[4 + BLOCKS_FRAME_MAX + 1]; /* a frame, and the end of the text of CLOSING */
};

/* Begins without a session. `device` and `ring` are kept: they must live as long as `s`. `device` is 1 to 64 of
 * A-Z a-z 0-9 . _ : -; each message takes 4 bytes of the ring more than its payload. Returns whether `device` is valid. */
static inline bool blocks_init(struct blocks_session *s, const char *device, void *ring, uint32_t ring_len);

/* Keeps a message until it is acknowledged. Call `blocks_sent` before it, for bytes that were taken. */
static inline enum blocks_pushed blocks_push(struct blocks_session *s, const void *payload, uint32_t len);

/* Whether nothing is left to be acknowledged. */
static inline bool blocks_is_done(const struct blocks_session *s) { return s->held == 0; }

/* Begins a connection. `uptime_us` is the clock of the device; 0: unknown. */
static inline void blocks_connected(struct blocks_session *s, uint64_t uptime_us);

/* Returns how many bytes at `*bytes` are to be written now; 0: wait for bytes of the host, or for a message. */
static inline size_t blocks_take(struct blocks_session *s, uint64_t uptime_us, const uint8_t **bytes);

/* Reports that `len` of the bytes that were taken last were written. */
static inline void blocks_sent(struct blocks_session *s, size_t len);

/* Handles bytes of the host. */
static inline enum blocks_status blocks_received(struct blocks_session *s, const void *bytes, size_t len);

/* Sends END after the last message: the host acknowledges everything soon. */
static inline void blocks_finish(struct blocks_session *s) { s->wants_end = true; }

/* Asks the host for an ACK with its time. */
static inline void blocks_ping(struct blocks_session *s) { s->wants_cont = s->wants_cont || s->is_welcome; }

/* The time without a byte from the host after which the connection must be closed. */
static inline uint32_t blocks_silence_max_ms(const struct blocks_session *s);

/* Ends a connection, or an attempt to connect, after `status`. Returns how long to wait before the next attempt, at most:
 * choose a random time between its half and it. The host's `retry` is the least: `blocks_retry_ms`. */
static inline uint32_t blocks_closed(struct blocks_session *s, enum blocks_status status, uint64_t uptime_us);

/* The least time to wait before the next attempt. */
static inline uint32_t blocks_retry_ms(const struct blocks_session *s) { return (uint32_t)s->closing_retry_s * 1000u; }

/* Chooses the time to wait: `wait_ms` is the result of `blocks_closed`, `random` any number. */
static inline uint32_t blocks_wait_ms(const struct blocks_session *s, uint32_t wait_ms, uint32_t random);

/* A number for `blocks_wait_ms`, for a device without a random generator: from its id, its clock, and the number before. */
static inline uint32_t blocks_random(const struct blocks_session *s, uint32_t before, uint64_t uptime_us);

/* Frames a message of the framing `blocks`, for a connection without a session. `out` has `size` bytes and does not overlap the
 * payload. Returns the length of the frame; 0 if `size` is less than BLOCKS_BLOCK_MAX(len). A `len` of 0 is the end of the series. */
static inline size_t blocks_put_block(void *out, size_t size, const void *payload, uint32_t len);

/* Frames a message of the framing `cobs-crc32`, for a serial line, in the same way: 0 if `size` is less than
 * BLOCKS_COBS_CRC32_MAX(len). */
static inline size_t blocks_put_cobs_crc32(void *out, size_t size, const void *payload, uint32_t len);

/* Helpers: private. */

static inline void blocks_put(uint8_t *at, unsigned len, uint64_t value)
{
    while (len-- > 0) {
        at[len] = (uint8_t)(value & 0xFF);
        value >>= 8;
    }
}

static inline uint64_t blocks_get(const uint8_t *at, unsigned len)
{
    uint64_t value = 0;
    while (len-- > 0) value = value << 8 | *at++;
    return value;
}

static inline uint64_t blocks_end(const struct blocks_session *s) { return s->first + s->held; }

/* The place in the ring of an offset from its oldest byte. */
static inline uint32_t blocks_place(const struct blocks_session *s, uint32_t offset)
{
    uint32_t to_end = s->ring_len - s->start;
    return offset < to_end ? s->start + offset : offset - to_end;
}

/* Bytes of the message at an offset, with those of its length. */
static inline uint32_t blocks_size(const struct blocks_session *s, uint32_t offset)
{
    uint32_t len = 0;
    for (uint32_t i = 0; i < 4; i++) len = len << 8 | s->ring[blocks_place(s, offset + i)];
    return 4 + len;
}

static inline void blocks_append(struct blocks_session *s, const uint8_t *bytes, uint32_t len)
{
    uint32_t at = blocks_place(s, s->used), to_end = s->ring_len - at;
    uint32_t part = len < to_end ? len : to_end;
    memcpy(s->ring + at, bytes, part);
    if (part < len) memcpy(s->ring, bytes + part, len - part);
    s->used += len;
}

static inline void blocks_remove_oldest(struct blocks_session *s, uint32_t size)
{
    s->start = blocks_place(s, size);
    s->used -= size;
    s->first++;
    s->held--;
    if (s->next < s->first) {
        s->next = s->first;
        s->next_start = s->next_byte = 0;
    } else {
        s->next_start -= size;
        s->next_byte -= size;
    }
}

/* Drops the oldest message, unless some of its bytes were written and some were not. */
static inline bool blocks_drop(struct blocks_session *s)
{
    if (s->is_connected && s->next == s->first) {
        if (s->next_byte > s->next_start) return false;
        s->wants_cont = s->is_welcome;
    }
    blocks_remove_oldest(s, blocks_size(s, 0));
    if (s->lost < BLOCKS_UINT32_MAX) s->lost++;
    s->dropped++;
    return true;
}

static inline uint32_t blocks_crc32_next(uint32_t crc, uint8_t byte)
{
    crc ^= byte;
    for (int bit = 0; bit < 8; bit++) crc = crc >> 1 ^ (crc & 1 ? 0xEDB88320u : 0);
    return crc;
}

static inline uint32_t blocks_crc32(const struct blocks_session *s, uint32_t offset, uint32_t len)
{
    uint32_t crc = BLOCKS_UINT32_MAX;
    for (uint32_t i = 0; i < len; i++) crc = blocks_crc32_next(crc, s->ring[blocks_place(s, offset + i)]);
    return ~crc;
}

/* Offset of a message of the ring, or of the end. */
static inline uint32_t blocks_offset(const struct blocks_session *s, uint64_t number)
{
    uint32_t offset = 0;
    for (uint64_t i = s->first; i < number; i++) offset += blocks_size(s, offset);
    return offset;
}

static inline enum blocks_status blocks_broken(struct blocks_session *s, enum blocks_fault fault)
{
    s->fault = fault;
    return BLOCKS_BROKEN;
}

static inline enum blocks_status blocks_acknowledged(struct blocks_session *s, uint64_t acked)
{
    if (s->sent < acked) return blocks_broken(s, BLOCKS_NOT_SENT);
    while (s->held > 0 && s->first < acked) {
        uint32_t size = blocks_size(s, 0);
        if (size - 4 > s->block_max) s->refused_by_host++;
        blocks_remove_oldest(s, size);
    }
    uint64_t lost_max = s->first > acked ? s->first - acked : 0;
    if (s->lost > lost_max) s->lost = (uint32_t)lost_max;
    if (s->acked < acked) {
        s->acked = acked;
        s->attempts = 0;
    }
    return BLOCKS_OK;
}

static inline enum blocks_status blocks_welcome(struct blocks_session *s, const uint8_t *frame, uint32_t len)
{
    if (len < BLOCKS_FRAME_MAX) return blocks_broken(s, BLOCKS_SHORT_FRAME);
    uint64_t acked = blocks_get(frame + 1, 7), resume = blocks_get(frame + 8, 8), session = blocks_get(frame + 16, 8);
    if (session == 0 || resume < acked || s->hello_end < resume) return blocks_broken(s, BLOCKS_BAD_WELCOME);
    uint32_t check = (uint32_t)blocks_get(frame + 40, 4);
    if (check != 0 && s->first < resume) {
        uint32_t offset = blocks_offset(s, resume - 1);
        if (blocks_crc32(s, offset + 4, blocks_size(s, offset) - 4) != check) {
            s->session = 0;
            return blocks_broken(s, BLOCKS_OTHER_MESSAGE);
        }
    }
    if (s->session == 0) s->attempts = 0;
    s->session = session;
    s->time_ns = blocks_get(frame + 24, 8);
    s->block_max = (uint32_t)blocks_get(frame + 32, 4);
    s->heartbeat_s = (uint32_t)blocks_get(frame + 36, 2);
    s->is_welcome = s->wants_cont = true;
    s->next = s->sent = resume > s->first ? resume : s->first;
    s->next_start = s->next_byte = blocks_offset(s, s->next);
    return blocks_acknowledged(s, acked);
}

static inline enum blocks_status blocks_closing(struct blocks_session *s, uint8_t *frame, uint32_t len)
{
    s->closing_code = len > 8 ? frame[8] : 9;
    s->closing_retry_s = len >= 12 ? (uint16_t)blocks_get(frame + 10, 2) : 0;
    frame[len] = '\0';
    s->closing_text = len > 16 ? (const char *)frame + 16 : "";
    return BLOCKS_CLOSING;
}

static inline enum blocks_status blocks_frame(struct blocks_session *s, uint8_t *frame, uint32_t len)
{
    if (len < 8) return blocks_broken(s, BLOCKS_SHORT_FRAME);
    if (frame[0] == 0x0F) return blocks_closing(s, frame, len);
    if (frame[0] == 0x01) return s->is_welcome ? blocks_broken(s, BLOCKS_SECOND_WELCOME) : blocks_welcome(s, frame, len);
    if (!s->is_welcome) return blocks_broken(s, BLOCKS_NO_WELCOME);
    if (frame[0] == 0x02) {
        if (len >= 16) s->time_ns = blocks_get(frame + 8, 8);
        return blocks_acknowledged(s, blocks_get(frame + 1, 7));
    }
    return frame[0] < 128 ? BLOCKS_OK : blocks_broken(s, BLOCKS_UNKNOWN_TYPE);
}

/* Puts END, if a series is open, and CONT with the number of the next message. */
static inline void blocks_put_cont(struct blocks_session *s, uint64_t uptime_us)
{
    uint8_t *at = s->head;
    if (s->in_series) {
        blocks_put(at, 4, 0);
        at += 4;
    }
    blocks_put(at, 4, 24);
    at[4] = 0x03;
    blocks_put(at + 5, 7, s->next);
    blocks_put(at + 12, 8, s->session);
    blocks_put(at + 20, 8, uptime_us);
    s->head_len = (uint8_t)(at + 28 - s->head);
    s->head_after = s->next;
    s->in_series = true;
    s->wants_cont = false;
}

/* The public functions. */

static inline bool blocks_init(struct blocks_session *s, const char *device, void *ring, uint32_t ring_len)
{
    memset(s, 0, sizeof *s);
    s->ring = (uint8_t *)ring;
    s->ring_len = ring_len;
    s->heartbeat_10s = 3;
    s->backoff_min_ms = 500;
    s->backoff_max_ms = 60000;
    s->backoff_long_ms = 600000;
    size_t len = 0;
    for (; device[len] != '\0'; len++) {
        char c = device[len];
        bool is_valid = (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '.' || c == '_' ||
                        c == ':' || c == '-';
        if (!is_valid || len == BLOCKS_DEVICE_MAX) return false;
    }
    s->device = device;
    s->closing_text = "";
    s->device_len = (uint8_t)len;
    return len > 0;
}

static inline enum blocks_pushed blocks_push(struct blocks_session *s, const void *payload, uint32_t len)
{
    bool is_too_long = len == 0 || s->ring_len < 4 || s->ring_len - 4 < len;
    if (is_too_long || (s->block_max != 0 && s->block_max < len)) return BLOCKS_TOO_LONG;
    while (s->ring_len - s->used < 4 + len) {
        if (!s->drop_oldest || !blocks_drop(s)) {
            s->wants_end = true; /* else the host need not acknowledge before its next heartbeat */
            return BLOCKS_FULL;
        }
    }
    uint8_t head[4];
    blocks_put(head, 4, len);
    blocks_append(s, head, 4);
    blocks_append(s, (const uint8_t *)payload, len);
    s->held++;
    return BLOCKS_KEPT;
}

static inline void blocks_connected(struct blocks_session *s, uint64_t uptime_us)
{
    static const uint8_t magic[10] = {0xFF, 0xC1, 'b', 'l', 'k', 'a', 'c', 'k', 1, 0};
    uint8_t *payload = s->head + 4;
    blocks_put(s->head, 4, 48u + s->device_len);
    memcpy(payload, magic, sizeof magic);
    payload[9] = s->wants_time ? 2 : 0;
    payload[10] = s->device_len;
    payload[11] = s->heartbeat_10s;
    blocks_put(payload + 12, 4, s->ring_len);
    blocks_put(payload + 16, 8, s->session);
    blocks_put(payload + 24, 8, s->first);
    blocks_put(payload + 32, 4, s->held);
    blocks_put(payload + 36, 4, s->lost);
    blocks_put(payload + 40, 8, uptime_us);
    memcpy(payload + 48, s->device, s->device_len);
    s->head_len = (uint8_t)(4 + 48 + s->device_len);
    s->head_done = s->in_len = 0;
    s->head_after = 0;
    s->hello_end = blocks_end(s);
    s->next = s->sent = s->first;
    s->next_start = s->next_byte = s->skip = s->heartbeat_s = 0;
    s->is_connected = true;
    s->is_welcome = s->in_series = s->wants_cont = s->wants_end = false;
    s->fault = BLOCKS_NO_FAULT;
    s->closing_code = 0;
    s->closing_retry_s = 0;
    s->closing_text = "";
}

static inline size_t blocks_take(struct blocks_session *s, uint64_t uptime_us, const uint8_t **bytes)
{
    bool is_partial = s->next_byte > s->next_start;
    if (s->head_len == 0 && s->is_welcome && !is_partial) {
        if (s->wants_cont || (!s->in_series && s->next < blocks_end(s))) {
            blocks_put_cont(s, uptime_us);
        } else if (s->next == blocks_end(s) && s->wants_end && s->in_series) {
            blocks_put(s->head, 4, 0);
            s->head_len = 4;
            s->in_series = s->wants_end = false;
        }
    }
    if (s->head_len > 0) {
        *bytes = s->head + s->head_done;
        return (size_t)(s->head_len - s->head_done);
    }
    if (!s->is_welcome || s->next_byte == s->used) return 0;
    /* The messages lie in the ring as they are on the wire. */
    uint32_t end = s->wants_cont ? s->next_start + blocks_size(s, s->next_start) : s->used;
    uint32_t at = blocks_place(s, s->next_byte), len = end - s->next_byte;
    *bytes = s->ring + at;
    return len < s->ring_len - at ? len : s->ring_len - at;
}

static inline void blocks_sent(struct blocks_session *s, size_t len)
{
    if (s->head_len > 0) {
        s->head_done = (uint8_t)(s->head_done + len);
        if (s->head_done < s->head_len) return;
        s->head_len = s->head_done = 0;
        if (s->sent < s->head_after) s->sent = s->head_after;
        return;
    }
    s->next_byte += (uint32_t)len;
    while (s->next < blocks_end(s)) {
        uint32_t size = blocks_size(s, s->next_start);
        if (s->next_byte - s->next_start < size) break;
        s->next_start += size;
        s->next++;
    }
    if (s->sent < s->next) s->sent = s->next;
}

static inline enum blocks_status blocks_received(struct blocks_session *s, const void *bytes, size_t len)
{
    const uint8_t *at = (const uint8_t *)bytes;
    while (len > 0) {
        if (s->skip > 0) {
            uint32_t part = len < s->skip ? (uint32_t)len : s->skip;
            s->skip -= part;
            at += part;
            len -= part;
            continue;
        }
        s->in[s->in_len++] = *at++;
        len--;
        if (s->in_len < 4) continue;
        uint32_t frame_len = (uint32_t)blocks_get(s->in, 4);
        if (frame_len > BLOCKS_FRAME_MAX) {
            s->skip = frame_len;
            s->in_len = 0;
        } else if (s->in_len == 4 + frame_len) {
            s->in_len = 0;
            enum blocks_status status = frame_len == 0 ? BLOCKS_OK : blocks_frame(s, s->in + 4, frame_len);
            if (status != BLOCKS_OK) return status;
        }
    }
    return BLOCKS_OK;
}

static inline uint32_t blocks_silence_max_ms(const struct blocks_session *s)
{
    if (!s->is_welcome) return BLOCKS_WELCOME_TIMEOUT_MS;
    return s->heartbeat_s == 0 ? BLOCKS_NEVER : 3000u * s->heartbeat_s;
}

static inline uint32_t blocks_closed(struct blocks_session *s, enum blocks_status status, uint64_t uptime_us)
{
    uint32_t backoff_ms = s->backoff_min_ms;
    for (uint32_t i = 0; i < s->attempts && backoff_ms < s->backoff_max_ms; i++) backoff_ms *= 2;
    if (s->backoff_max_ms < backoff_ms) backoff_ms = s->backoff_max_ms;
    s->is_connected = s->is_welcome = false;
    s->next_start = s->next_byte = 0;
    s->next = s->first;
    bool is_first_attempt = s->attempts == 0;
    if (s->attempts < 32) s->attempts++;
    if (status != BLOCKS_CLOSING) {
        s->closing_retry_s = 0;
        return backoff_ms;
    }
    switch (s->closing_code) {
    case 1: case 2: case 3: case 6: case 10:
        return s->backoff_long_ms;
    case 4:
        return 0;
    case 5: {
        bool is_third = s->superseded_us[0] != 0 && uptime_us - s->superseded_us[0] < 60000000u;
        s->superseded_us[0] = s->superseded_us[1];
        s->superseded_us[1] = uptime_us;
        uint32_t wait_ms = is_third ? 60000 : 1000;
        return wait_ms < s->backoff_max_ms ? wait_ms : s->backoff_max_ms;
    }
    case 7:
        return is_first_attempt ? 0 : backoff_ms;
    default:
        return backoff_ms;
    }
}

static inline uint32_t blocks_wait_ms(const struct blocks_session *s, uint32_t wait_ms, uint32_t random)
{
    wait_ms -= random % (wait_ms / 2 + 1);
    return wait_ms < blocks_retry_ms(s) ? blocks_retry_ms(s) : wait_ms;
}

static inline uint32_t blocks_random(const struct blocks_session *s, uint32_t before, uint64_t uptime_us)
{
    uint32_t hash = before ^ (uint32_t)(uptime_us & BLOCKS_UINT32_MAX);
    for (uint8_t i = 0; i < s->device_len; i++) hash = (hash ^ (uint8_t)s->device[i]) * 16777619u; /* FNV-1a */
    return hash ^ hash >> 16;
}

static inline size_t blocks_put_block(void *out, size_t size, const void *payload, uint32_t len)
{
    if (size < 4 || size - 4 < len) return 0;
    blocks_put((uint8_t *)out, 4, len);
    if (len > 0) memcpy((uint8_t *)out + 4, payload, len);
    return (size_t)4 + len;
}

static inline size_t blocks_put_cobs_crc32(void *out, size_t size, const void *payload, uint32_t len)
{
    uint8_t *bytes = (uint8_t *)out, check[4];
    const uint8_t *from = (const uint8_t *)payload;
    uint32_t crc = BLOCKS_UINT32_MAX;
    size_t code_at = 0, at = 1; /* of the group that is open: its code, its next byte */
    if (size < 6 || size - 6 < len || size - 6 - len < ((size_t)len + 3) / 254) return 0;
    for (uint32_t i = 0; i < len; i++) crc = blocks_crc32_next(crc, from[i]);
    blocks_put(check, 4, ~crc);
    for (size_t i = 0; i < (size_t)len + 4; i++) {
        uint8_t byte = i < len ? from[i] : check[i - len];
        if (at - code_at == 255) { /* a group of 254 bytes that no zero follows */
            bytes[code_at] = 255;
            code_at = at++;
        }
        if (byte != 0) {
            bytes[at++] = byte;
        } else {
            bytes[code_at] = (uint8_t)(at - code_at);
            code_at = at++;
        }
    }
    bytes[code_at] = (uint8_t)(at - code_at);
    bytes[at++] = 0;
    return at;
}

#endif
