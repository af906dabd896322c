/* Calls each function of blocks_session.h once, to measure their size:
 *
 *     arm-none-eabi-gcc -std=c99 -Os -mcpu=cortex-m4 -mthumb -fstack-usage -c size.c && arm-none-eabi-size size.o */
#include "blocks_session.h"

struct blocks_session session;

bool init(const char *device, void *ring, uint32_t len) { return blocks_init(&session, device, ring, len); }
enum blocks_pushed push(const void *payload, uint32_t len) { return blocks_push(&session, payload, len); }
void connected(uint64_t uptime_us) { blocks_connected(&session, uptime_us); }
size_t take(uint64_t uptime_us, const uint8_t **bytes) { return blocks_take(&session, uptime_us, bytes); }
void sent(size_t len) { blocks_sent(&session, len); }
enum blocks_status received(const void *bytes, size_t len) { return blocks_received(&session, bytes, len); }
uint32_t silence_max_ms(void) { return blocks_silence_max_ms(&session); }
uint32_t closed(enum blocks_status status, uint64_t uptime_us) { return blocks_closed(&session, status, uptime_us); }
uint32_t retry_ms(void) { return blocks_retry_ms(&session); }
void finish(void) { blocks_finish(&session); }
void ping(void) { blocks_ping(&session); }
