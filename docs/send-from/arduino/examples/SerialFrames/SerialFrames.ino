#include <Blocks.h>

uint8_t buffer[128];
BlocksSerial uplink(Serial, buffer);

void setup() {
  Serial.begin(115200);
  uplink.push("temp=21.5");
}

void loop() {
  uplink.poll();
}
