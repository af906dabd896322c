// Clusters that the recording is forwarded to: a strip above all views, and nothing without one.

import assert from "node:assert/strict";
import { accessible, MOCK_ONLY, names, shot, test, until, withPage } from "./harness.mjs";

const UP = { to: "nats://n1.plant:4222,nats://n2.plant:4222,nats://n3.plant:4222", stream: "blocksd", state: "up", problem: null, messages_per_s: 8214.2, backlog_bytes: 0, backlog_s: 0 };
const DOWN = { ...UP, state: "down", problem: "the server does not answer: timed out", messages_per_s: 0, backlog_bytes: 3_456_789, backlog_s: 754.2 };
const OTHER = { ...UP, to: "tls://cloud.example:4222", stream: "fleet", backlog_bytes: 2048, backlog_s: null };

test("without a cluster nothing is shown", MOCK_ONLY, async () => {
  for (const forwards of [[], undefined]) {
    await withPage({ devices: 10, forwards }, async ({ page, subject }) => {
      // A daemon of an earlier version does not have the member.
      if (forwards === undefined) delete subject.mock.forwards;
      await until(async () => (await names(page)).length === 10, "rows");
      await page.getByText("recording").first().waitFor();
      assert.equal(await page.locator(".forwards").isVisible(), false);
    });
  }
});

for (const [name, width, height] of [["desktop", 1280, 900], ["phone", 390, 844]]) {
  for (const scheme of ["light", "dark"]) {
    test(`each cluster has its state, rate and backlog: ${name}, ${scheme}`, MOCK_ONLY, async () => {
      await withPage({ devices: 10, forwards: [UP], width, height, scheme }, async ({ page, subject }) => {
        await until(async () => (await names(page)).length === 10, "rows");
        const rows = page.locator(".forwards li");
        await rows.first().waitFor();
        assert.deepEqual(await rows.evaluateAll((all) => all.map((it) => it.innerText.split(/\s+/).join(" ").trim())), [
          "up nats://n1.plant:4222, nats://n2.plant:4222, nats://n3.plant:4222 stream blocksd 8,214 messages/s nothing waits",
        ]);
        await accessible(page, `up, ${name}`);
        await shot(page, `forward-up-${name}-${scheme}`);
        subject.mock.forwards = [DOWN, OTHER];
        await page.getByText(DOWN.problem).waitFor();
        const text = await page.locator(".forwards").innerText();
        for (const part of ["down", "3.3 MiB wait, the oldest for 12 min", "tls://cloud.example:4222", "stream fleet", "2.0 KiB wait"]) assert.ok(text.includes(part), `${part} in ${text}`);
        assert.equal(await page.locator("#announcement").textContent(), `forwarding to ${DOWN.to} is down`);
        assert.ok(await page.evaluate(() => document.documentElement.scrollWidth <= window.innerWidth), "the page is too wide");
        await accessible(page, `down, ${name}`);
        await shot(page, `forward-down-${name}-${scheme}`);
        // It stays above a device.
        await page.locator("table.devices tbody a").first().click();
        await page.getByRole("heading", { level: 1 }).waitFor();
        assert.ok(await page.locator(".forwards").isVisible());
      });
    });
  }
}

test("a problem stays text", MOCK_ONLY, async () => {
  const evil = "<img src=x onerror='window.pwned=1'>\u202e";
  await withPage({ devices: 10, forwards: [{ ...DOWN, to: evil, stream: evil, problem: evil, state: evil }] }, async ({ page }) => {
    await page.locator(".forward-problem").getByText("<img src=x").waitFor();
    assert.ok((await page.locator(".forwards").innerText()).includes("\\u{202e}"));
    assert.equal(await page.locator(".forwards img").count(), 0);
  });
});
