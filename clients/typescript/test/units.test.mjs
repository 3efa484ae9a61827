// The parts that need no hub.
import assert from "node:assert/strict";
import { test } from "node:test";
import { EventBuffer } from "../dist/buffer.js";
import { FrameReader } from "../dist/frames.js";
import { uuid } from "../dist/ids.js";
import { emptyConversation, fromSnapshot, reduce, storedCursors } from "../dist/index.js";
import { Pace, jittered } from "../dist/pace.js";
import { Position, parseCursor } from "../dist/position.js";
import { openSse } from "../dist/sse.js";
import { watch } from "../dist/wake.js";
import { SESSION, TASK, created, event, snapshot, told } from "./support.mjs";

const attached = (epoch, recovered, from) => ({ type: "session_attached", sessionId: SESSION, epoch, recovered, from, head: from + 5 });

test("positions: once, in order, over no gap", () => {
  const position = new Position();
  assert.equal(position.cursor, undefined);
  assert.equal(position.attached(attached("a", true, 1)), true);
  assert.deepEqual([1, 2, 2, 1, 3].map((seq) => position.take(seq)), ["apply", "apply", "ignore", "ignore", "apply"]);
  assert.equal(position.cursor, "a.3");
  assert.deepEqual([5, 4, 6].map((seq) => position.take(seq)), ["gap", "ignore", "ignore"]);
  assert.equal(position.attached(attached("a", true, 4)), true);
  assert.equal(position.take(4), "apply");
});

test("positions: a replay changes nothing, another history is taken over", () => {
  const position = new Position({ epoch: "a", seq: 7 });
  assert.equal(position.attached(attached("a", true, 1)), true);
  assert.deepEqual([1, 7, 8].map((seq) => position.take(seq)), ["ignore", "ignore", "apply"]);
  assert.equal(position.attached(attached("b", false, 4)), false);
  assert.deepEqual([3, 4].map((seq) => position.take(seq)), ["ignore", "apply"]);
  assert.equal(position.attached(attached("c", true, 1)), false);
  assert.equal(position.take(1), "apply");
});

test("cursors", () => {
  assert.deepEqual(parseCursor("5f3a9c01.17"), { epoch: "5f3a9c01", seq: 17 });
  assert.deepEqual(parseCursor("a.0"), { epoch: "a", seq: 0 });
  for (const wrong of ["", "a", "a.", ".1", "A.1", "a.01", "a.-1", "a.1.2", "a.99999999999999999999", "a.1 "]) assert.equal(parseCursor(wrong), undefined, wrong);
});

test("pauses are below a bound that doubles up to the largest", () => {
  const bounds = [0, 1, 2, 3, 40].map(jittered(250, 1500, () => 1));
  assert.deepEqual(bounds, [250, 500, 1000, 1500, 1500]);
  assert.equal(jittered(250, 1500, () => 0)(9), 0);
});

test("the pace stays below what a hub takes", () => {
  let now = 1000;
  const pace = new Pace(now);
  let taken = 0;
  for (; now < 11_000; ) {
    const wait = pace.take(now);
    if (wait === 0) taken += 1;
    now += wait;
    assert.ok(taken <= 58 + ((now - 1000) / 1000) * 20, `${taken} after ${now - 1000} ms`);
  }
  assert.ok(taken > 200, `${taken} in 10 s`);
  assert.ok(pace.take(0) <= 60, "a clock that is set back stops nothing for long");
});

test("a gap in the clock is sleep", (t) => {
  t.mock.timers.enable({ apis: ["setInterval"] });
  let now = 1000;
  t.mock.method(Date, "now", () => now);
  let woke = 0;
  const stop = watch({ woke: () => (woke += 1), hides: () => {} });
  const pass = (ms) => {
    now += ms;
    t.mock.timers.tick(2000);
  };
  pass(2000);
  pass(4000);
  assert.equal(woke, 0, "a busy moment is no sleep");
  pass(3_600_000);
  assert.equal(woke, 1);
  pass(-3_600_000);
  pass(2000);
  assert.equal(woke, 1, "a clock that is set back is no sleep");
  stop();
  pass(3_600_000);
  assert.equal(woke, 1);
});

test("ids are UUIDs, also where the page is not from a secure origin", () => {
  const { randomUUID } = crypto;
  const version4 = /^[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/;
  assert.match(uuid(), version4);
  crypto.randomUUID = undefined;
  try {
    for (let n = 0; n < 50; n += 1) assert.match(uuid(), version4);
  } finally {
    crypto.randomUUID = randomUUID;
  }
});

test("event streams are read however they are cut", () => {
  const text = ": hello\n\nid: a.1\r\nevent: token\r\ndata: {\"a\":1}\r\n\r\ndata:one\ndata: two\n\nevent: lonely\n\n";
  const expected = [{ event: "", data: "" }, { event: "token", data: '{"a":1}' }, { event: "", data: "one\ntwo" }];
  for (let size = 1; size <= text.length; size += 1) {
    const reader = new FrameReader();
    const frames = [];
    for (let at = 0; at < text.length; at += size) frames.push(...reader.read(text.slice(at, at + size)));
    assert.deepEqual(frames, expected, `in pieces of ${size}`);
  }
  const endless = new FrameReader();
  assert.throws(() => { for (let n = 0; n < 20; n += 1) [...endless.read("x".repeat(1024 * 1024))]; }, RangeError);
});

for (const [how, answer] of [
  ["that was read to its end", () => new Response(null, { status: 204 })],
  // It does not notice that nobody reads it.
  ["that is detached", () => new Response(new ReadableStream({ start: (stream) => stream.enqueue(new TextEncoder().encode(": hello\n\ndata: {}\n\n")) }))],
]) {
  test("what a sub-agent says stands with its task and not in the conversation", () => {
  const [task, child] = [crypto.randomUUID(), crypto.randomUUID()];
  const call = { callId: "c2", tool: "delegate_task", arguments: { agent: "helper", task: "sum" } };
  const all = [
    event(1, "session_created", { epoch: "e1", agent: "a", tools: [], createdAt: "2026-11-20T14:02:01.000Z" }),
    { ...event(2, "task_queued", { prompt: "go", position: 0, timeoutMs: 1 }), taskId: task },
    { ...event(3, "task_started", { attempt: 1, messageId: "m1" }), taskId: task },
    { ...event(4, "tool_call", call), taskId: task },
    { ...event(5, "step", { index: 2, name: "delegate_task", tool: "delegate_task", callId: "c2", phase: "started" }), taskId: task },
    { ...event(6, "task_queued", { prompt: "sum", position: 0, timeoutMs: 1, agent: "helper", parentTaskId: task, callId: "c2" }), taskId: child },
    { ...event(7, "task_started", { attempt: 1, messageId: "m3" }), taskId: child },
    { ...event(8, "token", { messageId: "m4", token: "the " }), taskId: child },
    { ...event(9, "tool_output", { callId: "c2", output: "half " }), taskId: task },
    { ...event(10, "token", { messageId: "m4", token: "sum" }), taskId: child },
    { ...event(11, "tool_output", { callId: "c2", output: "way" }), taskId: task },
    { ...event(12, "message", { messageId: "m4", role: "assistant", text: "the sum" }), taskId: child },
    { ...event(13, "task_completed", { result: "the sum", usage: { inputTokens: 0, outputTokens: 0 } }), taskId: child },
    { ...event(14, "tool_result", { callId: "c2", output: "the sum", durationMs: 3 }), taskId: task },
    { ...event(15, "step", { index: 2, name: "delegate_task", tool: "delegate_task", callId: "c2", phase: "completed" }), taskId: task },
  ];
  const conversation = all.reduce(reduce, emptyConversation(SESSION));
  assert.deepEqual(conversation.messages.map(({ id }) => id), ["m1"]);
  assert.equal(conversation.session.taskCount, 1);
  assert.deepEqual(conversation.queue, []);
  const [parent, sub] = conversation.tasks;
  assert.deepEqual([sub.parentTaskId, sub.agent, sub.callId, sub.text, sub.result], [task, "helper", "c2", "the sum", "the sum"]);
  assert.deepEqual([parent.toolCalls[0].said, parent.toolCalls[0].output, parent.toolCalls[0].done], ["half way", "the sum", true]);
  assert.deepEqual(parent.steps.map(({ phase, callId }) => [phase, callId]), [["completed", "c2"]]);
});

test(`event streams: the place of one ${how} is free`, async () => {
    const fetch = async (address) => (String(address).includes("/events") ? answer() : Response.json({ cursor: "e1.0" }));
    const refused = [];
    const answered = new Promise((resolve) => {
      const message = (said) => {
        if (said.type === "error") refused.push(said.code);
        if (said.id === "last") resolve();
      };
      const link = openSse({ http: "http://hub", fetch }, "a.b.c", { message, life: () => {}, nonsense: () => {}, closed: () => {} });
      // More than there may be at once.
      for (let n = 0; n < 70; n += 1) {
        link.send({ type: "attach_session", id: n, sessionId: `s${n}`, after: "e1.0" });
        if (how === "that is detached") link.send({ type: "detach_session", id: `d${n}`, sessionId: `s${n}` });
      }
      link.send({ type: "attach_session", id: "last", sessionId: "one more", after: "e1.0" });
    });
    await answered;
    assert.deepEqual(refused, []);
  });
}

test("buffers: every reader at its own place", async () => {
  const buffer = new EventBuffer(100, "test");
  buffer.push(1);
  const first = buffer.iterate("first");
  const now = buffer.iterate("now");
  buffer.push(2);
  assert.deepEqual([(await first.next()).value, (await first.next()).value, (await now.next()).value], [1, 2, 2]);
  const [third, fourth] = [first.next(), first.next()];
  buffer.push(3);
  buffer.push(4);
  buffer.end();
  assert.deepEqual([(await third).value, (await fourth).value, (await first.next()).done], [3, 4, true]);
  assert.deepEqual(await Array.fromAsync?.(buffer.iterate("first")) ?? [1, 2, 3, 4], [1, 2, 3, 4]);
});

test("void text is removed, stays away when the task is done again, and comes back when it fails", () => {
  const begin = [created(), ...told(2, ["lost"]).slice(0, 4)];
  const fold = (events, from = emptyConversation(SESSION)) => events.reduce(reduce, from);
  const texts = (conversation) => conversation.messages.map(({ text, partial, seq }) => [text, partial, seq]);
  assert.deepEqual(texts(fold(begin)), [["Say it", false, 3], ["lost", true, 5]]);
  const recovered = fold([event(6, "task_recovering", { attempt: 2, discardAfter: 4 })], fold(begin));
  assert.deepEqual(texts(recovered), [["Say it", false, 3]]);
  assert.equal(recovered.tasks[0].recovering, true);
  const again = [
    event(7, "task_started", { attempt: 2, messageId: "p2" }),
    event(8, "token", { messageId: "m9", token: "kept" }),
    event(9, "message", { messageId: "m9", role: "assistant", text: "kept" }),
    event(10, "task_completed", { result: "kept", usage: { inputTokens: 1, outputTokens: 1 } }),
  ];
  assert.deepEqual(texts(fold(again, recovered)), [["Say it", false, 3], ["kept", false, 8]]);
  const failure = event(7, "task_failed", { code: "interrupted", message: "no", retryable: true, partial: "lost", messageId: "m2" });
  const failed = fold([failure], recovered);
  assert.deepEqual(texts(failed), [["Say it", false, 3], ["lost", true, 5]]);
  assert.deepEqual(failed.tasks[0].error, { code: "interrupted", message: "no" });
  assert.equal(failed.messages[1].streaming, false);
});

test("a task that is rolled back takes its messages along", () => {
  const events = [created(), ...told(2, ["one"]), ...told(10, ["two"], "0198f3a2-6b1c-7d4e-8f90-a1b2c3d4e5f6").slice(0, 4)];
  const other = "0198f3a2-6b1c-7d4e-8f90-a1b2c3d4e5f6";
  const ends = [
    event(14, "cancel_requested", { by: "user-1", rollback: true }, other),
    event(15, "task_cancelled", { by: "user-1", partial: "two", upstreamStopped: true, rollback: true }, other),
  ];
  const conversation = [...events, ...ends].reduce(reduce, emptyConversation(SESSION));
  assert.deepEqual(conversation.messages.map(({ text }) => text), ["Say it", "one"]);
  assert.equal(conversation.tasks[1].status, "cancelled");
});

test("a conversation is never changed, and shares what stays the same", () => {
  const events = [created(), ...told(2, ["a", "b", "c"])];
  let conversation = emptyConversation(SESSION);
  for (const one of events) {
    const frozen = JSON.stringify(conversation);
    const next = reduce(conversation, one);
    assert.notEqual(next, conversation);
    assert.equal(JSON.stringify(conversation), frozen);
    conversation = next;
  }
  assert.equal(reduce(conversation, events[3]), conversation, "seen before");
  assert.throws(() => reduce(conversation, event(99, "session_updated", {})), RangeError);
  const tokens = reduce(conversation, event(conversation.head + 1, "session_updated", { name: "x" }));
  assert.equal(tokens.messages, conversation.messages);
});

test("a long conversation keeps its newest messages, and counts the others", () => {
  let conversation = emptyConversation(SESSION);
  let seq = 0;
  for (let n = 0; n < 700; n += 1) {
    const task = `${String(n).padStart(8, "0")}-0000-4000-8000-000000000000`;
    for (const one of told(seq + 1, [`answer ${n}`], task)) conversation = reduce(conversation, one);
    seq = conversation.head;
  }
  assert.equal(conversation.messages.length, 1000);
  assert.equal(conversation.earlierMessages, 400);
  assert.equal(conversation.messages.at(-1).text, "answer 699");
  assert.ok(conversation.tasks.length <= 128, `${conversation.tasks.length} tasks`);
  assert.equal(conversation.session.taskCount, 700);
});

class Storage {
  entries = new Map();
  room = Infinity;
  getItem = (key) => this.entries.get(key) ?? null;
  removeItem = (key) => void this.entries.delete(key);
  setItem(key, value) {
    if (value.length > this.room) throw new DOMException("full", "QuotaExceededError");
    this.entries.set(key, value);
  }
}

const kept = (seq, epoch = "e1", sessionId = SESSION, text = "x") => ({
  cursor: `${epoch}.${seq}`,
  conversation: { ...emptyConversation(sessionId, { epoch, seq }), messages: [{ id: "m1", role: "user", text, partial: false, streaming: false, seq }] },
});

test("what is kept is a conversation with its cursor, and an older one replaces no newer one", () => {
  const storage = new Storage();
  const [one, other] = [storedCursors(storage, "app"), storedCursors(storage, "app")];
  assert.equal(one.load(SESSION), undefined);
  one.save(SESSION, kept(7));
  assert.deepEqual(other.load(SESSION), kept(7));
  other.save(SESSION, kept(5, "e1", SESSION, "older"));
  assert.deepEqual(one.load(SESSION), kept(7));
  other.save(SESSION, kept(2, "e2"));
  assert.deepEqual(one.load(SESSION), kept(2, "e2"), "another epoch is another history");
  assert.equal(storedCursors(storage, "another app").load(SESSION), undefined);
  one.remove(SESSION);
  assert.equal(one.load(SESSION), undefined);
});

test("what is kept is bounded: sessions, characters, room", () => {
  const storage = new Storage();
  const cursors = storedCursors(storage, "app");
  for (let n = 0; n < 30; n += 1) cursors.save(`session ${n}`, kept(1, "e", `session ${n}`));
  assert.equal(cursors.load("session 9"), undefined);
  assert.ok(cursors.load("session 10"));
  assert.equal(storage.entries.size, 21);
  const long = kept(1);
  long.conversation.messages = Array.from({ length: 100 }, (_, n) => ({ ...long.conversation.messages[0], id: `m${n}`, text: "x".repeat(50_000) }));
  cursors.save(SESSION, long);
  const { conversation } = cursors.load(SESSION);
  assert.ok(conversation.messages.length > 5 && conversation.messages.length < 21);
  assert.equal(conversation.messages.at(-1).id, "m99");
  assert.equal(conversation.earlierMessages, 100 - conversation.messages.length);
  storage.room = 100;
  assert.throws(() => cursors.save("session 29", kept(2, "e", "session 29", "y".repeat(200))), /full/);
  assert.equal(cursors.load("session 29"), undefined);
});

test("what cannot be read is as if nothing were kept", () => {
  const storage = new Storage();
  const cursors = storedCursors(storage, "app");
  cursors.save(SESSION, kept(7));
  const [key] = [...storage.entries.keys()].filter((name) => name.includes(SESSION));
  const good = storage.getItem(key);
  for (const wrong of ["", "{", good.slice(0, -1), good.replace("1 e1.7", "1 e1.8"), good.replace("1 e1.7", "2 e1.7"), good.replace(SESSION, TASK), "1 e1.7\n{}", "1 e1.7\nnull"]) {
    storage.entries.set(key, wrong);
    assert.equal(cursors.load(SESSION), undefined, wrong);
  }
});

test("a snapshot that is empty, and one without a snapshot", () => {
  assert.deepEqual(fromSnapshot({ ...attached("e", false, 4), snapshot: snapshot() }).head, 3);
  assert.deepEqual(fromSnapshot(attached("e", true, 1)), emptyConversation(SESSION, { epoch: "e", seq: 0 }));
});
