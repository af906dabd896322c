// The view of one device: state, plots, fields, tail, faults, gaps and session. Start with `DeviceView`.

import { clock, get, Poll } from "./api.js";
import { announce, cut, el, Keyed, setAttr, setText, short, show, visible } from "./dom.js";
import { Fields } from "./fields.js";
import { ago, bytes, clock as clockText, count, duration, millis, moment, rate } from "./format.js";
import { lineOf } from "./line.js";
import { Plots } from "./plots.js";
import { remember, route } from "./route.js";
import { stateMark } from "./shapes.js";
import { Tail } from "./tail.js";

const AUTO_PLOTS = 2;
const LOG_LINES = 30;
const RATE_MS = 5_000;

/** The view of the device `name`. */
export class DeviceView {
  constructor(name) {
    this.name = name;
    const { query } = route();
    this.chosen = query.has("plot") || query.has("none");
    this.samples = [];
    this.state = null;
    this.title = short(name, 40);
    this.mark = stateMark();
    this.heading = el("h1", { tabindex: "-1" }, el("bdi", { text: short(name, 60), title: cut(visible(name), 300) }));
    this.back = el("a", { class: "back", href: "#/", hidden: true });
    this.figures = Object.fromEntries(["rate", "bytes", "messages", "faults", "gaps", "last"].map((key) => [key, el("dd", { text: "–" })]));
    const names = { rate: "messages/s", bytes: "bytes/s", messages: "messages", faults: "faults", gaps: "gaps", last: "last seen" };
    this.list = el("dl", { class: "figures-list" }, ...Object.entries(names).map(([key, text]) => el("div", {}, el("dt", { text }), this.figures[key])));
    this.missing = el("p", { class: "empty", hidden: true });
    this.plots = new Plots(name, { fields: query.getAll("plot"), last_s: query.get("last") ?? 60, onChange: () => this.#remember() });
    this.fields = new Fields((field, on) => this.#plot(field, on));
    this.tail = new Tail({ device: name, folded: matchMedia("(max-width: 600px)").matches });
    this.latestHead = el("span", { class: "quiet" });
    this.latest = el("pre", { class: "latest", tabindex: "0", role: "region", "aria-label": "Newest message" });
    this.facts = el("dl", { class: "facts" });
    this.factRows = new Keyed(this.facts, () => factRow());
    this.faultLog = eventList("Newest faults", "No fault.");
    this.eventLog = eventList("Newest events", "No event.");
    const logs = el(
      "div",
      { class: "logs" },
      el("section", { class: "card" }, el("h2", { text: "Faults" }), this.faultLog.node),
      el("section", { class: "card" }, el("h2", { text: "Connections, gaps and silences" }), this.eventLog.node),
    );
    const facts = el("section", { class: "card device-facts" }, el("h2", { text: "Connection and session" }), this.facts);
    this.content = el(
      "div",
      { class: "device-content" },
      el("div", { class: "col-main" }, this.plots.node, el("section", { class: "card newest-message" }, el("h2", {}, "Newest message ", this.latestHead), this.latest), logs, facts),
      el("div", { class: "col-side" }, this.fields.node, this.tail.node),
    );
    this.node = el("div", { class: "device" }, el("div", { class: "device-head" }, this.back, this.heading, this.mark.node, this.list), this.missing, this.content);
    this.polls = [
      new Poll(1000, (signal) => this.#ask(signal), (error) => this.#failed(error)),
      new Poll(3000, (signal) => this.#askLog("faults", this.faultLog, signal)),
      new Poll(3000, (signal) => this.#askLog("events", this.eventLog, signal)),
      new Poll(10_000, (signal) => this.#askTotal(signal)),
    ];
  }

  start() {
    for (const poll of this.polls) poll.start();
  }

  stop() {
    for (const poll of this.polls) poll.stop();
    this.plots.stop();
    this.tail.stop();
  }

  async #ask(signal) {
    const answer = await get("device", { device: this.name }, signal);
    this.#known(true);
    const now_ms = clock.now();
    const { device } = answer;
    this.#head(device, millis(answer.time), now_ms);
    if (!this.chosen) this.#chooseFirst(answer.fields);
    this.fields.update(answer, this.plots.fields, answer.since ? moment(millis(answer.since), now_ms) : null);
    const numeric = answer.fields.some((it) => it.numeric);
    this.content.className = numeric ? "device-content" : "device-content plain";
    this.plots.say(numeric ? "Choose a field to plot." : "This device sends no numeric fields to plot.");
    if (answer.encoding === "defmt") this.tail.offerLevels();
    const { latest } = device;
    setText(this.latestHead, latest ? `number ${count(latest.seq)} · ${bytes(latest.len)} · ${ageText(latest.time, now_ms)}` : "");
    setText(this.latest, latest ? visible(latest.text) : "No message has come while this page was open.");
    this.#facts(answer, device, now_ms);
  }

  #head(device, time_ms, now_ms) {
    if (this.state !== null && this.state !== device.state) announce(`${short(this.name, 40)} is now ${device.state}`);
    this.state = device.state;
    this.mark.update(device.state);
    this.title = `${short(this.name, 40)} ${device.state}`;
    this.samples = this.samples.filter((sample) => sample.time_ms > time_ms - RATE_MS - 500 && sample.bytes <= device.bytes);
    const first = this.samples[0];
    const perSecond = first && time_ms > first.time_ms ? ((device.bytes - first.bytes) * 1000) / (time_ms - first.time_ms) : null;
    this.samples.push({ time_ms, bytes: device.bytes });
    const faults = Object.entries(device.faults ?? {}).filter(([, number]) => number > 0);
    const { figures } = this;
    setText(figures.rate, rate(device.messages_per_s));
    setText(figures.bytes, perSecond === null ? "–" : bytes(perSecond));
    setText(figures.messages, count(device.messages));
    setText(figures.faults, count(faults.reduce((sum, [, number]) => sum + number, 0)));
    setAttr(figures.faults, "data-some", faults.length > 0);
    setAttr(figures.faults, "title", faults.map(([kind, number]) => `${number} ${kind}`).join(", ") || null);
    setText(figures.gaps, count(device.gaps));
    setAttr(figures.gaps, "data-some", device.gaps > 0);
    setAttr(figures.gaps, "title", device.gaps > 0 ? `${count(device.gap_messages)} messages are missing` : null);
    setText(figures.last, ago(device.last_seen, now_ms));
    setAttr(figures.last, "title", device.last_seen);
  }

  #facts(answer, device, now_ms) {
    const { session } = answer;
    const kinds = Object.entries(device.faults ?? {}).filter(([, number]) => number > 0);
    const rows = [
      ["encoding", answer.encoding ?? "not known yet"],
      ["peer", answer.peer ? `${answer.peer}${answer.conn === null ? "" : ` (connection ${answer.conn})`}` : "not connected"],
      ["connections", `${count(device.connections)} open, ${count(device.connections_total)} in all, ${count(device.reconnects)} reconnects`],
      ["interval", device.interval_us === null ? "not known yet" : interval(device.interval_us)],
      ["received", `${count(device.messages)} messages, ${bytes(device.bytes)}`],
      ["faults", kinds.map(([kind, number]) => `${count(number)} ${kind}`).join(", ") || "none"],
      ["gaps", device.gaps > 0 ? `${count(device.gaps)} with ${count(device.gap_messages)} messages` : "none"],
      ["first seen", `${moment(millis(device.first_seen), now_ms)}, ${ageText(device.first_seen, now_ms)}`],
      ["last close", device.last_close ?? "none"],
      ["session", session ? session.session : "none"],
      ...Object.entries(session ?? {}).filter(([name, item]) => name !== "session" && item !== null && typeof item !== "object").map(([name, item]) => sessionRow(name, item)),
    ];
    this.factRows.show(rows.map(([name, text]) => ({ name, text: cut(visible(text), 200) })), (item) => item.name);
  }

  #chooseFirst(fields) {
    const first = fields.filter((it) => it.numeric).slice(0, AUTO_PLOTS).map((it) => it.field);
    if (first.length > 0 && first.join("\n") !== this.plots.fields.join("\n")) this.plots.setFields(first);
  }

  #plot(field, on) {
    this.chosen = true;
    const others = this.plots.fields.filter((it) => it !== field);
    this.plots.setFields(on ? [...others, field] : others);
    this.#remember();
    this.polls[0].now(true);
  }

  #remember() {
    remember({ plot: this.chosen ? this.plots.fields : [], none: this.chosen && this.plots.fields.length === 0 ? "1" : null, last: this.plots.last_s === 60 ? null : this.plots.last_s });
  }

  async #askLog(path, list, signal) {
    const answer = await get(path, { device: this.name, limit: LOG_LINES }, signal, true);
    list.update(answer.entries.filter((entry) => entry.device === this.name).reverse(), clock.now());
  }

  async #askTotal(signal) {
    const { total } = await get("devices", { limit: 1 }, signal);
    setText(this.back, `← All devices (${count(total)})`);
    show(this.back, total > 1 || !this.missing.hidden);
  }

  #known(known) {
    show(this.missing, !known);
    for (const node of [this.content, this.list, this.mark.node]) show(node, known);
  }

  #failed(error) {
    if (error.status !== 404 && error.status !== 400) return;
    this.#known(false);
    show(this.back, true);
    if (!this.back.textContent) setText(this.back, "← All devices");
    setText(this.missing, error.status === 404 ? "The daemon knows no device of this name. It appears here when it connects." : error.message);
  }
}

function eventList(label, empty) {
  const list = el("ol");
  const frame = el("div", { class: "events", tabindex: "0", role: "region", "aria-label": label }, list);
  const none = el("p", { class: "quiet", text: empty });
  const rows = new Keyed(list, () => {
    const time = el("span", { class: "line-time" });
    const text = el("bdi");
    return {
      node: el("li", {}, time, text),
      update({ entry, now_ms }) {
        setText(time, moment(millis(entry.time), now_ms));
        setAttr(time, "title", `${entry.time} (${clockText(millis(entry.time))})`);
        setText(text, lineOf(entry, "text").text);
      },
    };
  });
  return {
    node: el("div", {}, frame, none),
    update(entries, now_ms) {
      rows.show(entries.map((entry) => ({ entry, now_ms })), (item) => item.entry.id);
      show(frame, entries.length > 0);
      show(none, entries.length === 0);
    },
  };
}

function factRow() {
  const name = el("dt");
  const text = el("dd");
  return {
    node: el("div", {}, name, text),
    update(item) {
      setText(name, item.name);
      setText(text, item.text);
    },
  };
}

function sessionRow(name, item) {
  if (typeof item !== "number") return [`session ${name}`, String(item)];
  return name.endsWith("_us") ? [`session ${name.slice(0, -3)}`, interval(item)] : [`session ${name}`, count(item)];
}

function ageText(time, now_ms) {
  const age = ago(time, now_ms);
  return age === "now" || age === "–" ? age : `${age} ago`;
}

function interval(us) {
  if (us < 1000) return `${us} µs`;
  if (us < 1e6) return `${Number((us / 1e3).toPrecision(3))} ms`;
  if (us < 1e8) return `${Number((us / 1e6).toPrecision(3))} s`;
  return duration(us / 1e6);
}
