/* The functions of the Arduino API over POSIX, and `main`, which runs a sketch. */
#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <poll.h>
#include <stdio.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

#include <WiFi.h>

/* So `millis` wraps a second after the start, and each test sees it. */
static const uint64_t START_US = (((uint64_t)1 << 32) - 1000) * 1000;

HardwareSerial Serial;
WiFiClass WiFi;
int shim_argc;
char **shim_argv;

static uint64_t uptime_us()
{
    static uint64_t began_us = 0;
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    uint64_t now_us = (uint64_t)now.tv_sec * 1000000u + (uint64_t)now.tv_nsec / 1000u;
    if (began_us == 0) began_us = now_us;
    return START_US + now_us - began_us;
}

unsigned long millis() { return (uint32_t)(uptime_us() / 1000); }
unsigned long micros() { return (uint32_t)uptime_us(); }
void delay(unsigned long ms) { poll(NULL, 0, (int)ms); }
long random(long max) { return rand() % max; }

size_t Print::println(unsigned long value)
{
    char text[24];
    snprintf(text, sizeof text, "%lu", value);
    return println(text);
}

size_t HardwareSerial::write(const uint8_t *bytes, size_t len)
{
    if (!is_begun_) return 0;
    if (len > 64) abort();
    ssize_t written = ::write(STDOUT_FILENO, bytes, len);
    return written > 0 ? (size_t)written : 0;
}

int ShimClient::connect(IPAddress ip, uint16_t port)
{
    char text[16];
    snprintf(text, sizeof text, "%u.%u.%u.%u", ip.bytes[0], ip.bytes[1], ip.bytes[2], ip.bytes[3]);
    return connect(text, port);
}

int ShimClient::connect(const char *host, uint16_t port)
{
    struct addrinfo hints = addrinfo(), *found = NULL;
    hints.ai_socktype = SOCK_STREAM;
    char service[8];
    snprintf(service, sizeof service, "%u", port);
    stop();
    if (getaddrinfo(host, service, &hints, &found) != 0) return 0;
    fd_ = socket(found->ai_family, found->ai_socktype, found->ai_protocol);
    struct timeval timeout = {3, 0};
    setsockopt(fd_, SOL_SOCKET, SO_SNDTIMEO, &timeout, sizeof timeout);
    if (::connect(fd_, found->ai_addr, found->ai_addrlen) != 0 || fcntl(fd_, F_SETFL, O_NONBLOCK) != 0) stop();
    freeaddrinfo(found);
    return fd_ >= 0;
}

/* Writes at most a part of what it gets, as clients do. */
size_t ShimClient::write(const uint8_t *bytes, size_t len)
{
    ssize_t written = ::send(fd_, bytes, len < 300 ? len : 300, MSG_NOSIGNAL);
    return written > 0 ? (size_t)written : 0;
}

int ShimClient::available()
{
    int count = 0;
    return fd_ >= 0 && ioctl(fd_, FIONREAD, &count) == 0 ? count : 0;
}

int ShimClient::read()
{
    uint8_t byte;
    return read(&byte, 1) == 1 ? byte : -1;
}

int ShimClient::read(uint8_t *bytes, size_t len) { return (int)recv(fd_, bytes, len, 0); }

int ShimClient::peek()
{
    uint8_t byte;
    return recv(fd_, &byte, 1, MSG_PEEK) == 1 ? byte : -1;
}

void ShimClient::stop()
{
    if (fd_ >= 0) ::close(fd_);
    fd_ = -1;
}

uint8_t ShimClient::connected()
{
    uint8_t byte;
    ssize_t len = fd_ < 0 ? 0 : recv(fd_, &byte, 1, MSG_PEEK);
    return len > 0 || (len < 0 && (errno == EAGAIN || errno == EWOULDBLOCK));
}

bool ShimClient::can_write() const
{
    struct pollfd ready = {fd_, POLLOUT, 0};
    return fd_ >= 0 && poll(&ready, 1, 0) == 1 && (ready.revents & POLLOUT) != 0;
}

int main(int argc, char **argv)
{
    shim_argc = argc;
    shim_argv = argv;
    /* It ends with the program that has started it. */
    const pid_t parent = getppid();
    setup();
    while (getppid() == parent) {
        loop();
        struct timespec pause = {0, 200000};
        nanosleep(&pause, NULL);
    }
}
