// A followed session: applies each event once, folds it into the conversation, and tells who wants to know.
import type { Attached, ClientToolDefinition, NewSession, PendingInput, Session, State, SteerReceipt, SubmitOptions, Task } from "./api.js";
import { EventBuffer } from "./buffer.js";
import type { Follower } from "./connection.js";
import { emptyConversation, fromSnapshot, isOver, reduce, type Conversation } from "./conversation.js";
import { Deferred } from "./deferred.js";
import { HubError } from "./errors.js";
import { given } from "./given.js";
import type { Home } from "./hub.js";
import { uuid } from "./ids.js";
import { Listeners } from "./listeners.js";
import { Position } from "./position.js";
import { isTerminal, type AttachSessionCommand, type Command, type Cursor, type EventOf, type HubEvent, type OpenInput, type SessionAttachedMessage, type ToolOfferedMessage } from "./protocol.js";
import { TaskHandle } from "./task.js";
import { ProvidedTools } from "./tools.js";

/** Handles of finished tasks that are kept so that `task(id)` gives the same one again. */
const FINISHED_HANDLES = 16;
/** Answers to requests for input that are remembered, to recognise our own when it is refused as a repetition. */
const RESOLUTIONS = 64;

type Resolution = EventOf<"input_resolved">["data"];

export class FollowedSession implements Session, Follower {
  readonly id: string;
  readonly hub: Home;

  readonly #position: Position;
  #conversation: Conversation;
  /** Every event is wanted, from the first; which log that is, the first answer says. */
  readonly #fromStart: boolean;
  /** What stands before the position it was opened at is not in the conversation. */
  #hollow: boolean;
  /** Something is shown: restored, or attached once. */
  #shown: boolean;
  #caughtUp = false;
  /** Why it is not followed any more. */
  #over: HubError | undefined;
  readonly #ready = new Deferred<void>();
  readonly #tasks = new Map<string, TaskHandle>();
  readonly #steers = new Map<string, Deferred<SteerReceipt>>();
  readonly #resolutions = new Map<string, Resolution>();
  readonly #inputs = new WeakMap<OpenInput, PendingInput>();
  readonly #streams = new Set<EventBuffer<HubEvent>>();
  readonly #changes: Listeners<[]>;
  readonly #events: Listeners<[HubEvent]>;
  readonly #attaches: Listeners<[Attached]>;
  readonly #provided = new ProvidedTools(this);
  #notified = false;
  #told: State | undefined;

  /** `at`: what is in the conversation or, with `hollow`, is not wanted, because somebody had it before. */
  constructor(hub: Home, id: string, at: { epoch: string; seq: number } | undefined, conversation: Conversation, { fromStart = false, hollow = false } = {}) {
    this.hub = hub;
    this.id = id;
    this.#position = new Position(at);
    this.#conversation = conversation;
    this.#fromStart = fromStart;
    this.#hollow = hollow;
    this.#shown = at !== undefined;
    const failed = (cause: unknown) => hub.listenerFailed(cause);
    this.#changes = new Listeners(failed);
    this.#events = new Listeners(failed);
    this.#attaches = new Listeners(failed);
  }

  get error(): HubError | undefined {
    return this.#over?.code === "detached" ? undefined : this.#over;
  }

  get state(): State {
    const { up } = this.hub.connection;
    if (this.#over) return "closed";
    if (!up) return this.#shown ? "stale" : "connecting";
    if (this.#caughtUp) return "live";
    return this.#shown ? "replaying" : "connecting";
  }

  get cursor(): Cursor | undefined {
    return this.#position.cursor;
  }

  /** Whether the conversation is worth keeping between runs: it lacks nothing that a snapshot would have. */
  get isWhole(): boolean {
    return !this.#hollow;
  }

  get ready(): Promise<void> {
    return this.#ready.promise;
  }

  get conversation(): Conversation {
    return this.#conversation;
  }

  get inputs(): readonly PendingInput[] {
    // A request of the kind `tool` is for programs.
    return this.#conversation.pendingInputs.filter(({ kind }) => kind !== "tool").map((request) => this.#input(request));
  }

  onChange(listener: () => void): () => void {
    return this.#changes.add(listener);
  }

  onEvent(listener: (event: HubEvent) => void): () => void {
    return this.#events.add(listener);
  }

  onAttached(listener: (attached: Attached) => void): () => void {
    return this.#attaches.add(listener);
  }

  events(): AsyncIterableIterator<HubEvent> {
    const stream = new EventBuffer<HubEvent>(this.hub.settings.maxBuffered, `session ${this.id}`);
    this.#streams.add(stream);
    if (this.#over) stream.end(this.error);
    return stream.iterate("now", true);
  }

  /** Makes it. */
  create(session: NewSession & { sessionId: string }): void {
    const made = this.hub.connection.send({ type: "create_session", ...given(session) });
    this.hub.connection.follow(this);
    made.then(
      // It was detached before it was made, and attached by that.
      () => void (this.#over && this.hub.connection.detach(this.id)),
      (error: HubError) => {
        this.hub.connection.forget(this);
        this.refused(error);
      },
    );
  }

  submit(prompt: string, options: SubmitOptions = {}): Task {
    const { taskId = uuid(), ...rest } = options;
    // Asked for once more after a refusal: what was told of the first time stays as it is.
    if (this.#tasks.get(taskId)?.isSpent) this.#tasks.delete(taskId);
    const task = this.#held(taskId);
    task.submitted(this.hub.connection.send({ type: "submit_task", sessionId: this.id, prompt, taskId, ...given(rest) }));
    return task;
  }

  task(taskId: string): Task {
    const task = this.#held(taskId);
    if (this.#caughtUp) task.lookUp();
    return task;
  }

  async end(): Promise<void> {
    // What a repeated end is refused with is what the first one did.
    await this.hub.connection.send({ type: "end_session", sessionId: this.id }, async ({ code }) => code === "already_terminal");
  }

  detach(): void {
    this.hub.connection.unfollow(this.id);
    this.#finish(new HubError({ code: "detached", message: "the session was detached" }), false);
  }

  /** When everything that has happened is known. */
  async whenLive(): Promise<void> {
    while (this.state !== "live") {
      if (this.#over) throw this.#over;
      await new Promise<void>((resolve) => {
        const stop = this.onChange(() => {
          stop();
          resolve();
        });
      });
    }
  }

  /** What a request for input was answered with, of the newest ones. */
  resolution(requestId: string): Resolution | undefined {
    return this.#resolutions.get(requestId);
  }

  /** What becomes of a steering input: settled by its event, or by whoever sends it where it is refused. */
  receipt(steerId: string): Deferred<SteerReceipt> {
    const receipt = this.#steers.get(steerId) ?? new Deferred<SteerReceipt>();
    this.#steers.set(steerId, receipt);
    receipt.promise.finally(() => this.#steers.delete(steerId)).catch(() => {});
    // The command reaches the task all the same, but its event is not seen here.
    if (this.#over) receipt.reject(this.#over);
    return receipt;
  }

  /** The task that a prompt steers instead of being one. */
  steered(taskId: string): TaskHandle {
    return this.#held(taskId);
  }

  // What the connection says.

  attach(anyway: boolean): Omit<AttachSessionCommand, "id"> | undefined {
    this.#caughtUp = false;
    // A session that is still to be made is attached by that.
    if (!anyway && this.hub.connection.creates(this.id)) return undefined;
    return { type: "attach_session", sessionId: this.id, ...given({ after: this.cursor }) };
  }

  attached(message: SessionAttachedMessage): boolean {
    const { sessionId, epoch, from, head, snapshot } = message;
    if (this.#fromStart && this.cursor === undefined) {
      this.#position.rewind(epoch);
      this.#conversation = emptyConversation(this.id, { epoch, seq: 0 });
      return false;
    }
    const kept = this.#position.attached(message);
    if (!kept) this.#replaced(message);
    else if (this.#conversation.epoch !== epoch) this.#conversation = { ...this.#conversation, epoch };
    this.#shown = true;
    this.#caughtUp = false;
    this.#attaches.tell({ sessionId, epoch, kept, from, head, ...given({ snapshot }) });
    this.#changed();
    return true;
  }

  event(event: HubEvent): boolean {
    const verdict = this.#position.take(event.seq);
    if (verdict === "ignore") return true;
    if (verdict === "gap") {
      this.#caughtUp = false;
      this.#changed();
      return false;
    }
    this.#fold(event);
    this.#provided.observed(event);
    const task = "taskId" in event && event.taskId ? this.#of(event.taskId, isTerminal(event)) : undefined;
    task?.observed(event);
    this.#receive(event);
    this.#events.tell(event);
    for (const stream of this.#streams) {
      if (stream.isRead) stream.push(event);
      else this.#streams.delete(stream);
    }
    this.#changed();
    if (event.type === "session_ended" && event.data.reason === "deleted") this.#deleted();
    return true;
  }

  provides(): Command | undefined {
    return this.#provided.command;
  }

  offered(message: ToolOfferedMessage): void {
    this.#provided.offered(message);
  }

  provideTools(tools: Readonly<Record<string, ClientToolDefinition>>): Promise<void> {
    this.#provided.set(tools);
    return this.hub.connection.provide(this);
  }

  caughtUp(): void {
    // Of an attach that a later one has overtaken.
    if (this.#position.waits) return;
    this.#caughtUp = true;
    for (const task of this.#tasks.values()) task.lookUp();
    this.#ready.resolve();
    this.#changed();
  }

  refused(error: HubError): void {
    const gone = error.code === "session_not_found" || error.code === "forbidden";
    this.#finish(error, gone);
    if (error.code === "closed") return;
    this.hub.problem({ code: error.code, message: `session ${this.id} is not followed any more: ${error.message}`, sessionId: this.id, cause: error });
  }

  connectionChanged(): void {
    if (!this.hub.connection.up) this.#caughtUp = false;
    this.#changed();
  }

  /** There will be no connection any more. */
  over(error: HubError): void {
    this.#finish(error, false);
  }

  /** Another history, or the first look at one. */
  #replaced(message: SessionAttachedMessage): void {
    this.#conversation = fromSnapshot(message);
    this.#hollow = message.snapshot === undefined && message.from > 1;
    const reset = this.#shown ? new HubError({ code: "reset", message: "the hub has another history of this session; what was read is replaced" }) : undefined;
    for (const task of [...this.#tasks.values()]) {
      task.replaced(reset);
      if (!task.held && task.status !== "running" && task.status !== "suspended") this.#tasks.delete(task.id);
    }
    if (!reset) return;
    for (const receipt of this.#steers.values()) receipt.reject(reset);
    this.hub.problem({ code: "reset", message: reset.message, sessionId: this.id });
  }

  #fold(event: HubEvent): void {
    try {
      this.#conversation = reduce(this.#conversation, event);
    } catch (cause) {
      // It counts, whatever it says.
      this.#conversation = { ...this.#conversation, head: event.seq };
      this.hub.problem({ code: "frame", message: `event ${event.seq} (${event.type}) cannot be read`, sessionId: this.id, cause });
    }
  }

  #receive(event: HubEvent): void {
    if (event.type === "steer_applied") {
      const { steerId, step, messageId } = event.data;
      this.#steers.get(steerId)?.resolve({ steerId, outcome: "applied", step, messageId });
    } else if (event.type === "steer_rejected") {
      const { steerId, reason, input } = event.data;
      this.#steers.get(steerId)?.resolve({ steerId, outcome: "rejected", reason, input });
    } else if (event.type === "input_resolved") {
      this.#resolutions.set(event.data.requestId, event.data);
      const [oldest] = this.#resolutions.keys();
      if (this.#resolutions.size > RESOLUTIONS && oldest !== undefined) this.#resolutions.delete(oldest);
    }
  }

  /** The handle of a task at work: its events are kept from the first one on, in case somebody wants to iterate over them. */
  #of(taskId: string, last: boolean): TaskHandle | undefined {
    const there = this.#tasks.get(taskId);
    if (last && there && !there.held) this.#tasks.delete(taskId);
    if (there || last) return there;
    const task = new TaskHandle(this, taskId);
    this.#tasks.set(taskId, task);
    return task;
  }

  #held(taskId: string): TaskHandle {
    const task = this.#tasks.get(taskId) ?? new TaskHandle(this, taskId);
    task.held = true;
    this.#tasks.set(taskId, task);
    const finished = [...this.#tasks.values()].filter(({ status }) => status === "refused" || (status !== "sending" && isOver(status)));
    for (const old of finished.slice(0, -FINISHED_HANDLES)) if (old !== task) this.#tasks.delete(old.id);
    // Commands reach it all the same, but what becomes of it is not seen here.
    if (this.#over) task.left(this.#over);
    return task;
  }

  #input(request: OpenInput): PendingInput {
    const there = this.#inputs.get(request);
    if (there) return there;
    const task = this.#conversation.tasks.find(({ id }) => id === request.taskId);
    const call = task?.toolCalls.find(({ callId }) => callId === request.callId);
    const about = call ? { tool: call.tool, arguments: call.arguments } : {};
    const input: PendingInput = { ...request, ...about, respond: (answer) => this.#held(request.taskId).respond(request.requestId, answer) };
    this.#inputs.set(request, input);
    return input;
  }

  #deleted(): void {
    this.hub.connection.unfollow(this.id);
    this.#finish(new HubError({ code: "session_not_found", message: "the session was deleted" }), true);
  }

  #finish(error: HubError, forget: boolean): void {
    if (this.#over) return;
    this.#over = error;
    this.#caughtUp = false;
    this.#ready.reject(error);
    this.#provided.stop();
    for (const task of this.#tasks.values()) task.left(error);
    for (const receipt of this.#steers.values()) receipt.reject(error);
    for (const stream of this.#streams) stream.end(error.code === "detached" ? undefined : error);
    this.hub.left(this, forget);
    this.#changed();
  }

  #changed(): void {
    this.hub.touched(this);
    const { state } = this;
    if (state !== this.#told) {
      this.#told = state;
      this.hub.stateChanged();
    }
    if (this.#notified) return;
    this.#notified = true;
    queueMicrotask(() => {
      this.#notified = false;
      this.#changes.tell();
    });
  }
}
