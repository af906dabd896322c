/* BlocksSession and BlocksSerial: the calls of a `Client` and of a `Print` for the functions of blocks_session.h. */
#include "Blocks.h"

static const size_t READ_LEN = 64;            // On the stack.
static const int READS_MAX = 8;               // In one `poll`.
static const int WRITES_MAX = 3;              // END and CONT, and both parts of the ring.
static const size_t CLIENT_UNKNOWN_MAX = 512; // For clients that do not say how much they take.
static const size_t SERIAL_UNKNOWN_MAX = 16;  // 1.4 ms at 115,200 baud.

size_t BlocksRoom::of(Print &out, size_t len, size_t unknown_max)
{
    int room = out.availableForWrite();
    if (room > 0) is_known_ = true;
    size_t most = is_known_ ? (room > 0 ? (size_t)room : 0) : unknown_max;
    return len < most ? len : most;
}

bool BlocksSession::begin(const char *device)
{
    return blocks_init(&state, device, ring_, ring_len_);
}

bool BlocksSession::push(const void *payload, uint32_t len)
{
    if (blocks_push(&state, payload, len) == BLOCKS_KEPT) return true;
    refused_++;
    return false;
}

uint32_t BlocksSession::lenMax() const
{
    uint32_t fits = ring_len_ < 4 ? 0 : ring_len_ - 4;
    return state.block_max != 0 && state.block_max < fits ? state.block_max : fits;
}

void BlocksSession::poll()
{
    if (state.device_len == 0) return;
    if (!is_open_) {
        if (again_ms_ <= uptimeMs()) open();
        return;
    }
    blocks_status status = receive();
    bool is_over = status != BLOCKS_OK || (!client_.connected() && client_.available() <= 0);
    uint32_t silence_max_ms = blocks_silence_max_ms(&state);
    if (is_over || (silence_max_ms != BLOCKS_NEVER && silence_max_ms <= uptimeMs() - read_at_ms_)) {
        close(status);
        return;
    }
    if (is_finishing_ && state.is_welcome) {
        // Until everything is acknowledged, also on the next connection.
        is_finishing_ = !isDone();
        if (is_finishing_ && state.in_series) blocks_finish(&state);
    }
    send();
}

// `millis` wraps after 49 days.
uint64_t BlocksSession::uptimeMs()
{
    uint32_t now_ms = (uint32_t)millis();
    uptime_ms_ += (uint32_t)(now_ms - last_ms_);
    last_ms_ = now_ms;
    return uptime_ms_ + 1;
}

void BlocksSession::open()
{
    is_open_ = client_.connect(host_, port_) > 0;
    if (!is_open_) {
        close(BLOCKS_OK);
        return;
    }
    read_at_ms_ = uptimeMs();
    blocks_connected(&state, read_at_ms_ * 1000u);
}

void BlocksSession::close(blocks_status status)
{
    client_.stop();
    is_open_ = false;
    uint64_t now_ms = uptimeMs();
    uint32_t wait_ms = blocks_closed(&state, status, now_ms * 1000u);
    random_ = blocks_random(&state, random_, micros());
    again_ms_ = now_ms + blocks_wait_ms(&state, wait_ms, random_);
}

blocks_status BlocksSession::receive()
{
    uint8_t bytes[READ_LEN];
    for (int reads = 0; reads < READS_MAX && client_.available() > 0; reads++) {
        int len = client_.read(bytes, sizeof bytes);
        if (len <= 0) break;
        read_at_ms_ = uptimeMs();
        blocks_status status = blocks_received(&state, bytes, (size_t)len);
        if (status != BLOCKS_OK) return status;
    }
    return BLOCKS_OK;
}

void BlocksSession::send()
{
    for (int writes = 0; writes < WRITES_MAX; writes++) {
        const uint8_t *bytes;
        size_t len = blocks_take(&state, uptimeMs() * 1000u, &bytes);
        if (len > 0) len = room_.of(client_, len, CLIENT_UNKNOWN_MAX);
        if (len == 0) return;
        size_t written = client_.write(bytes, len);
        blocks_sent(&state, written < len ? written : len);
        if (written < len) return;
    }
}

bool BlocksSerial::push(const void *payload, uint32_t len)
{
    memmove(buffer_, buffer_ + begin_, end_ - begin_);
    end_ -= begin_;
    begin_ = 0;
    size_t frame_len = blocks_put_cobs_crc32(buffer_ + end_, size_ - end_, payload, len);
    end_ += frame_len;
    if (frame_len == 0) refused_++;
    return frame_len > 0;
}

void BlocksSerial::poll()
{
    size_t len = end_ - begin_;
    if (len > 0) len = room_.of(out_, len, SERIAL_UNKNOWN_MAX);
    if (len == 0) return;
    size_t written = out_.write(buffer_ + begin_, len);
    begin_ += written < len ? written : len;
}
