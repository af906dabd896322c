// Formats numbers, times and durations for people. Times are in the time zone of the browser.

const whole = new Intl.NumberFormat("en");

/** A count with separators: `1,204`. */
export function count(value) {
  return value === null || value === undefined ? "–" : whole.format(value);
}

/** A rate: few digits, but never 0 for a device that sends. */
export function rate(value) {
  if (value === null || value === undefined) return "–";
  if (value === 0) return "0";
  if (value < 0.01) return "<0.01";
  if (value < 1) return String(Number(value.toFixed(2)));
  if (value < 100) return value.toFixed(1).replace(/\.0$/, "");
  return whole.format(Math.round(value));
}

/** Bytes with a binary unit: `1.2 MiB`. */
export function bytes(value) {
  if (value === null || value === undefined) return "–";
  let size = value;
  for (const unit of ["B", "KiB", "MiB", "GiB", "TiB"]) {
    if (size < 1000 || unit === "TiB") return `${unit === "B" || size >= 100 ? Math.round(size) : size.toFixed(1)} ${unit}`;
    size /= 1024;
  }
  return "–";
}

/** A duration of `seconds`, in one or two units. */
export function duration(seconds) {
  const s = Math.max(0, Math.floor(seconds));
  if (s < 60) return `${s} s`;
  if (s < 3600) return `${Math.floor(s / 60)} min`;
  if (s < 86400) return `${Math.floor(s / 3600)} h ${two(Math.floor((s % 3600) / 60))} min`;
  if (s < 31 * 86400) return `${Math.floor(s / 86400)} d ${Math.floor((s % 86400) / 3600)} h`;
  if (s < 3 * 365 * 86400) return `${count(Math.floor(s / 86400))} days`;
  return `${count(Math.floor(s / (365 * 86400)))} years`;
}

/** Milliseconds since 1970 of an RFC 3339 time with any number of digits. */
export function millis(time) {
  return time ? Date.parse(String(time).replace(/(\.\d{3})\d+/, "$1")) : NaN;
}

/** How long ago a time was, at `now_ms`: `now`, `12 s`, `5 min`. */
export function ago(time, now_ms) {
  const at = millis(time);
  if (!Number.isFinite(at)) return "–";
  const seconds = (now_ms - at) / 1000;
  return seconds < 2 ? "now" : duration(seconds);
}

/** The time of day with milliseconds. */
export function clock(ms) {
  const at = new Date(ms);
  return `${clockSeconds(ms)}.${String(at.getMilliseconds()).padStart(3, "0")}`;
}

/** The time of day with seconds. */
export function clockSeconds(ms) {
  const at = new Date(ms);
  return `${two(at.getHours())}:${two(at.getMinutes())}:${two(at.getSeconds())}`;
}

/** The time of day with minutes. */
export function clockMinutes(ms) {
  const at = new Date(ms);
  return `${two(at.getHours())}:${two(at.getMinutes())}`;
}

/** Date and time of day; only the time of day for a time within the last 20 h. */
export function moment(ms, now_ms) {
  if (!Number.isFinite(ms)) return "–";
  if (Math.abs(now_ms - ms) < 20 * 3600e3) return clockSeconds(ms);
  const at = new Date(ms);
  return `${at.getFullYear()}-${two(at.getMonth() + 1)}-${two(at.getDate())} ${clockMinutes(ms)}`;
}

/** A measured value in at most 7 digits. */
export function value(number) {
  if (number === null || number === undefined) return "–";
  if (Number.isInteger(number) && Math.abs(number) < 1e15) return whole.format(number);
  const size = Math.abs(number);
  if (size >= 1e-4 && size < 1e9) return String(Number(number.toPrecision(7)));
  return number.toPrecision(4).replace(/\.?0+(e|$)/, "$1");
}

function two(number) {
  return String(number).padStart(2, "0");
}
