// A hub whose every frame is written in the test, the real hub, and a network between that breaks.
import { spawn } from "node:child_process";
import { existsSync, mkdtempSync, rmSync } from "node:fs";
import http from "node:http";
import net from "node:net";
import { tmpdir } from "node:os";
import path from "node:path";
import { fileURLToPath } from "node:url";
import WebSocket, { WebSocketServer } from "ws";
import { connect } from "../dist/index.js";

export const ROOT = path.resolve(path.dirname(fileURLToPath(import.meta.url)), "../../..");
export const SESSION = "7b0c8a3e-4f5d-4d7a-9a51-2f6f0c1d9e10";
export const TASK = "c1d2e3f4-0a1b-4c2d-8e3f-405162738495";

export const sleep = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

/** Waits until `look` gives something true. */
export async function until(what, look, ms = 10_000) {
  const deadline = Date.now() + ms;
  for (;;) {
    const found = await look();
    if (found) return found;
    if (Date.now() > deadline) throw new Error("not in time: " + what);
    await sleep(5);
  }
}

/** A client of a scripted hub that comes back at once. */
export const impatient = (url, options = {}) => connect({ url, token: "a.b.c", WebSocket, backoff: () => 1, ...options });

/** An event as a hub would write it. */
export const event = (seq, type, data, taskId = TASK, sessionId = SESSION) => ({
  type,
  sessionId,
  ...(type.startsWith("session_") ? {} : { taskId }),
  seq,
  at: new Date(1_763_647_320_000 + seq).toISOString(),
  data,
});

export const created = (epoch = "e1") => event(1, "session_created", { epoch, agent: "assistant", tools: [], createdAt: "2026-11-20T14:02:00.000Z" });

/** One task that says `words`, from event `from` on. */
export function told(from, words, taskId = TASK) {
  const [message, text] = [`m${from}`, words.join("")];
  const parts = [
    ["task_queued", { prompt: "Say it", position: 0, timeoutMs: 1000 }],
    ["task_started", { attempt: 1, messageId: `p${from}` }],
    ["step", { index: 1, name: "model", phase: "started" }],
    ...words.map((token) => ["token", { token, messageId: message }]),
    ["message", { messageId: message, role: "assistant", text }],
    ["usage", { inputTokens: 1, outputTokens: words.length }],
    ["step", { index: 1, name: "model", phase: "completed" }],
    ["task_completed", { result: text, usage: { inputTokens: 1, outputTokens: words.length } }],
  ];
  return parts.map(([type, data], index) => event(from + index, type, data, taskId));
}

/** A hub that says what a test tells it to. `script` runs once per connection. */
export class ScriptedHub {
  connections = [];

  static async start(script) {
    const hub = new ScriptedHub();
    hub.script = script;
    hub.server = http.createServer((_, answer) => answer.end("{}"));
    hub.sockets = new WebSocketServer({ server: hub.server, handleProtocols: (offered) => (offered.has("agent-hub.v1") ? "agent-hub.v1" : false) });
    hub.sockets.on("connection", (socket, request) => hub.#connected(socket, request));
    await new Promise((resolve) => hub.server.listen(0, "127.0.0.1", resolve));
    hub.url = `http://127.0.0.1:${hub.server.address().port}`;
    return hub;
  }

  #connected(socket, request) {
    const connection = new ScriptedConnection(socket, request);
    this.connections.push(connection);
    this.script?.(connection, this.connections.length).catch((error) => {
      if (!connection.gone) this.failure ??= error;
    });
  }

  /** The n-th connection, once it is there. */
  connection = (n) => until(`connection ${n}`, () => this.connections[n - 1]);

  stop() {
    for (const { socket } of this.connections) socket.terminate();
    this.server.close();
    if (this.failure) throw this.failure;
  }
}

class ScriptedConnection {
  frames = [];
  #taken = 0;
  gone = false;

  constructor(socket, request) {
    this.socket = socket;
    this.protocols = request.headers["sec-websocket-protocol"] ?? "";
    this.url = request.url;
    socket.on("message", (text) => this.frames.push(JSON.parse(text)));
    socket.on("close", () => (this.gone = true));
    socket.on("error", () => (this.gone = true));
  }

  send(...messages) {
    for (const message of messages) this.socket.send(typeof message === "string" ? message : JSON.stringify(message));
  }

  welcome(changes = {}) {
    const limits = { messageBytes: 1048576, promptChars: 10000, attachedSessions: 64, ...changes.limits };
    this.send({ type: "welcome", connectionId: "c", protocol: "agent-hub.v1", user: "user-1", heartbeatMs: 20000, ...changes, limits });
  }

  /** The next frame, which must be of this type; earlier ones are not looked at again. */
  async expect(type) {
    const frame = await until(`a frame ${type}; there were ${JSON.stringify(this.frames)}`, () => {
      if (this.gone) throw new Error(`the client went away before ${type}`);
      return this.frames[this.#taken];
    });
    this.#taken += 1;
    if (frame.type !== type) throw new Error(`expected ${type}, got ${JSON.stringify(frame)}`);
    return frame;
  }

  ack({ id, type, sessionId, taskId }, more = {}) {
    this.send({ type: "ack", id, received: type, ...(sessionId ? { sessionId } : {}), ...(taskId ? { taskId } : {}), ...more });
  }

  refuse({ id }, code, more = {}) {
    this.send({ type: "error", id, code, message: `no: ${code}`, retryable: false, ...more });
  }

  attached(from, head, { epoch = "e1", recovered = true, ...more } = {}) {
    this.send({ type: "session_attached", sessionId: SESSION, epoch, recovered, from, head, ...more });
  }

  caughtUp(seq) {
    this.send({ type: "caught_up", sessionId: SESSION, seq });
  }

  /** Answers `create_session`. */
  async creates() {
    const create = await this.expect("create_session");
    this.attached(1, 1);
    this.send(created());
    this.caughtUp(1);
    this.ack(create);
    return create;
  }

  /** Answers `attach_session` with what comes behind its cursor. */
  async attaches(log = []) {
    const attach = await this.expect("attach_session");
    const after = Number(attach.after?.split(".")[1] ?? 0);
    this.attached(after + 1, log.length);
    this.send(...log.slice(after));
    this.caughtUp(log.length);
    this.ack(attach);
    return attach;
  }

  close(code) {
    this.socket.close(code);
  }

  reset() {
    this.socket._socket.resetAndDestroy();
  }
}

/** An empty snapshot, or one with something in it. */
export const snapshot = (parts = {}) => ({
  session: {
    id: SESSION,
    status: "active",
    agent: "assistant",
    tools: [],
    tags: [],
    taskCount: 0,
    createdAt: "2026-11-20T14:02:00.000Z",
    updatedAt: "2026-11-20T14:02:00.000Z",
  },
  messages: [],
  earlierMessages: 0,
  tasks: [],
  queue: [],
  pendingInputs: [],
  ...parts,
});

function program() {
  if (process.env.AGENT_HUB_BIN) return path.resolve(process.env.AGENT_HUB_BIN);
  const built = path.join(ROOT, "target/debug/agent-hub");
  if (!existsSync(built)) throw new Error("build the hub first (cargo build --bin agent-hub), or name it in AGENT_HUB_BIN");
  return built;
}

const freePort = () =>
  new Promise((resolve) => {
    const server = net.createServer().listen(0, "127.0.0.1", () => {
      const { port } = server.address();
      server.close(() => resolve(port));
    });
  });

/** The real hub in a directory of its own: development mode, SQLite, the demo model, no limits of rate. */
export class RealHub {
  static async start(environment = {}) {
    const hub = new RealHub();
    Object.assign(hub, { directory: mkdtempSync(path.join(tmpdir(), "agent-hub-")), port: await freePort(), environment });
    hub.url = `http://127.0.0.1:${hub.port}`;
    await hub.run();
    return hub;
  }

  async run() {
    const env = { PATH: process.env.PATH, PORT: String(this.port), AGENT_HUB_LIMITS: "off", ...this.environment };
    this.process = spawn(program(), { cwd: this.directory, env, stdio: ["ignore", "ignore", "pipe"] });
    this.exited = new Promise((resolve) => this.process.once("exit", resolve));
    this.said = "";
    this.process.stderr.on("data", (text) => (this.said = (this.said + text).slice(-20_000)));
    await until("the hub", async () => {
      if (this.process.exitCode !== null) throw new Error("the hub does not start:\n" + this.said);
      return fetch(this.url + "/ready").then((answer) => answer.ok, () => false);
    }, 30_000);
  }

  async kill() {
    this.process.kill("SIGKILL");
    await this.exited;
  }

  async stop() {
    await this.kill();
    rmSync(this.directory, { recursive: true, force: true });
  }

  async token(body = {}) {
    const headers = { "Content-Type": "application/json" };
    return (await (await fetch(this.url + "/auth/token", { method: "POST", headers, body: JSON.stringify(body) })).json()).token;
  }

  async get(route) {
    const answer = await fetch(this.url + route, { headers: { Authorization: `Bearer ${await this.token()}` } });
    if (!answer.ok) throw new Error(`${route}: ${answer.status} ${await answer.text()}`);
    return answer.json();
  }

  /** All events of a session, as the hub has them. */
  async log(session) {
    const events = [];
    for (let next = ""; ; ) {
      const page = await this.get(`/api/v1/agents/sessions/${session}/events?limit=1000${next}`);
      events.push(...page.events);
      if (page.next === page.head) return events;
      next = `&after=${page.next}`;
    }
  }
}

/** A TCP proxy that cuts: after some bytes towards the client, at once, or by swallowing everything. */
export class CuttingProxy {
  #lines = new Set();
  made = 0;

  static async start(port) {
    const proxy = new CuttingProxy();
    proxy.server = net.createServer((client) => proxy.#carry(client, net.connect(port, "127.0.0.1")));
    await new Promise((resolve) => proxy.server.listen(0, "127.0.0.1", resolve));
    proxy.url = `http://127.0.0.1:${proxy.server.address().port}`;
    return proxy;
  }

  #carry(client, hub) {
    this.made += 1;
    const line = { client, hub, left: Infinity, swallows: false };
    this.#lines.add(line);
    const over = () => {
      this.#lines.delete(line);
      client.destroy();
      hub.destroy();
    };
    for (const [from, to] of [[client, hub], [hub, client]]) {
      from.setNoDelay(true);
      from.on("data", (bytes) => {
        if (line.swallows) return;
        if (from === client) return to.write(bytes);
        const allowed = bytes.subarray(0, line.left);
        line.left -= allowed.length;
        to.write(allowed);
        if (line.left <= 0) over();
      });
      from.on("close", over);
      from.on("error", over);
    }
  }

  /** Breaks every connection there is. */
  cut(how) {
    for (const line of this.#lines) {
      if (how.after !== undefined) line.left = how.after;
      else if (how.reset) line.client.resetAndDestroy();
      else line.swallows = true;
    }
    return this.#lines.size;
  }

  stop() {
    this.cut({ reset: true });
    this.server.close();
  }
}
