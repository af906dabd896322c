// The health of all devices: counts by state, the rate with its history, and faults by kind. Start with `Health`.

import { announce, el, Keyed, setAttr, setText, short, show } from "./dom.js";
import { ago, bytes, clock, count, millis, rate } from "./format.js";
import { Plot } from "./plot.js";
import { deviceAddress } from "./route.js";
import { stateMark, STATES } from "./shapes.js";

const HISTORY_MS = 600_000;
const HISTORY_STEP_MS = 5_000;
const QUIET_MS = 10_000;

/** `onStates(states)` is called with the chosen states after each click. */
export class Health {
  constructor(chosen, onStates) {
    this.chosen = new Set(chosen);
    this.onStates = onStates;
    this.announced = { text: null, at: 0 };
    this.buttons = Object.keys(STATES).map((state) => this.#button(state));
    this.total = el("span", { class: "total" });
    this.rate = el("strong");
    this.bytes = el("span", { class: "figure-side" });
    this.plot = new Plot({ title: "last 10 minutes", label: "Messages a second of all devices", height: 98, mini: true, fromZero: true, format: rate });
    this.faults = el("ul", { class: "faults" });
    this.faultRows = new Keyed(this.faults, () => faultRow());
    this.noFaults = el("p", { class: "quiet", text: "No fault since the daemon started." });
    this.node = el(
      "section",
      { class: "health", "aria-label": "Health of all devices" },
      el("div", { class: "card states" }, el("h2", {}, "Devices ", this.total), el("div", { class: "state-buttons", role: "group", "aria-label": "Show only devices in these states" }, ...this.buttons.map((it) => it.node))),
      el("div", { class: "card rate" }, el("h2", {}, "Rate"), el("p", { class: "figures" }, el("span", { class: "figure" }, this.rate, " messages/s"), this.bytes), this.plot.node),
      el("div", { class: "card by-kind" }, el("h2", { text: "Faults by kind" }), this.faults, this.noFaults),
    );
  }

  update(answer) {
    const now_ms = millis(answer.time);
    setText(this.total, count(answer.total));
    for (const button of this.buttons) button.update(answer.states[button.state] ?? 0);
    setText(this.rate, rate(answer.messages_per_s));
    setText(this.bytes, `${bytes(answer.bytes_per_s)}/s`);
    const history = answer.history ?? [];
    const first_ms = now_ms - (history.length - 1) * HISTORY_STEP_MS;
    this.plot.update(history.map((value, at) => [first_ms + at * HISTORY_STEP_MS, value]), now_ms - HISTORY_MS, now_ms);
    const faults = answer.faults ?? [];
    this.faultRows.show(faults.map((fault) => ({ ...fault, now_ms })), (fault) => fault.fault);
    show(this.noFaults, faults.length === 0);
    this.#announce(answer.states, now_ms);
  }

  /** Chooses no state. */
  clear() {
    this.chosen.clear();
    for (const button of this.buttons) button.press(false);
  }

  stop() {
    this.plot.destroy();
  }

  #button(state) {
    const mark = stateMark();
    mark.update(state);
    const number = el("span", { class: "number", text: "–" });
    const node = el("button", {
      type: "button",
      class: "state-button",
      "aria-pressed": String(this.chosen.has(state)),
      title: STATES[state],
      on: {
        click: () => {
          const on = !this.chosen.has(state);
          if (on) this.chosen.add(state);
          else this.chosen.delete(state);
          setAttr(node, "aria-pressed", String(on));
          this.onStates([...this.chosen]);
        },
      },
    }, number, mark.node);
    return { node, state, update: (value) => setText(number, count(value)), press: (on) => setAttr(node, "aria-pressed", String(on)) };
  }

  #announce(states, now_ms) {
    const text = ["silent", "faulty", "gone"].filter((state) => states[state] > 0).map((state) => `${count(states[state])} ${state}`).join(", ") || "all devices live";
    if (text === this.announced.text || now_ms - this.announced.at < QUIET_MS) return;
    if (this.announced.text !== null) announce(text);
    this.announced = { text, at: now_ms };
  }
}

function faultRow() {
  const kind = el("span", { class: "fault-kind" });
  const number = el("span", { class: "number" });
  const device = el("a", {});
  const when = el("span", { class: "quiet" });
  const node = el("li", {}, number, kind, el("bdi", {}, device), when);
  return {
    node,
    update(fault) {
      setText(number, count(fault.count));
      setText(kind, fault.fault);
      setText(device, short(fault.device ?? "", 24));
      setAttr(device, "href", deviceAddress(fault.device ?? ""));
      const age = ago(fault.time, fault.now_ms);
      setText(when, age === "now" ? "now" : `${age} ago`);
      setAttr(when, "title", `${fault.time} (${clock(millis(fault.time))})`);
    },
  };
}
