// What README.md tells a newcomer to paste does what it says.
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import http from "node:http";
import { readFileSync } from "node:fs";
import { after, before, test } from "node:test";
import { Hub, ROOT, blocks, browser, section, sleep, until } from "./support.mjs";

let hub, chrome;
before(async () => {
  hub = await Hub.start();
  chrome = await browser();
});
after(async () => {
  await chrome?.close();
  await hub?.stop();
});

/** Developer tools: what is evaluated there is under no page's policy, and `await` stands at the top. */
async function console_of(page) {
  const lines = [];
  page.on("console", (line) => lines.push(line.text()));
  const tools = await page.context().newCDPSession(page);
  const paste = async (expression) => {
    const { exceptionDetails } = await tools.send("Runtime.evaluate", { expression, replMode: true, awaitPromise: true });
    assert.equal(exceptionDetails, undefined, exceptionDetails?.exception?.description);
  };
  return { lines, paste };
}

const [snippet, more] = blocks(section("Three minutes in the browser")).filter(({ language }) => language === "js").map(({ code }) => code);
const answers = (lines) => lines.filter((line) => line.startsWith("answer: ")).map((line) => line.slice("answer: ".length));

test("the snippet prints tokens and the answer, stops, and comes back after a crash", async () => {
  assert.ok(snippet.split("\n").length <= 31, "short enough to be read");
  const page = await chrome.context.newPage();
  await page.goto(hub.url);
  const { lines, paste } = await console_of(page);
  await paste(snippet);
  await until("the first answer", () => answers(lines)[0]);
  const tokens = lines.slice(0, lines.findIndex((line) => line.startsWith("answer: ")));
  assert.ok(tokens.length > 10, "token by token");
  assert.equal(tokens.join(""), answers(lines)[0]);

  const [ask, stop] = more.trim().split("\n");
  await paste(ask);
  await sleep(500);
  await paste(stop);
  const cancelled = await until("cancelled", () => lines.find((line) => line.startsWith("cancelled")));
  assert.match(cancelled, /kept: \S/);

  lines.length = 0;
  await paste('ask("/pace 5 /tokens 300")');
  await until("some of it", () => lines.length > 20);
  await hub.kill();
  await hub.run();
  const answer = await until("the whole answer after the restart", () => answers(lines)[0]);
  assert.equal(answer.trim().split(" ").length, 300);
  await page.close();
});

test("a page of another origin may use it once the hub is told", async () => {
  const site = http.createServer((_, answer) => answer.setHeader("Content-Type", "text/html").end("<!doctype html><title>mine</title>"));
  const port = await new Promise((resolve) => site.listen(0, "127.0.0.1", () => resolve(site.address().port)));
  const other = await Hub.start({ ALLOWED_ORIGINS: `http://localhost:${port}` });
  const page = await chrome.context.newPage();
  try {
    await page.goto(`http://localhost:${port}`);
    const { lines, paste } = await console_of(page);
    await paste(snippet.replace("location.origin", `"${other.url}"`));
    await until("the first answer", () => answers(lines)[0]);
    await assert.rejects(console_of(page).then(({ paste }) => paste(`await fetch("${hub.url}/auth/token", { method: "POST" })`)), /Failed to fetch/);
  } finally {
    await page.close();
    await other.stop();
    site.close();
  }
});

/** JSON with its keys in order: which one they are written in says nothing. */
const sorted = (text) =>
  JSON.stringify(JSON.parse(text), (_, value) => (value?.constructor === Object ? Object.fromEntries(Object.entries(value).sort()) : value));

/** What stays the same from one run to the next. */
function shape(text) {
  return text
    .replace(/^(data: )?(\{.*\})$/gm, (_, field, json) => (field ?? "") + sorted(json))
    .replace(/[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}/g, "<uuid>")
    .replace(/\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z/g, "<time>")
    .replace(/\b[0-9a-f]{8}\.\d+/g, "<cursor>")
    .replace(/"epoch":"[0-9a-f]{8}"/g, '"epoch":"<epoch>"')
    // How far a task is when it is looked at, and how its text was cut, depends on the machine.
    .replace(/^(event: status\ndata: \{"status":")(queued|running|completed)/, "$1<status>")
    .replace(/(id: <cursor>\nevent: token\ndata: .*\n\n)+/g, "<tokens>\n\n")
    .replace(/"partial":\{[^}]*\}/, '"partial":<text>')
    .trim();
}

test("the curl session answers as it is printed", async () => {
  const parts = blocks(section("The same with curl"));
  // Through `cat`, because what a test gets from a child is no file that /dev/stderr could name.
  const bash = spawn("sh", ["-c", "bash 2>&1 | cat"], { stdio: ["pipe", "pipe", "inherit"] });
  after(() => bash.kill());
  let said = "";
  bash.stdout.on("data", (text) => (said += text));
  for (const [index, { language, code }] of parts.entries()) {
    if (language !== "sh") continue;
    said = "";
    bash.stdin.write(`${code.replace("http://127.0.0.1:3000", hub.url)}\necho; echo "<end of ${index}>"\n`);
    await until(code, () => said.includes(`<end of ${index}>`));
    const answer = said.slice(0, said.indexOf(`<end of ${index}>`));
    const expected = parts[index + 1];
    if (expected && expected.language !== "sh") assert.equal(shape(answer), shape(expected.code), code);
    else assert.equal(answer.trim(), "", code);
  }
  bash.stdin.end();
});

test("the directives of the demo model are those of its documentation", () => {
  const words = (text) => [...text.matchAll(/^(?:\/\/! )?\| `(\/[a-z]+)/gm)].map(([, word]) => word);
  assert.deepEqual(words(section("Which model answers")), words(readFileSync(`${ROOT}/src/provider/demo.rs`, "utf8")));
});
