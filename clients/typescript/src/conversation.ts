// What a session looks like, folded from its events. Pure: no clock, no network, nothing that waits. The fold of all events up to a
// position is what a snapshot of the hub at that position says.
import type { EventOf, HubEvent, OnBusy, OpenInput, SessionAttachedMessage, SessionInfo, SteerWhen, TaskInfo, TaskStatus, Usage } from "./protocol.js";

/** What was said and done in a session. Never changed: each event makes another one that shares what stayed the same. */
export interface Conversation {
  readonly sessionId: string;
  /** Which incarnation of the log; empty until the hub has said it. */
  readonly epoch: string;
  /** The last event that is in here. */
  readonly head: number;
  readonly session: SessionView;
  /** Oldest first; what is being written comes last. */
  readonly messages: readonly Message[];
  /** Messages before those, which are not here. */
  readonly earlierMessages: number;
  /** In the order they were submitted: every unfinished one and the newest finished ones. */
  readonly tasks: readonly TaskView[];
  /** Ids of the tasks that wait for their turn, in order. */
  readonly queue: readonly string[];
  readonly pendingInputs: readonly OpenInput[];
  /** Why the session has ended, if it has: `ended`, `deleted`, `expired`. */
  readonly ended?: string;
}

export interface SessionView {
  readonly id: string;
  readonly status: Exclude<SessionInfo["status"], "disconnected">;
  readonly agent: string;
  readonly tools: readonly string[];
  readonly model?: string;
  readonly name?: string;
  readonly tags: readonly string[];
  readonly metadata?: Readonly<Record<string, unknown>>;
  readonly taskCount: number;
  readonly createdAt: string;
  readonly updatedAt: string;
}

export interface Message {
  readonly id: string;
  readonly taskId?: string;
  readonly role: "user" | "assistant";
  readonly text: string;
  /** Being written, or broken off. */
  readonly partial: boolean;
  /** Being written now. */
  readonly streaming: boolean;
  /** The event that made it. */
  readonly seq: number;
}

export interface TaskView {
  readonly id: string;
  readonly status: TaskStatus;
  readonly prompt: string;
  /** The workflow it executes, where it is no prompt: what happens in it is no part of the conversation. */
  readonly workflow?: string;
  /** What was not as asked, while the task went on; the newest of it. */
  readonly warnings?: readonly { readonly code: string; readonly message: string }[];
  /** The task that handed it to a sub-agent: what is said in it is no part of the conversation, but stands in `text`. */
  readonly parentTaskId?: string;
  /** The agent that works on it, where it is not the session's. */
  readonly agent?: string;
  /** The call of the parent that its result answers. */
  readonly callId?: string;
  /** What a sub-agent has said so far; the newest of it. */
  readonly text?: string;
  readonly context?: string;
  readonly onBusy?: OnBusy;
  /** Unfinished tasks ahead of it when it was queued. */
  readonly position?: number;
  readonly timeoutMs?: number;
  readonly attempt: number;
  readonly steps: readonly StepView[];
  readonly stepsCompleted: number;
  readonly toolCalls: readonly ToolCallView[];
  readonly steers: readonly SteerView[];
  /** What the model thinks but does not say; the newest of it. */
  readonly reasoning: string;
  readonly usage: Usage;
  readonly cancelRequested: boolean;
  /** It is taken out of the conversation when it ends as cancelled. */
  readonly rollback: boolean;
  /** The hub was stopped while it ran and takes it up again. */
  readonly recovering: boolean;
  /** Why it is suspended: `input` while it waits for a person. */
  readonly suspendedFor?: string;
  /** The message being written, or that was being written when it ended. */
  readonly partial?: { readonly messageId: string; readonly text: string };
  readonly result?: unknown;
  readonly error?: { readonly code: string; readonly message: string };
  readonly createdAt: string;
  readonly startedAt?: string;
  readonly endedAt?: string;
  readonly firstSeq: number;
  /** Text that a recovery made void; it comes back if the task fails after all. */
  readonly voided?: Message;
}

export interface StepView {
  readonly index: number;
  /** `model`, or the tool's name. */
  readonly name: string;
  readonly tool?: string;
  readonly callId?: string;
  readonly phase: "started" | "completed" | "failed";
  readonly input?: unknown;
  readonly output?: unknown;
  readonly startedAt: string;
  readonly endedAt?: string;
  readonly seq: number;
}

export interface ToolCallView {
  readonly callId: string;
  readonly tool: string;
  readonly arguments: unknown;
  /** What it says while it runs; the newest of it. */
  readonly said?: string;
  readonly output?: unknown;
  readonly error?: string;
  /** What kind of failure: `invalid_arguments`, `refused`, `timed_out`, ... */
  readonly code?: string;
  readonly durationMs?: number;
  readonly at: string;
  /** Whether there is a result: `output` may be `null`. */
  readonly done: boolean;
  readonly seq: number;
}

export interface SteerView {
  readonly steerId: string;
  readonly input: string;
  readonly when: SteerWhen;
  readonly status: "waiting" | "applied" | "rejected";
  readonly step?: number;
  readonly reason?: string;
  readonly at: string;
  readonly seq: number;
}

/** Messages and their text in memory; older ones are counted in `earlierMessages`. */
const MESSAGES = 1000;
const MESSAGE_CHARS = 4 * 1024 * 1024;
/** Finished tasks: trimmed to this many when there are twice as many. */
const FINISHED_TASKS = 64;
/** Steps, tool calls and steering inputs of one task, each; the newest stay. */
const DETAILS = 500;
/** Characters of the reasoning of one task, of what a sub-agent says, and of what a call says; the newest stay. */
const REASONING = 64 * 1024;

/** A session of which nothing is known. With a position: what comes behind it is folded into an empty conversation. */
export function emptyConversation(sessionId: string, at: { epoch: string; seq: number } = { epoch: "", seq: 0 }): Conversation {
  return {
    sessionId,
    epoch: at.epoch,
    head: at.seq,
    session: { id: sessionId, status: "active", agent: "", tools: [], tags: [], taskCount: 0, createdAt: "", updatedAt: "" },
    messages: [],
    earlierMessages: 0,
    tasks: [],
    queue: [],
    pendingInputs: [],
  };
}

/** The conversation of a `session_attached`: of its snapshot, or an empty one where the events follow from `from`. */
export function fromSnapshot(attached: SessionAttachedMessage): Conversation {
  const at = { epoch: attached.epoch, seq: attached.from - 1 };
  const { snapshot } = attached;
  if (!snapshot) return emptyConversation(attached.sessionId, at);
  const streaming = new Set(snapshot.tasks.filter((task) => !isOver(task.status)).flatMap((task) => task.partial?.messageId ?? []));
  return {
    ...emptyConversation(attached.sessionId, at),
    // Whether a socket follows it is known to whoever follows it.
    session: { ...(snapshot.session as SessionView), status: snapshot.session.status === "ended" ? "ended" : "active" },
    messages: snapshot.messages.map(({ messageId, role, text, taskId, partial, seq }) => ({
      id: messageId,
      taskId,
      role,
      text,
      partial: partial ?? false,
      streaming: streaming.has(messageId),
      seq,
    })),
    earlierMessages: snapshot.earlierMessages,
    tasks: snapshot.tasks.map((task) => taskOf(task)),
    queue: snapshot.queue,
    pendingInputs: snapshot.pendingInputs,
    ...(snapshot.session.status === "ended" ? { ended: "ended" } : {}),
  };
}

/** Folds in the next event. One that is in already changes nothing; one that leaves a gap is refused. */
export function reduce(conversation: Conversation, event: HubEvent): Conversation {
  if (event.seq <= conversation.head) return conversation;
  if (event.seq !== conversation.head + 1) throw new RangeError(`event ${event.seq} does not follow ${conversation.head}`);
  const session = { ...conversation.session, updatedAt: event.at };
  return folded({ ...conversation, head: event.seq, session }, event);
}

/** Whether a task has ended. */
export function isOver(status: TaskStatus): status is "completed" | "failed" | "cancelled" | "timeout" {
  return status === "completed" || status === "failed" || status === "cancelled" || status === "timeout";
}

function taskOf(info: TaskInfo): TaskView {
  const { taskId, status, prompt, attempt, stepsCompleted, cancelRequested, partial, result, error, usage, createdAt, startedAt, completedAt, firstSeq, agent, parentTaskId, workflow, suspension } = info;
  return {
    id: taskId,
    status,
    prompt: prompt ?? "",
    attempt,
    steps: [],
    stepsCompleted,
    toolCalls: [],
    steers: [],
    reasoning: "",
    usage,
    cancelRequested: cancelRequested ?? false,
    rollback: false,
    recovering: false,
    createdAt,
    firstSeq,
    ...(workflow === undefined ? {} : { workflow }),
    ...(suspension === undefined ? {} : { suspendedFor: suspension.reason }),
    ...(agent === undefined ? {} : { agent }),
    ...(parentTaskId === undefined ? {} : { parentTaskId, ...(partial === undefined ? {} : { text: partial.text }) }),
    ...(partial === undefined ? {} : { partial }),
    ...(result === undefined ? {} : { result }),
    ...(error === undefined ? {} : { error }),
    ...(startedAt === undefined ? {} : { startedAt }),
    ...(completedAt === undefined ? {} : { endedAt: completedAt }),
  };
}

function folded(before: Conversation, event: HubEvent): Conversation {
  switch (event.type) {
    case "session_created": {
      const { epoch, ...about } = event.data;
      return { ...before, epoch, session: { ...before.session, ...about, tags: about.tags ?? [] } };
    }
    case "session_updated":
      return { ...before, session: { ...before.session, ...event.data } };
    case "session_ended":
      return { ...before, ended: event.data.reason, session: { ...before.session, status: "ended" } };
    case "task_queued":
      return queued(before, event);
    case "token":
      return written(before, event);
    default:
      // An event of a later version, or of a task that was forgotten, counts and changes nothing.
      return "taskId" in event && event.taskId !== undefined ? ofTask(before, event) : before;
  }
}

function queued(before: Conversation, { taskId, seq, at, data }: EventOf<"task_queued">): Conversation {
  const { prompt, context, onBusy, position, timeoutMs, agent, parentTaskId, callId, workflow } = data;
  const task: TaskView = {
    id: taskId,
    status: "queued",
    prompt: prompt ?? "",
    position,
    timeoutMs,
    attempt: 0,
    steps: [],
    stepsCompleted: 0,
    toolCalls: [],
    steers: [],
    reasoning: "",
    usage: { inputTokens: 0, outputTokens: 0 },
    cancelRequested: false,
    rollback: false,
    recovering: false,
    createdAt: at,
    firstSeq: seq,
    ...(workflow === undefined ? {} : { workflow }),
    ...(context === undefined ? {} : { context }),
    ...(onBusy === undefined ? {} : { onBusy }),
    ...(agent === undefined ? {} : { agent }),
    ...(parentTaskId === undefined ? {} : { parentTaskId }),
    ...(callId === undefined ? {} : { callId }),
  };
  // The task of a sub-agent waits for no turn, and belongs to one that was counted.
  if (parentTaskId !== undefined) return { ...before, tasks: trimmed([...before.tasks, task]) };
  const atWork = before.tasks.filter(({ status, parentTaskId }) => parentTaskId === undefined && (status === "running" || status === "suspended")).length;
  const queue = [...before.queue];
  queue.splice(Math.max(0, position - atWork), 0, taskId);
  const session = { ...before.session, taskCount: before.session.taskCount + 1 };
  return { ...before, session, queue, tasks: trimmed([...before.tasks, task]) };
}

/** The most frequent event: a piece of text. */
function written(before: Conversation, { taskId, seq, data: { messageId, token } }: EventOf<"token">): Conversation {
  const task = before.tasks.findLast(({ id }) => id === taskId);
  if (!task) return before;
  if (task.parentTaskId !== undefined) {
    const partial = { messageId, text: (task.partial?.messageId === messageId ? task.partial.text : "") + token };
    return { ...before, tasks: replaced(before.tasks, { ...task, partial, text: ((task.text ?? "") + token).slice(-REASONING) }) };
  }
  const open = before.messages.findLastIndex((message) => message.streaming && message.id === messageId);
  const opened = before.messages[open];
  if (opened) {
    const message = { ...opened, text: opened.text + token };
    const partial = { messageId, text: message.text };
    return { ...before, messages: before.messages.with(open, message), tasks: replaced(before.tasks, { ...task, partial }) };
  }
  // The first piece of a message. What the task was writing before under another id was given up.
  const message: Message = { id: messageId, taskId, role: "assistant", text: token, partial: true, streaming: true, seq };
  const others = before.messages.filter((other) => !(other.streaming && other.taskId === taskId));
  return bounded({ ...before, messages: [...others, message], tasks: replaced(before.tasks, { ...task, partial: { messageId, text: token } }) });
}

type TaskEvent = Exclude<HubEvent, EventOf<"session_created" | "session_updated" | "session_ended" | "task_queued" | "token">>;

function ofTask(before: Conversation, event: TaskEvent): Conversation {
  const task = before.tasks.findLast(({ id }) => id === event.taskId);
  if (!task) return before;
  const become = (change: Partial<TaskView>): Conversation => ({ ...before, tasks: replaced(before.tasks, { ...task, ...change }) });
  switch (event.type) {
    case "task_started":
      return started(before, task, event);
    case "step":
      return become(stepped(task, event));
    case "reasoning":
      return become({ reasoning: (task.reasoning + event.data.token).slice(-REASONING) });
    case "message":
      return spoken(before, task, event);
    case "tool_call": {
      const { callId, tool, arguments: given } = event.data;
      const call: ToolCallView = { callId, tool, arguments: given, at: event.at, done: false, seq: event.seq };
      return become({ toolCalls: newest([...task.toolCalls, call]) });
    }
    case "tool_output": {
      const { callId, output } = event.data;
      const said = (call: ToolCallView): ToolCallView => ({ ...call, said: ((call.said ?? "") + output).slice(-REASONING) });
      return become({ toolCalls: task.toolCalls.map((call) => (call.callId === callId ? said(call) : call)) });
    }
    case "tool_result": {
      const { callId, ...result } = event.data;
      return become({ toolCalls: task.toolCalls.map((call) => (call.callId === callId ? { ...call, ...result, done: true } : call)) });
    }
    case "usage":
      return become({
        usage: {
          inputTokens: task.usage.inputTokens + event.data.inputTokens,
          outputTokens: task.usage.outputTokens + event.data.outputTokens,
        },
      });
    case "input_requested":
      return { ...before, pendingInputs: [...before.pendingInputs, { ...event.data, taskId: task.id }] };
    case "input_resolved":
      return { ...before, pendingInputs: before.pendingInputs.filter(({ requestId }) => requestId !== event.data.requestId) };
    case "steer_accepted": {
      const steer: SteerView = { ...event.data, status: "waiting", at: event.at, seq: event.seq };
      return become({ steers: newest([...task.steers, steer]) });
    }
    case "steer_applied": {
      const { steerId, step, messageId, input } = event.data;
      const after = become({ steers: task.steers.map((steer) => (steer.steerId === steerId ? { ...steer, status: "applied", step } : steer)) });
      return put(after, person(messageId, task.id, input, event.seq));
    }
    case "steer_rejected": {
      const { steerId, reason } = event.data;
      return become({ steers: task.steers.map((steer) => (steer.steerId === steerId ? { ...steer, status: "rejected", reason } : steer)) });
    }
    case "warning":
      return become({ warnings: newest([...(task.warnings ?? []), event.data]) });
    case "cancel_requested":
      return become({ cancelRequested: true, rollback: event.data.rollback ?? false });
    case "task_suspended":
      return become({ status: "suspended", suspendedFor: event.data.reason });
    case "task_resumed": {
      const { suspendedFor: _, ...rest } = task;
      const after = { ...before, tasks: replaced(before.tasks, { ...rest, status: "running" }) };
      const { data } = event.data;
      if (data === undefined || data === null || task.workflow !== undefined) return after;
      const text = typeof data === "string" ? data : JSON.stringify(data);
      return put(after, person(`d${event.seq}`, task.id, text, event.seq));
    }
    case "task_recovering":
      return recovering(before, task, event);
    case "task_completed":
      return over(before, { ...task, status: "completed", result: event.data.result }, event.at);
    case "task_failed":
      return failed(before, task, event);
    case "task_cancelled":
      return over(before, { ...task, status: "cancelled", rollback: task.rollback || (event.data.rollback ?? false) }, event.at);
    case "task_timeout":
      return over(before, { ...task, status: "timeout" }, event.at);
    default:
      return unknown(before, event);
  }
}

/** Types of later versions. The compiler says when one of this version is not handled. */
function unknown(before: Conversation, _: never): Conversation {
  return before;
}

function started(before: Conversation, task: TaskView, { seq, at, data }: EventOf<"task_started">): Conversation {
  const { attempt, messageId } = data;
  const again = task.startedAt !== undefined;
  const tasks = replaced(before.tasks, { ...task, status: "running", attempt, recovering: false, startedAt: task.startedAt ?? at });
  const after = { ...before, tasks, queue: before.queue.filter((id) => id !== task.id) };
  if (again || task.workflow !== undefined) return after;
  // The prompt enters the conversation now, behind its context.
  const told = task.context === undefined ? after : put(after, person(`${messageId}c`, task.id, task.context, seq));
  return put(told, person(messageId, task.id, task.prompt, seq));
}

function stepped(task: TaskView, { seq, at, data }: EventOf<"step">): Partial<TaskView> {
  if (data.phase === "started") return { steps: newest([...task.steps, { ...data, startedAt: at, seq }]) };
  // Calls run side by side: what ends need not be what began last.
  const same = (step: StepView): boolean => step.index === data.index && step.name === data.name && step.callId === data.callId;
  const open = task.steps.findLastIndex((step) => same(step) && step.phase === "started");
  const opened = task.steps[open];
  // Without a beginning where the task was taken over from a snapshot.
  const step: StepView = { startedAt: at, seq, ...opened, ...data, endedAt: at };
  const steps = opened ? task.steps.with(open, step) : newest([...task.steps, step]);
  return { steps, stepsCompleted: task.stepsCompleted + (data.phase === "completed" ? 1 : 0) };
}

/** A finished block of text replaces its pieces. */
function spoken(before: Conversation, task: TaskView, { seq, data }: EventOf<"message">): Conversation {
  const { partial: _, ...rest } = task;
  const streamed = before.messages.find((message) => message.streaming && message.taskId === task.id);
  const messages = before.messages.filter((message) => message !== streamed);
  const after = { ...before, messages, tasks: replaced(before.tasks, rest) };
  if (data.text === "" || task.parentTaskId !== undefined) return after;
  const { messageId, role, text, partial } = data;
  return put(after, { id: messageId, taskId: task.id, role, text, partial: partial ?? false, streaming: false, seq: streamed?.seq ?? seq });
}

/** The hub was stopped: what it was writing is void. */
function recovering(before: Conversation, task: TaskView, { data }: EventOf<"task_recovering">): Conversation {
  const { partial: _, ...rest } = task;
  const streamed = before.messages.find((message) => message.streaming && message.taskId === task.id);
  const voided = streamed ?? task.voided;
  const after: TaskView = { ...rest, attempt: data.attempt, recovering: true, ...(voided ? { voided } : {}) };
  return { ...before, messages: before.messages.filter((message) => message !== streamed), tasks: replaced(before.tasks, after) };
}

/** Text that a recovery made void stays after all when nothing took its place. */
function failed(before: Conversation, task: TaskView, { seq, at, data }: EventOf<"task_failed">): Conversation {
  const { code, message, partial, messageId } = data;
  const ended: TaskView = { ...task, status: "failed", error: { code, message } };
  const streams = before.messages.some((other) => other.streaming && other.taskId === task.id);
  if (streams) return over(before, ended, at);
  if (task.parentTaskId !== undefined) return over(before, ended, at);
  const lost = task.voided ?? (partial && messageId && !before.messages.some(({ id }) => id === messageId) ? spokenTo(messageId, partial, task.id, seq) : undefined);
  if (!lost) return over(before, ended, at);
  return over({ ...before, messages: [...before.messages, lost] }, { ...ended, partial: { messageId: lost.id, text: lost.text } }, at);
}

function over(before: Conversation, ended: TaskView, at: string): Conversation {
  const { voided: _, suspendedFor: __, ...task } = ended;
  const taken = task.status === "cancelled" && task.rollback;
  // What was being written stays, broken off, behind what is finished.
  const messages = taken
    ? before.messages.filter((message) => message.taskId !== task.id)
    : before.messages.map((message) => (message.streaming && message.taskId === task.id ? { ...message, streaming: false } : message));
  return {
    ...before,
    messages,
    tasks: trimmed(replaced(before.tasks, { ...task, recovering: false, endedAt: at })),
    queue: before.queue.filter((id) => id !== task.id),
    pendingInputs: before.pendingInputs.filter((input) => input.taskId !== task.id),
  };
}

const person = (id: string, taskId: string, text: string, seq: number): Message => ({
  id,
  taskId,
  role: "user",
  text,
  partial: false,
  streaming: false,
  seq,
});

const spokenTo = (id: string, text: string, taskId: string, seq: number): Message => ({
  id,
  taskId,
  role: "assistant",
  text,
  partial: true,
  streaming: true,
  seq,
});

/** A finished message: behind the finished ones, before what is being written. What a sub-agent is told and says has no place here. */
function put(conversation: Conversation, message: Message): Conversation {
  if (conversation.tasks.some(({ id, parentTaskId }) => id === message.taskId && parentTaskId !== undefined)) return conversation;
  const { messages } = conversation;
  const at = messages.findLastIndex((other) => !other.streaming) + 1;
  return bounded({ ...conversation, messages: messages.toSpliced(at, 0, message) });
}

/** The newest messages; the very newest always. */
function bounded(conversation: Conversation): Conversation {
  const { messages } = conversation;
  let chars = messages.reduce((sum, { text }) => sum + text.length, 0);
  let drop = 0;
  while (drop < messages.length - 1 && (messages.length - drop > MESSAGES || chars > MESSAGE_CHARS)) {
    chars -= messages[drop]?.text.length ?? 0;
    drop += 1;
  }
  if (drop === 0) return conversation;
  return { ...conversation, messages: messages.slice(drop), earlierMessages: conversation.earlierMessages + drop };
}

/** Unfinished tasks and the newest finished ones. */
function trimmed(tasks: readonly TaskView[]): readonly TaskView[] {
  const finished = tasks.filter(({ status }) => isOver(status)).length;
  if (finished <= FINISHED_TASKS * 2) return tasks;
  let surplus = finished - FINISHED_TASKS;
  return tasks.filter(({ status }) => !isOver(status) || surplus-- <= 0);
}

function replaced(tasks: readonly TaskView[], task: TaskView): readonly TaskView[] {
  return tasks.map((other) => (other.id === task.id ? task : other));
}

function newest<T>(all: readonly T[]): readonly T[] {
  return all.length > DETAILS ? all.slice(-DETAILS) : all;
}
