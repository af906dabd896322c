// The tail: the newest messages, faults or events, as lines. Start with `Tail`.

import { ApiError, get, Poll } from "./api.js";
import { el, setAttr, setText, short, show } from "./dom.js";
import { clock, count, millis } from "./format.js";
import { lineOf } from "./line.js";

const LINES_MAX = 300;
const INTERVAL_MS = 500;
const LEVELS = ["trace", "debug", "info", "warn", "error"];
const SOURCES = { tail: "messages", faults: "faults", events: "events" };

/** Lines of one device, or of all (`device: null`). `folded`: asks nothing until it is opened. */
export class Tail {
  constructor({ device = null, folded = false }) {
    this.device = device;
    this.source = "tail";
    this.mode = "text";
    this.hasLevels = false;
    this.held = [];
    this.#build();
    this.poll = new Poll(INTERVAL_MS, (signal) => this.#ask(signal), (error) => this.#failed(error));
    this.setFolded(folded);
  }

  stop() {
    this.poll.stop();
  }

  /** The device sends a log, so a level can be chosen. */
  offerLevels() {
    this.hasLevels = true;
    show(this.levelField, this.source === "tail");
  }

  setFolded(folded) {
    show(this.body, !folded);
    setAttr(this.fold, "aria-expanded", String(!folded));
    if (folded) this.poll.stop();
    else if (!this.poll.alive) {
      this.#restart();
      this.poll.start();
    }
  }

  #build() {
    const name = this.device === null ? "Tail of all devices" : "Tail";
    this.fold = el("button", { type: "button", class: "fold", "aria-expanded": "true", on: { click: () => this.setFolded(!this.body.hidden) } }, name);
    this.sourceBox = select(SOURCES, "Show", (source) => {
      this.source = source;
      show(this.modeField, source === "tail");
      show(this.levelField, source === "tail" && this.hasLevels);
      this.#renew();
    });
    this.modeBox = select({ text: "text", fields: "fields", hex: "hex" }, "As", (mode) => {
      const again = mode === "hex" || this.mode === "hex";
      this.mode = mode;
      if (again) this.#renew();
      else this.#redraw();
    });
    this.levelBox = select({ "": "all", ...Object.fromEntries(LEVELS.map((it) => [it, it === "error" ? it : `${it} and up`])) }, "Level", () => this.#renew());
    this.modeField = this.modeBox.field;
    this.levelField = this.levelBox.field;
    this.levelField.hidden = true;
    this.contains = el("input", { type: "search", placeholder: "contains", "aria-label": "Only lines that contain", maxlength: 200, autocomplete: "off", spellcheck: "false", on: { input: () => this.#renew() } });
    const wrap = el("input", { type: "checkbox", on: { change: () => this.lines.classList.toggle("wrapped", wrap.checked) } });
    this.counts = el("span", { class: "tail-counts" });
    this.lines = el("div", {
      class: "lines",
      tabindex: "0",
      role: "region",
      "aria-label": this.device === null ? "Lines of all devices" : `Lines of ${short(this.device)}`,
      on: { scroll: () => this.#scrolled() },
    });
    this.newest = el("button", { type: "button", class: "newest", hidden: true, on: { click: () => this.#follow() } });
    this.status = el("p", { class: "tail-status" });
    this.body = el(
      "div",
      { class: "tail-body" },
      el("div", { class: "toolbar" }, this.sourceBox.field, this.modeField, this.levelField, this.contains, el("label", { class: "field" }, wrap, el("span", { text: "wrap" }))),
      el("div", { class: "lines-frame" }, this.lines, this.newest),
      el("div", { class: "tail-foot" }, this.status, this.counts),
    );
    this.node = el("section", { class: "card tail" }, el("h2", {}, this.fold), this.body);
  }

  #query(after) {
    const query = { device: this.device, contains: this.contains.value.trim(), limit: LINES_MAX, after };
    if (this.source === "tail") {
      if (this.mode === "hex") query.hex = true;
      if (this.levelBox.input.value && this.hasLevels) query.level = this.levelBox.input.value;
    }
    return query;
  }

  async #ask(signal) {
    const generation = this.generation;
    const answer = await get(this.source, this.#query(this.jump ? undefined : this.next), signal, true);
    if (generation !== this.generation) return;
    // The daemon has started again, perhaps with an earlier clock: its numbers are others.
    if (answer.lost === null) Object.assign(this, { last: -1, base: null });
    // A glob in a name may match other devices, and a new start of the tail repeats lines.
    const fresh = answer.entries.filter((entry) => (this.device === null || entry.device === this.device) && entry.id > this.last);
    if (this.next !== undefined) {
      if (answer.lost === null) this.unknownLoss = true;
      else this.lost += answer.lost ?? 0;
    }
    if (this.jump && fresh.length > 0) this.skipped = true;
    // A full answer: more came than can be shown. The next one begins with the newest, so the tail never lags.
    this.jump = this.next !== undefined && answer.entries.length >= LINES_MAX;
    this.next = answer.next;
    if (fresh.length > 0) this.last = fresh.at(-1).id;
    const notShown = answer.not_shown ?? 0;
    if (this.base === null || notShown < this.base) this.base = notShown;
    this.notShown = notShown - this.base;
    if (!this.hasLevels && fresh.some((entry) => typeof entry.level === "string")) this.offerLevels();
    if (this.following) this.#append(fresh);
    else this.#hold(fresh);
    this.#count();
  }

  #failed(error) {
    if (error instanceof ApiError && error.status >= 400 && error.status < 500) setText(this.status, error.message);
  }

  #restart() {
    Object.assign(this, { generation: (this.generation ?? 0) + 1, next: undefined, last: -1, base: null, notShown: 0, lost: 0, unknownLoss: false, jump: false, skipped: false, following: true, held: [] });
    this.entries = [];
    this.lines.replaceChildren();
    this.notHeld = 0;
    show(this.newest, false);
    setText(this.status, "");
    this.#count();
  }

  #renew() {
    this.#restart();
    this.poll.now(true);
  }

  #append(fresh) {
    if (fresh.length === 0) {
      if (this.entries.length === 0) setText(this.status, this.contains.value.trim() || this.levelBox.input.value ? "No line matches." : `No ${SOURCES[this.source]} yet.`);
      return;
    }
    setText(this.status, "");
    this.entries = this.entries.concat(fresh).slice(-LINES_MAX);
    const added = fresh.slice(-LINES_MAX);
    while (this.lines.childElementCount > 0 && this.lines.childElementCount + added.length > LINES_MAX) this.lines.firstChild.remove();
    this.lines.append(...added.map((entry) => this.#line(entry)));
    this.lines.scrollTop = this.lines.scrollHeight;
  }

  /** Keeps new lines back while a person reads earlier ones. */
  #hold(fresh) {
    const all = this.held.concat(fresh);
    this.held = all.slice(-LINES_MAX);
    this.notHeld += all.length - this.held.length;
    setText(this.newest, `${count(this.held.length + this.notHeld)} new · go to the newest`);
    show(this.newest, this.held.length + this.notHeld > 0);
  }

  #follow() {
    this.following = true;
    this.notShown += this.notHeld;
    this.notHeld = 0;
    show(this.newest, false);
    this.#append(this.held);
    this.held = [];
    this.lines.scrollTop = this.lines.scrollHeight;
    this.lines.focus({ preventScroll: true });
  }

  #scrolled() {
    const atEnd = this.lines.scrollHeight - this.lines.scrollTop - this.lines.clientHeight < 24;
    if (atEnd && !this.following) this.#follow();
    else if (!atEnd) this.following = false;
  }

  #redraw() {
    this.lines.replaceChildren(...this.entries.map((entry) => this.#line(entry)));
    this.lines.scrollTop = this.lines.scrollHeight;
  }

  #line(entry) {
    const { level, text } = lineOf(entry, this.mode);
    const parts = [
      el("span", { class: "line-time", text: clock(millis(entry.time)), title: entry.time }),
      this.device === null && el("bdi", { class: "line-device", text: short(entry.device ?? "", 24) }),
      typeof entry.level === "string" && el("span", { class: "line-level", text: entry.level }),
      el("bdi", { class: "line-text", text }),
    ];
    // Spaces between the parts, for a copy of the line.
    const children = parts.filter(Boolean).flatMap((part, at) => (at === 0 ? [part] : [" ", part]));
    return el("div", { class: `line${level ? ` level-${LEVELS.includes(level) || level === "fault" ? level : "info"}` : ""}` }, ...children);
  }

  #count() {
    const parts = [];
    if (this.notShown > 0) parts.push(`${count(this.notShown)} not shown`);
    if (this.skipped) parts.push("some skipped: more than the page can show");
    if (this.lost > 0) parts.push(`${count(this.lost)} lost`);
    if (this.unknownLoss) parts.push("the daemon restarted: some may be lost");
    setText(this.counts, parts.join(" · ") || "0 not shown");
  }
}

function select(options, label, onChange) {
  const input = el("select", { "aria-label": label, on: { change: () => onChange(input.value) } }, ...Object.entries(options).map(([value, text]) => el("option", { value, text })));
  return { input, field: el("label", { class: "field" }, el("span", { text: label }), input) };
}
