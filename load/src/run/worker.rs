//! A load process: its share of the scripted sockets, all on one thread.

use std::{
    cell::Cell,
    collections::HashMap,
    io::{BufRead, BufReader, Write},
    net::{SocketAddr, ToSocketAddrs},
    rc::Rc,
    time::{Duration, Instant},
};

use agent_hub_protocol::SessionId;
use anyhow::Context;
use tokio::{
    sync::mpsc,
    task::{JoinSet, LocalSet},
    time::{MissedTickBehavior, interval_at, sleep_until},
};

use super::{
    figures::{Count, Exported},
    link::{Assignment, Order, Report},
    meeting::Meetings,
    script::{Ids, Script},
    socket::{Shared, Socket},
    verify::Verifier,
};
use crate::{
    rng::Rng,
    scenario::{self, Bound, Scenario, Wanted},
    wire::{Dial, now_nanos, source},
};

/// Does an assignment on this thread. Its end is the last report.
pub fn work(assignment: &Assignment, orders: mpsc::UnboundedReceiver<Order>, reports: mpsc::UnboundedSender<Report>) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().context("starting a runtime");
    let done = runtime.and_then(|runtime| runtime.block_on(LocalSet::new().run_until(all(assignment, orders, &reports))));
    let last = match done {
        Ok(found) => Report::Done { found: Box::new(found) },
        Err(error) => Report::Failed { why: format!("{error:#}") },
    };
    // Nobody listens any more: nobody wants to know.
    let _ = reports.send(last);
}

/// The same as a process of its own: lines in, lines out.
///
/// # Errors
/// The first line is no assignment, or the coordinator is gone.
pub fn as_process() -> anyhow::Result<()> {
    let mut input = BufReader::new(std::io::stdin());
    let mut first = String::new();
    input.read_line(&mut first).context("no assignment")?;
    let assignment: Assignment = serde_json::from_str(&first).context("the assignment")?;
    let (order, orders) = mpsc::unbounded_channel();
    let (reports, mut written) = mpsc::unbounded_channel::<Report>();
    std::thread::spawn(move || {
        for line in input.lines().map_while(Result::ok) {
            if let Ok(parsed) = serde_json::from_str(&line)
                && order.send(parsed).is_err()
            {
                return;
            }
        }
        // The coordinator is gone.
        let _ = order.send(Order::Stop);
    });
    let writing = std::thread::spawn(move || -> anyhow::Result<()> {
        let mut out = std::io::stdout().lock();
        while let Some(report) = written.blocking_recv() {
            serde_json::to_writer(&mut out, &report)?;
            out.write_all(b"\n")?;
            out.flush()?;
        }
        Ok(())
    });
    work(&assignment, orders, reports);
    writing.join().map_err(|_| anyhow::anyhow!("the writer ended"))?
}

/// The scenario of an assignment, made larger or smaller: its sockets, and the least it wants counted of anything.
pub fn scenario_of(text: &str, scale: f64) -> anyhow::Result<Scenario> {
    let mut scenario = scenario::read(text)?;
    for group in &mut scenario.groups {
        group.sockets = ((group.sockets as f64 * scale).round() as usize).max(1);
    }
    for threshold in &mut scenario.thresholds {
        if let (Wanted::Count(_) | Wanted::TokensPerSecond, Bound::AtLeast(least)) = (threshold.wanted, &mut threshold.bound) {
            *least = (*least * scale).floor();
        }
    }
    Ok(scenario)
}

async fn all(
    assignment: &Assignment,
    mut orders: mpsc::UnboundedReceiver<Order>,
    reports: &mpsc::UnboundedSender<Report>,
) -> anyhow::Result<Exported> {
    let scenario = scenario_of(&assignment.scenario, assignment.scale)?;
    let shared = Shared::new()?;
    let cast = Cast::new(assignment, &scenario, shared.clone(), reports)?;
    let begin = Instant::now() + Duration::from_nanos(assignment.begins_at.saturating_sub(now_nanos()));
    let mut scripts = JoinSet::new();
    for group in &scenario.groups {
        let group = Rc::new(group.clone());
        for index in (assignment.index..group.sockets).step_by(assignment.of) {
            let starts = begin + group.start_of(index);
            scripts.spawn_local(cast.clone().play(group.clone(), index, starts));
        }
    }
    let mut second = interval_at((begin + Duration::from_secs(1)).into(), Duration::from_secs(1));
    // Seconds that were slept through are seconds too.
    second.set_missed_tick_behavior(MissedTickBehavior::Burst);
    loop {
        tokio::select! {
            biased;
            order = orders.recv() => match order {
                Some(Order::Release(meeting)) => cast.meetings.release(&meeting),
                Some(Order::Stop) | None => {
                    cast.note_broken_off(scripts.len());
                    scripts.shutdown().await;
                    break;
                }
            },
            _ = second.tick() => {
                let mut figures = shared.figures.borrow_mut();
                figures.close_second();
                let mut so_far = figures.export();
                so_far.timings.clear();
                so_far.seconds.drain(..so_far.seconds.len().saturating_sub(1));
                // As above.
                let _ = reports.send(Report::Progress { so_far: Box::new(so_far), finished: cast.finished.get() });
            }
            ended = scripts.join_next() => match ended {
                Some(Ok(())) => {}
                Some(Err(panicked)) => anyhow::bail!("a script failed in itself: {panicked}"),
                None => break,
            },
        }
    }
    let mut figures = shared.figures.borrow_mut();
    figures.close_second();
    Ok(figures.export())
}

/// What every script is given.
struct Cast {
    shared: Rc<Shared>,
    meetings: Rc<Meetings>,
    verifier: Rc<Verifier>,
    ids: Ids,
    tokens: Vec<Rc<str>>,
    address: SocketAddr,
    authority: String,
    sources: u8,
    seed: Rng,
    finished: Cell<usize>,
}

impl Cast {
    fn new(
        assignment: &Assignment,
        scenario: &Scenario,
        shared: Rc<Shared>,
        reports: &mpsc::UnboundedSender<Report>,
    ) -> anyhow::Result<Rc<Self>> {
        let address = assignment.authority.to_socket_addrs().with_context(|| format!("looking up {}", assignment.authority))?;
        let address = address.into_iter().next().context("the target has no address")?;
        let share = |sockets: usize| (assignment.index..sockets).step_by(assignment.of).len();
        let sockets = scenario.groups.iter().map(|group| (group.name.clone(), share(group.sockets))).collect::<HashMap<_, _>>();
        let ids = ids(scenario, assignment.run);
        Ok(Rc::new(Self {
            meetings: Meetings::new(sockets, reports.clone()),
            verifier: Verifier::new(&assignment.authority, shared.figures.clone())?,
            shared,
            ids,
            tokens: assignment.tokens.iter().map(|token| Rc::from(token.as_str())).collect(),
            address,
            authority: assignment.authority.clone(),
            sources: assignment.sources,
            seed: Rng::new(assignment.seed),
            finished: Cell::new(0),
        }))
    }

    /// One socket, from its start to the end of its script.
    async fn play(self: Rc<Self>, group: Rc<scenario::Group>, index: usize, starts: Instant) {
        sleep_until(starts.into()).await;
        let rng = self.seed.child(text_hash(&group.name)).child(index as u64);
        let dial = Dial {
            source: source(index, self.sources, self.address.ip()),
            receive_buffer: group.receive_buffer,
            host: self.authority.clone(),
            ..Dial::to(self.address)
        };
        let sessions = (0..group.sessions).map(|slot| (self.ids)(&group.name, index * group.sessions + slot)).collect();
        let token = self.tokens[index % self.tokens.len()].clone();
        let name = group.name.clone();
        let mut script = Script {
            socket: Socket::new(self.shared.clone(), group, dial, token, rng, sessions),
            index,
            meetings: self.meetings.clone(),
            rounds: HashMap::new(),
            verifier: self.verifier.clone(),
            ids: self.ids.clone(),
        };
        if let Err(broken) = script.run(starts).await {
            let mut figures = self.shared.figures.borrow_mut();
            figures.count(Count::Unmet);
            figures.error(&broken);
            figures.complain(|| format!("{name}, socket {index}: {broken}"));
        }
        drop(script);
        self.finished.set(self.finished.get() + 1);
        self.meetings.gone(&name);
    }

    /// Scripts that are ended before their end have not shown what they should.
    fn note_broken_off(&self, scripts: usize) {
        let mut figures = self.shared.figures.borrow_mut();
        figures.add(Count::Unmet, scripts as u64);
        figures.complain(|| format!("{scripts} scripts were broken off"));
    }
}

/// Ids follow from run, group and number, so that every process knows those of the others.
fn ids(scenario: &Scenario, run: u64) -> Ids {
    let sizes: HashMap<String, usize> = scenario.groups.iter().map(|group| (group.name.clone(), group.sockets * group.sessions)).collect();
    Rc::new(move |group, number| {
        // A group that attaches more sessions than the other has made shares them out.
        let number = number % sizes.get(group).copied().unwrap_or(1).max(1);
        let mut rng = Rng::new(run).child(text_hash(group)).child(number as u64);
        let mut bytes = [0; 16];
        bytes[..8].copy_from_slice(&rng.next().to_be_bytes());
        bytes[8..].copy_from_slice(&rng.next().to_be_bytes());
        let id = uuid::Builder::from_random_bytes(bytes).into_uuid().to_string();
        id.parse().unwrap_or_else(|_| SessionId::random())
    })
}

/// The same in every process and every build.
fn text_hash(text: &str) -> u64 {
    text.bytes().fold(0xCBF2_9CE4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01B3))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scenario::SHIPPED;

    #[test]
    fn a_smaller_scenario_wants_less() {
        let storm = SHIPPED.iter().find(|shipped| shipped.name == "reconnect-storm").expect("it ships");
        let scenario = scenario_of(storm.text, 0.01).expect("good");
        assert_eq!(scenario.sockets(), 100);
        let bound = |name: &str| scenario.thresholds.iter().find(|threshold| threshold.name == name).map(|threshold| threshold.bound);
        assert_eq!(bound("resumes"), Some(Bound::AtLeast(100.0)));
        assert_eq!(bound("missed.min"), Some(Bound::AtLeast(100.0)), "what one client sees stays");
    }

    #[test]
    fn ids_follow_from_run_group_and_number() {
        let scenario = scenario_of(SHIPPED[0].text, 1.0).expect("good");
        let (one, same, other) = (ids(&scenario, 1), ids(&scenario, 1), ids(&scenario, 2));
        assert_eq!(one("talkers", 3), same("talkers", 3));
        assert_ne!(one("talkers", 3), other("talkers", 3));
        assert_ne!(one("talkers", 3), one("talkers", 4));
        assert_ne!(one("talkers", 3), one("impatient", 3));
        assert_eq!(one("speaker", 5), one("speaker", 0), "there is one, and everybody gets it");
    }
}
