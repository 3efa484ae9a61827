// What is committed and served: small, and by the rules of the policy the hub sends along.
import { existsSync, readdirSync, readFileSync } from "node:fs";
import { gzipSync } from "node:zlib";
import { expect, test } from "vitest";

const dist = new URL("../dist/", import.meta.url);
const html = readFileSync(new URL("index.html", dist), "utf8");
const named = [...html.matchAll(/"\/console\/([^"]+)"/g)].map(([, file]) => file!);
const KIB = 1024;
const FIRST_LOAD_KIB = 150;

test("everything of the first load is there, and at most 150 KiB compressed", () => {
  expect(named.some((file) => file.endsWith(".js")) && named.some((file) => file.endsWith(".css"))).toBe(true);
  for (const file of named) expect(existsSync(new URL(file, dist)), file).toBe(true);
  const size = [html, ...named.map((file) => readFileSync(new URL(file, dist)))].reduce((sum, part) => sum + gzipSync(part).length, 0);
  expect(size / KIB).toBeLessThanOrEqual(FIRST_LOAD_KIB);
});

test("nothing is inline, and nothing comes from elsewhere", () => {
  expect(html).not.toMatch(/<style|<script>| style=|https?:/);
  for (const file of readdirSync(new URL("assets/", dist)).filter((name) => name.endsWith(".css"))) {
    expect(readFileSync(new URL("assets/" + file, dist), "utf8")).not.toMatch(/@import|url\((?!#)/);
  }
});
