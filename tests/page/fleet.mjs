// Devices that the mock of the daemon pretends to have: their names, states and values. Start with `Fleet`.

const KINDS = ["boiler", "pump", "rover", "press", "fan", "meter", "valve", "oven"];
const MODES = ["auto", "manual", "standby"];
const LOG = [
  ["info", "link up, rssi -61 dBm", "src/net.rs:88"],
  ["debug", "queue 12 of 128", "src/uplink.rs:140"],
  ["warn", "queue at 80 %", "src/uplink.rs:175"],
  ["info", "sensor 2 calibrated", "src/sense.rs:31"],
  ["error", "i2c: no answer from 0x48", "src/sense.rs:77"],
  ["trace", "tick", "src/main.rs:20"],
];

/** Names and payloads that would run or disturb something in a careless page. */
export const HOSTILE = [
  '<img src=x onerror="window.pwned=1">',
  '"><script>window.pwned=1</script>',
  "‮gnp.exe‭ ⁦\u2028line\u0000nul",
  `long-${"n".repeat(1990)}-end`,
  "javascript:window.pwned=1",
  "a*b?c#d&e=f%41/../..",
  "__proto__",
  "constructor",
  "' onfocus='window.pwned=1' autofocus='",
  "aXXbYc#d&e=f%41/../..",
  "\u{1F468}‍\u{1F680} ünï",
];

/** A number of devices that send by the clock; nothing is stored, so 1,000 cost nothing. */
export class Fleet {
  constructor(count, hostile = false) {
    this.start_ms = Date.now() - 3 * 86400e3 - 4 * 3600e3;
    this.devices = [];
    const many = count > 25;
    for (let at = 0; at < count; at += 1) {
      const name = hostile && at < HOSTILE.length ? HOSTILE[at] : count === 1 ? "boiler" : `${KINDS[at % KINDS.length]}-${Math.floor(at / KINDS.length) + 1}`;
      this.devices.push(this.#device(name, at, count, many, hostile));
    }
  }

  find(name) {
    return this.devices.find((device) => device.name === name);
  }

  /** Messages of a device until a time. */
  sent(device, now_ms) {
    const until_ms = Math.min(now_ms, device.stop_ms ?? Infinity);
    return Math.max(0, Math.floor(((until_ms - this.start_ms) / 1000) * device.per_s));
  }

  /** The values of the fields of a device at a time. */
  fields(device, t_ms) {
    const t = t_ms / 1000;
    const n = this.sent(device, t_ms);
    const noise = (scale, salt) => (hash(n * 7 + salt + device.at * 131) - 0.5) * scale;
    const fields = {
      temp: round(24 + 2.2 * Math.sin(t / 11 + device.at) + noise(0.5, 1), 2),
      rpm: Math.round(1407 + 22 * Math.sin(t / 5 + device.at * 2) + noise(8, 2)),
      n,
      pressure: round(1.2 + 0.05 * Math.sin(t / 40) + noise(0.01, 3), 4),
      mode: MODES[Math.floor(t / 30) % MODES.length],
      ok: true,
      "vibration.x": round(noise(0.2, 4), 4),
      "vibration.y": round(noise(0.2, 5), 4),
      setpoint: 24.5,
      serial: "12345678901234567890",
    };
    if (device.hostile) {
      fields[HOSTILE[0]] = HOSTILE[1];
      fields["__proto__x"] = HOSTILE[2];
      fields.html = "<b>bold</b><svg onload=window.pwned=1>";
    }
    return fields;
  }

  /** The payload of a message as the members of an event, and its bytes. */
  message(device, t_ms) {
    if (device.encoding === "defmt") {
      const [level, text, location] = LOG[this.sent(device, t_ms) % LOG.length];
      return { members: { level, timestamp: ((t_ms - this.start_ms) / 1000).toFixed(2), message: text, location }, text: `${level.toUpperCase()} ${text}` };
    }
    if (device.encoding === "raw") {
      const base64 = Buffer.from([0, 1, 0xfe, device.at & 255, this.sent(device, t_ms) & 255]).toString("base64");
      return { members: { base64 }, text: base64 };
    }
    const { "vibration.x": x, "vibration.y": y, serial, ...rest } = this.fields(device, t_ms);
    // A number that a double cannot hold: every digit must be shown.
    const text = JSON.stringify({ ...rest, vibration: { x, y } }).replace(/}$/, `,"serial":${serial}}`);
    return { members: { value: text }, text };
  }

  #device(name, at, count, many, hostile) {
    let state = "live";
    if (many) state = at % 111 === 7 ? "silent" : at % 333 === 17 ? "faulty" : at === 100 ? "gone" : "live";
    else if (count > 1) state = { 3: "silent", 5: "faulty", 7: "gone" }[at] ?? "live";
    const per_s = count === 1 ? 20 : many ? 4 + hash(at) * 8 : 2 + Math.round(hash(at) * 18);
    const encoding = count > 1 && !many && !hostile ? ({ 4: "defmt", 6: "raw" }[at] ?? "json") : "json";
    const stopped = { silent: 25_000, gone: 40_000 }[state];
    return {
      name, at, state, per_s, encoding, hostile,
      // Nobody looked while it sent, so nothing was copied.
      watched: state !== "gone" || hostile,
      stop_ms: stopped ? Date.now() - stopped : null,
      faults: { bad_checksum: 0, bad_ending: 0, bad_length: 0, reset: state === "gone" ? 1 : 0, too_long: state === "faulty" ? 1 + (at % 3) : 0, truncated: at % 97 === 3 ? 2 : 0, undecodable: 0 },
      gaps: at % 50 === 2 ? 1 : 0,
    };
  }
}

/** A number from 0 to 1 that depends on the seed only. */
export function hash(seed) {
  let x = Math.imul((seed | 0) ^ 0x9e3779b9, 0x85ebca6b);
  x = Math.imul(x ^ (x >>> 13), 0xc2b2ae35);
  return ((x ^ (x >>> 16)) >>> 0) / 2 ** 32;
}

function round(value, digits) {
  return Number(value.toFixed(digits));
}
