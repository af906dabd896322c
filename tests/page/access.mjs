// Tests of access: keyboard alone, help, phone, dark, and axe on every screen.

import assert from "node:assert/strict";
import { accessible, MOCK_ONLY, names, REAL, shot, test, until, withPage } from "./harness.mjs";

test("all is reached by keyboard alone", async () => {
  await withPage({ devices: 10 }, async ({ page }) => {
    await until(async () => (await names(page)).length > 2, "rows");
    const all = await names(page);
    await page.keyboard.press("Tab");
    assert.equal(await focused(page), "Skip to the content");
    await page.keyboard.press("Enter");
    assert.equal(await page.evaluate(() => document.activeElement.id), "content");
    await page.keyboard.press("/");
    assert.equal(await page.evaluate(() => document.activeElement.id), "filter");
    await page.keyboard.type(all[1]);
    await until(async () => (await names(page))[0] === all[1], "the filter acts");
    await page.keyboard.press("Escape");
    await page.keyboard.press("j");
    assert.equal(await focused(page), all[1]);
    await page.keyboard.press("Enter");
    await page.getByRole("heading", { level: 1 }).waitFor();
    assert.equal(await focused(page), all[1], "the heading has the focus");
    await page.getByRole("link", { name: /All devices/ }).waitFor();
    await page.keyboard.press("Escape");
    await page.locator("table.devices").waitFor();
    // The list is as it was, with the focus on the device.
    await until(async () => (await focused(page)) === all[1], "the focus is back");
    assert.equal(await page.getByLabel("Filter devices by name").inputValue(), all[1]);
    await page.keyboard.press("/");
    await page.keyboard.press("Control+A");
    await page.keyboard.press("Delete");
    await page.keyboard.press("Escape");
    await until(async () => (await names(page)).length === all.length, "all rows");
    await page.keyboard.press("j");
    await page.keyboard.press("j");
    assert.equal(await focused(page), all[1]);
    await page.keyboard.press("k");
    assert.equal(await focused(page), all[0]);
  });
});

test("Tab goes through all and is never caught", async () => {
  await withPage({ devices: 10 }, async ({ page }) => {
    await page.locator("table.devices tbody a").first().click();
    await until(async () => (await page.locator(".device-head h1").count()) === 1, "a device");
    await page.waitForTimeout(1200);
    await page.evaluate(() => document.activeElement.blur());
    const seen = new Set();
    let turns = 0;
    for (; turns < 80; turns += 1) {
      await page.keyboard.press("Tab");
      const at = await page.evaluate(() => {
        const node = document.activeElement;
        node.dataset.at ??= String(Math.random());
        return node === document.body ? "body" : node.dataset.at;
      });
      if (seen.has(at)) break;
      seen.add(at);
    }
    assert.ok(seen.size > 12 && turns < 80, `${seen.size} elements, ${turns} turns`);
  });
});

test("the help opens by key, names keys and columns, and gives the focus back", async () => {
  await withPage({ devices: 10, height: 860 }, async ({ page }) => {
    await until(async () => (await names(page)).length > 0, "rows");
    await page.locator("table.devices tbody a").first().focus();
    await page.keyboard.press("?");
    const help = page.getByRole("dialog", { name: "Help" });
    for (const text of ["Newest values", "silent", "undecodable", "focus the filter"]) await help.getByText(text, { exact: true }).waitFor();
    await shot(page, "help");
    const single = help.getByRole("checkbox", { name: /single keys/ });
    await single.uncheck();
    await page.keyboard.press("Escape");
    await help.waitFor({ state: "hidden" });
    assert.equal(await focused(page), (await names(page))[0]);
    await page.keyboard.press("p");
    await page.keyboard.press("?");
    assert.equal(await page.getByText("paused", { exact: true }).count(), 0, "single keys are off");
    assert.equal(await help.isVisible(), false);
    await page.getByRole("button", { name: "Help" }).click();
    await single.check();
    await help.getByRole("button", { name: "Close" }).click();
  });
});

test("a phone shows name, state, rate and faults, and nothing is cut", async () => {
  await withPage({ devices: 10, width: 390, height: 844 }, async ({ page }) => {
    await until(async () => (await names(page)).length > 0, "rows");
    const fits = () => page.evaluate(() => document.documentElement.scrollWidth <= window.innerWidth);
    assert.ok(await fits());
    const heads = await page.locator("table.devices thead th:visible").allTextContents();
    assert.deepEqual(heads, ["State", "Device", "Messages/s", "Faults"]);
    assert.equal(await page.locator(".tail .lines").isVisible(), false, "the tail is folded");
    await page.waitForTimeout(1500);
    await shot(page, "phone");
    const cut = await page.evaluate(() => [...document.querySelectorAll("table.devices td:not(.c-values), table.devices th a")].filter((cell) => cell.offsetWidth > 0 && cell.scrollWidth > cell.clientWidth + 1).map((cell) => cell.textContent));
    if (!REAL) assert.deepEqual(cut, []);
    await page.locator("table.devices tbody a").first().tap().catch(() => page.locator("table.devices tbody a").first().click());
    await page.getByRole("heading", { level: 1 }).waitFor();
    await page.waitForTimeout(1500);
    assert.ok(await fits());
    await shot(page, "phone-device");
  });
});

test("state is a word and a shape, not only a colour", async () => {
  await withPage({ devices: 10 }, async ({ page }) => {
    await until(async () => (await names(page)).length > 0, "rows");
    const marks = await page.locator("table.devices tbody .state").evaluateAll((nodes) => nodes.map((node) => [node.textContent, node.querySelector("svg").innerHTML]));
    const shapes = new Map(marks);
    assert.ok([...shapes.keys()].every((word) => ["live", "silent", "faulty", "gone"].includes(word)));
    assert.equal(new Set(shapes.values()).size, shapes.size);
  });
});

test("changes are announced quietly", MOCK_ONLY, async () => {
  await withPage({ devices: 10, path: "#/device/boiler-1" }, async ({ page, subject }) => {
    await page.locator(".device-head").getByText("live").waitFor();
    const said = page.getByRole("status").and(page.locator("#announcement"));
    assert.equal(await said.textContent(), "");
    subject.mock.addFault("boiler-1");
    await until(async () => (await said.textContent()) === "boiler-1 is now faulty", "the new state");
  });
});

const SCREENS = {
  none: { devices: 0 },
  one: { devices: 1 },
  ten: { devices: 10 },
  many: { devices: 1000 },
  device: { devices: 10, path: "#/device/boiler-1" },
  log: { devices: 10, path: "#/device/fan-1" },
  unknown: { devices: 2, path: "#/device/nobody" },
  hostile: { devices: 10, hostile: true },
  phone: { devices: 10, width: 390, height: 844 },
  "phone-device": { devices: 10, width: 390, height: 844, path: "#/device/boiler-1" },
};

for (const scheme of ["light", "dark"]) {
  for (const [name, options] of Object.entries(SCREENS)) {
    test(`axe finds nothing: ${name}, ${scheme}`, REAL && name !== "ten" ? MOCK_ONLY : {}, async () => {
      await withPage({ ...options, scheme, height: options.height ?? 1000 }, async ({ page }) => {
        await page.getByText(/connected|No device/).first().waitFor({ state: "attached" });
        await page.waitForTimeout(2200);
        await accessible(page, `${name}, ${scheme}`);
        await shot(page, `${name}-${scheme}`);
      });
    });
  }
  test(`axe finds nothing: login, help, pressed, paused, lost, ${scheme}`, MOCK_ONLY, async () => {
    await withPage({ devices: 10, token: "secret", scheme }, async ({ page, subject, open }) => {
      await open();
      await page.getByLabel("Token", { exact: true }).waitFor();
      await accessible(page, "login");
      await shot(page, `login-${scheme}`);
      await page.getByLabel("Token", { exact: true }).fill("wrong");
      await page.keyboard.press("Enter");
      await page.getByText("did not accept").waitFor();
      await accessible(page, "login, refused");
      await page.getByLabel("Token", { exact: true }).fill("secret");
      await page.keyboard.press("Enter");
      await until(async () => (await names(page)).length === 10, "rows");
      await page.getByRole("button", { name: /faulty$/ }).click();
      await page.keyboard.press("p");
      await page.waitForTimeout(300);
      await accessible(page, "pressed and paused");
      await page.keyboard.press("?");
      await accessible(page, "help");
      await shot(page, `help-${scheme}`);
      await page.keyboard.press("Escape");
      await page.keyboard.press("p");
      subject.mock.down = true;
      await page.getByText(/connection lost/).first().waitFor();
      await accessible(page, "lost");
    });
  });
}

function focused(page) {
  return page.evaluate(() => document.activeElement.textContent);
}
