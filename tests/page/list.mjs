// Tests of the list: 10 and 1,000 devices, filter, sort, pages, states, and the order that is held.

import assert from "node:assert/strict";
import { MOCK_ONLY, names, shot, test, until, withPage } from "./harness.mjs";

test("ten devices have a table, small plots of one field, and a tail", async () => {
  await withPage({ devices: 10, height: 1000 }, async ({ page, subject }) => {
    const { devices, states } = await subject.api("devices?detail=true&limit=50");
    await until(async () => (await names(page)).length === devices.length, "a row for each device");
    assert.deepEqual(await names(page), devices.map((it) => it.device).sort());
    for (const state of Object.keys(states)) await page.getByRole("button", { name: new RegExp(`^${states[state]}\\s*${state}$`) }).waitFor();
    const row = page.getByRole("row", { name: /live/ }).first();
    await until(() => row.locator(".spark-line").getAttribute("d"), "a line of the last minute");
    await until(async () => (await row.locator(".value").count()) > 0, "newest values");
    await until(async () => (await page.locator(".multiples .plot canvas").count()) >= 2, "small plots");
    await until(async () => (await page.locator(".tail .line").count()) > 3, "lines of the tail");
    await page.waitForTimeout(2500);
    await shot(page, "ten");
  });
});

test("another field is plotted for each device", async () => {
  await withPage({ devices: 10, height: 1000 }, async ({ page }) => {
    const field = page.getByLabel("Field", { exact: true });
    await field.waitFor();
    const options = await until(async () => {
      const all = await field.locator("option").allTextContents();
      return all.length > 3 ? all : null;
    }, "also the fields after the first three");
    const before = await page.locator(".multiples .readout").first().textContent();
    await field.selectOption(options[1]);
    await until(async () => (await page.locator(".multiples .readout").first().textContent()) !== before, "other values");
  });
});

test("all fields can be chosen though the first answers lack them", async () => {
  await withPage({ devices: 10 }, async ({ page }) => {
    let asked = 0;
    await page.route("**/api/v1/device?*", async (route) => {
      asked += 1;
      if (asked === 1) return route.abort("connectionrefused");
      if (asked > 3) return route.continue();
      const response = await route.fetch();
      await route.fulfill({ response, json: { ...(await response.json()), fields: [] } });
    });
    await page.reload();
    const field = page.getByLabel("Field", { exact: true });
    await field.waitFor();
    await until(async () => (await field.locator("option").count()) > 3, "also the fields after the first three");
    assert.ok(asked > 3);
  });
});

test("rows are updated in place, and a device opens and closes by mouse", async () => {
  await withPage({ devices: 10 }, async ({ page }) => {
    const link = page.locator("table.devices tbody th a").first();
    await link.waitFor();
    const name = await link.textContent();
    await page.evaluate(() => document.querySelectorAll("table.devices tbody tr").forEach((row) => (row.dataset.mark = "1")));
    await page.waitForTimeout(2500);
    assert.equal(await page.locator("table.devices tbody tr:not([data-mark])").count(), 0);
    await link.click();
    await page.getByRole("heading", { level: 1, name }).waitFor();
    await page.getByRole("link", { name: /All devices/ }).click();
    await until(async () => (await names(page)).length > 1, "the list again");
    // Anywhere in a row.
    await page.locator("table.devices tbody tr").nth(1).locator(".c-spark").click();
    await page.getByRole("heading", { level: 1 }).waitFor();
  });
});

test("1,000 devices: health first, worst first, 50 rows, no plot of a device", MOCK_ONLY, async () => {
  await withPage({ devices: 1000, height: 1000 }, async ({ page, subject }) => {
    const { states } = await subject.api("devices?limit=1");
    await until(async () => (await names(page)).length === 50, "50 rows");
    await page.getByText("1–50 of 1,000").waitFor();
    const shown = await page.locator("table.devices tbody .state").allTextContents();
    assert.deepEqual(shown.slice(0, states.silent + 1), [...Array(states.silent).fill("silent"), "faulty"]);
    assert.equal(await page.locator(".multiples:visible").count(), 0);
    assert.equal(await page.locator(".plot:visible").count(), 1, "only the rate of all");
    assert.equal(await page.locator(".tail .line").count(), 0, "the tail is folded");
    await page.getByText("too_long").first().waitFor();
    await shot(page, "many");

    await page.getByRole("button", { name: "Next page" }).click();
    await page.getByText("51–100 of 1,000").waitFor();
    await page.keyboard.press("]");
    await page.getByText("101–150 of 1,000").waitFor();
    await page.getByRole("button", { name: "Previous page" }).click();
    await page.getByText("51–100 of 1,000").waitFor();
    // The address keeps the choice.
    await page.reload();
    await page.getByText("51–100 of 1,000").waitFor();
  });
});

test("counts filter by click, the box by name, and heads sort", MOCK_ONLY, async () => {
  await withPage({ devices: 1000 }, async ({ page, subject }) => {
    const { states } = await subject.api("devices?limit=1");
    const silent = page.getByRole("button", { name: /silent$/ });
    await silent.click();
    await page.getByText(`1–${states.silent} of ${states.silent} (1,000 in all)`).waitFor();
    assert.deepEqual([...new Set(await page.locator("table.devices tbody .state").allTextContents())], ["silent"]);
    assert.equal(await silent.getAttribute("aria-pressed"), "true");
    await page.getByRole("button", { name: /faulty$/ }).click();
    await page.getByText(`1–${states.silent + states.faulty} of`).waitFor();
    await page.getByRole("button", { name: "Show all devices" }).click();
    await page.getByText("1–50 of 1,000").waitFor();

    await page.keyboard.press("Escape");
    await page.keyboard.press("/");
    await page.keyboard.type("ROVER-1");
    await until(async () => {
      const all = await names(page);
      return all.length > 0 && all.every((name) => name.startsWith("rover-1"));
    }, "only matching rows");
    await page.getByLabel("Filter devices by name").fill("zzz");
    await page.getByText("No device matches.").waitFor();
    await page.getByLabel("Filter devices by name").fill("");

    await page.getByRole("button", { name: "Messages/s" }).click();
    await until(async () => (await page.getByRole("columnheader", { name: "Messages/s" }).getAttribute("aria-sort")) === "descending", "sorted");
    const rates = (await page.locator("table.devices tbody .c-rate").allTextContents()).map(Number);
    assert.deepEqual(rates, [...rates].sort((a, b) => b - a));
    await page.getByRole("button", { name: "Device", exact: true }).click();
    await until(async () => {
      const all = await names(page);
      return all.length === 50 && all.every((name, at) => at === 0 || all[at - 1] < name);
    }, "sorted by name");
  });
});

test("the order is held while the pointer is in the rows, and a filter acts at once", MOCK_ONLY, async () => {
  await withPage({ devices: 1000 }, async ({ page, subject }) => {
    await until(async () => (await names(page)).length === 50, "rows");
    await page.locator("table.devices tbody tr").nth(15).locator(".c-spark").hover();
    await page.getByText("order held").waitFor();
    const before = await names(page);
    const victim = before[49];
    subject.mock.addFault(victim);
    // The row shows the new state, in its old place.
    const row = page.getByRole("row").filter({ has: page.getByRole("link", { name: victim, exact: true }) });
    await row.getByText("faulty").waitFor();
    assert.deepEqual(await names(page), before);
    await page.getByLabel("Filter devices by name").focus();
    await page.keyboard.type(victim);
    await until(async () => (await names(page))[0] === victim, "the filter acts");
    await page.getByLabel("Filter devices by name").fill("");
    await page.mouse.move(5, 5);
    await until(async () => (await names(page)).indexOf(victim) < 15, "the new order, after the pointer has left");

    // With the focus in a row, too.
    const other = (await names(page))[40];
    await page.getByRole("link", { name: other, exact: true }).focus();
    const held = await names(page);
    subject.mock.addFault(other);
    await page.getByRole("row").filter({ has: page.getByRole("link", { name: other, exact: true }) }).getByText("faulty").waitFor();
    assert.deepEqual(await names(page), held);
  });
});

test("no device yet, and then the first one", MOCK_ONLY, async () => {
  await withPage({ devices: 0 }, async ({ page, subject }) => {
    await page.getByText("No device has connected yet").waitFor();
    await shot(page, "none");
    subject.mock.grow(3);
    await until(async () => (await names(page)).length === 3, "three rows");
  });
});
