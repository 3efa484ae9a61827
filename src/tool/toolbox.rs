//! The tools of a hub: found by name, their arguments checked, their calls kept within bounds.

use std::{collections::BTreeMap, fmt, panic::AssertUnwindSafe, sync::Arc};

use agent_hub_protocol::SessionId;
use futures::{FutureExt, future::BoxFuture};
use jsonschema::Validator;
use serde_json::{Map, Value};

use super::{Invocation, SharedTool, ToolError, ToolErrorCode, ToolSource};
use crate::{provider::ToolSpec, schema};

/// What a result may have in the log and before the model, in bytes of JSON. Longer ones are cut, and say so.
pub const RESULT_BYTES: usize = 64 * 1024;

/// All tools there are. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Toolbox(Arc<Shelves>);

#[derive(Debug, Default)]
struct Shelves {
    own: BTreeMap<String, Kept>,
    sources: Vec<Arc<dyn ToolSource>>,
}

struct Kept {
    tool: SharedTool,
    arguments: Validator,
}

impl fmt::Debug for Kept {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.tool.fmt(f)
    }
}

/// Why tools cannot be kept together.
#[derive(Debug, thiserror::Error)]
pub enum ToolboxError {
    /// Two have one name.
    #[error("two tools are named {0}")]
    SameName(String),
    /// A schema that describes nothing.
    #[error("the schema of the tool {0} is not valid: {1}")]
    Schema(String, String),
}

impl Toolbox {
    /// Those that stay, and those that come and go. Where two have one name the one that stays is found.
    ///
    /// # Errors
    /// A name given twice; a schema that is not one.
    pub fn new(own: impl IntoIterator<Item = SharedTool>, sources: Vec<Arc<dyn ToolSource>>) -> Result<Self, ToolboxError> {
        let mut kept = BTreeMap::new();
        for tool in own {
            let name = tool.spec().name.clone();
            let arguments = validator(tool.spec()).map_err(|why| ToolboxError::Schema(name.clone(), why))?;
            if kept.insert(name.clone(), Kept { tool, arguments }).is_some() {
                return Err(ToolboxError::SameName(name));
            }
        }
        Ok(Self(Arc::new(Shelves { own: kept, sources })))
    }

    /// Whether there is such a tool now.
    pub fn has(&self, name: &str) -> bool {
        self.find(name).is_some()
    }

    /// What a model is told of the tools with these names that are there now. A name that ends with `*` means all that begin so.
    pub fn specs(&self, names: &[String]) -> Vec<ToolSpec> {
        let wanted = |tool: &SharedTool| names.iter().any(|name| means(name, &tool.spec().name));
        let mut specs: Vec<ToolSpec> = self.all().filter(wanted).map(|tool| tool.spec().clone()).collect();
        specs.dedup_by(|a, b| a.name == b.name);
        specs
    }

    /// Whether a task that may call these may call this one.
    pub fn permits(names: &[String], name: &str) -> bool {
        names.iter().any(|pattern| means(pattern, name))
    }

    /// The arguments of a call, if they are what the tool takes.
    ///
    /// # Errors
    /// There is no such tool; or what is wrong with the arguments, and where.
    pub fn check(&self, name: &str, arguments: &Value) -> Result<Map<String, Value>, ToolError> {
        let tool = self.find(name).ok_or_else(|| ToolError::new(ToolErrorCode::UnknownTool, format!("There is no tool named {name}")))?;
        let Value::Object(members) = arguments else {
            return Err(ToolError::new(ToolErrorCode::InvalidArguments, "The arguments must be a JSON object"));
        };
        let fit = match self.0.own.get(name) {
            Some(kept) => schema::complain(&kept.arguments, arguments),
            // Whoever offers a tool with a schema that is none says nothing about its arguments.
            None => validator(tool.spec()).map_or(Ok(()), |validator| schema::complain(&validator, arguments)),
        };
        fit.map(|()| members.clone()).map_err(misfit)
    }

    /// Runs a call whose arguments were checked: within the tool's time, and with a result that is no longer than [`RESULT_BYTES`]. A tool
    /// that panics has failed, nothing more. Dropping the future stops the work.
    pub fn run(&self, name: &str, call: Invocation) -> BoxFuture<'static, Result<Value, ToolError>> {
        let Some(tool) = self.find(name) else {
            let gone = ToolError::new(ToolErrorCode::Unavailable, format!("The tool {name} is not there any more"));
            return futures::future::ready(Err(gone)).boxed();
        };
        let limit = tool.time_limit();
        // The call itself is made inside, so that a panic before its first step is caught too.
        let work = AssertUnwindSafe(async move { tool.call(call).await }).catch_unwind();
        async move {
            match tokio::time::timeout(limit, work).await {
                Ok(Ok(result)) => result.map(bounded),
                Ok(Err(_)) => Err(ToolError::new(ToolErrorCode::Failed, "The tool broke")),
                Err(_) => Err(ToolError::new(ToolErrorCode::TimedOut, format!("The tool was stopped after {limit:?}"))),
            }
        }
        .boxed()
    }

    /// Has what tools keep of a session taken away.
    pub async fn forget(&self, user: &str, session: SessionId) {
        for kept in self.0.own.values() {
            kept.tool.forget(user, session).await;
        }
    }

    fn find(&self, name: &str) -> Option<SharedTool> {
        if let Some(kept) = self.0.own.get(name) {
            return Some(Arc::clone(&kept.tool));
        }
        self.0.sources.iter().find_map(|source| source.tools().iter().find(|tool| tool.spec().name == name).cloned())
    }

    fn all(&self) -> impl Iterator<Item = SharedTool> {
        let passing = self.0.sources.iter().flat_map(|source| source.tools().to_vec());
        self.0.own.values().map(|kept| Arc::clone(&kept.tool)).chain(passing)
    }
}

fn means(pattern: &str, name: &str) -> bool {
    pattern.strip_suffix('*').map_or(pattern == name, |beginning| name.starts_with(beginning))
}

fn validator(spec: &ToolSpec) -> Result<Validator, String> {
    schema::compile(&spec.parameters)
}

/// What the model is told of arguments that do not fit the tool's schema.
pub(crate) fn misfit(why: String) -> ToolError {
    ToolError::new(ToolErrorCode::InvalidArguments, format!("The arguments do not fit: {why}"))
}

/// A result as it can be kept and shown to a model.
pub(crate) fn bounded(result: Value) -> Value {
    let text = match &result {
        Value::String(text) if text.len() <= RESULT_BYTES => return result,
        Value::String(text) => text.clone(),
        other => match other.to_string() {
            text if text.len() <= RESULT_BYTES => return result,
            text => text,
        },
    };
    let end = (0..=RESULT_BYTES).rev().find(|at| text.is_char_boundary(*at)).unwrap_or_default();
    Value::String(format!("{}\n[cut: the first {end} of {} bytes]", &text[..end], text.len()))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::panic)]

    use std::time::Duration;

    use agent_hub_protocol::TaskId;
    use serde_json::json;

    use super::*;
    use crate::tool::{Output, Tool};

    /// Does as it is told.
    #[derive(Debug)]
    struct Puppet(ToolSpec);

    impl Puppet {
        fn shared() -> SharedTool {
            let parameters =
                json!({"type":"object","properties":{"do":{"type":"string"},"n":{"type":"integer","minimum":1}},"required":["do"]});
            Arc::new(Puppet(ToolSpec { name: "puppet".into(), description: "for tests".into(), parameters }))
        }
    }

    impl Tool for Puppet {
        fn spec(&self) -> &ToolSpec {
            &self.0
        }

        fn call(&self, call: Invocation) -> BoxFuture<'static, Result<Value, ToolError>> {
            match call.text("do").unwrap() {
                "panic at once" => panic!("at once"),
                "panic" => async { panic!("later") }.boxed(),
                "hang" => futures::future::pending().boxed(),
                "flood" => async { Ok(Value::String("ä".repeat(25 * 1024 * 1024))) }.boxed(),
                "flood json" => async { Ok(json!({ "items": vec!["x"; 100_000] })) }.boxed(),
                other => {
                    let text = Value::String(other.to_owned());
                    async { Ok(text) }.boxed()
                }
            }
        }

        fn time_limit(&self) -> Duration {
            Duration::from_secs(5)
        }
    }

    fn toolbox() -> Toolbox {
        Toolbox::new([Puppet::shared()], Vec::new()).unwrap()
    }

    fn invocation(what: &str) -> Invocation {
        let arguments = json!({ "do": what }).as_object().unwrap().clone();
        let (session, task) = (SessionId::random(), TaskId::random());
        Invocation { session, task, call_id: "c1".into(), user: "u".into(), arguments, output: Output::unread() }
    }

    async fn run(what: &str) -> Result<Value, ToolError> {
        toolbox().run("puppet", invocation(what)).await
    }

    #[tokio::test(start_paused = true)]
    async fn what_a_tool_does_wrong_stays_with_it() {
        assert_eq!(run("well").await, Ok(json!("well")));
        for what in ["panic", "panic at once"] {
            assert_eq!(run(what).await.unwrap_err().code, ToolErrorCode::Failed, "{what}");
        }
        assert_eq!(run("hang").await.unwrap_err().code, ToolErrorCode::TimedOut);
        for what in ["flood", "flood json"] {
            let result = run(what).await.unwrap();
            let text = result.as_str().unwrap();
            assert!(text.len() < RESULT_BYTES + 100 && text.contains("[cut: the first"), "{what}: {}", text.len());
        }
    }

    #[test]
    fn arguments_are_checked_and_the_complaint_says_where() {
        let toolbox = toolbox();
        assert!(toolbox.check("puppet", &json!({"do": "x", "n": 3})).is_ok());
        let cases = [
            (json!({}), "\"do\" is a required property"),
            (json!({"do": 7, "n": 0}), "/do: 7 is not of type \"string\"; /n: 0 is less than the minimum of 1"),
            (json!("not json"), "must be a JSON object"),
        ];
        for (arguments, complaint) in cases {
            let error = toolbox.check("puppet", &arguments).unwrap_err();
            assert_eq!(error.code, ToolErrorCode::InvalidArguments);
            assert!(error.message.contains(complaint), "{}", error.message);
        }
        assert_eq!(toolbox.check("other", &json!({})).unwrap_err().code, ToolErrorCode::UnknownTool);
    }

    #[test]
    fn names_are_exact_or_beginnings() {
        let names = |patterns: &[&str]| -> Vec<String> {
            let patterns: Vec<String> = patterns.iter().map(|p| (*p).to_owned()).collect();
            toolbox().specs(&patterns).into_iter().map(|spec| spec.name).collect()
        };
        assert_eq!(names(&["puppet"]), ["puppet"]);
        assert_eq!(names(&["pup*", "puppet", "*"]), ["puppet"]);
        assert!(names(&["pup", "puppets", "x*"]).is_empty());
    }

    #[test]
    fn what_cannot_be_kept_is_refused() {
        let twice = Toolbox::new([Puppet::shared(), Puppet::shared()], Vec::new());
        assert!(matches!(twice, Err(ToolboxError::SameName(name)) if name == "puppet"));
        let broken = Puppet(ToolSpec { name: "b".into(), description: String::new(), parameters: json!({"type": "nonsense"}) });
        assert!(matches!(Toolbox::new([Arc::new(broken) as SharedTool], Vec::new()), Err(ToolboxError::Schema(..))));
    }
}
