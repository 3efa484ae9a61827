// The same requests to the real VoltAgent of the document's time and to the hub. What differs is what docs/voltagent.md says, and nothing else.
import assert from "node:assert/strict";
import { copyFileSync, mkdirSync, mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import { after, before, test } from "node:test";
import { fileURLToPath } from "node:url";

import { hub, started } from "./support.mjs";

const here = (name) => fileURLToPath(new URL(name, import.meta.url));
let ours, theirs, directory;

before(async () => {
  directory = mkdtempSync(path.join(tmpdir(), "voltagent-"));
  mkdirSync(path.join(directory, "workflows"));
  for (const name of ["order.yaml", "small.yaml"]) copyFileSync(here(`voltagent/${name}`), path.join(directory, "workflows", name));
  const find = (line) => line.match(/^REFERENCE (\S+)/)?.[1];
  [ours, theirs] = await Promise.all([
    hub({ AGENT_HUB_WORKFLOWS__PATH: path.join(directory, "workflows"), AGENT_HUB_AGENTS__ASSISTANT__INSTRUCTIONS: "A helpful assistant" }),
    started(process.execPath, [here("voltagent/reference.mjs")], { cwd: directory, stdio: ["ignore", "pipe", "ignore"] }, find),
  ]);
});
after(async () => {
  await Promise.all([ours?.stop(), theirs?.stop()]);
  rmSync(directory, { recursive: true, force: true });
});

/** An answer as a client sees it: the status, and the shape of the body or of each kind of event, in the order they come first. */
async function ask({ url }, { method = "POST", path, body, type = "application/json" }) {
  const headers = body === undefined ? {} : { "content-type": type };
  const text = typeof body === "string" ? body : JSON.stringify(body);
  // A stream of the real one stays open after a suspension.
  const answer = await fetch(url + path, { method, headers, body: text, signal: AbortSignal.timeout(2000) });
  const kind = answer.headers.get("content-type")?.split(";")[0];
  let said = "";
  let hangs = false;
  try {
    for await (const chunk of answer.body ?? []) said += Buffer.from(chunk).toString();
  } catch {
    hangs = true;
  }
  const lines = { status: String(answer.status), type: kind };
  if (kind === "text/event-stream") {
    const events = [...said.matchAll(/^data: (.*)$/gm)].map(([, data]) => JSON.parse(data));
    lines.events = [...new Set(events.map((event) => event.type))].join(" ");
    lines.closes = String(!hangs);
    for (const event of events) shape(event, event.type, lines);
    return { lines, events };
  }
  if (kind !== "application/json") return { lines };
  const json = JSON.parse(said);
  shape(json, "", lines);
  return { lines, json };
}

/** Puts down the type of everything in a value, by its place. */
function shape(value, at, lines) {
  const kind = value === null ? "null" : Array.isArray(value) ? "list" : typeof value;
  if (kind !== "object") lines[at] = kind;
  if (kind === "list") for (const item of value) shape(item, `${at}[]`, lines);
  else if (kind === "object") for (const [name, member] of Object.entries(value)) shape(member, at ? `${at}.${name}` : name, lines);
}

/** `+`: ours only, `-`: theirs only, `~`: other. */
function differences(our, their) {
  const found = [];
  for (const at of new Set([...Object.keys(their), ...Object.keys(our)])) {
    if (our[at] === their[at]) continue;
    if (their[at] === undefined) found.push(`+ ${at}`);
    else if (our[at] === undefined) found.push(`- ${at}`);
    else found.push(`~ ${at}: ${their[at]} | ${our[at]}`);
  }
  return found;
}

const city = { type: "object", properties: { city: { type: "string" }, people: { type: "number" } }, required: ["city", "people"] };

/** What may differ, by the row of docs/voltagent.md that says so (its first cell). */
const DEVIATIONS = {
  "an error is `{success, error}`": [/^\+ (code|message|requestId|details.*)$/],
  "an answer is only the model's": [/^\+ data\.(output|conversationId|taskId|sessionId)$/],
  "usage under the names of its time": [/^\+ (data|finish|data\.entries\[\])\.usage\.(input|output)Tokens$/],
  "`error` of a failed validation is an object": [/^- error\./, /^\+ error$/],
  "malformed JSON: plain text": [/^~ type: text\/plain \| application\/json$/, /^\+ (success|error)$/],
  "`/stream` ends with `finish` (real) or `completion` (document)": [/^~ events: text finish \| text finish completion$/, /^\+ completion\.(done|type|timestamp)$/],
  "`schema` must be a Zod schema": [/^~ events: object completion \| warning object completion$/, /^\+ warning\./],
  "entries of a history carry telemetry: `events`, a snapshot of the agent": [
    /^- data\.entries\[\]\.(events\[\]|metadata)\./,
    /^\+ data\.entries\[\]\.(agentId|entityId|startTime|endTime|userId|conversationId)$/,
  ],
  "a workflow's description has the source text of its steps": [/^- data\.steps\[\]\.executeFunction$/, /^\+ data\.steps\[\]\.(kind|resumeSchema)$/],
  "input is not validated": [/^~ status: 200 \| 400$/, /^- data\./, /^\+ error$/],
  "`/execute` says `completed` whatever happened": [/^~ data\.endAt: string \| null$/, /^\+ data\.suspension\./],
  "`step-complete.input` is the step's output": [/^[+-] step-complete\.input(\.\w+)?$/],
  "some events lack a name or a time": [/^\+ step-(start|complete)\.stepName$/, /^\+ workflow-result\.(from|timestamp)$/],
  "after a suspension the stream hangs, and begins again with `workflow-start` when resumed": [/^~ closes: false \| true$/, /^~ events: .*workflow-suspended \| .*workflow-suspended workflow-result$/, /^\+ workflow-result\./],
  "a suspension has a `checkpoint` of what the steps came to": [/^- workflow-suspended\.metadata\.suspension\.checkpoint\./, /^\+ workflow-suspended\.metadata\.(suspension\.)?(stepId|resumeSchema\..*|expiresAt)$/],
  "resume and cancel in a wrong state: 500": [/^~ status: 500 \| 404$/],
};
const [ERRORS, MORE, USAGE, ISSUES, MALFORMED, COMPLETION, MENDED, HISTORY, SOURCE, INPUT, TRUTH, STEP_INPUT, NAMES, CLOSES, CHECKPOINT, WRONG_STATE] = Object.keys(DEVIATIONS);

const nobody = "00000000-0000-4000-8000-000000000000";
const talk = [
  { role: "user", content: "hi" },
  { role: "assistant", content: "hi" },
  { role: "user", content: "/echo yes" },
];
const text = (body) => ({ path: "/agents/assistant/text", body });

const CASES = [
  ["agents are listed", { method: "GET", path: "/agents" }, []],
  ["an agent is described", { method: "GET", path: "/agents/assistant" }, []],
  ["an agent nobody knows", { method: "GET", path: "/agents/nobody" }, [ERRORS]],
  ["text", text({ input: "/echo hello there" }), [MORE, USAGE]],
  ["text of a conversation", text({ input: talk, options: { userId: "u", conversationId: "c", temperature: 0.2, maxTokens: 10 } }), [MORE, USAGE]],
  ["text of an agent nobody knows", { path: "/agents/nobody/text", body: { input: "hello" } }, [ERRORS]],
  ["text without an input", text({}), [ERRORS, ISSUES]],
  ["text with an option out of its range", text({ input: "hi", options: { temperature: 7 } }), [ERRORS, ISSUES]],
  ["text that is no JSON", text("{"), [ERRORS, MALFORMED]],
  ["text of a model that fails", text({ input: "/fail 401" }), [ERRORS]],
  ["object", { path: "/agents/assistant/object", body: { input: "Where?", schema: city } }, [MORE, USAGE]],
  ["object without a schema", { path: "/agents/assistant/object", body: { input: "/echo x" } }, [ERRORS, ISSUES]],
  ["stream", { path: "/agents/assistant/stream", body: { input: "/echo hello there" } }, [USAGE, COMPLETION]],
  ["stream of an agent nobody knows", { path: "/agents/nobody/stream", body: { input: "hello" } }, [ERRORS]],
  ["stream of a model that fails", { path: "/agents/assistant/stream", body: { input: "/fail 401" } }, []],
  ["stream-object", { path: "/agents/assistant/stream-object", body: { input: "Where?", schema: city } }, []],
  ["stream-object of an answer that does not fit at first", { path: "/agents/assistant/stream-object", body: { input: "/echo x", schema: city } }, [MENDED]],
  ["workflows are listed", { method: "GET", path: "/workflows" }, []],
  ["a workflow is described", { method: "GET", path: "/workflows/order" }, [SOURCE]],
  ["a workflow nobody knows", { method: "GET", path: "/workflows/nobody" }, [ERRORS]],
  ["execute", { path: "/workflows/small/execute", body: { input: { amount: 1 } } }, [MORE]],
  ["execute what nobody knows", { path: "/workflows/nobody/execute", body: { input: {} } }, [ERRORS]],
  ["execute with an input that does not fit", { path: "/workflows/small/execute", body: { input: { amount: "many" } } }, [ERRORS, INPUT]],
  ["execute what suspends", { path: "/workflows/order/execute", body: { input: { amount: 1000 } } }, [MORE, TRUTH]],
  ["stream a workflow", { path: "/workflows/small/stream", body: { input: { amount: 1 } } }, [STEP_INPUT, NAMES]],
  ["stream a workflow that suspends", { path: "/workflows/order/stream", body: { input: { amount: 1000 } } }, [STEP_INPUT, NAMES, CLOSES, CHECKPOINT]],
  ["suspend what nobody knows", { path: `/workflows/order/executions/${nobody}/suspend`, body: {} }, [ERRORS]],
  ["resume what nobody knows", { path: `/workflows/order/executions/${nobody}/resume`, body: { resumeData: { approved: true } } }, [ERRORS, WRONG_STATE]],
];

test("every deviation is written down", () => {
  const written = readFileSync(here("../../docs/voltagent.md"), "utf8");
  for (const row of Object.keys(DEVIATIONS)) assert.ok(written.includes(`\n| ${row} | `), row);
});

for (const [name, request, rows] of CASES) test(name, () => compare(request, rows));

// After the others, so that there is something in it.
test("history", async () => {
  // One answer of one kind at both, because a history tells of whatever was asked.
  await Promise.all([ours, theirs].map((server) => ask(server, text({ input: "/echo remembered", options: { userId: "u" } }))));
  await compare({ method: "GET", path: "/agents/assistant/history?page=0&limit=1" }, [USAGE, HISTORY]);
});

async function compare(request, rows) {
  const [our, their] = await Promise.all([ask(ours, request), ask(theirs, request)]);
  const found = differences(our.lines, their.lines);
  const says = (row) => (difference) => DEVIATIONS[row].some((pattern) => pattern.test(difference));
  assert.deepEqual(found.filter((difference) => !rows.some((row) => says(row)(difference))), [], "what no row says");
  for (const row of rows) assert.ok(found.some(says(row)), `nothing of: ${row}`);
}
