/**
 * Sends messages over an acknowledged session of `blocks`, as docs/sessions.md describes it. Start with `SessionSender`. Without a
 * session, `block` and `cobsCrc32` frame one message.
 *
 *     node blocks_session.cjs HOST:PORT DEVICE < lines
 *
 * sends each line, and exits with 0 only if the host has acknowledged every line; `--tls-ca` and others send over TLS;
 * `--frame cobs-crc32` writes frames to standard output. Copy this file into your program: it needs Node.js 18, and no package.
 */
'use strict';

const fs = require('node:fs');
const net = require('node:net');
const tls = require('node:tls');
const { parseArgs } = require('node:util');

const MAGIC = Buffer.from('ffc1626c6b61636b', 'hex');
const FLAG_TIME = 2; // In HELLO: each ACK has the host's time.
const END = Buffer.alloc(4);
const HEAD_LEN = 4; // Bytes of a message before its payload, on the wire and in the ring.
const FRAME_MAX = 44;
const LOST_MAX = 2 ** 32 - 1;

const WELCOME = 1, ACK = 2, CONT = 3, CLOSING = 0x0f;
const FULL = 4, SUPERSEDED = 5, AGAIN = 7, SHUTDOWN = 8, PROTOCOL = 9;
const CODES = ['', 'version', 'bad_hello', 'forbidden', 'full', 'superseded', 'unsupported', 'again', 'shutdown', 'protocol',
  'no_session'];
const LONG_BACKOFF = [1, 2, 3, 6, 10];

const WELCOME_TIMEOUT_MS = 10_000;
const CLOSE_TIMEOUT_MS = 1000;
const SUPERSEDED_WINDOW_MS = 60_000;
const BATCH_LEN = 16_384; // Messages are written together up to this length: that of the longest record of TLS.

// A person must look at these errors of TLS: words of their codes in Node.js and OpenSSL.
const REFUSALS = new RegExp('CERT|VERIFY|SELF_SIGNED|UNKNOWN_CA|ACCESS_DENIED|DECRYPT_ERROR|HANDSHAKE_FAILURE|PROTOCOL_VERSION'
  + '|WRONG_VERSION|UNSUPPORTED_PROTOCOL');

/** The host broke the protocol. Nothing was removed from the ring. */
class BrokenHost extends Error {}

/** The host sent CLOSING. */
class Closing extends Error {
  constructor(code, retryS, text) {
    super(`the host closes: ${CODES[code] || code}, retry in ${retryS} s at the earliest: ${JSON.stringify(text)}`);
    Object.assign(this, { code, retryS, text });
  }
}

/** A message of `blocks`: its length and its payload. */
function block(payload) {
  const bytes = Buffer.alloc(HEAD_LEN + payload.length);
  bytes.writeUInt32BE(payload.length);
  bytes.set(payload, HEAD_LEN);
  return bytes;
}

/** A message of `cobs-crc32`, for a serial line: the payload and its CRC-32, escaped, and a zero. */
function cobsCrc32(payload) {
  const bytes = Buffer.alloc(payload.length + 4);
  bytes.set(payload);
  bytes.writeUInt32BE(crc32(payload), payload.length);
  const out = Buffer.alloc(bytes.length + Math.floor((bytes.length - 1) / 254) + 2);
  let codeAt = 0, at = 1; // Of the group that is open: its code, its next byte.
  for (const byte of bytes) {
    if (at - codeAt === 255) { // A group of 254 bytes that no zero follows.
      out[codeAt] = 255;
      codeAt = at++;
    }
    if (byte !== 0) {
      out[at++] = byte;
    } else {
      out[codeAt] = at - codeAt;
      codeAt = at++;
    }
  }
  out[codeAt] = at - codeAt;
  return out.subarray(0, at + 1);
}

const CRC_TABLE = Uint32Array.from({ length: 256 }, (_, byte) => {
  for (let bit = 0; bit < 8; bit++) byte = byte & 1 ? (byte >>> 1) ^ 0xedb88320 : byte >>> 1;
  return byte;
});

/** CRC-32/ISO-HDLC. */
function crc32(bytes) {
  let crc = 0xffffffff;
  for (const byte of bytes) crc = (crc >>> 8) ^ CRC_TABLE[(crc ^ byte) & 0xff];
  return ~crc >>> 0;
}

/** The payload of HELLO. `heartbeat` is in units of 10 s. */
function hello({ device, flags, heartbeat, room, session, first, held, lost, uptimeUs }) {
  const bytes = Buffer.alloc(48 + device.length);
  bytes.set(MAGIC);
  bytes.set([1, flags, device.length, heartbeat], 8);
  bytes.writeUInt32BE(room, 12);
  bytes.writeBigUInt64BE(session, 16);
  bytes.writeBigUInt64BE(BigInt(first), 24);
  bytes.writeUInt32BE(held, 32);
  bytes.writeUInt32BE(lost, 36);
  bytes.writeBigUInt64BE(uptimeUs, 40);
  bytes.write(device, 48, 'latin1');
  return bytes;
}

/** The payload of CONT. */
function cont(number, session, uptimeUs) {
  const bytes = Buffer.alloc(24);
  bytes.writeBigUInt64BE(BigInt(number));
  bytes[0] = CONT;
  bytes.writeBigUInt64BE(session, 8);
  bytes.writeBigUInt64BE(uptimeUs, 16);
  return bytes;
}

/** The state machine of a sender, without I/O: one session, its ring, and at most one connection at a time. */
class Session {
  constructor({ device, room = 65_536, dropOldest = false, heartbeatS = 30, wantTime = false }) {
    if (!/^[A-Za-z0-9._:-]{1,64}$/.test(device)) {
      throw new RangeError(`invalid device id ${JSON.stringify(device)}: 1 to 64 of A-Z a-z 0-9 . _ : -`);
    }
    if (!(heartbeatS >= 0 && heartbeatS <= 2540)) throw new RangeError(`invalid heartbeat of ${heartbeatS} s: 0 to 2540 s`);
    if (!(Number.isInteger(room) && room >= 0 && room <= LOST_MAX)) {
      throw new RangeError(`invalid length of the ring ${room}: below 2^32`);
    }
    Object.assign(this, { device, room, dropOldest, heartbeat: Math.ceil(heartbeatS / 10), flags: wantTime ? FLAG_TIME : 0 });
    this.session = 0n;
    this.ring = new Queue(); // The payloads that are not acknowledged.
    this.used = 0; // Bytes of them, with HEAD_LEN each.
    this.first = 0; // Number of the oldest in the ring.
    this.lost = 0; // Messages right before it that were dropped without an acknowledgement.
    this.acked = 0;
    this.blockMax = null; // Of the last WELCOME.
    this.dropped = 0; // All messages that were dropped.
    this.refusedByHost = 0; // Acknowledged, but longer than the host takes: not recorded.
    this.timeNs = null; // The host's clock at the last frame that has it, in ns since 1970.
    this.isConnected = this.isWelcome = this.inSeries = this.wantsCont = this.wantsEnd = false;
    this.next = this.heartbeatS = 0;
  }

  /** The number of the next message that is pushed. */
  get end() {
    return this.first + this.ring.length;
  }

  /** Keeps a message. Returns false if the ring is full. Throws a RangeError for a message that can never be sent. */
  push(payload) {
    const bytes = Buffer.from(payload), needed = HEAD_LEN + bytes.length;
    if (bytes.length === 0) throw new RangeError('a message has 1 or more bytes');
    if (this.room < needed) {
      throw new RangeError(`a message of ${bytes.length} bytes is longer than the ring of ${this.room} bytes`);
    }
    if (this.blockMax !== null && this.blockMax < bytes.length) {
      throw new RangeError(`a message of ${bytes.length} bytes is longer than the host takes: ${this.blockMax} bytes`);
    }
    while (this.room < this.used + needed) {
      if (!this.dropOldest) {
        this.wantsEnd = true; // Else the host need not acknowledge before its next heartbeat.
        return false;
      }
      this.#drop();
    }
    this.ring.push(bytes);
    this.used += needed;
    return true;
  }

  #drop() {
    this.used -= HEAD_LEN + this.ring.shift().length;
    this.first++;
    this.lost = Math.min(this.lost + 1, LOST_MAX);
    this.dropped++;
    if (this.isConnected && this.next < this.first) {
      this.next = this.first;
      this.wantsCont = this.isWelcome;
    }
  }

  /** Begins a connection. Returns the bytes to write: HELLO. */
  connected(uptimeUs) {
    this.isConnected = true;
    this.isWelcome = this.inSeries = this.wantsCont = this.wantsEnd = false;
    this.next = this.sent = this.first; // Messages to send next; those before `sent` were sent, or `resume` skips them.
    this.helloEnd = this.end;
    this.heartbeatS = this.skip = 0;
    this.inbox = Buffer.alloc(0);
    return block(hello({ device: this.device, flags: this.flags, heartbeat: this.heartbeat, room: this.room,
      session: this.session, first: this.first, held: this.ring.length, lost: this.lost, uptimeUs }));
  }

  /** Ends the connection: the messages stay in the ring. */
  closed() {
    this.isConnected = this.isWelcome = false;
  }

  /** Asks the host to acknowledge everything: sends END after the last message. */
  finish() {
    this.wantsEnd = true;
  }

  /** Asks the host for an ACK with its time. */
  ping() {
    this.wantsCont = this.isWelcome;
  }

  /** The bytes to write now, which must be written wholly; `null` if there are none. */
  take(uptimeUs) {
    if (!this.isWelcome) return null;
    if (this.wantsCont && this.inSeries) {
      this.inSeries = false;
      return END;
    }
    if (this.wantsCont || (!this.inSeries && this.next < this.end)) {
      this.wantsCont = false;
      this.inSeries = true;
      this.sent = Math.max(this.sent, this.next);
      return block(cont(this.next, this.session, uptimeUs));
    }
    if (this.next < this.end) {
      const payload = this.ring.at(this.next - this.first);
      this.sent = Math.max(this.sent, ++this.next);
      return block(payload);
    }
    if (!this.wantsEnd || !this.inSeries) return null;
    this.inSeries = this.wantsEnd = false;
    return END;
  }

  /** Handles bytes from the host. Throws BrokenHost or Closing: then close the connection. */
  received(data) {
    this.inbox = this.inbox.length === 0 ? data : Buffer.concat([this.inbox, data]);
    for (;;) {
      const skipped = Math.min(this.skip, this.inbox.length);
      this.inbox = this.inbox.subarray(skipped);
      this.skip -= skipped;
      if (this.skip > 0 || this.inbox.length < HEAD_LEN) return;
      const len = this.inbox.readUInt32BE();
      if (len > FRAME_MAX) {
        this.skip = HEAD_LEN + len;
        continue;
      }
      if (this.inbox.length < HEAD_LEN + len) return;
      const frame = this.inbox.subarray(HEAD_LEN, HEAD_LEN + len);
      this.inbox = this.inbox.subarray(HEAD_LEN + len);
      if (len > 0) this.#frame(frame);
    }
  }

  #frame(frame) {
    if (frame.length < 8) throw new BrokenHost(`a frame of ${frame.length} bytes`);
    const kind = frame[0], number = Number(frame.readBigUInt64BE() & 0xffffffffffffffn);
    if (kind === CLOSING) {
      const code = frame.length > 8 ? frame[8] : PROTOCOL;
      throw new Closing(code, frame.length >= 12 ? frame.readUInt16BE(10) : 0, frame.toString('utf8', 16));
    }
    if (!this.isWelcome && kind !== WELCOME) throw new BrokenHost(`the first frame has type ${kind}`);
    if (kind === WELCOME) {
      this.#welcome(frame, number);
    } else if (kind === ACK) {
      this.#acknowledged(number);
      if (frame.length >= 16) this.timeNs = frame.readBigUInt64BE(8);
    } else if (kind >= 128) {
      throw new BrokenHost(`a frame of type ${kind}, which must be understood`);
    }
  }

  #welcome(frame, acked) {
    if (this.isWelcome) throw new BrokenHost('a second WELCOME');
    if (frame.length < FRAME_MAX) throw new BrokenHost(`a WELCOME of ${frame.length} bytes`);
    const resume = Number(frame.readBigUInt64BE(8)), session = frame.readBigUInt64BE(16), check = frame.readUInt32BE(40);
    if (session === 0n || resume < acked || this.helloEnd < resume) {
      throw new BrokenHost(`WELCOME: session ${session.toString(16)}, acked ${acked}, resume ${resume}, sent up to ${this.helloEnd}`);
    }
    if (check !== 0 && this.first < resume && crc32(this.ring.at(resume - 1 - this.first)) !== check) {
      this.session = 0n;
      throw new BrokenHost(`message ${resume - 1} of session ${session.toString(16)} is not that of this ring: a new session follows`);
    }
    this.session = session;
    this.isWelcome = this.wantsCont = true;
    this.timeNs = frame.readBigUInt64BE(24);
    this.blockMax = frame.readUInt32BE(32);
    this.heartbeatS = frame.readUInt16BE(36);
    this.next = this.sent = Math.max(resume, this.first);
    this.#acknowledged(acked);
  }

  #acknowledged(acked) {
    if (this.sent < acked) throw new BrokenHost(`${acked} is acknowledged, but only messages below ${this.sent} were sent`);
    while (this.ring.length > 0 && this.first < acked) {
      const { length } = this.ring.shift();
      this.used -= HEAD_LEN + length;
      this.first++;
      if (this.blockMax < length) this.refusedByHost++;
    }
    this.acked = Math.max(this.acked, acked);
    this.lost = Math.min(this.lost, Math.max(this.first - acked, 0));
  }
}

/** A queue whose items have an index. */
class Queue {
  #items = [];
  #start = 0;

  get length() {
    return this.#items.length - this.#start;
  }

  at(index) {
    return this.#items[this.#start + index];
  }

  push(item) {
    this.#items.push(item);
  }

  shift() {
    const item = this.#items[this.#start];
    this.#items[this.#start++] = undefined;
    if (this.#start >= 1024 && this.#start * 2 >= this.#items.length) {
      this.#items.splice(0, this.#start);
      this.#start = 0;
    }
    return item;
  }
}

/**
 * Sends messages, and connects again after each interruption.
 *
 *     const sender = new SessionSender({ host: '192.0.2.10', port: 1060, device: 'boiler-01234' });
 *     sender.push('temp=21.5'); // false: the ring is full; `await sender.space()` waits.
 *     await sender.close({ timeoutMs: 30_000 }); // true: every message is durable at the host.
 *
 * With `tls`, options of `tls.connect` such as `ca`, `cert` and `key`, it connects over TLS.
 */
class SessionSender {
  constructor({ host, port, device, room, dropOldest, heartbeatS, wantTime, backoffMinMs = 500, backoffMaxMs = 60_000,
    backoffLongMs = 600_000, report = () => {}, tls: secure = null }) {
    this.session = new Session({ device, room, dropOldest, heartbeatS, wantTime });
    Object.assign(this, { host, port, backoffMinMs, backoffMaxMs, backoffLongMs, report, secure });
    this.protocolErrors = 0;
    this.attempts = 0; // Without progress.
    this.superseded = [];
    this.isClosing = this.isStopped = false;
    this.waiting = []; // Functions that are called after each change.
    this.timer = setTimeout(() => this.#connect(), 0);
  }

  /** Keeps a message, a string or bytes, until the host has it. Returns false if the ring is full. */
  push(payload) {
    if (this.isClosing) throw new Error('the sender was closed');
    const isKept = this.session.push(payload);
    this.#schedule();
    return isKept;
  }

  /** Waits until the host has acknowledged something, so that the ring may have a place. */
  space() {
    return new Promise((resolve) => this.waiting.push(resolve));
  }

  /** Waits until every message is acknowledged, and closes. Returns whether every message was acknowledged. */
  async close({ timeoutMs = Infinity } = {}) {
    this.isClosing = true;
    this.#schedule();
    let timer;
    const timeout = new Promise((resolve) => {
      if (timeoutMs !== Infinity) timer = setTimeout(resolve, timeoutMs, true);
    });
    while (this.session.ring.length > 0 && !await Promise.race([this.space(), timeout]));
    clearTimeout(timer);
    this.isStopped = true;
    clearTimeout(this.timer);
    if (this.socket) await this.#end(this.socket);
    return this.session.ring.length === 0 && this.session.refusedByHost === 0;
  }

  #connect() {
    const options = { host: this.host, port: this.port, noDelay: true };
    // A handshake of TLS refuses a name that is an address in its SNI, so that is left out.
    const name = net.isIP(this.host) ? {} : { servername: this.host };
    const socket = this.secure ? tls.connect({ minVersion: 'TLSv1.2', ...options, ...name, ...this.secure }) : net.connect(options);
    this.socket = socket;
    this.#expect(WELCOME_TIMEOUT_MS);
    const on = (event, handle) => socket.on(event, (value) => {
      if (this.socket === socket) handle(value); // Else it is over.
    });
    on(this.secure ? 'secureConnect' : 'connect', () => {
      socket.write(this.session.connected(uptimeUs()));
      this.#expect(WELCOME_TIMEOUT_MS);
    });
    on('data', (data) => this.#received(data));
    on('drain', () => this.#fill());
    on('error', (error) => this.#over(error));
    on('end', () => this.#over(new Error('the host closed the connection')));
    on('close', () => this.#over(new Error('the connection was closed')));
  }

  /** Closes the connection if nothing is read for this time. */
  #expect(silenceMs) {
    clearTimeout(this.silence);
    if (silenceMs > 0) {
      this.silence = setTimeout(() => this.#over(new Error(`nothing read for ${silenceMs / 1000} s`)), silenceMs);
    }
  }

  #received(data) {
    const { session, acked } = this.session;
    try {
      this.session.received(data);
    } catch (error) {
      this.#over(error);
    }
    if (session !== this.session.session || acked !== this.session.acked) this.attempts = 0;
    if (this.session.isConnected) this.#expect(this.session.isWelcome ? 3000 * this.session.heartbeatS : WELCOME_TIMEOUT_MS);
    for (const resolve of this.waiting.splice(0)) resolve();
    this.#schedule();
  }

  /** Writes after the current events, so that messages which are pushed together are written together. */
  #schedule() {
    if (!this.isScheduled) setImmediate(() => this.#fill());
    this.isScheduled = true;
  }

  #fill() {
    this.isScheduled = false;
    while (this.session.isWelcome && !this.isStopped && !this.socket.writableNeedDrain) {
      const parts = [];
      for (let len = 0, part; len < BATCH_LEN; len += part.length) {
        if (this.isClosing && this.session.next === this.session.end && this.session.inSeries) this.session.finish();
        part = this.session.take(uptimeUs());
        if (part === null) break;
        parts.push(part);
      }
      if (parts.length === 0) return;
      this.socket.write(Buffer.concat(parts));
    }
  }

  /** Ends the connection, reports why, and connects again after a time. */
  #over(error) {
    if (!this.socket || this.isStopped) return;
    this.#end(this.socket);
    this.socket = null;
    this.session.closed();
    const isRefusal = this.secure !== null && REFUSALS.test(error.code);
    this.report(isRefusal ? `TLS refuses the connection: ${error.message}` : error.message);
    this.timer = setTimeout(() => this.#connect(), isRefusal ? this.#random(this.backoffLongMs) : this.#delayAfter(error));
  }

  /** Closes a socket: with `close_notify`, so that the host does not report a cut. */
  #end(socket) {
    clearTimeout(this.silence);
    return new Promise((resolve) => {
      if (socket.destroyed) return resolve();
      const timer = setTimeout(() => socket.destroy(), CLOSE_TIMEOUT_MS);
      socket.once('close', () => {
        clearTimeout(timer);
        resolve();
      });
      if (this.secure && !socket.connecting) {
        socket.resume();
        return socket.end();
      }
      return socket.destroy();
    });
  }

  #delayAfter(error) {
    if (!(error instanceof Closing)) {
      if (error instanceof BrokenHost) this.protocolErrors++;
      return this.#backoff();
    }
    let delayMs;
    if (LONG_BACKOFF.includes(error.code)) {
      delayMs = this.#random(this.backoffLongMs);
    } else if (error.code === FULL) {
      delayMs = 0;
    } else if (error.code === SUPERSEDED) {
      this.superseded = [...this.superseded, Date.now()].filter((it) => Date.now() - it <= SUPERSEDED_WINDOW_MS);
      delayMs = Math.min(this.backoffMaxMs, this.superseded.length >= 3 ? 60_000 : 1000);
    } else if (error.code === AGAIN) {
      delayMs = this.attempts === 0 ? 0 : this.#backoff();
      this.attempts++;
    } else {
      if (error.code !== SHUTDOWN) this.protocolErrors++;
      delayMs = this.#backoff();
    }
    return Math.max(delayMs, 1000 * error.retryS);
  }

  /** Twice as long after each attempt without progress; a random part keeps senders apart. */
  #backoff() {
    return this.#random(Math.min(this.backoffMaxMs, this.backoffMinMs * 2 ** Math.min(this.attempts++, 16)));
  }

  #random(longestMs) {
    return longestMs * (0.5 + Math.random() / 2);
  }
}

/** The clock of the sender; never 0, which is `unknown`. */
function uptimeUs() {
  return process.hrtime.bigint() / 1000n + 1n;
}

/** The lines of a stream, as bytes, without empty ones. */
async function* linesOf(stream) {
  let rest = Buffer.alloc(0);
  for await (const chunk of stream) {
    rest = Buffer.concat([rest, chunk]);
    for (let end; (end = rest.indexOf(10)) >= 0; rest = rest.subarray(end + 1)) {
      const line = rest.subarray(0, end > 0 && rest[end - 1] === 13 ? end - 1 : end);
      if (line.length > 0) yield line;
    }
  }
  if (rest.length > 0) yield rest;
}

const USAGE = `usage: node blocks_session.cjs [--timeout S] [--room BYTES] [--drop-oldest] [--backoff-max S]
         [--tls-ca FILE [--tls-cert FILE --tls-key FILE] [--tls-name NAME]] HOST:PORT DEVICE < lines
       node blocks_session.cjs --frame blocks|cobs-crc32 < lines > frames`;

/** The arguments, or an Error. */
function parse() {
  const string = { type: 'string' }, boolean = { type: 'boolean' };
  const { values, positionals } = parseArgs({ allowPositionals: true, options: { timeout: string, room: string,
    'drop-oldest': boolean, 'backoff-max': string, 'tls-ca': string, 'tls-cert': string, 'tls-key': string, 'tls-name': string,
    frame: string, help: boolean } });
  if (values.help) return { values };
  if (values.frame !== undefined) {
    if (!['blocks', 'cobs-crc32'].includes(values.frame) || positionals.length > 0) {
      throw new Error('--frame is blocks or cobs-crc32, without HOST:PORT and DEVICE');
    }
    return { values };
  }
  const number = (name, otherwise) => {
    const value = values[name] === undefined ? otherwise : Number(values[name]);
    if (!(value >= 0)) throw new Error(`--${name}: not a number: ${values[name]}`);
    return value;
  };
  if (positionals.length !== 2) throw new Error('HOST:PORT and DEVICE are required; see --help');
  const [address, device] = positionals;
  const [, host, port] = /^\[?(.+?)\]?:(\d{1,5})$/.exec(address) || [];
  if (!(port > 0 && port < 65_536)) throw new Error(`not HOST:PORT: ${address}`);
  if ((values['tls-cert'] || values['tls-name']) && !values['tls-ca'] || !values['tls-cert'] !== !values['tls-key']) {
    throw new Error('--tls-cert needs --tls-key and --tls-ca; --tls-key needs --tls-cert; --tls-name needs --tls-ca');
  }
  const file = (name) => values[name] && fs.readFileSync(values[name]);
  const secure = values['tls-ca'] ? { ca: file('tls-ca'), cert: file('tls-cert'), key: file('tls-key') } : null;
  const name = values['tls-name'];
  if (name) {
    // A name that is an address has no SNI, and is compared here.
    secure.checkServerIdentity = (_, certificate) => tls.checkServerIdentity(name, certificate);
    if (!net.isIP(name)) secure.servername = name;
  }
  if (secure) tls.createSecureContext(secure); // Throws now for a file that is wrong.
  const backoffMaxMs = 1000 * number('backoff-max', 60);
  return { values, timeoutMs: 1000 * number('timeout', Infinity), options: { host, port: Number(port), device, tls: secure,
    room: number('room', 65_536), dropOldest: values['drop-oldest'], backoffMaxMs, backoffLongMs: 10 * backoffMaxMs,
    report: (text) => console.error(`blocks_session: ${text}`) } };
}

async function main() {
  const { values, options, timeoutMs } = parse();
  if (values.help) return console.log(USAGE);
  if (values.frame) {
    const frame = values.frame === 'blocks' ? block : cobsCrc32;
    for await (const line of linesOf(process.stdin)) process.stdout.write(frame(line));
    if (frame === block) process.stdout.write(END);
    return undefined;
  }
  const sender = new SessionSender(options);
  let refused = 0;
  for await (const line of linesOf(process.stdin)) {
    try {
      while (!sender.push(line)) await sender.space();
    } catch (error) {
      refused++;
      console.error(`blocks_session: ${error.message}`);
    }
  }
  const isComplete = await sender.close({ timeoutMs }), { ring, dropped, refusedByHost } = sender.session;
  if (isComplete && refused === 0 && dropped === 0) return undefined;
  console.error(`blocks_session: ${ring.length} messages not acknowledged, ${dropped} dropped, ${refused + refusedByHost} too long`);
  process.exitCode = 1;
  return undefined;
}

module.exports = { SessionSender, Session, BrokenHost, Closing, block, cobsCrc32, crc32 };

if (require.main === module) {
  main().catch((error) => {
    console.error(`blocks_session: ${error.message}`);
    process.exitCode = 2;
  });
}
