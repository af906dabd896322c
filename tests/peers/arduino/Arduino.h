/* The part of the Arduino API that docs/send-from/arduino and its sketches use, on a computer: declarations as in ArduinoCore-API.
 * shim.cpp has the rest, and runs a sketch. */
#ifndef ARDUINO_H
#define ARDUINO_H

#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

/* Macros of the real header, which a library must bear. */
#define HIGH 0x1
#define LOW 0x0
#define INPUT 0x0
#define OUTPUT 0x1
#define DEC 10
#define HEX 16
#define DEFAULT 1
#define EXTERNAL 0
#define bit(b) (1UL << (b))
#define lowByte(w) ((uint8_t)((w) & 0xff))
#define F(text) (text)

unsigned long millis();
unsigned long micros();
void delay(unsigned long ms);
long random(long max);

void setup();
void loop();

class Print {
public:
    virtual ~Print() {}
    virtual size_t write(uint8_t byte) = 0;
    virtual size_t write(const uint8_t *bytes, size_t len) = 0;
    virtual int availableForWrite() { return 0; }
    size_t print(const char *text) { return write((const uint8_t *)text, strlen(text)); }
    size_t println(const char *text) { return print(text) + print("\r\n"); }
    size_t println(unsigned long value);
};

class Stream : public Print {
public:
    virtual int available() = 0;
    virtual int read() = 0;
    virtual int peek() = 0;
};

class IPAddress {
public:
    IPAddress(uint8_t a, uint8_t b, uint8_t c, uint8_t d) : bytes{a, b, c, d} {}
    const uint8_t bytes[4];
};

/* The serial line: standard output. It takes 64 bytes at a time. A write of more would wait, which ends the program. */
class HardwareSerial : public Stream {
public:
    void begin(unsigned long) { is_begun_ = true; }
    size_t write(uint8_t byte) override { return write(&byte, 1); }
    size_t write(const uint8_t *bytes, size_t len) override;
    int availableForWrite() override { return is_begun_ ? 64 : 0; }
    int available() override { return 0; }
    int read() override { return -1; }
    int peek() override { return -1; }

private:
    bool is_begun_ = false;
};

extern HardwareSerial Serial;

/* The arguments of the program. */
extern int shim_argc;
extern char **shim_argv;

#endif
