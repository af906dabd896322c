#include <WiFi.h>
#include <Blocks.h>

WiFiClient client;
uint8_t ring[4096];
BlocksSession uplink(client, "192.168.1.10", 1060, ring);

void setup() {
  WiFi.begin("network", "password");
  uplink.begin("boiler-01234");
  uplink.push("temp=21.5");
}

void loop() {
  uplink.poll();
}
