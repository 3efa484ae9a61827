// An agent that acts, as a person sees it: it searches, runs code, asks before it writes, reads, hands work on, and answers; and a workflow that waits.
import assert from "node:assert/strict";
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { createServer } from "node:http";
import { tmpdir } from "node:os";
import path from "node:path";
import { after, afterEach, before, test } from "node:test";
import { Hub, browser, fakeVendor, screenshot, until } from "./support.mjs";
import { Tabs, ask, quiet, sessionOf } from "./console-support.mjs";

let hub, chrome, tabs, search, folder, vendor;
const asked = [];

before(async () => {
  // In the shape of SearXNG, and as strict.
  search = createServer((request, response) => {
    const url = new URL(request.url, "http://searxng");
    asked.push(request.url);
    if (url.pathname !== "/search" || url.searchParams.get("format") !== "json" || !url.searchParams.get("q")) return response.writeHead(403).end();
    response.writeHead(200, { "content-type": "application/json" });
    response.end(JSON.stringify({ query: url.searchParams.get("q"), results: [{ title: "Gannets", url: "https://example.com/gannets", content: "They dive from 30 m." }] }));
  }).listen(0, "127.0.0.1");
  await new Promise((resolve) => search.once("listening", resolve));
  folder = mkdtempSync(path.join(tmpdir(), "agent-hub-flows-"));
  mkdirSync(folder, { recursive: true });
  writeFileSync(path.join(folder, "two-steps.yaml"), "steps:\n  - { id: think, type: agent, prompt: \"/pace 0 /echo considered\" }\n  - { id: note, type: tool, tool: file_write, approve: true, arguments: { path: n.txt, content: x } }\n  - { id: wait, type: suspend, reason: Waits for the boss }\n");
  // As strict as the real one: what it takes and refuses is held against the vendor's own client elsewhere.
  vendor = await fakeVendor();
  hub = await Hub.start({
    OPENAI_BASE_URL: vendor.url,
    OPENAI_API_KEY: "k",
    MODEL_PROVIDER: "openai",
    AGENT_HUB_TOOLS__WEB_SEARCH__PROVIDER: "searxng",
    AGENT_HUB_TOOLS__WEB_SEARCH__URL: `http://127.0.0.1:${search.address().port}`,
    AGENT_HUB_TOOLS__CODE_EXECUTION__ENABLED: "true",
    WORKSPACE_PATH: "./workspace",
    AGENT_HUB_WORKFLOWS__PATH: folder,
    AGENT_HUB_AGENTS__ASSISTANT__TOOLS: "web_search,code_execution,file_*",
    AGENT_HUB_AGENTS__ASSISTANT__APPROVE: "file_write",
    AGENT_HUB_AGENTS__ASSISTANT__SUB_AGENTS: "counter",
    AGENT_HUB_AGENTS__COUNTER__DESCRIPTION: "Counts things",
    AGENT_HUB_AGENTS__COUNTER__TOOLS: "code_execution",
  });
  chrome = await browser();
  tabs = new Tabs(chrome, hub.url);
});
after(async () => {
  await chrome?.close();
  await hub?.stop();
  search?.close();
  vendor?.stop();
  rmSync(folder, { recursive: true, force: true });
});
afterEach(() => tabs.settle());

test("an agent searches, runs code, asks before it writes, reads, hands work on, and answers; all of it in the timeline", async () => {
  const page = await tabs.open();
  const counted = JSON.stringify({ agent: "counter", task: '/pace 0 /tool code_execution {"code": "[1,2,3].length"} /echo there are three' });
  const prompt = [
    '/pace 0 /tool web_search {"query": "gannets"}',
    '/tool code_execution {"code": "console.log(\'working\'); 6 * 7"}',
    '/tool file_write {"path": "birds.txt", "content": "gannet"}',
    '/tool file_read {"path": "birds.txt"}',
    `/tool delegate_task ${counted}`,
    "/echo All done: gannets dive, and there are three.",
  ].join(" ");
  await ask(page, prompt);
  const card = page.locator(".input-card[data-kind=approval]");
  await card.getByText("file_write").first().waitFor();
  await screenshot(page, "console-30-agent-asks");
  await card.getByRole("button", { name: "Approve", exact: true }).click();
  await quiet(page);
  const timeline = page.getByRole("group", { name: "Timeline" });
  for (const step of ["web_search", "code_execution", "file_write", "file_read", "delegate_task"]) {
    await timeline.getByText(step, { exact: true }).first().waitFor();
  }
  // The sub-agent's own work stands in the task it belongs to, with its own call.
  const child = timeline.locator("details.task details.task[data-agent=counter]");
  await child.waitFor({ state: "attached" });
  await child.locator("summary").first().click();
  await child.getByText("code_execution", { exact: true }).first().waitFor();
  await child.getByText("there are three").first().waitFor();
  await screenshot(page, "console-31-agent-timeline");
  assert.equal(await timeline.locator(":scope > details.task").count(), 1, "one task, however many worked on it");
  assert.equal(await page.locator("#conversation .message.user").count(), 1, "what the agent asks its sub-agent is no part of the conversation");
  const { messages } = await hub.get(`/api/v1/agents/sessions/${sessionOf(page)}/messages`);
  assert.match(JSON.stringify(messages.at(-1)), /All done: gannets dive/);
  assert.deepEqual(asked, ["/search?q=gannets&format=json"]);
});

test("a workflow shows its steps, and what it waits for", async () => {
  const page = await tabs.open();
  await ask(page, "/echo first");
  await quiet(page);
  const session = sessionOf(page);
  const token = await hub.token();
  const post = (route, body) =>
    fetch(hub.url + route, { method: "POST", headers: { Authorization: "Bearer " + token, "Content-Type": "application/json" }, body: JSON.stringify(body) }).then((answer) => answer.json());
  const { taskId } = await post(`/api/v1/agents/sessions/${session}/tasks`, { workflow: "two-steps", input: null });
  const timeline = page.getByRole("group", { name: "Timeline" });
  // A call of a workflow that waits for a yes is put to whoever looks, though nobody has said anything.
  const card = page.locator(".input-card[data-kind=approval]");
  await card.getByText("file_write").first().waitFor();
  await card.getByRole("button", { name: "Approve", exact: true }).click();
  await timeline.getByText("Suspended: Waits for the boss").waitFor();
  assert.equal(await page.locator("#conversation .message.user").count(), 1);
  await timeline.getByText("think", { exact: true }).first().waitFor();
  await timeline.getByText("wait", { exact: true }).first().waitFor();
  await screenshot(page, "console-32-workflow-waits");
  await post(`/api/v1/agents/tasks/${taskId}/resume`, { data: "go" });
  await until("it ends", async () => (await hub.get(`/api/v1/agents/tasks/${taskId}`)).status === "completed");
  await timeline.locator("details.task[data-status=completed]", { hasText: "two-steps" }).first().waitFor();
});
