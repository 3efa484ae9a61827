"use strict";
// A small client of agent-hub.v1: one session, resumed from its cursor after every drop.

const $ = (id) => document.getElementById(id);
let socket, token, sessionId, epoch, last = 0, task, attempts = 0, final = false;
const bubbles = new Map();

function say(kind, text) {
  const line = document.createElement("div");
  line.className = kind;
  line.textContent = text;
  $("log").append(line);
  line.scrollIntoView({ block: "end" });
  return line;
}

function bubble(messageId) {
  if (!bubbles.has(messageId)) bubbles.set(messageId, say("assistant", ""));
  return bubbles.get(messageId);
}

function state(text) { $("state").textContent = text; }

function busy() {
  const open = Boolean(socket && socket.readyState === WebSocket.OPEN && sessionId);
  $("prompt").disabled = $("send").disabled = !open;
  $("cancel").disabled = !open || !task;
}

async function developmentToken() {
  const answer = await fetch("/auth/token", { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify({ userId: "user-1" }) });
  if (!answer.ok) throw new Error("this hub gives out no tokens; paste one");
  return (await answer.json()).token;
}

async function connect() {
  // A ticket is good once and for seconds, so the token itself never stands in a URL.
  let answer;
  try {
    answer = await fetch("/auth/ticket", { method: "POST", headers: { Authorization: "Bearer " + token } });
  } catch { return again(); }
  if (answer.status === 401 || answer.status === 403) { final = true; return state((await answer.json()).error); }
  if (!answer.ok) return again();
  const { ticket } = await answer.json();
  const url = new URL("/ws/agents", location.href);
  url.protocol = url.protocol.replace("http", "ws");
  url.searchParams.set("ticket", ticket);
  socket = new WebSocket(url, "agent-hub.v1");
  socket.onopen = () => {
    attempts = 0;
    state("connected");
    send(sessionId ? { type: "attach_session", sessionId, after: epoch + "." + last } : { type: "create_session" });
  };
  socket.onmessage = (frame) => receive(JSON.parse(frame.data));
  socket.onclose = (event) => {
    busy();
    // These say that coming back would change nothing.
    if ([4000, 4001, 4003, 4006].includes(event.code)) { final = true; return state(event.reason || "refused"); }
    again();
  };
}

function again() {
  if (final) return;
  const wait = Math.random() * Math.min(500 * 2 ** attempts++, 15000);
  state("reconnecting …");
  setTimeout(connect, wait);
}

function send(message) { socket.send(JSON.stringify(message)); }

function receive(message) {
  if (message.seq === undefined) return about(message);
  if (message.seq <= last) return;
  if (message.seq !== last + 1) return send({ type: "attach_session", sessionId, after: epoch + "." + last });
  last = message.seq;
  happened(message);
  busy();
}

function about(message) {
  if (message.type === "error") say("note", "error: " + message.message);
  if (message.type === "session_attached") {
    ({ sessionId, epoch } = message);
    if (!message.recovered && message.snapshot) restore(message);
    else last = message.from - 1;
    busy();
  }
}

function restore({ head, snapshot }) {
  $("log").replaceChildren();
  bubbles.clear();
  for (const m of snapshot.messages) {
    const line = say(m.role, m.text);
    if (m.role === "assistant") bubbles.set(m.messageId, line);
  }
  const open = snapshot.tasks.filter((t) => !t.completedAt);
  task = open.length ? open[0].taskId : undefined;
  last = head;
}

function happened(message) {
  const { type, taskId, data } = message;
  switch (type) {
    case "session_created": sessionId = message.sessionId; epoch = data.epoch; break;
    case "session_ended": say("note", "the session ended: " + data.reason); sessionId = undefined; break;
    case "task_queued": if (data.prompt) say("user", data.prompt); task ??= taskId; break;
    case "task_started": task = taskId; break;
    case "token": bubble(data.messageId).textContent += data.token; break;
    case "message": if (data.role === "assistant") bubble(data.messageId).textContent = data.text; break;
    case "tool_call": say("note", data.tool + " " + JSON.stringify(data.arguments)); break;
    case "input_requested": say("note", "waits for input: " + (data.prompt || data.kind)); break;
    case "task_recovering": say("note", "starting again"); break;
    case "task_completed": done(taskId); break;
    case "task_failed": say("note", "failed: " + data.message); done(taskId); break;
    case "task_cancelled": say("note", "cancelled"); done(taskId); break;
    case "task_timeout": say("note", "timed out"); done(taskId); break;
  }
}

function done(taskId) { if (task === taskId) task = undefined; }

$("enter").addEventListener("submit", async (event) => {
  event.preventDefault();
  try {
    token = $("token").value.trim() || await developmentToken();
    final = false;
    await connect();
  } catch (error) { state(error.message); }
});
$("ask").addEventListener("submit", (event) => {
  event.preventDefault();
  const prompt = $("prompt").value.trim();
  if (!prompt) return;
  send({ type: "submit_task", prompt, taskId: crypto.randomUUID() });
  $("prompt").value = "";
});
$("prompt").addEventListener("keydown", (event) => {
  if (event.key === "Enter" && !event.shiftKey) { event.preventDefault(); $("ask").requestSubmit(); }
});
$("cancel").addEventListener("click", () => { if (task) send({ type: "cancel_task", taskId: task }); });
