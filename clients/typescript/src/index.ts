// agent-hub-client: sessions and tasks of an agent-hub over a connection that may break.
export { connect } from "./hub.js";
export { storedCursors } from "./storage.js";
export type { KeyValueStorage } from "./storage.js";
export { HubError } from "./errors.js";
export type { ClientErrorCode } from "./errors.js";
export type * from "./api.js";
export { emptyConversation, fromSnapshot, isOver, reduce } from "./conversation.js";
export type { Conversation, Message, SessionView, SteerView, StepView, TaskView, ToolCallView } from "./conversation.js";
export { CLOSE_CODES, COMMAND_TYPES, CONNECTION_TYPES, EVENT_TYPES, RETRYABLE, isTerminal } from "./protocol.js";
export type {
  ClientMessage,
  ConnectionMessage,
  Cursor,
  ErrorCode,
  EventOf,
  HubEvent,
  OnBusy,
  OpenInput,
  ServerMessage,
  SessionAttachedMessage,
  Snapshot,
  SteerWhen,
  TaskStatus,
  Usage,
  WelcomeMessage,
} from "./protocol.js";
