//! How far an execution has come: the fold of its events.

use std::collections::BTreeMap;

use agent_hub_protocol::{
    Timestamp,
    event::{Replay, Step, StepPhase},
};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// What has happened to an execution. Steps go by their place in the workflow: `review`, `fan.left.look`, `each[2].send`.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Progress {
    /// What the workflow was given.
    pub input: Value,
    /// What settled steps came to, in the order in which they settled. Of those inside another step only until that has settled.
    pub outputs: Map<String, Value>,
    /// Steps that have begun and not settled.
    pub begun: BTreeMap<String, Begun>,
    /// Steps that went wrong since they last went well.
    pub failures: BTreeMap<String, Failure>,
    /// What a step is given instead of what comes out of the one before it.
    pub instead: Option<(String, Value)>,
    /// The data of the last resume, for the steps behind it.
    pub resume_data: Option<Value>,
    /// The step that settled last, if that was since the execution was last suspended.
    fresh: Option<String>,
}

/// A step that has begun.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Begun {
    /// What it was given.
    pub input: Value,
    /// When it waits no longer.
    pub until: Option<Timestamp>,
    /// The call it makes.
    pub call: Option<String>,
    /// The tool that is called.
    pub tool: Option<String>,
    /// Its number among the steps of the execution.
    pub index: u32,
}

/// A step that went wrong.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Failure {
    /// How often.
    pub count: u32,
    /// Last.
    pub at: Timestamp,
    /// Why.
    pub message: String,
}

impl Progress {
    /// An execution that begins; where it repeats another one, behind the steps it takes over.
    pub fn new(input: Value, replay: Option<&Replay>) -> Self {
        let outputs = replay.map(|replay| replay.outputs.clone()).unwrap_or_default();
        let instead = replay.and_then(|replay| Some((replay.step_id.clone(), replay.input.clone()?)));
        Self { input, outputs, instead, ..Self::default() }
    }

    /// A step began or settled.
    pub fn note(&mut self, step: &Step, at: Timestamp) {
        let output = || step.output.clone().unwrap_or_default();
        match step.phase {
            StepPhase::Started => {
                let begun = Begun {
                    input: step.input.clone().unwrap_or_default(),
                    until: step.until,
                    call: step.call_id.clone(),
                    tool: step.tool.clone(),
                    index: step.index,
                };
                self.begun.insert(step.name.clone(), begun);
            }
            StepPhase::Completed => {
                self.forget_inside(&step.name);
                self.begun.remove(&step.name);
                self.failures.remove(&step.name);
                self.outputs.insert(step.name.clone(), output());
                self.fresh = Some(step.name.clone());
            }
            StepPhase::Failed => {
                self.forget_inside(&step.name);
                self.begun.remove(&step.name);
                let message = output().as_str().map_or_else(|| "it failed".to_owned(), str::to_owned);
                let count = self.failures.get(&step.name).map_or(0, |failure| failure.count) + 1;
                self.failures.insert(step.name.clone(), Failure { count, at, message });
            }
        }
    }

    /// The execution was suspended.
    pub fn suspended(&mut self) {
        self.fresh = None;
    }

    /// The execution was resumed. Where that names a step that has settled, it and everything behind it is to be done again.
    pub fn resumed(&mut self, step: Option<&str>, data: Option<&Value>) {
        self.resume_data = data.cloned();
        let Some(step) = step else { return };
        // A step that waited for the data has just settled with it.
        if self.fresh.as_deref() == Some(step) {
            return;
        }
        if self.outputs.contains_key(step) {
            let kept = self.outputs.keys().take_while(|settled| *settled != step).count();
            let behind: Vec<String> = self.outputs.keys().skip(kept).cloned().collect();
            behind.iter().for_each(|settled| drop(self.outputs.shift_remove(settled)));
        }
        self.begun.clear();
        self.failures.clear();
    }

    /// Steps inside of this one that have begun.
    pub fn begun_inside<'a>(&'a self, step: &'a str) -> impl Iterator<Item = (&'a String, &'a Begun)> {
        self.begun.iter().filter(move |(path, _)| is_inside(path, step))
    }

    /// The step that makes a call.
    pub fn step_of_call(&self, call: &str) -> Option<&str> {
        self.begun.iter().find(|(_, begun)| begun.call.as_deref() == Some(call)).map(|(path, _)| path.as_str())
    }

    /// When the first of the waiting steps waits no longer.
    pub fn next_due(&self) -> Option<Timestamp> {
        self.begun.values().filter_map(|begun| begun.until).min()
    }

    fn forget_inside(&mut self, step: &str) {
        self.outputs.retain(|path, _| !is_inside(path, step));
        self.begun.retain(|path, _| !is_inside(path, step));
        self.failures.retain(|path, _| !is_inside(path, step));
    }
}

/// Whether a step stands inside another one.
pub(super) fn is_inside(path: &str, of: &str) -> bool {
    path.strip_prefix(of).is_some_and(|rest| rest.starts_with(['.', '[']))
}
