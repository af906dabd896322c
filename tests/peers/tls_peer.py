"""A device within TLS, by the standard library of Python.

tls_peer.py PORT CA CERT|- KEY|- VERSION ACTION

VERSION: any, 1.2 or 1.3. ACTION: `series` sends two messages and the end mark, reads the reply until close_notify, and
ends with its own, which must not be answered with a reset; `cut-series` sends two messages and closes without close_notify;
`end` the same with close_notify; `hold` sends a message and waits until the connection ends. Prints one line: the version,
and the received bytes, or the error.
"""

import os
import socket
import ssl
import sys
import time


def block(payload):
    return len(payload).to_bytes(4, "big") + payload


def main():
    port, ca, cert, key, version, action = sys.argv[1:]
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.load_verify_locations(ca)
    if cert != "-":
        context.load_cert_chain(cert, key)
    if version != "any":
        only = {"1.2": ssl.TLSVersion.TLSv1_2, "1.3": ssl.TLSVersion.TLSv1_3}[version]
        context.minimum_version = context.maximum_version = only
    plain = socket.create_connection(("127.0.0.1", int(port)), timeout=20)
    with context.wrap_socket(plain, server_hostname="localhost") as device:
        messages = block(b"hello") + block(b"world")
        received = b""
        if action == "series":
            device.sendall(messages + block(b""))
        elif action == "hold":
            device.sendall(block(b"hello"))
            print("open", flush=True)
        else:
            device.sendall(messages)
        if action in ("series", "hold"):
            while part := device.recv(4096):
                received += part
        name = device.version()
        if action in ("series", "end"):
            # Sends close_notify, and reads that of the daemon.
            plain = device.unwrap()
            if action == "series":
                time.sleep(0.1)
                if error := plain.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
                    raise OSError(error, os.strerror(error))
        elif action == "cut-series":
            plain = socket.socket(fileno=device.detach())
            plain.close()
        print(name, received.hex(), flush=True)


try:
    main()
except (OSError, ssl.SSLError) as error:
    print("error", type(error).__name__, error, flush=True)
    sys.exit(1)
