// A mock of the HTTP API of the daemon and of its page, for tests. Start with `startMock`, or `node mock.mjs --devices 10`.

import { createServer } from "node:http";
import { readFile } from "node:fs/promises";
import { fileURLToPath } from "node:url";
import { dirname, join } from "node:path";
import { Fleet, hash } from "./fleet.mjs";

const PAGE = join(dirname(fileURLToPath(import.meta.url)), "../../host-daemon/page");
const CSP = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";
const TYPES = { js: "text/javascript", css: "text/css", svg: "image/svg+xml", html: "text/html; charset=utf-8", LICENSE: "text/plain", sha256: "text/plain" };
const WORST = ["silent", "faulty", "gone", "live"];
const LEVELS = ["trace", "debug", "info", "warn", "error"];
const RING = 5000;

class Refused extends Error {
  constructor(status, text) {
    super(text);
    this.status = status;
  }
}

/** Starts a mock; `options`: `devices`, `token`, `hostile`, `port`, `recording`, `forwards`, `delay_ms`. Returns its address and its switches. */
export async function startMock(options = {}) {
  const mock = new Mock(options);
  await new Promise((resolve) => mock.server.listen(options.port ?? 0, "127.0.0.1", resolve));
  mock.url = `http://127.0.0.1:${mock.server.address().port}`;
  return mock;
}

class Mock {
  constructor({ devices = 10, token = null, hostile = false, recording = true, forwards = [], delay_ms = 0 }) {
    Object.assign(this, { token, hostile, recording, forwards, delay_ms, fleet: new Fleet(devices, hostile), down: false, refused: [], requests: 0, open: 0, openMax: 0 });
    this.started_ms = this.fleet.start_ms;
    this.ring = [];
    this.nextId = this.started_ms * 1000;
    this.notShown = 0;
    this.lastMade_ms = Date.now() - 3000;
    this.faults = [];
    this.events = [];
    this.#history();
    this.server = createServer((request, response) => this.#answer(request, response));
    this.timer = setInterval(() => this.#make(), 100);
    this.#make();
  }

  stop() {
    clearInterval(this.timer);
    this.server.closeAllConnections();
    return new Promise((resolve) => this.server.close(resolve));
  }

  /** Shows more devices from now on. */
  grow(devices) {
    this.fleet = new Fleet(devices, this.hostile);
    this.#history();
  }

  /** Pretends, in the next answer of the tail, that lines were overwritten. */
  lose(lines) {
    this.losing = lines;
  }

  /** Adds a fault of a device, as if it happened now. */
  addFault(name, kind = "too_long") {
    const device = this.fleet.find(name);
    device.faults[kind] += 1;
    device.state = "faulty";
    this.faults.push(this.#event("fault", device, { fault: kind, declared: 6000, limit: 4096, lost: false }, Date.now()));
  }

  #event(event, device, members, t_ms) {
    return { id: this.nextId++, event, conn: device.at + 1, device: device.name, time: rfc(t_ms), ...members };
  }

  #history() {
    const now_ms = Date.now();
    for (const device of this.fleet.devices.slice(0, 300)) {
      this.events.push(this.#event("open", device, { peer: `10.0.0.${device.at % 250}:51234` }, this.started_ms));
      if (device.gaps) this.events.push(this.#event("gap", device, { session: "a1b2c3d4e5f60718", from: 40, to: 44, cause: "device" }, now_ms - 500_000));
      if (device.state === "silent") this.events.push({ ...this.#event("silent", device, { since: rfc(device.stop_ms), interval_us: 100012 }, now_ms - 20_000) });
      if (device.state === "gone") this.events.push(this.#event("close", device, { blocks: 88121, bytes: 3_600_000, reason: "reset" }, now_ms - 40_000));
      for (const [kind, number] of Object.entries(device.faults)) {
        for (let n = 0; n < number; n += 1) this.faults.push(this.#event("fault", device, { fault: kind, declared: 6000, limit: 4096 }, now_ms - 20_000 - n * 9000));
      }
    }
  }

  /** Messages since the last call go to the tail; at most 200 in 100 ms, the rest is not shown. */
  #make() {
    const now_ms = Date.now();
    const due = [];
    for (const device of this.fleet.devices) {
      const from = this.fleet.sent(device, this.lastMade_ms);
      const to = this.fleet.sent(device, now_ms);
      for (let n = from; n < to && due.length < 5000; n += 1) due.push({ device, seq: n, t_ms: this.lastMade_ms + ((n - from) / (to - from)) * (now_ms - this.lastMade_ms) });
    }
    due.sort((a, b) => a.t_ms - b.t_ms);
    for (const { device, seq, t_ms } of due.slice(0, 200)) {
      const { members, text } = this.fleet.message(device, t_ms);
      const entry = this.#event("block", device, { seq, len: Buffer.byteLength(text), ...members }, t_ms);
      this.ring.push({ ...entry, bytes: text });
    }
    this.notShown += Math.max(0, due.length - 200);
    if (this.ring.length > RING) this.ring.splice(0, this.ring.length - RING);
    this.lastMade_ms = now_ms;
  }

  async #answer(request, response) {
    this.requests += 1;
    this.open += 1;
    this.openMax = Math.max(this.openMax, this.open);
    response.on("close", () => (this.open -= 1));
    if (this.down) return request.socket.destroy();
    const url = new URL(request.url, "http://mock");
    const headers = { "X-Content-Type-Options": "nosniff", "Cache-Control": "no-store", "Content-Security-Policy": CSP };
    try {
      if (request.method !== "GET") throw new Refused(405, "only GET");
      if (request.url.length > 7800) throw new Refused(400, "the request is too long");
      if (!url.pathname.startsWith("/api/v1/")) return await this.#page(url.pathname, response, headers);
      if (this.token !== null && request.headers.authorization !== `Bearer ${this.token}`) throw new Refused(401, "a token is required");
      if (this.delay_ms > 0) await new Promise((resolve) => setTimeout(resolve, this.delay_ms));
      const resource = url.pathname.slice("/api/v1/".length);
      if (resource === "csv") return this.#csv(new Query(url, ["device", "last_s"]), response, headers);
      const resources = { devices: () => this.#devices(url), daemon: () => this.#daemon(url), device: () => this.#device(url), plot: () => this.#plot(url), tail: () => this.#tail(url, this.ring), faults: () => this.#tail(url, this.faults), events: () => this.#tail(url, this.events) };
      if (!Object.hasOwn(resources, resource)) throw new Refused(404, "no such resource");
      const body = JSON.stringify(resources[resource]()).replace(/"value":"((?:[^"\\]|\\.)*)"/g, (_all, text) => `"value":${JSON.parse(`"${text}"`)}`);
      response.writeHead(200, { ...headers, "Content-Type": "application/json" }).end(body);
    } catch (error) {
      const status = error instanceof Refused ? error.status : 500;
      if (status !== 401 && error.message !== "unknown device") this.refused.push(`${status} ${request.url.slice(0, 300)}: ${error.stack}`);
      response.writeHead(status, { ...headers, "Content-Type": "text/plain" }).end(`${error.message}\n`);
    }
  }

  async #page(path, response, headers) {
    const file = path === "/" ? "index.html" : path.match(/^\/page\/([A-Za-z0-9.]+)$/)?.[1];
    const type = TYPES[file?.split(".").pop()];
    const content = file && type ? await readFile(join(PAGE, file)).catch(() => null) : null;
    if (content === null) throw new Refused(404, "no such file");
    response.writeHead(200, { ...headers, "Content-Type": type }).end(content);
  }

  #devices(url) {
    const query = new Query(url, ["filter", "state", "device", "sort", "offset", "limit", "detail"]);
    const now_ms = Date.now();
    const detail = query.flag("detail");
    const limit = query.number("limit", detail ? 50 : Infinity, 1, detail ? 200 : Infinity);
    const filter = (query.one("filter") ?? "").toLowerCase();
    const states = query.one("state")?.split(",") ?? WORST;
    if (states.some((it) => !WORST.includes(it))) throw new Refused(400, "unknown state");
    const names = new Set(query.all("device"));
    const sort = query.one("sort") ?? "name";
    const faultsOf = (it) => Object.values(it.faults).reduce((a, b) => a + b, 0);
    const byName = (a, b) => (a.name < b.name ? -1 : 1);
    const rateOf = (it) => (it.stop_ms ? 0 : it.per_s);
    const orders = {
      name: byName,
      worst: (a, b) => WORST.indexOf(a.state) - WORST.indexOf(b.state) || faultsOf(b) - faultsOf(a) || byName(a, b),
      rate: (a, b) => rateOf(b) - rateOf(a) || byName(a, b),
      faults: (a, b) => faultsOf(b) - faultsOf(a) || byName(a, b),
      last: (a, b) => (b.stop_ms ?? now_ms) - (a.stop_ms ?? now_ms) || byName(a, b),
    };
    if (!Object.hasOwn(orders, sort)) throw new Refused(400, "unknown sort");
    const all = this.fleet.devices;
    const matched = all.filter((it) => it.name.toLowerCase().includes(filter) && states.includes(it.state) && (names.size === 0 || names.has(it.name))).sort(orders[sort]);
    const offset = query.number("offset", 0, 0, Infinity);
    const total = all.reduce((sum, it) => sum + rateOf(it), 0) * (0.98 + 0.04 * hash(Math.floor(now_ms / 1000)));
    const kinds = [...new Set(this.faults.map((it) => it.fault))].map((fault) => {
      const last = this.faults.filter((it) => it.fault === fault).at(-1);
      return { fault, count: all.reduce((sum, it) => sum + it.faults[fault], 0), device: last.device, time: last.time };
    });
    kinds.sort((a, b) => (a.time < b.time ? 1 : -1));
    return {
      time: rfc(now_ms),
      devices: matched.slice(offset, offset + limit).map((it) => this.#object(it, now_ms, detail)),
      gone_dropped: 0,
      matched: matched.length,
      total: all.length,
      states: Object.fromEntries(WORST.map((state) => [state, all.filter((it) => it.state === state).length])),
      messages_per_s: total,
      bytes_per_s: total * 148,
      history: Array.from({ length: 120 }, (_, at) => Math.round(total * (0.92 + 0.16 * hash(Math.floor(now_ms / 5000) - 119 + at)))),
      faults: kinds,
    };
  }

  #object(device, now_ms, detail) {
    const messages = this.fleet.sent(device, now_ms);
    const seen_ms = device.stop_ms ?? now_ms - 30;
    const object = {
      device: device.name, state: device.state, connections: device.state === "gone" ? 0 : 1, connections_total: 3, reconnects: 2, messages, bytes: messages * 148,
      messages_per_s: device.stop_ms ? 0 : device.per_s, faults: device.faults, gaps: device.gaps, gap_messages: device.gaps * 4, interval_us: Math.round(1e6 / device.per_s),
      first_seen: rfc(this.started_ms), last_seen: rfc(seen_ms), last_close: device.state === "gone" ? "reset" : device.at % 3 === 0 ? "eof" : null,
    };
    if (!detail) return object;
    const { text } = this.fleet.message(device, seen_ms);
    const latest = { time: rfc(seen_ms), seq: messages, len: Buffer.byteLength(text), text: text.length > 200 ? `${text.slice(0, 200)}…` : text };
    const second = Math.floor(now_ms / 1000);
    return {
      ...object,
      ...(device.watched ? { latest } : {}),
      values: device.watched && device.encoding === "json" ? Object.entries(this.fleet.fields(device, seen_ms)).slice(0, 3).map(([name, value]) => [name, String(value)]) : [],
      spark: Array.from({ length: 60 }, (_, at) => {
        const of = second - 59 + at;
        return device.stop_ms && of * 1000 > device.stop_ms ? 0 : Math.round(device.per_s * (0.8 + 0.4 * hash(of * 31 + device.at)));
      }),
    };
  }

  #daemon(url) {
    new Query(url, []);
    const recording = this.recording ? { directory: "/var/lib/blocksd", state: "ok", sync_ms: 0.8, free_bytes: 412e9, room_s: 31 * 86400 } : null;
    return { time: rfc(Date.now()), version: "0.10.0", host: this.hostile ? "<i>host</i>" : "plant-7", started: rfc(this.started_ms), recording, forwards: this.forwards, view: { memory_bytes: 1e6, memory_max_bytes: 67e6, not_shown: this.notShown } };
  }

  #find(query) {
    const name = query.one("device");
    if (name === null) throw new Refused(400, "device is missing");
    const device = this.fleet.find(name);
    if (!device) throw new Refused(404, "unknown device");
    return device;
  }

  #device(url) {
    const now_ms = Date.now();
    const device = this.#find(new Query(url, ["device"]));
    const fields = !device.watched || device.encoding !== "json" ? [] : Object.entries(this.fleet.fields(device, device.stop_ms ?? now_ms)).map(([field, value]) => {
      const numeric = typeof value === "number";
      return { field, numeric, last: String(value), min: numeric ? value - Math.abs(value) * 0.04 : null, max: numeric ? value + Math.abs(value) * 0.03 : null, count: 1200, plotted: false };
    });
    const session = device.at % 2 === 0 ? { session: "a1b2c3d4e5f60718", next: 88122, durable: 88120, held: 2, lost: 0, uptime_us: 120_000_000 } : null;
    return { time: rfc(now_ms), device: this.#object(device, now_ms, true), encoding: device.watched ? device.encoding : null, peer: device.state === "gone" ? null : "10.0.0.7:51234", conn: device.state === "gone" ? null : 12, session, since: device.watched ? rfc(now_ms - 3600e3) : null, fields, fields_more: 0, history: "complete" };
  }

  #plot(url) {
    const query = new Query(url, ["device", "field", "last_s", "columns"]);
    const device = this.#find(query);
    const last_s = query.number("last_s", 60, 1, 3600);
    const columns = query.number("columns", 600, 10, 2000);
    const names = query.all("field");
    if (names.length < 1 || names.length > 8) throw new Refused(400, "1 to 8 fields");
    const to_ms = Date.now();
    const from_ms = to_ms - last_s * 1000;
    const step_ms = (last_s * 1000) / columns;
    const points = (field) => {
      const result = [];
      // In the last minute at any time.
      const gap_ms = Math.floor((to_ms - 10_000) / 30_000) * 30_000;
      const each_ms = Math.max(step_ms / 2, 1000 / device.per_s);
      let gap = false;
      for (let t_ms = Math.ceil(from_ms / each_ms) * each_ms; t_ms < Math.min(to_ms, device.stop_ms ?? Infinity); t_ms += each_ms) {
        if (t_ms > gap_ms && t_ms < gap_ms + 5000) {
          if (!gap) result.push([Math.round(t_ms), null]);
          gap = true;
          continue;
        }
        const value = device.encoding === "json" ? this.fleet.fields(device, t_ms)[field] : null;
        if (typeof value === "number") result.push([Math.round(t_ms), value]);
      }
      return result;
    };
    return { time: rfc(to_ms), from_ms, to_ms, step_ms, history: last_s > 600 ? "partial" : "complete", series: names.map((field) => ({ field, points: points(field), error: null })) };
  }

  #tail(url, list) {
    const isTail = list === this.ring;
    const query = new Query(url, isTail ? ["device", "contains", "level", "after", "limit", "hex", "follow"] : ["device", "contains", "after", "limit", "follow"]);
    const globs = query.all("device").map(glob);
    const contains = (query.one("contains") ?? "").toLowerCase();
    const level = query.one("level");
    if (level !== null && !LEVELS.includes(level)) throw new Refused(400, "unknown level");
    const after = query.number("after", -1, -1, Infinity);
    const limit = query.number("limit", 200, 1, 1000);
    const hex = query.flag("hex");
    const matches = list.filter((it) => it.id > after && (globs.length === 0 || globs.some((test) => test.test(it.device))) && (level === null || LEVELS.indexOf(it.level) >= LEVELS.indexOf(level)) && (contains === "" || JSON.stringify(it).toLowerCase().includes(contains)));
    const chosen = after >= 0 ? matches.slice(0, limit) : matches.slice(-limit);
    const lost = after >= 0 && isTail ? this.losing ?? 0 : 0;
    if (lost > 0) this.losing = 0;
    const entries = chosen.map(({ bytes, ...entry }) => (hex && bytes ? { ...entry, hex: Buffer.from(bytes).subarray(0, 1024).toString("hex") } : entry));
    return { time: rfc(Date.now()), next: chosen.length === limit && after >= 0 ? chosen.at(-1).id : this.nextId - 1, lost, not_shown: isTail ? this.notShown : 0, entries };
  }

  #csv(query, response, headers) {
    const device = this.#find(query);
    const now_ms = Date.now();
    const lines = ["time,device,temp,rpm"];
    for (let t_ms = now_ms - query.number("last_s", 600, 1, 3600) * 1000; t_ms < now_ms; t_ms += 1000) {
      const { temp, rpm } = this.fleet.fields(device, t_ms);
      lines.push(`${rfc(t_ms)},"${device.name.replaceAll('"', '""')}",${temp},${rpm}`);
    }
    response.writeHead(200, { ...headers, "Content-Type": "text/csv; charset=utf-8", "Content-Disposition": 'attachment; filename="device.csv"' }).end(lines.join("\n"));
  }
}

/** A query in which every parameter is known, and repeated only where it may be. */
class Query {
  constructor(url, known) {
    this.params = url.searchParams;
    for (const name of this.params.keys()) if (!known.includes(name)) throw new Refused(400, `unknown parameter ${name}`);
  }

  all(name) {
    return this.params.getAll(name);
  }

  one(name) {
    if (this.all(name).length > 1) throw new Refused(400, `${name} is repeated`);
    return this.params.get(name);
  }

  flag(name) {
    const text = this.one(name) ?? "false";
    if (text !== "true" && text !== "false") throw new Refused(400, `${name} is true or false`);
    return text === "true";
  }

  number(name, otherwise, min, max) {
    const text = this.one(name);
    if (text === null) return otherwise;
    const value = Number(text);
    if (!/^-?\d+$/.test(text) || value < min || value > max) throw new Refused(400, `${name} is not a number from ${min} to ${max}`);
    return value;
  }
}

function glob(pattern) {
  return new RegExp(`^${pattern.replace(/[.+^${}()|[\]\\]/g, "\\$&").replaceAll("*", ".*").replaceAll("?", ".")}$`, "su");
}

function rfc(t_ms) {
  return new Date(t_ms).toISOString().replace("Z", "000000Z");
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  const option = (name, otherwise) => (process.argv.includes(name) ? process.argv[process.argv.indexOf(name) + 1] : otherwise);
  const mock = await startMock({ devices: Number(option("--devices", 10)), token: option("--token", null), port: Number(option("--port", 0)), hostile: process.argv.includes("--hostile") });
  console.log(mock.url);
}
