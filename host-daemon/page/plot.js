// One plot of a series over time, drawn by uPlot. Start with `Plot`; the x axis is the clock of the daemon, also without data.

import { el, setAttr, setText } from "./dom.js";
import { clock, clockMinutes, clockSeconds, value } from "./format.js";

const PAD = 0.08;
const PAD_RIGHT = 10;
const plots = new Set();

/** A plot with a line of text: the last value, or value and time under the cursor. */
export class Plot {
  /**
   * `options`: `title` (node or text), `label` for screen readers, `height`; `mini`: few ticks; `fromZero`: y begins at 0;
   * `sync`: key of plots that share a cursor; `onZoom(range | null)`; `format(number)`.
   */
  constructor(options) {
    this.options = options;
    this.range = [0, 1];
    this.zoom = null;
    this.y = null;
    this.data = [[], []];
    this.format = options.format ?? value;
    this.readout = el("span", { class: "readout" });
    this.note = el("span", { class: "plot-note" });
    this.canvas = el("div", {
      class: "plot-canvas",
      tabindex: "0",
      role: "slider",
      "aria-label": `${options.label}: value at a time`,
      "aria-orientation": "horizontal",
      on: { keydown: (event) => this.#key(event), blur: () => this.#leave() },
    });
    this.canvas.style.height = `${options.height}px`;
    const title = typeof options.title === "string" ? el("span", { class: "plot-title", text: options.title }) : options.title;
    this.node = el("div", { class: options.mini ? "plot mini" : "plot" }, el("div", { class: "plot-head" }, title, this.note, this.readout), this.canvas);
    this.observer = new ResizeObserver(() => this.#resize());
    this.observer.observe(this.canvas);
    plots.add(this);
  }

  /** Columns that fit: two points of each are drawn. */
  get columns() {
    return Math.min(2000, Math.max(10, Math.round((this.canvas.clientWidth || 600) - 60)));
  }

  /** Shows points `[t_ms, value or null]` in a range of times; a null is a gap. `y` sets a common range of values. */
  update(points, from_ms, to_ms, y = null) {
    this.range = [from_ms, to_ms];
    this.y = y;
    const times = [];
    const values = [];
    for (const [t_ms, v] of points) {
      const last = times.length - 1;
      if (last >= 0 && times[last] === t_ms && values[last] === v) continue;
      times.push(t_ms);
      values.push(v);
    }
    this.data = [times, values];
    if (this.chart) this.chart.setData(this.data);
    else this.#draw();
    this.#read(this.at_ms ?? null);
  }

  /** Says why there is no line; null: nothing to say. */
  say(text) {
    setText(this.note, text ?? "");
  }

  /** Zooms to a range of times; null shows all. */
  setZoom(range) {
    this.zoom = range;
    this.chart?.setData(this.data);
  }

  /** Sets the height of the canvas. */
  setHeight(height) {
    if (this.options.height === height) return;
    this.options.height = height;
    this.canvas.style.height = `${height}px`;
    this.chart?.setSize({ width: this.chart.width, height });
  }

  destroy() {
    plots.delete(this);
    this.observer.disconnect();
    this.chart?.destroy();
    this.node.remove();
  }

  #draw() {
    const width = this.canvas.clientWidth;
    if (!width || this.chart) return;
    const { mini, sync, height, onZoom } = this.options;
    const axis = { stroke: () => color("--text-2"), font: "11px system-ui, sans-serif", ticks: { show: false }, grid: { stroke: () => color("--grid"), width: 1 } };
    this.chart = new uPlot(
      {
        width,
        height,
        ms: 1,
        legend: { show: false },
        padding: [6, PAD_RIGHT, 0, 0],
        cursor: {
          x: true,
          y: false,
          drag: { x: Boolean(onZoom), y: false, setScale: false },
          sync: sync ? { key: sync, setSeries: false } : undefined,
          bind: { dblclick: () => () => onZoom?.(null) },
          points: { size: 7 },
        },
        scales: { x: { time: true, range: () => this.zoom ?? this.range }, y: { range: (_u, low, high) => this.#yRange(low, high) } },
        axes: [
          { ...axis, size: mini ? 18 : 24, gap: 3, space: mini ? 70 : 80, values: (chart, splits) => timeTicks(chart, splits) },
          { ...axis, size: 52, gap: 4, space: mini ? 24 : 30, values: (_u, splits) => splits.map((split) => this.format(split)) },
        ],
        series: [{}, { stroke: () => color("--accent"), width: 1.5, points: { size: 4, fill: () => color("--accent") }, spanGaps: false }],
        hooks: {
          setCursor: [(chart) => this.#read(chart.cursor.left >= 0 ? chart.posToVal(chart.cursor.left, "x") : null)],
          setSelect: [(chart) => this.#select(chart)],
        },
      },
      this.data,
      this.canvas,
    );
  }

  #select(chart) {
    const { left, width } = chart.select;
    if (width < 8) return;
    const range = [chart.posToVal(left, "x"), chart.posToVal(left + width, "x")];
    chart.setSelect({ left: 0, top: 0, width: 0, height: 0 }, false);
    this.options.onZoom?.(range);
  }

  #resize() {
    if (!this.chart) this.#draw();
    else if (this.canvas.clientWidth > 0 && this.canvas.clientWidth !== this.chart.width) {
      this.chart.setSize({ width: this.canvas.clientWidth, height: this.options.height });
    }
  }

  #yRange(low, high) {
    if (this.y) [low, high] = this.y;
    if (low === null || high === null || low === undefined) return [0, 1];
    if (this.options.fromZero) return [0, Math.max(1, high) * (1 + PAD)];
    const room = high > low ? (high - low) * PAD : Math.abs(high) * 0.01 || 1;
    return [low - room, high + room];
  }

  /** Shows the value at a time; null: the last one, and the range of the values. */
  #read(at_ms) {
    this.at_ms = at_ms;
    const [times, values] = this.data;
    const seen = values.filter((v) => v !== null);
    if (seen.length === 0) {
      setText(this.readout, "no values in this time");
      setAttr(this.canvas, "aria-valuenow", 0);
      setAttr(this.canvas, "aria-valuetext", "no values in this time");
      return;
    }
    let text;
    if (at_ms === null) {
      const low = seen.reduce((a, b) => Math.min(a, b));
      const high = seen.reduce((a, b) => Math.max(a, b));
      const last = this.format(seen.at(-1));
      text = this.options.mini ? last : `${last} · ${this.format(low)} to ${this.format(high)}`;
    } else {
      const at = nearest(times, at_ms);
      const gap = values[at] === null || (values[at + 1] === null && at_ms > times[at] && at + 1 < times.length);
      text = gap ? `gap at ${clockSeconds(at_ms)}` : `${this.format(values[at])} at ${clock(times[at])}`;
    }
    setText(this.readout, text);
    const [from, to] = this.zoom ?? this.range;
    setAttr(this.canvas, "aria-valuemin", Math.round(from));
    setAttr(this.canvas, "aria-valuemax", Math.round(to));
    setAttr(this.canvas, "aria-valuenow", Math.round(at_ms ?? to));
    setAttr(this.canvas, "aria-valuetext", text);
  }

  #key(event) {
    const [times] = this.data;
    if (!this.chart || times.length === 0 || event.ctrlKey || event.metaKey || event.altKey) return;
    const [from, to] = this.zoom ?? this.range;
    const first = times.findIndex((t_ms) => t_ms >= from);
    const inView = times.filter((t_ms) => t_ms >= from && t_ms <= to).length;
    if (inView === 0) return;
    const now = this.at_ms === null || this.at_ms === undefined ? first + inView - 1 : nearest(times, this.at_ms);
    const jump = Math.max(1, Math.round(inView / 10));
    const steps = { ArrowLeft: -1, ArrowDown: -1, ArrowRight: 1, ArrowUp: 1, PageDown: -jump, PageUp: jump, Home: -Infinity, End: Infinity };
    if (!Object.hasOwn(steps, event.key)) return;
    event.preventDefault();
    const at = Math.min(first + inView - 1, Math.max(first, now + steps[event.key]));
    this.chart.setCursor({ left: this.chart.valToPos(times[at], "x"), top: 10 });
  }

  #leave() {
    this.chart?.setCursor({ left: -10, top: -10 });
  }
}

function nearest(times, at_ms) {
  let low = 0;
  let high = times.length - 1;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (times[middle] < at_ms) low = middle + 1;
    else high = middle;
  }
  return low > 0 && at_ms - times[low - 1] < times[low] - at_ms ? low - 1 : low;
}

/** Labels of the times; none where it would be cut at the right, or would touch the labels of the values. */
function timeTicks(chart, splits) {
  const fine = splits.some((split) => split % 60_000 !== 0);
  const room = chart.bbox.width / devicePixelRatio + PAD_RIGHT - (fine ? 28 : 18);
  const free = (split) => chart.valToPos(split, "x") > 12 && chart.valToPos(split, "x") < room;
  return splits.map((split) => (!free(split) ? "" : fine ? clockSeconds(split) : clockMinutes(split)));
}

let colors = new Map();

function color(name) {
  if (!colors.has(name)) colors.set(name, getComputedStyle(document.documentElement).getPropertyValue(name).trim());
  return colors.get(name);
}

matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => {
  colors = new Map();
  for (const plot of plots) plot.chart?.redraw(false);
});
