// The client against a hub that does everything wrong a hub or a network can do. Nothing here waits for a time, only for what happens.
import assert from "node:assert/strict";
import { afterEach, test as anyTest } from "node:test";
import WebSocket from "ws";
import { HubError, connect } from "../dist/index.js";
import { SESSION, ScriptedHub, TASK, created, event, impatient, sleep, snapshot, told, until } from "./support.mjs";

// What never comes is a failure, too.
const test = (name, body) => anyTest(name, { timeout: 60_000 }, body);

let scripted;
let hub;
let problems;
afterEach(() => {
  hub?.close();
  scripted?.stop();
  scripted = hub = undefined;
});

/** A scripted hub, and a client of it. */
async function start(script, options) {
  scripted = await ScriptedHub.start(script);
  hub = impatient(scripted.url, options);
  problems = [];
  hub.onProblem((problem) => problems.push(problem));
  return hub;
}

const states = (of) => {
  const seen = [of.state];
  of.onChange(() => seen.at(-1) === of.state || seen.push(of.state));
  return seen;
};
const state = (of, name) => until(`state ${name}, is ${of.state}`, () => of.state === name);
const applied = (session) => {
  const seqs = [];
  session.onEvent(({ seq }) => seqs.push(seq));
  return seqs;
};
const refusedWith = (code) => (error) => {
  assert.ok(error instanceof HubError, String(error));
  assert.equal(error.code, code);
  return true;
};
const LOG = [created(), ...told(2, ["Gannet", ", puffin and", " tern."])];

test("create and submit before there is a connection; ids are the client's; the token is in no address", async () => {
  let submit;
  await start(async (connection) => {
    connection.welcome();
    const create = await connection.creates();
    assert.match(create.sessionId, /^[0-9a-f]{8}-[0-9a-f]{4}-4/);
    submit = await connection.expect("submit_task");
    connection.ack(submit);
    connection.send(...LOG.slice(1).map((one) => ({ ...one, taskId: one.taskId && submit.taskId })));
  });
  const session = hub.create({ sessionId: SESSION });
  const task = session.submit("Name three sea birds.");
  assert.deepEqual([hub.state, session.state, task.status], ["connecting", "connecting", "sending"]);
  const seen = states(hub);
  const types = [];
  for await (const { type } of task) types.push(type);
  assert.deepEqual(types, LOG.slice(1).map(({ type }) => type));
  assert.equal(task.id, submit.taskId);
  assert.equal(task.text(), "Gannet, puffin and tern.");
  assert.deepEqual(await task.finished, { status: "completed", result: "Gannet, puffin and tern.", usage: { inputTokens: 1, outputTokens: 3 } });
  assert.deepEqual(seen, ["connecting", "replaying", "live"]);
  const [{ url, protocols }] = scripted.connections;
  assert.equal(url, "/ws/agents");
  assert.equal(protocols, "agent-hub.v1,bearer.a.b.c");
});

test("an ack that is lost: the command is sent again as it was, and answered once", async () => {
  const submits = [];
  await start(async (connection, n) => {
    connection.welcome();
    if (n === 1) await connection.creates();
    else await connection.attaches(LOG.slice(0, 1));
    submits.push(await connection.expect("submit_task"));
    if (n < 3) return connection.reset();
    connection.ack(submits[0]);
  });
  const session = hub.create({ sessionId: SESSION });
  await session.ready;
  await session.submit("Once.").accepted;
  assert.equal(submits.length, 3);
  assert.deepEqual(submits[1], submits[0]);
  assert.deepEqual(submits[2], submits[0]);
  await sleep(20);
  assert.equal(scripted.connections[2].frames.length, 2, "nothing more is sent");
});

test("a create that was not answered is sent again, and what its replay repeats is not applied again", async () => {
  await start(async (connection, n) => {
    connection.welcome();
    if (n === 3) return void (await connection.attaches(LOG.slice(0, 2)));
    const create = await connection.expect("create_session");
    connection.attached(1, 1);
    connection.send(created());
    if (n === 1) return connection.reset();
    connection.caughtUp(1);
    connection.ack(create);
    connection.close(1012);
  });
  const session = hub.create({ sessionId: SESSION });
  const seqs = applied(session);
  await session.ready;
  await until("what follows", () => session.cursor === "e1.2");
  assert.deepEqual(seqs, [1, 2]);
  assert.deepEqual(scripted.connections.map(({ frames }) => frames.map(({ type, after }) => after ?? type)), [["create_session"], ["create_session"], ["e1.1"]]);
});

for (const code of [4000, 4001, 4003, 4006]) {
  test(`${code} is final and said so`, async () => {
    await start(async (connection) => {
      connection.welcome();
      await connection.creates();
      await connection.expect("submit_task");
      connection.close(code);
    });
    const session = hub.create({ sessionId: SESSION });
    const task = session.submit("Never answered.");
    await assert.rejects(task.accepted, refusedWith("closed"));
    await assert.rejects(task.finished, refusedWith("closed"));
    assert.equal(hub.state, "closed");
    assert.deepEqual([hub.closed.code, hub.closed.final], [code, true]);
    assert.notEqual(hub.closed.reason, "");
    assert.equal(session.state, "closed");
    await assert.rejects(session.submit("Nor this.").accepted, refusedWith("closed"));
    assert.throws(() => hub.create(), refusedWith("closed"));
    await sleep(30);
    assert.equal(scripted.connections.length, 1, "no further attempt");
  });
}

for (const code of [1000, 1001, 1002, 1009, 1011, 1012, 4050, 4051, 4052, 4053, 4054, 4999, "reset"]) {
  test(`after ${code} it comes back, and goes on behind the cursor`, async () => {
    await start(async (connection, n) => {
      connection.welcome();
      if (n === 1) {
        await connection.attaches(LOG.slice(0, 4));
        return code === "reset" ? connection.reset() : connection.close(code);
      }
      const attach = await connection.attaches(LOG);
      assert.equal(attach.after, "e1.4");
    });
    const session = hub.open(SESSION, { after: "e1.0" });
    const seqs = applied(session);
    const seen = states(hub);
    await until("all of it", () => seqs.length === LOG.length);
    assert.deepEqual(seqs, LOG.map(({ seq }) => seq));
    await state(session, "live");
    assert.deepEqual(seen, ["connecting", "replaying", "live", "stale", "replaying", "live"]);
  });
}

test("duplicates, gaps and a wild order: each event once, in order; over a gap it attaches again", async () => {
  const attaches = [];
  await start(async (connection) => {
    connection.welcome();
    attaches.push(await connection.attaches(LOG.slice(0, 2)));
    connection.send(LOG[0], LOG[1], LOG[2], LOG[2], LOG[6], LOG[3], LOG[7]);
    attaches.push(await connection.attaches(LOG));
    connection.send(LOG[1], LOG[8], LOG[8]);
  });
  const session = hub.open(SESSION, { after: "e1.0" });
  const seqs = applied(session);
  await until("all of it", () => seqs.length >= LOG.length && attaches.length === 2);
  await sleep(20);
  assert.deepEqual(seqs, LOG.map(({ seq }) => seq));
  assert.deepEqual(attaches.map(({ after }) => after), ["e1.0", "e1.3"]);
  assert.equal(session.conversation.messages.at(-1).text, "Gannet, puffin and tern.");
});

test("another epoch: the snapshot replaces everything, and it is said", async () => {
  await start(async (connection, n) => {
    connection.welcome();
    if (n === 1) {
      await connection.attaches(LOG.slice(0, 6));
      return connection.reset();
    }
    const attach = await connection.expect("attach_session");
    assert.equal(attach.after, "e1.6");
    const messages = [{ messageId: "p2", role: "user", text: "Another past", taskId: TASK, seq: 2 }];
    connection.attached(3, 2, { epoch: "e2", recovered: false, snapshot: snapshot({ messages }) });
    connection.caughtUp(2);
    connection.ack(attach);
    connection.send(event(3, "session_updated", { name: "new" }));
  });
  const session = hub.open(SESSION, { after: "e1.0" });
  const attached = [];
  session.onAttached((one) => attached.push(one));
  const seqs = applied(session);
  await until("the beginning", () => seqs.length === 6);
  const task = session.task(TASK);
  await assert.rejects(async () => {
    for await (const _ of task);
  }, refusedWith("reset"));
  await until("what follows", () => seqs.includes(3) && seqs.length === 7);
  assert.deepEqual(attached.map(({ kept }) => kept), [true, false]);
  assert.equal(session.cursor, "e2.3");
  assert.deepEqual(session.conversation.messages.map(({ text }) => text), ["Another past"]);
  assert.equal(session.conversation.session.name, "new");
  assert.deepEqual(problems.map(({ code }) => code), ["reset"]);
});

test("from the start: the first answer says which log, the second gives it", async () => {
  await start(async (connection) => {
    connection.welcome();
    const first = await connection.expect("attach_session");
    assert.equal(first.after, undefined);
    connection.attached(5, 4, { recovered: false, snapshot: snapshot() });
    connection.caughtUp(4);
    connection.send(LOG[4]);
    connection.ack(first);
    const second = await connection.attaches(LOG);
    assert.equal(second.after, "e1.0");
  });
  const session = hub.open(SESSION, { after: "start" });
  const seqs = applied(session);
  await session.ready;
  assert.deepEqual(seqs, LOG.map(({ seq }) => seq));
});

test("going_away says when to come back, and nobody is asked for a pause of his own", async () => {
  await start(
    async (connection, n) => {
      connection.welcome();
      if (n > 1) return;
      connection.send({ type: "going_away", reconnectAfterMs: 7 });
      connection.close(1012);
    },
    { backoff: () => assert.fail("asked for a pause") },
  );
  await scripted.connection(2);
  await state(hub, "live");
});

test("a pause longer than a timer can be is one all the same", async () => {
  await start(async (connection) => {
    connection.welcome();
    connection.send({ type: "going_away", reconnectAfterMs: 1e12 });
    connection.close(1012);
  });
  await state(hub, "stale");
  await sleep(50);
  assert.equal(scripted.connections.length, 1);
});

test("a long pause that the hub asks for is kept, unless somebody cannot wait", async () => {
  await start(async (connection, n) => {
    connection.welcome();
    if (n > 1) return;
    connection.send({ type: "going_away", reconnectAfterMs: 1e9 });
    connection.close(1001);
  });
  await state(hub, "stale");
  assert.ok(hub.closed.retryAt - Date.now() > 9e8);
  assert.equal(hub.closed.final, false);
  await sleep(20);
  assert.equal(scripted.connections.length, 1);
  hub.reconnect();
  await state(hub, "live");
});

test("the pauses grow while there is no welcome, and start over after one", async () => {
  const asked = [];
  await start(
    async (connection, n) => {
      if (n > 4) connection.welcome();
      if (n < 7) connection.close(1012);
    },
    { backoff: (attempt) => (asked.push(attempt), 1) },
  );
  await scripted.connection(7);
  assert.deepEqual(asked, [0, 1, 2, 3, 0, 0]);
});

test("an overloaded hub is left alone for longer each time, although it says welcome", async () => {
  const asked = [];
  await start(
    async (connection, n) => {
      connection.welcome();
      if (n < 5) connection.close(n % 2 ? 4053 : 1011);
    },
    { backoff: (attempt) => (asked.push(attempt), 1) },
  );
  await scripted.connection(5);
  assert.deepEqual(asked, [1, 2, 3, 4]);
});

test("tokens that do not last: at once the first time, then after longer each time, although the hub says welcome", async () => {
  const asked = [];
  await start(
    async (connection, n) => {
      connection.welcome();
      if (n < 6) connection.close(4050);
    },
    { backoff: (attempt) => (asked.push(attempt), 1) },
  );
  await scripted.connection(6);
  await state(hub, "live");
  assert.deepEqual(asked, [1, 2, 3, 4]);
});

test("a token that expires is replaced in band; the same one again is no replacement", async () => {
  const tokens = ["first", "first", "second"];
  let refreshed;
  await start(
    async (connection) => {
      connection.welcome();
      connection.send({ type: "auth_expiring", inMs: 40 });
      refreshed = await connection.expect("refresh_token");
      connection.ack(refreshed);
    },
    { token: undefined, getToken: async () => tokens.shift() },
  );
  await until("the refresh", () => refreshed);
  assert.equal(refreshed.token, "second");
  assert.deepEqual(problems.map(({ code }) => code), ["credentials"]);
  assert.equal(hub.state, "live");
});

test("a token that expires is replaced in band, also when its successor was used for a question already", async () => {
  let asked = 0;
  let refreshed;
  await start(
    async (connection) => {
      connection.welcome();
      const attach = await connection.expect("attach_session");
      connection.attached(7, 6, { recovered: false, snapshot: snapshot() });
      connection.caughtUp(6);
      connection.ack(attach);
      await until("the question", () => asked === 2);
      connection.send({ type: "auth_expiring", inMs: 40 });
      refreshed = await connection.expect("refresh_token");
      connection.ack(refreshed);
    },
    { token: undefined, getToken: () => (++asked === 1 ? "first" : "second") },
  );
  hub.open(SESSION).task(TASK);
  await until("the refresh", () => refreshed);
  assert.equal(refreshed.token, "second");
  assert.deepEqual(problems, []);
});

test("4050 brings a new token, at once", async () => {
  const tokens = ["first", "second"];
  await start(
    async (connection, n) => {
      connection.welcome();
      if (n === 1) connection.close(4050);
    },
    { token: undefined, getToken: () => tokens.shift(), backoff: () => 1e9 },
  );
  const second = await scripted.connection(2);
  assert.match(second.protocols, /bearer\.second$/);
  await state(hub, "live");
});

test("tickets are asked for before each connection", async () => {
  let n = 0;
  await start(async (connection, n) => (connection.welcome(), n === 1 && connection.reset()), { token: undefined, ticket: async () => `t/${++n}` });
  const second = await scripted.connection(2);
  assert.deepEqual(scripted.connections.map(({ url }) => url), ["/ws/agents?ticket=t%2F1", "/ws/agents?ticket=t%2F2"]);
  assert.equal(second.protocols, "agent-hub.v1");
});

test("a source of tokens that fails is asked again", async () => {
  let asked = 0;
  await start(async (connection) => connection.welcome(), {
    token: undefined,
    getToken: () => {
      if (++asked < 3) throw new Error("the identity provider is away");
      return "token";
    },
  });
  await state(hub, "live");
  assert.deepEqual(problems.map(({ code }) => code), ["credentials", "credentials"]);
  assert.match(problems[0].message, /identity provider is away/);
});

test("a hub that falls silent is asked, then left", async () => {
  await start(async (connection, n) => {
    connection.welcome({ heartbeatMs: 60 });
    if (n > 1) return;
    await connection.attaches(LOG.slice(0, 2));
    assert.equal((await connection.expect("ping")).type, "ping");
  });
  hub.open(SESSION, { after: "e1.0" });
  const second = await scripted.connection(2);
  await second.attaches(LOG.slice(0, 2));
  assert.equal(scripted.connections[0].frames.at(-1).type, "ping");
});

test("a hub that answers pings is not left", async () => {
  let pings = 0;
  await start(async (connection) => {
    connection.welcome({ heartbeatMs: 600 });
    for (;;) {
      const { id } = await connection.expect("ping");
      pings += 1;
      connection.send({ type: "pong", id });
    }
  });
  await until("two pings", () => pings === 2);
  assert.equal(scripted.connections.length, 1);
});

test("half a frame, then nothing: no message, and it goes on", async () => {
  await start(async (connection, n) => {
    connection.welcome();
    await connection.attaches(LOG.slice(0, n === 1 ? 3 : LOG.length));
    if (n > 1) return;
    const frame = Buffer.from(JSON.stringify(LOG[3]));
    connection.socket._socket.write(Buffer.concat([Buffer.from([0x81, 126, frame.length >> 8, frame.length & 255]), frame.subarray(0, 40)]));
    setTimeout(() => connection.reset(), 10);
  });
  const session = hub.open(SESSION, { after: "e1.0" });
  const seqs = applied(session);
  await until("all of it", () => seqs.length === LOG.length);
  assert.deepEqual(seqs, LOG.map(({ seq }) => seq));
  assert.deepEqual(problems, []);
});

test("something, but no welcome in time: the next attempt", async () => {
  await start(async (connection, n) => (n > 1 ? connection.welcome() : connection.send({ type: "later" })), { connectTimeoutMs: 50 });
  await state(hub, "live");
  assert.equal(scripted.connections.length, 2);
});

test("no welcome in time: the next attempt", async () => {
  await start(async (connection, n) => n > 1 && connection.welcome(), { connectTimeoutMs: 50, transport: "websocket" });
  await state(hub, "live");
  assert.equal(scripted.connections.length, 2);
});

test("frames that are nonsense, messages and fields nobody knows", async () => {
  await start(async (connection) => {
    connection.welcome({ surprise: 1 });
    connection.send("{", "[1]", { type: "later", a: 1 }, { type: "ack", id: "not ours", received: "x" });
    const attach = await connection.attaches(LOG.slice(0, 2));
    assert.ok(attach);
    connection.send({ type: "session_attached", sessionId: SESSION, epoch: "e1", recovered: false, from: 3, head: 2, snapshot: 7 });
    connection.attached(3, 2);
    connection.send({ ...LOG[2], surprise: true }, event(4, "new_kind", { a: 1 }), event(5, "session_mood", {}), event(6, "tool_result", null), event(7, "token", { messageId: "m", token: "x" }));
  });
  const session = hub.open(SESSION, { after: "e1.0" });
  const seqs = applied(session);
  await until("all of it", () => seqs.length === 7);
  assert.equal(session.conversation.head, 7);
  assert.equal(session.conversation.messages.at(-1).text, "x");
  assert.deepEqual(problems.map(({ code }) => code), ["frame", "frame", "frame", "frame"]);
});

test("a refusal is what the hub said", async () => {
  await start(async (connection) => {
    connection.welcome();
    await connection.creates();
    connection.refuse(await connection.expect("submit_task"), "rate_limited", { retryable: true, retryAfterMs: 1500, details: { limit: 30 } });
    connection.refuse(await connection.expect("cancel_task"), "already_terminal");
  });
  const session = hub.create({ sessionId: SESSION });
  const task = session.submit("Too much.");
  await assert.rejects(task.accepted, { name: "HubError", code: "rate_limited", retryable: true, retryAfterMs: 1500, details: { limit: 30 } });
  assert.equal(task.status, "refused");
  await assert.rejects(task.finished, refusedWith("rate_limited"));
  await assert.rejects(async () => {
    for await (const _ of task);
  }, refusedWith("rate_limited"));
  await assert.rejects(session.task(TASK).cancel(), refusedWith("already_terminal"));
});

test("what is repeated and meets a hub without room is tried again: the first one may have done it", async () => {
  await start(async (connection, n) => {
    connection.welcome();
    if (n === 1) {
      await connection.creates();
      await connection.expect("submit_task");
      return connection.reset();
    }
    connection.refuse(await connection.expect("attach_session"), "rate_limited", { retryable: true, retryAfterMs: 5 });
    const submit = await connection.expect("submit_task");
    connection.refuse(submit, "overloaded", { retryable: true, retryAfterMs: 5 });
    const again = [await until("two more", () => connection.frames[2]), await until("two more", () => connection.frames[3])];
    assert.deepEqual(again.map(({ type }) => type).sort(), ["attach_session", "submit_task"]);
    for (const one of again) connection.ack(one);
  });
  const session = hub.create({ sessionId: SESSION });
  await session.ready;
  await session.submit("Once.").accepted;
});

test("what is repeated and has to wait goes out in the order it was given", async () => {
  await start(async (connection, n) => {
    connection.welcome();
    if (n === 1) {
      await connection.attaches(LOG.slice(0, 1));
      for (let count = 0; count < 3; count += 1) await connection.expect("submit_task");
      return connection.reset();
    }
    await connection.attaches(LOG.slice(0, 1));
    const submits = [];
    for (let count = 0; count < 3; count += 1) submits.push(await connection.expect("submit_task"));
    for (const submit of submits) connection.refuse(submit, "overloaded", { retryable: true, retryAfterMs: 5 });
    for (let count = 0; count < 3; count += 1) connection.ack(await connection.expect("submit_task"));
  });
  const session = hub.open(SESSION, { after: "e1.0" });
  await session.ready;
  await Promise.all(["A", "B", "C"].map((prompt) => session.submit(prompt).accepted));
  assert.deepEqual(scripted.connections[1].frames.slice(1).map(({ prompt }) => prompt), ["A", "B", "C", "A", "B", "C"]);
});

test("a create that has to wait takes what is about its session along", async () => {
  await start(async (connection, n) => {
    connection.welcome();
    if (n === 1) {
      await connection.expect("create_session");
      await connection.expect("submit_task");
      await connection.expect("cancel_task");
      return connection.reset();
    }
    connection.refuse(await connection.expect("create_session"), "rate_limited", { retryable: true, retryAfterMs: 5 });
    connection.refuse(await connection.expect("submit_task"), "session_not_found");
    connection.refuse(await connection.expect("cancel_task"), "task_not_found");
    await connection.creates();
    connection.ack(await connection.expect("submit_task"));
    connection.ack(await connection.expect("cancel_task"));
  });
  const session = hub.create({ sessionId: SESSION });
  const task = session.submit("Once.");
  const cancelled = task.cancel();
  await Promise.all([session.ready, task.accepted, cancelled]);
});

test("too many commands wait: one more is refused, and nothing of it is sent", async () => {
  await start(async (connection) => {
    connection.welcome();
    await connection.creates();
    for (let n = 1; n < 4; n += 1) connection.ack(await connection.expect("submit_task"));
  }, { maxPending: 4 });
  const session = hub.create({ sessionId: SESSION });
  const tasks = [1, 2, 3].map((n) => session.submit(`${n}`));
  await assert.rejects(session.submit("one too many").accepted, (error) => refusedWith("outbox_full")(error) && error.retryable && /4 commands/.test(error.message));
  await Promise.all(tasks.map(({ accepted }) => accepted));
  assert.deepEqual(scripted.connections[0].frames.slice(1).map(({ prompt }) => prompt), ["1", "2", "3"]);
});

test("a command larger than the hub takes is not sent; one the hub hangs up over is not sent again", async () => {
  await start(async (connection, n) => {
    connection.welcome({ limits: { messageBytes: 400 } });
    if (n === 1) {
      await connection.creates();
      await connection.expect("submit_task");
      return connection.close(1009);
    }
    await connection.attaches(LOG.slice(0, 1));
    connection.ack(await connection.expect("submit_task"));
  });
  const session = hub.create({ sessionId: SESSION });
  await session.ready;
  await assert.rejects(session.submit("ä".repeat(200)).accepted, refusedWith("payload_too_large"));
  await assert.rejects(session.submit("b".repeat(100)).accepted, refusedWith("payload_too_large"));
  await session.submit("small").accepted;
});

for (const [end, resolves] of [["task_cancelled", true], ["task_completed", false]]) {
  test(`a cancel whose answer was lost, and the task ended as ${end}`, async () => {
    const log = [...LOG.slice(0, 6)];
    const data = { task_cancelled: { by: "user-1", partial: "", upstreamStopped: true }, task_completed: { result: "x", usage: { inputTokens: 1, outputTokens: 1 } } };
    await start(async (connection, n) => {
      connection.welcome();
      await connection.attaches(log);
      const cancel = await connection.expect("cancel_task");
      if (n === 1) {
        log.push(event(7, end, data[end]));
        return connection.reset();
      }
      connection.refuse(cancel, "already_terminal");
    });
    const session = hub.open(SESSION, { after: "e1.0" });
    await session.ready;
    const cancelled = session.task(TASK).cancel();
    await (resolves ? cancelled : assert.rejects(cancelled, refusedWith("already_terminal")));
  });
}

test("a steering input has one receipt, whichever side of the ack it comes on", async () => {
  await start(async (connection) => {
    connection.welcome();
    await connection.attaches(LOG.slice(0, 4));
    const first = await connection.expect("steer_task");
    connection.send(event(5, "steer_accepted", { steerId: first.steerId, input: first.input, when: "now" }));
    connection.send(event(6, "steer_applied", { steerId: first.steerId, step: 2, messageId: "m9", input: first.input }));
    connection.ack(first);
    const second = await connection.expect("steer_task");
    connection.ack(second);
    connection.send(event(7, "steer_accepted", { steerId: second.steerId, input: second.input, when: "next_step" }));
    connection.send(event(8, "steer_rejected", { steerId: second.steerId, reason: "ended", input: second.input }));
    connection.refuse(await connection.expect("steer_task"), "already_terminal");
  });
  const session = hub.open(SESSION, { after: "e1.0" });
  await session.ready;
  const task = session.task(TASK);
  const { steerId, ...receipt } = await task.steer("First", { when: "now" });
  assert.deepEqual(receipt, { outcome: "applied", step: 2, messageId: "m9" });
  assert.deepEqual(session.conversation.messages.at(-1), { id: "m9", taskId: TASK, role: "user", text: "First", partial: false, streaming: false, seq: 6 });
  assert.equal((await task.steer("Second")).outcome, "rejected");
  await assert.rejects(task.steer("Third"), refusedWith("already_terminal"));
  assert.deepEqual(task.view.steers.map(({ status }) => status), ["applied", "rejected"]);
});

test("an answer to a question that was lost on the way back is recognised", async () => {
  const asked = event(5, "input_requested", { requestId: "r1", kind: "input", prompt: "Which?", schema: { type: "string" } });
  const log = [...LOG.slice(0, 4), asked, event(6, "task_suspended", { reason: "input" })];
  await start(async (connection, n) => {
    connection.welcome();
    await connection.attaches(log);
    const respond = await connection.expect("respond_input");
    if (n === 1) {
      log.push(event(7, "input_resolved", { requestId: "r1", outcome: "accept", by: "user-1", payload: { b: 1, a: "x" } }), event(8, "task_resumed", {}));
      return connection.reset();
    }
    connection.refuse(respond, "already_resolved");
    connection.refuse(await connection.expect("respond_input"), "already_resolved");
  });
  const session = hub.open(SESSION, { after: "e1.0" });
  await session.ready;
  const [input] = session.inputs;
  assert.equal(input, session.inputs[0]);
  assert.deepEqual([input.requestId, input.prompt], ["r1", "Which?"]);
  await input.respond({ outcome: "accept", payload: { a: "x", b: 1 } });
  assert.deepEqual(session.inputs, []);
  assert.equal(session.task(TASK).status, "running");
  await assert.rejects(input.respond({ outcome: "reject" }), refusedWith("already_resolved"));
});

test("ending a session twice, because the first answer was lost", async () => {
  await start(async (connection, n) => {
    connection.welcome();
    await connection.attaches(LOG.slice(0, 2));
    const end = await connection.expect("end_session");
    if (n === 1) return connection.reset();
    connection.refuse(end, "already_terminal");
  });
  const session = hub.open(SESSION, { after: "e1.0" });
  await session.ready;
  await session.end();
});

test("a session nobody knows is refused; the others go on", async () => {
  await start(async (connection) => {
    connection.welcome();
    connection.refuse(await connection.expect("attach_session"), "session_not_found");
    await connection.creates();
  });
  const unknown = hub.open("0198f3a2-6b1c-7d4e-8f90-a1b2c3d4e5f6");
  const known = hub.create({ sessionId: SESSION });
  await assert.rejects(unknown.ready, refusedWith("session_not_found"));
  assert.deepEqual([unknown.state, unknown.error.code], ["closed", "session_not_found"]);
  await known.ready;
  await state(hub, "live");
  assert.deepEqual(hub.sessions, [known]);
});

test("several sessions on one socket are attached again, each behind its own cursor", async () => {
  const ids = [SESSION, "0198f3a2-6b1c-7d4e-8f90-a1b2c3d4e5f6"];
  const afters = [];
  await start(async (connection, n) => {
    connection.welcome();
    for (const [index, id] of ids.entries()) {
      const attach = await connection.expect("attach_session");
      assert.equal(attach.sessionId, id);
      afters.push(attach.after);
      const seq = Number(attach.after.split(".")[1]);
      connection.send({ type: "session_attached", sessionId: id, epoch: `e${index}`, recovered: true, from: seq + 1, head: seq + index + 1 });
      for (let next = seq + 1; next <= seq + index + 1; next += 1) connection.send(event(next, "session_updated", { name: `${next}` }, undefined, id));
      connection.send({ type: "caught_up", sessionId: id, seq: seq + index + 1 });
    }
    if (n === 1) connection.reset();
  });
  const sessions = ids.map((id, index) => hub.open(id, { after: `e${index}.0` }));
  await until("both, twice", () => sessions[0].cursor === "e0.2" && sessions[1].cursor === "e1.4");
  assert.deepEqual(afters, ["e0.0", "e1.0", "e0.1", "e1.2"]);
});

test("a session that is detached is not attached again", async () => {
  await start(async (connection, n) => {
    connection.welcome();
    if (n > 1) return;
    await connection.attaches(LOG.slice(0, 2));
    await connection.expect("detach_session");
    connection.send(LOG[2]);
    connection.reset();
  });
  const session = hub.open(SESSION, { after: "e1.0" });
  const seqs = applied(session);
  await session.ready;
  const task = session.task(TASK);
  session.detach();
  assert.deepEqual([session.state, session.error], ["closed", undefined]);
  await assert.rejects(task.finished, refusedWith("detached"));
  const second = await scripted.connection(2);
  await state(hub, "live");
  await sleep(20);
  assert.deepEqual(second.frames, []);
  assert.deepEqual(seqs, [1, 2]);
});

for (const answered of [true, false]) test(`detached and opened again before the first attach is answered (it ${answered ? "is" : "never is"}): only the answer to the second one counts`, async () => {
  const parts = (text) => ({ recovered: false, snapshot: snapshot({ messages: [{ messageId: "p2", role: "user", text, taskId: TASK, seq: 2 }] }) });
  await start(async (connection) => {
    connection.welcome();
    const first = await connection.expect("attach_session");
    const detach = await connection.expect("detach_session");
    if (answered) {
      connection.attached(3, 2, parts("first"));
      connection.caughtUp(2);
      connection.send(event(3, "session_updated", { name: "of the first" }));
    }
    connection.ack(detach);
    connection.ack(first);
    const second = await connection.expect("attach_session");
    connection.attached(4, 3, parts("second"));
    connection.caughtUp(3);
    connection.ack(second);
    connection.send(event(4, "session_updated", { name: "of the second" }));
  });
  await state(hub, "live");
  const left = hub.open(SESSION);
  left.detach();
  const session = hub.open(SESSION);
  assert.notEqual(session, left);
  const attached = [];
  session.onAttached(({ from }) => attached.push(from));
  const seqs = applied(session);
  await session.ready;
  await until("what follows", () => session.cursor === "e1.4");
  assert.deepEqual([attached, seqs, problems], [[4], [4], []]);
  assert.deepEqual(session.conversation.messages.map(({ text }) => text), ["second"]);
});

test("made, detached and opened before the first answer: attached for itself, as soon as it is made", async () => {
  await start(async (connection) => {
    connection.welcome();
    const create = await connection.expect("create_session");
    connection.ack(await connection.expect("detach_session"));
    connection.refuse(await connection.expect("attach_session"), "session_not_found");
    connection.ack(create);
    await connection.attaches(LOG.slice(0, 1));
  });
  await state(hub, "live");
  hub.create({ sessionId: SESSION }).detach();
  const session = hub.open(SESSION);
  await session.ready;
  await sleep(20);
  assert.deepEqual([session.state, problems], ["live", []]);
  assert.equal(scripted.connections[0].frames.filter(({ type }) => type === "detach_session").length, 1);
});

test("what was opened behind somebody else's cursor is not kept until a snapshot has filled it", async () => {
  const other = "0198f3a2-6b1c-7d4e-8f90-a1b2c3d4e5f6";
  const saved = [];
  const cursors = { load: () => undefined, save: (id, { cursor }) => saved.push(`${id} ${cursor}`), remove: () => {} };
  await start(async (connection, n) => {
    connection.welcome();
    if (n === 1) {
      await connection.attaches(LOG.slice(0, 4));
      const attach = await connection.expect("attach_session");
      connection.send({ type: "session_attached", sessionId: other, epoch: "e9", recovered: true, from: 1, head: 0 });
      return connection.ack(attach);
    }
    await connection.expect("attach_session");
    connection.attached(7, 6, { epoch: "e2", recovered: false, snapshot: snapshot() });
  }, { cursors });
  const session = hub.open(SESSION, { after: "e1.3" });
  hub.open(other, { after: "e9.0" });
  await until("the whole one is kept", () => saved.length);
  assert.equal(session.cursor, "e1.4");
  assert.deepEqual(saved, [`${other} e9.0`]);
  scripted.connections[0].reset();
  await until("it is kept now", () => saved.includes(`${SESSION} e2.6`));
  assert.deepEqual(saved.filter((one) => one.startsWith(`${SESSION} e1`)), []);
});

for (const [type, data, outcome] of [
  ["task_completed", { result: "x", usage: { inputTokens: 1, outputTokens: 2 } }, { status: "completed", result: "x", usage: { inputTokens: 1, outputTokens: 2 } }],
  ["task_failed", { code: "upstream_error", message: "no", retryable: true }, { status: "failed", error: { code: "upstream_error", message: "no" } }],
  ["task_cancelled", { by: "user-1", partial: "", upstreamStopped: true }, { status: "cancelled" }],
  ["task_timeout", { timeoutMs: 5 }, { status: "timeout" }],
]) {
  test(`a task that began before where the session was opened: ${type} says how it ended`, async () => {
    await start(async (connection) => {
      connection.welcome();
      await connection.attaches(LOG.slice(0, 6));
      connection.send(event(7, type, data));
    });
    const session = hub.open(SESSION, { after: "e1.6" });
    const task = session.task(TASK);
    assert.deepEqual(await task.finished, outcome);
    assert.equal(task.view, undefined);
    assert.equal(task.status, outcome.status);
  });
}

test("a task that is not there, and nobody to ask, because there is no token", async () => {
  await start(async (connection) => {
    connection.welcome();
    const attach = await connection.expect("attach_session");
    connection.attached(7, 6, { recovered: false, snapshot: snapshot() });
    connection.caughtUp(6);
    connection.ack(attach);
  }, { token: undefined, ticket: () => "t" });
  const session = hub.open(SESSION);
  await session.ready;
  await assert.rejects(session.task(TASK).finished, refusedWith("task_not_found"));
});

test("a steering input of a session that is not followed any more has no receipt, and says so", async () => {
  await start(async (connection) => {
    connection.welcome();
    await connection.attaches(LOG.slice(0, 4));
    await connection.expect("detach_session");
    connection.ack(await connection.expect("steer_task"));
  });
  const session = hub.open(SESSION, { after: "e1.0" });
  await session.ready;
  const task = session.task(TASK);
  session.detach();
  await assert.rejects(task.steer("Too late"), refusedWith("detached"));
  await until("it is sent all the same", () => scripted.connections[0].frames.at(-1).type === "steer_task");
});

test("submitted again under the same id after a refusal: a task like any other", async () => {
  await start(async (connection) => {
    connection.welcome();
    await connection.attaches(LOG.slice(0, 1));
    connection.refuse(await connection.expect("submit_task"), "queue_full", { retryable: true });
    connection.ack(await connection.expect("submit_task"));
    connection.send(...LOG.slice(1));
  });
  const session = hub.open(SESSION, { after: "e1.0" });
  await session.ready;
  const first = session.submit("Say it", { taskId: TASK });
  await assert.rejects(first.finished, refusedWith("queue_full"));
  const second = session.submit("Say it", { taskId: TASK });
  const types = [];
  for await (const { type } of second) types.push(type);
  assert.deepEqual(types, LOG.slice(1).map(({ type }) => type));
  assert.deepEqual([(await second.finished).status, second.status, first.status], ["completed", "completed", "refused"]);
  assert.equal(session.task(TASK), second);
});

test("who iterates too slowly is told; nobody else is", async () => {
  await start(async (connection) => {
    connection.welcome();
    await connection.attaches(LOG.slice(0, 1));
    await connection.expect("ping");
  }, { maxBuffered: 8 });
  const session = hub.open(SESSION, { after: "e1.0" });
  await session.ready;
  const slow = session.events();
  const quick = session.events();
  const [connection] = scripted.connections;
  const taken = [];
  for (let seq = 2; seq < 40; seq += 1) {
    connection.send(event(seq, "session_updated", { name: `${seq}` }, undefined));
    taken.push((await quick.next()).value.seq);
  }
  assert.deepEqual(taken, Array.from({ length: 38 }, (_, index) => index + 2));
  await assert.rejects(slow.next(), (error) => refusedWith("overflow")(error) && /session .*more than 8 events/.test(error.message));
  assert.equal((await slow.next()).done, true);
  const rest = quick.next();
  session.detach();
  assert.equal((await rest).done, true);
  assert.equal(problems.length, 0);
});

test("a listener that throws harms nobody", async () => {
  await start(async (connection) => {
    connection.welcome();
    await connection.attaches(LOG);
  });
  const session = hub.open(SESSION, { after: "e1.0" });
  session.onEvent(({ seq }) => {
    if (seq === 2) throw new Error("mine");
  });
  const seqs = applied(session);
  await session.ready;
  assert.equal(seqs.length, LOG.length);
  assert.deepEqual(problems.map(({ code, cause }) => [code, cause.message]), [["listener", "mine"]]);
});

test("more commands than a hub takes at once are sent one by one, in order", async () => {
  await start(async (connection) => {
    connection.welcome();
    await connection.creates();
    for (let n = 0; n < 70; n += 1) connection.ack(await connection.expect("submit_task"));
  });
  const session = hub.create({ sessionId: SESSION });
  await Promise.all(Array.from({ length: 70 }, (_, index) => session.submit(`${index}`).accepted));
  assert.deepEqual(scripted.connections[0].frames.slice(1).map(({ prompt }) => Number(prompt)), Array.from({ length: 70 }, (_, index) => index));
});

test("without a WebSocket it is said what to do", () => {
  const there = globalThis.WebSocket;
  delete globalThis.WebSocket;
  try {
    assert.throws(() => connect({ url: "http://127.0.0.1:1", token: "t" }), (error) => refusedWith("no_websocket")(error) && /Node 20.*package ws/.test(error.message));
  } finally {
    if (there) globalThis.WebSocket = there;
  }
});

test("options that cannot work are refused by name", () => {
  const wrong = [
    [{}, /token, getToken and ticket/],
    [{ token: "a", getToken: () => "b" }, /token, getToken and ticket/],
    [{ token: "a", transport: "carrier pigeon" }, /transport/],
    [{ ticket: () => "a", transport: "sse" }, /ticket opens WebSockets only/],
    [{ token: "a", url: "ftp://hub" }, /http, https, ws or wss/],
    [{ token: "a", url: "hub" }, /no address/],
    [{ token: "a", url: "" }, /url is needed/],
    [{ token: "a", url: "http://me:secret@hub" }, /user or password/],
    [{ token: "a", maxPending: 0 }, /maxPending/],
    [{ token: "a", maxBuffered: 1.5 }, /maxBuffered/],
  ];
  for (const [options, message] of wrong) assert.throws(() => connect({ url: "http://hub", WebSocket, ...options }), (error) => error instanceof TypeError && message.test(error.message));
});
