// The driver of the conformance kit for this client; see ../../conformance/DRIVER.md. Needs `npm ci && npm run build`.
import { createInterface } from "node:readline";
import WebSocket from "ws";
import { HubError, connect } from "../dist/index.js";
import { jittered } from "../dist/pace.js";

let hub;
let token;
let told;
const tasks = new Map();

const say = (report) => process.stdout.write(JSON.stringify(report) + "\n");

/** What the hub said, or what the client itself has to say. */
function errorOf(error) {
  if (!(error instanceof HubError)) return { code: "client", message: String(error) };
  const { code, message, retryable, retryAfterMs, details } = error;
  const ours = ["outbox_full", "overflow", "reset", "detached", "no_websocket"].includes(code) || (code === "payload_too_large" && !retryAfterMs);
  return { code: ours ? "client" : code, message, retryable, retryAfterMs, details: details ?? undefined };
}

function stateChanged() {
  const { state, closed } = hub;
  if (state === told) return;
  told = state;
  const hubSaidIt = closed && closed.code !== 1000 && closed.code !== 1005 && closed.code !== 1006;
  say({
    state,
    ...(hubSaidIt ? { closeCode: closed.code } : {}),
    ...(closed?.retryAt ? { retryInMs: Math.max(0, closed.retryAt - Date.now()) } : {}),
  });
}

/** Sessions by id; each is listened to once. */
function follow(session) {
  session.onAttached((attached) => say({ attached }));
  session.onEvent((event) => say({ event }));
  let ready = false;
  session.ready.then(() => (ready = true), () => {});
  session.onChange(() => ready && session.error && session.error.code !== "closed" && say({ detached: { sessionId: session.id, error: errorOf(session.error) } }));
  return session;
}

const session = (id) => hub.sessions.find((one) => one.id === id) ?? follow(hub.open(id));
const task = (order) => tasks.get(order.task) ?? session(order.session).task(order.task);

/** When the first attach is answered, or refused. */
function attached(session) {
  return new Promise((resolve, reject) => {
    session.onAttached(resolve);
    session.ready.then(resolve, reject);
  });
}

const ORDERS = {
  connect({ url, token: given, backoffMs = [500, 30_000], connectTimeoutMs }) {
    token = given;
    hub = connect({ url, getToken: () => token, WebSocket, transport: "websocket", backoff: jittered(...backoffMs), connectTimeoutMs });
    hub.onChange(stateChanged);
    hub.onProblem(({ cause, ...problem }) => {
      if (cause instanceof HubError) say({ problem: errorOf(cause) });
      else process.stderr.write(`${JSON.stringify(problem)} ${cause ?? ""}\n`);
    });
    queueMicrotask(stateChanged);
  },
  create: ({ session, agent }) => attached(follow(hub.create({ sessionId: session, agent }))),
  attach({ session, after }) {
    hub.sessions.find((one) => one.id === session)?.detach();
    return attached(follow(hub.open(session, after === undefined ? {} : { after })));
  },
  detach: (order) => hub.sessions.find((one) => one.id === order.session)?.detach(),
  end: (order) => session(order.session).end(),
  async submit({ session: id, task: taskId, prompt, onBusy }) {
    const made = session(id).submit(prompt, { taskId, onBusy });
    const chosen = made.id;
    tasks.set(chosen, made);
    await made.accepted;
    return { task: made.id };
  },
  cancel: (order) => task(order).cancel(order.reason),
  async steer({ input, when, steer, ...order }) {
    const { steerId } = await task(order).steer(input, { when, steerId: steer });
    return { steer: steerId };
  },
  respond: ({ request, outcome, payload, ...order }) => task(order).respond(request, { outcome, payload }),
  token(order) {
    token = order.token;
  },
  close: () => hub?.close(),
};

async function carryOut(order) {
  const { n, do: what } = order;
  if (!Object.hasOwn(ORDERS, what)) return say({ answer: n, ok: false, error: { code: "unknown_order", message: String(what) } });
  try {
    const done = ORDERS[what](order);
    const about = await done;
    say({ answer: n, ok: true, ...(about?.task || about?.steer ? about : {}) });
  } catch (error) {
    say({ answer: n, ok: false, error: errorOf(error) });
  }
  if (what === "close") leave();
}

function leave() {
  hub?.close();
  // What is written may still be on its way.
  process.stdout.write("", () => process.exit(0));
}

createInterface({ input: process.stdin })
  .on("line", (line) => carryOut(JSON.parse(line)))
  .on("close", leave);
