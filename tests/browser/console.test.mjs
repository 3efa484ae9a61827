// The console as a person uses it: ask, watch, stop, steer, answer, lose the network, lose the hub; and a second tab that sees the same.
import assert from "node:assert/strict";
import { after, afterEach, before, test } from "node:test";
import { Hub, browser, screenshot, sleep, until } from "./support.mjs";

let hub, chrome, page;
const complaints = [];

before(async () => {
  hub = await Hub.start();
  chrome = await browser();
  page = await tab();
});
after(async () => {
  await chrome?.close();
  await hub?.stop();
});
afterEach(() => assert.deepEqual(complaints.splice(0), []));

async function tab(hash = "") {
  const page = await chrome.context.newPage();
  page.on("pageerror", (error) => complaints.push(error.message));
  // What the browser says about the network is expected; what it says about policies and scripts is not.
  page.on("console", (line) => line.type() === "error" && !/Failed to load resource|WebSocket connection/.test(line.text()) && complaints.push(line.text()));
  await page.goto(hub.url + "/" + hash);
  await state(page, "live");
  return page;
}

const state = (page, name) => page.locator(`#state[data-state=${name}]`).waitFor();
const ask = async (page, prompt) => {
  await page.getByLabel("Prompt").fill(prompt);
  await page.getByLabel("Prompt").press("Enter");
};
const said = (page) => page.locator("#chat > .user, #chat > .assistant").allTextContents();
const answer = (page) => page.locator("#chat > .assistant").last();
/** Until nothing is being written. */
const quiet = (page) => until("the end of the task", async () => (await page.locator("#stop").isDisabled()) && (await page.locator(".open, .waiting").count()) === 0);
const sessionOf = (page) => new URL(page.url()).hash.slice(1);
/** The conversation as the hub has it. */
const logged = async (page) => (await hub.get(`/api/v1/agents/sessions/${sessionOf(page)}/messages`)).messages.map(({ content }) => content);

test("ask, and watch the answer come", async () => {
  await screenshot(page, "01-first-visit");
  await ask(page, "What is a cursor? /tokens 60 /pace 30");
  const first = await until("some of the answer", async () => (await answer(page).count()) && (await answer(page).textContent()));
  await until("more of it", async () => (await answer(page).textContent()).length > first.length);
  await screenshot(page, "02-streaming");
  await quiet(page);
  assert.deepEqual(await said(page), await logged(page));
  await until("the session is named after its first prompt", async () => (await page.locator("#sessions [aria-current=true]").textContent()).startsWith("What is a cursor?"));
  await screenshot(page, "03-answered");
});

test("stop keeps what was said", async () => {
  await ask(page, "A long one /tokens 2000 /pace 10");
  await until("some of it", async () => ((await answer(page).textContent()) ?? "").length > 40 && (await page.locator("#stop").isEnabled()));
  await page.getByRole("button", { name: "Stop" }).click();
  await page.locator("#chat > .note", { hasText: "stopped" }).waitFor();
  await quiet(page);
  await screenshot(page, "04-stopped");
  assert.deepEqual(await said(page), await logged(page));
});

test("steer a running task", async () => {
  await ask(page, "/tokens 3000 /pace 10");
  await page.getByLabel("Steer the running task").fill("/echo Only this, then.");
  await screenshot(page, "05-steering");
  await page.getByRole("button", { name: "Steer" }).click();
  await quiet(page);
  assert.equal(await answer(page).textContent(), "Only this, then.");
  assert.deepEqual(await said(page), await logged(page));
});

test("answer a question", async () => {
  await ask(page, "/ask Which colour?");
  await page.getByLabel("Which colour?").fill("blue");
  await screenshot(page, "06-question");
  await page.getByLabel("Which colour?").press("Enter");
  await quiet(page);
  assert.match(await answer(page).textContent(), /blue/);
});

test("the network goes in the middle of an answer, and comes back", async () => {
  await ask(page, "/tokens 200 /pace 20");
  await until("some of it", async () => (await page.locator(".assistant.open").count()) && (await answer(page).textContent()).length > 60);
  await chrome.context.setOffline(true);
  await state(page, "connecting");
  const before = await answer(page).textContent();
  await sleep(1500);
  await screenshot(page, "07-offline");
  await chrome.context.setOffline(false);
  await state(page, "live");
  assert.ok((await answer(page).textContent()).length > before.length, "what was missed came first");
  await quiet(page);
  await screenshot(page, "08-back");
  assert.deepEqual(await said(page), await logged(page));
  assert.equal((await answer(page).textContent()).trim().split(" ").length, 200);
});

test("the hub is killed in the middle of an answer, and started again", async () => {
  const other = await tab("#" + sessionOf(page));
  await ask(page, "/tokens 150 /pace 20");
  await until("some of it", async () => (await page.locator(".assistant.open").count()) && (await answer(page).textContent()).length > 60);
  await hub.kill();
  await state(page, "connecting");
  await screenshot(page, "09-hub-is-gone");
  await hub.run();
  await state(page, "live");
  await state(other, "live");
  await quiet(page);
  await quiet(other);
  await screenshot(page, "10-recovered");
  assert.deepEqual(await said(page), await logged(page));
  assert.deepEqual(await said(other), await said(page));
  await other.close();
});

test("a tab opened in the middle of an answer sees the same, and either may write", async () => {
  await ask(page, "/tokens 100 /pace 20");
  await page.locator(".assistant.open").waitFor();
  const other = await tab("#" + sessionOf(page));
  await ask(other, "Said in the other tab");
  await ask(page, "And here");
  await until("all three", async () => (await page.locator("#chat > .user", { hasText: "And here" }).count()) === 1);
  await quiet(page);
  await quiet(other);
  await screenshot(other, "11-second-tab");
  assert.deepEqual(await said(other), await said(page));
  assert.deepEqual(await said(page), await logged(page));
  const late = await tab("#" + sessionOf(page));
  assert.deepEqual(await said(late), await said(page));
  await late.close();
  await other.close();
});

test("several sessions, by keyboard alone", async () => {
  const first = sessionOf(page);
  await page.getByRole("button", { name: "New session" }).first().focus();
  await page.keyboard.press("Enter");
  await until("another session", () => sessionOf(page) !== first);
  await page.keyboard.type("/echo in the new one");
  await page.keyboard.press("Enter");
  await until("its answer", async () => (await answer(page).count()) && (await answer(page).textContent()) === "in the new one");
  await page.locator("#sessions button", { hasText: "What is a cursor?" }).focus();
  await page.keyboard.press("Enter");
  await until("the first session again", async () => sessionOf(page) === first && (await said(page)).length > 4);
  assert.deepEqual(await said(page), await logged(page));
});

test("every control has a name", async () => {
  const nameless = await page.evaluate(() =>
    [...document.querySelectorAll("button, input, textarea, a")].filter((one) => !(one.textContent.trim() || one.getAttribute("aria-label") || one.labels?.length)).map((one) => one.outerHTML),
  );
  assert.deepEqual(nameless, []);
});

test("on a phone, and in the dark", async () => {
  await page.emulateMedia({ colorScheme: "dark" });
  await screenshot(page, "12-dark");
  await page.setViewportSize({ width: 375, height: 720 });
  await page.reload();
  await state(page, "live");
  await ask(page, "How does this look on a phone? /tokens 80 /pace 15");
  await page.locator(".assistant.open").waitFor();
  await sleep(300);
  await screenshot(page, "13-phone");
  assert.ok(await page.evaluate(() => document.documentElement.scrollWidth <= innerWidth), "nothing is wider than the screen");
  await page.getByRole("button", { name: "Sessions" }).click();
  await screenshot(page, "14-phone-sessions");
  await page.keyboard.press("Escape");
  await page.getByRole("button", { name: "Events" }).click();
  await screenshot(page, "15-phone-events");
});

test("where the hub gives out no tokens, one is pasted", async () => {
  const secret = "a secret of a test, long enough to be one";
  const other = await Hub.start({ JWT_SECRET: secret });
  const visitor = await chrome.context.newPage();
  try {
    await visitor.goto(other.url);
    await state(visitor, "closed");
    await screenshot(visitor, "16-no-token");
    const { createHmac } = await import("node:crypto");
    const part = (value) => Buffer.from(JSON.stringify(value)).toString("base64url");
    const body = `${part({ alg: "HS256", typ: "JWT" })}.${part({ sub: "ada", plan: "pro", exp: Math.floor(Date.now() / 1000) + 600 })}`;
    await visitor.getByLabel("Token").fill(`${body}.${createHmac("sha256", secret).update(body).digest("base64url")}`);
    await visitor.getByRole("button", { name: "Use it" }).click();
    await state(visitor, "live");
    assert.equal(await visitor.locator("#who").textContent(), "You are ada");
  } finally {
    await visitor.close();
    await other.stop();
  }
});
