/* A client of TCP, as in ArduinoCore-API, and a base for those of the shim. */
#ifndef CLIENT_H
#define CLIENT_H

#include <Arduino.h>

class Client : public Stream {
public:
    virtual int connect(IPAddress ip, uint16_t port) = 0;
    virtual int connect(const char *host, uint16_t port) = 0;
    virtual size_t write(uint8_t byte) = 0;
    virtual size_t write(const uint8_t *bytes, size_t len) = 0;
    virtual int available() = 0;
    virtual int read() = 0;
    virtual int read(uint8_t *bytes, size_t len) = 0;
    virtual int peek() = 0;
    virtual void flush() = 0;
    virtual void stop() = 0;
    virtual uint8_t connected() = 0;
    virtual operator bool() = 0;
};

/* A socket. Both clients below are one; they differ as those of the real libraries do. */
class ShimClient : public Client {
public:
    int connect(IPAddress ip, uint16_t port) override;
    int connect(const char *host, uint16_t port) override;
    size_t write(uint8_t byte) override { return write(&byte, 1); }
    size_t write(const uint8_t *bytes, size_t len) override;
    int available() override;
    int read() override;
    int read(uint8_t *bytes, size_t len) override;
    int peek() override;
    void flush() override {}
    void stop() override;
    uint8_t connected() override;
    operator bool() override { return fd_ >= 0; }
    int availableForWrite() override = 0;

protected:
    bool can_write() const;

private:
    int fd_ = -1;
};

#endif
