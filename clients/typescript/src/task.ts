// The handle of a task.
import type { InputAnswer, PendingInput, SteerReceipt, Task, TaskOutcome } from "./api.js";
import { EventBuffer } from "./buffer.js";
import { isOver, type TaskView } from "./conversation.js";
import { Deferred } from "./deferred.js";
import { HubError } from "./errors.js";
import { given } from "./given.js";
import { uuid } from "./ids.js";
import { isTerminal, type AckMessage, type HubEvent, type SteerWhen, type TerminalEvent } from "./protocol.js";
import type { FollowedSession } from "./session.js";

export class TaskHandle implements Task {
  readonly session: FollowedSession;
  /** Somebody has it, so the session keeps it. */
  held = false;
  readonly #id: string;
  #buffer: EventBuffer<HubEvent>;
  #refused = false;
  #left = false;
  /** The running task that this one's prompt steers, so that there is no task of its own. */
  #as: TaskHandle | undefined;
  #outcome: TaskOutcome | undefined;
  /** A submit that is not answered. */
  #sending = false;
  #asking = false;
  #accepted: Promise<void> = Promise.resolve();
  /** Accepted, or the first event is here. */
  #known: Promise<void> = Promise.resolve();
  #show = () => {};
  readonly #finished = new Deferred<TaskOutcome>();

  constructor(session: FollowedSession, id: string) {
    this.session = session;
    this.#id = id;
    this.#buffer = this.#newBuffer();
    this.#look();
  }

  get id(): string {
    return this.#as?.id ?? this.#id;
  }

  get view(): TaskView | undefined {
    return this.session.conversation.tasks.findLast(({ id }) => id === this.id);
  }

  get status(): Task["status"] {
    if (this.#refused) return "refused";
    return this.#as?.status ?? this.view?.status ?? this.#outcome?.status ?? "sending";
  }

  /** It was refused or given up, so that nothing will be told here any more. */
  get isSpent(): boolean {
    return this.#refused || this.#left;
  }

  get accepted(): Promise<void> {
    return this.#accepted;
  }

  get finished(): Promise<TaskOutcome> {
    return this.#finished.promise;
  }

  get inputs(): readonly PendingInput[] {
    return this.session.inputs.filter(({ taskId }) => taskId === this.id);
  }

  text(): string {
    const { id } = this;
    const said = this.session.conversation.messages.filter((message) => message.taskId === id && message.role === "assistant");
    const result = this.#outcome?.result;
    // Of a task whose messages are not here any more, the result may be.
    return said.length || typeof result !== "string" ? said.map(({ text }) => text).join("\n\n") : result;
  }

  async *[Symbol.asyncIterator](): AsyncGenerator<HubEvent> {
    await this.#known;
    yield* (this.#as ?? this).#buffer.iterate("first");
  }

  async cancel(reason?: string): Promise<void> {
    // Refused as a repetition: the first one did it, unless the task was faster.
    const forgive = async ({ code }: HubError) => code === "already_terminal" && (await this.finished).status === "cancelled";
    await this.#send({ type: "cancel_task", ...this.#named, ...given({ reason }) }, forgive);
  }

  async steer(input: string, { when, steerId = uuid() }: { when?: SteerWhen; steerId?: string } = {}): Promise<SteerReceipt> {
    const receipt = this.session.receipt(steerId);
    this.#send({ type: "steer_task", ...this.#named, input, steerId, ...given({ when }) }).catch(receipt.reject);
    return receipt.promise;
  }

  async suspend(reason?: string): Promise<void> {
    const forgive = ({ code }: HubError) => this.#became(code, "suspended");
    await this.#send({ type: "suspend_task", ...this.#named, ...given({ reason }) }, forgive);
  }

  async resume(data?: unknown, stepId?: string): Promise<void> {
    const forgive = ({ code }: HubError) => this.#became(code, "running");
    await this.#send({ type: "resume_task", ...this.#named, ...given({ data: data as object | undefined, stepId }) }, forgive);
  }

  async toolResult(callId: string, result: { output: unknown } | { error: string }): Promise<void> {
    await this.#send({ type: "tool_result", ...this.#named, callId, ...(result as { output: object }) });
  }

  /** Answers a request for input. */
  async respond(requestId: string, answer: InputAnswer): Promise<void> {
    const { outcome } = answer;
    const forgive = async ({ code }: HubError) => {
      if (code !== "already_resolved" && code !== "already_terminal") return false;
      await this.session.whenLive();
      const told = this.session.resolution(requestId);
      return told !== undefined && told.by === this.session.hub.welcome?.user && told.outcome === outcome && same(told, answer);
    };
    const { payload, editedArguments } = answer as { payload?: object; editedArguments?: object };
    await this.#send({ type: "respond_input", ...this.#named, requestId, outcome, ...given({ payload, editedArguments }) }, forgive);
  }

  // What the session says.

  /** It was handed to the connection. */
  submitted(answer: Promise<AckMessage | undefined>): void {
    this.#sending = true;
    const known = new Deferred<void>();
    this.#known = known.promise;
    this.#show = () => known.resolve();
    this.#accepted = answer.then(
      (ack) => this.#taken(ack),
      (error: HubError) => {
        this.#sending = false;
        this.#refused = this.#outcome === undefined && this.view === undefined;
        known.reject(error);
        this.#finished.reject(error);
        this.#buffer.end(error);
        throw error;
      },
    );
    // A refusal nobody listens to is no fault of the program.
    this.#accepted.catch(() => {});
    if (this.view) this.#show();
  }

  observed(event: HubEvent): void {
    this.#buffer.push(event);
    this.#show();
    if (!isTerminal(event)) return;
    this.#buffer.end();
    this.#look();
    // It began before what the conversation has of it: the event alone says how it ended.
    if (!this.view) this.#end(outcomeOf(event));
  }

  /** The conversation was replaced by a snapshot; with `reset`, what was read before does not hold. */
  replaced(reset: HubError | undefined): void {
    if (reset) {
      this.#buffer.end(reset);
      this.#buffer = this.#newBuffer();
    }
    this.#look();
  }

  /** The session is not followed any more. */
  left(error: HubError): void {
    this.#left = true;
    this.#buffer.end(error);
    this.#finished.reject(error);
  }

  /** Asks the hub about a task that is not in the conversation: it ended long ago, or never was. */
  lookUp(): void {
    if (!this.held || this.#sending || this.#asking || this.#outcome || this.#refused || this.#as || this.view) return;
    this.#asking = true;
    this.session.hub
      .ask(`/tasks/${this.#id}`)
      .then((found) => this.#found(found as Found | undefined))
      .catch((error: unknown) => error instanceof HubError && this.left(error))
      .finally(() => (this.#asking = false));
  }

  #found(found: Found | undefined): void {
    if (this.view) return;
    // Nobody to ask: what is not in a whole conversation is over or never was. Of another one the end may still come.
    if (!found) return this.session.isWhole ? this.left(new HubError({ code: "task_not_found", message: "the task is not in the conversation, and without a token the hub cannot be asked" })) : undefined;
    const { status, result, error, usage } = found;
    if (!["completed", "failed", "cancelled", "timeout"].includes(status)) return;
    const failed = status === "failed" && error ? { code: error.code, message: error.message } : undefined;
    this.#end({ status, ...given({ result, error: failed, usage }) });
  }

  #taken(ack: AckMessage | undefined): void {
    this.#sending = false;
    if (ack?.taskId !== undefined && ack.taskId !== this.#id) {
      this.#as = this.session.steered(ack.taskId);
      this.#as.finished.then(this.#finished.resolve, this.#finished.reject);
    }
    this.#show();
  }

  /** Whether it has ended, as far as the conversation knows. */
  #look(): void {
    const { view } = this;
    if (!view || !isOver(view.status)) return;
    const { status, error, usage } = view;
    // A snapshot repeats only the newest result; the others stand among the messages.
    const result = status === "completed" ? (view.result ?? this.#lastText()) : undefined;
    this.#end({ status, ...given({ result, error, usage }) });
  }

  #end(outcome: TaskOutcome): void {
    this.#outcome ??= outcome;
    this.#show();
    this.#buffer.end();
    this.#finished.resolve(this.#outcome);
  }

  #lastText(): string | undefined {
    return this.session.conversation.messages.findLast(({ taskId, role }) => taskId === this.#id && role === "assistant")?.text;
  }

  /** A repeated command is refused because the task is already what it asks for. */
  async #became(code: string, status: "suspended" | "running"): Promise<boolean> {
    if (code !== "busy") return false;
    await this.session.whenLive();
    return this.view?.status === status;
  }

  get #named(): { sessionId: string; taskId: string } {
    return { sessionId: this.session.id, taskId: this.id };
  }

  #send(...[command, forgive]: Parameters<FollowedSession["hub"]["connection"]["send"]>): Promise<AckMessage | undefined> {
    return this.session.hub.connection.send(command, forgive && ((error) => forgive(error).catch(() => false)));
  }

  #newBuffer(): EventBuffer<HubEvent> {
    return new EventBuffer<HubEvent>(this.session.hub.settings.maxBuffered, `task ${this.#id}`);
  }
}

function outcomeOf(event: TerminalEvent): TaskOutcome {
  switch (event.type) {
    case "task_completed":
      return { status: "completed", result: event.data.result, usage: event.data.usage };
    case "task_failed":
      return { status: "failed", error: { code: event.data.code, message: event.data.message } };
    case "task_cancelled":
      return { status: "cancelled" };
    case "task_timeout":
      return { status: "timeout" };
  }
}

/** What the hub answers about a task over HTTP. */
type Found = TaskOutcome & { status: TaskView["status"] & TaskOutcome["status"] };

function same(told: { payload?: unknown; editedArguments?: unknown }, answer: InputAnswer): boolean {
  return sorted(told.payload) === sorted(answer.payload) && sorted(told.editedArguments) === sorted(answer.editedArguments);
}

/** JSON with its keys in order. */
function sorted(value: unknown): string {
  const inOrder = (_: string, part: unknown) =>
    typeof part === "object" && part !== null && !Array.isArray(part) ? Object.fromEntries(Object.entries(part).sort()) : part;
  return JSON.stringify(value ?? null, inOrder);
}
