// Old sessions: found, paged, gone through event by event and played; and the numbers of the hub.
import assert from "node:assert/strict";
import { after, afterEach, before, test } from "node:test";
import { Hub, browser, screenshot, until } from "./support.mjs";
import { Tabs, ask, begun, link, logged, quiet, said, sameAsLog, sessionOf } from "./console-support.mjs";

let hub, chrome, tabs, page, session;

before(async () => {
  hub = await Hub.start({ AGENT_HUB_LIMITS: "off" });
  chrome = await browser();
  tabs = new Tabs(chrome, hub.url);
  page = await tabs.open();
  await ask(page, "What is a replay? /tokens 40 /pace 40");
  await quiet(page);
  await ask(page, "/tokens 900 /pace 5");
  await begun(page);
  await page.getByRole("button", { name: "Stop" }).click();
  await quiet(page);
  await ask(page, "/steps 2 /pace 5");
  await quiet(page);
  session = sessionOf(page);
});
after(async () => {
  await chrome?.close();
  await hub?.stop();
});
afterEach(() => tabs.settle());

const position = async (page) => (await page.locator("#position").textContent()).split(" / ").map(Number);

test("scrubbing shows the session as it was at any of its moments", async () => {
  await page.getByRole("link", { name: "Replay", exact: true }).click();
  await page.getByRole("slider", { name: "Position in the log" }).waitFor();
  const { events } = await hub.get(`/api/v1/agents/sessions/${session}/events?limit=1000`);
  await until("all of the log", async () => (await position(page))[1] === events.length);
  assert.deepEqual(await position(page), [events.length, events.length]);
  const whole = await logged(hub, session);
  assert.deepEqual(await said(page), whole);
  await screenshot(page, "console-30-replay");

  // In the middle of the first answer: exactly the tokens up to there.
  const middle = events.filter(({ type }) => type === "token")[14].seq;
  const slider = page.getByRole("slider", { name: "Position in the log" });
  await slider.fill(String(middle));
  const tokens = events.filter(({ type, seq }) => type === "token" && seq <= middle).map(({ data }) => data.token);
  assert.deepEqual(await said(page), ["What is a replay? /tokens 40 /pace 40", tokens.join("")]);
  assert.match(await slider.getAttribute("aria-valuetext"), new RegExp(`^Event ${middle} of ${events.length}, token`));
  await screenshot(page, "console-31-replay-middle");

  // By keys, one event at a time, and by the list.
  await page.locator("#main").focus();
  await page.keyboard.press("ArrowRight");
  assert.equal((await position(page))[0], middle + 1);
  await page.keyboard.press("ArrowLeft");
  await page.keyboard.press("ArrowLeft");
  assert.equal((await position(page))[0], middle - 1);
  await page.keyboard.press("Home");
  assert.deepEqual(await said(page), []);
  await page.getByText("Before the first event.").waitFor();
  await page.locator(".event", { hasText: "task_started" }).first().click();
  assert.deepEqual(await said(page), ["What is a replay? /tokens 40 /pace 40"]);
  await page.locator(".event-whole", { hasText: '"type": "task_started"' }).waitFor();
  await page.getByRole("button", { name: "To the end" }).click();
  assert.deepEqual(await said(page), whole);
});

test("playing moves on by itself, pauses, and ends at the end", async () => {
  await page.getByLabel("Speed").selectOption("0.5");
  await page.getByRole("button", { name: "To the beginning" }).click();
  await page.getByRole("button", { name: "Play", exact: true }).click();
  await until("some of it", async () => (await position(page))[0] > 15);
  await page.getByRole("button", { name: "Pause", exact: true }).click();
  await page.getByRole("button", { name: "Play", exact: true }).waitFor();
  const [stands] = await position(page);
  await screenshot(page, "console-32-replay-playing");
  await until("the address follows", () => new URL(page.url()).hash === `#/s/${session}/replay/${stands}`);
  assert.equal((await position(page))[0], stands, "paused is paused");
  await page.getByLabel("Speed").selectOption("20");
  await page.locator("#main").focus();
  await page.keyboard.press("Space");
  await until("the end", async () => {
    const [at, total] = await position(page);
    return at === total;
  });
  await page.getByRole("button", { name: "Play", exact: true }).waitFor();
  assert.deepEqual(await said(page), await logged(hub, session));
});

test("a link opens a moment; the timeline is of that moment too", async () => {
  const { events } = await hub.get(`/api/v1/agents/sessions/${session}/events?limit=1000`);
  const first = events.find(({ type }) => type === "task_completed").seq;
  const other = await tabs.open(`#/s/${session}/replay/${first}`);
  await until("the moment", async () => (await position(other))[0] === first);
  assert.equal((await said(other)).length, 2);
  await other.getByRole("button", { name: "Timeline" }).click();
  assert.equal(await other.locator(".task").count(), 1);
  await other.getByRole("link", { name: "To the session" }).click();
  await link(other, "live");
  await until("all of it", async () => (await said(other)).length > 4);
  await sameAsLog(hub, other);
  await other.close();
});

test("what came since is read when asked for", async () => {
  const other = await tabs.open(`#/s/${session}/replay`);
  await until("all of the log", async () => (await position(other))[1] > 0 && (await other.getByRole("button", { name: "Read newer" }).count()) === 1);
  const [, before] = await position(other);
  const token = await hub.token();
  await fetch(`${hub.url}/api/v1/agents/sessions/${session}/tasks`, {
    method: "POST",
    headers: { Authorization: "Bearer " + token, "Content-Type": "application/json" },
    body: JSON.stringify({ prompt: "/echo later" }),
  });
  await until("its answer", async () => (await logged(hub, session)).at(-1) === "later");
  await other.getByRole("button", { name: "Read newer" }).click();
  await until("more events", async () => (await position(other))[1] > before);
  assert.equal((await position(other))[0], before, "the position stays");
  await other.getByRole("button", { name: "To the end" }).click();
  await until("the answer", async () => (await said(other)).at(-1) === "later");
  await other.close();
});

test("old sessions are paged, and found by name and tag", async () => {
  const token = await hub.token();
  const make = (body) => fetch(`${hub.url}/api/v1/agents/sessions`, { method: "POST", headers: { Authorization: "Bearer " + token, "Content-Type": "application/json" }, body: JSON.stringify(body) });
  await make({ name: "Old treasure", tags: ["gold", "island"] });
  for (let n = 1; n <= 60; n++) await make({ name: `Session number ${n}` });
  const other = await tabs.open("#/sessions");
  const rows = other.locator(".session-table li");
  await until("a page", async () => (await rows.count()) === 50);
  await screenshot(other, "console-33-sessions");
  await other.getByLabel("Find by name").fill("gold");
  assert.equal(await rows.count(), 0, "it is older than what was read");
  await other.getByRole("button", { name: /Search 500 older ones/ }).click();
  await until("it is found", async () => (await rows.count()) === 1);
  assert.match(await rows.first().textContent(), /Old treasure.*goldisland/);
  await screenshot(other, "console-34-found");
  await other.getByLabel("Find by name").fill("number 6");
  assert.deepEqual(await rows.locator(".session-name").allTextContents(), [60, 56, 46, 36, 26, 16, 6].map((n) => `Session number ${n}`));
  const { id } = (await hub.get("/api/v1/agents/sessions?limit=1")).sessions[0];
  await other.getByLabel("Find by name").fill(id.slice(0, 8));
  assert.deepEqual(await rows.locator(".session-name").allTextContents(), ["Session number 60"]);
  await other.getByRole("link", { name: "Replay Session number 60" }).click();
  await until("its one event", async () => (await position(other))[1] === 1);
  await other.close();
});

test("live numbers as plots", async () => {
  const other = await tabs.open("#/numbers");
  const plots = other.locator("figure.plot");
  await until("six plots", async () => (await plots.count()) === 6);
  // A reader far behind, cancels, tokens: something to see.
  await page.goto(`${hub.url}/#/s/${session}`);
  await link(page, "live");
  await ask(page, "/pace 0 /tokens 5000");
  await quiet(page);
  for (let n = 0; n < 2; n++) {
    await ask(page, "/tokens 3000 /pace 10");
    await begun(page);
    await page.getByRole("button", { name: "Stop" }).click();
    await quiet(page);
  }
  const summary = (title) => other.getByRole("img", { name: new RegExp(`^${title}:`) }).getAttribute("aria-label");
  await until("cancels are measured", async () => /median \d.*(s|ms|µs), 99 %/.test(await summary("Cancel to stop")));
  await until("sessions are counted", async () => /awake \d/.test(await summary("Sessions")));
  assert.match(await summary("Tasks by state"), /running \d+, queued \d+, suspended \d+/);
  await until("several readings", async () => (await other.evaluate(() => document.querySelectorAll(".u-over").length)) >= 4);
  await until("lines are drawn", async () => !/unknown/.test(await summary("Tokens per second")));
  // The numbers are the hub's own.
  const text = await (await fetch(`${hub.url}/metrics`)).text();
  const awake = Number(/^agent_hub_sessions_awake (\S+)/m.exec(text)[1]);
  await until("the same as /metrics says", async () => (await summary("Sessions")) === `Sessions: awake ${awake}`);
  await screenshot(other, "console-35-numbers");
  await other.emulateMedia({ colorScheme: "dark" });
  await other.waitForTimeout(200);
  await screenshot(other, "console-36-numbers-dark");
  await other.close();
});

test("where the numbers are not for everybody, that is said kindly", async () => {
  const other = await chrome.context.newPage();
  // From elsewhere the hub asks for a scope; here that is told by what it answers then.
  await other.route("**/metrics", (route) => route.fulfill({ status: 403, contentType: "application/json", body: JSON.stringify({ success: false, error: "Insufficient scope", code: "forbidden", message: "Insufficient scope" }) }));
  await other.goto(`${hub.url}/#/numbers`);
  await other.getByText("The hub does not show its numbers to you.").waitFor();
  await other.getByText("scope metrics").waitFor();
  await screenshot(other, "console-37-numbers-refused");
  await other.close();
});
