// Tests of safety: hostile names and payloads, the policy of the page, and the token.

import assert from "node:assert/strict";
import { HOSTILE } from "./fleet.mjs";
import { MOCK_ONLY, REAL, shot, test, until, withPage } from "./harness.mjs";

/** Elements that only text of a device could have made. */
const FOREIGN = "img:not(header img), script:not([src]), iframe, object, embed, b, i, svg[onload], [onerror], [onload], [onfocus], [autofocus], [style*=url], base, meta[http-equiv]";

test("hostile names and payloads stay text", MOCK_ONLY, async () => {
  await withPage({ devices: HOSTILE.length, hostile: true, height: 1000 }, async ({ page, subject, open }) => {
    await until(async () => (await page.locator("table.devices tbody tr").count()) === HOSTILE.length, "rows");
    await page.waitForTimeout(2500);
    await shot(page, "hostile");
    assert.equal(await page.locator(FOREIGN).count(), 0);
    await page.getByRole("link", { name: '<img src=x onerror="window.pwned=1">' }).first().waitFor();
    await page.getByText("@<i>host</i>").waitFor();
    for (const link of await page.locator("main a").evaluateAll((nodes) => nodes.map((node) => node.protocol))) assert.equal(link, "http:");
    const shown = await page.locator("body").textContent();
    assert.doesNotMatch(shown, /[\u202a-\u202e\u2066-\u2069\u2028\u2029\0]/, "characters that cannot be seen are escapes");
    assert.match(shown, /\\u\{202e\}gnp\.exe/);
    for (const name of HOSTILE) {
      await open(`#/device/${encodeURIComponent(name)}`);
      await page.locator(".device-head").getByText(/^(live|silent|faulty|gone)$/).waitFor();
      await until(async () => (await page.locator(".tail .line").count()) > 0 || subject.mock.fleet.find(name).stop_ms, "lines");
      assert.equal(await page.locator(FOREIGN).count(), 0, name);
      assert.ok(await page.evaluate(() => document.documentElement.scrollWidth <= window.innerWidth), `the page stays in its width: ${name}`);
      const foreign = await page.locator("table.fields tbody th").allTextContents();
      assert.ok(foreign.includes('<img src=x onerror="window.pwned=1">'));
    }
    // A name that is a glob shows only its own lines.
    await open(`#/device/${encodeURIComponent("a*b?c#d&e=f%41/../..")}`);
    await until(async () => (await page.locator(".tail .line").count()) > 0, "lines");
    const own = subject.mock.fleet.find("a*b?c#d&e=f%41/../..");
    for (const text of await page.locator(".tail .line-text").allTextContents()) {
      assert.ok(Math.abs(Number(text.match(/"n":(\d+)/)[1]) - subject.mock.fleet.sent(own, Date.now())) < 10_000, text);
    }
    await page.locator("table.fields tbody tr").nth(3).getByRole("checkbox").check();
    await until(async () => (await page.locator(".stack canvas").count()) === 3, "plots of a hostile device");
    await page.waitForTimeout(500);
    await shot(page, "hostile-device");
  });
});

test("hostile text is filtered and searched as text", MOCK_ONLY, async () => {
  await withPage({ devices: 10, hostile: true }, async ({ page }) => {
    await page.getByLabel("Filter devices by name").fill('"><script>');
    await until(async () => (await page.locator("table.devices tbody tr").count()) === 1, "one row");
    await page.getByLabel("Only lines that contain").fill("<svg onload");
    await until(async () => (await page.locator(".tail .line").count()) > 0, "lines");
    assert.equal(await page.locator(FOREIGN).count(), 0);
  });
});

test("the policy forbids scripts and styles of others", async () => {
  await withPage({ devices: 1 }, async ({ subject }) => {
    for (const path of ["/", "/page/main.js", "/page/style.css"]) {
      const answer = await fetch(subject.url + path);
      assert.equal(answer.status, 200);
      const policy = answer.headers.get("content-security-policy");
      for (const rule of ["default-src 'none'", "script-src 'self'", "style-src 'self'", "connect-src 'self'", "frame-ancestors 'none'", "form-action 'none'", "base-uri 'none'"]) assert.ok(policy.includes(rule), `${path}: ${rule}`);
      assert.doesNotMatch(policy, /unsafe|\*|data:|blob:/);
      assert.equal(answer.headers.get("x-content-type-options"), "nosniff");
    }
  });
});

test("a violation of the policy would fail these tests", MOCK_ONLY, async () => {
  await assert.rejects(
    withPage({ devices: 1 }, async ({ page }) => {
      await page.evaluate(() => {
        const script = document.createElement("script");
        script.textContent = "window.inline = 1";
        document.body.append(script);
      });
      await page.waitForTimeout(300);
      assert.equal(await page.evaluate(() => window.inline), undefined);
    }),
    /policy: script-src-elem/,
  );
});

test("a token is asked for, checked, kept for the tab, and never in an address", MOCK_ONLY, async () => {
  await withPage({ devices: 3, token: "top-secret" }, async ({ page, subject, open, context }) => {
    const addresses = [];
    context.on("request", (request) => addresses.push(request.url()));
    await open();
    const box = page.getByLabel("Token", { exact: true });
    await box.waitFor();
    await until(() => box.evaluate((node) => node === document.activeElement), "the box has the focus");
    const asked = subject.mock.requests;
    await page.waitForTimeout(1500);
    assert.equal(subject.mock.requests, asked, "no request while a token is missing");
    await box.fill("two words");
    await page.getByRole("button", { name: "Show the devices" }).click();
    await page.getByText("visible ASCII characters").waitFor();
    await box.fill("wrong");
    await page.getByRole("button", { name: "Show the devices" }).click();
    await page.getByText("The daemon did not accept the token.").waitFor();
    await box.fill("top-secret");
    await page.keyboard.press("Enter");
    await until(async () => (await page.locator("table.devices tbody tr").count()) === 3, "devices");
    await page.reload();
    await until(async () => (await page.locator("table.devices tbody tr").count()) === 3, "devices, after a reload");
    assert.equal(await page.evaluate(() => localStorage.length), 0);
    assert.ok(addresses.every((it) => !it.includes("secret")));
    // The token changes while the page is open.
    subject.mock.token = "other";
    await box.waitFor();
  });
});

test("a token in the fragment is taken once and removed from the address", async () => {
  if (REAL && !process.env.PAGE_TOKEN) return;
  const token = process.env.PAGE_TOKEN ?? "a%20/+=&#";
  await withPage({ devices: 3, token: REAL ? undefined : "a%20/+=&#" }, async ({ page, open }) => {
    await open(`#token=${encodeURIComponent(token)}`);
    await until(async () => (await page.locator("table.devices tbody tr, .device-head h1").count()) > 0, "devices");
    assert.ok(!page.url().includes("token"));
    await page.goBack().catch(() => {});
    assert.ok(!page.url().includes("token"));
  });
});
