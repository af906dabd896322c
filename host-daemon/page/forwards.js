// The clusters that the recording is forwarded to: state, rate and backlog of each. Start with `Forwards`.

import { announce, el, Keyed, setAttr, setText, show, visible } from "./dom.js";
import { bytes, duration, rate } from "./format.js";
import { stateMark } from "./shapes.js";

/** A strip above all views. It is hidden if there is no cluster. */
export class Forwards {
  constructor() {
    this.rows = el("ul");
    this.keyed = new Keyed(this.rows, () => row());
    this.node = el("section", { class: "card forwards", "aria-label": "Forwarding", hidden: true }, el("h2", { text: "Forwarding" }), this.rows);
    this.states = new Map();
  }

  /** Shows the clusters of an answer; a daemon of an earlier version has none. */
  update(clusters = []) {
    show(this.node, clusters.length > 0);
    this.keyed.show(clusters.map((cluster, at) => ({ ...cluster, at })), (cluster) => cluster.at);
    for (const { to, stream, state } of clusters) {
      const name = `${to} ${stream}`;
      const former = this.states.get(name);
      if (former !== undefined && former !== state) announce(`forwarding to ${visible(to)} is ${state}`);
      this.states.set(name, state);
    }
  }
}

function row() {
  const mark = stateMark();
  const to = el("bdi", { class: "forward-to" });
  const stream = el("span", { class: "quiet" });
  const figures = el("span", { class: "forward-rate" });
  const backlog = el("span", { class: "forward-backlog" });
  const problem = el("p", { class: "forward-problem" });
  const node = el("li", {}, mark.node, to, stream, figures, backlog, problem);
  return {
    node,
    update(cluster) {
      mark.update(cluster.state);
      // It breaks after each server.
      setText(to, visible(cluster.to).replaceAll(",", ", "));
      setText(stream, `stream ${visible(cluster.stream)}`);
      setText(figures, `${rate(cluster.messages_per_s)} messages/s`);
      setText(backlog, waiting(cluster));
      setAttr(node, "class", cluster.problem === null ? null : "down");
      setText(problem, visible(cluster.problem ?? ""));
      show(problem, cluster.problem !== null);
    },
  };
}

function waiting({ backlog_bytes, backlog_s }) {
  if (backlog_bytes === 0) return "nothing waits";
  return backlog_s ? `${bytes(backlog_bytes)} wait, the oldest for ${duration(backlog_s)}` : `${bytes(backlog_bytes)} wait`;
}
