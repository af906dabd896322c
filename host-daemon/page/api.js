// Asks the HTTP API of the daemon. Start with `get`; `Poll` repeats a request, and `connection` says whether the daemon answers.

const IN_FLIGHT_MAX = 4;
const TIMEOUT_MS = 10_000;
const BACK_OFF_MAX_MS = 15_000;
const TOKEN = "blocksd-token";

/** An answer that is not a success; status 0: no answer. */
export class ApiError extends Error {
  constructor(status, message) {
    super(message);
    this.status = status;
  }
}

/** Whether the daemon answers: `connecting`, `ok`, `lost` or `login`; `since` is a time of `performance.now()`. */
export const connection = { state: "connecting", since: 0, reason: "" };

/** The clock of the daemon, from its last answer. */
export const clock = {
  offset_ms: 0,
  now() {
    return Date.now() + this.offset_ms;
  },
};

/** Whether the person has paused the page. */
export const pause = { on: false };

const listeners = new Set();

/** Calls `listener` after each change of `connection` or `pause`. */
export function onChange(listener) {
  listeners.add(listener);
}

/** The token of this tab, or an empty text. */
export function token() {
  return sessionStorage.getItem(TOKEN) ?? "";
}

/** Keeps a token for this tab and asks again. */
export function setToken(text) {
  if (text) sessionStorage.setItem(TOKEN, text);
  else sessionStorage.removeItem(TOKEN);
  if (connection.state === "login") setConnection("connecting", "");
}

/** Stops or continues all polls. */
export function setPause(on) {
  pause.on = on;
  changed();
}

/** The address of a resource with its query; members that are arrays are repeated, empty ones are left out. */
export function address(path, query = {}) {
  const params = new URLSearchParams();
  for (const [name, value] of Object.entries(query)) {
    for (const item of Array.isArray(value) ? value : [value]) {
      if (item !== undefined && item !== null && item !== "") params.append(name, item);
    }
  }
  const text = params.toString();
  return text ? `/api/v1/${path}?${text}` : `/api/v1/${path}`;
}

/** The JSON of a resource. `exact` keeps numbers that a double cannot hold, as `Exact`. */
export async function get(path, query, signal, exact = false) {
  const text = await request(address(path, query), signal, (answer) => answer.text());
  const json = JSON.parse(text, exact ? keepDigits : undefined);
  const time = Date.parse(String(json.time).slice(0, 23) + "Z");
  if (Number.isFinite(time)) clock.offset_ms = time - Date.now();
  return json;
}

/** The content of a resource as a blob, such as a download. */
export function getBlob(path, query) {
  return request(address(path, query), undefined, (answer) => answer.blob());
}

/** A number as it was written, because a double would change its digits. */
export class Exact {
  constructor(text) {
    this.text = text;
  }
}

/** Repeats `work(signal)`, `interval_ms` after its last beginning; not while the page is hidden, paused or without a token. */
export class Poll {
  constructor(interval_ms, work, onError = () => {}) {
    Object.assign(this, { interval_ms, work, onError, failures: 0, busy: false, alive: false, late: false });
  }

  start() {
    this.alive = true;
    polls.add(this);
    this.now(true);
    return this;
  }

  stop() {
    this.alive = false;
    polls.delete(this);
    clearTimeout(this.timer);
    this.control?.abort();
  }

  /** Asks at once; a request on its way is dropped. `once`: also while the page is paused, for what the person has asked for. */
  now(once = false) {
    this.late ||= once;
    clearTimeout(this.timer);
    if (this.busy) this.control.abort();
    else this.tick();
  }

  async tick() {
    if (!this.alive || this.busy || !(mayAsk() || (this.late && !document.hidden && connection.state !== "login"))) return;
    this.busy = true;
    this.late = false;
    this.control = new AbortController();
    const begin = performance.now();
    let wait_ms = 0;
    try {
      await this.work(this.control.signal);
      this.failures = 0;
      wait_ms = Math.max(20, this.interval_ms - (performance.now() - begin));
    } catch (error) {
      if (!this.control.signal.aborted) {
        this.failures += 1;
        wait_ms = Math.min(this.interval_ms * 2 ** (this.failures - 1), BACK_OFF_MAX_MS);
        if (error instanceof ApiError) this.onError(error);
        else reportError(error);
      }
    }
    this.busy = false;
    if (this.control.signal.aborted) wait_ms = 0;
    if (this.alive) this.timer = setTimeout(() => this.tick(), wait_ms);
  }
}

const polls = new Set();
let running = 0;
const waiting = [];

function mayAsk() {
  return !document.hidden && !pause.on && connection.state !== "login";
}

function changed() {
  for (const listener of listeners) listener();
  if (mayAsk()) for (const poll of polls) if (!poll.busy) poll.now();
}

function setConnection(state, reason) {
  if (connection.state === state && connection.reason === reason) return;
  if (connection.state !== state) connection.since = performance.now();
  Object.assign(connection, { state, reason });
  if (state === "ok" || state === "connecting") changed();
  else for (const listener of listeners) listener();
}

async function request(url, signal, read) {
  await slot();
  try {
    const limit = AbortSignal.timeout(TIMEOUT_MS);
    const used = token();
    const headers = used ? { Authorization: `Bearer ${used}` } : {};
    const both = signal ? AbortSignal.any([signal, limit]) : limit;
    const answer = await fetch(url, { headers, signal: both, cache: "no-store", credentials: "omit" });
    if (answer.status === 401) {
      // The answer to a request from before the person gave another token does not count.
      if (used === token()) setConnection("login", used ? "The daemon did not accept the token." : "");
      throw new ApiError(401, "a token is required");
    }
    if (answer.status >= 500) throw new ApiError(answer.status, `the daemon answers with status ${answer.status}`);
    if (!answer.ok) {
      setConnection("ok", "");
      throw new ApiError(answer.status, (await answer.text()).trim() || `status ${answer.status}`);
    }
    const content = await read(answer);
    setConnection("ok", "");
    return content;
  } catch (error) {
    if (signal?.aborted) throw error;
    const known = error instanceof ApiError ? error : new ApiError(0, error.name === "TimeoutError" ? "no answer within 10 s" : "no answer");
    if (known.status === 0 || known.status >= 500) setConnection("lost", known.message);
    throw known;
  } finally {
    const next = waiting.shift();
    if (next) next();
    else running -= 1;
  }
}

async function slot() {
  if (running < IN_FLIGHT_MAX) running += 1;
  else await new Promise((resolve) => waiting.push(resolve));
}

function keepDigits(_key, value, context) {
  return typeof value === "number" && context && context.source !== String(value) ? new Exact(context.source) : value;
}

document.addEventListener("visibilitychange", changed);
