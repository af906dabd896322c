"""Ends TLS before a plain host, for one connection, and prints how many records arrived and how the stream ended.

    python3 tls_records.py FOLDER PORT

FOLDER has `server.pem` and `server.key`; PORT is that of the host.
"""

import socket
import ssl
import sys
import threading

folder, port = sys.argv[1], int(sys.argv[2])
context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
context.load_cert_chain(f"{folder}/server.pem", f"{folder}/server.key")
listener = socket.create_server(("127.0.0.1", 0))
print("listening", listener.getsockname()[1], flush=True)
device = context.wrap_socket(listener.accept()[0], server_side=True, suppress_ragged_eofs=False)
host = socket.create_connection(("127.0.0.1", port))


def replies():
    while data := host.recv(65536):
        device.sendall(data)


threading.Thread(target=replies, daemon=True).start()
count, end = 0, "close_notify"
try:
    while data := device.recv(65536):  # At most one record.
        count += 1
        host.sendall(data)
except OSError as error:
    end = repr(error)
print("records", count, end, flush=True)
