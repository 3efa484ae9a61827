//! Who may run now: slots, bounded per user and per node, granted round-robin by user and then by time.

use std::{
    collections::{HashMap, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll},
};

use futures::FutureExt;
use tokio::sync::oneshot;

/// Hands out slots. Cheap to clone; all clones share the slots.
#[derive(Clone, Debug)]
pub struct Scheduler {
    shared: Arc<Shared>,
}

/// The right to run one task. Dropping it gives it back.
#[derive(Debug)]
pub struct Slot {
    user: Arc<str>,
    shared: Arc<Shared>,
}

/// A place in the line. Dropping it leaves the line.
///
/// It has no bound of its own: a session holds at most one, and sessions bound their own queues.
#[derive(Debug)]
pub struct Ticket {
    slot: oneshot::Receiver<Slot>,
}

#[derive(Debug)]
struct Shared {
    per_user: usize,
    per_node: usize,
    lines: Mutex<Lines>,
}

#[derive(Debug, Default)]
struct Lines {
    running: usize,
    users: HashMap<Arc<str>, User>,
    /// Users with somebody waiting, each once; the front is asked next.
    turn: VecDeque<Arc<str>>,
}

#[derive(Debug, Default)]
struct User {
    running: usize,
    urgent: VecDeque<oneshot::Sender<Slot>>,
    waiting: VecDeque<oneshot::Sender<Slot>>,
}

impl Scheduler {
    /// Slots for `per_user` tasks of each user (unbounded if `None`) and `per_node` of all.
    pub fn new(per_user: Option<u32>, per_node: u32) -> Self {
        let per_user = per_user.map_or(usize::MAX, |n| n as usize);
        Self { shared: Arc::new(Shared { per_user, per_node: per_node as usize, lines: Mutex::default() }) }
    }

    /// Joins the line. `urgent` (a resumed task) goes before the user's other tickets.
    pub fn request(&self, user: &str, urgent: bool) -> Ticket {
        let (grant, slot) = oneshot::channel();
        {
            let mut lines = self.shared.lock();
            let name = lines.users.get_key_value(user).map_or_else(|| Arc::from(user), |(name, _)| Arc::clone(name));
            let entry = lines.users.entry(Arc::clone(&name)).or_default();
            let was_waiting = entry.waiting.len() + entry.urgent.len() > 0;
            if urgent {
                entry.urgent.push_back(grant)
            } else {
                entry.waiting.push_back(grant)
            }
            if !was_waiting {
                lines.turn.push_back(name);
            }
        }
        Shared::hand_out(&self.shared);
        Ticket { slot }
    }

    /// Slots that are taken.
    pub fn running(&self) -> usize {
        self.shared.lock().running
    }
}

impl Ticket {
    /// The slot, if it has been granted by now.
    pub fn try_take(&mut self) -> Option<Slot> {
        self.slot.try_recv().ok()
    }

    /// Ready once the slot is granted.
    pub fn poll_granted(&mut self, cx: &mut Context<'_>) -> Poll<Option<Slot>> {
        self.slot.poll_unpin(cx).map(Result::ok)
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Lines> {
        // Nothing in the critical sections can leave the lines half-changed, so a poisoned lock is still whole.
        self.lines.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn hand_out(shared: &Arc<Self>) {
        // A grant to a ticket that was dropped gives its slot back at once (outside the lock) and the loop goes on.
        while let Some((user, grant)) = shared.lock().next(shared.per_user, shared.per_node) {
            drop(grant.send(Slot { user, shared: Arc::clone(shared) }));
        }
    }
}

impl Lines {
    /// Takes the next ticket that may run, and its slot.
    fn next(&mut self, per_user: usize, per_node: usize) -> Option<(Arc<str>, oneshot::Sender<Slot>)> {
        if self.running >= per_node {
            return None;
        }
        // Each waiting user is asked once; one at its bound keeps its turn for later.
        for _ in 0..self.turn.len() {
            let name = self.turn.pop_front()?;
            let Some(user) = self.users.get_mut(&name) else { continue };
            while user.urgent.front().is_some_and(oneshot::Sender::is_closed) {
                user.urgent.pop_front();
            }
            while user.waiting.front().is_some_and(oneshot::Sender::is_closed) {
                user.waiting.pop_front();
            }
            if user.running >= per_user {
                self.turn.push_back(name);
                continue;
            }
            let Some(grant) = user.urgent.pop_front().or_else(|| user.waiting.pop_front()) else {
                self.forget_idle(&name);
                continue;
            };
            user.running += 1;
            if user.urgent.len() + user.waiting.len() > 0 {
                self.turn.push_back(Arc::clone(&name));
            }
            self.running += 1;
            return Some((name, grant));
        }
        None
    }

    fn give_back(&mut self, name: &Arc<str>) {
        self.running -= 1;
        if let Some(user) = self.users.get_mut(name) {
            user.running -= 1;
        }
        self.forget_idle(name);
    }

    fn forget_idle(&mut self, name: &Arc<str>) {
        let idle = self.users.get(name).is_some_and(|u| u.running == 0 && u.urgent.is_empty() && u.waiting.is_empty());
        if idle {
            self.users.remove(name);
            self.turn.retain(|waiting| waiting != name);
        }
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.shared.lock().give_back(&self.user);
        Shared::hand_out(&self.shared);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn users_take_turns_and_bounds_hold() {
        let scheduler = Scheduler::new(Some(2), 3);
        let mut greedy: Vec<Ticket> = (0..5).map(|_| scheduler.request("greedy", false)).collect();
        let mut slots: Vec<Slot> = greedy.iter_mut().filter_map(Ticket::try_take).collect();
        assert_eq!(slots.len(), 2, "the user's bound");

        let mut modest = scheduler.request("modest", false);
        let mut second = scheduler.request("modest", false);
        let modest_slot = modest.try_take().expect("the node has a slot left");
        assert!(second.try_take().is_none(), "the node's bound");

        drop(slots.pop());
        let more: Vec<Slot> = greedy.iter_mut().chain([&mut second]).filter_map(Ticket::try_take).collect();
        assert_eq!(more.len(), 1, "one came free, one is given");
        drop(modest_slot);
    }

    #[test]
    fn a_resumed_task_goes_first_and_a_dropped_ticket_loses_nothing() {
        let scheduler = Scheduler::new(Some(1), 8);
        let mut running = scheduler.request("u", false);
        let slot = running.try_take().expect("free");
        let mut queued = scheduler.request("u", false);
        let gone = scheduler.request("u", true);
        let mut resumed = scheduler.request("u", true);
        drop(gone);
        drop(slot);
        let resumed_slot = resumed.try_take().expect("urgent first");
        assert!(queued.try_take().is_none());
        drop(resumed_slot);
        assert!(queued.try_take().is_some());
        assert_eq!(scheduler.running(), 0);
    }
}
