// Builds and updates nodes of the page. Start with `el`; text from devices is set as text, and never parsed as HTML.

const SVG = "http://www.w3.org/2000/svg";

/** A new element. `props`: `class`, `text`, `on` (listeners by event), else attributes; `true` is an empty attribute. */
export function el(tag, props = {}, ...children) {
  return fill(document.createElement(tag), props, children);
}

/** A new SVG element. */
export function svg(tag, props = {}, ...children) {
  return fill(document.createElementNS(SVG, tag), props, children);
}

function fill(node, props, children) {
  for (const [name, value] of Object.entries(props)) {
    if (value === undefined || value === null || value === false) continue;
    if (name === "text") node.textContent = value;
    else if (name === "on") for (const [event, listener] of Object.entries(value)) node.addEventListener(event, listener);
    else node.setAttribute(name, value === true ? "" : value);
  }
  node.append(...children.filter((child) => child !== null && child !== undefined && child !== false));
  return node;
}

/** Sets the text of a node, only if it changes: the layout and a selection stay. */
export function setText(node, text) {
  const value = String(text);
  if (node.textContent !== value) node.textContent = value;
}

/** Sets an attribute, only if it changes; `null` removes it. */
export function setAttr(node, name, value) {
  if (value === null || value === undefined || value === false) node.removeAttribute(name);
  else if (node.getAttribute(name) !== String(value)) node.setAttribute(name, value);
}

/** Shows or hides a node. */
export function show(node, visible) {
  if (node.hidden === visible) node.hidden = !visible;
}

// Controls, format characters (also those that change the direction of text), line and paragraph separators, lone surrogates.
const UNSEEN = /[\p{Cc}\p{Cf}\p{Zl}\p{Zp}\p{Cs}]/gu;

/** The text with characters that cannot be seen as escapes, so a name cannot pretend to be another. */
export function visible(text) {
  return String(text).replace(UNSEEN, (char) => `\\u{${char.codePointAt(0).toString(16)}}`);
}

/** A visible name of at most `max` characters: its beginning and its end. */
export function short(text, max = 64) {
  const chars = Array.from(visible(text));
  if (chars.length <= max) return chars.join("");
  const end = Math.floor(max / 4);
  return `${chars.slice(0, max - end - 1).join("")}…${chars.slice(-end).join("")}`;
}

/** The beginning of a text, with `…` if it was cut. */
export function cut(text, max) {
  const value = String(text);
  return value.length <= max ? value : `${value.slice(0, max)}…`;
}

/** Rows of a parent, one for each key, updated in place. */
export class Keyed {
  /** `make(item)` returns `{ node, update(item) }`. */
  constructor(parent, make) {
    this.parent = parent;
    this.make = make;
    this.rows = new Map();
  }

  /** Updates, adds, removes and orders the rows. `key(item)` names a row. */
  show(items, key) {
    const wanted = new Set();
    let before = null;
    for (const item of items) {
      const name = key(item);
      wanted.add(name);
      let row = this.rows.get(name);
      if (!row) {
        row = this.make(item);
        this.rows.set(name, row);
      }
      row.update(item);
      const place = before ? before.nextSibling : this.parent.firstChild;
      if (place !== row.node) this.parent.insertBefore(row.node, place);
      before = row.node;
    }
    for (const [name, row] of this.rows) {
      if (!wanted.has(name)) {
        row.node.remove();
        this.rows.delete(name);
      }
    }
  }

  /** The keys in their order. */
  get order() {
    const byNode = new Map([...this.rows].map(([name, row]) => [row.node, name]));
    return [...this.parent.children].filter((node) => byNode.has(node)).map((node) => byNode.get(node));
  }
}

/** Announces a change to screen readers: quietly, and not the same text twice in a row. */
export function announce(text) {
  setText(document.getElementById("announcement"), text);
}
