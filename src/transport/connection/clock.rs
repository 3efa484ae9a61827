//! What is due: heartbeats, stalls, the end of a token, and the hub's own going.

use std::{future::Future, pin::Pin, task::Context, time::Duration};

use agent_hub_protocol::{
    CloseCode, Timestamp,
    server_message::{AuthExpiring, ConnectionMessage, GoingAway},
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    time::Instant,
};
use tokio_tungstenite::tungstenite::Message;

use super::{Close, Connection};
use crate::runtime::quiet::Signal;

/// How long before its end a token's holder is told.
const EXPIRY_WARNING: Duration = Duration::from_secs(60);
/// A token's end is meant by its issuer's clock.
const EXPIRY_LEEWAY: Duration = Duration::from_secs(5);

impl<S: AsyncRead + AsyncWrite + Unpin> Connection<S> {
    pub(super) fn poll_time(&mut self, cx: &mut Context<'_>) -> Option<Close> {
        while self.going.poll(cx).is_ready() {
            let Some(batch) = self.batch_to_go.take() else { return Some(Close::With(CloseCode::Restart)) };
            self.going = Signal::of(batch);
            let reconnect_after_ms = u64::try_from(self.reconnect_after.as_millis()).unwrap_or(u64::MAX);
            self.say(&ConnectionMessage::GoingAway(GoingAway { reconnect_after_ms }));
        }
        if self.token.as_mut().is_some_and(|token| Pin::new(token).poll(cx).is_ready()) {
            return Some(Close::With(CloseCode::AuthenticationFailed));
        }
        while self.timer.poll(cx).is_ready() {
            if let Some(close) = self.on_time() {
                return Some(close);
            }
            let next = self.next_due();
            self.timer.set(next);
        }
        None
    }

    fn on_time(&mut self) -> Option<Close> {
        let now = Instant::now();
        let written = self.socket.get_ref().written();
        if !self.flushing || written != self.progress.0 {
            self.progress = (written, now);
        } else if now.duration_since(self.progress.1) >= self.settings.stall_timeout {
            return Some(Close::With(CloseCode::Stalled));
        }
        if now.duration_since(self.opened) >= self.settings.max_age {
            return Some(Close::With(CloseCode::Restart));
        }
        if now >= self.next_ping {
            if self.silent_pings >= 2 {
                return Some(Close::With(CloseCode::HeartbeatMissed));
            }
            self.silent_pings += 1;
            self.next_ping = now + self.settings.heartbeat;
            // A peer that is behind proves itself by taking bytes; a ping would only wait behind them.
            if !self.flushing {
                self.control.push_back(Message::Ping(Vec::new().into()));
            } else if written != 0 && self.progress.1 == now {
                self.silent_pings = 0;
            }
        }
        let end = self.who.expires_at()?;
        let clock = Timestamp::now();
        if clock >= end.plus(EXPIRY_LEEWAY) {
            return Some(Close::With(CloseCode::TokenExpired));
        }
        if !self.warned && clock.plus(EXPIRY_WARNING) >= end {
            self.warned = true;
            let left = end.plus(EXPIRY_LEEWAY).since(clock);
            self.say(&ConnectionMessage::AuthExpiring(AuthExpiring { in_ms: u64::try_from(left.as_millis()).unwrap_or(u64::MAX) }));
        }
        None
    }

    fn next_due(&self) -> Instant {
        let now = Instant::now();
        let mut due = self.next_ping.min(self.opened + self.settings.max_age);
        if self.flushing {
            due = due.min(self.progress.1 + self.settings.stall_timeout);
        }
        if let Some(end) = self.who.expires_at() {
            let clock = Timestamp::now();
            let left = if self.warned { end.plus(EXPIRY_LEEWAY).since(clock) } else { end.since(clock).saturating_sub(EXPIRY_WARNING) };
            due = due.min(now + left);
        }
        // A stall may begin at any time, so it is looked for at least this often; never in a busy loop.
        due.min(now + self.settings.stall_timeout).max(now + Duration::from_millis(10))
    }
}
