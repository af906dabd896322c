// The view of all devices: health, table, small plots and tail, by the number of devices. Start with `Overview`.

import { ApiError, address, clock, get, Poll } from "./api.js";
import { el, setText, show } from "./dom.js";
import { count } from "./format.js";
import { Health } from "./health.js";
import { Multiples } from "./multiples.js";
import { remember, route } from "./route.js";
import { DeviceTable } from "./table.js";
import { Tail } from "./tail.js";

/** Up to this number of devices, all are looked at together: in the order of names, with small plots and the tail. */
const FEW = 25;
const PAGE = 50;
const ADDRESS_MAX = 6000;

/** `onOnly(name)` is called once if the daemon has only this device. */
export class Overview {
  constructor(onOnly) {
    const { query } = route();
    this.onOnly = onOnly;
    this.total = null;
    this.page = Math.max(0, Number.parseInt(query.get("page") ?? "1", 10) - 1 || 0);
    this.sort = ["name", "worst", "rate", "faults", "last"].find((it) => it === query.get("sort")) ?? null;
    this.shown = { key: null, devices: [], matched: 0 };
    this.title = "devices";
    this.health = new Health(query.getAll("state"), () => this.#asked());
    this.table = new DeviceTable((sort) => {
      this.sort = sort;
      this.#asked();
    });
    this.filter = el("input", { type: "search", id: "filter", placeholder: "filter by name  ( / )", "aria-label": "Filter devices by name", maxlength: 200, autocomplete: "off", spellcheck: "false", on: { input: () => this.#asked(), search: () => this.#asked(), keydown: (event) => this.#leave(event) } });
    this.filter.value = query.get("filter") ?? "";
    this.clear = el("button", { type: "button", hidden: true, text: "Show all devices", on: { click: () => this.#clear() } });
    this.range = el("span", { class: "range" });
    this.previous = el("button", { type: "button", text: "Previous", "aria-label": "Previous page", on: { click: () => this.turn(-1) } });
    this.next = el("button", { type: "button", text: "Next", "aria-label": "Next page", on: { click: () => this.turn(1) } });
    this.pager = el("nav", { class: "pager", "aria-label": "Pages of devices" }, this.previous, this.range, this.next);
    this.hold = el("span", { class: "quiet hold" });
    this.empty = el("div", { class: "empty", hidden: true });
    this.heading = el("h2", { text: "Devices", tabindex: "-1" });
    this.multiples = new Multiples();
    this.aside = el("div", { class: "below" }, this.multiples.node);
    this.list = el("section", { class: "card list" }, el("div", { class: "toolbar" }, this.heading, this.filter, this.clear, this.hold, this.pager), this.table.node, this.empty);
    this.node = el("div", { class: "overview", hidden: true }, el("h1", { class: "unseen", text: "Devices of the daemon" }), this.health.node, this.list, this.aside);
    this.poll = new Poll(1000, (signal) => this.#ask(signal), (error) => this.#failed(error));
  }

  start() {
    this.poll.start();
  }

  stop() {
    this.poll.stop();
    this.health.stop();
    this.multiples.stop();
    this.tail?.stop();
  }

  /** Turns to a later or an earlier page. */
  turn(by) {
    const last = Math.max(0, Math.ceil(this.shown.matched / PAGE) - 1);
    const page = Math.min(last, Math.max(0, this.page + by));
    if (page === this.page) return;
    this.page = page;
    this.#changed();
  }

  /** Focuses the device that was looked at before, as soon as it has a row. */
  focusLater(name) {
    this.wanted = name;
  }

  get #few() {
    return this.total !== null && this.total <= FEW;
  }

  get #sort() {
    return this.sort ?? (this.#few ? "name" : "worst");
  }

  #query() {
    return { filter: this.filter.value.trim(), state: [...this.health.chosen].join(","), sort: this.#sort, offset: this.page * PAGE || undefined, limit: PAGE, detail: true };
  }

  /** Enter and the arrow down lead from the filter to the devices that it has found. */
  #leave(event) {
    if (event.key !== "Enter" && event.key !== "ArrowDown") return;
    event.preventDefault();
    this.table.focus(1);
  }

  /** What the person asks for acts at once, also while the order is held. */
  #asked() {
    this.page = 0;
    this.#changed();
  }

  #changed() {
    remember({ filter: this.filter.value.trim(), state: [...this.health.chosen], sort: this.sort, page: this.page > 0 ? this.page + 1 : null });
    this.poll.now(true);
  }

  #clear() {
    this.filter.value = "";
    this.health.clear();
    this.#asked();
    this.filter.focus();
  }

  async #ask(signal) {
    // Also of an empty list, which has nothing to look at: the first device is shown as soon as it is there.
    if (this.total === null || this.total === 0) {
      const { total, devices } = await get("devices", { limit: 1 }, signal);
      this.total = total;
      if (total === 1) return this.onOnly(devices[0].device);
    }
    const query = this.#query();
    const key = JSON.stringify(query);
    const hold = this.table.held && key === this.shown.key && this.shown.devices.length > 0;
    const names = this.shown.devices.map((device) => device.device);
    const fits = this.shown.matched <= PAGE && query.state === "" && this.page === 0;
    // While the order is held, the same devices are asked for by name, unless their names are too long for an address.
    const byName = { device: names, detail: true, limit: PAGE };
    const named = hold && !fits && address("devices", byName).length < ADDRESS_MAX;
    const answer = await get("devices", named ? byName : query, signal);
    const few = this.#few;
    this.total = answer.total;
    if (few !== this.#few && this.sort === null) return this.poll.now();
    const devices = hold ? held(this.shown.devices, answer.devices, { drop: named || fits, add: fits }) : answer.devices;
    this.shown = { key, devices, matched: named ? this.shown.matched : answer.matched };
    if (devices.length === 0 && this.page > 0 && answer.matched > 0) {
      this.page = Math.ceil(answer.matched / PAGE) - 1;
      return this.#changed();
    }
    this.#show(answer, devices, hold);
  }

  #show(answer, devices, hold) {
    show(this.node, true);
    this.node.className = this.#few ? "overview few" : "overview many";
    this.health.update(answer);
    this.table.update(devices, clock.now(), this.#sort);
    setText(this.table.caption, `Devices, ${count(this.shown.matched)} of ${count(answer.total)}`);
    show(this.table.node, devices.length > 0);
    const first = this.page * PAGE;
    const { matched } = this.shown;
    const part = matched < answer.total ? ` (${count(answer.total)} in all)` : "";
    setText(this.range, devices.length > 0 ? `${count(first + 1)}–${count(first + devices.length)} of ${count(matched)}${part}` : answer.total > 0 ? `0 of ${count(answer.total)}` : "");
    this.previous.disabled = this.page === 0;
    this.next.disabled = first + PAGE >= matched;
    show(this.previous, matched > PAGE || this.page > 0);
    show(this.next, matched > PAGE || this.page > 0);
    setText(this.hold, hold && !this.#few ? "order held while you are in the table" : "");
    show(this.clear, this.filter.value.trim() !== "" || this.health.chosen.size > 0);
    this.#showEmpty(devices.length, answer);
    if (this.#few) this.multiples.update(devices);
    show(this.multiples.node, this.#few && this.multiples.fields.length > 0);
    if (!this.#few) this.multiples.poll.stop();
    if (!this.tail && answer.total > 0) {
      this.tail = new Tail({ folded: !this.#few || matchMedia("(max-width: 600px)").matches });
      this.aside.append(this.tail.node);
    }
    const bad = (answer.states.silent ?? 0) + (answer.states.faulty ?? 0);
    this.title = bad > 0 ? `${count(bad)} need attention` : `${count(answer.total)} devices`;
    if (this.wanted) this.table.focus(this.wanted);
    this.wanted = null;
  }

  #showEmpty(rows, answer) {
    show(this.empty, rows === 0);
    show(this.filter, answer.total > 0);
    if (rows > 0) return;
    const text = answer.total > 0 ? "No device matches." : "No device has connected yet. It appears here within a second after it connects to a listener of the daemon.";
    setText(this.empty, text);
  }

  #failed(error) {
    if (!(error instanceof ApiError) || error.status < 400 || error.status >= 500 || error.status === 401) return;
    show(this.node, true);
    show(this.empty, true);
    setText(this.empty, `The daemon refused the question: ${error.message}`);
  }
}

/** New values of devices in the order that they have. `drop`: a device without an answer is gone; `add`: others follow. */
function held(shown, fresh, { drop, add }) {
  const byName = new Map(fresh.map((device) => [device.device, device]));
  const kept = shown.filter((device) => !drop || byName.has(device.device)).map((device) => byName.get(device.device) ?? device);
  const known = new Set(shown.map((device) => device.device));
  return add ? kept.concat(fresh.filter((device) => !known.has(device.device))) : kept;
}
