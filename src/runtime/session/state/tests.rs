//! Hard cases as plain tests, and every order of inputs as a property.
#![allow(clippy::panic, reason = "a test that cannot go on says so")]

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, LazyLock},
    time::Duration,
};

use agent_hub_protocol::{
    Epoch, ErrorCode, Event, EventBody, EventType, SessionId, TaskId, Timestamp,
    client_message::{ClientTool, ClientToolResult, InputOutcome, OnBusy, RespondInput, SteerWhen},
    event::InputKind,
    snapshot::TaskStatus,
};
use futures::{FutureExt, future::BoxFuture};
use proptest::prelude::*;
use serde_json::{Value, json};

use super::{Answer, Call, CallReport, Lookup, Outbox, Rules, SessionState, Work};
use crate::{
    provider::{CallEnd, ModelMessage, ModelToolCall, ProviderError, ProviderErrorKind, ToolSpec, demo::DemoProvider},
    runtime::{
        Plan, Principal, RuntimeSettings,
        admission::{NewExecution, NewSession, NewSteer, NewTask},
        agent::{Agent, Agents, Approval},
        executors::Executors,
        session::request::Change,
        task::Delta,
        template::Template,
    },
    tool::{Invocation, SharedTool, Tool, ToolError, ToolErrorCode, Toolbox},
    workflow::{Workflow, Workflows},
};

/// A session with its log, driven by hand.
struct Bench {
    state: SessionState,
    log: Vec<Event>,
    now: i64,
    owner: Principal,
}

static SETTINGS: LazyLock<RuntimeSettings> = LazyLock::new(|| RuntimeSettings {
    max_steps: 6,
    queued_per_session: Some(5),
    tasks_per_session: Some(30),
    ..RuntimeSettings::default()
});

/// Is described, and never called.
#[derive(Debug)]
struct Described(ToolSpec);

impl Described {
    fn shared(name: &str) -> SharedTool {
        let parameters = json!({ "type": "object", "properties": { "n": { "type": "integer" } } });
        Arc::new(Self(ToolSpec { name: name.into(), description: String::new(), parameters }))
    }
}

impl Tool for Described {
    fn spec(&self) -> &ToolSpec {
        &self.0
    }

    fn call(&self, _: Invocation) -> BoxFuture<'static, Result<Value, ToolError>> {
        async { Ok(Value::Null) }.boxed()
    }
}

/// `default` hands work to `helper` and `other`, `helper` to `other` and, were it let, back to `default`.
static AGENTS: LazyLock<Agents> = LazyLock::new(|| {
    let agent = |name: &str, sub_agents: &[&str]| Agent {
        tools: ["echo", "guarded"].map(|name| Template::parse(name).expect("plain")).to_vec(),
        sub_agents: sub_agents.iter().map(|name| (*name).to_owned()).collect(),
        approvals: BTreeMap::from([("guarded".to_owned(), Approval::Always)]),
        ..Agent::new(name, "answers", Arc::new(DemoProvider::default()))
    };
    let others = [agent("helper", &["other", "default"]), agent("other", &[])];
    let tools = Toolbox::new([Described::shared("echo"), Described::shared("guarded")], Vec::new()).expect("fine tools");
    Agents::new(agent("default", &["helper", "other"]), others, tools)
});

static EXECUTORS: LazyLock<Executors> = LazyLock::new(|| Executors::new(Duration::from_secs(120)));

fn rules() -> Rules<'static> {
    Rules { settings: &SETTINGS, agents: &AGENTS, workflows: &WORKFLOWS, executors: &EXECUTORS }
}

fn lookup() -> Lookup<'static> {
    Lookup { settings: &SETTINGS, agents: &AGENTS, workflows: &WORKFLOWS, entry: None, quota: &|_| Ok(None) }
}

fn new_task(n: u128) -> NewTask {
    NewTask {
        id: TaskId::from_uuid(uuid::Builder::from_random_bytes(n.to_be_bytes()).into_uuid()),
        id_chosen: true,
        prompt: format!("prompt {n}"),
        on_busy: OnBusy::Queue,
        options: None,
        timeout: Some(Duration::from_secs(60)),
        context: None,
        tools: None,
        execution: None,
        counted: true,
    }
}

/// An execution of the workflow that has a step of every kind.
fn new_flow(n: u128) -> NewTask {
    let execution = NewExecution::check("mix", Some(json!({ "items": [1, 2, 3] })), &WORKFLOWS).expect("fits");
    NewTask { prompt: String::new(), execution: Some(execution), ..new_task(n) }
}

const MIX: &str = r#"
input: { type: object, properties: { items: { type: array } }, required: [items] }
result: "=steps"
steps:
  - { id: begin, type: transform, value: "=workflow.input.items" }
  - id: each
    type: for_each
    concurrency: 2
    steps:
      - { id: call, type: tool, tool: echo, arguments: { n: "=item" }, on_error: continue }
      - { id: ask, type: agent, agent: other, prompt: "=`item ${item}`", on_error: continue }
  - id: fan
    type: parallel
    branches:
      left: [{ id: guarded, type: tool, tool: guarded, approve: true, on_error: continue }]
      right: [{ id: wait, type: suspend, resume: { type: string } }]
  - id: first
    type: parallel
    mode: race
    branches:
      - [{ id: work, type: agent, prompt: race }]
      - [{ id: rest, type: sleep, for: 20 s }]
  - id: choose
    type: condition
    if: "steps.fan.right == `go on`"
    then: [{ id: yes, type: transform, value: "yes" }]
    else: [{ id: no, type: transform, value: "no" }]
"#;

static WORKFLOWS: LazyLock<Workflows> =
    LazyLock::new(|| Workflows::new([Workflow::from_yaml("mix", MIX).expect("fine")]).expect("they fit together"));

impl Bench {
    fn new() -> Self {
        let owner = Principal::verified("u".into(), Plan::Free, Vec::new(), None);
        let new = NewSession {
            id: SessionId::random(),
            agent: "default".into(),
            tools: vec!["web_search".into()],
            model: None,
            name: None,
            tags: Vec::new(),
            metadata: None,
            by_socket: false,
            counted: true,
        };
        let mut out = Outbox::at(Timestamp::from_millis(1_000_000));
        let (state, _) = SessionState::create(&owner, &new, 7, Epoch::derive(7, 0), &lookup(), &mut out).expect("created");
        Self { state, log: out.events, now: 1_000_000, owner }
    }

    fn with<T>(&mut self, act: impl FnOnce(&mut SessionState, &mut Outbox) -> T) -> T {
        self.now += 1;
        let mut out = Outbox::at(Timestamp::from_millis(self.now));
        let result = act(&mut self.state, &mut out);
        self.log.extend(out.events);
        result
    }

    fn ask(&mut self, change: Change) -> Result<Answer, ErrorCode> {
        let who = self.owner.clone();
        self.with(|state, out| state.change(&who, &change, &lookup(), out).map_err(|refusal| refusal.code))
    }

    fn submit(&mut self, n: u128, on_busy: OnBusy) -> Result<Answer, ErrorCode> {
        self.ask(Change::Submit(NewTask { on_busy, ..new_task(n) }))
    }

    /// Gives the front its slot, if it wants one.
    fn start(&mut self) -> Option<TaskId> {
        let (task, _) = self.state.wants_slot()?;
        self.with(|state, out| state.start(task, out));
        Some(task)
    }

    fn next(&mut self, task: TaskId, report: Option<CallReport>) -> Work {
        self.with(|state, out| state.next(task, report, rules(), out))
    }

    fn say(&mut self, task: TaskId, text: &str) {
        self.with(|state, out| state.stream(task, vec![Delta::Text(text.into())], out));
    }

    fn types(&self) -> Vec<EventType> {
        self.log.iter().map(|event| event.body.event_type()).collect()
    }

    fn status(&self, n: u128) -> TaskStatus {
        self.state.task(new_task(n).id).expect("known").status
    }

    /// The state read back from the wire texts of the log, as after a restart.
    fn refolded(&self) -> SessionState {
        let mut state: Option<SessionState> = None;
        for event in &self.log {
            let event = Event::decode(&event.encode()).expect("readable");
            if let EventBody::SessionCreated(created) = &event.body {
                let born = SessionState::born(self.state.id, "u".into(), 7, self.state.epoch.clone(), created);
                state = Some(born);
            }
            state.as_mut().expect("begins with session_created").apply(&event);
        }
        state.expect("not empty")
    }
}

const END: Option<CallReport> = Some(CallReport::Ended(CallEnd { input_tokens: 1, output_tokens: 1, truncated: false }));

#[test]
fn a_task_runs_from_prompt_to_result() {
    let mut bench = Bench::new();
    bench.submit(1, OnBusy::Queue).expect("taken");
    let task = bench.start().expect("free");
    assert!(matches!(bench.next(task, None), Work::Model(_)));
    bench.say(task, " Hello");
    bench.say(task, " you ");
    assert!(matches!(bench.next(task, END), Work::Nothing));
    let EventBody::TaskCompleted(done) = &bench.log.last().expect("events").body else { panic!("{:?}", bench.types()) };
    assert_eq!(done.result, json!(" Hello you "), "never trimmed");
    assert_eq!(bench.status(1), TaskStatus::Completed);
}

#[test]
fn whoever_comes_first_wins_between_cancel_and_the_end() {
    let mut bench = Bench::new();
    bench.submit(1, OnBusy::Queue).expect("taken");
    let task = bench.start().expect("free");
    bench.next(task, None);
    bench.say(task, "half");
    bench.ask(Change::Cancel { task, reason: None }).expect("runs");
    // The runner had ended by itself at the same time: what it says no longer counts.
    assert!(matches!(bench.next(task, END), Work::Nothing));
    bench.say(task, " too late");
    bench.with(|state, out| state.stopped(task, true, out));
    let EventBody::TaskCancelled(end) = &bench.log.last().expect("events").body else { panic!("{:?}", bench.types()) };
    assert_eq!((end.partial.as_str(), end.upstream_stopped), ("half", true));
    assert_eq!(bench.ask(Change::Cancel { task, reason: None }).expect_err("ended"), ErrorCode::AlreadyTerminal);
}

#[test]
fn what_does_not_stop_in_time_is_said_so() {
    let mut bench = Bench::new();
    bench.submit(1, OnBusy::Queue).expect("taken");
    let task = bench.start().expect("free");
    bench.next(task, None);
    bench.ask(Change::Cancel { task, reason: None }).expect("runs");
    bench.now += 1_900;
    bench.with(|state, out| state.on_time(&SETTINGS, out));
    assert_eq!(bench.status(1), TaskStatus::Running, "within the grace");
    bench.now += 200;
    bench.with(|state, out| state.on_time(&SETTINGS, out));
    let EventBody::TaskCancelled(end) = &bench.log.last().expect("events").body else { panic!("{:?}", bench.types()) };
    assert!(!end.upstream_stopped);
}

#[test]
fn interrupt_goes_before_the_queue_and_rollback_leaves_no_trace_in_the_conversation() {
    let mut bench = Bench::new();
    bench.submit(1, OnBusy::Queue).expect("taken");
    let first = bench.start().expect("free");
    bench.next(first, None);
    bench.say(first, "to be forgotten");
    bench.submit(2, OnBusy::Queue).expect("queued");
    bench.submit(3, OnBusy::Rollback).expect("taken");
    bench.with(|state, out| state.stopped(first, true, out));
    let third = bench.start().expect("the interrupter is next");
    assert_eq!(third, new_task(3).id);
    let Work::Model(ask) = bench.next(third, None) else { panic!("calls the model") };
    assert_eq!(ask.messages, [ModelMessage::User("prompt 3".into())]);
    assert_eq!(bench.status(2), TaskStatus::Queued);
}

#[test]
fn the_same_id_is_answered_again_and_another_content_is_refused() {
    let mut bench = Bench::new();
    bench.submit(1, OnBusy::Queue).expect("taken");
    let before = bench.log.len();
    let Ok(Answer::Done(again)) = bench.submit(1, OnBusy::Queue) else { panic!("answered") };
    assert!(again.repeated);
    let other = NewTask { prompt: "something else".into(), ..new_task(1) };
    assert_eq!(bench.ask(Change::Submit(other)).expect_err("refused"), ErrorCode::IdempotencyConflict);
    assert_eq!(bench.submit(2, OnBusy::Reject).expect_err("refused"), ErrorCode::Busy);
    assert_eq!(bench.log.len(), before, "nothing was changed");
}

#[test]
fn a_person_answers_once_and_only_what_the_schema_allows() {
    let mut bench = Bench::new();
    bench.submit(1, OnBusy::Queue).expect("taken");
    let task = bench.start().expect("free");
    bench.next(task, None);
    let arguments = json!({ "question": "How many?", "schema": { "type": "integer" } });
    let call = ModelToolCall { call_id: "x".into(), tool: "ask_user".into(), arguments };
    bench.with(|state, out| state.tool_called(task, call, out));
    assert!(matches!(bench.next(task, END), Work::Nothing));
    assert_eq!(bench.status(1), TaskStatus::Suspended);
    let request_id = bench.state.task(task).expect("known").inputs[0].request_id.clone();
    let answer = |payload| {
        Change::Respond(RespondInput {
            session_id: None,
            task_id: task,
            request_id: request_id.clone(),
            outcome: InputOutcome::Accept,
            payload: Some(payload),
            edited_arguments: None,
        })
    };
    let before = bench.log.len();
    assert_eq!(bench.ask(answer(json!("many"))).expect_err("no number"), ErrorCode::InvalidMessage);
    assert_eq!(bench.log.len(), before);
    bench.ask(answer(json!(3))).expect("fits");
    assert_eq!(bench.ask(answer(json!(4))).expect_err("too late"), ErrorCode::AlreadyResolved);
    assert_eq!(bench.state.wants_slot(), Some((task, true)), "goes on before others");
    bench.start();
    let Work::Model(ask) = bench.next(task, None) else { panic!("the model gets the answer") };
    assert!(matches!(ask.messages.last(), Some(ModelMessage::ToolResult { content, .. }) if content == "3"));
}

/// A task that has called these, and what it is to do next.
fn called(bench: &mut Bench, calls: &[(&str, Value)]) -> (TaskId, Work) {
    bench.submit(1, OnBusy::Queue).expect("taken");
    let task = bench.start().expect("free");
    bench.next(task, None);
    for (tool, arguments) in calls {
        let call = ModelToolCall { call_id: "x".into(), tool: (*tool).into(), arguments: arguments.clone() };
        bench.with(|state, out| state.tool_called(task, call, out));
    }
    let work = bench.next(task, END);
    (task, work)
}

fn results(bench: &Bench, task: TaskId) -> Vec<(Option<Value>, Option<String>)> {
    let result = |event: &Event| match &event.body {
        EventBody::ToolResult(result) if event.task_id == Some(task) => Some((result.output.clone(), result.code.clone())),
        _ => None,
    };
    bench.log.iter().filter_map(result).collect()
}

#[test]
fn a_call_that_cannot_be_made_is_answered_and_the_model_goes_on() {
    let mut bench = Bench::new();
    let calls = [
        ("nonsense", json!({})),
        ("web_search", json!({ "query": "x" })),
        ("echo", json!({ "n": "three" })),
        ("ask_user", json!({ "question": "?", "schema": { "type": "nonsense" } })),
        ("delegate_task", json!({ "agent": "stranger", "task": "x" })),
        ("delegate_task", json!({ "agent": "helper", "task": " " })),
    ];
    let (task, work) = called(&mut bench, &calls);
    let codes: Vec<Option<String>> = results(&bench, task).into_iter().map(|(_, code)| code).collect();
    let expected = ["unknown_tool", "unavailable", "invalid_arguments", "invalid_arguments", "invalid_arguments", "invalid_arguments"];
    assert_eq!(codes, expected.map(|code| Some(code.to_owned())));
    let Work::Model(ask) = work else { panic!("{work:?}") };
    let Some(ModelMessage::ToolResult { content, .. }) = ask.messages.iter().find(|m| matches!(m, ModelMessage::ToolResult { .. })) else {
        panic!("{:?}", ask.messages)
    };
    assert_eq!(content, "There is no tool named nonsense; there are: echo, guarded, delegate_task, ask_user");
}

#[test]
fn a_guarded_call_waits_for_a_yes_and_is_made_with_what_was_edited() {
    let mut bench = Bench::new();
    let (task, work) = called(&mut bench, &[("guarded", json!({ "n": 1 })), ("guarded", json!({ "n": 2 })), ("echo", json!({}))]);
    let Work::Tools(calls) = work else { panic!("{work:?}") };
    assert_eq!(calls.len(), 1, "what needs no yes is made at once");
    bench.with(|state, out| state.tool_ended(task, &calls[0], Ok(json!("echoed")), Duration::ZERO, out));
    assert!(matches!(bench.next(task, None), Work::Nothing));
    assert_eq!(bench.status(1), TaskStatus::Suspended);
    let requests: Vec<String> = bench.state.task(task).expect("known").inputs.iter().map(|input| input.request_id.clone()).collect();
    let answer = |at: usize, outcome, payload, edited| {
        let request_id = requests[at].clone();
        Change::Respond(RespondInput { session_id: None, task_id: task, request_id, outcome, payload, edited_arguments: edited })
    };
    let before = bench.log.len();
    let wrong = bench.ask(answer(0, InputOutcome::Accept, None, Some(json!({ "n": "many" }))));
    assert_eq!(wrong.expect_err("edited badly"), ErrorCode::InvalidMessage);
    assert_eq!(bench.log.len(), before, "nothing was changed");
    bench.ask(answer(0, InputOutcome::Accept, None, Some(json!({ "n": 7 })))).expect("edited well");
    bench.ask(answer(1, InputOutcome::Reject, Some(json!("too dear")), None)).expect("refused");
    // What was allowed survives a restart.
    bench.state = bench.refolded();
    bench.start().expect("goes on");
    let Work::Tools(calls) = bench.next(task, None) else { panic!("{:?}", bench.types()) };
    assert_eq!((calls.len(), &calls[0].arguments), (1, &json!({ "n": 7 })));
    assert_eq!(results(&bench, task)[1], (None, Some("refused".into())));
    assert!(bench.log.iter().any(|event| matches!(&event.body,
        EventBody::ToolResult(result) if result.error.as_deref() == Some("A person did not allow this call: too dear"))));
}

#[test]
fn a_sub_agent_works_beside_its_task_and_its_answer_is_the_result() {
    let mut bench = Bench::new();
    let (task, work) = called(&mut bench, &[("delegate_task", json!({ "agent": "helper", "task": "sum up" }))]);
    assert!(matches!(work, Work::Wait), "{work:?}");
    let [child] = bench.state.children_to_start()[..] else { panic!("{:?}", bench.types()) };
    bench.with(|state, out| state.start(child, out));
    let Work::Model(ask) = bench.next(child, None) else { panic!("calls its model") };
    assert_eq!(ask.messages, [ModelMessage::User("sum up".into())], "it sees its task and nothing else");
    bench.say(child, "the sum");
    let call = ModelToolCall { call_id: "x".into(), tool: "delegate_task".into(), arguments: json!({ "agent": "default", "task": "x" }) };
    bench.with(|state, out| state.tool_called(child, call, out));
    assert!(matches!(bench.next(child, END), Work::Model(_)), "handing it back is refused, and said to its model");
    assert_eq!(results(&bench, child), [(None, Some("refused".into()))]);
    bench.say(child, "done");
    assert!(matches!(bench.next(child, END), Work::Nothing));
    assert_eq!(results(&bench, task), [(Some(json!("done")), None)]);
    let Work::Model(ask) = bench.next(task, None) else { panic!("goes on") };
    assert_eq!(ask.messages.len(), 3, "what was said to the sub-agent is no part of the conversation: {:?}", ask.messages);
    // Four calls were made: the budget is one.
    bench.say(task, "and so on");
    assert_eq!(bench.state.task(task).expect("known").model_calls, 4);
    bench.next(task, END);
    assert_eq!(bench.status(1), TaskStatus::Completed);
    let messages = bench.state.snapshot(true).messages;
    assert_eq!(messages.iter().map(|message| message.text.as_str()).collect::<Vec<_>>(), ["prompt 1", "and so on"]);
}

#[test]
fn a_question_of_a_sub_agent_suspends_all_it_belongs_to() {
    let mut bench = Bench::new();
    let (task, _) = called(&mut bench, &[("delegate_task", json!({ "agent": "helper", "task": "ask somebody" }))]);
    let child = bench.state.children_to_start()[0];
    bench.with(|state, out| state.start(child, out));
    bench.next(child, None);
    let call = ModelToolCall { call_id: "x".into(), tool: "ask_user".into(), arguments: json!({ "question": "?" }) };
    bench.with(|state, out| state.tool_called(child, call, out));
    assert!(matches!(bench.next(child, END), Work::Nothing));
    assert!(matches!(bench.next(task, None), Work::Nothing));
    assert!(bench.state.active.is_empty(), "the slot is free");
    bench.state = bench.refolded();
    assert_eq!(bench.ask(Change::Resume { task, data: None, step: None }).expect_err("somebody is asked"), ErrorCode::Busy);
    respond(&mut bench, true);
    assert_eq!(bench.start(), Some(task));
    assert!(matches!(bench.next(task, None), Work::Wait));
    assert_eq!(bench.state.children_to_start(), [child]);
}

#[test]
fn a_cancel_stops_the_innermost_first_and_the_task_last() {
    let mut bench = Bench::new();
    let (task, _) = called(&mut bench, &[("delegate_task", json!({ "agent": "helper", "task": "one" }))]);
    let child = bench.state.children_to_start()[0];
    bench.with(|state, out| state.start(child, out));
    bench.next(child, None);
    let call = ModelToolCall { call_id: "x".into(), tool: "delegate_task".into(), arguments: json!({ "agent": "other", "task": "two" }) };
    bench.with(|state, out| state.tool_called(child, call, out));
    bench.next(child, END);
    let last = bench.state.children_to_start()[0];
    bench.with(|state, out| state.start(last, out));
    bench.next(last, None);
    bench.say(last, "half a wo");
    bench.ask(Change::Cancel { task, reason: Some("enough".into()) }).expect("runs");
    assert!(bench.state.active.iter().all(|active| active.stop.is_some()), "all are stopped");
    while let Some(active) = bench.state.active.last() {
        let stopped = active.task;
        bench.with(|state, out| state.stopped(stopped, true, out));
    }
    let ends: Vec<TaskId> =
        bench.log.iter().filter(|event| event.body.event_type().is_terminal()).filter_map(|event| event.task_id).collect();
    assert_eq!(ends, [last, child, task]);
    assert_eq!(bench.log.last().map(|event| event.body.event_type()), Some(EventType::TaskCancelled));
}

#[test]
fn what_a_resume_brings_stands_behind_the_result_of_a_call_that_was_open() {
    let mut bench = Bench::new();
    let go = |bench: &mut Bench, workers: &mut Workers, ops: Vec<Op>| ops.into_iter().for_each(|op| drive(bench, workers, op));
    let mut workers = Workers::default();
    bench.submit(1, OnBusy::Queue).expect("taken");
    go(&mut bench, &mut workers, vec![Op::Start, Op::Next, Op::Call("echo"), Op::Suspend(1), Op::Gone]);
    assert_eq!(bench.status(1), TaskStatus::Suspended);
    go(&mut bench, &mut workers, vec![Op::Resume(1), Op::Start, Op::Next, Op::Next]);
    let Some(Work::Model(ask)) = workers.todo(bench.state.active[0].task) else { panic!("{:?}", bench.types()) };
    assert!(matches!(&ask.messages[2..], [ModelMessage::ToolResult { .. }, ModelMessage::User(data)] if data == "go on"), "{ask:?}");
}

#[test]
fn a_restart_runs_a_task_again_and_then_gives_up() {
    let mut bench = Bench::new();
    bench.submit(1, OnBusy::Queue).expect("taken");
    let task = bench.start().expect("free");
    bench.next(task, None);
    bench.say(task, "void");
    bench.state = bench.refolded();
    bench.with(|state, out| state.recover(&SETTINGS, false, out));
    let EventBody::TaskRecovering(again) = bench.log.last().expect("events").body.clone() else { panic!("{:?}", bench.types()) };
    let step_started = bench.log.iter().find(|e| e.body.event_type() == EventType::Step).expect("a step").seq;
    assert_eq!((again.attempt, again.discard_after), (2, step_started));
    bench.start().expect("runs again");
    let Work::Model(ask) = bench.next(task, None) else { panic!("calls the model") };
    assert_eq!(ask.messages, [ModelMessage::User("prompt 1".into())], "void text is not shown to the model");
    bench.say(task, "second");
    bench.state = bench.refolded();
    bench.with(|state, out| state.recover(&SETTINGS, false, out));
    let EventBody::TaskFailed(end) = &bench.log.last().expect("events").body else { panic!("{:?}", bench.types()) };
    assert_eq!((end.code, end.partial.as_str()), (ErrorCode::Interrupted, "second"));
}

#[test]
fn all_of_a_message_is_void_also_where_something_came_in_the_middle_of_it() {
    let mut bench = Bench::new();
    bench.submit(1, OnBusy::Queue).expect("taken");
    let task = bench.start().expect("free");
    bench.next(task, None);
    bench.say(task, "first ");
    let first_token = bench.log.last().expect("events").seq;
    let steer = NewSteer { task, id: TaskId::random(), input: "steer".into(), when: SteerWhen::NextStep };
    bench.ask(Change::Steer(steer)).expect("waits for a step");
    bench.say(task, "half");
    bench.state = bench.refolded();
    bench.with(|state, out| state.recover(&SETTINGS, false, out));
    let EventBody::TaskRecovering(again) = bench.log.last().expect("events").body.clone() else { panic!("{:?}", bench.types()) };
    assert_eq!(again.discard_after, first_token - 1);
}

#[test]
fn steering_comes_in_before_the_next_call_and_gets_one_receipt() {
    let mut bench = Bench::new();
    bench.submit(1, OnBusy::Queue).expect("taken");
    let task = bench.start().expect("free");
    bench.next(task, None);
    bench.say(task, "long answ");
    let steer = NewSteer { task, id: TaskId::random(), input: "  shorter ".into(), when: SteerWhen::Now };
    bench.ask(Change::Steer(steer)).expect("runs");
    assert!(bench.state.active_of(task).is_some_and(|active| active.abort_call && active.stop.is_none()));
    let Work::Model(ask) = bench.next(task, Some(CallReport::Aborted)) else { panic!("calls again") };
    let expected = [
        ModelMessage::User("prompt 1".into()),
        ModelMessage::Assistant { text: "long answ".into(), tool_calls: Vec::new() },
        ModelMessage::User("  shorter ".into()),
    ];
    assert_eq!(ask.messages, expected, "verbatim, after the partial text");
}

#[derive(Clone, Debug)]
enum Op {
    Submit(u8, OnBusy),
    Cancel(u8),
    Steer(u8, SteerWhen),
    Suspend(u8),
    Resume(u8),
    Respond(bool),
    Provide(bool),
    CancelChild,
    Start,
    Next,
    Say(String),
    Think,
    Call(&'static str),
    Fail,
    Gone,
    Later(u16),
    Restart(bool),
    End,
}

fn op() -> impl Strategy<Value = Op> {
    let task = 0..6_u8;
    let busy = prop_oneof![
        4 => Just(OnBusy::Queue),
        1 => Just(OnBusy::Reject),
        1 => Just(OnBusy::Interrupt),
        1 => Just(OnBusy::Rollback),
        1 => Just(OnBusy::Steer)
    ];
    let when = prop_oneof![Just(SteerWhen::NextStep), Just(SteerWhen::Now)];
    prop_oneof![
        6 => (task.clone(), busy).prop_map(|(n, busy)| Op::Submit(n, busy)),
        2 => task.clone().prop_map(Op::Cancel),
        2 => (task.clone(), when).prop_map(|(n, when)| Op::Steer(n, when)),
        1 => task.clone().prop_map(Op::Suspend),
        2 => task.clone().prop_map(Op::Resume),
        3 => any::<bool>().prop_map(Op::Respond),
        1 => any::<bool>().prop_map(Op::Provide),
        1 => Just(Op::CancelChild),
        6 => Just(Op::Start),
        10 => Just(Op::Next),
        8 => "[a-z ]{1,5}".prop_map(Op::Say),
        1 => Just(Op::Think),
        6 => prop_oneof![
            Just("ask_user"),
            Just("web_search"),
            Just("nonsense"),
            Just("echo"),
            Just("guarded"),
            Just("where"),
            Just("delegate_task"),
            Just("delegate_task")
        ]
        .prop_map(Op::Call),
        1 => Just(Op::Fail),
        3 => Just(Op::Gone),
        2 => any::<u16>().prop_map(Op::Later),
        1 => any::<bool>().prop_map(Op::Restart),
        1 => Just(Op::End),
    ]
}

/// What a runner would do between two inputs: one report at a time, in the order a real one keeps.
#[derive(Default)]
struct Worker {
    todo: Option<Work>,
    begun: bool,
    /// Of an execution: the calls that are being made.
    running: Vec<Call>,
}

/// The workers of the tasks at work.
#[derive(Default)]
struct Workers {
    of: HashMap<TaskId, Worker>,
    /// Moves on with every input, so that each of them has its turn.
    turn: usize,
}

impl Workers {
    fn todo(&self, task: TaskId) -> Option<&Work> {
        self.of.get(&task)?.todo.as_ref()
    }

    /// Makes the work follow the state, as the actor does.
    fn settle(&mut self, bench: &mut Bench) {
        while let Some(task) = self.waiting(bench) {
            let work = bench.next(task, None);
            let waits = matches!(work, Work::Wait);
            let worker = self.of.entry(task).or_default();
            if let Work::Flow { start, drop } = &work {
                worker.running.retain(|call| !drop.contains(&call.id));
                worker.running.extend(start.iter().cloned());
            }
            worker.todo = Some(work);
            if waits {
                break;
            }
        }
        for child in bench.state.children_to_start() {
            bench.with(|state, out| state.start(child, out));
            self.of.insert(child, Worker::default());
        }
        self.of.retain(|task, _| bench.state.active_of(*task).is_some());
    }

    /// The innermost task that waits for another.
    fn waiting(&self, bench: &Bench) -> Option<TaskId> {
        let waits = |task: &TaskId| matches!(self.todo(*task), Some(Work::Wait));
        bench.state.active.iter().rev().map(|active| active.task).find(waits)
    }
}

fn drive(bench: &mut Bench, workers: &mut Workers, op: Op) {
    workers.turn += 1;
    let id = |n: u8| new_task(u128::from(n)).id;
    let at_work = &bench.state.active;
    let active = (!at_work.is_empty()).then(|| at_work[workers.turn % at_work.len()].task);
    let calling = active.is_some_and(|task| matches!(workers.todo(task), Some(Work::Model(_))));
    match (op, active) {
        (Op::Submit(n @ 4.., on_busy), _) => drop(bench.ask(Change::Submit(NewTask { on_busy, ..new_flow(n.into()) }))),
        (Op::Submit(n, busy), _) => drop(bench.submit(u128::from(n), busy)),
        (Op::Cancel(n), _) => drop(bench.ask(Change::Cancel { task: id(n), reason: None })),
        (Op::CancelChild, Some(task)) => drop(bench.ask(Change::Cancel { task, reason: None })),
        (Op::Steer(n, when), _) => {
            let steer = NewSteer { task: id(n), id: TaskId::random(), input: "steer".into(), when };
            drop(bench.ask(Change::Steer(steer)));
        }
        (Op::Suspend(n), _) => drop(bench.ask(Change::Suspend { task: id(n), reason: None })),
        (Op::Resume(n), _) => drop(bench.ask(Change::Resume { task: id(n), data: Some(json!("go on")), step: None })),
        (Op::Respond(yes), _) => respond(bench, yes),
        (Op::Provide(there), _) => {
            let tool = ClientTool { name: "where".into(), description: None, parameters: None };
            let change = if there { (vec![tool], Vec::new()) } else { (Vec::new(), vec!["where".to_owned()]) };
            drop(bench.ask(Change::ProvideTools { tools: change.0, gone: change.1 }));
        }
        (Op::Start, None) => {
            bench.start();
            *workers = Workers { turn: workers.turn, ..Workers::default() };
        }
        (Op::Next, Some(task)) => go_on(bench, workers, task),
        (Op::Say(text), Some(task)) if calling => bench.say(task, &text),
        (Op::Think, Some(task)) if calling => bench.with(|state, out| state.stream(task, vec![Delta::Reasoning("hm".into())], out)),
        (Op::Call(tool), Some(task)) if calling => {
            let agent = if workers.turn.is_multiple_of(2) { "other" } else { "helper" };
            let arguments = json!({ "question": "?", "agent": agent, "task": "do it" });
            let call = ModelToolCall { call_id: "v".into(), tool: tool.into(), arguments };
            bench.with(|state, out| state.tool_called(task, call, out));
        }
        (Op::Fail, Some(task)) if calling => {
            let error = ProviderError { kind: ProviderErrorKind::Status(500), message: "500".into(), retry_after: None };
            bench.with(|state, out| state.provider_failed(task, &error, out));
        }
        (Op::Gone, Some(_)) => {
            if let Some(task) = bench.state.active.iter().rev().find(|active| active.stop.is_some()).map(|active| active.task) {
                bench.with(|state, out| state.stopped(task, true, out));
            }
        }
        (Op::Later(ms), _) => {
            bench.now += i64::from(ms);
            bench.with(|state, out| state.on_time(&SETTINGS, out));
        }
        (Op::Restart(failed_store), _) => {
            bench.state = bench.refolded();
            bench.with(|state, out| state.recover(&SETTINGS, failed_store, out));
            *workers = Workers::default();
        }
        (Op::End, _) if bench.log.len() > 40 => drop(bench.ask(Change::End("ended"))),
        _ => {}
    }
    workers.settle(bench);
}

/// The next report of a task's worker.
fn go_on(bench: &mut Bench, workers: &mut Workers, task: TaskId) {
    let worker = workers.of.entry(task).or_default();
    let aborted = bench.state.active_of(task).is_some_and(|active| active.abort_call);
    let report = match &worker.todo {
        _ if !worker.begun => None,
        Some(Work::Model(_)) if aborted => Some(CallReport::Aborted),
        Some(Work::Model(_)) => END,
        Some(Work::Tools(calls)) => {
            let calls = calls.clone();
            calls.iter().for_each(|call| bench.with(|state, out| state.tool_started(task, call, out)));
            for call in calls.iter().rev() {
                bench.with(|state, out| state.tool_said(task, call.id.clone(), "says".into(), out));
                let failed = Err(ToolError::new(ToolErrorCode::Failed, "no"));
                bench.with(|state, out| state.tool_ended(task, call, failed, Duration::ZERO, out));
            }
            None
        }
        // One of the calls of an execution ends while others go on.
        Some(Work::Wait) if !worker.running.is_empty() => {
            let call = worker.running.remove(0);
            let result = if call.id.ends_with('7') { Err(ToolError::new(ToolErrorCode::Failed, "no")) } else { Ok(json!("done")) };
            bench.with(|state, out| state.tool_ended(task, &call, result, Duration::ZERO, out));
            None
        }
        Some(Work::Flow { .. }) => None,
        Some(Work::Wait | Work::Nothing) | None => return,
    };
    worker.begun = true;
    let work = bench.next(task, report);
    let worker = workers.of.entry(task).or_default();
    if let Work::Flow { start, drop } = &work {
        worker.running.retain(|call| !drop.contains(&call.id));
        for call in start {
            assert!(worker.running.iter().all(|running| running.id != call.id), "no call is made twice at once");
            worker.running.push(call.clone());
        }
    }
    worker.todo = Some(work);
}

fn respond(bench: &mut Bench, yes: bool) {
    let asked = bench.state.tasks.iter().rev().find_map(|task| Some((task.id, task.inputs.first()?.clone())));
    let Some((task_id, request)) = asked else { return };
    if request.kind == InputKind::Tool {
        let offered = bench.state.calls_for_clients();
        let offer = offered.iter().find(|offer| Some(&offer.call_id) == request.call_id.as_ref()).expect("it is offered");
        let (output, error) = if yes { (Some(json!("here")), None) } else { (None, Some("no permission".to_owned())) };
        let result = ClientToolResult { session_id: None, task_id, call_id: offer.call_id.clone(), output, error };
        bench.ask(Change::ToolResult(result.clone())).expect("the first result counts");
        let again = bench.ask(Change::ToolResult(result)).expect_err("and no other");
        assert!(matches!(again, ErrorCode::AlreadyResolved | ErrorCode::AlreadyTerminal), "{again:?}");
        return;
    }
    let outcome = if yes { InputOutcome::Accept } else { InputOutcome::Reject };
    let answer = RespondInput { session_id: None, task_id, request_id: request.request_id, outcome, payload: None, edited_arguments: None };
    bench.ask(Change::Respond(answer)).expect("whoever asks takes an answer");
}

fn check_log(log: &[Event]) {
    let mut ended: HashMap<TaskId, EventType> = HashMap::new();
    let mut steers: HashMap<TaskId, u32> = HashMap::new();
    let mut cancelling: HashMap<TaskId, bool> = HashMap::new();
    let mut parents: HashMap<TaskId, TaskId> = HashMap::new();
    let mut results: HashMap<(TaskId, &str), u32> = HashMap::new();
    for (at, event) in log.iter().enumerate() {
        assert_eq!(event.seq, at as u64 + 1, "dense");
        let kind = event.body.event_type();
        assert_eq!(kind == EventType::SessionCreated, at == 0);
        let Some(task) = event.task_id else { continue };
        assert!(!ended.contains_key(&task), "{kind:?} of {task} after its end");
        match &event.body {
            EventBody::SteerAccepted(steer) => drop(steers.insert(steer.steer_id, 0)),
            EventBody::SteerApplied(steer) => *steers.get_mut(&steer.steer_id).expect("accepted before") += 1,
            EventBody::SteerRejected(steer) => *steers.get_mut(&steer.steer_id).expect("accepted before") += 1,
            EventBody::CancelRequested(_) => drop(cancelling.insert(task, true)),
            EventBody::TaskQueued(queued) => {
                if let Some(parent) = queued.parent_task_id {
                    assert!(!ended.contains_key(&parent), "work is handed on by who is at it");
                    parents.insert(task, parent);
                }
            }
            EventBody::ToolResult(result) => *results.entry((task, &result.call_id)).or_default() += 1,
            _ => {}
        }
        if kind.is_terminal() {
            if cancelling.contains_key(&task) {
                assert_eq!(kind, EventType::TaskCancelled, "a requested cancel is what happens");
            }
            ended.insert(task, kind);
            let open = parents.iter().find(|(child, parent)| **parent == task && !ended.contains_key(*child));
            assert!(open.is_none(), "{open:?} goes on after what it belongs to has ended");
        }
    }
    assert!(results.values().all(|results| *results == 1), "one result for a call: {results:?}");
    assert!(steers.values().all(|receipts| *receipts <= 1));
}

/// What a strict vendor would refuse.
fn check_messages(messages: &[ModelMessage]) {
    let mut open: Vec<&str> = Vec::new();
    for message in messages {
        match message {
            ModelMessage::ToolResult { call_id, .. } => {
                let at = open.iter().position(|id| id == call_id).expect("a result follows its call");
                open.remove(at);
            }
            ModelMessage::User(_) | ModelMessage::Assistant { .. } => {
                assert!(open.is_empty(), "calls without results: {open:?} in {messages:?}");
                if let ModelMessage::Assistant { text, tool_calls } = message {
                    assert!(!text.is_empty() || !tool_calls.is_empty(), "an empty turn");
                    open.extend(tool_calls.iter().map(|call| call.call_id.as_str()));
                }
            }
        }
    }
    assert!(open.is_empty());
    assert!(matches!(messages.first(), Some(ModelMessage::User(_))));
    assert!(!matches!(messages.last(), Some(ModelMessage::Assistant { .. })));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn whatever_happens_the_log_keeps_its_promises(ops in proptest::collection::vec(op(), 1..120)) {
        let mut bench = Bench::new();
        let mut workers = Workers::default();
        for op in ops {
            drive(&mut bench, &mut workers, op);
            for worker in workers.of.values() {
                if let Some(Work::Model(ask)) = &worker.todo {
                    check_messages(&ask.messages);
                }
            }
        }
        check_log(&bench.log);
        let mut folded = bench.refolded();
        // What is about this process is not folded; nor is the moment a resumed task got its slot.
        folded.active = bench.state.active.clone();
        folded.ending = bench.state.ending;
        let strip = |state: &SessionState| {
            let mut json = serde_json::to_value(state).expect("plain data");
            for task in json["tasks"].as_array_mut().expect("tasks") {
                task["running_since"] = json!(null);
                task["ran"] = json!(null);
            }
            json["next_id"] = json!(null);
            json
        };
        prop_assert_eq!(strip(&folded), strip(&bench.state), "a restart changes nothing");
        // Whoever is left can be ended, and then everything has ended.
        drop(bench.ask(Change::End("ended")));
        while let Some(task) = bench.state.active.last().map(|active| active.task) {
            bench.with(|state, out| state.stopped(task, true, out));
        }
        check_log(&bench.log);
        prop_assert_eq!(bench.log.last().expect("events").body.event_type(), EventType::SessionEnded);
    }
}
