// Tests of the view of a device: plots, fields, cursor, pause, history, CSV.

import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";
import { MOCK_ONLY, shot, test, until, withPage } from "./harness.mjs";

/** The address of the first device that has numeric fields. */
export async function numericDevice(subject) {
  const { devices } = await subject.api("devices?detail=true&limit=50");
  for (const { device, state } of devices) {
    if (state !== "live") continue;
    const { fields } = await subject.api(`device?device=${encodeURIComponent(device)}`);
    if (fields.filter((field) => field.numeric).length >= 3) return { name: device, hash: `#/device/${encodeURIComponent(device)}`, fields };
  }
  return assert.fail("no device has three numeric fields");
}

/** `window.charts()` are the plots of the view of a device that are made from now on. */
async function collectCharts(page) {
  await page.evaluate(() => {
    const charts = [];
    window.charts = () => charts.filter((chart) => chart.root.closest(".stack"));
    window.uPlot = new Proxy(window.uPlot, {
      construct(target, args) {
        args[0].hooks.draw = [(chart) => (chart.drawn = (chart.drawn ?? 0) + 1)];
        const chart = new target(...args);
        charts.push(chart);
        return chart;
      },
    });
  });
}

const readout = (page, at) => page.locator(".stack .readout").nth(at).textContent();

test("one device is shown at once: two plots without a click, fields and tail", MOCK_ONLY, async () => {
  await withPage({ devices: 1, height: 900, width: 1440 }, async ({ page }) => {
    await page.getByRole("heading", { level: 1, name: "boiler" }).waitFor();
    await until(async () => (await page.locator(".stack canvas").count()) === 2, "two plots");
    assert.equal(await page.locator("table.devices").count(), 0);
    assert.equal(await page.getByRole("link", { name: /All devices/ }).count(), 0, "there is no list to go to");
    await page.getByText("recording, sync 0.8 ms, room for 31 days").waitFor();
    await page.getByText("history: from the recording").waitFor();
    await page.getByText("@plant-7").waitFor();
    const temp = page.locator("table.fields tr").filter({ hasText: "temp" });
    for (const cell of await temp.locator("td.num").allTextContents()) assert.match(cell, /^\d+(\.\d+)?$/);
    await until(async () => (await page.locator(".tail .line").count()) > 10, "lines");
    await until(async () => /KiB/.test(await page.locator(".figures-list").textContent()), "bytes a second");
    await page.waitForTimeout(1200);
    await shot(page, "one");
  });
});

test("fields are plotted and removed by their boxes, and stay after a reload", async () => {
  await withPage({ devices: 10 }, async ({ page, subject, open }) => {
    const device = await numericDevice(subject);
    await open(device.hash);
    const numeric = device.fields.filter((field) => field.numeric).map((field) => field.field);
    await until(async () => (await page.locator(".stack canvas").count()) === 2, "the first two");
    assert.deepEqual(await page.locator(".stack .plot-title").allTextContents(), numeric.slice(0, 2));
    await page.getByRole("checkbox", { name: `Plot ${numeric[2]}`, exact: true }).check();
    await until(async () => (await page.locator(".stack canvas").count()) === 3, "a third");
    await page.getByRole("checkbox", { name: `Plot ${numeric[0]}`, exact: true }).uncheck();
    await until(async () => (await page.locator(".stack canvas").count()) === 2, "one less");
    await page.reload();
    await until(async () => (await page.locator(".stack .plot-title").allTextContents()).join() === numeric.slice(1, 3).join(), "the same plots");
    for (const text of device.fields.filter((field) => !field.numeric).slice(0, 1)) {
      await page.getByRole("checkbox", { name: `Plot ${text.field}`, exact: true }).and(page.locator(":disabled")).waitFor();
    }
    await until(async () => /\d/.test(await readout(page, 0)), "values");
  });
});

test("the range of a plot is that of its values, and its time follows the clock", async () => {
  await withPage({ devices: 10 }, async ({ page, subject, open }) => {
    const device = await numericDevice(subject);
    await open(device.hash);
    const slider = page.getByRole("slider").first();
    await until(async () => Number(await slider.getAttribute("aria-valuemax")) > 1e12, "a range of times");
    const end = Number(await slider.getAttribute("aria-valuemax"));
    assert.ok(Math.abs(end - Date.now()) < 10_000, "it ends now");
    await until(async () => Number(await slider.getAttribute("aria-valuemax")) > end + 1500, "it goes on");
    await page.getByRole("radio", { name: "10 m" }).check({ force: true });
    await until(async () => {
      const [from, to] = [await slider.getAttribute("aria-valuemin"), await slider.getAttribute("aria-valuemax")].map(Number);
      return to - from === 600_000;
    }, "ten minutes");
    await page.getByText(/^history: /).waitFor();
  });
});

test("the y range comes from the values, and a plot is drawn at most once a poll", async () => {
  await withPage({ devices: 10 }, async ({ page, subject }) => {
    const device = await numericDevice(subject);
    await page.getByRole("link", { name: device.name, exact: true }).first().waitFor();
    await collectCharts(page);
    await page.getByRole("link", { name: device.name, exact: true }).first().click();
    await until(() => page.evaluate(() => window.charts().length === 2 && window.charts().every((chart) => chart.data[0].length > 2)), "two plots");
    await page.evaluate(() => window.charts().forEach((chart) => (chart.drawn = 0)));
    await page.waitForTimeout(5000);
    const charts = await page.evaluate(() => window.charts().map(({ drawn, data, scales }) => {
      const values = data[1].filter((value) => value !== null);
      return { drawn, y: [scales.y.min, scales.y.max], low: Math.min(...values), high: Math.max(...values), to: scales.x.max };
    }));
    for (const { drawn, y, low, high, to } of charts) {
      const room = Math.max((high - low) * 0.1, Math.abs(high) * 0.011, 1.01 * (high === 0));
      assert.ok(y[0] <= low && y[0] >= low - room && y[1] >= high && y[1] <= high + room, JSON.stringify({ y, low, high }));
      assert.ok(drawn >= 3 && drawn <= 6, `${drawn} times in 5 s`);
      assert.ok(Math.abs(to - Date.now()) < 10_000);
    }
  });
});

test("a silent device has a plot that goes on, without values at the end", MOCK_ONLY, async () => {
  await withPage({ devices: 10 }, async ({ page }) => {
    const link = page.getByRole("link", { name: "press-1", exact: true }).first();
    await link.waitFor();
    await collectCharts(page);
    await link.click();
    const times = () => page.evaluate(() => window.charts().map(({ data, scales }) => ({ last: data[0].at(-1), end: scales.x.max })));
    const [first] = await until(async () => {
      const all = await times();
      return all.length === 2 && all.every((it) => it.last > 0) ? all : null;
    }, "two plots");
    assert.ok(first.end - first.last > 20_000, JSON.stringify(first));
    await until(async () => (await times())[0].end > first.end + 900, "it goes on");
    assert.equal((await times())[0].last, first.last);
  });
});

test("the value and the time under the cursor are shown, by mouse and by keys, and gaps are named", MOCK_ONLY, async () => {
  await withPage({ devices: 10, path: "#/device/boiler-1" }, async ({ page }) => {
    await until(async () => (await page.locator(".stack canvas").count()) === 2, "plots");
    await until(async () => / to /.test(await readout(page, 0)), "values");
    await page.getByRole("button", { name: "Pause plots" }).click();
    const over = await page.locator(".stack .u-over").first().boundingBox();
    const texts = new Set();
    for (let x = 2; x < over.width; x += 6) {
      await page.mouse.move(over.x + x, over.y + 40);
      texts.add((await readout(page, 0)).replace(/[\d:.,-]+/g, "#"));
      assert.match(await readout(page, 1), / at \d\d:/, "the cursor is common");
    }
    assert.deepEqual([...texts].sort(), ["# at #", "gap at #"]);
    await page.mouse.move(5, 5);
    const slider = page.getByRole("slider").first();
    await slider.focus();
    await page.keyboard.press("ArrowLeft");
    const first = await slider.getAttribute("aria-valuetext");
    assert.match(first, / at \d\d:\d\d:\d\d/);
    await page.keyboard.press("ArrowLeft");
    assert.notEqual(await slider.getAttribute("aria-valuetext"), first);
    await page.keyboard.press("Home");
    await page.keyboard.press("Tab");
    assert.match(await readout(page, 0), / to /);
  });
});

test("plots pause and go on; a drag looks closer and pauses", async () => {
  await withPage({ devices: 10 }, async ({ page, subject, open }) => {
    const device = await numericDevice(subject);
    await open(device.hash);
    const slider = page.getByRole("slider").first();
    const range = async () => [await slider.getAttribute("aria-valuemin"), await slider.getAttribute("aria-valuemax")].map(Number);
    await until(async () => (await range())[1] > 1e12, "a range");
    await page.getByRole("button", { name: "Pause plots" }).click();
    await page.waitForTimeout(300);
    const paused = await range();
    await page.waitForTimeout(2200);
    assert.deepEqual(await range(), paused);
    await page.getByRole("button", { name: "Continue live" }).click();
    await until(async () => (await range())[1] > paused[1], "live again");
    const over = await page.locator(".stack .u-over").first().boundingBox();
    await page.mouse.move(over.x + 100, over.y + 50);
    await page.mouse.down();
    await page.mouse.move(over.x + 200, over.y + 50, { steps: 4 });
    await page.mouse.up();
    await page.getByRole("button", { name: "Continue live" }).waitFor();
    await page.mouse.move(over.x + 120, over.y + 50);
    await until(async () => {
      const [from, to] = await range();
      return to - from < 40_000 && to - from > 1000;
    }, "closer");
    await page.locator(".stack .u-over").first().dblclick();
    await page.getByRole("button", { name: "Pause plots" }).waitFor();
  });
});

test("the last 10 minutes are saved as CSV, by a link or with the token", MOCK_ONLY, async () => {
  for (const token of [null, "secret"]) {
    await withPage({ devices: 10, token }, async ({ page, open }) => {
      if (token) await open(`#token=${token}`);
      await page.getByRole("link", { name: "boiler-1" }).first().click();
      const [download] = await Promise.all([page.waitForEvent("download"), page.getByRole("link", { name: "CSV of the last 10 minutes" }).click()]);
      const text = await readFile(await download.path(), "utf8");
      assert.match(text, /^time,device,temp,rpm\n/);
      assert.equal(text.split("\n").length, 601);
      assert.match(download.suggestedFilename(), /\.csv$/);
    });
  }
});

test("a device that nobody watched says what is not known", MOCK_ONLY, async () => {
  await withPage({ devices: 10, path: "#/device/oven-1" }, async ({ page }) => {
    await page.locator(".device-head").getByText("gone").waitFor();
    for (const text of ["No message has come while this page was open.", "not known yet", "No field yet.", "not connected"]) await page.getByText(text, { exact: true }).waitFor();
    assert.doesNotMatch(await page.locator("main").textContent(), /NaN|undefined|null|Invalid/);
  });
});

test("a device of another name is said to be unknown, and appears when it connects", MOCK_ONLY, async () => {
  await withPage({ devices: 3, path: "#/device/valve-1" }, async ({ page, subject }) => {
    await page.getByText("The daemon knows no device of this name.").waitFor();
    subject.mock.grow(10);
    await page.locator(".device-head").getByText("live").waitFor();
    await page.getByRole("link", { name: "← All devices (10)" }).click();
    await page.locator("table.devices").waitFor();
  });
});
