"""The WebSocket messages of agent-hub. Generated from the JSON Schema by tools/generate.sh; do not edit."""

from __future__ import annotations

from typing import Any, Literal, NotRequired, TypeAlias, TypedDict


class AuthExpiringMessage(TypedDict):
    """The token expires soon; send `refresh_token`, or the socket is closed with 4050."""

    inMs: int
    """Milliseconds until the socket is closed."""
    type: Literal['auth_expiring']


class CancelRequested(TypedDict):
    """The `data` of `cancel_requested`."""

    by: str
    """Who: a user, or `hub`."""
    reason: NotRequired[str]
    """Why."""
    rollback: NotRequired[bool]
    """True when the task is taken out of the conversation."""


class ClientTool(TypedDict):
    """A tool that a client executes."""

    description: NotRequired[str]
    """What it is for, as the model is told."""
    name: str
    """Its name: 1 to 64 of `a-z A-Z 0-9 _ -`, and no name of a tool of the hub."""
    parameters: NotRequired[dict[str, Any]]
    """JSON Schema of its arguments, an object; any object otherwise."""


CommandId: TypeAlias = int | str
"""A client's own name for a command: a string of at most 128 bytes or a whole number, echoed as it came."""


Cursor: TypeAlias = str
"""A position in a session's log: `<epoch>.<seq>`."""


Epoch: TypeAlias = str
"""Names one incarnation of a log. It changes whenever the durable head may have gone back, so that a cursor from before is recognised instead of pointing at other events. Lower-case letters and digits, at most 32."""


ErrorCode: TypeAlias = Literal['invalid_json', 'invalid_message', 'unknown_type', 'unauthorized', 'forbidden', 'session_not_found', 'task_not_found', 'already_terminal', 'already_resolved', 'busy', 'queue_full', 'idempotency_conflict', 'rate_limited', 'quota_exceeded', 'payload_too_large', 'prompt_too_long', 'overloaded', 'upstream_unavailable', 'upstream_error', 'interrupted', 'not_supported', 'not_found', 'method_not_allowed', 'unsupported_media_type', 'internal']
"""The code of an `error` message, of an HTTP error body, or of `task_failed`."""


class GoingAwayMessage(TypedDict):
    """The hub will close this socket soon; connect again after the given time."""

    reconnectAfterMs: int
    """Wait this many milliseconds before connecting again; spread over the clients."""
    type: Literal['going_away']


InputKind: TypeAlias = Literal['approval', 'input', 'tool']
"""What a request for input wants."""


InputOutcome: TypeAlias = Literal['accept', 'reject']
"""The answer to a request for input."""


class Limits(TypedDict):
    """What one connection may do, as told in `welcome`."""

    attachedSessions: int
    """Sessions one socket may be attached to at the same time."""
    maxConcurrentTasks: NotRequired[int]
    """Tasks of one user that run at the same time; absent when the hub does not bound them."""
    messageBytes: int
    """Largest message the hub accepts, in bytes; a larger one closes the socket with 1009."""
    promptChars: int
    """Longest prompt, in characters."""
    tasksPerSession: NotRequired[int]
    """Tasks one session may ever have; absent when the hub does not bound them."""


OnBusy: TypeAlias = Literal['queue', 'reject', 'interrupt', 'rollback', 'steer']
"""What to do with a submit while the session has an unfinished task."""


class PartialText(TypedDict):
    """Text that is not, or never became, a whole message."""

    messageId: str
    """The message."""
    text: str
    """Its text so far."""


class PingCommand(TypedDict):
    """Any time. Answer: `pong`."""

    id: NotRequired[CommandId]
    """Asks for an `ack`; echoed in it or in the `error`."""
    type: Literal['ping']


class PongMessage(TypedDict):
    """The answer to `ping`."""

    id: NotRequired[CommandId]
    """The `id` of the `ping`, if it had one."""
    type: Literal['pong']


class Reasoning(TypedDict):
    """The `data` of `reasoning`."""

    token: str
    """One or more model tokens."""


class RefreshTokenCommand(TypedDict):
    """Any time. The new token must have the same subject."""

    id: NotRequired[CommandId]
    """Asks for an `ack`; echoed in it or in the `error`."""
    token: str
    """The new token."""
    type: Literal['refresh_token']


ResolvedOutcome: TypeAlias = Literal['accept', 'reject', 'expired', 'withdrawn']
"""How a request for input ended."""


Role: TypeAlias = Literal['user', 'assistant']
"""Who speaks in a message."""


class SessionEnded(TypedDict):
    """The `data` of `session_ended`."""

    reason: str
    """`ended` by its owner, `deleted`, or `expired` after idle time."""


SessionId: TypeAlias = str
"""A session. Unique in the hub."""


SessionStatus: TypeAlias = Literal['active', 'disconnected', 'ended']
"""Whether a session is in use."""


class SessionUpdated(TypedDict):
    """The `data` of `session_updated`."""

    clientTools: NotRequired[list[ClientTool]]
    """All tools that clients execute from now on."""
    metadata: NotRequired[dict[str, Any]]
    """All metadata from now on."""
    model: NotRequired[str]
    """The model from now on."""
    name: NotRequired[str]
    """The new name."""
    tags: NotRequired[list[str]]
    """All tags from now on."""


SteerWhen: TypeAlias = Literal['next_step', 'now']
"""When a steering input takes effect."""


StepPhase: TypeAlias = Literal['started', 'completed', 'failed']
"""Where a step stands."""


class TaskCancelled(TypedDict):
    """The `data` of `task_cancelled`."""

    by: str
    """Who: a user, or `hub`."""
    partial: str
    """The text streamed until then; it stays in the conversation unless the task was rolled back."""
    reason: NotRequired[str]
    """Why."""
    rollback: NotRequired[bool]
    """True when the task is taken out of the conversation."""
    upstreamStopped: bool
    """Whether the model call and the tools are known to have stopped."""


class TaskError(TypedDict):
    """Why a task failed."""

    code: ErrorCode
    """What went wrong."""
    message: str
    """For people."""


class TaskFailed(TypedDict):
    """The `data` of `task_failed`."""

    code: ErrorCode
    """What went wrong."""
    message: str
    """For people; never a secret, a prompt or a stack trace."""
    messageId: NotRequired[str]
    """The message that text belongs to."""
    partial: NotRequired[str]
    """The text streamed until then; it stays in the conversation."""
    retryable: bool
    """Whether the same task may succeed later."""


TaskId: TypeAlias = str
"""A task. Unique in the hub. `executionId`, `runId` and `job_id` of other APIs are task ids."""


class TaskRecovering(TypedDict):
    """The `data` of `task_recovering`."""

    attempt: int
    """Which attempt starts now."""
    discardAfter: int
    """The task's tokens behind this one are void."""


class TaskResumed(TypedDict):
    """The `data` of `task_resumed`."""

    data: NotRequired[str | float | bool | dict[str, Any] | list[Any] | None]
    """Data given with the resume."""
    stepId: NotRequired[str]
    """The step to go on at."""


class TaskStarted(TypedDict):
    """The `data` of `task_started`."""

    attempt: int
    """1 for the first start; more after a recovery."""
    messageId: str
    """The id of the prompt as a message of the conversation."""


TaskStatus: TypeAlias = Literal['queued', 'running', 'suspended', 'completed', 'failed', 'cancelled', 'timeout']
"""The state of a task."""


class TaskTimeout(TypedDict):
    """The `data` of `task_timeout`."""

    partial: NotRequired[str]
    """The text streamed until then; it stays in the conversation."""
    timeoutMs: int
    """The deadline that passed, in milliseconds of running time."""
    upstreamStopped: bool
    """Whether the model call and the tools are known to have stopped."""


Timestamp: TypeAlias = str
"""RFC 3339 with milliseconds and `Z`."""


class Token(TypedDict):
    """The `data` of `token`."""

    messageId: str
    """The message they belong to."""
    token: str
    """One or more model tokens."""


class TokenEvent(TypedDict):
    """Text of the answer. The concatenation of a message's tokens is its text."""

    at: Timestamp
    data: Token
    seq: int
    """Its place in the log, dense from 1."""
    sessionId: SessionId
    taskId: TaskId
    type: Literal['token']


class ToolCall(TypedDict):
    """The `data` of `tool_call`."""

    arguments: str | float | bool | dict[str, Any] | list[Any] | None
    """What it is called with."""
    callId: str
    """Unique in the session."""
    tool: str
    """The tool."""


class ToolCallEvent(TypedDict):
    """The model calls a tool."""

    at: Timestamp
    data: ToolCall
    seq: int
    """Its place in the log, dense from 1."""
    sessionId: SessionId
    taskId: TaskId
    type: Literal['tool_call']


class ToolOfferedMessage(TypedDict):
    """A call of a tool that this connection executes: answer with `tool_result`. Nobody else is asked while this connection stands."""

    arguments: str | float | bool | dict[str, Any] | list[Any] | None
    """Its arguments; they fit the tool's schema."""
    callId: str
    """The call. The same when it is offered again, to this connection or another one."""
    expiresAt: NotRequired[Timestamp]
    """When the hub stops waiting for the result."""
    sessionId: SessionId
    """Whose session."""
    taskId: TaskId
    """Which task."""
    tool: str
    """Which tool."""
    type: Literal['tool_offered']


class ToolOutput(TypedDict):
    """The `data` of `tool_output`."""

    callId: str
    """Which call."""
    output: str
    """What it says, as far as it has come."""


class ToolOutputEvent(TypedDict):
    """A tool says something while it runs; shown to people, not to the model."""

    at: Timestamp
    data: ToolOutput
    seq: int
    """Its place in the log, dense from 1."""
    sessionId: SessionId
    taskId: TaskId
    type: Literal['tool_output']


class ToolResult(TypedDict):
    """The `data` of `tool_result`."""

    callId: str
    """Which call."""
    code: NotRequired[str]
    """What kind of failure, in a word: `unknown_tool`, `unavailable`, `invalid_arguments`, `refused`, `not_found`, `timed_out`, `too_large`, `failed`. More may be added."""
    durationMs: int
    """How long it took, in milliseconds."""
    error: NotRequired[str]
    """Why it failed; exactly one of the two is given."""
    output: NotRequired[str | float | bool | dict[str, Any] | list[Any] | None]
    """What it returned."""


class ToolResultCommand(TypedDict):
    """While a call of a client-executed tool waits. The first result wins; later ones get `already_resolved`."""

    callId: str
    """Which call of the task."""
    error: NotRequired[str | None]
    """Why it failed."""
    id: NotRequired[CommandId]
    """Asks for an `ack`; echoed in it or in the `error`."""
    output: NotRequired[str | float | bool | dict[str, Any] | list[Any] | None]
    """What the tool returned."""
    sessionId: NotRequired[SessionId | None]
    """Which session, if not the task's own."""
    taskId: TaskId
    """Which task."""
    type: Literal['tool_result']


class ToolResultEvent(TypedDict):
    """A tool answered."""

    at: Timestamp
    data: ToolResult
    seq: int
    """Its place in the log, dense from 1."""
    sessionId: SessionId
    taskId: TaskId
    type: Literal['tool_result']


class Usage(TypedDict):
    """The `data` of `usage`."""

    inputTokens: int
    """Tokens read by the model."""
    outputTokens: int
    """Tokens written by it."""


class UsageEvent(TypedDict):
    """Model tokens used by one call."""

    at: Timestamp
    data: Usage
    seq: int
    """Its place in the log, dense from 1."""
    sessionId: SessionId
    taskId: TaskId
    type: Literal['usage']


class Warning(TypedDict):
    """The `data` of `warning`."""

    code: str
    """What kind, in a word: `option_ignored`, `answer_invalid`. More may be added."""
    message: str
    """For people."""
    options: NotRequired[list[str]]
    """The options that have no effect."""


class WarningEvent(TypedDict):
    """Something was not as asked, and the task goes on: an option without effect, an answer that has to be mended."""

    at: Timestamp
    data: Warning
    seq: int
    """Its place in the log, dense from 1."""
    sessionId: SessionId
    taskId: TaskId
    type: Literal['warning']


class WelcomeMessage(TypedDict):
    """The first frame after a successful connect, unasked."""

    connectionId: str
    """Names this connection in the hub's log."""
    heartbeatMs: int
    """The hub pings this often, in milliseconds, and closes after two silent pings."""
    limits: Limits
    """What this connection may do."""
    protocol: str
    """The protocol that is spoken: `agent-hub.v1`."""
    type: Literal['welcome']
    user: str
    """The user the credentials stand for."""


class AckMessage(TypedDict):
    """The command with this id was carried out, and its effect is durable."""

    id: CommandId
    """The command's id."""
    received: str
    """The command's `type`."""
    seq: NotRequired[int]
    """The event that records it, if it made one."""
    sessionId: NotRequired[SessionId]
    """The session it went to, if it went to one."""
    taskId: NotRequired[TaskId]
    """The task it was about or made."""
    type: Literal['ack']


class AttachSessionCommand(TypedDict):
    """Any time. Answer: `session_attached`, the events, `caught_up`. Attaching again moves the cursor."""

    after: NotRequired[str | None]
    """A cursor `<epoch>.<seq>`: the events behind it follow. Without it, or when it cannot be honoured, a snapshot comes first. Plain text here, because an unreadable cursor is answered with a snapshot and not with an error."""
    id: NotRequired[CommandId]
    """Asks for an `ack`; echoed in it or in the `error`."""
    sessionId: SessionId
    """Which session."""
    type: Literal['attach_session']


class CancelRequestedEvent(TypedDict):
    """Somebody asked to cancel the task: from here on it ends as cancelled, whatever it still does."""

    at: Timestamp
    data: CancelRequested
    seq: int
    """Its place in the log, dense from 1."""
    sessionId: SessionId
    taskId: TaskId
    type: Literal['cancel_requested']


class CancelTaskCommand(TypedDict):
    """While the task is not terminal. Answer: `cancel_requested`, then `task_cancelled` once the work has stopped."""

    id: NotRequired[CommandId]
    """Asks for an `ack`; echoed in it or in the `error`."""
    reason: NotRequired[str | None]
    """Why; kept in the log."""
    sessionId: NotRequired[SessionId | None]
    """Which session, if not the task's own."""
    taskId: TaskId
    """Which task."""
    type: Literal['cancel_task']


class CaughtUpMessage(TypedDict):
    """Once per attach: everything up to the `head` of the attach has been sent; what follows is live."""

    seq: int
    """The `head` of the attach."""
    sessionId: SessionId
    """Which session."""
    type: Literal['caught_up']


class CreateSessionCommand(TypedDict):
    """Any time. Makes a session, or finds it again if its id is known, and attaches from its first event; so `session_created` is the answer. It becomes the connection's current session; others stay attached."""

    agent: NotRequired[str | None]
    """The agent that answers; the hub's default otherwise."""
    id: NotRequired[CommandId]
    """Asks for an `ack`; echoed in it or in the `error`."""
    metadata: NotRequired[dict[str, Any] | None]
    """Anything the client wants to keep with the session."""
    model: NotRequired[str | None]
    """The model; the agent's or the hub's otherwise."""
    name: NotRequired[str | None]
    """A name for people."""
    sessionId: NotRequired[SessionId | None]
    """Chosen by the client so that a repeated command finds the session it made; otherwise the hub chooses."""
    tags: NotRequired[list[str] | None]
    """Words to find it by."""
    tools: NotRequired[list[str] | None]
    """Names of the tools it may call."""
    type: Literal['create_session']


class DetachSessionCommand(TypedDict):
    """While attached. Ends the flow of events to this connection; the session is not touched."""

    id: NotRequired[CommandId]
    """Asks for an `ack`; echoed in it or in the `error`."""
    sessionId: NotRequired[SessionId | None]
    """Which session."""
    type: Literal['detach_session']


class EndSessionCommand(TypedDict):
    """Any time. Cancels what runs and ends the session; its log stays readable."""

    id: NotRequired[CommandId]
    """Asks for an `ack`; echoed in it or in the `error`."""
    sessionId: NotRequired[SessionId | None]
    """Which session."""
    type: Literal['end_session']


class ErrorMessage(TypedDict):
    """A command was refused, or the connection has a problem; nothing was changed."""

    code: ErrorCode
    """What went wrong."""
    details: NotRequired[str | float | bool | dict[str, Any] | list[Any] | None]
    """More, for programs."""
    id: NotRequired[CommandId]
    """The command's id, if it had one that could be read."""
    message: str
    """For people."""
    retryAfterMs: NotRequired[int]
    """How long to wait first, in milliseconds."""
    retryable: bool
    """Whether the same command may succeed later."""
    sessionId: NotRequired[SessionId]
    """The session it is about."""
    taskId: NotRequired[TaskId]
    """The task it is about."""
    type: Literal['error']


class InputRequested(TypedDict):
    """The `data` of `input_requested`."""

    callId: NotRequired[str]
    """The call that waits."""
    expiresAt: NotRequired[Timestamp]
    """When it is resolved as expired, if nobody answers."""
    kind: InputKind
    """What is wanted."""
    prompt: NotRequired[str]
    """The question, for people."""
    requestId: str
    """Unique in the session."""
    schema: NotRequired[str | float | bool | dict[str, Any] | list[Any] | None]
    """What the payload must look like (JSON Schema)."""


class InputRequestedEvent(TypedDict):
    """The task waits for a person."""

    at: Timestamp
    data: InputRequested
    seq: int
    """Its place in the log, dense from 1."""
    sessionId: SessionId
    taskId: TaskId
    type: Literal['input_requested']


class InputResolved(TypedDict):
    """The `data` of `input_resolved`."""

    by: str
    """Who: a user, or `hub`."""
    editedArguments: NotRequired[str | float | bool | dict[str, Any] | list[Any] | None]
    """The arguments to call the tool with instead."""
    outcome: ResolvedOutcome
    """How."""
    payload: NotRequired[str | float | bool | dict[str, Any] | list[Any] | None]
    """What was answered."""
    requestId: str
    """Which request."""


class InputResolvedEvent(TypedDict):
    """A person answered, or the request expired or went with its task."""

    at: Timestamp
    data: InputResolved
    seq: int
    """Its place in the log, dense from 1."""
    sessionId: SessionId
    taskId: TaskId
    type: Literal['input_resolved']


class Message(TypedDict):
    """The `data` of `message`."""

    messageId: str
    """Unique in the session."""
    partial: NotRequired[bool]
    """True when it was broken off."""
    role: Role
    """Who speaks."""
    text: str
    """The whole text, exactly the concatenation of its tokens."""


class MessageEvent(TypedDict):
    """A finished block of text, authoritative. Prompts and steering inputs are not repeated here: `task_started` and `steer_applied` name them."""

    at: Timestamp
    data: Message
    seq: int
    """Its place in the log, dense from 1."""
    sessionId: SessionId
    taskId: TaskId
    type: Literal['message']


class MessageInfo(TypedDict):
    """One message of the conversation."""

    messageId: str
    """Unique in the session."""
    partial: NotRequired[bool]
    """True when it was broken off, or is still being streamed."""
    role: Role
    """Who speaks."""
    seq: int
    """The event that made it, or began it."""
    taskId: TaskId
    """The task it belongs to."""
    text: str
    """What. Of the message a task is streaming just now: what has been streamed."""


class PendingInput(TypedDict):
    """A request for input nobody has answered, with the task that waits for it."""

    callId: NotRequired[str]
    """The call that waits."""
    expiresAt: NotRequired[Timestamp]
    """When it is resolved as expired, if nobody answers."""
    kind: InputKind
    """What is wanted."""
    prompt: NotRequired[str]
    """The question, for people."""
    requestId: str
    """Unique in the session."""
    schema: NotRequired[str | float | bool | dict[str, Any] | list[Any] | None]
    """What the payload must look like (JSON Schema)."""
    taskId: TaskId
    """The task that waits."""


class ProvideToolsCommand(TypedDict):
    """Any time. From now on this connection executes these tools for the session, and no others; its agent may call them."""

    id: NotRequired[CommandId]
    """Asks for an `ack`; echoed in it or in the `error`."""
    sessionId: NotRequired[SessionId | None]
    """Which session."""
    tools: list[ClientTool]
    """All that this connection executes; none to stop."""
    type: Literal['provide_tools']


class ReasoningEvent(TypedDict):
    """Text the model thinks but does not say."""

    at: Timestamp
    data: Reasoning
    seq: int
    """Its place in the log, dense from 1."""
    sessionId: SessionId
    taskId: TaskId
    type: Literal['reasoning']


class Replay(TypedDict):
    """Where an execution of a workflow begins that is not its first."""

    input: NotRequired[str | float | bool | dict[str, Any] | list[Any] | None]
    """What the step is given instead of what it was given then."""
    outputs: dict[str, Any]
    """What the steps before that came to, by step."""
    stepId: str
    """The step it begins at."""
    taskId: TaskId
    """The execution it repeats."""


class RespondInputCommand(TypedDict):
    """While the request is open. The first valid answer wins; later ones get `already_resolved`."""

    editedArguments: NotRequired[str | float | bool | dict[str, Any] | list[Any] | None]
    """For an approval: the arguments to call the tool with instead."""
    id: NotRequired[CommandId]
    """Asks for an `ack`; echoed in it or in the `error`."""
    outcome: InputOutcome
    """Yes or no."""
    payload: NotRequired[str | float | bool | dict[str, Any] | list[Any] | None]
    """The data asked for; checked against the request's schema."""
    requestId: str
    """Which request of the task."""
    sessionId: NotRequired[SessionId | None]
    """Which session, if not the task's own."""
    taskId: TaskId
    """Which task."""
    type: Literal['respond_input']


class ResumeTaskCommand(TypedDict):
    """While the task is suspended."""

    data: NotRequired[str | float | bool | dict[str, Any] | list[Any] | None]
    """Data for the step that waits."""
    id: NotRequired[CommandId]
    """Asks for an `ack`; echoed in it or in the `error`."""
    sessionId: NotRequired[SessionId | None]
    """Which session, if not the task's own."""
    stepId: NotRequired[str | None]
    """The step to resume at, for workflows."""
    taskId: TaskId
    """Which task."""
    type: Literal['resume_task']


class SessionCreated(TypedDict):
    """The `data` of `session_created`."""

    agent: str
    """The agent that answers."""
    createdAt: Timestamp
    """When."""
    epoch: Epoch
    """The incarnation of the log at its birth. `session_attached.epoch` says the present one."""
    metadata: NotRequired[dict[str, Any]]
    """What the client keeps with it."""
    model: NotRequired[str]
    """The model asked for, if one was."""
    name: NotRequired[str]
    """A name for people."""
    tags: NotRequired[list[str]]
    """Words to find it by."""
    tools: list[str]
    """The tools it may call."""


class SessionCreatedEvent(TypedDict):
    """The first event of every log."""

    at: Timestamp
    data: SessionCreated
    seq: int
    """Its place in the log, dense from 1."""
    sessionId: SessionId
    type: Literal['session_created']


class SessionEndedEvent(TypedDict):
    """The last event of a session. Its log stays readable unless the reason is `deleted`."""

    at: Timestamp
    data: SessionEnded
    seq: int
    """Its place in the log, dense from 1."""
    sessionId: SessionId
    type: Literal['session_ended']


class SessionInfo(TypedDict):
    """What a session is, without its content."""

    agent: str
    """The agent that answers."""
    createdAt: Timestamp
    """When it was made."""
    id: SessionId
    """Its id."""
    metadata: NotRequired[dict[str, Any]]
    """What the client keeps with it."""
    model: NotRequired[str]
    """The model asked for, if one was."""
    name: NotRequired[str]
    """A name for people."""
    status: SessionStatus
    """Whether it is in use."""
    tags: list[str]
    """Words to find it by."""
    taskCount: int
    """Tasks it ever had."""
    tools: list[str]
    """The tools it may call."""
    updatedAt: Timestamp
    """When its log last grew."""


class SessionUpdatedEvent(TypedDict):
    """Name, tags, metadata or model changed; only what changed is given."""

    at: Timestamp
    data: SessionUpdated
    seq: int
    """Its place in the log, dense from 1."""
    sessionId: SessionId
    type: Literal['session_updated']


class SteerAccepted(TypedDict):
    """The `data` of `steer_accepted`."""

    input: str
    """What the agent is told."""
    steerId: TaskId
    """Which."""
    when: SteerWhen
    """When it takes effect."""


class SteerAcceptedEvent(TypedDict):
    """A steering input was taken in; exactly one `steer_applied` or `steer_rejected` follows."""

    at: Timestamp
    data: SteerAccepted
    seq: int
    """Its place in the log, dense from 1."""
    sessionId: SessionId
    taskId: TaskId
    type: Literal['steer_accepted']


class SteerApplied(TypedDict):
    """The `data` of `steer_applied`."""

    input: str
    """What the agent is told, for readers that came after `steer_accepted`."""
    messageId: str
    """Its id as a message of the conversation."""
    steerId: TaskId
    """Which."""
    step: int
    """The step before whose model call it entered the conversation."""


class SteerAppliedEvent(TypedDict):
    """A steering input has entered the conversation."""

    at: Timestamp
    data: SteerApplied
    seq: int
    """Its place in the log, dense from 1."""
    sessionId: SessionId
    taskId: TaskId
    type: Literal['steer_applied']


class SteerRejected(TypedDict):
    """The `data` of `steer_rejected`."""

    input: str
    """What the agent would have been told, so that it can be sent again."""
    reason: str
    """Why."""
    steerId: TaskId
    """Which."""


class SteerRejectedEvent(TypedDict):
    """A steering input came too late to be used; nothing was changed."""

    at: Timestamp
    data: SteerRejected
    seq: int
    """Its place in the log, dense from 1."""
    sessionId: SessionId
    taskId: TaskId
    type: Literal['steer_rejected']


class SteerTaskCommand(TypedDict):
    """While the task is not terminal. Answer: `steer_accepted`, later `steer_applied` or `steer_rejected`."""

    id: NotRequired[CommandId]
    """Asks for an `ack`; echoed in it or in the `error`."""
    input: str
    """What the agent is told, 1 to 10,000 characters."""
    sessionId: NotRequired[SessionId | None]
    """Which session, if not the task's own."""
    steerId: NotRequired[TaskId | None]
    """Chosen by the client (UUID) so that a repeated steer has no second effect."""
    taskId: TaskId
    """Which task."""
    type: Literal['steer_task']
    when: NotRequired[SteerWhen | None]
    """When; `next_step` otherwise."""


class Step(TypedDict):
    """The `data` of `step`."""

    callId: NotRequired[str]
    """The call, for a tool call."""
    index: int
    """Counts the steps of the task from 1; `started` and `completed` of one step have the same."""
    input: NotRequired[str | float | bool | dict[str, Any] | list[Any] | None]
    """What went in, on `started`."""
    name: str
    """`model` for a model call, the tool's name for a tool call; of a workflow, the step's place in it (`review`, `each[2].send`)."""
    output: NotRequired[str | float | bool | dict[str, Any] | list[Any] | None]
    """What came out, on `completed`; the reason, on `failed`."""
    phase: StepPhase
    """Where it stands."""
    tool: NotRequired[str]
    """The tool, for a tool call."""
    until: NotRequired[Timestamp]
    """Until when it waits, where it waits for a time or not for ever."""


class StepEvent(TypedDict):
    """A model call or tool call of the task began or ended."""

    at: Timestamp
    data: Step
    seq: int
    """Its place in the log, dense from 1."""
    sessionId: SessionId
    taskId: TaskId
    type: Literal['step']


class SubmitTaskCommand(TypedDict):
    """While the session is not ended. Answer: `task_queued` in the log, or `error`."""

    context: NotRequired[str | None]
    """Put before the prompt as a message of its own; bounded by the message's size only."""
    id: NotRequired[CommandId]
    """Asks for an `ack`; echoed in it or in the `error`."""
    input: NotRequired[str | float | bool | dict[str, Any] | list[Any] | None]
    """The workflow's input."""
    onBusy: NotRequired[OnBusy | None]
    """What to do while another task is unfinished; `queue` otherwise."""
    options: NotRequired[dict[str, Any] | None]
    """Options of the model call, passed on to vendors that know them: `temperature`, `maxOutputTokens`, `topP`, `model` …"""
    prompt: NotRequired[str | None]
    """What the agent is asked, 1 to 10,000 characters."""
    sessionId: NotRequired[SessionId | None]
    """Which session."""
    taskId: NotRequired[TaskId | None]
    """Chosen by the client so that a repeated submit has no second effect; otherwise the hub chooses."""
    timeoutMs: NotRequired[int | None]
    """The task's deadline in milliseconds of running time."""
    tools: NotRequired[list[str] | None]
    """Names of the tools for this task instead of the session's."""
    type: Literal['submit_task']
    workflow: NotRequired[str | None]
    """A workflow to execute instead of a prompt."""


class SuspendTaskCommand(TypedDict):
    """While the task runs. It stops at once, keeps its place and can be resumed."""

    id: NotRequired[CommandId]
    """Asks for an `ack`; echoed in it or in the `error`."""
    reason: NotRequired[str | None]
    """Why; kept in the log."""
    sessionId: NotRequired[SessionId | None]
    """Which session, if not the task's own."""
    taskId: TaskId
    """Which task."""
    type: Literal['suspend_task']


class Suspension(TypedDict):
    """Why a task does not go on."""

    at: Timestamp
    """Since when."""
    data: NotRequired[str | float | bool | dict[str, Any] | list[Any] | None]
    """What the step says to whoever resumes it."""
    expiresAt: NotRequired[Timestamp]
    """When it goes on, or ends, by itself."""
    reason: str
    """`input` while it waits for a person, `sleep` while a workflow waits for a time, otherwise what was given."""
    schema: NotRequired[str | float | bool | dict[str, Any] | list[Any] | None]
    """What that data must look like (JSON Schema)."""
    stepId: NotRequired[str]
    """The step of a workflow that waits for data."""


class TaskCancelledEvent(TypedDict):
    """Terminal: the task was cancelled, and its work has stopped."""

    at: Timestamp
    data: TaskCancelled
    seq: int
    """Its place in the log, dense from 1."""
    sessionId: SessionId
    taskId: TaskId
    type: Literal['task_cancelled']


class TaskCompleted(TypedDict):
    """The `data` of `task_completed`."""

    result: str | float | bool | dict[str, Any] | list[Any] | None
    """The exact text of the last message; of a workflow, its output."""
    usage: Usage
    """Model tokens of all its calls."""


class TaskCompletedEvent(TypedDict):
    """Terminal: the task is done and its answer is whole."""

    at: Timestamp
    data: TaskCompleted
    seq: int
    """Its place in the log, dense from 1."""
    sessionId: SessionId
    taskId: TaskId
    type: Literal['task_completed']


class TaskFailedEvent(TypedDict):
    """Terminal: the task broke off."""

    at: Timestamp
    data: TaskFailed
    seq: int
    """Its place in the log, dense from 1."""
    sessionId: SessionId
    taskId: TaskId
    type: Literal['task_failed']


class TaskInfo(TypedDict):
    """One task."""

    agent: NotRequired[str]
    """The agent that works on it, where it is not the session's."""
    attempt: int
    """How often it was started."""
    cancelRequested: NotRequired[bool]
    """True once it can only end as cancelled."""
    completedAt: NotRequired[Timestamp]
    """When it ended."""
    createdAt: Timestamp
    """When it was accepted."""
    error: NotRequired[TaskError]
    """Why it failed."""
    firstSeq: int
    """Its `task_queued`: read the log from just before it to see all of it."""
    parentTaskId: NotRequired[TaskId]
    """The task that handed it to a sub-agent."""
    partial: NotRequired[PartialText]
    """The message it is streaming, or was when it broke off."""
    prompt: NotRequired[str]
    """What the agent is asked; absent for a workflow."""
    result: NotRequired[str | float | bool | dict[str, Any] | list[Any] | None]
    """What came out."""
    startedAt: NotRequired[Timestamp]
    """When it first ran."""
    status: TaskStatus
    """Where it stands."""
    stepsCompleted: int
    """Steps that ended."""
    suspension: NotRequired[Suspension]
    """What it waits for, while it is suspended."""
    taskId: TaskId
    """Its id."""
    usage: Usage
    """Model tokens of all its calls so far."""
    workflow: NotRequired[str]
    """The workflow it executes."""


class TaskQueued(TypedDict):
    """The `data` of `task_queued`."""

    agent: NotRequired[str]
    """The agent that works on it, where it is not the session's: for the task of a sub-agent."""
    callId: NotRequired[str]
    """The call of the parent that its result answers."""
    context: NotRequired[str]
    """Put before the prompt as a message of its own."""
    input: NotRequired[str | float | bool | dict[str, Any] | list[Any] | None]
    """The workflow's input."""
    onBusy: NotRequired[OnBusy]
    """What was asked for while busy, where it was not `queue`."""
    options: NotRequired[dict[str, Any]]
    """Options of the model call."""
    parentTaskId: NotRequired[TaskId]
    """The task that handed it to a sub-agent. What such a task says is not part of the conversation."""
    position: int
    """How many unfinished tasks of the session are ahead of it."""
    prompt: NotRequired[str]
    """What the agent is asked; absent for a workflow."""
    replay: NotRequired[Replay]
    """For a workflow that repeats another execution from a step on: what the steps before it came to."""
    timeoutMs: int
    """Its deadline in milliseconds of running time."""
    tools: NotRequired[list[str]]
    """The task's own tools."""
    workflow: NotRequired[str]
    """The workflow it executes."""


class TaskQueuedEvent(TypedDict):
    """A task was accepted."""

    at: Timestamp
    data: TaskQueued
    seq: int
    """Its place in the log, dense from 1."""
    sessionId: SessionId
    taskId: TaskId
    type: Literal['task_queued']


class TaskRecoveringEvent(TypedDict):
    """The hub stopped while the task ran; it runs again from its last durable step. Its tokens with `seq > discardAfter` before this event are void."""

    at: Timestamp
    data: TaskRecovering
    seq: int
    """Its place in the log, dense from 1."""
    sessionId: SessionId
    taskId: TaskId
    type: Literal['task_recovering']


class TaskResumedEvent(TypedDict):
    """The suspended task goes on."""

    at: Timestamp
    data: TaskResumed
    seq: int
    """Its place in the log, dense from 1."""
    sessionId: SessionId
    taskId: TaskId
    type: Literal['task_resumed']


class TaskStartedEvent(TypedDict):
    """A task got its slot: its prompt enters the conversation now."""

    at: Timestamp
    data: TaskStarted
    seq: int
    """Its place in the log, dense from 1."""
    sessionId: SessionId
    taskId: TaskId
    type: Literal['task_started']


class TaskSuspended(TypedDict):
    """The `data` of `task_suspended`."""

    data: NotRequired[str | float | bool | dict[str, Any] | list[Any] | None]
    """What the step says to whoever resumes it."""
    expiresAt: NotRequired[Timestamp]
    """When it goes on, or ends, by itself."""
    reason: str
    """`input` while it waits for a person, `sleep` while a workflow waits for a time, otherwise what was given."""
    schema: NotRequired[str | float | bool | dict[str, Any] | list[Any] | None]
    """What that data must look like (JSON Schema)."""
    stepId: NotRequired[str]
    """The step of a workflow that waits for data."""


class TaskSuspendedEvent(TypedDict):
    """The task waits, for a person or for `resume_task`, and holds no slot."""

    at: Timestamp
    data: TaskSuspended
    seq: int
    """Its place in the log, dense from 1."""
    sessionId: SessionId
    taskId: TaskId
    type: Literal['task_suspended']


class TaskTimeoutEvent(TypedDict):
    """Terminal: the task's deadline passed."""

    at: Timestamp
    data: TaskTimeout
    seq: int
    """Its place in the log, dense from 1."""
    sessionId: SessionId
    taskId: TaskId
    type: Literal['task_timeout']


ClientMessage: TypeAlias = CreateSessionCommand | AttachSessionCommand | DetachSessionCommand | EndSessionCommand | SubmitTaskCommand | CancelTaskCommand | SteerTaskCommand | RespondInputCommand | SuspendTaskCommand | ResumeTaskCommand | ProvideToolsCommand | ToolResultCommand | RefreshTokenCommand | PingCommand
"""What a client may send: a command, and the `id` that asks for an `ack`."""


Event: TypeAlias = SessionCreatedEvent | SessionUpdatedEvent | SessionEndedEvent | TaskQueuedEvent | TaskStartedEvent | StepEvent | TokenEvent | ReasoningEvent | ToolCallEvent | ToolOutputEvent | ToolResultEvent | MessageEvent | UsageEvent | InputRequestedEvent | InputResolvedEvent | SteerAcceptedEvent | SteerAppliedEvent | SteerRejectedEvent | WarningEvent | CancelRequestedEvent | TaskSuspendedEvent | TaskResumedEvent | TaskRecoveringEvent | TaskCompletedEvent | TaskFailedEvent | TaskCancelledEvent | TaskTimeoutEvent
"""What happened in a session. Pass over any other `type` with `seq`, but count it."""


class Snapshot(TypedDict):
    """Everything up to and including `head` of the `session_attached` it comes in, and nothing after it."""

    earlierMessages: int
    """How many older messages there are; `GET …/sessions/:id/messages?before=` reads them."""
    messages: list[MessageInfo]
    """The conversation, oldest first: its newest messages, at most 100 and at most 256 KiB of text, but always the very newest."""
    pendingInputs: list[PendingInput]
    """Requests for input nobody has answered."""
    queue: list[TaskId]
    """Tasks that wait for their turn, in order."""
    session: SessionInfo
    """The session."""
    tasks: list[TaskInfo]
    """Every unfinished task and the newest finished ones, at most 20 of these; oldest first."""


SessionAttachedMessage = TypedDict(
    'SessionAttachedMessage',
    {
        'epoch': Epoch,
        'from': int,
        'head': int,
        'recovered': bool,
        'sessionId': SessionId,
        'snapshot': NotRequired[Snapshot],
        'type': Literal['session_attached'],
    },
)


ConnectionMessage: TypeAlias = WelcomeMessage | AckMessage | ErrorMessage | PongMessage | SessionAttachedMessage | CaughtUpMessage | ToolOfferedMessage | AuthExpiringMessage | GoingAwayMessage
"""What the hub says about the connection. Pass over any other `type` without `sessionId`, `seq` and `at`."""


ServerMessage: TypeAlias = ConnectionMessage | Event
"""What the hub may send."""


AgentHubV1: TypeAlias = ClientMessage | ServerMessage
"""The WebSocket messages of agent-hub. Generated from the Rust types; do not edit."""
