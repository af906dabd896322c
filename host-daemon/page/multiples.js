// Small plots of one field, one for each device, with a common y axis. Start with `Multiples`.

import { get, Poll } from "./api.js";
import { el, Keyed, setText, short, show } from "./dom.js";
import { value } from "./format.js";
import { Plot } from "./plot.js";
import { deviceAddress } from "./route.js";

const DEVICES_MAX = 12;
const INTERVAL_MS = 2_000;
/** How often a device is asked for its fields: its messages arrive in between. */
const ASKS = 15;
const LAST_S = 60;

/** Plots of the devices that `update` names. */
export class Multiples {
  constructor() {
    this.field = null;
    this.devices = [];
    this.fields = [];
    this.asks = ASKS;
    this.select = el("select", { "aria-label": "Field", on: { change: () => this.#choose(this.select.value) } });
    this.grid = el("div", { class: "multiples-grid" });
    this.rows = new Keyed(this.grid, (device) => small(device));
    this.note = el("span", { class: "quiet" });
    this.node = el(
      "section",
      { class: "card multiples", hidden: true },
      el("div", { class: "toolbar" }, el("h2", { text: "One field of each device" }), el("label", { class: "field" }, el("span", { text: "Field" }), this.select), this.note),
      this.grid,
    );
    this.poll = new Poll(INTERVAL_MS, (signal) => this.#ask(signal));
  }

  /** Devices of the list with their newest values. */
  update(devices) {
    const names = devices.filter((device) => (device.values ?? []).length > 0).map((device) => device.device);
    const first = this.devices[0];
    this.devices = names.sort().slice(0, DEVICES_MAX);
    if (this.devices[0] !== first) this.asks = ASKS;
    this.hidden = names.length - this.devices.length;
    for (const device of devices) {
      for (const [name, text] of device.values ?? []) if (text !== "" && Number.isFinite(Number(text))) this.#add(name);
    }
    if (this.field === null && this.fields.length > 0) this.#choose(this.fields[0]);
    show(this.node, this.fields.length > 0);
    if (this.fields.length > 0 && !this.poll.alive) this.poll.start();
  }

  stop() {
    this.poll.stop();
    for (const row of this.rows.rows.values()) row.stop();
  }

  #add(name) {
    if (this.fields.includes(name) || this.fields.length >= 200) return;
    this.fields.push(name);
    this.select.append(el("option", { value: name, text: short(name, 40) }));
  }

  #choose(field) {
    this.field = field;
    this.select.value = field;
    if (this.poll.alive) this.poll.now(true);
  }

  async #ask(signal) {
    const { field, devices } = this;
    if (devices.length > 0 && this.asks-- > 0) {
      // The list has only the first three fields of a message. A device has all of those that arrive after it was asked for.
      const answer = await get("device", { device: devices[0] }, signal).catch(() => null);
      if (!answer) this.asks = ASKS;
      for (const it of answer?.fields ?? []) if (it.numeric) this.#add(it.field);
    }
    const answers = await Promise.all(devices.map((device) => get("plot", { device, field, last_s: LAST_S, columns: 150 }, signal).catch((error) => ({ error }))));
    if (field !== this.field || signal.aborted) return;
    const items = devices.map((device, at) => ({ device, answer: answers[at], series: answers[at].series?.[0] }));
    const seen = items.flatMap((item) => (item.series?.points ?? []).map(([, v]) => v)).filter((v) => v !== null);
    const y = seen.length > 0 ? seen.reduce(([low, high], v) => [Math.min(low, v), Math.max(high, v)], [Infinity, -Infinity]) : null;
    const kept = new Set(devices);
    for (const [name, row] of this.rows.rows) if (!kept.has(name)) row.stop();
    this.rows.show(items.map((item) => ({ ...item, y })), (item) => item.device);
    const range = y ? `${value(y[0])} to ${value(y[1])}, last minute` : "no values in the last minute";
    setText(this.note, this.hidden > 0 ? `${range} · the first ${DEVICES_MAX} devices, ${this.hidden} not shown` : range);
  }
}

function small(first) {
  const title = el("bdi", { class: "plot-title" }, el("a", { href: deviceAddress(first.device), text: short(first.device, 22) }));
  const plot = new Plot({ title, label: short(first.device, 22), height: 84, mini: true, sync: "multiples" });
  return {
    node: plot.node,
    stop: () => plot.destroy(),
    update({ answer, series, y }) {
      plot.say(series?.error ?? (answer.error ? answer.error.message : null));
      if (series) plot.update(series.points, answer.from_ms, answer.to_ms, y);
    },
  };
}
