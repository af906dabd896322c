"""Sends each line of standard input as a message with Twisted's Int32StringReceiver, and closes at its end.

twisted_peer.py PORT
"""

import sys

from twisted.internet import protocol, reactor, stdio
from twisted.protocols.basic import Int32StringReceiver, LineReceiver


class Lines(LineReceiver):
    delimiter = b"\n"

    def __init__(self, to):
        self.to = to

    def lineReceived(self, line):
        self.to.sendString(line)

    def connectionLost(self, reason=protocol.connectionDone):
        self.to.transport.loseConnection()


class Peer(Int32StringReceiver):
    def connectionMade(self):
        stdio.StandardIO(Lines(self))

    def connectionLost(self, reason=protocol.connectionDone):
        reactor.stop()


creator = protocol.ClientCreator(reactor, Peer)
creator.connectTCP("127.0.0.1", int(sys.argv[1]))
reactor.run()
