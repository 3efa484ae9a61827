//! What can go wrong, as the world sees it: one table, total functions, no `_` arms.

use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

macro_rules! error_codes {
    ($($(#[$doc:meta])* $name:ident = $text:literal, $status:literal, $close:expr, $retryable:literal;)*) => {
        /// The code of an `error` message, of an HTTP error body, or of `task_failed`.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
        #[serde(rename_all = "snake_case")]
        pub enum ErrorCode { $($(#[$doc])* $name,)* }

        impl ErrorCode {
            /// Every code, in the order of the table.
            pub const ALL: &'static [ErrorCode] = &[$(ErrorCode::$name,)*];

            /// The code as it is written on the wire.
            pub const fn as_str(self) -> &'static str {
                match self { $(ErrorCode::$name => $text,)* }
            }

            /// The status of an HTTP answer with this code.
            pub const fn http_status(self) -> u16 {
                match self { $(ErrorCode::$name => $status,)* }
            }

            /// The code a WebSocket is closed with when this error ends the connection; `None` if it never does.
            pub const fn close_code(self) -> Option<CloseCode> {
                match self { $(ErrorCode::$name => $close,)* }
            }

            /// Whether the same request may succeed later without being changed.
            pub const fn retryable(self) -> bool {
                match self { $(ErrorCode::$name => $retryable,)* }
            }
        }
    };
}

error_codes! {
    /// The text is not JSON, or nested too deeply.
    InvalidJson = "invalid_json", 400, None, false;
    /// A field is missing, of the wrong type or out of range; `details` names it.
    InvalidMessage = "invalid_message", 400, Some(CloseCode::ProtocolViolation), false;
    /// No such command.
    UnknownType = "unknown_type", 400, None, false;
    /// No valid credentials.
    Unauthorized = "unauthorized", 401, Some(CloseCode::AuthenticationFailed), false;
    /// The object is someone else's, or the origin or scope does not allow it.
    Forbidden = "forbidden", 403, Some(CloseCode::Forbidden), false;
    /// No such session.
    SessionNotFound = "session_not_found", 404, None, false;
    /// No such task.
    TaskNotFound = "task_not_found", 404, None, false;
    /// The task or session has ended; nothing was changed.
    AlreadyTerminal = "already_terminal", 409, None, false;
    /// The request for input was answered before; nothing was changed.
    AlreadyResolved = "already_resolved", 409, None, false;
    /// The session runs a task and `onBusy` is `reject`, or the task is in a state that does not allow the command.
    Busy = "busy", 409, None, true;
    /// The session's queue of tasks is full.
    QueueFull = "queue_full", 503, None, true;
    /// The id was used before with other content.
    IdempotencyConflict = "idempotency_conflict", 409, None, false;
    /// Too many requests; wait `retryAfterMs`.
    RateLimited = "rate_limited", 429, Some(CloseCode::Overloaded), true;
    /// The plan's allowance for the day, or the session's for its life, is used up.
    QuotaExceeded = "quota_exceeded", 429, None, false;
    /// The message, body or frame is larger than the hub takes.
    PayloadTooLarge = "payload_too_large", 413, Some(CloseCode::TooBig), false;
    /// The prompt has more characters than allowed.
    PromptTooLong = "prompt_too_long", 400, None, false;
    /// The hub cannot take this now: an inbox is full or the store does not write.
    Overloaded = "overloaded", 503, Some(CloseCode::Overloaded), true;
    /// The model's vendor has failed repeatedly; calls are refused at once until it recovers.
    UpstreamUnavailable = "upstream_unavailable", 503, None, true;
    /// The model's vendor refused or broke off this call.
    UpstreamError = "upstream_error", 502, None, true;
    /// The hub stopped while the task ran, and it could not be run again.
    Interrupted = "interrupted", 500, None, true;
    /// Known, but not available in this hub.
    NotSupported = "not_supported", 501, None, false;
    /// No such route or object.
    NotFound = "not_found", 404, None, false;
    /// The route exists, but not with this method.
    MethodNotAllowed = "method_not_allowed", 405, None, false;
    /// The body is not of a content type this route takes.
    UnsupportedMediaType = "unsupported_media_type", 415, None, false;
    /// A fault of the hub. The log of the hub has the cause under the request's id.
    Internal = "internal", 500, Some(CloseCode::InternalError), true;
}

impl fmt::Display for ErrorCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

macro_rules! close_codes {
    ($($(#[doc = $doc:literal])* $name:ident = $code:literal, $reason:literal, $resume:literal;)*) => {
        /// Why the hub closes a WebSocket.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum CloseCode { $($(#[doc = $doc])* $name,)* }

        impl CloseCode {
            /// Every close code the hub sends.
            pub const ALL: &'static [CloseCode] = &[$(CloseCode::$name,)*];

            /// The number in the close frame.
            pub const fn code(self) -> u16 {
                match self { $(CloseCode::$name => $code,)* }
            }

            /// The text in the close frame.
            pub const fn reason(self) -> &'static str {
                match self { $(CloseCode::$name => $reason,)* }
            }

            /// Why it is sent; the text of the generated documents.
            pub const fn doc(self) -> &'static str {
                match self { $(CloseCode::$name => concat!($($doc, "\n"),*),)* }
            }

            /// Whether the client should connect again and resume from its cursors.
            pub const fn resume(self) -> bool {
                match self { $(CloseCode::$name => $resume,)* }
            }

            /// The close code with this number, if the hub sends it.
            pub const fn from_code(code: u16) -> Option<CloseCode> {
                match code { $($code => Some(CloseCode::$name),)* _ => None }
            }
        }
    };
}

close_codes! {
    /// The hub goes away; another, or itself after a restart, takes over.
    GoingAway = 1001, "Going away", true;
    /// A message larger than the limit.
    TooBig = 1009, "Message too big", true;
    /// A fault of the hub.
    InternalError = 1011, "Internal error", true;
    /// The hub restarts.
    Restart = 1012, "Service restart", true;
    /// The client broke the protocol in a way that cannot be answered.
    ProtocolViolation = 4000, "Protocol violation", false;
    /// Bad, missing or expired credentials.
    AuthenticationFailed = 4001, "Authentication failed", false;
    /// The origin or scope is not allowed.
    Forbidden = 4003, "Forbidden", false;
    /// The client offers only subprotocols the hub does not speak.
    NoCommonVersion = 4006, "No common version", false;
    /// The token expired and was not refreshed.
    TokenExpired = 4050, "Token expired", true;
    /// Two pings went unanswered.
    HeartbeatMissed = 4051, "Heartbeat missed", true;
    /// The peer accepted no byte for the stall timeout.
    Stalled = 4052, "Stalled", true;
    /// Too much for the hub, or too many messages from this connection.
    Overloaded = 4053, "Overloaded", true;
    /// Too many connections of this user or address.
    ConnectionLimit = 4054, "Connection limit", true;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_text_of_a_code_is_its_serde_name() {
        for code in ErrorCode::ALL {
            assert_eq!(serde_json::to_value(code).expect("a string"), code.as_str());
        }
    }

    #[test]
    fn statuses_are_errors_and_close_codes_are_told_apart() {
        for code in ErrorCode::ALL {
            assert!((400..600).contains(&code.http_status()), "{code}");
        }
        for close in CloseCode::ALL {
            assert_eq!(CloseCode::from_code(close.code()), Some(*close));
        }
        let final_codes: Vec<u16> = CloseCode::ALL.iter().filter(|c| !c.resume()).map(|c| c.code()).collect();
        assert_eq!(final_codes, [4000, 4001, 4003, 4006]);
    }
}
