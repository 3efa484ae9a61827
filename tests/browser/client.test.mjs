// The page of README.md that uses the client: chat, stop, reload in the middle of a sentence, a network and a hub that go away, a second tab.
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import http from "node:http";
import net from "node:net";
import { after, before, test } from "node:test";
import { Hub, ROOT, blocks, browser, screenshot, section, until } from "./support.mjs";

const [{ code: html }] = blocks(section("In the browser, with the client")).filter(({ language }) => language === "html");
let hub, chrome, site, wire, page;
const complaints = [];

before(async () => {
  site = http.createServer((_, answer) => answer.setHeader("Content-Type", "text/html").end(html.replaceAll("http://127.0.0.1:3000", wire.url)));
  await new Promise((resolve) => site.listen(0, "127.0.0.1", resolve));
  hub = await Hub.start({ ALLOWED_ORIGINS: origin(), AGENT_HUB_LIMITS: "off" });
  wire = await Wire.start(hub.port);
  chrome = await browser();
  page = await open(origin());
});
after(async () => {
  await chrome?.close();
  wire?.server.close();
  wire?.cut();
  site?.close();
  await hub?.stop();
});

/** The network between page and hub. */
class Wire {
  #lines = new Set();
  static async start(port) {
    const wire = new Wire();
    wire.server = net.createServer((page) => {
      const hub = net.connect(port, "127.0.0.1");
      wire.#lines.add(page);
      for (const [from, to] of [[page, hub], [hub, page]]) {
        from.on("error", () => {});
        from.on("close", () => to.destroy());
        from.pipe(to);
      }
      page.on("close", () => wire.#lines.delete(page));
    });
    await new Promise((resolve) => wire.server.listen(0, "127.0.0.1", resolve));
    wire.url = `http://127.0.0.1:${wire.server.address().port}`;
    return wire;
  }

  cut() {
    for (const line of this.#lines) line.resetAndDestroy();
  }
}

const origin = () => `http://localhost:${site.address().port}`;

async function open(address) {
  const page = await chrome.context.newPage();
  page.on("pageerror", (error) => complaints.push(error.message));
  page.on("console", (line) => line.type() === "error" && !/Failed to load resource|WebSocket connection/.test(line.text()) && complaints.push(line.text()));
  await page.goto(address);
  return page;
}

const state = (page, name) => until(`state ${name}`, async () => (await page.locator("output").textContent()) === name);
const ask = async (page, prompt) => {
  await page.getByLabel("Prompt").fill(prompt);
  await page.getByLabel("Prompt").press("Enter");
  // Until it is there, the last answer is that of the prompt before.
  await until("the prompt", async () => (await page.locator("main > p.user").allTextContents()).at(-1) === prompt);
};
const said = (page) => page.locator("main > p").allTextContents();
/** What answers the last prompt, so far. */
const answer = (page) => page.evaluate(() => document.querySelector("main > p.assistant:last-child")?.textContent ?? "");
const growing = (page, from = "") => until("more of the answer", async () => (await answer(page)).length > from.length + 20 && answer(page));
const logged = async (page) => (await hub.get(`/api/v1/agents/sessions/${new URL(page.url()).hash.slice(1)}/messages`)).messages.map(({ content }) => content);
const quiet = (page) =>
  until("the end of the task", async () => {
    const { tasks } = await hub.get(`/api/v1/agents/sessions/${new URL(page.url()).hash.slice(1)}`);
    return (await hub.get(`/api/v1/agents/tasks/${tasks.at(-1)}`)).completedAt;
  });
const sameAsLogged = (page) => until("what is shown is what the hub has", async () => JSON.stringify(await said(page)) === JSON.stringify(await logged(page)));
const whole = (page, tokens) => until("the whole answer", async () => (await answer(page)).trim().split(" ").length === tokens);

test("it is short, and it is the one in examples", () => {
  assert.equal(html, readFileSync(`${ROOT}/examples/chat.html`, "utf8"));
  assert.ok(html.trim().split("\n").length <= 30);
});

test("chat, and stop", async () => {
  await state(page, "live");
  await ask(page, "/echo Hello from the hub.");
  await until("the answer", async () => (await answer(page)) === "Hello from the hub.");
  await ask(page, "/tokens 5000 /pace 10");
  await growing(page);
  await screenshot(page, "client-01-streaming");
  await page.getByRole("button", { name: "Stop" }).click();
  await quiet(page);
  await sameAsLogged(page);
});

test("a reload in the middle of a sentence: the same text at once, and then more of it", async () => {
  await ask(page, "/pace 10 /tokens 400");
  const before = await growing(page);
  // The page is alone with what it has kept: it gets no token until it is let through.
  let letThrough;
  const gate = new Promise((resolve) => (letThrough = resolve));
  await page.route(/\/auth\/token/, async (route) => (await gate, route.continue().catch(() => {})));
  wire.cut();
  await state(page, "stale");
  const shown = await said(page);
  assert.ok(shown.at(-1).startsWith(before));
  await page.reload();
  const [first, word] = await page.evaluate(() => [[...document.querySelectorAll("main > p")].map((line) => line.textContent), document.querySelector("output").value]);
  assert.equal(word, "connecting", "no token yet, so no connection");
  assert.deepEqual(first, shown);
  letThrough();
  await growing(page, shown.at(-1));
  const later = await answer(page);
  assert.equal(later.slice(0, shown.at(-1).length), shown.at(-1));
  await screenshot(page, "client-02-reloaded");
  await whole(page, 400);
  assert.deepEqual(await said(page), await logged(page));
});

test("a second tab sees the same, and a hub that is killed is waited for", async () => {
  const second = await open(page.url());
  await state(second, "live");
  assert.deepEqual(await said(second), await said(page));
  await ask(second, "/tokens 300 /pace 10");
  await growing(page);
  await hub.kill();
  await state(page, "stale");
  await hub.run();
  await whole(page, 300);
  await whole(second, 300);
  assert.deepEqual(await said(second), await logged(page));
  assert.deepEqual(await said(page), await logged(page));
  await second.close();
  assert.deepEqual(complaints, []);
});

test("where no WebSocket gets through, the page is the same", async () => {
  const blocked = await chrome.context.newPage();
  await blocked.addInitScript(() => {
    // As a proxy does that does not know the upgrade.
    const Real = globalThis.WebSocket;
    globalThis.WebSocket = class extends Real {
      constructor(_, protocols) {
        super("ws://127.0.0.1:1/", protocols);
      }
    };
  });
  await blocked.goto(page.url());
  await state(blocked, "live");
  await ask(blocked, "/pace 10 /tokens 3000");
  await growing(blocked);
  await blocked.getByRole("button", { name: "Stop" }).click();
  await quiet(blocked);
  await sameAsLogged(blocked);
  await blocked.close();
});
