#!/usr/bin/env python3
"""Ends TLS before a server that has none, by OpenSSL.

tls_relay.py HOST:PORT CERT KEY [OPTION...]

--ca FILE       requires a client certificate of this CA
--offer         accepts clients without one, too
--crl FILE      refuses the revoked certificates of this list
--min 1.2|1.3, --max 1.2|1.3
--bytes N       passes at most N bytes of the wire at a time
--cut N         closes the connection after N bytes of answers, without a close_notify
--no-end        sends no close_notify
--stall         accepts connections, and never answers

Prints its address, a line for each handshake, and one for the end of each direction.
"""

import argparse
import selectors
import socket
import ssl
import sys
import threading
import time

parser = argparse.ArgumentParser()
parser.add_argument('target')
parser.add_argument('cert')
parser.add_argument('key')
parser.add_argument('--ca')
parser.add_argument('--offer', action='store_true')
parser.add_argument('--crl')
parser.add_argument('--min', default='1.2')
parser.add_argument('--max', default='1.3')
parser.add_argument('--bytes', type=int, default=0)
parser.add_argument('--cut', type=int)
parser.add_argument('--no-end', action='store_true')
parser.add_argument('--stall', action='store_true')
options = parser.parse_args()

VERSIONS = {'1.2': ssl.TLSVersion.TLSv1_2, '1.3': ssl.TLSVersion.TLSv1_3}
# Between two pieces of --bytes, so that they arrive apart.
PAUSE = 0.0002


def new_context():
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = VERSIONS[options.min]
    context.maximum_version = VERSIONS[options.max]
    context.load_cert_chain(options.cert, options.key)
    if options.ca:
        context.load_verify_locations(options.ca)
        context.verify_mode = ssl.CERT_OPTIONAL if options.offer else ssl.CERT_REQUIRED
    if options.crl:
        context.load_verify_locations(options.crl)
        context.verify_flags |= ssl.VERIFY_CRL_CHECK_LEAF
    return context


def say(*words):
    # One write, so that lines of threads do not mix.
    sys.stdout.write(' '.join(map(str, words)) + '\n')
    sys.stdout.flush()


class Relayed:
    """A connection of a client, and one to the server for it."""

    def __init__(self, context, client):
        self.client = client
        self.client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.incoming, self.outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.tls = context.wrap_bio(self.incoming, self.outgoing, server_side=True)
        self.server = None
        self.is_up_open = self.is_down_open = True
        self.answered = 0
        self.selector = selectors.DefaultSelector()
        self.selector.register(client, selectors.EVENT_READ, self.from_client)

    def run(self):
        try:
            while self.is_up_open or self.is_down_open:
                for key, _ in self.selector.select():
                    key.data()
        except ssl.SSLError as error:
            say('failed', error.reason or error)
            self.flush()
        except OSError as error:
            say('lost', error)
        for sock in filter(None, [self.client, self.server]):
            sock.close()

    def from_client(self):
        received = self.client.recv(options.bytes or 1 << 16)
        if received:
            self.incoming.write(received)
        else:
            self.selector.unregister(self.client)
            self.incoming.write_eof()
        try:
            if self.server is None:
                self.tls.do_handshake()
                self.begin()
            while self.is_up_open:
                # Empty at a close_notify.
                data = self.tls.read(1 << 16)
                if not data:
                    self.end_up('close_notify')
                else:
                    self.server.sendall(data)
        except ssl.SSLWantReadError:
            pass
        except ssl.SSLEOFError:
            if self.server is None:
                raise
            self.end_up('cut')
        self.flush()

    def begin(self):
        host, port = options.target.rsplit(':', 1)
        self.server = socket.create_connection((host.strip('[]'), int(port)))
        self.selector.register(self.server, selectors.EVENT_READ, self.from_server)
        subject = (self.tls.getpeercert() or {}).get('subject', ())
        names = [value for part in subject for key, value in part if key == 'commonName']
        resumed = 'resumed' if self.tls.session_reused else 'new'
        say('handshake', self.tls.version(), resumed, *names)

    def end_up(self, how):
        self.is_up_open = False
        self.server.shutdown(socket.SHUT_WR)
        say('client ended by', how)

    def from_server(self):
        data = self.server.recv(1 << 14)
        if options.cut is not None:
            data = data[: options.cut - self.answered]
        if data:
            self.answered += len(data)
            self.tls.write(data)
        is_cut = options.cut is not None and options.cut <= self.answered
        if not data and not is_cut and not options.no_end:
            try:
                self.tls.unwrap()
            except ssl.SSLWantReadError:
                pass
        self.flush()
        if is_cut or not data:
            self.selector.unregister(self.server)
            self.is_down_open = False
            self.client.shutdown(socket.SHUT_WR)
            if is_cut:
                self.is_up_open = False

    def flush(self):
        wire = self.outgoing.read()
        size = options.bytes or len(wire) or 1
        for at in range(0, len(wire), size):
            self.client.sendall(wire[at : at + size])
            if options.bytes:
                time.sleep(PAUSE)


def main():
    context = new_context()
    listener = socket.create_server(('127.0.0.1', 0), backlog=128)
    say('Listening at', listener.getsockname())
    stalled = []
    while True:
        client, _ = listener.accept()
        if options.stall:
            stalled.append(client)
            say('stalled')
            continue
        threading.Thread(target=Relayed(context, client).run, daemon=True).start()


try:
    main()
except KeyboardInterrupt:
    sys.exit(0)
