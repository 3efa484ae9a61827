//! What is to be done next in an execution that has come so far.
//!
//! The definition is walked from its first step on every time, and what has settled is passed over: so a restart needs nothing but the
//! events of the log, and an execution that was stopped anywhere goes on at the right step.

use std::{cell::RefCell, time::Duration};

use agent_hub_protocol::Timestamp;
use serde_json::{Map, Value};

use super::{
    Workflows,
    definition::{Action, Sleep, Step, Workflow},
    form::Form,
    progress::Progress,
};
use crate::{
    expression::{Expression, ExpressionError},
    schema,
};

/// Items of one `for_each`.
const MAX_ITEMS: usize = 1000;
/// The longest wait before a step is repeated.
const MAX_RETRY_DELAY: Duration = Duration::from_secs(3600);

/// What follows.
#[derive(Clone, Debug, PartialEq)]
pub enum Plan {
    /// The execution is over, with this result.
    Done(Value),
    /// It is over because of this step.
    Failed {
        /// Which.
        step: String,
        /// Why.
        message: String,
    },
    /// Steps that begin, settle, or wait.
    Go(Vec<Due>),
}

/// What a step is about to do.
#[derive(Clone, Debug, PartialEq)]
pub struct Due {
    /// Its place in the workflow.
    pub step: String,
    /// What it does.
    pub what: What,
}

/// See [`Due`].
#[derive(Clone, Debug, PartialEq)]
pub enum What {
    /// It begins, with this input, and what is inside of it follows.
    Enter(Value),
    /// It is done at once: what it was given, and what came of it.
    Compute(Value, Result<Value, String>),
    /// It has begun, and settles.
    Settle(Result<Value, String>),
    /// It calls a tool.
    Call {
        /// What it was given.
        input: Value,
        /// Which.
        tool: String,
        /// With what.
        arguments: Value,
        /// Whether a person is asked first.
        approve: bool,
    },
    /// It has an agent work.
    Ask {
        /// What it was given.
        input: Value,
        /// Which; the session's if `None`.
        agent: Option<String>,
        /// On what.
        prompt: String,
        /// Options of its model calls.
        options: Map<String, Value>,
    },
    /// It begins to wait.
    Rest {
        /// What it was given.
        input: Value,
        /// Until when.
        until: Timestamp,
    },
    /// It begins to wait for data.
    Suspend {
        /// What it was given.
        input: Value,
        /// Until when.
        until: Option<Timestamp>,
    },
    /// It waits for data that must look like this.
    WaitForData {
        /// Why, for people.
        reason: String,
        /// What whoever gives it should know.
        data: Option<Value>,
        /// What it must look like.
        schema: Option<Value>,
        /// Until when.
        until: Option<Timestamp>,
    },
    /// It waits for a time: of its own, or before it is repeated.
    WaitUntil(Timestamp),
    /// Nobody came in time.
    TimedOut,
    /// It is at work.
    AtWork,
}

/// An execution at one moment.
#[derive(Clone, Copy, Debug)]
pub struct Execution<'a> {
    /// All workflows.
    pub workflows: &'a Workflows,
    /// The one that is executed.
    pub workflow: &'a Workflow,
    /// How far it has come.
    pub progress: &'a Progress,
    /// What is known of the user.
    pub user_context: &'a Value,
    /// The time.
    pub now: Timestamp,
}

/// How a list of steps, or a step, stands.
enum Stand {
    Done(Value),
    Open,
    Failed { step: String, message: String },
}

/// What expressions can name.
struct Scope<'a> {
    outer: Option<&'a Scope<'a>>,
    /// Settled steps of this list.
    steps: RefCell<Vec<(String, Value)>>,
    item: Option<(usize, &'a Value)>,
    /// What the workflow was given.
    input: &'a Value,
}

impl Execution<'_> {
    /// What follows.
    pub fn plan(&self) -> Plan {
        let mut due = Vec::new();
        let scope = Scope { outer: None, steps: RefCell::default(), item: None, input: &self.progress.input };
        match self.list(&self.workflow.steps, "", self.progress.input.clone(), &scope, &mut due) {
            Stand::Done(last) => match self.result(self.workflow, last, &scope) {
                Ok(result) => Plan::Done(result),
                Err(error) => Plan::Failed { step: "result".to_owned(), message: error.to_string() },
            },
            Stand::Failed { step, message } => Plan::Failed { step, message },
            Stand::Open => Plan::Go(due),
        }
    }

    /// What the step that waits for data is waiting for, and what it would come to with this.
    ///
    /// # Errors
    /// Why the data does not fit.
    pub fn check_data(schema: Option<&Value>, data: &Value) -> Result<(), String> {
        // It compiled when the definition was read.
        schema.map_or(Ok(()), |schema| schema::check(schema, data))
    }

    fn list(&self, steps: &[Step], inside: &str, input: Value, scope: &Scope<'_>, due: &mut Vec<Due>) -> Stand {
        let mut data = input;
        for step in steps {
            let path = if inside.is_empty() { step.id.clone() } else { format!("{inside}.{}", step.id) };
            if let Some((_, instead)) = self.progress.instead.as_ref().filter(|(at, _)| *at == path) {
                data = instead.clone();
            }
            match self.step(step, path, data, scope, due) {
                Stand::Done(output) => {
                    scope.steps.borrow_mut().push((step.id.clone(), output.clone()));
                    data = output;
                }
                other => return other,
            }
        }
        Stand::Done(data)
    }

    fn step(&self, step: &Step, path: String, input: Value, scope: &Scope<'_>, due: &mut Vec<Due>) -> Stand {
        if let Some(output) = self.progress.outputs.get(&path) {
            return Stand::Done(output.clone());
        }
        let begun = self.progress.begun.get(&path);
        if let Some(failure) = self.progress.failures.get(&path).filter(|_| begun.is_none()) {
            if failure.count > step.retries {
                return if step.goes_on {
                    Stand::Done(Value::Null)
                } else {
                    Stand::Failed { step: path, message: failure.message.clone() }
                };
            }
            let doublings = failure.count.saturating_sub(1).min(16);
            let again = failure.at.plus((step.retry_delay * (1 << doublings)).min(MAX_RETRY_DELAY));
            if self.now < again {
                due.push(Due { step: path, what: What::WaitUntil(again) });
                return Stand::Open;
            }
        }
        let what = match begun {
            None => self.begins(step, input, scope),
            Some(begun) => match self.goes_on(step, &path, begun.input.clone(), begun.until, scope, due) {
                Some(what) => what,
                None => return Stand::Open,
            },
        };
        due.push(Due { step: path, what });
        Stand::Open
    }

    /// What a step does first.
    fn begins(&self, step: &Step, input: Value, scope: &Scope<'_>) -> What {
        let begun = || -> Result<What, String> {
            let made = |form: &Form| self.evaluate(form, &input, scope).map_err(|error| error.to_string());
            Ok(match &step.action {
                Action::Transform(form) => What::Compute(input.clone(), made(form)),
                Action::Tool { tool, arguments, approve } => {
                    What::Call { tool: tool.clone(), arguments: made(arguments)?, approve: *approve, input: input.clone() }
                }
                Action::Agent { agent, prompt, options } => {
                    let prompt = text(made(prompt)?);
                    if prompt.trim().is_empty() {
                        return Err("the prompt is empty".to_owned());
                    }
                    What::Ask { agent: agent.clone(), prompt, options: options.clone(), input: input.clone() }
                }
                Action::Condition { .. } | Action::Parallel { .. } => What::Enter(input.clone()),
                Action::ForEach { items, .. } => {
                    let items = items.as_ref().map_or_else(|| Ok(input.clone()), made)?;
                    match items.as_array().map(Vec::len) {
                        Some(count) if count <= MAX_ITEMS => What::Enter(items),
                        Some(count) => return Err(format!("there are {count} items, more than {MAX_ITEMS}")),
                        None => return Err("the items are not a list".to_owned()),
                    }
                }
                Action::Sleep(Sleep::For(time)) => What::Rest { until: self.now.plus(*time), input: input.clone() },
                Action::Sleep(Sleep::Until(form)) => {
                    let time = text(made(form)?);
                    let until = time.parse().map_err(|_| format!("{time:?} is not a time such as 2026-01-31T09:00:00.000Z"))?;
                    What::Rest { until, input: input.clone() }
                }
                Action::Suspend { timeout, .. } => What::Suspend { until: timeout.map(|time| self.now.plus(time)), input: input.clone() },
                Action::Workflow { workflow, input: given } => {
                    let given = given.as_ref().map_or_else(|| Ok(input.clone()), made)?;
                    let nested = self.workflows.get(workflow).ok_or_else(|| format!("there is no workflow {workflow}"))?;
                    Self::check_data(nested.input.as_ref(), &given)
                        .map_err(|why| format!("the input of {workflow} does not fit: {why}"))?;
                    What::Enter(given)
                }
            })
        };
        begun().unwrap_or_else(|why| What::Compute(input.clone(), Err(why)))
    }

    /// What a step that has begun does; `None` where only what is inside of it does something.
    fn goes_on(
        &self,
        step: &Step,
        path: &str,
        input: Value,
        until: Option<Timestamp>,
        scope: &Scope<'_>,
        due: &mut Vec<Due>,
    ) -> Option<What> {
        let over = until.is_some_and(|until| until <= self.now);
        match &step.action {
            // They do not begin without settling, or somebody else is at it.
            Action::Transform(_) | Action::Tool { .. } | Action::Agent { .. } => Some(What::AtWork),
            Action::Sleep(_) if over => Some(What::Settle(Ok(input))),
            Action::Sleep(_) => until.map(What::WaitUntil),
            Action::Suspend { default: Some(default), .. } if over => Some(What::Settle(self.say(default, &input, scope))),
            Action::Suspend { .. } if over => Some(What::TimedOut),
            Action::Suspend { reason, data, resume, .. } => {
                let made = |form: &Form| self.evaluate(form, &input, scope).ok();
                let reason = reason.as_ref().and_then(made).map_or_else(|| format!("{} waits for data", step.id), text);
                Some(What::WaitForData { reason, data: data.as_ref().and_then(made), schema: resume.clone(), until })
            }
            Action::Condition { test, then, otherwise } => {
                let chosen = match self.test(test, &input, scope) {
                    Ok(true) => then,
                    Ok(false) => otherwise,
                    Err(error) => return Some(What::Settle(Err(error.to_string()))),
                };
                settled(self.list(chosen, path, input, &scope.inner(), due))
            }
            Action::Parallel { race, branches, named } => self.branches(path, *race, branches, *named, &input, scope, due),
            Action::ForEach { concurrency, steps, .. } => self.items(path, steps, *concurrency, &input, scope, due),
            Action::Workflow { workflow, .. } => {
                let Some(nested) = self.workflows.get(workflow) else {
                    return Some(What::Settle(Err(format!("there is no workflow {workflow} any more"))));
                };
                let inner = Scope { outer: None, steps: RefCell::default(), item: None, input: &input };
                match self.list(&nested.steps, path, input.clone(), &inner, due) {
                    Stand::Done(last) => Some(What::Settle(self.result(nested, last, &inner).map_err(|error| error.to_string()))),
                    other => settled(other),
                }
            }
        }
    }

    #[allow(clippy::too_many_arguments, reason = "the parts of one step")]
    fn branches(
        &self,
        path: &str,
        race: bool,
        branches: &[(String, Vec<Step>)],
        named: bool,
        input: &Value,
        scope: &Scope<'_>,
        due: &mut Vec<Due>,
    ) -> Option<What> {
        let before = due.len();
        let mut done = Vec::new();
        let mut lost = Vec::new();
        for (name, steps) in branches {
            match self.list(steps, &format!("{path}.{name}"), input.clone(), &scope.inner(), due) {
                Stand::Done(output) if race => {
                    // What the others are about to do, they need not do.
                    due.truncate(before);
                    return Some(What::Settle(Ok(output)));
                }
                Stand::Done(output) => done.push((name.clone(), output)),
                Stand::Failed { step, message } if race => lost.push(format!("{step}: {message}")),
                Stand::Failed { step, message } => {
                    due.truncate(before);
                    return Some(What::Settle(Err(format!("{step}: {message}"))));
                }
                Stand::Open => {}
            }
        }
        if lost.len() == branches.len() {
            return Some(What::Settle(Err(lost.join("; "))));
        }
        if done.len() < branches.len() {
            return None;
        }
        let all = if named { Value::Object(done.into_iter().collect()) } else { done.into_iter().map(|(_, output)| output).collect() };
        Some(What::Settle(Ok(all)))
    }

    fn items(&self, path: &str, steps: &[Step], concurrency: usize, items: &Value, scope: &Scope<'_>, due: &mut Vec<Due>) -> Option<What> {
        let items = items.as_array().map(Vec::as_slice).unwrap_or_default();
        let before = due.len();
        let mut done = Vec::new();
        let mut open = 0;
        for (at, item) in items.iter().enumerate() {
            let inner = Scope { item: Some((at, item)), ..scope.inner() };
            match self.list(steps, &format!("{path}[{at}]"), item.clone(), &inner, due) {
                Stand::Done(output) => done.push(output),
                Stand::Open => open += 1,
                Stand::Failed { step, message } => {
                    due.truncate(before);
                    return Some(What::Settle(Err(format!("{step}: {message}"))));
                }
            }
            if open >= concurrency {
                return None;
            }
        }
        (open == 0).then(|| What::Settle(Ok(Value::Array(done))))
    }

    fn result(&self, workflow: &Workflow, last: Value, scope: &Scope<'_>) -> Result<Value, ExpressionError> {
        workflow.result.as_ref().map_or(Ok(last.clone()), |form| self.evaluate(form, &last, scope))
    }

    fn say(&self, form: &Form, input: &Value, scope: &Scope<'_>) -> Result<Value, String> {
        self.evaluate(form, input, scope).map_err(|error| error.to_string())
    }

    fn test(&self, test: &Expression, input: &Value, scope: &Scope<'_>) -> Result<bool, ExpressionError> {
        Ok(self.with_names(input, scope, |names| test.evaluate(names))? == Value::Bool(true))
    }

    fn evaluate(&self, form: &Form, input: &Value, scope: &Scope<'_>) -> Result<Value, ExpressionError> {
        match form {
            Form::Plain(value) => Ok(value.clone()),
            form => self.with_names(input, scope, |names| form.evaluate(names)),
        }
    }

    /// What expressions may name: `input` of the step, `workflow` (its input), `steps` that have settled, `item` and `index` of the
    /// nearest `for_each`, `resume` (the data of the last resume), `userContext`.
    fn with_names<T>(&self, input: &Value, scope: &Scope<'_>, evaluate: impl FnOnce(&[(&str, &Value)]) -> T) -> T {
        let (steps, workflow) = (scope.settled(), serde_json::json!({ "input": scope.input }));
        let (index, item) = scope.item().map_or((Value::Null, Value::Null), |(at, item)| (at.into(), item.clone()));
        let resume = self.progress.resume_data.clone().unwrap_or_default();
        evaluate(&[
            ("input", input),
            ("workflow", &workflow),
            ("steps", &steps),
            ("item", &item),
            ("index", &index),
            ("resume", &resume),
            ("userContext", self.user_context),
        ])
    }
}

impl<'a> Scope<'a> {
    fn inner(&'a self) -> Scope<'a> {
        Scope { outer: Some(self), steps: RefCell::default(), item: None, input: self.input }
    }

    /// Settled steps, those of outer lists too where no inner one has their name.
    fn settled(&self) -> Value {
        let mut all = match self.outer.map(Scope::settled) {
            Some(Value::Object(outer)) => outer,
            _ => Map::new(),
        };
        all.extend(self.steps.borrow().iter().cloned());
        Value::Object(all)
    }

    fn item(&self) -> Option<(usize, &Value)> {
        self.item.or_else(|| self.outer.and_then(Scope::item))
    }
}

fn settled(stand: Stand) -> Option<What> {
    match stand {
        Stand::Done(output) => Some(What::Settle(Ok(output))),
        Stand::Failed { step, message } => Some(What::Settle(Err(format!("{step}: {message}")))),
        Stand::Open => None,
    }
}

fn text(value: Value) -> String {
    match value {
        Value::String(text) => text,
        other => other.to_string(),
    }
}
