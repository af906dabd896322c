"""A sender that reconnects when the connection is over, as Arduino's `connected()` and many loggers do.

reconnecting_peer.py HOST PORT: sends each line of standard input.
"""

import socket
import sys


def is_over(sock):
    """Returns whether a read returns 0 now."""
    sock.setblocking(False)
    try:
        return not sock.recv(1)
    except BlockingIOError:
        return False
    except ConnectionError:
        return True
    finally:
        sock.setblocking(True)


address = sys.argv[1], int(sys.argv[2])
sock = socket.create_connection(address)
for line in sys.stdin:
    if is_over(sock):
        sock.close()
        sock = socket.create_connection(address)
    sock.sendall(line.encode())
sock.close()
