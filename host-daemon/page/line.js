// Turns an entry of the tail into text: as it is, as fields, or as hexadecimal. Start with `lineOf`.

import { Exact } from "./api.js";
import { cut, visible } from "./dom.js";

const CHARS_MAX = 2000;

/** The text of an entry in a mode: `text`, `fields` or `hex`; with its level if it is a line of a log. */
export function lineOf(entry, mode) {
  const body = bodyOf(entry, mode);
  return { level: level(entry), text: cut(mode === "hex" && entry.hex !== undefined ? body : visible(body), CHARS_MAX) };
}

/** JSON without spaces, with every digit. */
export function compact(value) {
  if (value instanceof Exact) return value.text;
  if (Array.isArray(value)) return `[${value.map(compact).join(",")}]`;
  if (value !== null && typeof value === "object") {
    return `{${Object.entries(value).map(([name, item]) => `${JSON.stringify(name)}:${compact(item)}`).join(",")}}`;
  }
  return JSON.stringify(value);
}

function bodyOf(entry, mode) {
  if (entry.event !== "block" && entry.event !== "piece") return eventText(entry);
  const part = entry.event === "piece" ? `[piece at ${text(entry.offset)}${entry.truncated ? ", truncated" : ""}] ` : "";
  if (mode === "hex" && entry.hex !== undefined) return part + hexText(entry);
  if (entry.message !== undefined) return `${part}${entry.timestamp ? `${entry.timestamp} ` : ""}${entry.message}${entry.location ? ` (${entry.location})` : ""}`;
  if (entry.build !== undefined) return `${part}build ${entry.build}${entry.known === false ? ", not known to the daemon" : ""}`;
  if (entry.value !== undefined) return part + (mode === "fields" ? fields(entry.value) : compact(entry.value));
  if (entry.text !== undefined) return part + entry.text + (entry.cut ? " … (cut)" : "");
  if (entry.base64 !== undefined) return `${part}base64 ${entry.base64}${entry.cut ? " … (cut)" : ""}`;
  return `${part}${text(entry.len)} B`;
}

function fields(value, path = "") {
  if (value === null || typeof value !== "object" || value instanceof Exact) return path ? `${path}=${plain(value)}` : plain(value);
  const parts = Object.entries(value).map(([name, item]) => {
    const inner = Array.isArray(value) ? `${path}[${name}]` : path ? `${path}.${name}` : name;
    return fields(item, inner);
  });
  return parts.length > 0 ? parts.join("  ") : `${path ? `${path}=` : ""}${Array.isArray(value) ? "[]" : "{}"}`;
}

function plain(value) {
  return typeof value === "string" && /^[^\s"=]+$/.test(value) ? value : compact(value);
}

function hexText(entry) {
  const pairs = entry.hex.match(/../g) ?? [];
  const chars = pairs.map((pair) => {
    const byte = Number.parseInt(pair, 16);
    return byte >= 0x20 && byte < 0x7f ? String.fromCharCode(byte) : "·";
  });
  const groups = entry.hex.replace(/(.{4})(?=.)/g, "$1 ");
  const more = entry.hex_more ? `  and ${entry.hex_more} bytes more` : "";
  return `${groups}  |${chars.join("")}|${more}`;
}

const SHOWN_APART = new Set(["id", "event", "conn", "device", "time"]);

/** An event or a fault: its kind, then its members. */
function eventText(entry) {
  const rest = Object.entries(entry).filter(([name]) => !SHOWN_APART.has(name) && !(entry.event === "fault" && name === "fault"));
  const members = rest.map(([name, value]) => `${name}=${plain(value)}`).join("  ");
  const kind = entry.event === "fault" ? text(entry.fault) : text(entry.event);
  return members ? `${kind}  ${members}` : kind;
}

function level(entry) {
  return typeof entry.level === "string" ? entry.level : entry.event === "fault" ? "fault" : null;
}

function text(value) {
  return value instanceof Exact ? value.text : String(value ?? "");
}
