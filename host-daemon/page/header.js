// The head of the page: the daemon, its recording, the connection, pause and help. Start with `Header`.

import { clock, connection, get, onChange, pause, Poll, setPause } from "./api.js";
import { announce, el, setAttr, setText, show } from "./dom.js";
import { bytes, duration, millis } from "./format.js";

/** Fills the head. `onHelp()` is called by the button of the help, `onDaemon(answer)` with each answer about the daemon. */
export class Header {
  constructor(onHelp, onDaemon) {
    this.onDaemon = onDaemon;
    this.host = el("span", { class: "host" });
    this.up = el("span", { class: "fact up" });
    this.recording = el("span", { class: "fact recording" });
    this.link = el("span", { class: "fact link" });
    this.pause = el("button", { type: "button", "aria-pressed": "false", title: "stop and continue all of the page ( p )", on: { click: () => this.togglePause() } }, "Pause");
    this.help = el("button", { type: "button", class: "help-button", "aria-label": "Help", title: "help ( ? )", on: { click: onHelp } }, "?");
    this.logo = el("a", { class: "logo", href: "#/" }, el("img", { src: "/page/icon.svg", alt: "", width: 20, height: 20 }), el("span", { class: "name", text: "blocksd" }), this.host);
    document.querySelector("header").append(
      this.logo,
      el("div", { class: "head-facts" }, this.up, this.recording, el("span", { class: "fact read-only", text: "read-only" })),
      el("div", { class: "head-tools" }, this.link, this.pause, this.help),
    );
    onChange(() => this.#showConnection());
    setInterval(() => this.#showConnection(), 1000);
    this.#showConnection();
    this.poll = new Poll(5000, (signal) => this.#ask(signal)).start();
  }

  togglePause() {
    setPause(!pause.on);
    setAttr(this.pause, "aria-pressed", String(pause.on));
    setText(this.pause, pause.on ? "Continue" : "Pause");
    announce(pause.on ? "paused" : "live again");
  }

  /** Name of the daemon for the title. */
  get name() {
    return this.host.textContent ? `blocksd ${this.host.textContent}` : "blocksd";
  }

  async #ask(signal) {
    const answer = await get("daemon", {}, signal);
    setText(this.host, answer.host ? `@${answer.host}` : "");
    setText(this.up, `up ${duration((clock.now() - millis(answer.started)) / 1000)}`);
    setAttr(this.up, "title", `version ${answer.version}, started ${answer.started}`);
    this.#showRecording(answer.recording);
    this.onDaemon(answer);
  }

  #showRecording(recording) {
    this.recording.className = `fact recording ${recording === null ? "off" : recording.state === "ok" ? "on" : "failing"}`;
    if (recording === null) return setText(this.recording, "not recording");
    const parts = [recording.state === "ok" ? "recording" : "recording is failing"];
    if (recording.sync_ms !== null) parts.push(`sync ${recording.sync_ms} ms`);
    parts.push(recording.room_s !== null && recording.room_s !== undefined ? `room for ${duration(recording.room_s)}` : `${bytes(recording.free_bytes)} free`);
    setText(this.recording, parts.join(", "));
    setAttr(this.recording, "title", `${recording.directory}, ${bytes(recording.free_bytes)} free`);
  }

  #showConnection() {
    const text = linkText();
    if (this.said !== connection.state && connection.state === "lost") announce("connection to the daemon lost, trying again");
    if (this.said === "lost" && connection.state === "ok") announce("connected again");
    this.said = connection.state;
    setText(this.link, text);
    this.link.className = `fact link link-${pause.on ? "paused" : connection.state}`;
    setAttr(this.link, "title", connection.state === "lost" ? connection.reason : null);
    document.body.classList.toggle("stale", connection.state === "lost");
    show(this.pause, connection.state !== "login");
  }
}

function linkText() {
  if (pause.on) return "paused";
  if (connection.state === "ok") return "connected";
  if (connection.state === "login") return "token needed";
  if (connection.state === "connecting") return "connecting…";
  return `connection lost ${duration((performance.now() - connection.since) / 1000)} ago, trying again`;
}
