// The client with the real hub: both transports, a network that is cut, reloads, several tabs, a hub that is killed.
import assert from "node:assert/strict";
import http from "node:http";
import net from "node:net";
import { after, before, test as anyTest } from "node:test";
import WebSocket from "ws";
import { HubError, connect, emptyConversation, fromSnapshot, reduce, storedCursors } from "../dist/index.js";
import { CuttingProxy, RealHub, sleep, until } from "./support.mjs";

// What never comes is a failure, too.
const test = (name, body, timeout = 60_000) => anyTest(name, { timeout }, body);
const LONG = 900_000;

let hub;
let token;
const open = new Set();
before(async () => {
  hub = await RealHub.start();
  token = await hub.token();
});
after(async () => {
  for (const client of open) client.close();
  await hub?.stop();
});

function client(options = {}) {
  const made = connect({ url: hub.url, token, WebSocket, backoff: () => Math.random() * 20, ...options });
  open.add(made);
  return made;
}

/** A generator of numbers that is the same for the same seed; the seed is printed with a failure. */
function random(seed) {
  let state = seed;
  return (below) => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return Math.floor((state / 2 ** 32) * below);
  };
}

const SEED = Number(process.env.SEED ?? Date.now() % 1e6);
const refusedWith = (code) => (error) => error instanceof HubError && error.code === code;
const said = (conversation) => conversation.messages.map(({ id, role, text, partial, seq }) => ({ messageId: id, role, content: text, partial, seq }));
const messages = async (session) => (await hub.get(`/api/v1/agents/sessions/${session}/messages?limit=200`)).messages.map(({ taskId, ...message }) => message);

test("tools of the page: over cuts, offered to one client, answered once", async () => {
  const wire = await CuttingProxy.start(hub.port);
  const executed = [];
  const where = (name) => ({
    get_place: {
      description: "Where the person is",
      parameters: { type: "object", properties: { precise: { type: "boolean" } }, required: ["precise"] },
      execute: async ({ precise }, { callId, signal }) => {
        executed.push([name, callId]);
        if (precise) await new Promise((resolve) => signal.addEventListener("abort", resolve, { once: true }));
        return { city: "Lyon" };
      },
    },
    odd: { execute: () => Promise.reject(new Error("the sensor is off")) },
  });
  const one = client({ url: wire.url });
  const session = one.create();
  await session.provideTools(where("one"));
  const quick = session.submit('/tool get_place {"precise": false}');
  assert.equal((await quick.finished).status, "completed");
  assert.match(quick.text(), /Lyon/);
  const failing = session.submit("/tool odd {}");
  await failing.finished;
  assert.match(JSON.stringify(failing.view.tools ?? session.conversation), /the sensor is off/);

  // The connection is cut while the page works: it comes back, is offered the call again, and does not begin anew.
  const long = session.submit('/tool get_place {"precise": true}');
  await until("it is executed", () => executed.length === 2);
  assert.deepEqual(session.inputs, [], "nothing that a person is asked");
  wire.cut({ reset: true });
  await until("it is back", () => session.state === "live");

  // It stays away: another tab gets the call.
  const two = client();
  const tab = two.open(session.id);
  await tab.ready;
  await tab.provideTools({ get_place: { ...where("two").get_place, execute: (_, { callId }) => void executed.push(["two", callId]) } });
  session.detach();
  const end = await tab.task(long.id).finished;
  assert.equal(end.status, "completed");
  assert.deepEqual(executed.slice(1).map(([name]) => name), ["one", "two"]);
  assert.equal(executed[1][1], executed[2][1], "the same call");

  // What is provided no more is not called any more, and a cancel says that nobody waits.
  const seen = [];
  await tab.provideTools({ wait: { execute: (_, { signal }) => new Promise((resolve) => signal.addEventListener("abort", () => resolve(seen.push("aborted")))) } });
  const cancelled = tab.submit("/tool wait {}");
  await until("it waits", () => cancelled.status === "suspended");
  await cancelled.cancel();
  assert.equal((await cancelled.finished).status, "cancelled");
  await until("it is told", () => seen.length === 1);
  await assert.rejects(tab.provideTools({ "with space": { execute: () => 1 } }), refusedWith("invalid_message"));
  wire.stop();
});

for (const transport of ["websocket", "sse"]) {
  test(`${transport}: everything a task can be asked`, async () => {
    const one = client({ transport });
    const session = one.create({ name: "all of it", tags: ["a"] });
    const task = session.submit("/tokens 5 hello");
    const types = [];
    for await (const { type } of task) types.push(type);
    assert.equal(types[0], "task_queued");
    assert.equal(types.at(-1), "task_completed");
    assert.equal(one.transport, transport);
    assert.equal(one.welcome.user, "user-1");
    assert.equal((await task.finished).result, task.text());

    const long = session.submit("/tokens 5000 /pace 5");
    await until("some of it", () => long.text().length > 20);
    await long.cancel("enough");
    assert.equal((await long.finished).status, "cancelled");
    assert.equal(session.conversation.messages.at(-1).partial, true);
    await assert.rejects(long.cancel(), refusedWith("already_terminal"));

    const asking = session.submit("/ask Which colour?");
    for await (const { type } of asking) {
      if (type !== "input_requested") continue;
      const [input] = asking.inputs;
      assert.deepEqual([input.prompt, input.tool, input.arguments], ["Which colour?", "ask_user", { question: "Which colour?" }]);
      await input.respond({ outcome: "accept", payload: "blue" });
    }
    assert.match(asking.text(), /blue/);

    const steered = session.submit("/tokens 5000 /pace 5");
    await until("some of it", () => steered.text().length > 20);
    assert.equal((await steered.steer("/echo Only this, then.", { when: "now" })).outcome, "applied");
    assert.equal((await steered.finished).result, "Only this, then.");

    const running = session.submit("/tokens 5000 /pace 5");
    await until("it runs", () => running.status === "running");
    const into = session.submit("/echo Instead.", { onBusy: "steer" });
    await into.accepted;
    assert.equal(into.id, running.id);
    const suspended = running.suspend("a pause");
    await suspended;
    await until("it is suspended", () => running.status === "suspended");
    await running.resume();
    assert.equal((await into.finished).status, "completed");
    assert.equal(running.text(), into.text());

    assert.deepEqual((await session.submit("/fail 400").finished).status, "failed");
    assert.deepEqual(said(session.conversation), await messages(session.id));
    await session.end();
    await until("the end", () => session.conversation.ended);
    await assert.rejects(session.submit("Too late.").accepted, refusedWith("already_terminal"));
    one.close();
  });
}

for (const transport of ["websocket", "sse"]) {
  test(`${transport}: a session that is left and opened again at once is followed, and nothing is said to be lost`, async () => {
    const maker = client();
    const made = maker.create();
    const running = made.submit("/tokens 3000 /pace 1");
    await running.accepted;
    const one = client({ transport });
    const problems = [];
    one.onProblem(({ code }) => problems.push(code));
    await until("live", () => one.state === "live");
    for (let times = 0; times < 12; times += 1) {
      let session = one.open(made.id);
      for (let again = 0; again < times % 4; again += 1) {
        if (again % 2) await sleep(again);
        session.detach();
        session = one.open(made.id);
      }
      await session.ready;
      session.detach();
      const left = one.create();
      left.detach();
      const found = one.open(left.id);
      await found.ready;
      found.detach();
    }
    assert.deepEqual(problems, []);
    await running.cancel();
    maker.close();
    one.close();
  });
}

test("a task that is long over, and one that never was", async () => {
  const one = client();
  const session = one.create();
  const first = session.submit("/echo first");
  await first.finished;
  for (let n = 0; n < 22; n += 1) await session.submit("/pace 0 /tokens 1").finished;
  const other = client();
  const again = other.open(session.id);
  await again.ready;
  assert.equal(again.conversation.tasks.some(({ id }) => id === first.id), false, "not in the snapshot");
  assert.deepEqual(await again.task(first.id).finished, { status: "completed", result: "first", usage: { inputTokens: 2, outputTokens: 1 } });
  assert.equal(again.task(first.id).text(), "first");
  await assert.rejects(again.task(crypto.randomUUID()).finished, refusedWith("task_not_found"));
  one.close();
  other.close();
});

/** What a conversation and a snapshot both have, in one shape. */
function compared(conversation, snapshot) {
  const shown = new Set(snapshot.tasks.map(({ taskId }) => taskId));
  const task = ({ id, status, prompt, attempt, stepsCompleted, cancelRequested, partial, error, usage, createdAt, startedAt, endedAt, firstSeq }) => ({
    ...{ id, status, prompt, attempt, stepsCompleted, cancelRequested, partial, error, usage, createdAt, startedAt, endedAt, firstSeq },
  });
  const message = ({ id, taskId, role, text, partial, streaming, seq }) => ({ id, taskId, role, text, partial, streaming, seq });
  const { messages, earlierMessages, tasks, queue, pendingInputs, ended, head, session } = conversation;
  return {
    head,
    messages: messages.slice(-snapshot.messages.length || messages.length).map(message),
    all: messages.length + earlierMessages,
    tasks: tasks.filter(({ id }) => shown.has(id)).map(task),
    queue,
    pendingInputs,
    ended: ended !== undefined,
    session: { ...session, status: session.status === "ended" },
  };
}

test("the fold of the events is what a snapshot says, at every position that is looked at", async (t) => {
  t.diagnostic(`SEED=${SEED}`);
  const draw = random(SEED);
  const one = client();
  const session = one.create({ name: "fold", tags: ["x"], metadata: { a: 1 }, tools: ["web_search"] });
  await session.ready;
  const looks = [];
  const looking = (async () => {
    while (looks.length < 60) {
      const other = client();
      const opened = other.open(session.id);
      opened.onAttached((attached) => looks.push({ ...attached, type: "session_attached" }));
      await opened.ready.catch(() => sleep(200));
      other.close();
      await sleep(draw(60));
    }
  })();
  const prompts = ["/tokens 30 /pace 3", "/tokens 5 /reason 8", "/tool web_search {\"query\":\"x\"} /tokens 5", "/steps 3", "/fail 500 after 5", "/fail 400", "/ask What?", "/hang 3", "/echo ümläut 🚀 end"];
  const busy = ["queue", "queue", "queue", "interrupt", "rollback", "reject", "steer"];
  const running = [];
  session.onEvent((event) => {
    if (event.type === "input_requested") setTimeout(() => session.inputs[0]?.respond({ outcome: draw(2) ? "accept" : "reject", payload: "x" }).catch(() => {}), draw(40));
    if (event.type === "task_suspended" && event.data.reason !== "input") setTimeout(() => session.task(event.taskId).resume({ on: "again" }).catch(() => {}), draw(30));
  });
  for (let n = 0; n < 26; n += 1) {
    const context = draw(4) ? undefined : "Some context.";
    running.push(session.submit(prompts[draw(prompts.length)], { onBusy: busy[draw(busy.length)], context, timeoutMs: 1500 }));
    await running.at(-1).accepted.catch(() => {});
    await sleep(draw(80));
    const some = running[draw(running.length)];
    const act = [() => some.cancel("drawn"), () => some.steer("/echo steered", { when: draw(2) ? "now" : "next_step" }), () => some.suspend("drawn"), () => {}, () => {}][draw(5)];
    await Promise.race([Promise.resolve(act()).catch(() => {}), sleep(100)]);
    if (n === 9 || n === 18) {
      // A crash in the middle: the text of a running task becomes void, and it is written again until somebody has enough.
      const long = session.submit("/tokens 5000 /pace 5", { onBusy: "interrupt" });
      running.push(long);
      await until("it is being written", () => long.text().length > 20, 20_000);
      await hub.kill();
      await hub.run();
      await until("it is written again", () => long.view.attempt === 2 && long.text().length > 0, 20_000);
      await long.cancel();
    }
  }
  await until("the end of all tasks", () => running.every(({ status }) => ["completed", "failed", "cancelled", "timeout", "refused"].includes(status)), 30_000);
  await looking;
  await until("everything", async () => session.state === "live" && session.conversation.queue.length === 0);
  const log = await hub.log(session.id);
  assert.deepEqual(log.map(({ seq }) => seq), log.map((_, index) => index + 1));
  assert.ok(log.some(({ type }) => type === "task_recovering") && log.some(({ type }) => type === "task_cancelled"));
  let conversation = emptyConversation(session.id);
  for (const event of log.slice(0, session.conversation.head)) conversation = reduce(conversation, event);
  assert.deepEqual(session.conversation, conversation, "what a client that was there all the time has");
  let heads = 0;
  for (const look of looks) {
    const folded = log.slice(0, look.from - 1).reduce(reduce, emptyConversation(session.id));
    const { snapshot } = look;
    assert.deepEqual(compared(folded, snapshot), compared(fromSnapshot(look), snapshot), `SEED=${SEED}, at ${look.from - 1}`);
    // And what follows a snapshot leads to the same as what follows the fold. Only the context of a task that waits is in no snapshot.
    const later = log.slice(look.from - 1).reduce(reduce, fromSnapshot(look));
    const last = ({ messages }) => messages.filter(({ id }) => !/^m\d+c$/.test(id)).slice(-5).map(({ id, text, partial }) => [id, text, partial]);
    assert.deepEqual(last(later), last(conversation), `SEED=${SEED}, from ${look.from - 1} to the end`);
    heads += look.from > 2;
  }
  assert.ok(heads > 20, `${heads} positions`);
  t.diagnostic(`${heads} positions of ${log.length} events: ${[...new Set(log.map(({ type }) => type))].sort().join(" ")}`);
  one.close();
});

/** Many cuts while tasks run; afterwards what was applied is what the log says. */
async function cuts({ transport, url, breakSome, count }) {
  const draw = random(SEED);
  const one = client({ url, transport, connectTimeoutMs: 2000 });
  const session = one.create();
  const applied = [];
  session.onEvent((event) => applied.push(event));
  const attaches = [];
  session.onAttached(({ kept }) => attaches.push(kept));
  const tasks = [];
  let broken = 0;
  let cancels = 0;
  while (broken < count) {
    tasks.push(session.submit(`/tokens 120 /pace 1 number ${tasks.length}`));
    await sleep(draw(60));
    if (draw(5) === 0) {
      const task = tasks[draw(tasks.length)];
      cancels += 1;
      task.cancel().catch((error) => assert.ok(refusedWith("already_terminal")(error), String(error)));
    }
    broken += breakSome(draw) > 0;
    if (tasks.length % 4 === 0) await Promise.all(tasks.map(({ finished }) => finished));
  }
  const outcomes = await Promise.all(tasks.map(({ finished }) => finished));
  await until("live", () => one.state === "live", 20_000);
  const log = await hub.log(session.id);
  await until("the last event", () => applied.length === log.length);
  assert.deepEqual(applied, log, `SEED=${SEED}`);
  assert.ok(attaches.every(Boolean), "nothing was forgotten");
  const queued = log.filter(({ type }) => type === "task_queued");
  assert.deepEqual(queued.map(({ taskId, data }) => [taskId, data.prompt]), tasks.map(({ id }, n) => [id, `/tokens 120 /pace 1 number ${n}`]), "each once, in order");
  const started = log.filter(({ type }) => type === "task_started").map(({ taskId }) => taskId);
  assert.equal(new Set(started).size, started.length, "no task ran twice");
  assert.deepEqual(outcomes.map(({ status }) => status), tasks.map(({ status }) => status));
  assert.deepEqual(said(session.conversation).slice(-200), await messages(session.id), "the newest 200");
  one.close();
  return { broken, tasks: tasks.length, cancels, events: log.length, attaches: attaches.length };
}

const CUTS = Number(process.env.CUTS ?? 40);

test("a network that is cut: applied is what the log says, no command is done twice", async (t) => {
  const proxy = await CuttingProxy.start(hub.port);
  try {
    const ways = (draw) => [{ after: draw(3000) }, { reset: true }, { after: draw(200) }][draw(3)];
    t.diagnostic(`SEED=${SEED} ${JSON.stringify(await cuts({ transport: "websocket", url: proxy.url, count: CUTS, breakSome: (draw) => proxy.cut(ways(draw)) }))}`);
  } finally {
    proxy.stop();
  }
}, LONG);

/** A proxy through which no WebSocket gets. */
async function blocking(port) {
  const lines = new Set();
  const server = http.createServer((asked, answer) => {
    const { method, url, headers } = asked;
    const passed = http.request({ port, host: "127.0.0.1", method, path: url, headers }, (hubs) => {
      answer.writeHead(hubs.statusCode, hubs.headers);
      hubs.pipe(answer);
    });
    passed.on("error", () => answer.destroy());
    answer.on("close", () => passed.destroy());
    lines.add(answer);
    answer.on("close", () => lines.delete(answer));
    asked.pipe(passed);
  });
  server.on("upgrade", (_, socket) => socket.destroy());
  await new Promise((resolve) => server.listen(0, "127.0.0.1", resolve));
  return {
    url: `http://127.0.0.1:${server.address().port}`,
    cut: () => [...lines].map((line) => line.socket?.resetAndDestroy?.() ?? line.destroy()).length,
    stop: () => (server.closeAllConnections(), server.close()),
  };
}

test("where no WebSocket gets through it falls back to Server-Sent Events, cuts or not", async (t) => {
  const proxy = await blocking(hub.port);
  try {
    const one = client({ url: proxy.url });
    const problems = [];
    one.onProblem(({ code }) => problems.push(code));
    const session = one.create();
    assert.equal((await session.submit("/echo It works.").finished).result, "It works.");
    assert.equal(one.transport, "sse");
    assert.deepEqual(problems, ["fallback"]);
    one.close();
    t.diagnostic(`SEED=${SEED} ${JSON.stringify(await cuts({ transport: "auto", url: proxy.url, count: Math.ceil(CUTS / 4), breakSome: proxy.cut }))}`);
  } finally {
    proxy.stop();
  }
}, LONG);

class Storage {
  entries = new Map();
  getItem = (key) => this.entries.get(key) ?? null;
  setItem = (key, value) => void this.entries.set(key, value);
  removeItem = (key) => void this.entries.delete(key);
}

test("a reload goes on in the middle of a sentence: the same text, and then more of it", async () => {
  const cursors = storedCursors(new Storage(), "test");
  const before = client({ cursors });
  const session = before.create();
  for (let n = 0; n < 3; n += 1) await session.submit(`/echo Before ${n}.`).finished;
  const task = session.submit("/tokens 400 /pace 5");
  await until("some of it", () => task.text().length > 100);
  before.close();
  const shown = session.conversation;

  const later = client({ cursors });
  const again = later.open(session.id);
  assert.deepEqual(again.conversation, shown, "at once, before there is a connection");
  assert.equal(again.state, "stale");
  const seqs = [];
  again.onEvent(({ seq }) => seqs.push(seq));
  const attached = [];
  again.onAttached((one) => attached.push(one));
  await until("more of it", () => again.task(task.id).text().length > task.text().length);
  assert.ok(again.task(task.id).text().startsWith(task.text()));
  assert.equal((await again.task(task.id).finished).status, "completed");
  assert.deepEqual(attached.map(({ kept, from }) => [kept, from]), [[true, shown.head + 1]]);
  assert.deepEqual(seqs, seqs.map((_, index) => shown.head + 1 + index));
  assert.deepEqual(said(again.conversation), await messages(session.id));
  later.close();
});

test("several tabs share a storage: each follows by itself, and a reload of either is whole", async () => {
  const storage = new Storage();
  const tabs = [0, 1].map(() => client({ cursors: storedCursors(storage, "test") }));
  const first = tabs[0].create();
  await first.ready;
  const second = tabs[1].open(first.id);
  await second.ready;
  const tasks = [first.submit("/tokens 60 /pace 2"), second.submit("/tokens 60 /pace 2")];
  await Promise.all(tasks.map(({ finished }) => finished));
  await until("the same", () => first.cursor === second.cursor);
  assert.deepEqual(first.conversation.messages, second.conversation.messages);
  const late = first.submit("/tokens 300 /pace 5");
  await until("some of it", () => late.text().length > 50);
  // The second one hangs: what it keeps is older, and takes nothing from the first one.
  tabs[1].close();
  await until("more of it", () => late.text().length > 300);
  tabs[0].close();
  const reloaded = client({ cursors: storedCursors(storage, "test") });
  const session = reloaded.open(first.id);
  assert.equal(session.cursor, first.cursor);
  assert.deepEqual(session.conversation.messages.at(-1), first.conversation.messages.at(-1));
  await session.task(late.id).finished;
  assert.deepEqual(said(session.conversation), await messages(first.id));
  reloaded.close();
});

test("a session somebody deletes is closed, and forgotten by the storage", async () => {
  const storage = new Storage();
  const one = client({ cursors: storedCursors(storage, "test") });
  const session = one.create();
  await session.submit("/echo x").finished;
  await until("it is kept", () => storage.entries.size === 2);
  await fetch(`${hub.url}/api/v1/agents/sessions/${session.id}`, { method: "DELETE", headers: { Authorization: `Bearer ${token}` } });
  await until("closed", () => session.state === "closed");
  assert.equal(session.error.code, "session_not_found");
  await sleep(20);
  assert.deepEqual([...storage.entries.values()], ["[]"]);
  await until("live", () => one.state === "live");
  one.close();
});

test("a page that wakes up does not wait, and does not trust a connection that is only half there", async () => {
  const page = new EventTarget();
  const document = Object.assign(new EventTarget(), { visibilityState: "visible" });
  Object.assign(globalThis, { document, addEventListener: page.addEventListener.bind(page), removeEventListener: page.removeEventListener.bind(page) });
  const proxy = await CuttingProxy.start(hub.port);
  try {
    const one = client({ url: proxy.url, backoff: () => 1e9 });
    const session = one.create();
    await session.ready;
    proxy.cut({ reset: true });
    await until("stale", () => one.state === "stale");
    page.dispatchEvent(new Event("online"));
    await until("live again", () => one.state === "live");
    proxy.cut({ swallow: true });
    await sleep(50);
    assert.equal(one.state, "live", "nobody has noticed");
    document.dispatchEvent(new Event("visibilitychange"));
    await until("noticed", () => one.state === "stale", 20_000);
    page.dispatchEvent(new Event("pageshow"));
    await session.submit("/echo awake").finished;
    one.close();
  } finally {
    proxy.stop();
    for (const name of ["document", "addEventListener", "removeEventListener"]) delete globalThis[name];
  }
});

test("a wrong token is final on either transport", async () => {
  for (const transport of ["websocket", "sse"]) {
    const one = client({ token: "not.a.token", transport });
    await until("closed", () => one.state === "closed");
    assert.deepEqual([one.closed.code, one.closed.final], [4001, true]);
  }
});

test("a port where nobody listens: it keeps trying, and comes when somebody does", async () => {
  const server = net.createServer().listen(0, "127.0.0.1");
  await new Promise((resolve) => server.once("listening", resolve));
  const { port } = server.address();
  await new Promise((resolve) => server.close(resolve));
  const one = client({ url: `ws://127.0.0.1:${port}` });
  await until("an attempt", () => one.closed);
  assert.deepEqual([one.state, one.closed.final], ["connecting", false]);
  const late = net.createServer((socket) => {
    const passed = net.connect(hub.port, "127.0.0.1");
    socket.pipe(passed).pipe(socket);
    for (const one of [socket, passed]) one.on("error", () => {});
  });
  await new Promise((resolve) => late.listen(port, "127.0.0.1", resolve));
  await until("live", () => one.state === "live");
  assert.equal(one.transport, "websocket");
  one.close();
  late.close();
});
