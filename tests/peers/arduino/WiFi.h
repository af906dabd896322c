/* Wi-Fi, as in the cores for ESP32. Its client does not say how much it takes. */
#ifndef WIFI_H
#define WIFI_H

#include <Client.h>

#define WL_CONNECTED 3

class WiFiClient : public ShimClient {
public:
    int availableForWrite() override { return 0; }
};

class WiFiClass {
public:
    int begin(const char *, const char *) { return WL_CONNECTED; }
    int status() { return WL_CONNECTED; }
};

extern WiFiClass WiFi;

#endif
