"""The textbook script streamer.py for Python 3: server [HOST] | client PORT [HEX...]; the server prints its port."""

import socket
import sys

SEED = [
    b'Beautiful is better than ugly.\n',
    b'Explicit is better than implicit.\n',
    b'Simple is better than complex.\n',
]


def server(host='127.0.0.1'):
    listener = socket.create_server((host, 0), backlog=1)
    print('Listening at', listener.getsockname())
    sock, peer = listener.accept()
    print('Accepted connection from', peer)
    sock.shutdown(socket.SHUT_WR)
    message = b''
    while more := sock.recv(8192):
        message += more
    print('Done receiving the message; it says:')
    sys.stdout.buffer.write(message + b'\n')
    sock.close()
    listener.close()


def client(port, *messages):
    sock = socket.create_connection(('127.0.0.1', int(port)))
    sock.shutdown(socket.SHUT_RD)
    for message in map(bytes.fromhex, messages) if messages else SEED:
        sock.sendall(message)
    sock.close()


{'server': server, 'client': client}[sys.argv[1]](*sys.argv[2:])
