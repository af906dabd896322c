// Tests of the tail: filters, levels, forms, and lines that are not shown.

import assert from "node:assert/strict";
import { MOCK_ONLY, shot, test, until, withPage } from "./harness.mjs";
import { numericDevice } from "./one.mjs";

const lines = (page) => page.locator(".tail .line-text").allTextContents();

test("the tail is filtered by text, as fields and in hexadecimal", async () => {
  await withPage({ devices: 10 }, async ({ page, subject, open }) => {
    const device = await numericDevice(subject);
    await open(device.hash);
    const field = device.fields.find((it) => it.numeric).field;
    await until(async () => (await lines(page)).length > 3, "lines");
    await page.getByLabel("As", { exact: true }).selectOption("fields");
    await until(async () => (await lines(page)).some((line) => line.includes(`${field}=`)), "fields");
    await page.getByLabel("As", { exact: true }).selectOption("hex");
    await until(async () => (await lines(page)).some((line) => /^[0-9a-f]{4} .*\|.*\|/.test(line)), "hexadecimal");
    await page.getByLabel("As", { exact: true }).selectOption("text");
    await page.getByLabel("Only lines that contain").fill("no such text anywhere");
    await page.getByText("No line matches.").waitFor();
    assert.equal((await lines(page)).length, 0);
    await page.getByLabel("Only lines that contain").fill(field.toUpperCase());
    await until(async () => (await lines(page)).length > 1, "lines with the text");
  });
});

test("a log has levels", MOCK_ONLY, async () => {
  await withPage({ devices: 10, path: "#/device/fan-1", scheme: "dark" }, async ({ page }) => {
    await page.getByText("This device sends a log").waitFor();
    await until(async () => (await lines(page)).some((line) => line.includes("src/uplink.rs:175")), "a line of the log");
    await shot(page, "log-dark");
    await page.getByLabel("Level", { exact: true }).selectOption("warn");
    await until(async () => {
      const levels = new Set(await page.locator(".tail .line-level").allTextContents());
      return levels.size === 2 && levels.has("warn") && levels.has("error");
    }, "only warnings and errors");
  });
});

test("every digit of a number is shown", MOCK_ONLY, async () => {
  await withPage({ devices: 10, path: "#/device/boiler-1" }, async ({ page }) => {
    await until(async () => (await lines(page)).some((line) => line.includes('"serial":12345678901234567890}')), "20 digits");
  });
});

test("faults and events have a tail, too", async () => {
  await withPage({ devices: 10, height: 1000 }, async ({ page }) => {
    const show = page.getByLabel("Show", { exact: true });
    await show.selectOption("events");
    await until(async () => (await lines(page)).some((line) => line.startsWith("open")), "events");
    await show.selectOption("faults");
    await until(async () => (await lines(page)).length > 0 || (await page.getByText("No faults yet.").isVisible()), "faults");
  });
});

test("earlier lines are read in peace, and the newest come back by a button", MOCK_ONLY, async () => {
  await withPage({ devices: 1 }, async ({ page }) => {
    await until(async () => (await lines(page)).length > 60, "lines to scroll");
    await page.locator(".tail .lines").evaluate((node) => (node.scrollTop = 0));
    const button = page.getByRole("button", { name: /new · go to the newest/ });
    await button.waitFor();
    const before = await lines(page);
    await page.waitForTimeout(1200);
    assert.deepEqual(await lines(page), before);
    await button.click();
    await until(async () => (await lines(page)).length > before.length, "all lines");
    await button.waitFor({ state: "hidden" });
    await page.waitForTimeout(1200);
    await button.waitFor({ state: "hidden" });
  });
});

test("lines are bounded, and those not shown or lost are counted", MOCK_ONLY, async () => {
  await withPage({ devices: 1000 }, async ({ page, subject }) => {
    await page.getByRole("button", { name: "Tail of all devices" }).click();
    await until(async () => (await lines(page)).length === 300, "300 lines");
    await page.getByText(/[1-9][\d,]* not shown/).waitFor();
    await page.getByText(/skipped/).waitFor();
    assert.ok((await lines(page)).length <= 300);
    await page.getByLabel("Only lines that contain").fill("rover-1");
    await until(async () => (await lines(page)).length > 0, "lines of few devices");
    subject.mock.lose(1234);
    await page.getByText(/1,234 lost/).waitFor();
  });
});
