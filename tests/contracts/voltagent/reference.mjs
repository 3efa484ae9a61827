// The real VoltAgent of the document's time as a program, with a model that does what the hub's demo model does. Says where it answers.
import { createServer } from "node:net";
import { Agent, InMemoryStorage, VoltAgent, createWorkflowChain } from "@voltagent/core";
import { z } from "zod";

const USAGE = { promptTokens: 3, completionTokens: 2, totalTokens: 5 };

function answer(messages) {
  const { content } = messages.findLast(({ role }) => role === "user");
  const prompt = typeof content === "string" ? content : content.map(({ text }) => text ?? "").join("");
  if (prompt.includes("/fail")) throw Object.assign(new Error("the model is not there"), { stage: "llm_generate" });
  return prompt.replace(/^.*\/echo /s, "");
}

const sample = { city: "text", people: 1 };

const model = {
  getModelIdentifier: (name) => name,
  toMessage: (message) => message,
  async generateText({ messages }) {
    return { provider: {}, text: answer(messages), usage: USAGE, finishReason: "stop", toolCalls: [], toolResults: [] };
  },
  async streamText({ messages }) {
    const words = answer(messages).split(/(?<= )/);
    async function* parts() {
      for (const text of words) yield { type: "text-delta", textDelta: text };
      yield { type: "finish", finishReason: "stop", usage: USAGE };
    }
    async function* texts() {
      yield* words;
    }
    return { provider: {}, textStream: ReadableStream.from(texts()), fullStream: parts(), text: Promise.resolve(words.join("")), usage: Promise.resolve(USAGE) };
  },
  async generateObject({ messages }) {
    answer(messages);
    return { provider: {}, object: sample, usage: USAGE, finishReason: "stop" };
  },
  async streamObject({ messages }) {
    answer(messages);
    async function* partials() {
      yield { city: "text" };
      yield sample;
    }
    return { provider: {}, objectStream: ReadableStream.from(partials()), object: Promise.resolve(sample), usage: Promise.resolve(USAGE) };
  },
};

const freePort = () =>
  new Promise((resolve) => {
    const server = createServer().listen(0, "127.0.0.1", () => {
      const { port } = server.address();
      server.close(() => resolve(port));
    });
  });

const port = await freePort();
const assistant = new Agent({ name: "assistant", instructions: "A helpful assistant", llm: model, model: "demo", memory: new InMemoryStorage() });
const order = createWorkflowChain({
  id: "order",
  name: "Order",
  purpose: "Approves an order",
  input: z.object({ amount: z.number() }),
  result: z.object({ approved: z.boolean() }),
  memory: new InMemoryStorage(),
})
  .andThen({ id: "check", execute: async ({ data }) => ({ ...data, checked: true }) })
  .andThen({
    id: "review",
    resumeSchema: z.object({ approved: z.boolean() }),
    execute: async ({ data, suspend, resumeData }) => {
      if (!resumeData) return suspend("Needs a person", { amount: data.amount });
      return { approved: resumeData.approved };
    },
  });
const small = createWorkflowChain({
  id: "small",
  name: "Small",
  purpose: "Adds",
  input: z.object({ amount: z.number() }),
  result: z.object({ sum: z.number() }),
  memory: new InMemoryStorage(),
})
  .andThen({ id: "first", execute: async ({ data }) => data.amount + 1 })
  .andThen({ id: "second", execute: async ({ data }) => ({ sum: data + 1 }) });
new VoltAgent({ agents: { assistant }, workflows: { order, small }, server: { port }, checkDependencies: false });
const url = `http://127.0.0.1:${port}`;
for (let tries = 0; ; tries += 1) {
  const there = await fetch(`${url}/agents`).catch(() => undefined);
  if (there?.ok) break;
  if (tries > 200) throw new Error("it did not start");
  await new Promise((resolve) => setTimeout(resolve, 50));
}
console.log(`\nREFERENCE ${url}`);
