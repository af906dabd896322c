// Draws states and short histories as SVG. Start with `stateMark` and `Spark`.

import { el, setAttr, setText, svg } from "./dom.js";

/** The states in the order of attention, with what each means. */
export const STATES = {
  silent: "connected, but has sent nothing for three times its usual interval",
  faulty: "had a fault within the last minute",
  gone: "has no connection",
  live: "connected and sending",
};

/** The states of clusters, each with the state of devices that it looks like. */
const LIKE = { up: "live", down: "faulty" };

/** A state as a shape and a word: `{ node, update(state) }`. */
export function stateMark() {
  const icon = svg("svg", { class: "shape", viewBox: "0 0 12 12", "aria-hidden": "true" });
  const word = el("span");
  const node = el("span", { class: "state" }, icon, word);
  let drawn = null;
  return {
    node,
    update(state) {
      if (state === drawn) return;
      drawn = state;
      const like = Object.hasOwn(LIKE, state) ? LIKE[state] : state;
      node.className = `state state-${Object.hasOwn(STATES, like) ? like : "other"}`;
      icon.replaceChildren(...shape(like));
      setText(word, state);
    },
  };
}

function shape(state) {
  if (state === "live") return [svg("circle", { cx: 6, cy: 6, r: 5, fill: "currentColor" })];
  if (state === "faulty") return [svg("path", { d: "M6 0.5 11.7 11H0.3Z", fill: "currentColor" })];
  const ring = svg("circle", { cx: 6, cy: 6, r: 4.2, fill: "none", stroke: "currentColor", "stroke-width": 1.6 });
  if (state === "silent") return [ring, svg("path", { d: "M6 1.8A4.2 4.2 0 0 0 6 10.2Z", fill: "currentColor" })];
  return [ring];
}

/** Counts in a row of equal times, oldest first, as a filled line. */
export class Spark {
  constructor(width = 120, height = 22) {
    this.width = width;
    this.height = height;
    this.area = svg("path", { class: "spark-area" });
    this.line = svg("path", { class: "spark-line" });
    this.node = svg(
      "svg",
      { class: "spark", viewBox: `0 0 ${width} ${height}`, preserveAspectRatio: "none", "aria-hidden": "true" },
      this.area,
      this.line,
    );
  }

  update(values) {
    const most = Math.max(1, ...values);
    const step = this.width / Math.max(1, values.length - 1);
    const points = values.map((value, at) => {
      const y = this.height - 1.5 - (value / most) * (this.height - 3);
      return `${(at * step).toFixed(1)} ${y.toFixed(1)}`;
    });
    const path = points.length > 1 ? `M${points.join("L")}` : "";
    setAttr(this.line, "d", path || "M0 0");
    setAttr(this.area, "d", path ? `${path}V${this.height}H0Z` : "M0 0");
  }
}
