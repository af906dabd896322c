// The table of devices: rows are updated in place, keyed by device. Start with `DeviceTable`.

import { cut, el, Keyed, setAttr, setText, short, visible } from "./dom.js";
import { ago, count, rate } from "./format.js";
import { deviceAddress } from "./route.js";
import { Spark, stateMark } from "./shapes.js";

/** The columns: `sort` is the order of the API that a click on the head asks for. */
const COLUMNS = [
  { name: "State", sort: "worst", direction: "descending", class: "c-state" },
  { name: "Device", sort: "name", direction: "ascending", class: "c-device" },
  { name: "Messages/s", sort: "rate", direction: "descending", class: "c-rate num" },
  { name: "Last minute", class: "c-spark" },
  { name: "Newest values", class: "c-values" },
  { name: "Faults", sort: "faults", direction: "descending", class: "c-faults num" },
  { name: "Last seen", sort: "last", direction: "descending", class: "c-last num" },
  { name: "Last close", class: "c-close" },
];

/** `onSort(sort)` is called when a head is clicked. */
export class DeviceTable {
  constructor(onSort) {
    this.heads = COLUMNS.map((column) => {
      const label = column.sort ? el("button", { type: "button", class: "sort", text: column.name, on: { click: () => onSort(column.sort) } }) : column.name;
      return { column, node: el("th", { scope: "col", class: column.class }, label) };
    });
    this.caption = el("caption", { class: "unseen", text: "Devices" });
    this.body = el("tbody");
    this.rows = new Keyed(this.body, (item) => row(item));
    this.node = el("table", { class: "devices" }, this.caption, el("thead", {}, el("tr", {}, ...this.heads.map((it) => it.node))), this.body);
    this.pointed = false;
    this.body.addEventListener("pointerenter", () => (this.pointed = true));
    this.body.addEventListener("pointerleave", () => (this.pointed = false));
  }

  /** The pointer or the focus is in the rows, so their order must not change. */
  get held() {
    return this.pointed || this.body.contains(document.activeElement);
  }

  /** The names in the order of the rows. */
  get names() {
    return this.rows.order;
  }

  update(devices, now_ms, sort) {
    for (const { column, node } of this.heads) setAttr(node, "aria-sort", column.sort && column.sort === sort ? column.direction : null);
    this.rows.show(devices.map((device) => ({ ...device, now_ms })), (device) => device.device);
  }

  /** Focuses the link of a device, if it has a row; of the first or the next one, if `name` is a number of steps. */
  focus(name) {
    const links = [...this.body.querySelectorAll("a")];
    if (typeof name === "string") return links.find((link) => link.hash === deviceAddress(name))?.focus();
    const at = links.indexOf(document.activeElement?.closest("tr")?.querySelector("a"));
    return links[Math.min(links.length - 1, Math.max(0, at < 0 ? 0 : at + name))]?.focus();
  }
}

function row(first) {
  const mark = stateMark();
  const spark = new Spark();
  const link = el("a", { href: deviceAddress(first.device), text: short(first.device, 44), title: cut(visible(first.device), 300) });
  const cells = Object.fromEntries(["rate", "values", "last", "close"].map((name) => [name, el("td", { class: `c-${name}${name === "rate" || name === "last" ? " num" : ""}` })]));
  const faults = el("span");
  const gaps = el("span", { class: "gaps" });
  const values = new Keyed(cells.values, () => valueNode());
  const faultCell = el("td", { class: "c-faults num" }, faults, gaps);
  const node = el(
    "tr",
    { on: { click: (event) => open(event, link) } },
    el("td", { class: "c-state" }, mark.node),
    el("th", { scope: "row", class: "c-device" }, el("bdi", {}, link)),
    cells.rate,
    el("td", { class: "c-spark" }, spark.node),
    cells.values,
    faultCell,
    cells.last,
    cells.close,
  );
  return {
    node,
    update(device) {
      mark.update(device.state);
      setText(cells.rate, rate(device.messages_per_s));
      if (device.spark) spark.update(device.spark);
      values.show(newest(device), (item) => item.key);
      const kinds = Object.entries(device.faults ?? {}).filter(([, number]) => number > 0);
      const sum = kinds.reduce((total, [, number]) => total + number, 0);
      setText(faults, count(sum));
      setAttr(faultCell, "title", kinds.map(([kind, number]) => `${number} ${kind}`).join(", ") || null);
      setAttr(faultCell, "data-some", sum > 0);
      setText(gaps, device.gaps > 0 ? `${count(device.gaps)} gap${device.gaps === 1 ? "" : "s"}` : "");
      setText(cells.last, ago(device.last_seen, device.now_ms));
      setAttr(cells.last, "title", device.last_seen);
      setText(cells.close, device.last_close ?? "–");
    },
  };
}

/** The newest fields, or the beginning of the newest message. */
function newest(device) {
  const fields = (device.values ?? []).slice(0, 3);
  if (fields.length > 0) return fields.map(([name, text], at) => ({ key: `${at} ${name}`, name, text }));
  return [{ key: "text", name: null, text: device.latest?.text ?? "–" }];
}

function valueNode() {
  const name = el("span", { class: "value-name" });
  const text = el("span", { class: "value-text" });
  const node = el("bdi", { class: "value" }, name, text);
  return {
    node,
    update(item) {
      setText(name, item.name === null ? "" : short(item.name, 20));
      setText(text, cut(visible(item.text), item.name === null ? 80 : 24));
    },
  };
}

function open(event, link) {
  const selected = String(getSelection()) !== "";
  if (event.target.closest("a") || selected || event.button !== 0) return;
  if (event.ctrlKey || event.metaKey) window.open(link.href, "_blank", "noopener");
  else location.hash = link.hash;
}
