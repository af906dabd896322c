// The login box: asks for the token if the daemon wants one, and keeps it for this tab. Start with `Login`.

import { connection, onChange, setToken } from "./api.js";
import { el, setText, show } from "./dom.js";

/** A form in place of the view. `onShow(shown)` is called when it appears or goes. */
export class Login {
  constructor(onShow) {
    this.error = el("p", { class: "error", role: "alert" });
    this.input = el("input", { type: "password", id: "token", name: "token", autocomplete: "current-password", maxlength: 1024, required: true });
    this.form = el(
      "form",
      { class: "card login", on: { submit: (event) => this.#submit(event) } },
      el("h1", { text: "Token of the daemon" }),
      el("p", {}, "This daemon answers only with a token: the content of the file that its option ", el("code", { text: "--http-token" }), " names."),
      el("label", { for: "token", text: "Token" }),
      this.input,
      this.error,
      el("button", { type: "submit", class: "primary", text: "Show the devices" }),
      el("p", { class: "quiet", text: "It is kept in this tab until the tab is closed." }),
    );
    this.node = el("div", { class: "login-frame", hidden: true }, this.form);
    onChange(() => {
      const asked = connection.state === "login";
      if (asked) setText(this.error, connection.reason);
      if (asked === this.node.hidden) {
        if (connection.state === "connecting") return;
        show(this.node, asked);
        onShow(asked);
        if (asked) this.input.focus();
      }
      if (asked && connection.reason) this.input.select();
    });
  }

  #submit(event) {
    event.preventDefault();
    const text = this.input.value.trim();
    if (!/^[\x21-\x7e]+$/.test(text)) return setText(this.error, "A token has visible ASCII characters only, without spaces.");
    setText(this.error, "");
    setToken(text);
  }
}
