/* The kernel of Zephyr, for docs/send-from/zephyr on a computer. */
#include <poll.h>
#include <stddef.h>
#include <stdint.h>

static inline int32_t k_msleep(int32_t ms) { return poll(NULL, 0, (int)ms); }
