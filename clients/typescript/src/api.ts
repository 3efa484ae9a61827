// What a program holds and gives: the whole surface of the package, without its works.
import type { Conversation, TaskView } from "./conversation.js";
import type { HubError } from "./errors.js";
import type { Cursor, HubEvent, OnBusy, OpenInput, Snapshot, SteerWhen, TaskStatus, Usage, WelcomeMessage } from "./protocol.js";

/**
 * - `connecting`: nothing has come yet
 * - `replaying`: connected; what was missed is on its way
 * - `live`: connected, and everything that has happened is shown
 * - `stale`: the connection is lost and being made again; what is shown may be old
 * - `closed`: over; `hub.closed` (or `session.error`) says why
 */
export type State = "connecting" | "replaying" | "live" | "stale" | "closed";

/** How a connection ended. */
export interface Closed {
  /** The close code; 1006 when the network went away, 1000 after `close()`. */
  readonly code: number;
  readonly reason: string;
  /** Whether it stays so. Otherwise the next attempt is made at `retryAt`. */
  readonly final: boolean;
  /** When the next attempt begins, in ms since 1970. */
  readonly retryAt?: number;
}

/** What went wrong beside a command: nothing is lost by it, but somebody may want to know. */
export interface Problem {
  readonly code: HubError["code"] | "storage" | "tool" | "listener" | "credentials" | "connection" | "frame" | "fallback";
  readonly message: string;
  readonly sessionId?: string;
  readonly cause?: unknown;
}

export interface ConnectOptions {
  /** Where the hub is: `http(s)` or `ws(s)`, with or without a path before `/ws/agents`; in a page, `""` is where the page is from. */
  url: string;
  /** A token that is good for as long as the program runs. One of `token`, `getToken` and `ticket` is needed. */
  token?: string;
  /** Asked for a token before each connection, and when the one in force expires. */
  getToken?: () => string | Promise<string>;
  /** Asked for a ticket (`POST /auth/ticket`) before each connection, so that the page never has a token. WebSocket only. */
  ticket?: () => string | Promise<string>;
  /** `auto` (usual): WebSocket, and Server-Sent Events once WebSocket could not be opened twice although the hub answers HTTP. */
  transport?: "auto" | "websocket" | "sse";
  /** Where sessions are kept, so that a reload goes on where it was; see `storedCursors`. */
  cursors?: CursorStorage;
  /** How long to wait before attempt 0, 1, 2 … in ms. Usual: at random below a bound that doubles from 250 ms to 15 s. */
  backoff?: (attempt: number) => number;
  /** A constructor, where there is none: Node 20 (`import WebSocket from "ws"`). */
  WebSocket?: WebSocketConstructor;
  fetch?: typeof fetch;
  /** How long a connection may take until the hub says welcome. Usual: 10 s. */
  connectTimeoutMs?: number;
  /** Commands that may wait for an answer; one more is refused with `outbox_full`. Usual: 128. */
  maxPending?: number;
  /** Events kept for who iterates over a task or session and is behind. Usual: 8192 each; then the iteration ends with `overflow`. */
  maxBuffered?: number;
}

/** Where sessions are kept between runs. A cursor is only ever kept with the conversation it belongs to. */
export interface CursorStorage {
  load(sessionId: string): StoredSession | undefined;
  save(sessionId: string, stored: StoredSession): void;
  remove(sessionId: string): void;
}

export interface StoredSession {
  readonly cursor: Cursor;
  readonly conversation: Conversation;
}

export interface Hub {
  readonly state: State;
  /** How the last connection ended; `undefined` while there is one. */
  readonly closed: Closed | undefined;
  /** What the hub said when the present connection, or the last one, was made. */
  readonly welcome: WelcomeMessage | undefined;
  /** What carries the present connection. */
  readonly transport: "websocket" | "sse" | undefined;
  /** Sessions that are followed. */
  readonly sessions: readonly Session[];
  /** Called on every change of `state`, `closed`, `welcome`, `transport` and `sessions`. Returns what ends it. */
  onChange(listener: () => void): () => void;
  onProblem(listener: (problem: Problem) => void): () => void;
  /** Makes a session; at once, its id is chosen here. The same `sessionId` again finds the session again. */
  create(session?: NewSession): Session;
  /** Follows a session. Without `after`: from where the stored one stands, or from a snapshot. An open session is given again. */
  open(sessionId: string, where?: { after?: Cursor | "start" }): Session;
  /** Does not wait for the next attempt. */
  reconnect(): void;
  /** For good. Sessions and tasks go on without us. */
  close(): void;
}

export interface NewSession {
  sessionId?: string;
  agent?: string;
  tools?: string[];
  model?: string;
  name?: string;
  tags?: string[];
  metadata?: Record<string, unknown>;
}

export interface Session {
  readonly id: string;
  readonly hub: Hub;
  readonly state: State;
  /** Why it is closed. */
  readonly error: HubError | undefined;
  /** Everything up to here is in `conversation`; `undefined` until the hub has answered. */
  readonly cursor: Cursor | undefined;
  /** When everything that had happened is shown for the first time. Rejects where the session is refused. */
  readonly ready: Promise<void>;
  /** Immutable; another object after each change. */
  readonly conversation: Conversation;
  /** Called after changes of `conversation`, `state`, `cursor`. Several in a row are told once. */
  onChange(listener: () => void): () => void;
  /** Called with every applied event, in order, each once. */
  onEvent(listener: (event: HubEvent) => void): () => void;
  /** Called after each attach. `kept: false`: forget what you had, `conversation` was replaced. */
  onAttached(listener: (attached: Attached) => void): () => void;
  /** The events from now on. */
  events(): AsyncIterableIterator<HubEvent>;
  /** Asks for something; at once, the id is chosen here. */
  submit(prompt: string, options?: SubmitOptions): Task;
  /** A task that is or was in this session. */
  task(taskId: string): Task;
  /**
   * Executes tools for the agent: from now on these and no others, also after reconnects. A call is offered to one client at a time, and may
   * come again after a page reload; the first result counts. Not over SSE.
   * @throws HubError `invalid_message` for a name or schema the hub does not take, `quota_exceeded`.
   */
  provideTools(tools: Readonly<Record<string, ClientToolDefinition>>): Promise<void>;
  /** Requests for input that nobody has answered and that are for people. */
  readonly inputs: readonly PendingInput[];
  /** Cancels its tasks; it takes no more, and stays readable. */
  end(): Promise<void>;
  /** Stops following; session and tasks go on. */
  detach(): void;
}

/** A tool that the client executes. */
export interface ClientToolDefinition {
  /** What it is for, as the model is told. */
  readonly description?: string;
  /** JSON Schema of its arguments, of type `object`; the hub checks them. */
  readonly parameters?: Record<string, unknown>;
  /** What it returns, as JSON, is the result; what it throws, the model is told. `signal`: the result is not wanted any more. */
  execute(args: Record<string, unknown>, call: { readonly taskId: string; readonly callId: string; readonly signal: AbortSignal }): unknown;
}

/** What an attach came to. */
export interface Attached {
  readonly sessionId: string;
  readonly epoch: string;
  readonly kept: boolean;
  /** The first event that follows. */
  readonly from: number;
  /** The head of the log when it was attached. */
  readonly head: number;
  /** What replaces it, as the hub sent it; without one the events do. */
  readonly snapshot?: Snapshot;
}

export interface SubmitOptions {
  taskId?: string;
  /** What to do while another task is unfinished. Usual: `queue`. With `steer` no task is made: this becomes the running one. */
  onBusy?: OnBusy;
  /** Deadline in ms of running time. */
  timeoutMs?: number;
  /** Put before the prompt as a message of its own. */
  context?: string;
  tools?: string[];
  /** Options of the model call: `temperature`, `maxOutputTokens`, `topP`, `model`. */
  options?: Record<string, unknown>;
}

export interface Task extends AsyncIterable<HubEvent> {
  readonly id: string;
  readonly session: Session;
  /** `sending` until the hub has answered or the first event is here; `refused` if it said no. */
  readonly status: TaskStatus | "sending" | "refused";
  /** All there is to know about it; `undefined` while it is not in the conversation. */
  readonly view: TaskView | undefined;
  /** What the agent has said so far. Several messages are parted by an empty line. */
  text(): string;
  /** When the hub has it, durably. Rejects with why it was refused. */
  readonly accepted: Promise<void>;
  /** How it ended. Rejects only if there is no end to tell: refused, closed, not known. */
  readonly finished: Promise<TaskOutcome>;
  /** Resolves: it ends as cancelled. Rejects with `already_terminal`: it had ended, the outcome stands. */
  cancel(reason?: string): Promise<void>;
  /** Tells the agent something while it works. Resolves with what became of it. */
  steer(input: string, options?: { when?: SteerWhen; steerId?: string }): Promise<SteerReceipt>;
  suspend(reason?: string): Promise<void>;
  resume(data?: unknown, stepId?: string): Promise<void>;
  /** Gives the result of a tool that the client executes. */
  toolResult(callId: string, result: { output: unknown } | { error: string }): Promise<void>;
  readonly inputs: readonly PendingInput[];
}

export interface TaskOutcome {
  readonly status: "completed" | "failed" | "cancelled" | "timeout";
  /** Of a completed task. */
  readonly result?: unknown;
  /** Of a failed task. */
  readonly error?: { readonly code: string; readonly message: string };
  readonly usage?: Usage;
}

export type SteerReceipt =
  | { readonly steerId: string; readonly outcome: "applied"; readonly step: number; readonly messageId: string }
  | { readonly steerId: string; readonly outcome: "rejected"; readonly reason: string; readonly input: string };

/** A request to a person. For an approval, `tool` and `arguments` are what would be called. */
export interface PendingInput extends OpenInput {
  readonly tool?: string;
  readonly arguments?: unknown;
  /** The first valid answer wins; later ones are refused with `already_resolved`. */
  respond(answer: InputAnswer): Promise<void>;
}

export interface InputAnswer {
  outcome: "accept" | "reject";
  /** Checked against the request's `schema`. */
  payload?: unknown;
  /** For an approval: call the tool with these instead. */
  editedArguments?: unknown;
}

/** The part of a browser's WebSocket that is used; `ws` has it too. */
export interface WebSocketLike {
  onopen: ((event: never) => void) | null;
  onmessage: ((event: never) => void) | null;
  onclose: ((event: never) => void) | null;
  onerror: ((event: never) => void) | null;
  send(text: string): void;
  close(code?: number, reason?: string): void;
}

export type WebSocketConstructor = new (url: string, protocols?: string[]) => WebSocketLike;
