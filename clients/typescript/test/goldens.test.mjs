// Every message of the protocol is read, and known.
import assert from "node:assert/strict";
import { readFileSync, readdirSync } from "node:fs";
import path from "node:path";
import { test } from "node:test";
import { CLOSE_CODES, COMMAND_TYPES, CONNECTION_TYPES, EVENT_TYPES, RETRYABLE, emptyConversation, fromSnapshot, reduce } from "../dist/index.js";
import { decode, isEvent, isTerminal, resumes } from "../dist/protocol.js";
import { ROOT } from "./support.mjs";

const GOLDEN = path.join(ROOT, "protocol/golden/v1");
const goldens = (folder) => readdirSync(path.join(GOLDEN, folder)).map((file) => ({ file, text: readFileSync(path.join(GOLDEN, folder, file), "utf8").trim() }));
const types = (folder) => [...new Set(goldens(folder).map(({ text }) => JSON.parse(text).type))].sort();

test("the lists of types are those of the golden messages", () => {
  assert.deepEqual([...EVENT_TYPES].sort(), types("event"));
  assert.deepEqual([...CONNECTION_TYPES].sort(), types("connection"));
  assert.deepEqual([...COMMAND_TYPES].sort(), types("client"));
});

test("every message is decoded as what it is", () => {
  for (const { file, text } of goldens("event")) {
    const message = decode(text);
    assert.ok(isEvent(message), file);
    assert.equal(isTerminal(message), /^task_(completed|failed|cancelled|timeout)/.test(file), file);
    assert.equal(JSON.stringify(message), text, file);
  }
  for (const { file, text } of goldens("connection")) {
    const message = decode(text);
    assert.ok(message && !isEvent(message), file);
    assert.equal(JSON.stringify(message), text, file);
  }
});

test("every event changes a conversation that has what it is about", () => {
  const all = goldens("event").map(({ file, text }) => ({ file, event: JSON.parse(text) }));
  const named = (...types) => types.flatMap((type) => all.filter(({ event }) => event.type === type).map(({ event }) => event));
  const before = [named("task_queued")[0], ...named("tool_call", "steer_accepted", "input_requested")];
  const about = ({ session: { updatedAt, ...session }, head, ...conversation }) => JSON.stringify({ ...conversation, session });
  for (const { file, event } of all) {
    const taskId = event.taskId ?? before[0].taskId;
    const known = before.reduce((conversation, one, index) => reduce(conversation, { ...one, taskId, seq: index + 1 }), emptyConversation(event.sessionId));
    const after = reduce(known, { ...event, seq: known.head + 1 });
    assert.equal(after.head, known.head + 1, file);
    assert.notEqual(about(after), about(known), `${file} changes nothing`);
  }
});

test("a snapshot becomes a conversation", () => {
  const attached = JSON.parse(goldens("connection").find(({ file }) => file === "session_attached.snapshot.json").text);
  const conversation = fromSnapshot(attached);
  assert.equal(conversation.head, attached.from - 1);
  assert.equal(conversation.messages.length, attached.snapshot.messages.length);
  assert.deepEqual(conversation.messages.filter(({ streaming }) => streaming).map(({ id }) => id), ["m4"]);
  assert.equal(conversation.earlierMessages, 12);
});

test("the tables of codes are those of the protocol", () => {
  const { closeCodes, errorCodes } = JSON.parse(readFileSync(path.join(GOLDEN, "codes.json"), "utf8"));
  assert.deepEqual(JSON.parse(JSON.stringify(CLOSE_CODES)), closeCodes);
  assert.deepEqual(RETRYABLE, Object.fromEntries(Object.entries(errorCodes).map(([code, { retryable }]) => [code, retryable])));
  assert.equal(resumes(1006), true);
  assert.equal(resumes(4001), false);
});

test("what is no message is no message", () => {
  for (const nonsense of ["", "{", "[]", "null", '"text"', "{}", '{"type":1}', undefined, new ArrayBuffer(3)]) assert.equal(decode(nonsense), undefined);
});
