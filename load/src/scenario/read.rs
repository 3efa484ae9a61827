//! A TOML text becomes a [`Scenario`], or the list of everything that is wrong with it.

use std::{collections::BTreeMap, fmt, path::PathBuf, time::Duration};

use toml_edit::{ImDocument, TableLike, Value};

use super::{
    Arrival, ChanceOfFault, Credentials, Group, Scenario, StartHub, Step, Storage, Target, VendorSetup,
    fields::{Bytes, Fields, FromToml, Notes, choice, line_of},
    steps::steps,
    thresholds::thresholds,
};
use crate::vendor::Fault;

/// Something that is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mistake {
    /// Counts from 1.
    pub line: Option<usize>,
    /// As in `group "chatters", step 3`; empty at the top.
    pub place: String,
    /// What is wrong, and what is allowed.
    pub text: String,
}

/// Everything that is wrong with a scenario.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mistakes(pub Vec<Mistake>);

impl fmt::Display for Mistakes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Mistakes(mistakes) = self;
        write!(f, "{} mistake{}:", mistakes.len(), if mistakes.len() == 1 { "" } else { "s" })?;
        for Mistake { line, place, text } in mistakes {
            let line = line.map(|line| format!("line {line}")).unwrap_or_default();
            let comma = if line.is_empty() || place.is_empty() { "" } else { ", " };
            let colon = if line.is_empty() && place.is_empty() { "" } else { ": " };
            write!(f, "\n  {line}{comma}{place}{colon}{text}")?;
        }
        Ok(())
    }
}

impl std::error::Error for Mistakes {}

choice!(Storage { "sqlite" => Storage::Sqlite, "memory" => Storage::Memory, "file" => Storage::File });

/// More sockets than any machine this was tried on.
const MOST_SOCKETS: u64 = 1_000_000;
/// As the hub's own bound for `server.attached_sessions`.
const MOST_SESSIONS: u64 = 10_000;

/// Reads a scenario.
///
/// # Errors
/// [`Mistakes`], all of them.
pub fn read(text: &str) -> Result<Scenario, Mistakes> {
    let document = ImDocument::parse(text).map_err(|error| {
        let line = error.span().map(|span| line_of(text, span.start));
        Mistakes(vec![Mistake { line, place: String::new(), text: format!("this is no TOML: {}", error.message()) }])
    })?;
    let notes = Notes::new(text);
    let scenario = scenario(Fields::new(document.as_table(), None, String::new(), &notes));
    let mut mistakes = notes.into_found();
    if mistakes.is_empty() {
        return Ok(scenario);
    }
    mistakes.sort_by_key(|mistake| mistake.line.unwrap_or(usize::MAX));
    Err(Mistakes(mistakes))
}

fn scenario(mut fields: Fields<'_>) -> Scenario {
    let name = fields.required("name", String::new());
    let about = fields.or("about", String::new());
    let seed = fields.or("seed", 7);
    let processes = fields.within("processes", 1, 1, 64) as usize;
    let sources = u8::try_from(fields.within("sources", 0, 0, 200)).unwrap_or(0);
    let limit = fields.or("limit", Duration::from_secs(3600));
    let target = target(&mut fields);
    let vendor = fields.table("vendor").map(vendor);
    if let (Target::Running { .. }, Some(VendorSetup { port: 0, .. })) = (&target, &vendor) {
        fields.wrong("vendor", "a hub that runs already has to know where it is: expected `port`".to_owned());
    }
    let groups = groups(&mut fields);
    let thresholds = thresholds(fields.table("thresholds"));
    fields.finish();
    Scenario { name, about, seed, target, vendor, processes, sources, limit, groups, thresholds }
}

fn target(fields: &mut Fields<'_>) -> Target {
    let hub = fields.table("hub");
    match (fields.table("target"), hub) {
        (Some(target), hub) => {
            if hub.is_some() {
                fields.wrong("hub", "either [target] or [hub], not both: a hub that runs somewhere is not started".to_owned());
            }
            running(target)
        }
        (None, Some(hub)) => Target::Started(started(hub)),
        (None, None) => Target::Started(StartHub::default()),
    }
}

fn running(mut fields: Fields<'_>) -> Target {
    let url: String = fields.required("url", String::new());
    if !url.is_empty() && !url.parse::<agent_hub_client::Target>().is_ok_and(|target| !target.secure) {
        fields.wrong("url", "expected http://host:port or ws://host:port (TLS is not spoken here)".to_owned());
    }
    let mut given = Vec::new();
    for key in ["token", "secret"] {
        given.extend(fields.optional::<String>(key).map(|value| (key, value)));
    }
    for (key, kind) in [("token_env", "token"), ("secret_env", "secret")] {
        let Some(variable) = fields.optional::<String>(key) else { continue };
        match std::env::var(&variable) {
            Ok(value) => given.push((kind, value)),
            Err(_) => fields.wrong(key, format!("the environment has no {variable}")),
        }
    }
    if given.len() > 1 {
        fields.wrong_here("expected at most one of `token`, `token_env`, `secret` and `secret_env`");
    }
    let users = fields.within("users", 1, 1, 1_000_000) as usize;
    let credentials = match given.pop() {
        Some(("token", token)) => Credentials::Token(token),
        Some((_, secret)) => Credentials::Secret(secret),
        None => Credentials::Development,
    };
    if users > 1 && matches!(credentials, Credentials::Token(_)) {
        fields.wrong("users", "one token is one user; several need `secret` or `secret_env`".to_owned());
    }
    fields.finish();
    Target::Running { url, credentials, users }
}

fn started(mut fields: Fields<'_>) -> StartHub {
    let hub = StartHub {
        binary: fields.optional::<String>("binary").map(PathBuf::from),
        storage: fields.or("storage", Storage::Sqlite),
        core: core(&mut fields),
        environment: fields.table("environment").map(environment).unwrap_or_default(),
    };
    fields.finish();
    hub
}

fn core(fields: &mut Fields<'_>) -> Option<usize> {
    fields.has("core").then(|| fields.within("core", 0, 0, 1023) as usize)
}

/// Variables of any name.
fn environment(fields: Fields<'_>) -> BTreeMap<String, String> {
    let mut variables = BTreeMap::new();
    for (name, item) in fields.entries() {
        match item.as_value() {
            Some(Value::String(text)) => drop(variables.insert(name.to_owned(), text.value().clone())),
            Some(value @ (Value::Integer(_) | Value::Boolean(_) | Value::Float(_))) => {
                variables.insert(name.to_owned(), fields.notes.written(value.span()).to_owned());
            }
            _ => fields.wrong(name, "expected a text or a number".to_owned()),
        }
    }
    variables
}

fn vendor(mut fields: Fields<'_>) -> VendorSetup {
    let port = u16::try_from(fields.within("port", 0, 0, 65_535)).unwrap_or(0);
    let setup = VendorSetup {
        port,
        core: core(&mut fields),
        pace: fields.or("pace", Duration::from_millis(20)),
        jitter: fields.share("jitter", 0.0),
        tokens: fields.within("tokens", 200, 0, 1_000_000) as usize,
        faults: faults(&mut fields),
    };
    fields.finish();
    setup
}

fn faults(fields: &mut Fields<'_>) -> Vec<ChanceOfFault> {
    let (place, notes) = (fields.place.clone(), fields.notes);
    let read = fields.tables("faults").into_iter().enumerate().filter_map(|(index, (table, span))| {
        let mut fields = Fields::new(table, span, format!("{place}, fault {}", index + 1), notes);
        let name: String = fields.required("what", String::new());
        let after = fields.or::<u64>("after", 0) as usize;
        let share = fields.share("share", 1.0);
        let fault = Fault::named(&name);
        if fault.is_none() && !name.is_empty() {
            fields.wrong("what", format!("expected one of {}", Fault::NAMES.join(", ")));
        }
        fields.finish();
        Some(ChanceOfFault { fault: fault?, name, after, share })
    });
    let read: Vec<ChanceOfFault> = read.collect();
    let total: f64 = read.iter().map(|chance| chance.share).sum();
    if total > 1.0 + 1e-9 {
        fields.wrong("faults", format!("the shares come to {total}; an answer has at most one fault"));
    }
    read
}

fn groups(fields: &mut Fields<'_>) -> Vec<Group> {
    if !fields.has("group") {
        fields.wrong_here("`[[group]]` is missing: at least one group of sockets");
    }
    let notes = fields.notes;
    let tables = fields.tables("group");
    let names: Vec<String> = tables.iter().map(|(table, _)| name_of(*table)).collect();
    let mut groups: Vec<Group> = Vec::new();
    for (index, (table, span)) in tables.into_iter().enumerate() {
        let place = if names[index].is_empty() { format!("group {}", index + 1) } else { format!("group {:?}", names[index]) };
        let mut fields = Fields::new(table, span, place, notes);
        let group = group(&mut fields);
        if names[..index].contains(&group.name) {
            fields.wrong("name", "another group has this name".to_owned());
        }
        check_names(&group.steps, &names, &fields);
        check_flow(&group.steps, &mut Flow { connected: true, sessions: false }, &fields);
        fields.finish();
        groups.push(group);
    }
    groups
}

fn name_of(table: &dyn TableLike) -> String {
    table.get("name").and_then(|name| name.as_str()).unwrap_or_default().to_owned()
}

fn group(fields: &mut Fields<'_>) -> Group {
    let (ramp, rate) = (fields.optional::<Duration>("ramp"), fields.optional::<f64>("rate"));
    let arrival = match (ramp, rate) {
        (Some(_), Some(_)) => {
            fields.wrong_here("expected `ramp` or `rate`, not both");
            Arrival::Ramp(Duration::ZERO)
        }
        (_, Some(rate)) if (0.001..=1e6).contains(&rate) => Arrival::Rate(rate),
        (_, Some(_)) => {
            fields.wrong("rate", "expected sockets a second, from 0.001 to 1000000".to_owned());
            Arrival::Rate(1.0)
        }
        (ramp, None) => Arrival::Ramp(ramp.unwrap_or_default()),
    };
    Group {
        name: fields.required("name", String::new()),
        sockets: fields.within("sockets", 1, 1, MOST_SOCKETS) as usize,
        sessions: fields.within("sessions", 1, 1, MOST_SESSIONS) as usize,
        after: fields.or("after", Duration::ZERO),
        arrival,
        within: fields.or("within", Duration::from_secs(60)),
        receive_buffer: fields.optional::<Bytes>("receive_buffer").map(|Bytes(bytes)| u32::try_from(bytes).unwrap_or(u32::MAX)),
        reconnect: fields.or("reconnect", true),
        steps: steps(fields, 0),
    }
}

/// Groups that are named must be there.
fn check_names(steps: &[Step], names: &[String], fields: &Fields<'_>) {
    for step in steps {
        match step {
            Step::Attach { of: Some(of), .. } if !names.contains(of) => {
                fields.wrong("steps", format!("attach: there is no group {of:?}; there are {}", names.join(", ")));
            }
            Step::Repeat { steps, .. } => check_names(steps, names, fields),
            _ => {}
        }
    }
}

/// What is there at a point of a script.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Flow {
    connected: bool,
    sessions: bool,
}

/// Finds steps that cannot be done where they stand.
fn check_flow(steps: &[Step], flow: &mut Flow, fields: &Fields<'_>) {
    for step in steps {
        let needs_sessions = matches!(
            step,
            Step::Detach | Step::Submit { .. } | Step::Expect { .. } | Step::Cancel { .. } | Step::Steer { .. } | Step::Verify { .. }
        );
        let works_alone = matches!(step, Step::Wait { .. } | Step::Meet { .. } | Step::Verify { .. } | Step::Repeat { .. });
        if needs_sessions && !flow.sessions {
            fields.wrong("steps", format!("`{}` needs a `create` or `attach` before it", step.name()));
            flow.sessions = true;
        }
        match step {
            Step::ComeBack { .. } if flow.connected => {
                fields.wrong("steps", "`come-back` needs a `drop` or `half-open` before it".to_owned())
            }
            Step::ComeBack { .. } => flow.connected = true,
            _ if !works_alone && !flow.connected => {
                fields.wrong("steps", format!("`{}` needs a connection: a `come-back` before it", step.name()));
                flow.connected = true;
            }
            _ => {}
        }
        match step {
            Step::Create { .. } | Step::Attach { .. } => flow.sessions = true,
            Step::Drop(_) | Step::HalfOpen { .. } => flow.connected = false,
            Step::Repeat { steps, .. } => {
                let before = flow.connected;
                check_flow(steps, flow, fields);
                if flow.connected != before {
                    fields.wrong("steps", "`repeat` must end connected if it begins so, and the other way round".to_owned());
                }
            }
            _ => {}
        }
    }
}

impl Step {
    /// As in `do`.
    pub const fn name(&self) -> &'static str {
        match self {
            Step::Create { .. } => "create",
            Step::Attach { .. } => "attach",
            Step::Detach => "detach",
            Step::Submit { .. } => "submit",
            Step::Expect { .. } => "expect",
            Step::Cancel { .. } => "cancel",
            Step::Steer { .. } => "steer",
            Step::Drop(_) => "drop",
            Step::HalfOpen { .. } => "half-open",
            Step::ReadSlowly { .. } => "read-slowly",
            Step::ComeBack { .. } => "come-back",
            Step::Wait { .. } => "wait",
            Step::Meet { .. } => "meet",
            Step::Repeat { .. } => "repeat",
            Step::Verify { .. } => "verify",
        }
    }
}

#[cfg(test)]
#[allow(clippy::panic, reason = "failing loudly is what a test is for")]
mod tests {
    use super::*;
    use crate::scenario::{Bound, EndKind, Expected, SHIPPED, Stat, Wanted};

    const GOOD: &str = r#"
name = "small"
[hub]
storage = "memory"
environment = { AGENT_HUB_RUNTIME__TASKS_PER_NODE = 1000 }
[vendor]
pace = "2 ms"
faults = [{ what = "cut", after = 3, share = 0.1 }]
[[group]]
name = "talkers"
sockets = 3
ramp = "1 s"
steps = [
  { do = "create" },
  { do = "submit", prompt = "/tokens 5" },
  { do = "expect", end = "completed", within = "5 s" },
  { do = "drop", how = "mid-frame" },
  { do = "come-back", jitter = "10 ms" },
  { do = "verify" },
]
[thresholds]
"first_token.p99" = "20 ms"
tokens_per_second = { at_least = 10 }
errors = 3
"#;

    #[test]
    fn a_scenario_is_read_whole() {
        let scenario = read(GOOD).expect("it is good");
        assert_eq!((scenario.sockets(), scenario.sessions()), (3, 3));
        let Target::Started(hub) = &scenario.target else { panic!("no hub") };
        assert_eq!(hub.storage, Storage::Memory);
        assert_eq!(hub.environment["AGENT_HUB_RUNTIME__TASKS_PER_NODE"], "1000");
        let group = &scenario.groups[0];
        assert_eq!(group.start_of(1), Duration::from_secs(1) / 3);
        let end = Step::Expect { what: Expected::End(Some(EndKind::Completed)), within: Some(Duration::from_secs(5)) };
        assert_eq!(group.steps[2], end);
        assert_eq!(scenario.vendor.expect("a vendor").faults[0].fault, Fault::Cut);
        let find = |name: &str| scenario.thresholds.iter().find(|threshold| threshold.name == name).expect("there").clone();
        assert_eq!(find("first_token.p99").bound, Bound::AtMost(20e6));
        assert!(matches!(find("first_token.p99").wanted, Wanted::Timing(_, Stat::P99)));
        assert_eq!(find("tokens_per_second").bound, Bound::AtLeast(10.0));
        assert_eq!(find("errors").bound, Bound::AtMost(3.0));
        assert_eq!(find("lost").bound, Bound::AtMost(0.0), "it need not be written");
    }

    /// Line and beginning of the text of everything that is wrong.
    fn mistakes(text: &str) -> Vec<(usize, String)> {
        let Mistakes(found) = read(text).expect_err("mistakes");
        found.into_iter().map(|mistake| (mistake.line.unwrap_or(0), format!("{}: {}", mistake.place, mistake.text))).collect()
    }

    #[test]
    fn all_mistakes_are_told_together_with_their_places() {
        let text = r#"
name = "bad"
colour = "red"
[hub]
storage = "paper"
[vendor]
jitter = 3
faults = [{ what = "flood" }]
[[group]]
name = "a"
sockets = 0
ramp = 5
steps = [
  { do = "submit", prompt = "x" },
  { do = "jump" },
  { do = "expect", tokens = 3, end = "any" },
  { do = "drop", how = "softly" },
  { do = "submit", promt = "x" },
  { do = "attach", of = "nobody" },
]
[thresholds]
"first_token.p98" = "20 ms"
"token.p99" = 20
"#;
        let found = mistakes(text);
        let expect = |line: usize, part: &str| {
            assert!(found.iter().any(|(at, text)| *at == line && text.contains(part)), "no {part:?} at {line} in {found:#?}");
        };
        expect(3, "`colour` is not known here; allowed: name, about, seed");
        expect(5, "[hub]: `storage`: expected one of \"sqlite\" \"memory\" \"file\", got \"paper\"");
        expect(7, "[vendor]: `jitter`: expected a number from 0 to 1, got 3");
        expect(8, "fault 1: `what`: expected one of endless-error");
        expect(11, "group \"a\": `sockets`: expected a whole number from 1");
        expect(12, "`ramp`: expected a time with its unit");
        expect(13, "`submit` needs a `create`");
        expect(13, "there is no group \"nobody\"; there are a");
        expect(13, "`submit` needs a connection");
        expect(15, "group \"a\", step 2: `do`: expected one of \"create\"");
        expect(16, "step 3: expected exactly one of");
        expect(17, "step 4: `how`: expected one of \"clean\" \"reset\" \"mid-frame\"");
        expect(18, "step 5: `prompt` is missing");
        expect(18, "step 5: `promt` is not known here; allowed: do, prompt, on_busy, spread");
        expect(22, "`first_token.p98`: no such figure; allowed");
        expect(23, "`token.p99`: expected the most it may be, such as \"20 ms\"");
    }

    #[test]
    fn what_no_clock_can_count_is_refused() {
        let text = r#"
name = "x"
limit = "4000000000000000 h"
[[group]]
name = "a"
rate = 1e-23
steps = [{ do = "create" }, { do = "wait", time = "1001 h" }]
[thresholds]
lost = { at_least = 0 }
repeated = { at_least = 1, at_most = 2 }
"#;
        let found = mistakes(text);
        let lines: Vec<usize> = found.iter().map(|(line, _)| *line).collect();
        assert_eq!(lines, [3, 6, 7, 9], "{found:#?}");
        assert!(found[0].1.contains("at most 1000 h") && found[3].1.contains("the most it may be"), "{found:#?}");
    }

    #[test]
    fn a_hub_is_started_or_found() {
        let with = |rest: &str| format!("name = \"x\"\n{rest}\n[[group]]\nname = \"a\"\nsteps = [{{ do = \"create\" }}]\n");
        let found = read(&with("[target]\nurl = \"http://127.0.0.1:3000\"\nsecret = \"s\"\nusers = 5")).expect("good");
        let Target::Running { credentials, users, .. } = found.target else { panic!("not running") };
        assert_eq!((credentials, users), (Credentials::Secret("s".into()), 5));
        assert!(mistakes(&with("[target]\nurl = \"https://x\"")).iter().any(|(_, text)| text.contains("TLS is not spoken here")));
        assert!(mistakes(&with("[target]\nurl = \"ws://x:1\"\n[hub]")).iter().any(|(_, text)| text.contains("not both")));
        assert!(mistakes(&with("[target]\nurl = \"ws://x:1\"\ntoken = \"t\"\nusers = 2")).len() == 1);
        assert!(mistakes("name = \"x").iter().any(|(line, text)| *line == 1 && text.contains("no TOML")));
    }

    #[test]
    fn what_ships_can_be_read() {
        for shipped in &SHIPPED {
            let scenario = read(shipped.text).unwrap_or_else(|mistakes| panic!("{}: {mistakes}", shipped.name));
            assert_eq!(scenario.name, shipped.name);
            assert!(!scenario.about.is_empty(), "{} says nothing about itself", shipped.name);
        }
    }
}
