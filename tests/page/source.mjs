// Tests of the files of the page: the vendored copy is the published one, and the source keeps its rules.

import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { readdirSync, readFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { test } from "./harness.mjs";

const PAGE = join(dirname(fileURLToPath(import.meta.url)), "../../host-daemon/page");
const TESTS = dirname(fileURLToPath(import.meta.url));
const read = (file) => readFileSync(join(PAGE, file), "utf8");
const modules = readdirSync(PAGE).filter((file) => file.endsWith(".js") && !file.startsWith("uPlot"));

test("the vendored files have their checksums", () => {
  const lines = read("uPlot.sha256").trim().split("\n");
  assert.equal(lines.length, 3);
  for (const line of lines) {
    const [sum, file] = line.split(/\s+/);
    assert.equal(createHash("sha256").update(readFileSync(join(PAGE, file))).digest("hex"), sum, file);
  }
});

test("every module has one job in its first line, and at most 500 lines", () => {
  const tests = readdirSync(TESTS).filter((file) => file.endsWith(".mjs"));
  assert.ok(modules.length > 10);
  for (const text of [...modules.map(read), ...tests.map((file) => readFileSync(join(TESTS, file), "utf8"))]) {
    assert.match(text, /^\/\/ .+\.\n/);
    assert.ok(text.split("\n").length <= 501);
  }
});

test("no markup is made from text, and nothing is inline", () => {
  for (const file of modules) {
    assert.doesNotMatch(read(file), /innerHTML|outerHTML|insertAdjacentHTML|document\.write|createContextualFragment|\beval\b|new Function|setAttribute\("style"/, file);
  }
  assert.doesNotMatch(read("index.html"), /\sstyle=|\son[a-z]+=|<script>|<style|https?:\/\//);
  assert.doesNotMatch(read("style.css"), /@import|url\(/);
});

test("the page imports only files that exist", () => {
  for (const file of modules) {
    for (const [, target] of read(file).matchAll(/from "\.\/([^"]+)"/g)) assert.ok(modules.includes(target), `${file} imports ${target}`);
  }
});
