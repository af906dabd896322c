/* Ethernet, as in the library of that name: its client says how much it takes. A write of more would wait, which ends the program. */
#ifndef ETHERNET_H
#define ETHERNET_H

#include <Client.h>

class EthernetClient : public ShimClient {
public:
    int availableForWrite() override { return room_ = can_write() ? 100 : 0; }
    size_t write(uint8_t byte) override { return write(&byte, 1); }
    size_t write(const uint8_t *bytes, size_t len) override
    {
        if ((size_t)room_ < len) abort();
        room_ = 0;
        return ShimClient::write(bytes, len);
    }

private:
    int room_ = 0;
};

#endif
