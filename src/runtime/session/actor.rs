//! stub
use super::handle::Inbox;
use crate::runtime::{hub::Hub, refusal::Refusal};
use agent_hub_protocol::SessionId;
pub(crate) fn spawn(hub: Hub, _session: SessionId, mut inbox: Inbox) {
    hub.shared().clone().actors.spawn(async move {
        while let Some(e) = inbox.requests.recv().await {
            e.ask.refuse(Refusal::session_not_found());
        }
    });
}
