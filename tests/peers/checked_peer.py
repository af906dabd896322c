"""The packages cobs and crcmod as a peer of `cobs-crc16` and `cobs-crc32`. Messages and frames are lines in hexadecimal.

encode SPEC     prints the frame of each message of standard input
decode SPEC     prints the message of each frame of standard input
send PORT SPEC  sends the messages of standard input over TCP
receive SPEC    prints its port, then the messages of one client
"""

import socket
import sys

import crcmod.predefined
from cobs import cobs

CHECKSUMS = {
    'cobs-crc16': (crcmod.predefined.mkCrcFun('xmodem'), 2),
    'cobs-crc32': (crcmod.predefined.mkCrcFun('crc-32'), 4),
}


def encode(spec, message):
    compute, length = CHECKSUMS[spec]
    return cobs.encode(message + compute(message).to_bytes(length, 'big')) + b'\0'


def decode(spec, frame):
    compute, length = CHECKSUMS[spec]
    checked = cobs.decode(frame)
    message, checksum = checked[:-length], checked[-length:]
    assert checksum == compute(message).to_bytes(length, 'big'), 'a wrong checksum'
    return message


def main(what, *args):
    spec = args[-1]
    if what == 'encode':
        for line in sys.stdin:
            print(encode(spec, bytes.fromhex(line)).hex())
    elif what == 'decode':
        for line in sys.stdin:
            print(decode(spec, bytes.fromhex(line).removesuffix(b'\0')).hex())
    elif what == 'send':
        with socket.create_connection(('127.0.0.1', int(args[0]))) as sock:
            for line in sys.stdin:
                sock.sendall(encode(spec, bytes.fromhex(line)))
    elif what == 'receive':
        with socket.create_server(('127.0.0.1', 0), backlog=1) as listener:
            print('Listening at', listener.getsockname())
            sock, _ = listener.accept()
        with sock, sock.makefile('rb') as file:
            *frames, rest = file.read().split(b'\0')
        assert not rest, 'cut short'
        for frame in frames:
            print(decode(spec, frame).hex())


main(*sys.argv[1:])
