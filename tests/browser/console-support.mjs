// What the tests of the console share: tabs that complain, a network that can be cut, and what the hub itself says.
import assert from "node:assert/strict";
import net from "node:net";
import { createRequire } from "node:module";
import { until } from "./support.mjs";

const axe = createRequire(import.meta.url).resolve("axe-core/axe.min.js");

/** Tabs on one hub. What they complain about is collected; `settle` fails the test that caused it. */
export class Tabs {
  #complaints = [];

  constructor(chrome, url) {
    Object.assign(this, { chrome, url });
  }

  async open(hash = "", { state = "live", url = this.url } = {}) {
    const page = await this.chrome.context.newPage();
    page.on("pageerror", (error) => this.#complaints.push(error.message));
    // What the browser says about the network is expected; what it says about policies and scripts is not.
    page.on("console", (line) => line.type() === "error" && !/Failed to load resource|WebSocket connection/.test(line.text()) && this.#complaints.push(line.text()));
    await page.goto(url + "/" + hash);
    if (state) await link(page, state);
    return page;
  }

  settle() {
    assert.deepEqual(this.#complaints.splice(0), []);
  }
}

/** Until the connection is as the page says. */
export const link = (page, state) => page.locator(`#state[data-state=${state}]`).waitFor();
export const prompt = (page) => page.getByLabel("Prompt", { exact: true });

/** Asks, and waits until what was asked is to be seen. */
export async function ask(page, text) {
  const asked = page.locator("#conversation .message.user");
  const before = await asked.count();
  await prompt(page).fill(text);
  await prompt(page).press("Enter");
  await until("what was asked", async () => (await asked.count()) > before);
}

/** What stands in the conversation, as text. */
export const said = (page) => page.locator("#conversation .message:not(.waiting)").allTextContents();
export const answers = (page) => page.locator("#conversation .message.assistant");
export const answer = (page) => answers(page).last();
export const writing = (page) => page.locator("#conversation .message.streaming");
/** Until some of an answer is being written. */
export const begun = (page, characters = 40) =>
  until("some of the answer", async () => (await writing(page).count()) > 0 && (await writing(page).last().textContent()).length > characters);
/** Until nothing is being worked on. Looked at in one moment: what waits now may run a moment later. */
export const quiet = (page) => until("the end of the task", () => page.evaluate(() => !document.querySelector("#stop, .message.streaming, .message.waiting")));

export const sessionOf = (page) => new URL(page.url()).hash.split("/")[2];

/** The conversation as the hub has it. */
export async function logged(hub, session) {
  return (await hub.get(`/api/v1/agents/sessions/${session}/messages?limit=200`)).messages.map(({ content }) => content);
}

/** The page shows what the hub has, letter for letter. */
export async function sameAsLog(hub, page) {
  assert.deepEqual(await said(page), await logged(hub, sessionOf(page)));
}

/** What is wrong for people who do not see, hear or point as most do: rules of WCAG 2.2 AA and good practice. */
export async function accessible(page, what) {
  if (!(await page.evaluate(() => "axe" in globalThis))) {
    // Not as a script of the page: its policy forbids that, rightly.
    const { readFileSync } = await import("node:fs");
    await page.evaluate(readFileSync(axe, "utf8"));
  }
  const { violations } = await page.evaluate(() => globalThis.axe.run(document, { runOnly: ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"] }));
  const found = violations.map(({ id, help, nodes }) => `${id}: ${help}\n  ${nodes.map((node) => `${node.target} ${node.failureSummary}`).join("\n  ")}`);
  assert.deepEqual(found, [], what);
}

/** A network between a browser and a hub that can be cut in the middle of a frame. */
export class Network {
  #pairs = new Set();
  #cut = false;

  static async to(hub) {
    const network = new Network();
    network.server = net.createServer((near) => network.#join(near, hub.port));
    await new Promise((resolve) => network.server.listen(0, "127.0.0.1", resolve));
    network.url = `http://127.0.0.1:${network.server.address().port}`;
    return network;
  }

  #join(near, port) {
    if (this.#cut) return near.resetAndDestroy();
    const far = net.connect(port, "127.0.0.1");
    const pair = [near, far];
    this.#pairs.add(pair);
    const end = () => {
      this.#pairs.delete(pair);
      near.destroy();
      far.destroy();
    };
    for (const socket of pair) socket.on("error", end).on("close", end);
    near.pipe(far);
    far.pipe(near);
  }

  /** Every connection is reset, and no new one comes through. */
  cut() {
    this.#cut = true;
    for (const [near, far] of this.#pairs) {
      near.resetAndDestroy();
      far.destroy();
    }
  }

  mend() {
    this.#cut = false;
  }

  async close() {
    this.cut();
    await new Promise((resolve) => this.server.close(resolve));
  }
}
