// The live page of the daemon: chooses the view by the address, and acts on keys.

import { setToken } from "./api.js";
import { el, show } from "./dom.js";
import { DeviceView } from "./device.js";
import { Overview } from "./devices.js";
import { Forwards } from "./forwards.js";
import { Header } from "./header.js";
import { Help } from "./help.js";
import { Login } from "./login.js";
import { deviceAddress, route, takeToken } from "./route.js";

const main = document.querySelector("main");
const frame = el("div", { class: "view" });
const help = new Help();
const forwards = new Forwards();
let view = null;
let shown = null;
let list = "#/";

function open(first = false) {
  const given = takeToken();
  if (given !== null) setToken(given);
  const { device } = route();
  if (!first && view !== null && device === shown) return;
  const from = shown;
  view?.stop();
  if (device === null) {
    view = new Overview((name) => {
      history.replaceState(null, "", deviceAddress(name));
      open();
    });
    if (from !== null) view.focusLater(from);
  } else {
    view = new DeviceView(device);
    view.back.addEventListener("click", (event) => {
      event.preventDefault();
      back();
    });
  }
  shown = device;
  frame.replaceChildren(view.node);
  view.start();
  window.scrollTo(0, 0);
  if (!first && device !== null && from === null) view.heading.focus({ preventScroll: true });
}

function back() {
  location.hash = list;
}

function key(event) {
  if (event.ctrlKey || event.metaKey || event.altKey || event.defaultPrevented || help.node.open) return;
  const typing = event.target.closest("input:not([type=checkbox], [type=radio]), select, textarea");
  if (event.key === "Escape") {
    if (typing) {
      // The browser would empty a filter, which stays in the address.
      event.preventDefault();
      typing.blur();
    } else if (shown !== null && !view.back.hidden) back();
    return;
  }
  if (typing || !help.keys) return;
  const actions = {
    "?": () => help.show(),
    p: () => header.togglePause(),
    "/": () => view.filter?.focus(),
    j: () => view.table?.focus(1),
    k: () => view.table?.focus(-1),
    "]": () => view.turn?.(1),
    "[": () => view.turn?.(-1),
  };
  if (!Object.hasOwn(actions, event.key)) return;
  event.preventDefault();
  actions[event.key]();
}

const login = new Login((asked) => {
  show(frame, !asked);
  if (asked) forwards.update([]);
});
main.append(login.node, forwards.node, frame);
document.body.append(help.node);
const header = new Header(() => help.show(), (answer) => forwards.update(answer.forwards));
open(true);
window.addEventListener("hashchange", (event) => {
  if (shown === null) list = new URL(event.oldURL).hash || "#/";
  open();
});
document.querySelector(".skip").addEventListener("click", (event) => {
  event.preventDefault();
  main.focus();
});
document.addEventListener("keydown", key);
setInterval(() => {
  const title = `${view.title} · ${header.name}`;
  if (document.title !== title) document.title = title;
}, 1000);
