// The console: a client of agent-hub.v1 and of the public HTTP API, nothing else. One session is shown at a time; the log says
// everything, so what is drawn depends on nothing but the snapshot and the events behind it.
import { Conversation } from "/console/conversation.js";

const $ = (id) => document.getElementById(id);
const FINAL = [4000, 4001, 4003, 4006]; // coming back would change nothing
const SHOWN_EVENTS = 1000;
const TOKEN_PLACE = "agent-hub.token";

let token = sessionStorage.getItem(TOKEN_PLACE), minted = false;
let socket, attempts = 0, timer, heartbeat, heard = 0, reconnectAfter;
let session, epoch, last = 0, named = true;
const unsent = new Map(); // taskId -> prompt: submitted, not yet seen in the log
const conversation = new Conversation($("chat"), changed);

const uuid = () => crypto.randomUUID?.() ?? // only where the page is trusted: https, or this machine
  "10000000-1000-4000-8000-100000000000".replace(/[018]/g, (c) => (c ^ (crypto.getRandomValues(new Uint8Array(1))[0] & (15 >> (c / 4)))).toString(16));

// Who we are

async function call(path, options = {}) {
  const headers = { "Content-Type": "application/json", ...(token && { Authorization: "Bearer " + token }) };
  const answer = await fetch(path, { ...options, headers });
  const body = await answer.json().catch(() => ({}));
  if (!answer.ok) throw Object.assign(new Error(body.error || "the hub answered " + answer.status), { status: answer.status });
  return body;
}

async function mint() {
  ({ token } = await call("/auth/token", { method: "POST", body: "{}" }));
  minted = true;
}

// The connection

function state(name, why = "") {
  $("state").dataset.state = name;
  $("state").textContent = why ? `${name}: ${why}` : name;
  changed();
}

async function connect() {
  clearTimeout(timer);
  state("connecting");
  try {
    if (!token) await mint();
    // A ticket is good once and for seconds, so that the token itself stands in no address.
    const { ticket } = await call("/auth/ticket", { method: "POST" });
    if (!session) await choose();
    open(ticket);
  } catch (error) {
    if (error.status === 401 && minted) { token = undefined; return again(); }
    if (!(error.status < 500) || error.status === 429) return again();
    state("closed", token ? error.message : "needs a token");
    conversation.note(token ? error.message : "This hub gives out no tokens. Paste yours under Sessions.", token ? "bad" : "empty");
    menu(true);
    $("token").focus();
  }
}

function open(ticket) {
  const url = new URL("/ws/agents?ticket=" + ticket, location.href.replace("http", "ws"));
  const mine = (socket = new WebSocket(url, "agent-hub.v1"));
  mine.onmessage = (frame) => mine === socket && receive(JSON.parse(frame.data));
  mine.onclose = ({ code, reason }) => {
    if (mine !== socket) return;
    if (FINAL.includes(code)) state("closed", reason); else again();
  };
}

function again() {
  clearInterval(heartbeat);
  if (socket) { const old = socket; socket = undefined; old.close(); }
  const wait = reconnectAfter ?? Math.random() * Math.min(500 * 2 ** attempts++, 30_000);
  reconnectAfter = undefined;
  clearTimeout(timer);
  timer = setTimeout(connect, wait);
  state("connecting", navigator.onLine ? "" : "offline");
}

// A browser shows no pings, so a dead connection is noticed by its silence.
function watch(every) {
  clearInterval(heartbeat);
  heartbeat = setInterval(() => { if (Date.now() - heard > 2 * every) again(); else send({ type: "ping" }); }, every);
}

const send = (command) => socket?.readyState === WebSocket.OPEN && socket.send(JSON.stringify(command));
const attach = () => send({ type: "attach_session", sessionId: session, ...(epoch && { after: `${epoch}.${last}` }) });

// What the hub says

function receive(message) {
  heard = Date.now();
  if (message.data === undefined) return about(message);
  if (message.sessionId !== session || message.seq <= last) return;
  if (message.seq !== last + 1) return attach();
  last = message.seq;
  note(message);
  unsent.delete(message.taskId);
  if (message.type === "session_updated" || message.type === "session_created") { named = Boolean(message.data.name); list(); }
  conversation.apply(message);
}

function about(message) {
  if (message.type !== "pong") note(message);
  switch (message.type) {
    case "welcome":
      attempts = 0;
      $("who").textContent = "You are " + message.user;
      watch(message.heartbeatMs);
      return attach();
    case "session_attached":
      if (message.sessionId !== session) return;
      epoch = message.epoch;
      if (message.snapshot) { conversation.restore(message.snapshot); named = Boolean(message.snapshot.session.name); }
      last = message.from - 1;
      return state("replaying");
    case "caught_up":
      if (message.sessionId !== session) return;
      for (const [taskId, prompt] of unsent) submit(taskId, prompt);
      return state("live");
    case "auth_expiring":
      return minted && mint().then(() => send({ type: "refresh_token", token }));
    case "going_away":
      return void (reconnectAfter = message.reconnectAfterMs);
    case "error":
      if (unsent.delete(message.id)) conversation.forget(message.id);
      conversation.note(message.message, "bad");
      return changed();
  }
}

// Sessions

async function list() {
  const { sessions } = await call("/api/v1/agents/sessions?limit=100").catch(() => ({ sessions: [] }));
  $("sessions").replaceChildren(...sessions.map((one) => {
    const button = document.createElement("button"), name = document.createElement("span"), small = document.createElement("small");
    name.textContent = one.name || "New session";
    small.textContent = new Date(one.createdAt).toLocaleString([], { dateStyle: "medium", timeStyle: "short" }) + (one.status === "ended" ? " · ended" : "");
    button.append(name, small);
    button.setAttribute("aria-current", one.id === session);
    button.onclick = () => { location.hash = one.id; menu(false); };
    const item = document.createElement("li");
    item.append(button);
    return item;
  }));
  return sessions;
}

// The session of the address, the newest one, or a new one.
async function choose() {
  const sessions = await list();
  const wanted = location.hash.slice(1) || sessions.find((one) => one.status === "active")?.id;
  show(wanted || await create());
}

async function create() {
  return (await call("/api/v1/agents/sessions", { method: "POST", body: JSON.stringify({ sessionId: uuid() }) })).id;
}

function show(id) {
  if (id === session) return;
  if (session) send({ type: "detach_session", sessionId: session });
  [session, epoch, last] = [id, undefined, 0];
  unsent.clear();
  $("log").replaceChildren();
  conversation.restore({ messages: [], tasks: [], pendingInputs: [] });
  history.replaceState(null, "", "#" + id);
  list();
  attach();
}

// What we say

function submit(taskId, prompt) {
  unsent.set(taskId, prompt);
  conversation.expect(taskId, prompt);
  send({ id: taskId, type: "submit_task", sessionId: session, taskId, prompt });
}

// `act` is called with the text when there is one, and the field is emptied.
function onSubmit(form, field, act, needed = true) {
  $(form).addEventListener("submit", (event) => {
    event.preventDefault();
    const text = $(field).value.trim();
    if (needed && !text) return;
    $(field).value = "";
    act(text);
  });
}

onSubmit("ask", "prompt", (prompt) => {
  submit(uuid(), prompt);
  if (!named) call("/api/v1/agents/sessions/" + session, { method: "PATCH", body: JSON.stringify({ name: prompt.slice(0, 60) }) }).catch(() => {});
  named = true;
});
onSubmit("steer", "direction", (input) => send({ type: "steer_task", taskId: conversation.current, input, when: "now", steerId: uuid() }));
onSubmit("answer", "reply", (text) => respond("accept", text), false);
onSubmit("identity", "token", (text) => {
  [token, minted, session] = [text, false, undefined];
  sessionStorage.setItem(TOKEN_PLACE, token);
  again();
});
$("reject").onclick = () => respond("reject");
$("stop").onclick = () => send({ type: "cancel_task", taskId: conversation.current });
$("prompt").onkeydown = (event) => {
  if (event.key === "Enter" && !event.shiftKey && !event.isComposing) { event.preventDefault(); $("ask").requestSubmit(); }
};
$("create").onclick = () => create().then((id) => { show(id); menu(false); $("prompt").focus(); }, (error) => conversation.note(error.message, "bad"));
onhashchange = () => location.hash.length > 1 && show(location.hash.slice(1));
onoffline = () => again();
ononline = () => { attempts = 0; connect(); };

function respond(outcome, text) {
  const { taskId, requestId, kind, schema } = conversation.question;
  let payload = text || undefined;
  if (payload && schema && schema.type !== "string") try { payload = JSON.parse(payload); } catch { /* the hub says what is wrong with it */ }
  send({ type: "respond_input", taskId, requestId, outcome, ...(outcome === "accept" && kind === "input" && { payload: payload ?? "" }) });
}

// What is around it

function changed() {
  const live = $("state").dataset.state === "live", { current, running, question } = conversation;
  $("prompt").disabled = $("send").disabled = !session || conversation.ended || $("state").dataset.state === "closed";
  $("stop").disabled = !live || !current;
  $("create").disabled = !live;
  $("steer").hidden = !live || !running || Boolean(question);
  $("answer").hidden = !live || !question;
  if (question) $("question").textContent = question.prompt || "The agent waits for you";
  $("reply").hidden = question?.kind === "approval";
  $("cursor").textContent = epoch ? `${epoch}.${last}` : "";
}

function note({ type, seq, data, sessionId, at, taskId, snapshot, ...rest }) {
  const line = document.createElement("li"), number = document.createElement("b"), name = document.createElement("strong");
  number.textContent = data ? seq : "·";
  name.textContent = type + " ";
  line.append(number, name, JSON.stringify(data ?? { ...rest, seq, ...(snapshot && { snapshot: "…" }) }).slice(0, 300));
  const end = $("log").scrollHeight - $("log").scrollTop - $("log").clientHeight < 60;
  $("log").append(line);
  if ($("log").childElementCount > SHOWN_EVENTS) $("log").firstElementChild.remove();
  if (end) $("log").scrollTop = $("log").scrollHeight;
  $("cursor").textContent = `${epoch ?? ""}.${last}`;
}

function menu(open) { $("sidebar").classList.toggle("open", open); $("menu").setAttribute("aria-expanded", open); }
function events(open) { $("events").hidden = !open; $("toggle").setAttribute("aria-expanded", open); }
$("menu").onclick = () => menu(!$("sidebar").classList.contains("open"));
$("toggle").onclick = () => events($("events").hidden);
onkeydown = (event) => { if (event.key === "Escape") menu(false); };
events(innerWidth > 1200);
connect();
