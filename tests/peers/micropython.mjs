// Runs docs/send-from/micropython/blocks_session.py in MicroPython, compiled to WebAssembly: its port has no sockets, so they are those
// of Node.js, and Node.js calls `poll`.
//
//     node micropython.mjs FOLDER_OF_NODE_MODULES [options] HOST:PORT DEVICE < lines
//     node micropython.mjs FOLDER_OF_NODE_MODULES --frame blocks|cobs-crc32 < lines > frames

import fs from 'node:fs';
import net from 'node:net';
import { parseArgs } from 'node:util';

const POLL_MS = 2;
const PACKAGE = '@micropython/micropython-webassembly-pyscript/micropython.mjs';
const SOURCE = new URL('../../docs/send-from/micropython/blocks_session.py', import.meta.url);

// The modules that the port does not have. `peer` is the socket of Node.js.
const SHIMS = `
import errno, os, sys, peer

class Socket:
    def __init__(self, *_):
        self.id = peer.open()
    def setblocking(self, is_blocking):
        assert not is_blocking
    def connect(self, address):
        peer.connect(self.id, *address)
        raise OSError(errno.EINPROGRESS)
    def readinto(self, buffer):
        data = peer.read(self.id, len(buffer))
        if data is None:
            return None
        if isinstance(data, str) and data[:1] == "!":
            raise OSError(data)
        data = bytes.fromhex(data)
        buffer[:len(data)] = data
        return len(data)
    def write(self, data):
        return peer.write(self.id, data.hex())
    def close(self):
        peer.close(self.id)

class Poll:
    def register(self, sock, events):
        self.sock = sock
    def poll(self, timeout_ms):
        assert timeout_ms == 0
        return [(self.sock, 4)] if peer.is_connected(self.sock.id) else []

class Module:
    pass

def module(name, **members):
    sys.modules[name] = made = Module()
    for key in members:
        setattr(made, key, members[key])

def getaddrinfo(host, port, *_):
    return [(2, 1, 6, "", (host, port))]

module("socket", socket=Socket, getaddrinfo=getaddrinfo, AF_INET=2, SOCK_STREAM=1)
module("select", poll=Poll, POLLIN=1, POLLOUT=4)
os.urandom = lambda count: bytes.fromhex(peer.random(count))
`;

const COMMANDS = `
import blocks_session

sender = None
def start(host, port, device, room, drop_oldest, backoff_max_ms):
    global sender
    sender = blocks_session.SessionSender(host, port, device, room=room, drop_oldest=drop_oldest, backoff_max_ms=backoff_max_ms,
                                          backoff_long_ms=10 * backoff_max_ms, report=peer.report)
def push(payload):
    try:
        return 1 if sender.push(bytes.fromhex(payload)) else 0
    except ValueError as error:
        peer.report(str(error))
        return -1
def finish():
    sender.session.is_finishing = True
def poll():
    sender.poll()
def state():
    session = sender.session
    return "%d %d %d" % (session.held, session.dropped, session.refused_by_host)
def frame(name, payload):
    payload = bytes.fromhex(payload)
    return (blocks_session.block if name == "blocks" else blocks_session.cobs_crc32)(payload).hex()
`;

const sockets = new Map();
let lastId = 0;

/** The functions that the shims call. Bytes are in hexadecimal. */
const peer = {
  open() {
    sockets.set(++lastId, { data: Buffer.alloc(0), isConnected: false, isEnded: false, error: null });
    return lastId;
  },
  connect(id, host, port) {
    const it = sockets.get(id);
    it.socket = net.connect({ host, port, noDelay: true });
    it.socket.on('connect', () => { it.isConnected = true; });
    it.socket.on('data', (data) => { it.data = Buffer.concat([it.data, data]); });
    it.socket.on('end', () => { it.isEnded = true; });
    it.socket.on('error', (error) => { it.isConnected = true; it.error = error.message; });
  },
  is_connected: (id) => sockets.get(id).isConnected,
  read(id, count) {
    const it = sockets.get(id);
    if (it.data.length > 0) {
      const part = it.data.subarray(0, count);
      it.data = it.data.subarray(part.length);
      return part.toString('hex');
    }
    if (it.error) return `!${it.error}`;
    return it.isEnded ? '' : null;
  },
  write(id, hex) {
    const it = sockets.get(id);
    if (it.socket.writableNeedDrain) return null;
    const data = Buffer.from(hex, 'hex');
    // A part, as a socket of a board does.
    const part = data.subarray(0, Math.ceil(data.length / 2));
    it.socket.write(part);
    return part.length;
  },
  close(id) {
    sockets.get(id).socket?.destroy();
    sockets.delete(id);
  },
  random: (count) => Buffer.from(crypto.getRandomValues(new Uint8Array(count))).toString('hex'),
  report: (text) => console.error(text),
};

/** Standard input, in lines without empty ones. */
function linesOf(bytes) {
  const lines = [];
  for (let at = 0; at < bytes.length;) {
    const found = bytes.indexOf(10, at);
    const end = found < 0 ? bytes.length : found;
    const line = bytes.subarray(at, end > at && bytes[end - 1] === 13 ? end - 1 : end);
    if (line.length > 0) lines.push(line.toString('hex'));
    at = end + 1;
  }
  return lines;
}

const pause = (ms) => new Promise((resolve) => { setTimeout(resolve, ms); });

async function main() {
  const string = { type: 'string' };
  const { values, positionals: [modules, address, device] } = parseArgs({ allowPositionals: true, options: {
    frame: string, room: string, timeout: string, 'backoff-max': string, 'drop-oldest': { type: 'boolean' } } });
  const { loadMicroPython } = await import(`${modules}/${PACKAGE}`);
  const python = await loadMicroPython({ linebuffer: true, stdout: (text) => console.error(text) });
  python.registerJsModule('peer', peer);
  python.FS.writeFile('/blocks_session.py', fs.readFileSync(SOURCE));
  python.runPython(`import sys\nsys.path.append('/')\n${SHIMS}${COMMANDS}`);
  const call = (name) => python.globals.get(name);
  const lines = linesOf(fs.readFileSync(0));
  if (values.frame) {
    const end = values.frame === 'blocks' ? '00000000' : '';
    const frames = lines.map((line) => call('frame')(values.frame, line));
    fs.writeSync(1, Buffer.from(frames.join('') + end, 'hex'));
    return 0;
  }
  const [host, port] = address.split(':');
  call('start')(host, Number(port), device, Number(values.room ?? 65536), Boolean(values['drop-oldest']),
    1000 * Number(values['backoff-max'] ?? 60));
  const [push, poll] = [call('push'), call('poll')];
  let refused = 0;
  for (const line of lines) {
    for (let pushed; (pushed = push(line)) !== 1;) {
      if (pushed < 0) {
        refused++;
        break;
      }
      poll();
      await pause(POLL_MS);
    }
  }
  call('finish')();
  const end = Date.now() + 1000 * Number(values.timeout ?? 1e6);
  const state = () => call('state')().split(' ').map(Number);
  while (state()[0] > 0 && Date.now() < end) {
    poll();
    await pause(POLL_MS);
  }
  const [held, dropped, refusedByHost] = state();
  return held + dropped + refused + refusedByHost > 0 ? 1 : 0;
}

process.exit(await main());
