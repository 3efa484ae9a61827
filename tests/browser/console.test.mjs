// The console as a person uses it: ask, watch, stop, steer, answer, lose the network, lose the hub; and a second tab that sees the same.
import assert from "node:assert/strict";
import { createHmac } from "node:crypto";
import { writeFileSync } from "node:fs";
import path from "node:path";
import { after, afterEach, before, test } from "node:test";
import { Hub, browser, screenshot, sleep, until } from "./support.mjs";
import { Network, Tabs, accessible, answer, answers, ask, begun, link, logged, prompt, quiet, said, sameAsLog, sessionOf, writing } from "./console-support.mjs";

let hub, chrome, tabs, page;

before(async () => {
  hub = await Hub.start();
  chrome = await browser();
  await chrome.context.grantPermissions(["clipboard-read", "clipboard-write"]);
  tabs = new Tabs(chrome, hub.url);
  page = await tabs.open();
});
after(async () => {
  await chrome?.close();
  await hub?.stop();
});
afterEach(() => tabs.settle());

test("start a session by asking, and watch the answer come", async () => {
  await page.getByRole("button", { name: /Stream an answer/ }).waitFor();
  await screenshot(page, "console-01-first-visit");
  await ask(page, "What is a cursor? /tokens 120 /pace 25");
  await begun(page);
  const first = await answer(page).textContent();
  await until("more of it", async () => (await answer(page).textContent()).length > first.length);
  await screenshot(page, "console-02-streaming");
  await quiet(page);
  await sameAsLog(hub, page);
  const named = page.locator("#sessions [aria-current=page]");
  await until("the session is named after its first prompt", async () => (await named.textContent()).startsWith("What is a cursor?"));
  await screenshot(page, "console-03-answered");
});

test("a suggestion goes into the box", async () => {
  const other = await tabs.open();
  await other.getByRole("button", { name: /Think first/ }).click();
  assert.match(await prompt(other).inputValue(), /^\/reason 40/);
  await prompt(other).press("Enter");
  await other.locator(".thoughts[open]", { hasText: "Let me think" }).waitFor();
  await quiet(other);
  assert.equal(await other.locator(".thoughts").getAttribute("open"), null, "thoughts are folded away once it speaks");
  await sameAsLog(hub, other);
  await other.close();
});

test("a session has the name it was given, or waits for its first prompt without one", async () => {
  const other = await tabs.open();
  await other.getByText("Name it, or begin without a prompt").click();
  await other.getByLabel("Name", { exact: true }).fill("Tide tables");
  await ask(other, "/echo high water");
  await quiet(other);
  await until("the name", async () => (await hub.get(`/api/v1/agents/sessions/${sessionOf(other)}`)).name === "Tide tables");
  await ask(other, "/echo low water");
  await quiet(other);
  assert.equal((await hub.get(`/api/v1/agents/sessions/${sessionOf(other)}`)).name, "Tide tables");

  await other.keyboard.press("Shift+Tab");
  await other.keyboard.press("n");
  await other.getByText("Name it, or begin without a prompt").click();
  await other.getByRole("button", { name: "Begin an empty session" }).click();
  await other.getByText("Nothing said yet.").waitFor();
  await screenshot(other, "console-03b-empty");
  await other.getByRole("button", { name: /Call three tools/ }).click();
  await prompt(other).press("Enter");
  await until("the answer", async () => /All 3 steps are done/.test((await answers(other).allTextContents()).join()));
  await until("the name", async () => (await hub.get(`/api/v1/agents/sessions/${sessionOf(other)}`)).name === "/steps 3 Look it up");
  await other.close();
});

test("steps and tool calls stand in the timeline", async () => {
  await ask(page, '/tool web_search {"query":"sea birds"} /steps 3');
  await quiet(page);
  await page.getByRole("button", { name: "3 tool calls, 3 failed" }).click();
  const task = page.getByRole("complementary", { name: "Timeline" }).locator(".task").first();
  const names = task.locator(".row-name");
  assert.deepEqual(await names.allTextContents(), ["Model call", "web_search", "Model call", "web_search", "Model call", "web_search", "Model call"]);
  await names.nth(1).click();
  const open = task.locator("details[open] pre:visible");
  await until("its arguments and what went wrong", async () => /sea birds[^]*not configured/.test((await open.allTextContents()).join()));
  await screenshot(page, "console-04-timeline");
});

test("code looks like code, and is still the text that came", async () => {
  const other = await tabs.open();
  const text = "Two lines:\n```js\nconst a = 1;\n  log(`${a}`);\n```\nand `no` fence\n``\nThe end:\n```\nopen";
  await ask(other, "/pace 30 /echo " + text);
  await other.locator(".block.code", { hasText: "const a" }).waitFor();
  await quiet(other);
  assert.equal(await answer(other).textContent(), text);
  assert.deepEqual((await other.locator(".block.code").allInnerTexts()).map((code) => code.trimEnd()), ["const a = 1;\n  log(`${a}`);", "open"]);
  await screenshot(other, "console-04b-code");
  await sameAsLog(hub, other);
  await other.close();
});

test("stop keeps what was said, by button and by Escape", async () => {
  await ask(page, "A long one /tokens 2000 /pace 10");
  await begun(page);
  await page.getByRole("button", { name: "Stop" }).click();
  await page.locator(".note.end", { hasText: "What was said until then is kept" }).waitFor();
  await quiet(page);
  await screenshot(page, "console-05-stopped");
  await sameAsLog(hub, page);

  await ask(page, "Another /tokens 2000 /pace 10");
  await begun(page);
  await page.keyboard.press("Escape");
  await until("both are stopped", async () => (await page.locator(".note.end", { hasText: "Stopped" }).count()) === 2);
  await quiet(page);
  await sameAsLog(hub, page);
});

test("steer a running task: at once, by the list and by the keys", async () => {
  await ask(page, "/tokens 3000 /pace 10");
  await begun(page);
  await page.getByLabel("While it works").selectOption({ label: "Steer now" });
  await prompt(page).fill("/echo Only this, then.");
  await screenshot(page, "console-06-steering");
  await prompt(page).press("Enter");
  await quiet(page);
  assert.equal(await answer(page).textContent(), "Only this, then.");
  await sameAsLog(hub, page);

  await ask(page, "/tokens 3000 /pace 10");
  await begun(page);
  await prompt(page).fill("/echo By the keys.");
  await prompt(page).press("Control+Enter");
  await quiet(page);
  assert.equal(await answer(page).textContent(), "By the keys.");
  await sameAsLog(hub, page);
});

test("what is asked while it works waits its turn, can be taken back, or takes its place", async () => {
  await ask(page, "/tokens 3000 /pace 10");
  await begun(page);
  await page.getByLabel("While it works").selectOption({ label: "Ask next" });
  await ask(page, "/echo the next one");
  await ask(page, "/echo not this one");
  await page.locator(".message.waiting", { hasText: "not this one" }).waitFor();
  await screenshot(page, "console-07-queue");
  await accessible(page, "queue");
  await page.getByRole("button", { name: "Take back: /echo not this one" }).click();
  await until("it is taken back", async () => (await page.locator(".message.waiting").count()) === 1);
  await page.getByLabel("While it works").selectOption({ label: "Stop it and ask" });
  await ask(page, "/echo instead");
  await quiet(page);
  const texts = await answers(page).allTextContents();
  assert.ok(texts.includes("instead") && texts.includes("the next one") && !texts.includes("not this one"), String(texts.slice(-3)));
  assert.deepEqual(new Set(await said(page)), new Set([...(await logged(hub, sessionOf(page))), "/echo not this one"]));
});

test("a failure says what it is", async () => {
  await ask(page, "/fail 400 after 12");
  const end = page.locator(".note.end.bad").last();
  await end.waitFor();
  assert.match(await end.textContent(), /^Failed.*: .+/);
  await screenshot(page, "console-08-failed");
});

test("answer a question", async () => {
  page = await tabs.open();
  await ask(page, "/ask Which colour?");
  const field = page.getByRole("textbox", { name: "Which colour?" });
  await until("the question has the focus", () => field.evaluate((it) => it === document.activeElement));
  await page.keyboard.type("blue");
  await screenshot(page, "console-09-question");
  await page.keyboard.press("Enter");
  await quiet(page);
  assert.match(await answer(page).textContent(), /blue/);
  await page.locator(".answered", { hasText: "Which colour? blue" }).waitFor();
  await sameAsLog(hub, page);
});

test("a question with a schema is a form; what does not fit is said and changes nothing", async () => {
  const schema = { type: "object", required: ["seats"], properties: { seats: { type: "integer", minimum: 2, title: "Seats" }, meal: { enum: ["fish", "beans"], title: "Meal" }, window: { type: "boolean", title: "At the window" } } };
  await ask(page, `/tool ask_user ${JSON.stringify({ question: "What shall I book?", schema })}`);
  const card = page.locator(".input-card");
  await card.getByText("What shall I book?").waitFor();
  // The browser would not let it through; the hub has the last word.
  await card.locator("form").evaluate((form) => (form.noValidate = true));
  await card.getByLabel("Seats").fill("1");
  await card.getByLabel("Meal").selectOption("fish");
  await card.getByLabel("At the window").check();
  await card.getByRole("button", { name: "Answer" }).click();
  await card.getByRole("alert").waitFor();
  await screenshot(page, "console-10-form");
  await accessible(page, "form");
  await card.getByLabel("Seats").fill("2");
  await card.getByRole("button", { name: "Answer" }).click();
  await quiet(page);
  const { events } = await hub.get(`/api/v1/agents/sessions/${sessionOf(page)}/events?limit=1000`);
  assert.deepEqual(events.findLast(({ type }) => type === "input_resolved").data.payload, { seats: 2, meal: "fish", window: true });

  await ask(page, `/tool ask_user ${JSON.stringify({ question: "Which ones?", schema: { type: "array", items: { type: "string" } } })}`);
  await page.getByRole("textbox", { name: "Which ones?" }).fill('["a", "b"');
  await page.getByRole("button", { name: "Answer" }).click();
  await card.getByRole("alert").filter({ hasText: "not JSON" }).waitFor();
  await page.getByRole("textbox", { name: "Which ones?" }).fill('["a", "b"]');
  await page.getByRole("button", { name: "Answer" }).click();
  await quiet(page);

  await ask(page, "/ask May I?");
  await card.getByRole("button", { name: "Decline" }).click();
  await quiet(page);
  await sameAsLog(hub, page);
});

test("approve a tool call, with other arguments", async () => {
  // The request is put into what the hub sends, and what the page answers is taken out: so it can be looked at.
  const other = await chrome.context.newPage();
  const sent = [];
  await other.routeWebSocket(/\/ws\/agents/, (socket) => {
    const server = socket.connectToServer();
    let shift = 0;
    server.onMessage((text) => {
      const message = JSON.parse(text);
      if (message.seq && shift && message.data) message.seq += shift;
      socket.send(JSON.stringify(message));
      if (message.type !== "step" || shift) return;
      const event = (type, data) => socket.send(JSON.stringify({ type, sessionId: message.sessionId, taskId: message.taskId, seq: message.seq + ++shift, at: message.at, data }));
      event("tool_call", { callId: "t1", tool: "send_mail", arguments: { to: "all@example.com", subject: "Birds" } });
      event("input_requested", { requestId: "r1", kind: "approval", prompt: "Send this mail?", callId: "t1" });
      event("task_suspended", { reason: "input" });
    });
    socket.onMessage((text) => {
      const message = JSON.parse(text);
      if (message.type !== "respond_input") return server.send(text);
      sent.push(message);
      socket.send(JSON.stringify({ type: "ack", id: message.id, received: message.type }));
    });
  });
  await other.goto(hub.url);
  await link(other, "live");
  await ask(other, "/hang 3");
  const card = other.locator(".input-card[data-kind=approval]");
  await card.getByText("send_mail").waitFor();
  await screenshot(other, "console-11-approval");
  await accessible(other, "approval");
  await card.getByRole("button", { name: "Edit the arguments" }).click();
  await card.getByLabel("Arguments, as JSON").fill('{"to":"me@example.com",');
  await card.getByRole("button", { name: "Approve with these" }).click();
  await card.getByRole("alert").waitFor();
  assert.equal(sent.length, 0, "nothing is sent that is no JSON");
  await card.getByLabel("Arguments, as JSON").fill('{"to":"me@example.com"}');
  await card.getByRole("button", { name: "Approve with these" }).click();
  await until("the answer", () => sent.length === 1);
  const { taskId, requestId, outcome, editedArguments } = sent[0];
  assert.ok(taskId);
  assert.deepEqual({ requestId, outcome, editedArguments }, { requestId: "r1", outcome: "accept", editedArguments: { to: "me@example.com" } });
  await other.close();
});

test("the network is cut in the middle of an answer: it is said, and the text is the same afterwards", async () => {
  const network = await Network.to(hub);
  const other = await tabs.open("", { url: network.url });
  try {
    await ask(other, "/tokens 300 /pace 15");
    await begun(other, 100);
    for (const name of ["console-12-cut", "console-12b-cut-again"]) {
      network.cut();
      await link(other, "stale");
      const shown = await answer(other).textContent();
      await other.locator("#link-notice", { hasText: "what you see may be old" }).waitFor();
      const clock = await other.locator(".row-took").last().textContent();
      await sleep(900);
      assert.equal(await answer(other).textContent(), shown, "nothing is invented meanwhile");
      assert.equal(await other.locator(".row-took").last().textContent(), clock, "nor does a clock go on of which nothing is known");
      await screenshot(other, name);
      await accessible(other, name);
      // Asking for it at once changes nothing while there is no network.
      await other.getByRole("button", { name: "Try now" }).click();
      await sleep(100);
      assert.equal(await other.locator("#state").getAttribute("data-state"), "stale");
      network.mend();
      await link(other, "live");
      assert.ok((await answer(other).textContent()).startsWith(shown), "what was there stays");
    }
    // Written while nobody is connected: it is sent once there is somebody, and only once.
    network.cut();
    await link(other, "stale");
    await ask(other, "/echo Said while offline.");
    await other.getByText("Not sent yet; it goes out when the connection is back").waitFor();
    await screenshot(other, "console-13-unsent");
    network.mend();
    await link(other, "live");
    await quiet(other);
    await screenshot(other, "console-14-back");
    await sameAsLog(hub, other);
    const texts = await answers(other).allTextContents();
    assert.equal(texts.at(-1), "Said while offline.");
    assert.equal(texts[0].trim().split(" ").length, 300);
    assert.equal((await said(other)).filter((text) => text === "/echo Said while offline.").length, 1);
  } finally {
    await other.close();
    await network.close();
  }
});

test("where no WebSocket gets through it goes on with Server-Sent Events", async () => {
  const other = await chrome.context.newPage();
  await other.routeWebSocket(/\/ws\/agents/, (socket) => socket.close({ code: 1006 }));
  await other.goto(hub.url);
  await other.locator(".toast", { hasText: "Server-Sent Events" }).waitFor();
  await link(other, "live");
  await ask(other, "/tokens 60 /pace 15");
  await begun(other);
  await other.getByRole("button", { name: "About" }).click();
  await other.getByText("Server-Sent Events", { exact: true }).waitFor();
  await screenshot(other, "console-15b-sse");
  await quiet(other);
  await sameAsLog(hub, other);
  await ask(other, "/tokens 3000 /pace 10");
  await begun(other);
  await other.getByRole("button", { name: "Stop" }).click();
  await quiet(other);
  await sameAsLog(hub, other);
  await other.close();
});

test("a very long log is opened from a snapshot, and says what is not here", async () => {
  const other = await chrome.context.newPage();
  await other.route(`**/api/v1/agents/sessions/${sessionOf(page)}`, async (route) => {
    const answer = await route.fetch();
    const body = await answer.json();
    await route.fulfill({ response: answer, json: { ...body, cursor: body.cursor.replace(/\d+$/, "9999999") } });
  });
  await other.goto(`${hub.url}/#/s/${sessionOf(page)}`);
  await until("what was said", async () => (await said(other)).length > 0);
  await sameAsLog(hub, other);
  await other.getByRole("button", { name: "Events" }).click();
  await other.getByText(/earlier events are not kept here/).waitFor();
  await ask(other, "/echo behind the snapshot");
  await quiet(other);
  await sameAsLog(hub, other);
  await other.locator(".event", { hasText: "task_completed" }).waitFor();
  await other.close();
});

test("a connection that is closed for good says why, and can be made again by hand", async () => {
  const other = await chrome.context.newPage();
  let refuse = false, sockets = [];
  await other.routeWebSocket(/\/ws\/agents/, (socket) => {
    if (refuse) return socket.close({ code: 4006, reason: "No common version" });
    socket.connectToServer();
    sockets.push(socket);
  });
  await other.goto(hub.url);
  await link(other, "live");
  await ask(other, "/echo before");
  await quiet(other);
  refuse = true;
  for (const socket of sockets) await socket.close({ code: 4006, reason: "No common version" });
  await link(other, "closed");
  await other.locator("#link-notice", { hasText: "No common version (4006)" }).waitFor();
  assert.ok(await prompt(other).isDisabled());
  await screenshot(other, "console-15c-closed");
  await accessible(other, "closed");
  refuse = false;
  await other.getByRole("button", { name: "Connect again" }).click();
  await link(other, "live");
  await until("what was said", async () => (await said(other)).length === 2);
  await ask(other, "/echo after");
  await until("the answer", async () => (await answer(other).textContent()) === "after");
  await sameAsLog(hub, other);
  await other.close();
});

test("the machine goes offline and comes back", async () => {
  const network = await Network.to(hub);
  const other = await tabs.open("", { url: network.url });
  try {
    await ask(other, "/tokens 200 /pace 20");
    await begun(other);
    network.cut();
    await link(other, "stale");
    await chrome.context.setOffline(true);
    await other.locator("#state", { hasText: "Offline" }).waitFor();
    await screenshot(other, "console-15-offline");
    network.mend();
    await chrome.context.setOffline(false);
    await link(other, "live");
    await quiet(other);
    await sameAsLog(hub, other);
  } finally {
    await chrome.context.setOffline(false);
    await other.close();
    await network.close();
  }
});

test("the hub is killed in the middle of an answer, and started again", async () => {
  const other = await tabs.open(`#/s/${sessionOf(page)}`);
  await ask(page, "/tokens 150 /pace 20");
  await begun(page);
  await hub.kill();
  await link(page, "stale");
  await screenshot(page, "console-16-hub-is-gone");
  await hub.run();
  await link(page, "live");
  await link(other, "live");
  await quiet(page);
  await quiet(other);
  await page.locator(".activity", { hasText: "taken up again after a restart, attempt 2" }).waitFor();
  assert.deepEqual(await page.locator(".task").first().locator(".row-took").first().textContent(), "failed, cut short");
  await screenshot(page, "console-17-recovered");
  await sameAsLog(hub, page);
  assert.deepEqual(await said(other), await said(page));
  await other.close();
});

test("a tab opened in the middle of an answer sees the same, and either may write", async () => {
  await ask(page, "/tokens 100 /pace 20");
  await begun(page, 10);
  const other = await tabs.open(`#/s/${sessionOf(page)}`);
  await ask(other, "Said in the other tab");
  await ask(page, "And here");
  await until("all three", async () => (await page.locator(".message.user", { hasText: "And here" }).count()) === 1);
  await quiet(page);
  await quiet(other);
  await screenshot(other, "console-18-second-tab");
  assert.deepEqual(await said(other), await said(page));
  await sameAsLog(hub, page);
  const late = await tabs.open(`#/s/${sessionOf(page)}`);
  await until("the late one has it too", async () => (await said(late)).length === (await said(page)).length);
  assert.deepEqual(await said(late), await said(page));
  await late.close();
  await other.close();
});

test("a link to the session is copied, and says what it is", async () => {
  await page.bringToFront();
  await page.getByRole("button", { name: "Copy link" }).click();
  await page.locator(".toast", { hasText: "nobody else can read it" }).waitFor();
  await screenshot(page, "console-19-link");
  assert.equal(await page.evaluate(() => navigator.clipboard.readText()), `${hub.url}/#/s/${sessionOf(page)}`);
});

test("where the browser does not let a page copy, the link is shown", async () => {
  const other = await chrome.context.newPage();
  await other.addInitScript(() => Object.defineProperty(navigator, "clipboard", { value: undefined }));
  await other.goto(`${hub.url}/#/s/${sessionOf(page)}`);
  await link(other, "live");
  await other.getByRole("button", { name: "Copy link" }).click();
  assert.equal(await other.getByRole("dialog").getByLabel("Link", { exact: true }).inputValue(), `${hub.url}/#/s/${sessionOf(page)}`);
  await other.close();
});

test("a session is begun with the agent that was chosen", async () => {
  const several = await Hub.start();
  await several.kill();
  writeFileSync(path.join(several.directory, "agent-hub.toml"), '[agents.assistant]\ndescription = "Helps with anything"\n\n[agents.poet]\ndescription = "Answers in verse"\ninstructions = "Answer in verse."\n');
  await several.run();
  const other = await tabs.open("", { url: several.url });
  try {
    await other.getByRole("radio", { name: /poet/ }).check();
    await screenshot(other, "console-23-agents");
    await ask(other, "/echo A verse");
    await quiet(other);
    assert.equal((await several.get(`/api/v1/agents/sessions/${sessionOf(other)}`)).agent, "poet");
    assert.match(await other.locator("#sessions [aria-current=page]").textContent(), /poet/);
  } finally {
    await other.close();
    await several.stop();
  }
});

test("a session that is deleted elsewhere says so", async () => {
  const other = await tabs.open();
  await ask(other, "/echo soon gone");
  await quiet(other);
  const answered = await fetch(`${hub.url}/api/v1/agents/sessions/${sessionOf(other)}`, { method: "DELETE", headers: { Authorization: "Bearer " + (await hub.token()) } });
  assert.equal(answered.status, 204);
  await other.getByText("The session has been deleted.").waitFor();
  assert.ok(await prompt(other).isDisabled());
  await other.close();
});

test("rename, tag, end and delete", async () => {
  const other = await tabs.open();
  await ask(other, "/echo a session to lose");
  await quiet(other);
  const id = sessionOf(other);
  await other.getByRole("button", { name: "/echo a session to lose" }).click();
  await other.getByLabel("Name of the session").fill("Sea birds");
  await other.keyboard.press("Enter");
  await other.getByRole("button", { name: "Sea birds" }).waitFor();
  await other.getByRole("button", { name: "About" }).click();
  await other.getByLabel("Tags, parted by commas").fill("birds, sea ,birds");
  await other.keyboard.press("Enter");
  await until("the tags", async () => (await hub.get(`/api/v1/agents/sessions/${id}`)).tags.join() === "birds,sea");
  await screenshot(other, "console-20-about");
  await other.getByRole("button", { name: "End the session" }).click();
  await other.getByText("The session has ended. Its log stays readable.").waitFor();
  assert.ok(await prompt(other).isDisabled());
  await other.getByRole("button", { name: "Delete it" }).click();
  await other.getByRole("dialog").getByRole("button", { name: "Delete it" }).click();
  await until("home", () => new URL(other.url()).hash === "#/");
  const gone = await tabs.open(`#/s/${id}`);
  await gone.getByText("There is no such session").waitFor();
  await gone.close();
  await other.close();
});

const SECRET = "a secret of a test, long enough to be one";
const tokenFor = (sub, seconds = 600) => {
  const part = (value) => Buffer.from(JSON.stringify(value)).toString("base64url");
  const body = `${part({ alg: "HS256", typ: "JWT" })}.${part({ sub, plan: "pro", exp: Math.floor(Date.now() / 1000) + seconds })}`;
  return `${body}.${createHmac("sha256", SECRET).update(body).digest("base64url")}`;
};
const signIn = async (visitor, token) => {
  await visitor.getByLabel("Token").fill(token);
  await visitor.getByRole("button", { name: "Use it" }).click();
};

test("a token that has expired is asked for again, and the session goes on where it was", async () => {
  const strict = await Hub.start({ JWT_SECRET: SECRET });
  const visitor = await tabs.open("", { url: strict.url, state: "closed" });
  try {
    await signIn(visitor, tokenFor("ada", 2));
    await link(visitor, "live");
    await ask(visitor, "/echo before");
    await quiet(visitor);
    const id = sessionOf(visitor);
    // The hub allows five seconds more than the token says.
    await until("the question", async () => (await visitor.getByLabel("Token").count()) === 1, 60_000);
    await visitor.getByText("it is wrong, has expired or was revoked").waitFor();
    await until("the field has the focus", () => visitor.getByLabel("Token").evaluate((it) => it === document.activeElement));
    await screenshot(visitor, "console-24-expired");
    await signIn(visitor, tokenFor("ada"));
    await link(visitor, "live");
    assert.equal(sessionOf(visitor), id);
    await until("what was said", async () => (await said(visitor)).length === 2);
    await ask(visitor, "/echo after");
    await until("the answer", async () => (await answer(visitor).textContent()) === "after");
  } finally {
    await visitor.close();
    await strict.stop();
  }
});

test("where the hub gives out no tokens, one is pasted; a foreign session is not shown", async () => {
  const strict = await Hub.start({ JWT_SECRET: SECRET });
  const visitor = await tabs.open("", { url: strict.url, state: "closed" });
  let second;
  try {
    await screenshot(visitor, "console-21-no-token");
    await accessible(visitor, "no token");
    for (const wrong of ["not.a.token", "nor.is.this"]) {
      await signIn(visitor, wrong);
      await visitor.getByText("it is wrong, has expired or was revoked").waitFor();
      assert.equal(await visitor.getByLabel("Token").inputValue(), "", "it is asked for again");
    }
    await signIn(visitor, tokenFor("ada"));
    await link(visitor, "live");
    assert.equal(await visitor.locator("#who").textContent(), "You are ada");
    await ask(visitor, "/echo mine");
    await quiet(visitor);
    assert.ok(!visitor.url().includes("ey"), "no token in the address");

    second = await tabs.open(`#/s/${sessionOf(visitor)}`, { url: strict.url, state: "closed" });
    await signIn(second, tokenFor("eve"));
    await second.getByText("This session is not yours").waitFor();
    await screenshot(second, "console-22-not-yours");
  } finally {
    await second?.close();
    await visitor.close();
    await strict.stop();
  }
});
