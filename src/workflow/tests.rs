//! Definitions that are fine and not, and executions driven by hand, one event at a time.
#![allow(clippy::panic, reason = "a test that cannot go on says so")]

use agent_hub_protocol::{
    Timestamp,
    event::{Replay, Step as StepEvent, StepPhase},
};
use serde_json::{Map, Value, json};

use super::{Begun, Due, Execution, Plan, Progress, What, Workflow, Workflows};

fn workflow(steps: &str) -> Workflow {
    Workflow::from_yaml("w", &format!("steps:\n{steps}")).expect("fine")
}

/// An execution in which every tool answers at once with `{tool, with}`, unless it is told otherwise.
struct Drive {
    all: Workflows,
    progress: Progress,
    now: i64,
    /// What has happened, as `phase path`.
    log: Vec<String>,
    calls: u32,
    /// Tools that fail so often.
    fails: Map<String, Value>,
}

impl Drive {
    fn new(all: impl IntoIterator<Item = Workflow>, input: Value) -> Self {
        let all = Workflows::new(all).expect("they fit together");
        Self { all, progress: Progress::new(input, None), now: 1000, log: Vec::new(), calls: 0, fails: Map::new() }
    }

    fn plan(&self) -> Plan {
        let workflow = self.all.get("w").expect("there");
        let user_context = json!({ "role": "admin" });
        let (progress, now) = (&self.progress, Timestamp::from_millis(self.now));
        Execution { workflows: &self.all, workflow, progress, user_context: &user_context, now }.plan()
    }

    fn note(&mut self, name: &str, phase: StepPhase, value: Value, until: Option<Timestamp>, call: Option<String>) {
        let shown = serde_json::to_value(phase).expect("JSON");
        self.log.push(format!("{} {name}", shown.as_str().unwrap_or_default()));
        let (input, output) = if phase == StepPhase::Started { (Some(value), None) } else { (None, Some(value)) };
        let step = StepEvent { index: 1, name: name.to_owned(), tool: None, call_id: call, phase, until, input, output };
        self.progress.note(&step, Timestamp::from_millis(self.now));
        // What is kept is all that counts.
        let text = serde_json::to_string(&self.progress).expect("JSON");
        self.progress = serde_json::from_str(&text).expect("what was written");
    }

    fn settle(&mut self, step: &str, result: Result<Value, String>) {
        match result {
            Ok(output) => self.note(step, StepPhase::Completed, output, None, None),
            Err(why) => self.note(step, StepPhase::Failed, why.into(), None, None),
        }
    }

    fn take(&mut self, due: Due) -> bool {
        let Due { step, what } = due;
        match what {
            What::Enter(input) => self.note(&step, StepPhase::Started, input, None, None),
            What::Compute(input, result) => {
                self.note(&step, StepPhase::Started, input, None, None);
                self.settle(&step, result);
            }
            What::Settle(result) => self.settle(&step, result),
            What::Call { input, tool, arguments, .. } => {
                self.calls += 1;
                self.note(&step, StepPhase::Started, input, None, Some(format!("c{}", self.calls)));
                let left = self.fails.get(&tool).and_then(Value::as_u64).unwrap_or(0);
                if tool == "slow" {
                    return true;
                }
                if left > 0 {
                    self.fails.insert(tool.clone(), (left - 1).into());
                    self.settle(&step, Err(format!("{tool} broke")));
                } else {
                    self.settle(&step, Ok(json!({ "tool": tool, "given": arguments })));
                }
            }
            What::Ask { input, prompt, .. } => {
                self.note(&step, StepPhase::Started, input, None, None);
                self.settle(&step, Ok(prompt.into()));
            }
            What::Rest { input, until } => self.note(&step, StepPhase::Started, input, Some(until), None),
            What::Suspend { input, until } => self.note(&step, StepPhase::Started, input, until, None),
            What::WaitForData { .. } | What::WaitUntil(_) | What::TimedOut | What::AtWork => return false,
        }
        true
    }

    /// Goes on until nothing moves by itself.
    fn run(&mut self) -> Plan {
        for _ in 0..10_000 {
            match self.plan() {
                Plan::Go(due) => {
                    let mut moved = false;
                    for due in due {
                        moved |= self.take(due);
                    }
                    if !moved {
                        return self.plan();
                    }
                }
                ended => return ended,
            }
        }
        panic!("it does not come to rest: {:?}", self.log);
    }
}

fn result(steps: &str, input: Value) -> Plan {
    Drive::new([workflow(steps)], input).run()
}

#[test]
fn what_comes_out_of_a_step_goes_into_the_next() {
    let steps = r#"
  - { id: double, type: transform, value: "=input.n * 2" }
  - { id: ring, type: tool, tool: echo, arguments: { n: "=input", first: "=steps.double", user: "=userContext.role", literal: "==x", nested: ["=workflow.input.n", null] } }
  - { id: say, type: agent, prompt: "=`${input.tool} for ${steps.ring.given.user}`" }
"#;
    let mut drive = Drive::new([workflow(steps)], json!({ "n": 21 }));
    assert_eq!(drive.run(), Plan::Done(json!("echo for admin")));
    let with = json!({ "n": 42, "first": 42, "user": "admin", "literal": "=x", "nested": [21, null] });
    assert_eq!(drive.progress.outputs["ring"]["given"], with);
}

#[test]
fn conditions_choose_and_pass_on() {
    let steps = r#"
  - id: big
    type: condition
    if: input.n > 10
    then:
      - { id: yes, type: transform, value: "=`big ${input.n}`" }
"#;
    assert_eq!(result(steps, json!({ "n": 11 })), Plan::Done(json!("big 11")));
    assert_eq!(result(steps, json!({ "n": 1 })), Plan::Done(json!({ "n": 1 })), "nothing to do: what came in goes on");
    let Plan::Failed { step, message } = result(steps, json!(null)) else { panic!("it cannot be compared") };
    assert!(step == "big" && !message.is_empty(), "{step}: {message}");
}

#[test]
fn branches_come_together_by_name_or_in_order_and_the_first_of_a_race_wins() {
    let named = r#"
  - id: fan
    type: parallel
    branches:
      a: [{ id: one, type: transform, value: 1 }]
      b: [{ id: one, type: transform, value: "=input" }, { id: two, type: transform, value: "=steps.one + 1" }]
"#;
    assert_eq!(result(named, json!(5)), Plan::Done(json!({ "a": 1, "b": 6 })));
    let listed = r#"
  - id: fan
    type: parallel
    branches: [[{ id: x, type: transform, value: 1 }], [{ id: x, type: transform, value: 2 }]]
"#;
    assert_eq!(result(listed, json!(null)), Plan::Done(json!([1, 2])));
    let race = r#"
  - id: fan
    type: parallel
    mode: race
    branches:
      - [{ id: slow, type: tool, tool: slow }]
      - [{ id: broken, type: transform, value: "=nonsense" }]
      - [{ id: rest, type: sleep, for: 10 s }, { id: late, type: transform, value: late }]
"#;
    let mut drive = Drive::new([workflow(race)], json!(null));
    let Plan::Go(waits) = drive.run() else { panic!("nobody is first yet: {:?}", drive.log) };
    assert_eq!(waits.len(), 2);
    assert_eq!(drive.progress.begun_inside("fan").count(), 2);
    drive.now += 10_000;
    assert_eq!(drive.run(), Plan::Done(json!("late")));
    assert_eq!(drive.progress.begun.len(), 0, "the slow one is not waited for");
}

#[test]
fn items_are_done_so_many_at_a_time_and_in_order() {
    let steps = r#"
  - id: each
    type: for_each
    items: "=input.list"
    concurrency: 2
    steps:
      - { id: wait, type: suspend, resume: { type: integer } }
      - { id: sum, type: transform, value: "=item + input + index" }
"#;
    let mut drive = Drive::new([workflow(steps)], json!({ "list": [10, 20, 30] }));
    let waits = |plan: Plan| match plan {
        Plan::Go(due) => due.into_iter().map(|due| due.step).collect::<Vec<_>>(),
        other => panic!("{other:?}"),
    };
    assert_eq!(waits(drive.run()), ["each[0].wait", "each[1].wait"]);
    drive.settle("each[1].wait", Ok(json!(5)));
    assert_eq!(waits(drive.run()), ["each[0].wait", "each[2].wait"]);
    drive.settle("each[2].wait", Ok(json!(6)));
    drive.settle("each[0].wait", Ok(json!(4)));
    assert_eq!(drive.run(), Plan::Done(json!([14, 26, 38])));
    let wrong = result(steps, json!({ "list": 7 }));
    assert!(matches!(&wrong, Plan::Failed { step, .. } if step == "each"), "{wrong:?}");
    assert_eq!(result(steps, json!({ "list": [] })), Plan::Done(json!([])));
}

#[test]
fn what_goes_wrong_is_repeated_passed_over_or_the_end() {
    let steps = r#"
  - { id: call, type: tool, tool: shaky, retries: 2, retry_delay: 10 s }
"#;
    let mut drive = Drive::new([workflow(steps)], json!(null));
    drive.fails.insert("shaky".into(), 2.into());
    for delay in [10_000, 20_000] {
        let Plan::Go(waits) = drive.run() else { panic!("{:?}", drive.log) };
        assert_eq!(waits[0].what, What::WaitUntil(Timestamp::from_millis(drive.now + delay)));
        drive.now += delay;
    }
    assert!(matches!(drive.run(), Plan::Done(_)), "{:?}", drive.log);

    let mut drive = Drive::new([workflow(steps)], json!(null));
    drive.fails.insert("shaky".into(), 3.into());
    for _ in 0..2 {
        drive.run();
        drive.now += 60_000;
    }
    assert_eq!(drive.run(), Plan::Failed { step: "call".into(), message: "shaky broke".into() });

    let steps =
        "  - { id: call, type: tool, tool: shaky, on_error: continue }\n  - { id: then, type: transform, value: \"=input == ()\" }\n";
    let mut drive = Drive::new([workflow(steps)], json!(null));
    drive.fails.insert("shaky".into(), 1.into());
    assert_eq!(drive.run(), Plan::Done(json!(true)));
}

#[test]
fn a_step_waits_for_data_and_no_longer_than_it_says() {
    let steps = |more: &str| {
        format!(
            "  - {{ id: ok, type: suspend, reason: \"=`may ${{input}}?`\", data: {{ n: 1 }}, timeout: 1 h, resume: {{ type: object }}{more} }}\n"
        )
    };
    let mut drive = Drive::new([workflow(&steps(""))], json!("I"));
    let Plan::Go(waits) = drive.run() else { panic!("it waits") };
    let What::WaitForData { reason, data, schema, until } = &waits[0].what else { panic!("{waits:?}") };
    assert_eq!((reason.as_str(), data, schema), ("may I?", &Some(json!({ "n": 1 })), &Some(json!({ "type": "object" }))));
    assert_eq!(*until, Some(Timestamp::from_millis(1000 + 3_600_000)));
    assert!(Execution::check_data(schema.as_ref(), &json!([])).is_err());
    assert!(Execution::check_data(schema.as_ref(), &json!({})).is_ok());
    drive.now += 3_600_000;
    assert_eq!(drive.run(), Plan::Go(vec![Due { step: "ok".into(), what: What::TimedOut }]));
    let mut drive = Drive::new([workflow(&steps(", default: { late: true }"))], json!("I"));
    drive.run();
    drive.now += 3_600_000;
    assert_eq!(drive.run(), Plan::Done(json!({ "late": true })));
}

#[test]
fn a_workflow_runs_inside_of_another_with_what_it_takes() {
    let inner = Workflow::from_yaml("inner", "input: { type: object, required: [n] }\nresult: \"=#{ twice: input }\"\nsteps: [{ id: double, type: transform, value: \"=workflow.input.n * 2\" }]").expect("fine");
    let outer = |input: &str| workflow(&format!("  - {{ id: sub, type: workflow, workflow: inner, input: {input} }}\n"));
    let mut drive = Drive::new([inner.clone(), outer("{ n: \"=input\" }")], json!(4));
    assert_eq!(drive.run(), Plan::Done(json!({ "twice": 8 })));
    assert!(drive.log.contains(&"completed sub.double".to_owned()), "{:?}", drive.log);
    let Plan::Failed { message, .. } = Drive::new([inner, outer("{}")], json!(4)).run() else { panic!("n is missing") };
    assert!(message.contains("\"n\" is a required property"), "{message}");
}

#[test]
fn an_execution_goes_on_from_a_step_and_repeats_another() {
    let steps = r#"
  - { id: a, type: tool, tool: one }
  - { id: wait, type: suspend }
  - { id: b, type: tool, tool: two, arguments: { data: "=input", again: "=resume" } }
"#;
    let mut drive = Drive::new([workflow(steps)], json!("in"));
    drive.run();
    // At the step that waits.
    drive.settle("wait", Ok(json!("yes")));
    drive.progress.resumed(Some("wait"), Some(&json!("yes")));
    let Plan::Done(done) = drive.run() else { panic!("{:?}", drive.log) };
    assert_eq!(done["given"], json!({ "data": "yes", "again": "yes" }));
    // Again from its first step: everything behind it is done anew.
    let mut drive = Drive::new([workflow(steps)], json!("in"));
    drive.run();
    drive.progress.suspended();
    drive.progress.resumed(Some("a"), Some(&json!("more")));
    drive.run();
    assert_eq!(drive.log.iter().filter(|line| *line == "completed a").count(), 2);
    assert!(drive.progress.begun.contains_key("wait"));
    // Another execution that takes over what came before.
    let outputs = json!({ "a": "taken over" }).as_object().expect("an object").clone();
    let replay =
        Replay { task_id: agent_hub_protocol::TaskId::random(), step_id: "b".into(), outputs: Map::new(), input: Some(json!("new")) };
    let mut outputs_of_all = outputs;
    outputs_of_all.insert("wait".into(), json!("old"));
    let mut drive = Drive::new([workflow(steps)], json!("in"));
    drive.progress = Progress::new(json!("in"), Some(&Replay { outputs: outputs_of_all, ..replay }));
    let Plan::Done(done) = drive.run() else { panic!("{:?}", drive.log) };
    assert_eq!(done["given"]["data"], json!("new"));
    assert_eq!(drive.log, ["started b", "completed b"]);
}

#[test]
fn what_is_wrong_with_a_definition_is_said_with_its_place() {
    let cases = [
        ("steps: []", "w.steps: there must be at least one"),
        ("name: x", "w.steps: is missing"),
        ("steps: 7", "w.steps: must be a list of steps"),
        ("nonsense", "w: must be an object"),
        ("steps: [{ id: a, type: transform }]", "w.steps[0].value: is missing"),
        ("steps: [{ id: a, type: dance }]", "w.steps[0].type: \"dance\" is none of"),
        ("steps: [{ id: \"a b\", type: transform, value: 1 }]", "w.steps[0].id: may have letters"),
        ("steps: [{ id: a, type: transform, value: 1 }, { id: a, type: transform, value: 2 }]", "another step a beside it"),
        ("steps: [{ id: a, type: transform, value: \"=1 +\" }]", "w.steps[0].value:"),
        ("steps: [{ id: a, type: transform, value: 1, retries: 3 }]", "w.steps[0].retries: a step of type transform has no such field"),
        ("steps: [{ id: a, type: tool, tool: t, retries: 1000 }]", "w.steps[0].retries: must be a whole number, 100 at most"),
        ("steps: [{ id: a, type: suspend, resume: { type: nonsense } }]", "w.steps[0].resume: is not a valid JSON Schema"),
        ("steps: [{ id: a, type: sleep }]", "exactly one of for and until"),
        ("steps: [{ id: a, type: sleep, for: soon }]", "w.steps[0].for: expected a time such as"),
        ("steps: [{ id: a, type: parallel, branches: [] }]", "w.steps[0].branches: there must be at least one"),
        ("steps: [{ id: a, type: condition, if: \"1 > 0\", then: [{ id: b, type: transform }] }]", "w.steps[0].then[0].value: is missing"),
        ("input: { type: nonsense }\nsteps: [{ id: a, type: transform, value: 1 }]", "w.input: is not a valid JSON Schema"),
        ("steps: [{ id: a, type: transform, value: 1 }]\nextra: 1", "w.extra: a workflow has no such field"),
        (":\n  - ]", "w:"),
    ];
    for (text, complaint) in cases {
        let wrong = Workflow::from_yaml("w", text).expect_err(text);
        assert!(wrong.iter().any(|wrong| wrong.contains(complaint)), "{text}: {wrong:?}");
    }
    let wrong = Workflow::from_toml("no good id", "steps = [{ id = \"a\", type = \"transform\", value = 1 }]").expect_err("a bad id");
    assert!(wrong[0].contains("is no id of a workflow"), "{wrong:?}");
    let mut deep = "{ id: x, type: transform, value: 1 }".to_owned();
    for _ in 0..20 {
        deep = format!("{{ id: x, type: condition, if: \"true\", then: [{deep}] }}");
    }
    let wrong = Workflow::from_yaml("w", &format!("steps: [{deep}]")).expect_err("too deep");
    assert!(wrong.iter().any(|wrong| wrong.contains("deep")), "{wrong:?}");
}

#[test]
fn circles_and_what_is_not_there_are_refused() {
    let to = |id: &str, other: &str| {
        Workflow::from_yaml(id, &format!("steps: [{{ id: s, type: workflow, workflow: {other} }}]")).expect("fine by itself")
    };
    let wrong = Workflows::new([to("a", "b"), to("b", "c"), to("c", "a"), to("d", "a"), to("e", "e")]).expect_err("circles");
    assert_eq!(wrong.len(), 4, "{wrong:?}");
    assert!(wrong.iter().any(|wrong| wrong == "a: it executes itself (a → b → c → a)"), "{wrong:?}");
    assert_eq!(Workflows::new([to("a", "gone")]).expect_err("not there"), ["a: there is no workflow gone"]);
    assert_eq!(
        Workflows::new([workflow("  - { id: a, type: transform, value: 1 }"), workflow("  - { id: a, type: transform, value: 1 }")])
            .expect_err("twice"),
        ["two workflows have the id w"]
    );
}

#[test]
fn both_ways_to_write_it_mean_the_same() {
    let toml = r#"
name = "Order approval"
timeout = "10 min"
[[steps]]
id = "check"
type = "transform"
value = "=input.amount > 1000"
[[steps]]
id = "ok"
type = "condition"
if = "input"
then = [{ id = "wait", type = "suspend" }]
"#;
    let yaml = r#"
name: Order approval
timeout: 10 min
steps:
  - { id: check, type: transform, value: "=input.amount > 1000" }
  - { id: ok, type: condition, if: input, then: [{ id: wait, type: suspend }] }
"#;
    let (toml, yaml) = (Workflow::from_toml("w", toml).expect("fine"), Workflow::from_yaml("w", yaml).expect("fine"));
    assert_eq!(format!("{toml:?}"), format!("{yaml:?}"));
    assert_eq!((toml.purpose.as_str(), toml.steps.len()), ("No purpose provided", 2));
}

#[test]
fn begun_steps_are_kept_as_they_are() {
    let begun =
        Begun { input: json!({ "a": null }), until: Some(Timestamp::from_millis(7)), call: Some("c1".into()), tool: None, index: 3 };
    let text = serde_json::to_string(&begun).expect("JSON");
    assert_eq!(serde_json::from_str::<Begun>(&text).expect("what was written"), begun);
}
