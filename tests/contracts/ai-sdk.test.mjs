// The AI SDK's own transport talks to the hub as it talks to VoltAgent: sends, loses the connection, comes back in the middle, and is told when there is
// nothing to come back to.

import assert from "node:assert/strict";
import { after, before, test } from "node:test";

import { DefaultChatTransport, readUIMessageStream } from "ai";

import { hub } from "./support.mjs";

let there;
before(async () => {
  there = await hub();
});
after(() => there.stop());

function transport() {
  return new DefaultChatTransport({
    api: `${there.url}/agents/assistant/chat`,
    prepareSendMessagesRequest: ({ messages, id }) => ({
      body: { input: messages.slice(-1), options: { conversationId: id, userId: "u", resumableStream: true } },
    }),
    prepareReconnectToStreamRequest: ({ id }) => ({ api: `${there.url}/agents/assistant/chat/${id}/stream?userId=u` }),
  });
}

const said = (text) => ({ id: "u1", role: "user", parts: [{ type: "text", text }] });
const send = (chatId, text, abortSignal) => transport().sendMessages({ trigger: "submit-message", chatId, messageId: undefined, messages: [said(text)], abortSignal });

/** Reads a stream to its end as the SDK does, and returns the message it comes to. */
async function message(stream) {
  let last;
  for await (const soFar of readUIMessageStream({ stream })) last = soFar;
  return last;
}

const textOf = (message) => message.parts.filter((part) => part.type === "text").map((part) => part.text).join("");

test("a message is sent and its answer read, with what the agent thought and called", async () => {
  const answer = await message(await send("one", "/reason 3 /ask_nothing /echo hello there"));
  assert.equal(answer.role, "assistant");
  assert.ok(textOf(answer).includes("hello there"), textOf(answer));
  assert.ok(answer.parts.some((part) => part.type === "reasoning"));
  const called = await message(await send("two", '/tool web_search {"query": "x"} /echo on'));
  const tool = called.parts.find((part) => part.type === "tool-web_search" || part.type === "dynamic-tool");
  assert.equal(tool.state, "output-error");
  assert.equal(textOf(called), "on");
});

test("an answer goes on without its reader, is come back to in the middle, and has an end", async () => {
  const stop = new AbortController();
  const first = (await send("three", "/pace 10 /tokens 150", stop.signal)).getReader();
  let seen = 0;
  while (seen < 5) {
    const { value } = await first.read();
    if (value?.type === "text-delta") seen += 1;
  }
  stop.abort();
  const again = await transport().reconnectToStream({ chatId: "three" });
  assert.notEqual(again, null);
  const answer = await message(again);
  assert.equal(textOf(answer).trim().split(/\s+/).length, 150);
  assert.equal(await transport().reconnectToStream({ chatId: "three" }), null, "204: nothing is being made any more");
  assert.equal(await transport().reconnectToStream({ chatId: "never" }), null);
});

test("an error is an error to the SDK too", async () => {
  const chunks = [];
  for await (const chunk of await send("four", "/fail 401")) chunks.push(chunk);
  assert.equal(chunks.at(-1).type, "error");
});
