"""The parts of MicroPython that docs/send-from/micropython/blocks_session.py uses and CPython does not have. Start with `install`.

A socket has only the methods of MicroPython, which return None where CPython raises BlockingIOError. `ticks_ms` begins again after
half a second.
"""

import select
import socket
import ssl
import sys
import time
import types

TICKS_PERIOD = 1 << 30
TICKS_BEGIN = TICKS_PERIOD - 500
NOT_READY = (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError)

begin_ns = time.monotonic_ns()


class Socket:
    """A stream of MicroPython."""

    def __init__(self, *args, stream=None):
        self._stream = stream or socket.socket(*args)

    def fileno(self):
        return self._stream.fileno()

    def setblocking(self, is_blocking):
        self._stream.setblocking(is_blocking)

    def connect(self, address):
        self._stream.connect(address)

    def readinto(self, buffer):
        try:
            return self._stream.recv_into(buffer)
        except NOT_READY:
            return None

    def write(self, data):
        try:
            return self._stream.send(data)
        except NOT_READY:
            return None

    def close(self):
        self._stream.close()


class Context:
    """An `ssl.SSLContext` of MicroPython, around that of CPython."""

    def __init__(self, context):
        self._context = context

    def wrap_socket(self, sock, *, server_hostname=None, do_handshake_on_connect=True):
        stream = self._context.wrap_socket(sock._stream, server_hostname=server_hostname,
                                           do_handshake_on_connect=do_handshake_on_connect)
        return Socket(stream=stream)


class Wlan:
    """The network of the computer, in place of Wi-Fi. It is connected at the second question."""

    IF_STA = 0

    def __init__(self, interface):
        self._is_active, self._asked = False, 0

    def active(self, is_active):
        self._is_active = is_active

    def connect(self, name, password):
        assert self._is_active

    def isconnected(self):
        self._asked += 1
        return self._asked > 1


def ticks_ms():
    return (TICKS_BEGIN + (time.monotonic_ns() - begin_ns) // 1000000) % TICKS_PERIOD


def ticks_diff(end, begin):
    return (end - begin + TICKS_PERIOD // 2) % TICKS_PERIOD - TICKS_PERIOD // 2


def install(folder):
    """Makes `import` find the files in a folder, and the modules of MicroPython. Import what needs those of CPython before."""
    modules = {
        "time": {"ticks_ms": ticks_ms, "ticks_diff": ticks_diff, "sleep": time.sleep, "sleep_ms": lambda ms: time.sleep(ms / 1000)},
        "socket": {"socket": Socket, "getaddrinfo": socket.getaddrinfo, "AF_INET": socket.AF_INET, "SOCK_STREAM": socket.SOCK_STREAM},
        "select": {"poll": select.poll, "POLLIN": select.POLLIN, "POLLOUT": select.POLLOUT},
        "network": {"WLAN": Wlan},
    }
    sys.path.insert(0, str(folder))
    for name, members in modules.items():
        sys.modules[name] = types.ModuleType(name)
        vars(sys.modules[name]).update(members)
