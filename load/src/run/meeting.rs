//! Where the sockets of a group wait for each other, also those of other processes: the coordinator lets them go.

use std::{
    cell::{Cell, RefCell},
    collections::HashMap,
    rc::Rc,
    time::Instant,
};

use tokio::sync::{Notify, mpsc};

use super::link::{Meeting, Report};

/// All meetings of a load process.
pub struct Meetings {
    reports: mpsc::UnboundedSender<Report>,
    groups: RefCell<HashMap<String, Group>>,
}

/// The sockets of a group in this process.
#[derive(Default)]
struct Group {
    sockets: usize,
    gone: usize,
    places: HashMap<(String, u32), Rc<Place>>,
}

/// One meeting.
#[derive(Default)]
pub struct Place {
    arrived: Cell<usize>,
    told: Cell<bool>,
    /// When it was over; nothing before.
    pub at: Cell<Option<Instant>>,
    /// Told when it is over.
    pub released: Rc<Notify>,
}

impl Place {
    /// Who had arrived waits no more: its script has ended.
    pub fn leave(&self) {
        self.arrived.set(self.arrived.get().saturating_sub(1));
    }
}

impl Meetings {
    /// Of groups with so many sockets in this process. The queue of reports has no bound of its own: it gets one for each meeting.
    pub fn new(sockets: HashMap<String, usize>, reports: mpsc::UnboundedSender<Report>) -> Rc<Self> {
        let groups = sockets.into_iter().map(|(name, sockets)| (name, Group { sockets, ..Group::default() })).collect();
        Rc::new(Self { reports, groups: RefCell::new(groups) })
    }

    /// A socket is there for the `round`-th time.
    pub fn arrive(&self, group: &str, name: &str, round: u32) -> Rc<Place> {
        let mut groups = self.groups.borrow_mut();
        let entry = groups.entry(group.to_owned()).or_default();
        let place = entry.places.entry((name.to_owned(), round)).or_default().clone();
        place.arrived.set(place.arrived.get() + 1);
        self.tell_if_full(group, entry);
        place
    }

    /// A socket's script has ended: nobody waits for it any more.
    pub fn gone(&self, group: &str) {
        let mut groups = self.groups.borrow_mut();
        let entry = groups.entry(group.to_owned()).or_default();
        entry.gone += 1;
        self.tell_if_full(group, entry);
        if entry.gone == entry.sockets {
            self.report(Report::Gone { group: group.to_owned() });
        }
    }

    /// The coordinator says that a meeting is over.
    pub fn release(&self, meeting: &Meeting) {
        let groups = self.groups.borrow();
        let place = groups.get(&meeting.group).and_then(|group| group.places.get(&(meeting.name.clone(), meeting.round)));
        if let Some(place) = place {
            place.at.set(Some(Instant::now()));
            place.released.notify_waiters();
        }
    }

    fn tell_if_full(&self, name: &str, group: &Group) {
        for ((meeting, round), place) in &group.places {
            if !place.told.get() && place.arrived.get() + group.gone >= group.sockets {
                place.told.set(true);
                self.report(Report::Met(Meeting { group: name.to_owned(), name: meeting.clone(), round: *round }));
            }
        }
    }

    fn report(&self, report: Report) {
        // The coordinator is gone: this process ends soon.
        let _ = self.reports.send(report);
    }
}

#[cfg(test)]
#[allow(clippy::panic, reason = "failing loudly is what a test is for")]
mod tests {
    use super::*;

    #[test]
    fn a_meeting_is_full_when_nobody_else_can_come() {
        let (reports, mut heard) = mpsc::unbounded_channel();
        let meetings = Meetings::new(HashMap::from([("g".to_owned(), 3)]), reports);
        let first = meetings.arrive("g", "m", 1);
        meetings.gone("g");
        assert!(heard.try_recv().is_err(), "one may still come");
        first.leave();
        let _again = meetings.arrive("g", "m", 1);
        let _second = meetings.arrive("g", "m", 1);
        let Ok(Report::Met(met)) = heard.try_recv() else { panic!("not met") };
        assert_eq!((met.name.as_str(), met.round), ("m", 1));
        assert!(first.at.get().is_none());
        meetings.release(&met);
        assert!(first.at.get().is_some());
        meetings.gone("g");
        meetings.gone("g");
        assert!(matches!(heard.try_recv(), Ok(Report::Gone { .. })));
    }
}
