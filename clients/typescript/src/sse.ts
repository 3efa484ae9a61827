// A link over HTTP and Server-Sent Events, for where WebSocket does not get through. It speaks the same messages, so that nothing above
// it knows the difference: commands become requests, one after another, and each attached session is one event stream.
import { HubError } from "./errors.js";
import { FrameReader, type Frame } from "./frames.js";
import type { Link, LinkListener } from "./link.js";
import type { Settings } from "./options.js";
import { parseCursor } from "./position.js";
import { decode, isEvent, type ClientMessage, type ServerMessage, type SessionAttachedMessage } from "./protocol.js";
import { request, type HttpCaller } from "./rest.js";

const API = "/api/v1/agents";
/** Streams keep a comment coming every 15 s; without a stream the hub is asked. */
const HEARTBEAT_MS = 20_000;
/** A browser has six connections to one origin over HTTP/1.1, and commands need one. */
const STREAMS = "document" in globalThis || "WorkerGlobalScope" in globalThis ? 4 : 64;
/** What a session made over a socket is given where it names no tools; over HTTP it would be all. */
const USUAL_TOOLS = ["web_search"];

type CommandOf<Type extends ClientMessage["type"]> = Extract<ClientMessage, { type: Type }>;

export function openSse(settings: Settings, token: string, listener: LinkListener): Link {
  return new SseLink(settings, token, listener);
}

class SseLink implements Link {
  readonly transport = "sse";
  readonly #listener: LinkListener;
  readonly #over = new AbortController();
  readonly #streams = new Map<string, AbortController>();
  #caller: HttpCaller;
  /** Commands, one after another. */
  #line: Promise<void>;
  #welcomed = false;

  constructor({ http, fetch }: Settings, token: string, listener: LinkListener) {
    this.#listener = listener;
    this.#caller = { http, fetch, token, signal: this.#over.signal };
    this.#line = this.#open().catch((error: unknown) => this.#failed(error));
  }

  send(command: ClientMessage): void {
    this.#line = this.#line.then(async () => {
      if (this.#over.signal.aborted) return;
      try {
        await this.#carryOut(command);
      } catch (error) {
        if (error instanceof HubError && error.code !== "unauthorized") this.#refuse(command, error);
        else this.#failed(error);
      }
    });
  }

  close(): void {
    this.#shut();
  }

  abandon(): void {
    this.#shut();
  }

  #shut(): void {
    this.#over.abort();
    for (const stream of this.#streams.values()) stream.abort();
  }

  async #open(): Promise<void> {
    const answer = await request(this.#caller, "GET", `${API}/capabilities`);
    const { maxPromptLength, maxTasksPerSession, maxConcurrentTasks } = (await answer.json()) as Record<string, number | null>;
    this.#welcomed = true;
    this.#say({
      type: "welcome",
      connectionId: answer.headers.get("X-Request-Id") ?? "http",
      protocol: "agent-hub.v1",
      user: subject(this.#caller.token),
      heartbeatMs: HEARTBEAT_MS,
      limits: {
        messageBytes: 1024 * 1024,
        promptChars: maxPromptLength ?? 10_000,
        attachedSessions: STREAMS,
        ...(typeof maxTasksPerSession === "number" ? { tasksPerSession: maxTasksPerSession } : {}),
        ...(typeof maxConcurrentTasks === "number" ? { maxConcurrentTasks } : {}),
      },
    });
  }

  /** The link has ended: with the close code a socket would have had. */
  #failed(error: unknown): void {
    if (this.#over.signal.aborted) return;
    this.#shut();
    if (!(error instanceof HubError)) return this.#listener.closed({ code: 1006, reason: error instanceof Error ? error.message : "" });
    // A token that was good when the link was opened has expired, or was revoked: the next attempt asks for another one.
    const expired = this.#welcomed ? 4050 : 4001;
    const code = { unauthorized: expired, forbidden: 4003, rate_limited: 4053, overloaded: 4053 }[error.code as string] ?? 1011;
    const { retryAfterMs } = error;
    this.#listener.closed({ code, reason: error.message, ...(retryAfterMs === undefined ? {} : { retryAfterMs }) });
  }

  #say(message: ServerMessage): void {
    if (!this.#over.signal.aborted) this.#listener.message(message);
  }

  #refuse({ id }: ClientMessage, { code, message, retryable, retryAfterMs, details }: HubError): void {
    const given = { ...(id == null ? {} : { id }), ...(retryAfterMs === undefined ? {} : { retryAfterMs }), ...(details == null ? {} : { details }) };
    // Only the hub's own codes come here.
    this.#say({ type: "error", code: code as never, message, retryable, ...(given as object) });
  }

  #ack({ id, type }: ClientMessage, about: { sessionId?: string; taskId?: string } = {}): void {
    if (id != null) this.#say({ type: "ack", id, received: type, ...about });
  }

  async #carryOut(command: ClientMessage): Promise<void> {
    switch (command.type) {
      case "create_session":
        return this.#create(command);
      case "attach_session":
        await this.#attach(command.sessionId, command.after ?? undefined);
        return this.#ack(command, { sessionId: command.sessionId });
      case "detach_session":
        this.#detach(command.sessionId ?? "");
        return this.#ack(command);
      case "end_session":
        await this.#post(`/sessions/${command.sessionId}/end`, {});
        return this.#ack(command);
      case "submit_task": {
        const { type: _, id: __, sessionId, ...body } = command;
        const accepted = await this.#post(`/sessions/${sessionId}/tasks`, body);
        return this.#ack(command, { taskId: accepted.taskId as string });
      }
      case "steer_task":
        return this.#ofTask(command, "steer", { input: command.input, when: command.when, steerId: command.steerId });
      case "cancel_task":
        return this.#ofTask(command, "cancel", { reason: command.reason });
      case "respond_input": {
        const { requestId, outcome, payload, editedArguments } = command;
        return this.#ofTask(command, "respond", { requestId, outcome, payload, editedArguments });
      }
      case "suspend_task":
        return this.#ofTask(command, "suspend", { reason: command.reason });
      case "resume_task":
        if (command.stepId != null) throw notHere("resume with a stepId");
        return this.#ofTask(command, "resume", { data: command.data });
      case "refresh_token":
        this.#caller = { ...this.#caller, token: command.token };
        return this.#ack(command);
      case "ping":
        await request(this.#caller, "GET", "/health");
        return this.#say({ type: "pong", ...(command.id == null ? {} : { id: command.id }) });
      case "provide_tools":
      case "tool_result":
        throw notHere("tools that the client executes");
    }
  }

  async #post(path: string, body: object): Promise<Record<string, unknown>> {
    const answer = await request(this.#caller, "POST", API + path, body);
    return (await answer.json()) as Record<string, unknown>;
  }

  async #ofTask(command: CommandOf<"steer_task" | "cancel_task" | "respond_input" | "suspend_task" | "resume_task">, what: string, body: object): Promise<void> {
    await this.#post(`/tasks/${command.taskId}/${what}`, body);
    this.#ack(command, { taskId: command.taskId });
  }

  async #create(command: CommandOf<"create_session">): Promise<void> {
    const { type: _, id: __, ...body } = command;
    const made = await this.#post("/sessions", { ...body, tools: body.tools ?? USUAL_TOOLS });
    const { epoch } = parseCursor(String(made.cursor)) ?? {};
    const sessionId = String(made.id);
    await this.#attach(sessionId, `${epoch}.0`);
    this.#ack(command, { sessionId });
  }

  /** Opens the stream of a session. What it begins with says whether the position holds. */
  async #attach(sessionId: string, after: string | undefined): Promise<void> {
    this.#detach(sessionId);
    if (this.#streams.size >= STREAMS) {
      throw new HubError({ code: "quota_exceeded", message: `over Server-Sent Events at most ${STREAMS} sessions can be followed; detach one first` });
    }
    const stop = new AbortController();
    const caller = { ...this.#caller, signal: stop.signal };
    this.#streams.set(sessionId, stop);
    try {
      const path = `${API}/sessions/${sessionId}`;
      const { cursor } = (await (await request(caller, "GET", path)).json()) as { cursor: string };
      const head = parseCursor(cursor)?.seq ?? 0;
      const query = after === undefined ? "" : `?after=${encodeURIComponent(after)}`;
      const answer = await request(caller, "GET", `${path}/events${query}`, undefined, "text/event-stream");
      const stream = new Stream(sessionId, after, head, (message) => stop.signal.aborted || this.#say(message));
      // Everything was read before, and nothing will follow.
      if (answer.status === 204 || !answer.body) {
        this.#streams.delete(sessionId);
        return stream.frame({ event: "", data: "" });
      }
      const frames = frameTexts(answer.body, () => this.#listener.life());
      const first = await frames.next();
      if (!first.done) stream.frame(first.value);
      void this.#follow(frames, stream, stop);
    } catch (error) {
      if (this.#streams.get(sessionId) === stop) this.#streams.delete(sessionId);
      if (!stop.signal.aborted) throw error;
    }
  }

  /** Its place is free at once, not when the stream has noticed. */
  #detach(sessionId: string): void {
    this.#streams.get(sessionId)?.abort();
    this.#streams.delete(sessionId);
  }

  async #follow(frames: AsyncGenerator<Frame>, stream: Stream, stop: AbortController): Promise<void> {
    try {
      for await (const frame of frames) stream.frame(frame);
      if (!stream.ended && !stop.signal.aborted) this.#failed(new Error("an event stream ended"));
    } catch (error) {
      if (!stop.signal.aborted) this.#failed(error);
    } finally {
      if (this.#streams.get(stream.sessionId) === stop) this.#streams.delete(stream.sessionId);
    }
  }
}

/** What the frames of one stream are as messages of a socket. */
class Stream {
  readonly sessionId: string;
  /** Nothing follows. */
  ended = false;
  readonly #after: string | undefined;
  readonly #say: (message: ServerMessage) => void;
  #head: number;
  #attached = false;
  #caughtUp = false;

  constructor(sessionId: string, after: string | undefined, head: number, say: (message: ServerMessage) => void) {
    this.sessionId = sessionId;
    this.#after = after;
    this.#head = head;
    this.#say = say;
  }

  frame({ event, data }: Frame): void {
    if (event === "snapshot") {
      const attached = JSON.parse(data) as SessionAttachedMessage;
      this.ended = attached.snapshot?.session.status === "ended";
      return this.#begin({ ...attached, type: "session_attached" });
    }
    if (!this.#attached) {
      const { epoch, seq } = parseCursor(this.#after ?? "") ?? { epoch: "", seq: 0 };
      this.#begin({ type: "session_attached", sessionId: this.sessionId, epoch, recovered: true, from: seq + 1, head: Math.max(this.#head, seq) });
    }
    const message = data === "" ? undefined : decode(data);
    if (!message || !isEvent(message)) return;
    if (message.type === "session_ended") this.ended = true;
    this.#say(message);
    this.#position(message.seq);
  }

  #begin(attached: SessionAttachedMessage): void {
    this.#attached = true;
    this.#head = attached.head;
    this.#say(attached);
    this.#position(attached.from - 1);
  }

  #position(seq: number): void {
    if (this.#caughtUp || seq < this.#head) return;
    this.#caughtUp = true;
    this.#say({ type: "caught_up", sessionId: this.sessionId, seq: this.#head });
  }
}

async function* frameTexts(body: ReadableStream<Uint8Array>, life: () => void): AsyncGenerator<Frame> {
  const reader = body.getReader();
  const text = new TextDecoder();
  const frames = new FrameReader();
  try {
    for (;;) {
      const { done, value } = await reader.read();
      if (done) return;
      life();
      yield* frames.read(text.decode(value, { stream: true }));
    }
  } finally {
    // The stream may be broken already.
    reader.cancel().catch(() => {});
  }
}

function notHere(what: string): HubError {
  return new HubError({ code: "not_supported", message: `${what} needs a WebSocket` });
}

/** Whom a token is for; for display only, the hub has checked it. */
function subject(token: string): string {
  try {
    const payload = (token.split(".")[1] ?? "").replaceAll("-", "+").replaceAll("_", "/");
    const { sub, id } = JSON.parse(atob(payload)) as { sub?: unknown; id?: unknown };
    return String(sub ?? id ?? "");
  } catch {
    return "";
  }
}
