// Tests of bounds: polls stop and back off, requests in flight, tabs; and the figures of frames and memory, printed.

import assert from "node:assert/strict";
import { MOCK_ONLY, names, REAL, test, until, watched, withPage } from "./harness.mjs";

test("pause stops all requests, and a click still acts", MOCK_ONLY, async () => {
  await withPage({ devices: 1000 }, async ({ page, subject }) => {
    await until(async () => (await names(page)).length === 50, "rows");
    await page.getByRole("button", { name: "Pause", exact: true }).click();
    await page.getByText("paused", { exact: true }).first().waitFor();
    await page.waitForTimeout(500);
    const asked = subject.mock.requests;
    await page.waitForTimeout(2000);
    assert.equal(subject.mock.requests, asked);
    await page.getByRole("button", { name: /silent$/ }).click();
    await until(async () => (await names(page)).length === 9, "the filter acts while paused");
    await page.getByRole("button", { name: "Continue", exact: true }).click();
    await until(() => subject.mock.requests > asked + 3, "requests again");
  });
});

test("a hidden page asks nothing", MOCK_ONLY, async () => {
  await withPage({ devices: 10 }, async ({ page, subject }) => {
    await until(async () => (await names(page)).length === 10, "rows");
    const hide = (hidden) => page.evaluate((value) => {
      Object.defineProperty(document, "hidden", { value, configurable: true });
      document.dispatchEvent(new Event("visibilitychange"));
    }, hidden);
    await hide(true);
    await page.waitForTimeout(500);
    const asked = subject.mock.requests;
    await page.waitForTimeout(2000);
    assert.equal(subject.mock.requests, asked);
    await hide(false);
    await until(() => subject.mock.requests > asked + 3, "requests again");
  });
});

test("a lost connection is said, tried again ever less often, and found again", MOCK_ONLY, async () => {
  await withPage({ devices: 10 }, async ({ page, subject }) => {
    await until(async () => (await names(page)).length === 10, "rows");
    subject.mock.down = true;
    await page.getByText(/connection lost \d+ s ago, trying again/).waitFor();
    assert.equal((await names(page)).length, 10, "the last state stays");
    const asked = subject.mock.requests;
    await page.waitForTimeout(4000);
    assert.ok(subject.mock.requests - asked < 40, `${subject.mock.requests - asked} requests in 4 s`);
    subject.mock.down = false;
    await page.getByText("connected", { exact: true }).waitFor();
    await until(() => page.locator("#announcement").evaluate((node) => node.textContent === "connected again"), "it is announced");
  });
});

test("at most four requests are in flight", MOCK_ONLY, async () => {
  await withPage({ devices: 10, delay_ms: 150 }, async ({ page, subject }) => {
    await until(async () => (await page.locator(".multiples canvas").count()) > 4, "small plots");
    subject.mock.openMax = 0;
    await page.waitForTimeout(3000);
    assert.ok(subject.mock.openMax <= 4 && subject.mock.openMax > 1, `${subject.mock.openMax} in flight`);
  });
});

test("seven tabs load", async () => {
  await withPage({ devices: 10 }, async ({ page, subject, context }) => {
    await page.locator("table.devices, .device-head").first().waitFor();
    const faults = [];
    for (let tab = 2; tab <= 7; tab += 1) {
      const other = await watched(context, faults);
      await other.goto(`${subject.url}/${REAL && subject.token ? `#token=${subject.token}` : ""}`);
      await other.locator("table.devices tbody tr, .device-head h1").first().waitFor();
      await until(() => other.locator(".value, .line").count(), `data in tab ${tab}`);
    }
    assert.deepEqual(faults, []);
  });
});

test("figures: frames and memory", { timeout: 120_000, isAlone: true }, async () => {
  const cases = REAL ? [["the daemon", {}]] : [["list of 1,000 devices, tail open", { devices: 1000 }], ["one device", { devices: 1 }]];
  for (const [what, options] of cases) {
    await withPage(options, async ({ page, subject, context }) => {
      const fold = page.getByRole("button", { name: /^Tail/ });
      await fold.waitFor();
      if ((await fold.getAttribute("aria-expanded")) === "false") await fold.click();
      await page.waitForTimeout(2000);
      const asked = subject.mock?.requests ?? 0;
      const session = await context.newCDPSession(page);
      await session.send("Performance.enable");
      const metrics = async () => Object.fromEntries((await session.send("Performance.getMetrics")).metrics.map((it) => [it.name, it.value]));
      const before = await metrics();
      const gaps = await page.evaluate(() => new Promise((resolve) => {
        const all = [];
        const end = performance.now() + 10_000;
        let last = performance.now();
        const frame = (now) => {
          all.push(now - last);
          last = now;
          if (now < end) requestAnimationFrame(frame);
          else resolve(all.slice(1).sort((a, b) => a - b));
        };
        requestAnimationFrame(frame);
      }));
      const later = await metrics();
      const heap = await page.evaluate(() => {
        window.gc?.();
        return performance.memory.usedJSHeapSize;
      });
      const nodes = await page.evaluate(() => document.querySelectorAll("*").length);
      const at = (part) => gaps[Math.floor((gaps.length - 1) * part)].toFixed(1);
      console.log(`${what}: frames: median ${at(0.5)} ms, 99 % ${at(0.99)} ms, longest ${at(1)} ms; JS heap ${(later.JSHeapUsedSize / 1e6).toFixed(1)} MB, ${(heap / 1e6).toFixed(1)} MB collected; ${nodes} elements; tasks ${((later.TaskDuration - before.TaskDuration) * 100).toFixed(0)} ms/s; ${subject.mock ? ((subject.mock.requests - asked) / 10).toFixed(1) : "?"} requests/s`);
      assert.ok(nodes < 6000, `${nodes} elements`);
      assert.ok(heap < 100e6, `${heap} bytes`);
    });
  }
});
