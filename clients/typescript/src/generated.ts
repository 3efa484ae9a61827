// Generated from protocol/schema/agent-hub.v1.schema.json by `npm run generate`; do not edit.

/**
 * The WebSocket messages of agent-hub. Generated from the Rust types; do not edit.
 */
export type AgentHubV1 = ClientMessage | ServerMessage;
/**
 * What a client may send: a command, and the `id` that asks for an `ack`.
 */
export type ClientMessage =
  | CreateSessionCommand
  | AttachSessionCommand
  | DetachSessionCommand
  | EndSessionCommand
  | SubmitTaskCommand
  | CancelTaskCommand
  | SteerTaskCommand
  | RespondInputCommand
  | SuspendTaskCommand
  | ResumeTaskCommand
  | ProvideToolsCommand
  | ToolResultCommand
  | RefreshTokenCommand
  | PingCommand;
/**
 * A client's own name for a command: a string of at most 128 bytes or a whole number, echoed as it came.
 */
export type CommandId = number | string;
/**
 * A session. Unique in the hub.
 */
export type SessionId = string;
/**
 * What to do with a submit while the session has an unfinished task.
 */
export type OnBusy = "queue" | "reject" | "interrupt" | "rollback" | "steer";
/**
 * A task. Unique in the hub. `executionId`, `runId` and `job_id` of other APIs are task ids.
 */
export type TaskId = string;
/**
 * When a steering input takes effect.
 */
export type SteerWhen = "next_step" | "now";
/**
 * The answer to a request for input.
 */
export type InputOutcome = "accept" | "reject";
/**
 * What the hub may send.
 */
export type ServerMessage = ConnectionMessage | Event;
/**
 * What the hub says about the connection. Pass over any other `type` without `sessionId`, `seq` and `at`.
 */
export type ConnectionMessage =
  | WelcomeMessage
  | AckMessage
  | ErrorMessage
  | PongMessage
  | SessionAttachedMessage
  | CaughtUpMessage
  | ToolOfferedMessage
  | AuthExpiringMessage
  | GoingAwayMessage;
/**
 * The code of an `error` message, of an HTTP error body, or of `task_failed`.
 */
export type ErrorCode =
  | "invalid_json"
  | "invalid_message"
  | "unknown_type"
  | "unauthorized"
  | "forbidden"
  | "session_not_found"
  | "task_not_found"
  | "already_terminal"
  | "already_resolved"
  | "busy"
  | "queue_full"
  | "idempotency_conflict"
  | "rate_limited"
  | "quota_exceeded"
  | "payload_too_large"
  | "prompt_too_long"
  | "overloaded"
  | "upstream_unavailable"
  | "upstream_error"
  | "interrupted"
  | "not_supported"
  | "not_found"
  | "method_not_allowed"
  | "unsupported_media_type"
  | "internal";
/**
 * Names one incarnation of a log. It changes whenever the durable head may have gone back, so that a cursor from before is recognised instead of pointing at other events. Lower-case letters and digits, at most 32.
 */
export type Epoch = string;
/**
 * Who speaks in a message.
 */
export type Role = "user" | "assistant";
/**
 * RFC 3339 with milliseconds and `Z`.
 */
export type Timestamp = string;
/**
 * What a request for input wants.
 */
export type InputKind = "approval" | "input" | "tool";
/**
 * Whether a session is in use.
 */
export type SessionStatus = "active" | "disconnected" | "ended";
/**
 * The state of a task.
 */
export type TaskStatus = "queued" | "running" | "suspended" | "completed" | "failed" | "cancelled" | "timeout";
/**
 * What happened in a session. Pass over any other `type` with `seq`, but count it.
 */
export type Event =
  | SessionCreatedEvent
  | SessionUpdatedEvent
  | SessionEndedEvent
  | TaskQueuedEvent
  | TaskStartedEvent
  | StepEvent
  | TokenEvent
  | ReasoningEvent
  | ToolCallEvent
  | ToolOutputEvent
  | ToolResultEvent
  | MessageEvent
  | UsageEvent
  | InputRequestedEvent
  | InputResolvedEvent
  | SteerAcceptedEvent
  | SteerAppliedEvent
  | SteerRejectedEvent
  | WarningEvent
  | CancelRequestedEvent
  | TaskSuspendedEvent
  | TaskResumedEvent
  | TaskRecoveringEvent
  | TaskCompletedEvent
  | TaskFailedEvent
  | TaskCancelledEvent
  | TaskTimeoutEvent;
/**
 * Where a step stands.
 */
export type StepPhase = "started" | "completed" | "failed";
/**
 * How a request for input ended.
 */
export type ResolvedOutcome = "accept" | "reject" | "expired" | "withdrawn";

/**
 * Any time. Makes a session, or finds it again if its id is known, and attaches from its first event; so `session_created` is the answer. It becomes the connection's current session; others stay attached.
 */
export interface CreateSessionCommand {
  /**
   * The agent that answers; the hub's default otherwise.
   */
  agent?: string | null;
  /**
   * Asks for an `ack`; echoed in it or in the `error`.
   */
  id?: CommandId;
  /**
   * Anything the client wants to keep with the session.
   */
  metadata?: {
    [k: string]: unknown | undefined;
  } | null;
  /**
   * The model; the agent's or the hub's otherwise.
   */
  model?: string | null;
  /**
   * A name for people.
   */
  name?: string | null;
  /**
   * Chosen by the client so that a repeated command finds the session it made; otherwise the hub chooses.
   */
  sessionId?: SessionId | null;
  /**
   * Words to find it by.
   */
  tags?: string[] | null;
  /**
   * Names of the tools it may call.
   */
  tools?: string[] | null;
  type: "create_session";
}
/**
 * Any time. Answer: `session_attached`, the events, `caught_up`. Attaching again moves the cursor.
 */
export interface AttachSessionCommand {
  /**
   * A cursor `<epoch>.<seq>`: the events behind it follow. Without it, or when it cannot be honoured, a snapshot comes first. Plain text here, because an unreadable cursor is answered with a snapshot and not with an error.
   */
  after?: string | null;
  /**
   * Asks for an `ack`; echoed in it or in the `error`.
   */
  id?: CommandId;
  /**
   * Which session.
   */
  sessionId: SessionId;
  type: "attach_session";
}
/**
 * While attached. Ends the flow of events to this connection; the session is not touched.
 */
export interface DetachSessionCommand {
  /**
   * Asks for an `ack`; echoed in it or in the `error`.
   */
  id?: CommandId;
  /**
   * Which session.
   */
  sessionId?: SessionId | null;
  type: "detach_session";
}
/**
 * Any time. Cancels what runs and ends the session; its log stays readable.
 */
export interface EndSessionCommand {
  /**
   * Asks for an `ack`; echoed in it or in the `error`.
   */
  id?: CommandId;
  /**
   * Which session.
   */
  sessionId?: SessionId | null;
  type: "end_session";
}
/**
 * While the session is not ended. Answer: `task_queued` in the log, or `error`.
 */
export interface SubmitTaskCommand {
  /**
   * Put before the prompt as a message of its own; bounded by the message's size only.
   */
  context?: string | null;
  /**
   * Asks for an `ack`; echoed in it or in the `error`.
   */
  id?: CommandId;
  /**
   * The workflow's input.
   */
  input?: string | number | boolean | {} | unknown[] | null;
  /**
   * What to do while another task is unfinished; `queue` otherwise.
   */
  onBusy?: OnBusy | null;
  /**
   * Options of the model call, passed on to vendors that know them: `temperature`, `maxOutputTokens`, `topP`, `model` …
   */
  options?: {
    [k: string]: unknown | undefined;
  } | null;
  /**
   * What the agent is asked, 1 to 10,000 characters.
   */
  prompt?: string | null;
  /**
   * Which session.
   */
  sessionId?: SessionId | null;
  /**
   * Chosen by the client so that a repeated submit has no second effect; otherwise the hub chooses.
   */
  taskId?: TaskId | null;
  /**
   * The task's deadline in milliseconds of running time.
   */
  timeoutMs?: number | null;
  /**
   * Names of the tools for this task instead of the session's.
   */
  tools?: string[] | null;
  type: "submit_task";
  /**
   * A workflow to execute instead of a prompt.
   */
  workflow?: string | null;
}
/**
 * While the task is not terminal. Answer: `cancel_requested`, then `task_cancelled` once the work has stopped.
 */
export interface CancelTaskCommand {
  /**
   * Asks for an `ack`; echoed in it or in the `error`.
   */
  id?: CommandId;
  /**
   * Why; kept in the log.
   */
  reason?: string | null;
  /**
   * Which session, if not the task's own.
   */
  sessionId?: SessionId | null;
  /**
   * Which task.
   */
  taskId: TaskId;
  type: "cancel_task";
}
/**
 * While the task is not terminal. Answer: `steer_accepted`, later `steer_applied` or `steer_rejected`.
 */
export interface SteerTaskCommand {
  /**
   * Asks for an `ack`; echoed in it or in the `error`.
   */
  id?: CommandId;
  /**
   * What the agent is told, 1 to 10,000 characters.
   */
  input: string;
  /**
   * Which session, if not the task's own.
   */
  sessionId?: SessionId | null;
  /**
   * Chosen by the client (UUID) so that a repeated steer has no second effect.
   */
  steerId?: TaskId | null;
  /**
   * Which task.
   */
  taskId: TaskId;
  type: "steer_task";
  /**
   * When; `next_step` otherwise.
   */
  when?: SteerWhen | null;
}
/**
 * While the request is open. The first valid answer wins; later ones get `already_resolved`.
 */
export interface RespondInputCommand {
  /**
   * For an approval: the arguments to call the tool with instead.
   */
  editedArguments?: string | number | boolean | {} | unknown[] | null;
  /**
   * Asks for an `ack`; echoed in it or in the `error`.
   */
  id?: CommandId;
  /**
   * Yes or no.
   */
  outcome: InputOutcome;
  /**
   * The data asked for; checked against the request's schema.
   */
  payload?: string | number | boolean | {} | unknown[] | null;
  /**
   * Which request of the task.
   */
  requestId: string;
  /**
   * Which session, if not the task's own.
   */
  sessionId?: SessionId | null;
  /**
   * Which task.
   */
  taskId: TaskId;
  type: "respond_input";
}
/**
 * While the task runs. It stops at once, keeps its place and can be resumed.
 */
export interface SuspendTaskCommand {
  /**
   * Asks for an `ack`; echoed in it or in the `error`.
   */
  id?: CommandId;
  /**
   * Why; kept in the log.
   */
  reason?: string | null;
  /**
   * Which session, if not the task's own.
   */
  sessionId?: SessionId | null;
  /**
   * Which task.
   */
  taskId: TaskId;
  type: "suspend_task";
}
/**
 * While the task is suspended.
 */
export interface ResumeTaskCommand {
  /**
   * Data for the step that waits.
   */
  data?: string | number | boolean | {} | unknown[] | null;
  /**
   * Asks for an `ack`; echoed in it or in the `error`.
   */
  id?: CommandId;
  /**
   * Which session, if not the task's own.
   */
  sessionId?: SessionId | null;
  /**
   * The step to resume at, for workflows.
   */
  stepId?: string | null;
  /**
   * Which task.
   */
  taskId: TaskId;
  type: "resume_task";
}
/**
 * Any time. From now on this connection executes these tools for the session, and no others; its agent may call them.
 */
export interface ProvideToolsCommand {
  /**
   * Asks for an `ack`; echoed in it or in the `error`.
   */
  id?: CommandId;
  /**
   * Which session.
   */
  sessionId?: SessionId | null;
  /**
   * All that this connection executes; none to stop.
   */
  tools: ClientTool[];
  type: "provide_tools";
}
/**
 * A tool that a client executes.
 */
export interface ClientTool {
  /**
   * What it is for, as the model is told.
   */
  description?: string;
  /**
   * Its name: 1 to 64 of `a-z A-Z 0-9 _ -`, and no name of a tool of the hub.
   */
  name: string;
  /**
   * JSON Schema of its arguments, an object; any object otherwise.
   */
  parameters?: {
    [k: string]: unknown | undefined;
  };
}
/**
 * While a call of a client-executed tool waits. The first result wins; later ones get `already_resolved`.
 */
export interface ToolResultCommand {
  /**
   * Which call of the task.
   */
  callId: string;
  /**
   * Why it failed.
   */
  error?: string | null;
  /**
   * Asks for an `ack`; echoed in it or in the `error`.
   */
  id?: CommandId;
  /**
   * What the tool returned.
   */
  output?: string | number | boolean | {} | unknown[] | null;
  /**
   * Which session, if not the task's own.
   */
  sessionId?: SessionId | null;
  /**
   * Which task.
   */
  taskId: TaskId;
  type: "tool_result";
}
/**
 * Any time. The new token must have the same subject.
 */
export interface RefreshTokenCommand {
  /**
   * Asks for an `ack`; echoed in it or in the `error`.
   */
  id?: CommandId;
  /**
   * The new token.
   */
  token: string;
  type: "refresh_token";
}
/**
 * Any time. Answer: `pong`.
 */
export interface PingCommand {
  /**
   * Asks for an `ack`; echoed in it or in the `error`.
   */
  id?: CommandId;
  type: "ping";
}
/**
 * The first frame after a successful connect, unasked.
 */
export interface WelcomeMessage {
  /**
   * Names this connection in the hub's log.
   */
  connectionId: string;
  /**
   * The hub pings this often, in milliseconds, and closes after two silent pings.
   */
  heartbeatMs: number;
  /**
   * What this connection may do.
   */
  limits: Limits;
  /**
   * The protocol that is spoken: `agent-hub.v1`.
   */
  protocol: string;
  type: "welcome";
  /**
   * The user the credentials stand for.
   */
  user: string;
}
/**
 * What one connection may do, as told in `welcome`.
 */
export interface Limits {
  /**
   * Sessions one socket may be attached to at the same time.
   */
  attachedSessions: number;
  /**
   * Tasks of one user that run at the same time; absent when the hub does not bound them.
   */
  maxConcurrentTasks?: number;
  /**
   * Largest message the hub accepts, in bytes; a larger one closes the socket with 1009.
   */
  messageBytes: number;
  /**
   * Longest prompt, in characters.
   */
  promptChars: number;
  /**
   * Tasks one session may ever have; absent when the hub does not bound them.
   */
  tasksPerSession?: number;
}
/**
 * The command with this id was carried out, and its effect is durable.
 */
export interface AckMessage {
  /**
   * The command's id.
   */
  id: CommandId;
  /**
   * The command's `type`.
   */
  received: string;
  /**
   * The event that records it, if it made one.
   */
  seq?: number;
  /**
   * The session it went to, if it went to one.
   */
  sessionId?: SessionId;
  /**
   * The task it was about or made.
   */
  taskId?: TaskId;
  type: "ack";
}
/**
 * A command was refused, or the connection has a problem; nothing was changed.
 */
export interface ErrorMessage {
  /**
   * What went wrong.
   */
  code: ErrorCode;
  /**
   * More, for programs.
   */
  details?: string | number | boolean | {} | unknown[] | null;
  /**
   * The command's id, if it had one that could be read.
   */
  id?: CommandId;
  /**
   * For people.
   */
  message: string;
  /**
   * How long to wait first, in milliseconds.
   */
  retryAfterMs?: number;
  /**
   * Whether the same command may succeed later.
   */
  retryable: boolean;
  /**
   * The session it is about.
   */
  sessionId?: SessionId;
  /**
   * The task it is about.
   */
  taskId?: TaskId;
  type: "error";
}
/**
 * The answer to `ping`.
 */
export interface PongMessage {
  /**
   * The `id` of the `ping`, if it had one.
   */
  id?: CommandId;
  type: "pong";
}
/**
 * The first frame of an attach.
 */
export interface SessionAttachedMessage {
  /**
   * The present incarnation of its log. A cursor is `<epoch>.<seq>`.
   */
  epoch: Epoch;
  /**
   * The first `seq` that will follow.
   */
  from: number;
  /**
   * The head of the log at this moment; `caught_up` comes when it has been sent.
   */
  head: number;
  /**
   * True when the events follow the given cursor without a gap. False: forget what was read and take the snapshot.
   */
  recovered: boolean;
  /**
   * Which session.
   */
  sessionId: SessionId;
  /**
   * The state at `head`, when no cursor was given or it could not be honoured.
   */
  snapshot?: Snapshot;
  type: "session_attached";
}
/**
 * Everything up to and including `head` of the `session_attached` it comes in, and nothing after it.
 */
export interface Snapshot {
  /**
   * How many older messages there are; `GET …/sessions/:id/messages?before=` reads them.
   */
  earlierMessages: number;
  /**
   * The conversation, oldest first: its newest messages, at most 100 and at most 256 KiB of text, but always the very newest.
   */
  messages: MessageInfo[];
  /**
   * Requests for input nobody has answered.
   */
  pendingInputs: PendingInput[];
  /**
   * Tasks that wait for their turn, in order.
   */
  queue: TaskId[];
  /**
   * The session.
   */
  session: SessionInfo;
  /**
   * Every unfinished task and the newest finished ones, at most 20 of these; oldest first.
   */
  tasks: TaskInfo[];
}
/**
 * One message of the conversation.
 */
export interface MessageInfo {
  /**
   * Unique in the session.
   */
  messageId: string;
  /**
   * True when it was broken off, or is still being streamed.
   */
  partial?: boolean;
  /**
   * Who speaks.
   */
  role: Role;
  /**
   * The event that made it, or began it.
   */
  seq: number;
  /**
   * The task it belongs to.
   */
  taskId: TaskId;
  /**
   * What. Of the message a task is streaming just now: what has been streamed.
   */
  text: string;
}
/**
 * A request for input nobody has answered, with the task that waits for it.
 */
export interface PendingInput {
  /**
   * The call that waits.
   */
  callId?: string;
  /**
   * When it is resolved as expired, if nobody answers.
   */
  expiresAt?: Timestamp;
  /**
   * What is wanted.
   */
  kind: InputKind;
  /**
   * The question, for people.
   */
  prompt?: string;
  /**
   * Unique in the session.
   */
  requestId: string;
  /**
   * What the payload must look like (JSON Schema).
   */
  schema?: string | number | boolean | {} | unknown[] | null;
  /**
   * The task that waits.
   */
  taskId: TaskId;
}
/**
 * What a session is, without its content.
 */
export interface SessionInfo {
  /**
   * The agent that answers.
   */
  agent: string;
  /**
   * When it was made.
   */
  createdAt: Timestamp;
  /**
   * Its id.
   */
  id: SessionId;
  /**
   * What the client keeps with it.
   */
  metadata?: {
    [k: string]: unknown | undefined;
  };
  /**
   * The model asked for, if one was.
   */
  model?: string;
  /**
   * A name for people.
   */
  name?: string;
  /**
   * Whether it is in use.
   */
  status: SessionStatus;
  /**
   * Words to find it by.
   */
  tags: string[];
  /**
   * Tasks it ever had.
   */
  taskCount: number;
  /**
   * The tools it may call.
   */
  tools: string[];
  /**
   * When its log last grew.
   */
  updatedAt: Timestamp;
}
/**
 * One task.
 */
export interface TaskInfo {
  /**
   * The agent that works on it, where it is not the session's.
   */
  agent?: string;
  /**
   * How often it was started.
   */
  attempt: number;
  /**
   * True once it can only end as cancelled.
   */
  cancelRequested?: boolean;
  /**
   * When it ended.
   */
  completedAt?: Timestamp;
  /**
   * When it was accepted.
   */
  createdAt: Timestamp;
  /**
   * Why it failed.
   */
  error?: TaskError;
  /**
   * Its `task_queued`: read the log from just before it to see all of it.
   */
  firstSeq: number;
  /**
   * The task that handed it to a sub-agent.
   */
  parentTaskId?: TaskId;
  /**
   * The message it is streaming, or was when it broke off.
   */
  partial?: PartialText;
  /**
   * What the agent is asked; absent for a workflow.
   */
  prompt?: string;
  /**
   * What came out.
   */
  result?: string | number | boolean | {} | unknown[] | null;
  /**
   * When it first ran.
   */
  startedAt?: Timestamp;
  /**
   * Where it stands.
   */
  status: TaskStatus;
  /**
   * Steps that ended.
   */
  stepsCompleted: number;
  /**
   * What it waits for, while it is suspended.
   */
  suspension?: Suspension;
  /**
   * Its id.
   */
  taskId: TaskId;
  /**
   * Model tokens of all its calls so far.
   */
  usage: Usage;
  /**
   * The workflow it executes.
   */
  workflow?: string;
}
/**
 * Why a task failed.
 */
export interface TaskError {
  /**
   * What went wrong.
   */
  code: ErrorCode;
  /**
   * For people.
   */
  message: string;
}
/**
 * Text that is not, or never became, a whole message.
 */
export interface PartialText {
  /**
   * The message.
   */
  messageId: string;
  /**
   * Its text so far.
   */
  text: string;
}
/**
 * Why a task does not go on.
 */
export interface Suspension {
  /**
   * Since when.
   */
  at: Timestamp;
  /**
   * What the step says to whoever resumes it.
   */
  data?: string | number | boolean | {} | unknown[] | null;
  /**
   * When it goes on, or ends, by itself.
   */
  expiresAt?: Timestamp;
  /**
   * `input` while it waits for a person, `sleep` while a workflow waits for a time, otherwise what was given.
   */
  reason: string;
  /**
   * What that data must look like (JSON Schema).
   */
  schema?: string | number | boolean | {} | unknown[] | null;
  /**
   * The step of a workflow that waits for data.
   */
  stepId?: string;
}
/**
 * The `data` of `usage`.
 */
export interface Usage {
  /**
   * Tokens read by the model.
   */
  inputTokens: number;
  /**
   * Tokens written by it.
   */
  outputTokens: number;
}
/**
 * Once per attach: everything up to the `head` of the attach has been sent; what follows is live.
 */
export interface CaughtUpMessage {
  /**
   * The `head` of the attach.
   */
  seq: number;
  /**
   * Which session.
   */
  sessionId: SessionId;
  type: "caught_up";
}
/**
 * A call of a tool that this connection executes: answer with `tool_result`. Nobody else is asked while this connection stands.
 */
export interface ToolOfferedMessage {
  /**
   * Its arguments; they fit the tool's schema.
   */
  arguments: string | number | boolean | {} | unknown[] | null;
  /**
   * The call. The same when it is offered again, to this connection or another one.
   */
  callId: string;
  /**
   * When the hub stops waiting for the result.
   */
  expiresAt?: Timestamp;
  /**
   * Whose session.
   */
  sessionId: SessionId;
  /**
   * Which task.
   */
  taskId: TaskId;
  /**
   * Which tool.
   */
  tool: string;
  type: "tool_offered";
}
/**
 * The token expires soon; send `refresh_token`, or the socket is closed with 4050.
 */
export interface AuthExpiringMessage {
  /**
   * Milliseconds until the socket is closed.
   */
  inMs: number;
  type: "auth_expiring";
}
/**
 * The hub will close this socket soon; connect again after the given time.
 */
export interface GoingAwayMessage {
  /**
   * Wait this many milliseconds before connecting again; spread over the clients.
   */
  reconnectAfterMs: number;
  type: "going_away";
}
/**
 * The first event of every log.
 */
export interface SessionCreatedEvent {
  at: Timestamp;
  data: SessionCreated;
  /**
   * Its place in the log, dense from 1.
   */
  seq: number;
  sessionId: SessionId;
  type: "session_created";
}
/**
 * The `data` of `session_created`.
 */
export interface SessionCreated {
  /**
   * The agent that answers.
   */
  agent: string;
  /**
   * When.
   */
  createdAt: Timestamp;
  /**
   * The incarnation of the log at its birth. `session_attached.epoch` says the present one.
   */
  epoch: Epoch;
  /**
   * What the client keeps with it.
   */
  metadata?: {
    [k: string]: unknown | undefined;
  };
  /**
   * The model asked for, if one was.
   */
  model?: string;
  /**
   * A name for people.
   */
  name?: string;
  /**
   * Words to find it by.
   */
  tags?: string[];
  /**
   * The tools it may call.
   */
  tools: string[];
}
/**
 * Name, tags, metadata or model changed; only what changed is given.
 */
export interface SessionUpdatedEvent {
  at: Timestamp;
  data: SessionUpdated;
  /**
   * Its place in the log, dense from 1.
   */
  seq: number;
  sessionId: SessionId;
  type: "session_updated";
}
/**
 * The `data` of `session_updated`.
 */
export interface SessionUpdated {
  /**
   * All tools that clients execute from now on.
   */
  clientTools?: ClientTool[];
  /**
   * All metadata from now on.
   */
  metadata?: {
    [k: string]: unknown | undefined;
  };
  /**
   * The model from now on.
   */
  model?: string;
  /**
   * The new name.
   */
  name?: string;
  /**
   * All tags from now on.
   */
  tags?: string[];
}
/**
 * The last event of a session. Its log stays readable unless the reason is `deleted`.
 */
export interface SessionEndedEvent {
  at: Timestamp;
  data: SessionEnded;
  /**
   * Its place in the log, dense from 1.
   */
  seq: number;
  sessionId: SessionId;
  type: "session_ended";
}
/**
 * The `data` of `session_ended`.
 */
export interface SessionEnded {
  /**
   * `ended` by its owner, `deleted`, or `expired` after idle time.
   */
  reason: string;
}
/**
 * A task was accepted.
 */
export interface TaskQueuedEvent {
  at: Timestamp;
  data: TaskQueued;
  /**
   * Its place in the log, dense from 1.
   */
  seq: number;
  sessionId: SessionId;
  taskId: TaskId;
  type: "task_queued";
}
/**
 * The `data` of `task_queued`.
 */
export interface TaskQueued {
  /**
   * The agent that works on it, where it is not the session's: for the task of a sub-agent.
   */
  agent?: string;
  /**
   * The call of the parent that its result answers.
   */
  callId?: string;
  /**
   * Put before the prompt as a message of its own.
   */
  context?: string;
  /**
   * The workflow's input.
   */
  input?: string | number | boolean | {} | unknown[] | null;
  /**
   * What was asked for while busy, where it was not `queue`.
   */
  onBusy?: OnBusy;
  /**
   * Options of the model call.
   */
  options?: {
    [k: string]: unknown | undefined;
  };
  /**
   * The task that handed it to a sub-agent. What such a task says is not part of the conversation.
   */
  parentTaskId?: TaskId;
  /**
   * How many unfinished tasks of the session are ahead of it.
   */
  position: number;
  /**
   * What the agent is asked; absent for a workflow.
   */
  prompt?: string;
  /**
   * For a workflow that repeats another execution from a step on: what the steps before it came to.
   */
  replay?: Replay;
  /**
   * Its deadline in milliseconds of running time.
   */
  timeoutMs: number;
  /**
   * The task's own tools.
   */
  tools?: string[];
  /**
   * The workflow it executes.
   */
  workflow?: string;
}
/**
 * Where an execution of a workflow begins that is not its first.
 */
export interface Replay {
  /**
   * What the step is given instead of what it was given then.
   */
  input?: string | number | boolean | {} | unknown[] | null;
  /**
   * What the steps before that came to, by step.
   */
  outputs: {
    [k: string]: unknown | undefined;
  };
  /**
   * The step it begins at.
   */
  stepId: string;
  /**
   * The execution it repeats.
   */
  taskId: TaskId;
}
/**
 * A task got its slot: its prompt enters the conversation now.
 */
export interface TaskStartedEvent {
  at: Timestamp;
  data: TaskStarted;
  /**
   * Its place in the log, dense from 1.
   */
  seq: number;
  sessionId: SessionId;
  taskId: TaskId;
  type: "task_started";
}
/**
 * The `data` of `task_started`.
 */
export interface TaskStarted {
  /**
   * 1 for the first start; more after a recovery.
   */
  attempt: number;
  /**
   * The id of the prompt as a message of the conversation.
   */
  messageId: string;
}
/**
 * A model call or tool call of the task began or ended.
 */
export interface StepEvent {
  at: Timestamp;
  data: Step;
  /**
   * Its place in the log, dense from 1.
   */
  seq: number;
  sessionId: SessionId;
  taskId: TaskId;
  type: "step";
}
/**
 * The `data` of `step`.
 */
export interface Step {
  /**
   * The call, for a tool call.
   */
  callId?: string;
  /**
   * Counts the steps of the task from 1; `started` and `completed` of one step have the same.
   */
  index: number;
  /**
   * What went in, on `started`.
   */
  input?: string | number | boolean | {} | unknown[] | null;
  /**
   * `model` for a model call, the tool's name for a tool call; of a workflow, the step's place in it (`review`, `each[2].send`).
   */
  name: string;
  /**
   * What came out, on `completed`; the reason, on `failed`.
   */
  output?: string | number | boolean | {} | unknown[] | null;
  /**
   * Where it stands.
   */
  phase: StepPhase;
  /**
   * The tool, for a tool call.
   */
  tool?: string;
  /**
   * Until when it waits, where it waits for a time or not for ever.
   */
  until?: Timestamp;
}
/**
 * Text of the answer. The concatenation of a message's tokens is its text.
 */
export interface TokenEvent {
  at: Timestamp;
  data: Token;
  /**
   * Its place in the log, dense from 1.
   */
  seq: number;
  sessionId: SessionId;
  taskId: TaskId;
  type: "token";
}
/**
 * The `data` of `token`.
 */
export interface Token {
  /**
   * The message they belong to.
   */
  messageId: string;
  /**
   * One or more model tokens.
   */
  token: string;
}
/**
 * Text the model thinks but does not say.
 */
export interface ReasoningEvent {
  at: Timestamp;
  data: Reasoning;
  /**
   * Its place in the log, dense from 1.
   */
  seq: number;
  sessionId: SessionId;
  taskId: TaskId;
  type: "reasoning";
}
/**
 * The `data` of `reasoning`.
 */
export interface Reasoning {
  /**
   * One or more model tokens.
   */
  token: string;
}
/**
 * The model calls a tool.
 */
export interface ToolCallEvent {
  at: Timestamp;
  data: ToolCall;
  /**
   * Its place in the log, dense from 1.
   */
  seq: number;
  sessionId: SessionId;
  taskId: TaskId;
  type: "tool_call";
}
/**
 * The `data` of `tool_call`.
 */
export interface ToolCall {
  /**
   * What it is called with.
   */
  arguments: string | number | boolean | {} | unknown[] | null;
  /**
   * Unique in the session.
   */
  callId: string;
  /**
   * The tool.
   */
  tool: string;
}
/**
 * A tool says something while it runs; shown to people, not to the model.
 */
export interface ToolOutputEvent {
  at: Timestamp;
  data: ToolOutput;
  /**
   * Its place in the log, dense from 1.
   */
  seq: number;
  sessionId: SessionId;
  taskId: TaskId;
  type: "tool_output";
}
/**
 * The `data` of `tool_output`.
 */
export interface ToolOutput {
  /**
   * Which call.
   */
  callId: string;
  /**
   * What it says, as far as it has come.
   */
  output: string;
}
/**
 * A tool answered.
 */
export interface ToolResultEvent {
  at: Timestamp;
  data: ToolResult;
  /**
   * Its place in the log, dense from 1.
   */
  seq: number;
  sessionId: SessionId;
  taskId: TaskId;
  type: "tool_result";
}
/**
 * The `data` of `tool_result`.
 */
export interface ToolResult {
  /**
   * Which call.
   */
  callId: string;
  /**
   * What kind of failure, in a word: `unknown_tool`, `unavailable`, `invalid_arguments`, `refused`, `not_found`, `timed_out`, `too_large`, `failed`. More may be added.
   */
  code?: string;
  /**
   * How long it took, in milliseconds.
   */
  durationMs: number;
  /**
   * Why it failed; exactly one of the two is given.
   */
  error?: string;
  /**
   * What it returned.
   */
  output?: string | number | boolean | {} | unknown[] | null;
}
/**
 * A finished block of text, authoritative. Prompts and steering inputs are not repeated here: `task_started` and `steer_applied` name them.
 */
export interface MessageEvent {
  at: Timestamp;
  data: Message;
  /**
   * Its place in the log, dense from 1.
   */
  seq: number;
  sessionId: SessionId;
  taskId: TaskId;
  type: "message";
}
/**
 * The `data` of `message`.
 */
export interface Message {
  /**
   * Unique in the session.
   */
  messageId: string;
  /**
   * True when it was broken off.
   */
  partial?: boolean;
  /**
   * Who speaks.
   */
  role: Role;
  /**
   * The whole text, exactly the concatenation of its tokens.
   */
  text: string;
}
/**
 * Model tokens used by one call.
 */
export interface UsageEvent {
  at: Timestamp;
  data: Usage;
  /**
   * Its place in the log, dense from 1.
   */
  seq: number;
  sessionId: SessionId;
  taskId: TaskId;
  type: "usage";
}
/**
 * The task waits for a person.
 */
export interface InputRequestedEvent {
  at: Timestamp;
  data: InputRequested;
  /**
   * Its place in the log, dense from 1.
   */
  seq: number;
  sessionId: SessionId;
  taskId: TaskId;
  type: "input_requested";
}
/**
 * The `data` of `input_requested`.
 */
export interface InputRequested {
  /**
   * The call that waits.
   */
  callId?: string;
  /**
   * When it is resolved as expired, if nobody answers.
   */
  expiresAt?: Timestamp;
  /**
   * What is wanted.
   */
  kind: InputKind;
  /**
   * The question, for people.
   */
  prompt?: string;
  /**
   * Unique in the session.
   */
  requestId: string;
  /**
   * What the payload must look like (JSON Schema).
   */
  schema?: string | number | boolean | {} | unknown[] | null;
}
/**
 * A person answered, or the request expired or went with its task.
 */
export interface InputResolvedEvent {
  at: Timestamp;
  data: InputResolved;
  /**
   * Its place in the log, dense from 1.
   */
  seq: number;
  sessionId: SessionId;
  taskId: TaskId;
  type: "input_resolved";
}
/**
 * The `data` of `input_resolved`.
 */
export interface InputResolved {
  /**
   * Who: a user, or `hub`.
   */
  by: string;
  /**
   * The arguments to call the tool with instead.
   */
  editedArguments?: string | number | boolean | {} | unknown[] | null;
  /**
   * How.
   */
  outcome: ResolvedOutcome;
  /**
   * What was answered.
   */
  payload?: string | number | boolean | {} | unknown[] | null;
  /**
   * Which request.
   */
  requestId: string;
}
/**
 * A steering input was taken in; exactly one `steer_applied` or `steer_rejected` follows.
 */
export interface SteerAcceptedEvent {
  at: Timestamp;
  data: SteerAccepted;
  /**
   * Its place in the log, dense from 1.
   */
  seq: number;
  sessionId: SessionId;
  taskId: TaskId;
  type: "steer_accepted";
}
/**
 * The `data` of `steer_accepted`.
 */
export interface SteerAccepted {
  /**
   * What the agent is told.
   */
  input: string;
  /**
   * Which.
   */
  steerId: TaskId;
  /**
   * When it takes effect.
   */
  when: SteerWhen;
}
/**
 * A steering input has entered the conversation.
 */
export interface SteerAppliedEvent {
  at: Timestamp;
  data: SteerApplied;
  /**
   * Its place in the log, dense from 1.
   */
  seq: number;
  sessionId: SessionId;
  taskId: TaskId;
  type: "steer_applied";
}
/**
 * The `data` of `steer_applied`.
 */
export interface SteerApplied {
  /**
   * What the agent is told, for readers that came after `steer_accepted`.
   */
  input: string;
  /**
   * Its id as a message of the conversation.
   */
  messageId: string;
  /**
   * Which.
   */
  steerId: TaskId;
  /**
   * The step before whose model call it entered the conversation.
   */
  step: number;
}
/**
 * A steering input came too late to be used; nothing was changed.
 */
export interface SteerRejectedEvent {
  at: Timestamp;
  data: SteerRejected;
  /**
   * Its place in the log, dense from 1.
   */
  seq: number;
  sessionId: SessionId;
  taskId: TaskId;
  type: "steer_rejected";
}
/**
 * The `data` of `steer_rejected`.
 */
export interface SteerRejected {
  /**
   * What the agent would have been told, so that it can be sent again.
   */
  input: string;
  /**
   * Why.
   */
  reason: string;
  /**
   * Which.
   */
  steerId: TaskId;
}
/**
 * Something was not as asked, and the task goes on: an option without effect, an answer that has to be mended.
 */
export interface WarningEvent {
  at: Timestamp;
  data: Warning;
  /**
   * Its place in the log, dense from 1.
   */
  seq: number;
  sessionId: SessionId;
  taskId: TaskId;
  type: "warning";
}
/**
 * The `data` of `warning`.
 */
export interface Warning {
  /**
   * What kind, in a word: `option_ignored`, `answer_invalid`. More may be added.
   */
  code: string;
  /**
   * For people.
   */
  message: string;
  /**
   * The options that have no effect.
   */
  options?: string[];
}
/**
 * Somebody asked to cancel the task: from here on it ends as cancelled, whatever it still does.
 */
export interface CancelRequestedEvent {
  at: Timestamp;
  data: CancelRequested;
  /**
   * Its place in the log, dense from 1.
   */
  seq: number;
  sessionId: SessionId;
  taskId: TaskId;
  type: "cancel_requested";
}
/**
 * The `data` of `cancel_requested`.
 */
export interface CancelRequested {
  /**
   * Who: a user, or `hub`.
   */
  by: string;
  /**
   * Why.
   */
  reason?: string;
  /**
   * True when the task is taken out of the conversation.
   */
  rollback?: boolean;
}
/**
 * The task waits, for a person or for `resume_task`, and holds no slot.
 */
export interface TaskSuspendedEvent {
  at: Timestamp;
  data: TaskSuspended;
  /**
   * Its place in the log, dense from 1.
   */
  seq: number;
  sessionId: SessionId;
  taskId: TaskId;
  type: "task_suspended";
}
/**
 * The `data` of `task_suspended`.
 */
export interface TaskSuspended {
  /**
   * What the step says to whoever resumes it.
   */
  data?: string | number | boolean | {} | unknown[] | null;
  /**
   * When it goes on, or ends, by itself.
   */
  expiresAt?: Timestamp;
  /**
   * `input` while it waits for a person, `sleep` while a workflow waits for a time, otherwise what was given.
   */
  reason: string;
  /**
   * What that data must look like (JSON Schema).
   */
  schema?: string | number | boolean | {} | unknown[] | null;
  /**
   * The step of a workflow that waits for data.
   */
  stepId?: string;
}
/**
 * The suspended task goes on.
 */
export interface TaskResumedEvent {
  at: Timestamp;
  data: TaskResumed;
  /**
   * Its place in the log, dense from 1.
   */
  seq: number;
  sessionId: SessionId;
  taskId: TaskId;
  type: "task_resumed";
}
/**
 * The `data` of `task_resumed`.
 */
export interface TaskResumed {
  /**
   * Data given with the resume.
   */
  data?: string | number | boolean | {} | unknown[] | null;
  /**
   * The step to go on at.
   */
  stepId?: string;
}
/**
 * The hub stopped while the task ran; it runs again from its last durable step. Its tokens with `seq > discardAfter` before this event are void.
 */
export interface TaskRecoveringEvent {
  at: Timestamp;
  data: TaskRecovering;
  /**
   * Its place in the log, dense from 1.
   */
  seq: number;
  sessionId: SessionId;
  taskId: TaskId;
  type: "task_recovering";
}
/**
 * The `data` of `task_recovering`.
 */
export interface TaskRecovering {
  /**
   * Which attempt starts now.
   */
  attempt: number;
  /**
   * The task's tokens behind this one are void.
   */
  discardAfter: number;
}
/**
 * Terminal: the task is done and its answer is whole.
 */
export interface TaskCompletedEvent {
  at: Timestamp;
  data: TaskCompleted;
  /**
   * Its place in the log, dense from 1.
   */
  seq: number;
  sessionId: SessionId;
  taskId: TaskId;
  type: "task_completed";
}
/**
 * The `data` of `task_completed`.
 */
export interface TaskCompleted {
  /**
   * The exact text of the last message; of a workflow, its output.
   */
  result: string | number | boolean | {} | unknown[] | null;
  /**
   * Model tokens of all its calls.
   */
  usage: Usage;
}
/**
 * Terminal: the task broke off.
 */
export interface TaskFailedEvent {
  at: Timestamp;
  data: TaskFailed;
  /**
   * Its place in the log, dense from 1.
   */
  seq: number;
  sessionId: SessionId;
  taskId: TaskId;
  type: "task_failed";
}
/**
 * The `data` of `task_failed`.
 */
export interface TaskFailed {
  /**
   * What went wrong.
   */
  code: ErrorCode;
  /**
   * For people; never a secret, a prompt or a stack trace.
   */
  message: string;
  /**
   * The message that text belongs to.
   */
  messageId?: string;
  /**
   * The text streamed until then; it stays in the conversation.
   */
  partial?: string;
  /**
   * Whether the same task may succeed later.
   */
  retryable: boolean;
}
/**
 * Terminal: the task was cancelled, and its work has stopped.
 */
export interface TaskCancelledEvent {
  at: Timestamp;
  data: TaskCancelled;
  /**
   * Its place in the log, dense from 1.
   */
  seq: number;
  sessionId: SessionId;
  taskId: TaskId;
  type: "task_cancelled";
}
/**
 * The `data` of `task_cancelled`.
 */
export interface TaskCancelled {
  /**
   * Who: a user, or `hub`.
   */
  by: string;
  /**
   * The text streamed until then; it stays in the conversation unless the task was rolled back.
   */
  partial: string;
  /**
   * Why.
   */
  reason?: string;
  /**
   * True when the task is taken out of the conversation.
   */
  rollback?: boolean;
  /**
   * Whether the model call and the tools are known to have stopped.
   */
  upstreamStopped: boolean;
}
/**
 * Terminal: the task's deadline passed.
 */
export interface TaskTimeoutEvent {
  at: Timestamp;
  data: TaskTimeout;
  /**
   * Its place in the log, dense from 1.
   */
  seq: number;
  sessionId: SessionId;
  taskId: TaskId;
  type: "task_timeout";
}
/**
 * The `data` of `task_timeout`.
 */
export interface TaskTimeout {
  /**
   * The text streamed until then; it stays in the conversation.
   */
  partial?: string;
  /**
   * The deadline that passed, in milliseconds of running time.
   */
  timeoutMs: number;
  /**
   * Whether the model call and the tools are known to have stopped.
   */
  upstreamStopped: boolean;
}
