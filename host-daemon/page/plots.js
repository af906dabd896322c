// The plots of a device, one below the other, with a common time. Start with `Plots`.

import { address, ApiError, get, getBlob, Poll, token } from "./api.js";
import { el, setText, short, show } from "./dom.js";
import { clockMinutes } from "./format.js";
import { PLOTS_MAX } from "./fields.js";
import { Plot } from "./plot.js";

const RANGES = { 60: "1 m", 600: "10 m", 3600: "1 h" };
const CSV_S = 600;

/** Plots of fields of a device; `onChange()` is called when the person changes what is plotted. */
export class Plots {
  constructor(device, { fields, last_s, onChange }) {
    Object.assign(this, { device, fields, onChange, plots: new Map(), last_s: Object.hasOwn(RANGES, last_s) ? Number(last_s) : 60, live: true });
    this.radios = Object.entries(RANGES).map(([seconds, text]) => {
      const input = el("input", { type: "radio", name: "range", value: seconds, checked: Number(seconds) === this.last_s, on: { change: () => this.#setRange(Number(seconds)) } });
      return el("label", { class: "choice" }, input, el("span", { text }));
    });
    this.liveButton = el("button", { type: "button", class: "live", on: { click: () => this.setLive(!this.live) } });
    this.history = el("span", { class: "quiet history" });
    this.csv = el("a", { class: "button", href: address("csv", { device, last_s: CSV_S }), download: `${fileName(device)}.csv`, text: "CSV of the last 10 minutes", on: { click: (event) => this.#save(event) } });
    this.csvStatus = el("span", { class: "quiet", role: "status" });
    this.stack = el("div", { class: "stack" });
    this.empty = el("p", { class: "empty" });
    this.node = el(
      "section",
      { class: "card plots" },
      el("div", { class: "toolbar" }, el("h2", { text: "Plots" }), el("div", { class: "choices", role: "group", "aria-label": "Time of the plots" }, ...this.radios), this.liveButton, this.history),
      this.stack,
      this.empty,
      el("div", { class: "toolbar foot" }, this.csv, this.csvStatus),
    );
    this.#showLive();
    this.#arrange();
    this.poll = new Poll(1000, (signal) => this.#ask(signal), (error) => this.#failed(error));
    this.poll.start();
  }

  stop() {
    this.poll.stop();
    for (const plot of this.plots.values()) plot.destroy();
  }

  /** Says that there is nothing to plot, and why. */
  say(text) {
    setText(this.empty, text);
    show(this.empty, this.plots.size === 0);
  }

  /** Plots other fields. */
  setFields(fields) {
    this.fields = fields.slice(0, PLOTS_MAX);
    this.#arrange();
    this.poll.now(true);
  }

  /** Draws new data, or stops so that the person can look at the present data. */
  setLive(live) {
    this.live = live;
    if (live) for (const plot of this.plots.values()) plot.setZoom(null);
    this.#showLive();
    if (live) this.poll.now(true);
  }

  #setRange(seconds) {
    this.last_s = seconds;
    this.setLive(true);
    this.onChange();
  }

  #showLive() {
    setText(this.liveButton, this.live ? "Pause plots" : "Continue live");
    this.liveButton.className = this.live ? "live" : "live paused";
  }

  #arrange() {
    for (const [field, plot] of this.plots) {
      if (this.fields.includes(field)) continue;
      plot.destroy();
      this.plots.delete(field);
    }
    const height = this.fields.length > 4 ? 110 : this.fields.length > 2 ? 140 : 190;
    for (const field of this.fields) {
      if (this.plots.has(field)) continue;
      const title = el("span", { class: "plot-title" }, el("bdi", { text: short(field, 40) }));
      const plot = new Plot({ title, label: short(field, 40), height, sync: "device", onZoom: (range) => this.#zoom(range) });
      this.plots.set(field, plot);
      this.stack.append(plot.node);
    }
    for (const plot of this.plots.values()) plot.setHeight(height);
    show(this.empty, this.plots.size === 0);
  }

  #zoom(range) {
    if (range === null) return this.setLive(true);
    this.live = false;
    this.#showLive();
    for (const plot of this.plots.values()) plot.setZoom(range);
  }

  async #ask(signal) {
    if (this.fields.length === 0 || !this.live) return;
    const { fields, last_s } = this;
    const columns = this.plots.values().next().value.columns;
    const answer = await get("plot", { device: this.device, field: fields, last_s, columns }, signal);
    if (!this.live || last_s !== this.last_s) return;
    let first_ms = Infinity;
    for (const series of answer.series) {
      const plot = this.plots.get(series.field);
      plot?.say(series.error);
      plot?.update(series.points, answer.from_ms, answer.to_ms);
      if (series.points.length > 0) first_ms = Math.min(first_ms, series.points[0][0]);
    }
    const since = Number.isFinite(first_ms) ? first_ms : answer.to_ms;
    const texts = { none: `history: no recording, only since ${clockMinutes(since)}`, loading: "history: loading", complete: "history: from the recording", partial: `history: only since ${clockMinutes(since)}` };
    setText(this.history, texts[answer.history] ?? "");
  }

  #failed(error) {
    if (error.status < 400 || error.status >= 500) return;
    for (const plot of this.plots.values()) plot.say(error.message);
  }

  /** With a token, the file must be fetched: a link cannot send the header. */
  async #save(event) {
    if (!token()) return;
    event.preventDefault();
    setText(this.csvStatus, "loading the CSV…");
    try {
      const blob = await getBlob("csv", { device: this.device, last_s: CSV_S });
      const url = URL.createObjectURL(blob);
      el("a", { href: url, download: this.csv.download }).click();
      setTimeout(() => URL.revokeObjectURL(url), 60_000);
      setText(this.csvStatus, "saved");
    } catch (error) {
      setText(this.csvStatus, error instanceof ApiError ? `not saved: ${error.message}` : "not saved");
    }
  }
}

/** A name that every file system takes. */
function fileName(device) {
  return device.replace(/[^A-Za-z0-9._-]+/g, "_").slice(0, 80) || "device";
}
