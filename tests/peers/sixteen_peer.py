"""The textbook's exchange of sixteen octets for Python 3: server [HOST] | client PORT; the server prints its port."""

import socket
import sys


def receive_exactly(sock, length):
    data = b''
    while len(data) < length:
        more = sock.recv(length - len(data))
        if not more:
            raise EOFError('socket closed %d bytes into a %d-byte message' % (len(data), length))
        data += more
    return data


def server(host='127.0.0.1'):
    listener = socket.create_server((host, 0), backlog=1)
    print('Listening at', listener.getsockname())
    sock, peer = listener.accept()
    print('Accepted connection from', peer)
    print('Message says:', repr(receive_exactly(sock, 16))[1:])
    sock.sendall(b'Farewell, client')
    sock.close()
    listener.close()


def client(port):
    sock = socket.create_connection(('127.0.0.1', int(port)))
    sock.sendall(b'Hi there, server')
    print('Message says:', repr(receive_exactly(sock, 16))[1:])
    sock.close()


{'server': server, 'client': client}[sys.argv[1]](*sys.argv[2:])
