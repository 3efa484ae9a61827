// The vendors' own clients understand the fake that all tests rest on: what it says is what the vendors say.

import assert from "node:assert/strict";
import { after, before, test } from "node:test";

import Anthropic from "@anthropic-ai/sdk";
import OpenAI from "openai";

import { vendor } from "./support.mjs";

let fake;
let openai;
let anthropic;

before(async () => {
  fake = await vendor();
  openai = new OpenAI({ apiKey: "k", baseURL: fake.url, maxRetries: 0 });
  anthropic = new Anthropic({ apiKey: "k", baseURL: fake.url.replace(/\/v1\/?$/, ""), maxRetries: 0 });
});
after(() => fake.stop());

const TOOL = { name: "web_search", description: "Searches", parameters: { type: "object", properties: { query: { type: "string" } }, required: ["query"] } };

test("OpenAI's client reads a streamed answer with its usage", async () => {
  const stream = openai.chat.completions.stream({
    model: "m",
    messages: [{ role: "user", content: "/echo hello there" }],
    stream_options: { include_usage: true },
  });
  const whole = await stream.finalChatCompletion();
  assert.equal(whole.choices[0].message.content, "hello there");
  assert.equal(whole.choices[0].finish_reason, "stop");
  assert.ok(whole.usage.total_tokens > 0);
});

test("OpenAI's client reads calls of tools and hands back their results", async () => {
  const messages = [{ role: "user", content: '/tool web_search {"query": "birds"} /echo found' }];
  const tools = [{ type: "function", function: TOOL }];
  const first = await openai.chat.completions.stream({ model: "m", messages, tools }).finalChatCompletion();
  const call = first.choices[0].message.tool_calls[0];
  assert.deepEqual([call.function.name, JSON.parse(call.function.arguments)], ["web_search", { query: "birds" }]);
  assert.equal(first.choices[0].finish_reason, "tool_calls");
  messages.push({ role: "assistant", content: null, tool_calls: first.choices[0].message.tool_calls }, { role: "tool", tool_call_id: call.id, content: "gulls" });
  const second = await openai.chat.completions.stream({ model: "m", messages, tools }).finalChatCompletion();
  assert.equal(second.choices[0].message.content, "found");
});

test("what OpenAI refuses is refused, and its client knows the error", async () => {
  const ask = (messages, more = {}) => openai.chat.completions.create({ model: "m", stream: true, messages, ...more });
  const user = { role: "user", content: "x" };
  const call = { id: "c1", type: "function", function: { name: "web_search", arguments: "{}" } };
  await assert.rejects(ask([user, { role: "assistant", content: null, tool_calls: [call] }, user]), OpenAI.BadRequestError, "a call without its result");
  await assert.rejects(ask([user, { role: "tool", tool_call_id: "c9", content: "x" }]), OpenAI.BadRequestError, "a result without its call");
  await assert.rejects(ask([]), OpenAI.BadRequestError);
  await assert.rejects(ask([user], { temperature: 3 }), OpenAI.BadRequestError);
  await assert.rejects(ask([{ role: "user", content: "/fail 429" }]), OpenAI.RateLimitError);
  await assert.rejects(ask([{ role: "user", content: "/fail 500" }]), OpenAI.InternalServerError);
});

test("Anthropic's client reads a streamed answer with its usage", async () => {
  const stream = anthropic.messages.stream({ model: "m", max_tokens: 100, messages: [{ role: "user", content: "/echo hello there" }] });
  const whole = await stream.finalMessage();
  assert.equal(whole.content.find((block) => block.type === "text").text, "hello there");
  assert.equal(whole.stop_reason, "end_turn");
  assert.ok(whole.usage.output_tokens > 0);
});

test("Anthropic's client reads calls of tools and hands back their results", async () => {
  const messages = [{ role: "user", content: '/tool web_search {"query": "birds"} /echo found' }];
  const tools = [{ name: TOOL.name, description: TOOL.description, input_schema: TOOL.parameters }];
  const ask = () => anthropic.messages.stream({ model: "m", max_tokens: 100, messages, tools }).finalMessage();
  const first = await ask();
  const call = first.content.find((block) => block.type === "tool_use");
  assert.deepEqual([call.name, call.input, first.stop_reason], ["web_search", { query: "birds" }, "tool_use"]);
  messages.push({ role: "assistant", content: first.content }, { role: "user", content: [{ type: "tool_result", tool_use_id: call.id, content: "gulls" }] });
  const second = await ask();
  assert.equal(second.content[0].text, "found");
});

test("what Anthropic refuses is refused, and its client knows the error", async () => {
  const user = { role: "user", content: "x" };
  const ask = (more) => anthropic.messages.create({ model: "m", max_tokens: 10, stream: true, messages: [user], ...more });
  await assert.rejects(ask({ temperature: 1.5 }), Anthropic.BadRequestError);
  await assert.rejects(ask({ messages: [{ role: "assistant", content: [{ type: "tool_use", id: "t1", name: "x", input: {} }] }, user] }), Anthropic.BadRequestError);
  await assert.rejects(ask({ messages: [{ role: "user", content: " " }] }), Anthropic.BadRequestError);
  await assert.rejects(ask({ messages: [{ role: "user", content: "/fail 529" }] }), Anthropic.InternalServerError);
  const stranger = new Anthropic({ apiKey: "k", baseURL: fake.url.replace(/\/v1\/?$/, ""), maxRetries: 0, defaultHeaders: { "x-api-key": null, authorization: null } });
  await assert.rejects(stranger.messages.create({ model: "m", max_tokens: 10, stream: true, messages: [user] }));
});
