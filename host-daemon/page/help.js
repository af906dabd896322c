// The help: keys, states, columns and faults. Start with `Help`; it also says whether single keys are on.

import { el } from "./dom.js";
import { STATES, stateMark } from "./shapes.js";

const KEYS = [
  ["/", "focus the filter"],
  ["j, k", "next, previous device in the table"],
  ["Enter", "open the device"],
  ["[, ]", "previous, next page"],
  ["Esc", "leave the filter; from a device back to the list"],
  ["p", "pause and continue"],
  ["← →", "in a plot: move the cursor; also Home, End, Page Up, Page Down"],
  ["?", "this help"],
];
const COLUMNS = [
  ["Messages/s", "an average in which the last five seconds weigh most"],
  ["Last minute", "messages in each of the last 60 seconds; each line has its own scale"],
  ["Newest values", "the first fields of the newest message, or its beginning"],
  ["Faults", "messages that were refused or damaged, since the daemon started; gaps: messages of a session that never came"],
  ["Last seen", "when it last connected or sent a byte"],
  ["Last close", "why its last closed connection was closed"],
];
const FAULTS = [
  ["too_long", "a message is longer than --max-block"],
  ["bad_length", "the length of a message is not a valid length"],
  ["bad_ending", "a message does not end where its framing requires"],
  ["bad_checksum", "the checksum of a message does not match"],
  ["truncated", "the connection ended within a message"],
  ["reset", "the connection was reset between two messages"],
  ["undecodable", "a payload is not what --decode expects; the message is kept"],
];
const WORDS = [
  ["not shown", "received and counted, also recorded if there is a recording, but not copied for this page"],
  ["lost", "overwritten in the memory of the daemon before this page asked; a recording still has them"],
  ["plot", "each column of a plot has its minimum and its maximum, with their own times; a break in the line is a gap"],
];
const SETTING = "blocksd-single-keys";

/** The dialog. */
export class Help {
  constructor() {
    this.switch = el("input", { type: "checkbox", checked: this.keys, on: { change: () => localStorage.setItem(SETTING, this.switch.checked ? "on" : "off") } });
    this.close = el("button", { type: "button", text: "Close", on: { click: () => this.node.close() } });
    this.node = el(
      "dialog",
      { class: "help", "aria-labelledby": "help-title", on: { click: (event) => event.target === this.node && this.node.close() } },
      el(
        "div",
        { class: "help-body" },
        el("div", { class: "toolbar" }, el("h2", { id: "help-title", text: "Help" }), this.close),
        el("div", { class: "help-columns" },
          part("Keys", KEYS, (key) => el("span", {}, ...key.split(", ").map((it) => el("kbd", { text: it })))),
          part("States", Object.entries(STATES), (state) => {
            const mark = stateMark();
            mark.update(state);
            return mark.node;
          }),
          part("Columns", COLUMNS),
          part("Faults", FAULTS, (name) => el("code", { text: name })),
          part("Words", WORDS),
        ),
        el("label", { class: "field" }, this.switch, el("span", { text: "single keys act (off: only Esc, and keys in a plot)" })),
        el("p", { class: "quiet", text: "The order of the table is held while the pointer or the focus is in its rows. Times are those of this browser's time zone. In a plot, drag to look closer, and click twice to go back." }),
        el("p", { class: "quiet" }, "Plots are drawn by uPlot 1.6.32 (", el("a", { href: "/page/uPlot.LICENSE", target: "_blank", text: "MIT licence" }), ")."),
      ),
    );
  }

  /** Whether single keys act. */
  get keys() {
    return localStorage.getItem(SETTING) !== "off";
  }

  show() {
    if (!this.node.open) this.node.showModal();
    this.close.focus();
  }
}

function part(title, rows, name = (text) => el("span", { text })) {
  return el("section", {}, el("h3", { text: title }), el("dl", {}, ...rows.map(([term, text]) => el("div", {}, el("dt", {}, name(term)), el("dd", { text })))));
}
