// Sends two messages over a session, the second after the acknowledgement of the first. A serial line stands for the network: the emulated
// board has no other one, and the emulator joins the line to a connection.
#include <Blocks.h>

class SerialClient : public Client {
public:
    int connect(IPAddress, uint16_t) override { return 1; }
    int connect(const char *, uint16_t) override { return 1; }
    size_t write(uint8_t byte) override { return Serial.write(byte); }
    size_t write(const uint8_t *bytes, size_t len) override { return Serial.write(bytes, len); }
    int availableForWrite() override { return Serial.availableForWrite(); }
    int available() override { return Serial.available(); }
    int read() override { return Serial.read(); }
    int read(uint8_t *bytes, size_t len) override
    {
        size_t count = 0;
        while (count < len && Serial.available() > 0) bytes[count++] = (uint8_t)Serial.read();
        return (int)count;
    }
    int peek() override { return Serial.peek(); }
    void flush() override {}
    void stop() override {}
    uint8_t connected() override { return 1; }
    operator bool() override { return true; }
};

SerialClient client;
uint8_t ring[256];
BlocksSession uplink(client, "", 0, ring);

void setup()
{
    Serial.begin(115200);
    uplink.begin("mega-1");
    uplink.push("temp=21.5");
    uplink.finish();
}

void loop()
{
    static bool is_first_done = false;
    uplink.poll();
    if (is_first_done || !uplink.isDone()) return;
    is_first_done = true;
    uplink.push("acknowledged");
}
