"""A peer for every framing of framings.py. Messages are lines of hexadecimal digits.

send PORT SPEC [SIZE]  sends the messages of standard input, SIZE bytes at a time, ends its series and half-closes; then
                       prints the reply, up to the close
receive SPEC [HEX...]  prints its port, then the messages of one client; replies with the given messages, if any
"""

import socket
import sys

import framings


def send(port, spec, size='0'):
    messages = [bytes.fromhex(line) for line in sys.stdin]
    wire = b''.join(framings.encode(spec, message) for message in messages) + framings.end(spec)
    sock = socket.create_connection(('127.0.0.1', int(port)))
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    size = int(size) or len(wire) or 1
    for at in range(0, len(wire), size):
        sock.sendall(wire[at : at + size])
    sock.shutdown(socket.SHUT_WR)
    with sock.makefile('rb') as file:
        # An empty reply is valid too.
        if file.peek(1):
            say(framings.decode(spec, file))
        assert not file.read(), 'data after the end mark'
    sock.close()


def receive(spec, *replies):
    listener = socket.create_server(('127.0.0.1', 0), backlog=1)
    print('Listening at', listener.getsockname())
    sock, _ = listener.accept()
    with sock.makefile('rb') as file:
        say(framings.decode(spec, file))
        assert not file.read(), 'data after the end mark'
    if replies:
        for reply in replies:
            sock.sendall(framings.encode(spec, bytes.fromhex(reply)))
        sock.sendall(framings.end(spec))
    sock.close()
    listener.close()


def say(messages):
    for message in messages:
        print('message', message.hex())


{'send': send, 'receive': receive}[sys.argv[1]](*sys.argv[2:])
