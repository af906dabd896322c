// Opens the page in Chromium, on the mock or on a daemon, and fails on errors and violations. Start with `test` and `withPage`.

import assert from "node:assert/strict";
import { mkdirSync, readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { after, describe, test as run } from "node:test";
import { startMock } from "./mock.mjs";

const here = dirname(fileURLToPath(import.meta.url));
const require = createRequire(join(process.env.PAGE_MODULES ?? join(here, "../../target/page-tests"), "package.json"));
const { chromium } = require("playwright-core");
const axe = readFileSync(require.resolve("axe-core/axe.min.js"), "utf8");

/** The address of a daemon in place of the mock, and its token. */
export const REAL = process.env.PAGE_URL ?? null;
const TOKEN = process.env.PAGE_TOKEN ?? null;

/** Options of a test that only the mock can pass. */
export const MOCK_ONLY = { skip: REAL ? "needs the mock" : false };

/** Tests that run at the same time: most of their time is that of timers. */
const CONCURRENCY = 2;

const together = [];
const alone = [];

/** Adds a test: `test(name, body)` or `test(name, options, body)`. One with the option `isAlone` measures, and shares the machine with no other. */
export function test(name, ...rest) {
  const body = rest.pop();
  const { isAlone = false, ...options } = rest[0] ?? {};
  (isAlone ? alone : together).push([name, options, body]);
}

/** Runs all tests. */
export function runTests() {
  const add = (tests) => () => tests.forEach((it) => run(...it));
  describe("the page", { concurrency: CONCURRENCY }, add(together));
  describe("alone", add(alone));
}

let browser = null;

after(async () => {
  await (await browser)?.close();
});

/** The one browser of all tests. */
export function theBrowser() {
  browser ??= chromium.launch({
    executablePath: process.env.PAGE_CHROMIUM ?? "/usr/bin/chromium",
    args: ["--no-sandbox", "--enable-precise-memory-info", "--js-flags=--expose-gc"],
  });
  return browser;
}

/**
 * Runs `body({ page, subject, open })` with a new page; `subject` has `url`, `api(path)` and `mock` (null for a daemon).
 * `options` are those of the mock, and `width`, `height`, `scheme`, `path`.
 */
export async function withPage(options, body) {
  const { width = 1280, height = 900, scheme = "light", path = "", ...rest } = options;
  const mock = REAL ? null : await startMock(rest);
  const subject = { url: REAL ?? mock.url, mock, token: REAL ? TOKEN : rest.token ?? null };
  subject.api = (resource) => api(subject, resource);
  const context = await (await theBrowser()).newContext({ viewport: { width, height }, colorScheme: scheme, acceptDownloads: true });
  const faults = [];
  try {
    const page = await watched(context, faults, subject.token !== null);
    const open = (hash = path) => page.goto(`${subject.url}/${hash}`);
    if (REAL && TOKEN) await page.goto(`${subject.url}/#token=${TOKEN}`);
    else if (!rest.token) await open();
    await body({ page, subject, open, context });
    assert.deepEqual(faults, []);
    assert.deepEqual(mock?.refused ?? [], [], "the page asked for something that the contract does not have");
    for (const it of context.pages()) assert.equal(await it.evaluate(() => window.pwned), undefined, "text of a device ran as code");
  } catch (error) {
    if (faults.length > 0) error.message += `\nfaults of the page: ${JSON.stringify(faults)}`;
    await shot(context.pages()[0], "failed").catch(() => {});
    throw error;
  } finally {
    await context.close();
    await mock?.stop();
  }
}

/** A page of which errors, dialogs and violations of the policy are collected. */
export async function watched(context, faults, mayRefuse = false) {
  const page = await context.newPage();
  page.setDefaultTimeout(60_000);
  page.on("pageerror", (error) => faults.push(`error: ${error.stack}`));
  page.on("dialog", (dialog) => faults.push(`dialog: ${dialog.message()}`) && dialog.dismiss());
  page.on("console", (message) => {
    const text = message.text();
    const expected = (mayRefuse && /\b401\b/.test(text)) || /\b404\b|ERR_CONNECTION_REFUSED|ERR_EMPTY_RESPONSE|ERR_CONNECTION_RESET/.test(text);
    if (message.type() === "error" && !expected) faults.push(`console: ${text}`);
  });
  await page.exposeFunction("reportViolation", (text) => faults.push(`policy: ${text}`));
  await page.addInitScript(() => {
    document.addEventListener("securitypolicyviolation", (event) => window.reportViolation(`${event.violatedDirective} ${event.blockedURI} ${event.sample}`));
  });
  return page;
}

async function api(subject, resource) {
  const headers = subject.token ? { Authorization: `Bearer ${subject.token}` } : {};
  const answer = await fetch(`${subject.url}/api/v1/${resource}`, { headers });
  assert.equal(answer.status, 200, `${resource}: ${answer.status}`);
  return answer.json();
}

/** Fails on every violation that axe finds. */
export async function accessible(page, what) {
  await page.evaluate(axe);
  const found = await page.evaluate(() => window.axe.run(document, { resultTypes: ["violations"] }));
  const texts = found.violations.map((it) => `${it.id}: ${it.help}: ${it.nodes.slice(0, 3).map((node) => `${node.html.slice(0, 160)} ${node.failureSummary}`).join(" | ")}`);
  assert.deepEqual(texts, [], `axe: ${what}`);
}

/** Keeps a screenshot in the folder PAGE_SHOTS, if it is set. */
export async function shot(page, name) {
  if (!process.env.PAGE_SHOTS) return;
  mkdirSync(process.env.PAGE_SHOTS, { recursive: true });
  await page.screenshot({ path: join(process.env.PAGE_SHOTS, `${name}.png`) });
}

/** Waits until `check` returns something true, and returns it. */
export async function until(check, what, limit_ms = 60_000) {
  const end = Date.now() + limit_ms;
  for (;;) {
    const value = await check();
    if (value) return value;
    if (Date.now() > end) assert.fail(`waited in vain: ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
}

/** The names in the rows of the table of devices, in order. */
export function names(page) {
  return page.locator("table.devices tbody th a").allTextContents();
}
