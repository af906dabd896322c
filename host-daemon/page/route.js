// The address of a view, in the fragment: `#/?filter=…` for the list, `#/device/NAME?plot=…` for a device. Start with `route`.

const DEVICE = "#/device/";

/** The view that the address names: `{ device: NAME or null, query: URLSearchParams }`. */
export function route() {
  const [path, query = ""] = location.hash.split("?", 2);
  return { device: path.startsWith(DEVICE) ? decode(path.slice(DEVICE.length)) : null, query: new URLSearchParams(query) };
}

/** The address of a device. */
export function deviceAddress(name) {
  return DEVICE + encodeURIComponent(name);
}

/** Remembers choices of the present view in its address, without a new entry in the history. */
export function remember(query) {
  const [path] = location.hash.split("?", 2);
  const params = new URLSearchParams();
  for (const [name, value] of Object.entries(query)) {
    for (const item of Array.isArray(value) ? value : [value]) if (item) params.append(name, item);
  }
  const text = params.toString();
  history.replaceState(null, "", (path || "#/") + (text ? `?${text}` : ""));
}

/** Takes a token out of the address, `#token=…`, and removes it there; null without a token. */
export function takeToken() {
  if (!location.hash.startsWith("#token=")) return null;
  const text = decode(location.hash.slice("#token=".length));
  history.replaceState(null, "", "#/");
  return text;
}

function decode(text) {
  try {
    return decodeURIComponent(text);
  } catch {
    return text;
  }
}
