// The messages of agent-hub.v1 under the names this package uses, and the lists of what there is.
import type { ClientMessage, ConnectionMessage, ErrorCode, Event, ServerMessage } from "./generated.js";

export type {
  AckMessage,
  AttachSessionCommand,
  ClientMessage,
  ConnectionMessage,
  CreateSessionCommand,
  ErrorCode,
  ErrorMessage,
  InputKind,
  Limits,
  MessageInfo,
  OnBusy,
  PendingInput as OpenInput,
  ResolvedOutcome,
  RespondInputCommand,
  Role,
  ServerMessage,
  SessionAttachedMessage,
  ToolOfferedMessage,
  SessionInfo,
  Snapshot,
  StepPhase,
  SteerWhen,
  SubmitTaskCommand,
  TaskInfo,
  TaskStatus,
  Usage,
  WelcomeMessage,
} from "./generated.js";

/** A position in a session's log: `<epoch>.<seq>`, everything up to and including that event has been read. */
export type Cursor = string;

/** An event of a session's log: `type`, `sessionId`, mostly `taskId`, `seq`, `at`, `data`. */
export type HubEvent = Event;

/** The event of one type, for example `EventOf<"token">`. */
export type EventOf<Type extends Event["type"]> = Extract<Event, { type: Type }>;

/** A command without the `id` that asks for an answer. */
export type Command = ClientMessage extends infer Message ? (Message extends ClientMessage ? Omit<Message, "id"> : never) : never;

/** Every type of event this version knows. Others count for the position and are otherwise passed over. */
export const EVENT_TYPES = known<Event["type"]>({
  session_created: 1,
  session_updated: 1,
  session_ended: 1,
  task_queued: 1,
  task_started: 1,
  step: 1,
  token: 1,
  reasoning: 1,
  tool_call: 1,
  tool_output: 1,
  tool_result: 1,
  message: 1,
  usage: 1,
  input_requested: 1,
  input_resolved: 1,
  steer_accepted: 1,
  steer_applied: 1,
  steer_rejected: 1,
  warning: 1,
  cancel_requested: 1,
  task_suspended: 1,
  task_resumed: 1,
  task_recovering: 1,
  task_completed: 1,
  task_failed: 1,
  task_cancelled: 1,
  task_timeout: 1,
});

/** Every type of message about the connection. */
export const CONNECTION_TYPES = known<ConnectionMessage["type"]>({
  welcome: 1,
  ack: 1,
  error: 1,
  pong: 1,
  session_attached: 1,
  caught_up: 1,
  tool_offered: 1,
  auth_expiring: 1,
  going_away: 1,
});

/** Every type of command. */
export const COMMAND_TYPES = known<ClientMessage["type"]>({
  create_session: 1,
  attach_session: 1,
  detach_session: 1,
  end_session: 1,
  submit_task: 1,
  cancel_task: 1,
  steer_task: 1,
  respond_input: 1,
  suspend_task: 1,
  resume_task: 1,
  provide_tools: 1,
  tool_result: 1,
  refresh_token: 1,
  ping: 1,
});

/** Whether the same request may succeed later without being changed, by error code. */
export const RETRYABLE: Readonly<Record<ErrorCode, boolean>> = {
  invalid_json: false,
  invalid_message: false,
  unknown_type: false,
  unauthorized: false,
  forbidden: false,
  session_not_found: false,
  task_not_found: false,
  already_terminal: false,
  already_resolved: false,
  busy: true,
  queue_full: true,
  idempotency_conflict: false,
  rate_limited: true,
  quota_exceeded: false,
  payload_too_large: false,
  prompt_too_long: false,
  overloaded: true,
  upstream_unavailable: true,
  upstream_error: true,
  interrupted: true,
  not_supported: false,
  not_found: false,
  method_not_allowed: false,
  unsupported_media_type: false,
  internal: true,
};

/** What the hub closes a socket with, and whether to come back. Any code that is not here: yes. */
export const CLOSE_CODES: Readonly<Record<number, { reason: string; resume: boolean }>> = {
  1001: { reason: "Going away", resume: true },
  1009: { reason: "Message too big", resume: true },
  1011: { reason: "Internal error", resume: true },
  1012: { reason: "Service restart", resume: true },
  4000: { reason: "Protocol violation", resume: false },
  4001: { reason: "Authentication failed", resume: false },
  4003: { reason: "Forbidden", resume: false },
  4006: { reason: "No common version", resume: false },
  4050: { reason: "Token expired", resume: true },
  4051: { reason: "Heartbeat missed", resume: true },
  4052: { reason: "Stalled", resume: true },
  4053: { reason: "Overloaded", resume: true },
  4054: { reason: "Connection limit", resume: true },
};

/** Whether a socket that closed with this code is to be opened again. */
export const resumes = (code: number): boolean => CLOSE_CODES[code]?.resume ?? true;

export type TerminalEvent = EventOf<"task_completed" | "task_failed" | "task_cancelled" | "task_timeout">;

/** Whether an event is the last one of its task. */
export function isTerminal(event: HubEvent): event is TerminalEvent {
  return event.type === "task_completed" || event.type === "task_failed" || event.type === "task_cancelled" || event.type === "task_timeout";
}

/** Events have a number and a time; an `ack` or `caught_up` only names one. Types of later versions are events all the same. */
export function isEvent(message: ServerMessage): message is HubEvent {
  return "seq" in message && "at" in message && "sessionId" in message;
}

/**
 * What a frame says; `undefined` where it is no message. A message of an unknown type is given as it came.
 */
export function decode(text: unknown): ServerMessage | undefined {
  if (typeof text !== "string") return undefined;
  try {
    const message: unknown = JSON.parse(text);
    const typed = typeof message === "object" && message !== null && typeof (message as { type?: unknown }).type === "string";
    return typed ? (message as ServerMessage) : undefined;
  } catch {
    return undefined;
  }
}

/** All keys of a record that must have every member of a union: the compiler says when one is missing. */
function known<Name extends string>(names: Record<Name, 1>): readonly Name[] {
  return Object.keys(names) as Name[];
}
