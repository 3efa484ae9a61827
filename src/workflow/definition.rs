//! What a workflow is, as an operator writes it.

use std::time::Duration;

use serde_json::{Map, Value};

use super::{form::Form, reader::Fields};
use crate::expression::Expression;

/// Steps of one workflow, those inside of others included.
const MAX_STEPS: usize = 200;
/// Steps inside of steps.
const MAX_DEPTH: usize = 12;
/// Repetitions of a step that goes wrong.
const MAX_RETRIES: u64 = 100;
/// Items of a `for_each` at work at the same time.
const MAX_CONCURRENCY: u64 = 32;
/// What the first API says where nobody has said what a workflow is for.
const NO_PURPOSE: &str = "No purpose provided";

/// A named definition.
#[derive(Clone, Debug)]
pub struct Workflow {
    /// Its id.
    pub id: String,
    /// For people.
    pub name: String,
    /// What it is for, for people.
    pub purpose: String,
    /// What its input must look like (JSON Schema).
    pub input: Option<Value>,
    /// What it comes to; the output of its last step otherwise.
    pub result: Option<Form>,
    /// Its deadline in running time, where it has its own.
    pub timeout: Option<Duration>,
    /// One after another.
    pub steps: Vec<Step>,
}

/// One step. It is given what came out of the step before it, the first one the workflow's input.
#[derive(Clone, Debug)]
pub struct Step {
    /// Unique among its neighbours.
    pub id: String,
    /// For people.
    pub name: Option<String>,
    /// What it is for, for people.
    pub purpose: Option<String>,
    /// How often it is repeated when it goes wrong.
    pub retries: u32,
    /// How long to wait before that; twice as long each time.
    pub retry_delay: Duration,
    /// Whether the workflow goes on, with `null`, when it has gone wrong for good.
    pub goes_on: bool,
    /// What it does.
    pub action: Action,
}

/// What a step does.
#[derive(Clone, Debug)]
pub enum Action {
    /// Makes a value.
    Transform(Form),
    /// Calls a tool of the hub.
    Tool {
        /// Which.
        tool: String,
        /// With what: an object.
        arguments: Form,
        /// Whether the call waits for a person's yes.
        approve: bool,
    },
    /// Has an agent work on a prompt.
    Agent {
        /// Which; the session's otherwise.
        agent: Option<String>,
        /// On what: a text.
        prompt: Form,
        /// Options of its model calls.
        options: Map<String, Value>,
    },
    /// One list of steps or another. A list that is empty gives on what it was given.
    Condition {
        /// What decides; anything but `true` is no.
        test: Expression,
        /// If so.
        then: Vec<Step>,
        /// If not.
        otherwise: Vec<Step>,
    },
    /// Lists of steps side by side.
    Parallel {
        /// Whether the first that ends well is enough.
        race: bool,
        /// They come to an object by name, or, where they have none, to a list; a race to what the first came to.
        branches: Branches,
        /// Whether the branches have names.
        named: bool,
    },
    /// A list of steps for each item of a list. Comes to the list of what they came to.
    ForEach {
        /// The items; what the step is given otherwise.
        items: Option<Form>,
        /// How many at the same time.
        concurrency: usize,
        /// What is done with each: it is given to the first of them, and known as `item`.
        steps: Vec<Step>,
    },
    /// Waits, and gives on what it was given.
    Sleep(Sleep),
    /// Waits for somebody to resume the execution, and comes to the data given with that.
    Suspend {
        /// Why, for people: a text.
        reason: Option<Form>,
        /// What whoever resumes it should know.
        data: Option<Form>,
        /// What the data must look like (JSON Schema).
        resume: Option<Value>,
        /// How long.
        timeout: Option<Duration>,
        /// What it comes to when nobody has come by then; without it the execution ends as timed out.
        default: Option<Form>,
    },
    /// Another workflow, inside of this execution.
    Workflow {
        /// Which.
        workflow: String,
        /// With what; what the step is given otherwise.
        input: Option<Form>,
    },
}

/// Lists of steps, each with its name.
pub type Branches = Vec<(String, Vec<Step>)>;

/// How long a step waits.
#[derive(Clone, Debug)]
pub enum Sleep {
    /// So long.
    For(Duration),
    /// Until a time: a text in the form of RFC 3339.
    Until(Form),
}

impl Workflow {
    /// Reads a definition: its fields as in the example files.
    ///
    /// # Errors
    /// All that is wrong with it, each with its place.
    pub fn parse(id: &str, definition: Value) -> Result<Self, Vec<String>> {
        let mut wrong = Vec::new();
        let workflow = Self::read(id, definition, &mut wrong);
        match workflow {
            Some(workflow) if wrong.is_empty() => Ok(workflow),
            _ => Err(wrong),
        }
    }

    /// Reads a definition written in YAML.
    ///
    /// # Errors
    /// As [`Workflow::parse`].
    pub fn from_yaml(id: &str, text: &str) -> Result<Self, Vec<String>> {
        let value = yaml_serde::from_str(text).map_err(|error| vec![format!("{id}: {error}")])?;
        Self::parse(id, value)
    }

    /// Reads a definition written in TOML.
    ///
    /// # Errors
    /// As [`Workflow::parse`].
    pub fn from_toml(id: &str, text: &str) -> Result<Self, Vec<String>> {
        use figment::providers::Format as _;
        let read = figment::Figment::from(figment::providers::Toml::string(text)).extract::<Value>();
        Self::parse(id, read.map_err(|error| vec![format!("{id}: {error}")])?)
    }

    fn read(id: &str, definition: Value, wrong: &mut Vec<String>) -> Option<Self> {
        if !is_id(id) {
            wrong.push(format!("{id:?} is no id of a workflow: it may have letters, digits, - and _, at most 64"));
        }
        let mut fields = Fields::of(definition, id.to_owned(), wrong)?;
        let name = fields.text("name").unwrap_or_else(|| id.to_owned());
        let purpose = fields.text("purpose").unwrap_or_else(|| NO_PURPOSE.to_owned());
        let (input, result, timeout) = (fields.schema("input"), fields.form("result"), fields.duration("timeout"));
        let steps = fields.needed("steps");
        let place = fields.place.clone();
        let steps = steps.map(|steps| read_steps(steps, &format!("{place}.steps"), 0, fields.complaints())).unwrap_or_default();
        if steps.is_empty() {
            fields.complain("steps", "there must be at least one");
        }
        if count(&steps) > MAX_STEPS {
            fields.complain("steps", format_args!("there are more than {MAX_STEPS}"));
        }
        fields.finish("a workflow");
        Some(Self { id: id.to_owned(), name, purpose, input, result, timeout, steps })
    }

    /// Workflows that steps of it execute.
    pub fn executes(&self) -> Vec<&str> {
        let mut found = Vec::new();
        visit(&self.steps, &mut |step| {
            if let Action::Workflow { workflow, .. } = &step.action {
                found.push(workflow.as_str());
            }
        });
        found
    }

    /// Agents that steps of it name.
    pub fn agents(&self) -> Vec<&str> {
        let mut found = Vec::new();
        visit(&self.steps, &mut |step| {
            if let Action::Agent { agent: Some(agent), .. } = &step.action {
                found.push(agent.as_str());
            }
        });
        found
    }

    /// The step of this id, and its number, among those that are not inside of others.
    pub fn step(&self, id: &str) -> Option<(usize, &Step)> {
        self.steps.iter().enumerate().find(|(_, step)| step.id == id)
    }
}

impl Action {
    /// Its `type` in a definition.
    pub const fn kind(&self) -> &'static str {
        match self {
            Action::Transform(_) => "transform",
            Action::Tool { .. } => "tool",
            Action::Agent { .. } => "agent",
            Action::Condition { .. } => "condition",
            Action::Parallel { .. } => "parallel",
            Action::ForEach { .. } => "for_each",
            Action::Sleep(_) => "sleep",
            Action::Suspend { .. } => "suspend",
            Action::Workflow { .. } => "workflow",
        }
    }

    /// The lists of steps in it.
    pub fn inside(&self) -> Vec<&[Step]> {
        match self {
            Action::Condition { then, otherwise, .. } => vec![then, otherwise],
            Action::Parallel { branches, .. } => branches.iter().map(|(_, steps)| steps.as_slice()).collect(),
            Action::ForEach { steps, .. } => vec![steps],
            Action::Transform(_)
            | Action::Tool { .. }
            | Action::Agent { .. }
            | Action::Sleep(_)
            | Action::Suspend { .. }
            | Action::Workflow { .. } => Vec::new(),
        }
    }
}

fn visit<'a>(steps: &'a [Step], look: &mut impl FnMut(&'a Step)) {
    for step in steps {
        look(step);
        step.action.inside().into_iter().for_each(|inside| visit(inside, look));
    }
}

fn count(steps: &[Step]) -> usize {
    let mut count = 0;
    visit(steps, &mut |_| count += 1);
    count
}

/// Letters, digits, `-` and `_`: what stands in a path of steps, in a URL and in an expression.
fn is_id(text: &str) -> bool {
    (1..=64).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'))
}

fn read_steps(value: Value, place: &str, depth: usize, wrong: &mut Vec<String>) -> Vec<Step> {
    let Value::Array(items) = value else {
        wrong.push(format!("{place}: must be a list of steps"));
        return Vec::new();
    };
    if depth > MAX_DEPTH {
        wrong.push(format!("{place}: steps stand inside of each other more than {MAX_DEPTH} deep"));
        return Vec::new();
    }
    let mut steps: Vec<Step> = Vec::new();
    for (at, item) in items.into_iter().enumerate() {
        let Some(step) = read_step(item, format!("{place}[{at}]"), depth, wrong) else { continue };
        if steps.iter().any(|other| other.id == step.id) {
            wrong.push(format!("{place}[{at}].id: there is another step {} beside it", step.id));
        }
        steps.push(step);
    }
    steps
}

fn read_step(value: Value, place: String, depth: usize, wrong: &mut Vec<String>) -> Option<Step> {
    let mut fields = Fields::of(value, place, wrong)?;
    let id = fields.needed_text("id");
    if let Some(id) = &id
        && !is_id(id)
    {
        fields.complain("id", "may have letters, digits, - and _, at most 64");
    }
    let (name, purpose) = (fields.text("name"), fields.text("purpose"));
    let kind = fields.needed_text("type");
    let goes_on = match fields.text("on_error").as_deref() {
        None | Some("fail") => false,
        Some("continue") => true,
        Some(_) => {
            fields.complain("on_error", "must be fail or continue");
            false
        }
    };
    let (retries, retry_delay) = match kind.as_deref() {
        // What is computed comes out the same however often.
        Some("tool" | "agent") => {
            let delay = fields.duration("retry_delay").unwrap_or(Duration::from_secs(1));
            (u32::try_from(fields.number("retries", 0, MAX_RETRIES)).unwrap_or_default(), delay)
        }
        _ => (0, Duration::ZERO),
    };
    let action = read_action(kind.as_deref()?, &mut fields, depth);
    fields.finish(&format!("a step of type {}", kind.as_deref().unwrap_or_default()));
    Some(Step { id: id?, name, purpose, retries, retry_delay, goes_on, action: action? })
}

fn read_action(kind: &str, fields: &mut Fields<'_>, depth: usize) -> Option<Action> {
    let steps = |fields: &mut Fields<'_>, field: &str| {
        let place = format!("{}.{field}", fields.place);
        fields.take(field).map(|value| read_steps(value, &place, depth + 1, fields.complaints()))
    };
    Some(match kind {
        "transform" => Action::Transform(fields.needed_form("value")?),
        "tool" => {
            let (tool, arguments, approve) = (fields.needed_text("tool"), fields.form("arguments"), fields.flag("approve"));
            Action::Tool { tool: tool?, arguments: arguments.unwrap_or(Form::Object(Vec::new())), approve }
        }
        "agent" => {
            let (agent, prompt) = (fields.text("agent"), fields.needed_form("prompt"));
            let mut options = match fields.take("options") {
                None => Map::new(),
                Some(Value::Object(options)) => options,
                Some(_) => {
                    fields.complain("options", "must be an object");
                    Map::new()
                }
            };
            if let Some(schema) = fields.schema("output") {
                options.insert("output".to_owned(), serde_json::json!({ "schema": schema }));
            }
            Action::Agent { agent, prompt: prompt?, options }
        }
        "condition" => {
            let test = fields.expression("if");
            let (then, otherwise) = (steps(fields, "then"), steps(fields, "else"));
            Action::Condition { test: test?, then: then.unwrap_or_default(), otherwise: otherwise.unwrap_or_default() }
        }
        "parallel" => {
            let race = match fields.text("mode").as_deref() {
                None | Some("all") => false,
                Some("race") => true,
                Some(_) => {
                    fields.complain("mode", "must be all or race");
                    false
                }
            };
            let (branches, named) = read_branches(fields, depth)?;
            Action::Parallel { race, branches, named }
        }
        "for_each" => {
            let items = fields.form("items");
            let concurrency = fields.number("concurrency", 1, MAX_CONCURRENCY).max(1);
            let steps = steps(fields, "steps").unwrap_or_default();
            if steps.is_empty() {
                fields.complain("steps", "there must be at least one");
            }
            Action::ForEach { items, concurrency: usize::try_from(concurrency).unwrap_or(1), steps }
        }
        "sleep" => match (fields.duration("for"), fields.form("until")) {
            (Some(time), None) => Action::Sleep(Sleep::For(time)),
            (None, Some(time)) => Action::Sleep(Sleep::Until(time)),
            _ => {
                fields.complain("for", "exactly one of for and until must be given");
                return None;
            }
        },
        "suspend" => Action::Suspend {
            reason: fields.form("reason"),
            data: fields.form("data"),
            resume: fields.schema("resume"),
            timeout: fields.duration("timeout"),
            default: fields.form("default"),
        },
        "workflow" => {
            let (workflow, input) = (fields.needed_text("workflow"), fields.form("input"));
            Action::Workflow { workflow: workflow?, input }
        }
        other => {
            let kinds = "transform, tool, agent, condition, parallel, for_each, sleep, suspend, workflow";
            fields.complain("type", format_args!("{other:?} is none of: {kinds}"));
            return None;
        }
    })
}

/// A list of lists of steps, or an object of such.
fn read_branches(fields: &mut Fields<'_>, depth: usize) -> Option<(Branches, bool)> {
    let place = format!("{}.branches", fields.place);
    let (listed, named): (Vec<(String, Value)>, bool) = match fields.needed("branches")? {
        Value::Array(branches) => (branches.into_iter().enumerate().map(|(at, branch)| (at.to_string(), branch)).collect(), false),
        Value::Object(branches) => (branches.into_iter().collect(), true),
        _ => {
            fields.complain("branches", "must be a list of lists of steps, or an object of such");
            return None;
        }
    };
    if listed.is_empty() {
        fields.complain("branches", "there must be at least one");
    }
    let mut branches = Vec::new();
    for (name, branch) in listed {
        if !is_id(&name) {
            fields.complain("branches", format_args!("{name:?} may have letters, digits, - and _ only"));
        }
        let steps = read_steps(branch, &format!("{place}.{name}"), depth + 1, fields.complaints());
        if steps.is_empty() {
            fields.complain("branches", format_args!("{name} has no step"));
        }
        branches.push((name, steps));
    }
    Some((branches, named))
}
