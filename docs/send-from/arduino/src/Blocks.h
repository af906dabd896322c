/* Sends messages to `blocksd`: BlocksSession over a `Client` (WiFiClient, EthernetClient), with acknowledgements, and BlocksSerial over
 * a serial line, in frames of `cobs-crc32`. Both use memory of the sketch, and nothing of the heap. Call `poll` in `loop`. */
#ifndef BLOCKS_H
#define BLOCKS_H

#include <Arduino.h>
#include <Client.h>

#if defined(__has_include)
#if !__has_include("blocks_session.h")
#error "Copy docs/send-from/c/blocks_session.h into the folder of Blocks.h"
#endif
#endif
#include "blocks_session.h"

/* How many bytes an output takes without waiting. Many classes do not say: their `availableForWrite` is always 0. */
class BlocksRoom {
public:
    /* At most `len`; for an output that never said, at most `unknown_max`. */
    size_t of(Print &out, size_t len, size_t unknown_max);

private:
    bool is_known_ = false;
};

/* A session: a message stays in the ring until the host has it on its disk, and is sent again after an interruption. */
class BlocksSession {
public:
    /* `client`, `host` and `ring` must live as long as this. Each message takes 4 bytes of the ring more than its payload. */
    template <size_t N>
    BlocksSession(Client &client, const char *host, uint16_t port, uint8_t (&ring)[N])
        : state(), client_(client), host_(host), port_(port), ring_(ring), ring_len_(N)
    {
    }
    BlocksSession(Client &client, const char *host, uint16_t port, uint8_t *ring, uint32_t ring_len)
        : state(), client_(client), host_(host), port_(port), ring_(ring), ring_len_(ring_len)
    {
    }

    /* Begins without a session. `device` is 1 to 64 of A-Z a-z 0-9 . _ : - and must live as long as this. Returns whether it is. */
    bool begin(const char *device);

    /* Keeps a message until it is acknowledged. `false`: the ring is full, or the message is longer than `lenMax`. */
    bool push(const void *payload, uint32_t len);
    bool push(const char *text) { return push(text, (uint32_t)strlen(text)); }

    /* Connects, writes and reads. Returns soon, except that `connect` and `stop` of the client wait as long as they do. */
    void poll();

    /* Asks the host to acknowledge soon what was pushed: after the last message, or before a sleep. */
    void finish() { is_finishing_ = true; }

    bool isDone() const { return blocks_is_done(&state); }  // Whether everything is acknowledged.
    bool isConnected() const { return state.is_welcome; }   // Whether the host takes messages.
    uint32_t lenMax() const;                                // The longest message.
    uint32_t lost() const { return refused_ + state.dropped + state.refused_by_host; }  // Messages that were not recorded.

    /* Settings, to be changed after `begin`, and results: see blocks_session.h. */
    blocks_session state;

private:
    uint64_t uptimeMs();
    void open();
    void close(blocks_status status);
    blocks_status receive();
    void send();

    Client &client_;
    const char *host_;
    uint16_t port_;
    uint8_t *ring_;
    uint32_t ring_len_;
    uint32_t refused_ = 0, random_ = 0, last_ms_ = 0;
    uint64_t uptime_ms_ = 0, again_ms_ = 0, read_at_ms_ = 0;
    bool is_open_ = false, is_finishing_ = false;
    BlocksRoom room_;
};

/* Frames of `cobs-crc32`, for a serial line. Nothing is acknowledged: the host refuses a damaged frame and counts it. */
class BlocksSerial {
public:
    /* `buffer` holds the frames until the line takes them, and must live as long as this. */
    template <size_t N>
    BlocksSerial(Print &out, uint8_t (&buffer)[N]) : out_(out), buffer_(buffer), size_(N)
    {
    }

    /* Frames a message. `false`: the buffer has fewer than BLOCKS_COBS_CRC32_MAX(len) free bytes. */
    bool push(const void *payload, uint32_t len);
    bool push(const char *text) { return push(text, (uint32_t)strlen(text)); }

    /* Writes as much as the line takes. */
    void poll();

    bool isDone() const { return begin_ == end_; }  // Whether everything is written.
    uint32_t lost() const { return refused_; }      // Messages that did not fit.

private:
    Print &out_;
    uint8_t *buffer_;
    size_t size_, begin_ = 0, end_ = 0;
    uint32_t refused_ = 0;
    BlocksRoom room_;
};

#endif
