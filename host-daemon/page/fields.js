// The fields of a device: last value, minimum, maximum, and a checkbox for a plot. Start with `Fields`.

import { cut, el, Keyed, setAttr, setText, short, show, visible } from "./dom.js";
import { count, value } from "./format.js";

/** Highest number of plots at once: the API takes this number of fields. */
export const PLOTS_MAX = 8;
const FILTER_FROM = 15;

/** `onPlot(field, on)` is called when a checkbox changes. */
export class Fields {
  constructor(onPlot) {
    this.onPlot = onPlot;
    this.body = el("tbody");
    this.rows = new Keyed(this.body, (item) => this.#row(item));
    this.filter = el("input", { type: "search", placeholder: "filter fields", "aria-label": "Filter fields by name", hidden: true, autocomplete: "off", spellcheck: "false", on: { input: () => this.#draw() } });
    this.note = el("p", { class: "quiet" });
    this.table = el(
      "table",
      { class: "fields" },
      el("caption", { class: "unseen", text: "Fields of the messages of this device" }),
      el("thead", {}, el("tr", {}, ...["Plot", "Field", "Last", "Min", "Max"].map((name, at) => el("th", { scope: "col", class: at > 1 ? "num" : null, text: name })))),
      this.body,
    );
    this.frame = el("div", { class: "fields-frame", tabindex: "0", role: "region", "aria-label": "Fields" }, this.table);
    this.node = el("section", { class: "card fields-card" }, el("div", { class: "toolbar" }, el("h2", { text: "Fields" }), this.filter), this.frame, this.note);
  }

  /** Shows the fields; `plotted` are the names with a plot, `since` is null or a time. */
  update(answer, plotted, since) {
    Object.assign(this, { answer, plotted });
    this.note.title = answer.since ?? "";
    const more = answer.fields_more > 0 ? `${count(answer.fields_more)} more fields not shown. ` : "";
    const full = plotted.length >= PLOTS_MAX ? `At most ${PLOTS_MAX} plots. ` : "";
    setText(this.note, answer.fields.length > 0 ? `${more}${full}${since ? `Min and max since ${since}.` : ""}` : noFields(answer.encoding));
    show(this.frame, answer.fields.length > 0);
    show(this.filter, answer.fields.length >= FILTER_FROM);
    this.#draw();
  }

  #draw() {
    const wanted = this.filter.value.trim().toLowerCase();
    this.rows.show(this.answer.fields.filter((it) => it.field.toLowerCase().includes(wanted)), (it) => it.field);
  }

  #row(first) {
    const box = el("input", { type: "checkbox", "aria-label": `Plot ${short(first.field)}`, on: { change: () => this.onPlot(first.field, box.checked) } });
    const cells = ["last", "low", "high"].map((name) => el("td", { class: `num f-${name}` }));
    const node = el("tr", {}, el("td", { class: "f-plot" }, box), el("th", { scope: "row" }, el("bdi", { text: short(first.field, 40), title: cut(visible(first.field), 300) })), ...cells);
    return {
      node,
      update: (item) => {
        const on = this.plotted.includes(item.field);
        if (box.checked !== on) box.checked = on;
        box.disabled = !on && (!item.numeric || this.plotted.length >= PLOTS_MAX);
        setAttr(box, "title", item.numeric ? null : "not numeric");
        setText(cells[0], cut(visible(item.last ?? "–"), 40));
        setAttr(cells[0], "title", String(item.last ?? "").length > 20 ? cut(visible(item.last), 300) : null);
        setText(cells[1], item.numeric ? value(item.min) : "text");
        setText(cells[2], item.numeric ? value(item.max) : "");
      },
    };
  }
}

function noFields(encoding) {
  if (encoding === "defmt") return "This device sends a log: it is in the tail.";
  if (encoding === "raw" || encoding === "text") return `The messages are ${encoding === "raw" ? "bytes" : "text"} without fields. The option --decode of the daemon names another encoding.`;
  return "No field yet.";
}
