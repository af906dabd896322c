"""The textbook script blocks.py for Python 3: server [HOST] | client PORT [HEX...]; the server prints its port."""

import socket
import struct
import sys

SEED = [
    b'Beautiful is better than ugly.',
    b'Explicit is better than implicit.',
    b'Simple is better than complex.',
]
HEADER = struct.Struct('!I')


def receive_exactly(sock, length):
    data = b''
    while len(data) < length:
        more = sock.recv(length - len(data))
        if not more:
            raise EOFError('socket closed %d bytes into a %d-byte message' % (len(data), length))
        data += more
    return data


def get(sock):
    (length,) = HEADER.unpack(receive_exactly(sock, HEADER.size))
    return receive_exactly(sock, length)


def put(sock, message):
    sock.sendall(HEADER.pack(len(message)) + message)


def server(host='127.0.0.1'):
    listener = socket.create_server((host, 0), backlog=1)
    print('Listening at', listener.getsockname())
    sock, peer = listener.accept()
    print('Accepted connection from', peer)
    sock.shutdown(socket.SHUT_WR)
    while message := get(sock):
        # Without the prefix b, this is the output of Python 2.
        print('Message says:', repr(message)[1:])
    sock.close()
    listener.close()


def client(port, *messages):
    sock = socket.create_connection(('127.0.0.1', int(port)))
    sock.shutdown(socket.SHUT_RD)
    for message in map(bytes.fromhex, messages) if messages else SEED:
        put(sock, message)
    put(sock, b'')
    sock.close()


{'server': server, 'client': client}[sys.argv[1]](*sys.argv[2:])
