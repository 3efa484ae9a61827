//! Options of the model calls of a task: which there are, what they may be, and who heeds them.

use serde_json::{Map, Value};

use super::{
    refusal::{Issues, Refusal},
    structured,
};
use crate::provider::ModelProvider;

/// What an option may be.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Kind {
    /// A number from here to there.
    Number(f64, f64),
    /// A whole number from here to there.
    Whole(i64, i64),
    /// A text.
    Text,
    /// A text, or a list of them.
    Texts,
    /// Names with values.
    Object,
    /// What the answer must look like: `{"schema": …}`.
    Output,
}

/// An option, under all its names.
#[derive(Clone, Copy, Debug)]
pub struct Rule {
    /// What clients call it.
    pub names: &'static [&'static str],
    /// What it may be.
    pub kind: Kind,
}

const fn rule(names: &'static [&'static str], kind: Kind) -> Rule {
    Rule { names, kind }
}

/// Those of the hub's own API. Others are taken as they are: a vendor may know them.
pub const NATIVE: &[Rule] = &[
    rule(&["temperature"], Kind::Number(0.0, 2.0)),
    rule(&["topP", "top_p"], Kind::Number(0.0, 1.0)),
    rule(&["frequencyPenalty", "presencePenalty"], Kind::Number(-2.0, 2.0)),
    rule(&["maxOutputTokens", "maxTokens"], Kind::Whole(1, i64::MAX)),
    rule(&["maxSteps"], Kind::Whole(1, i64::MAX)),
    rule(&["contextLimit"], Kind::Whole(0, i64::MAX)),
    rule(&["seed"], Kind::Whole(i64::MIN, i64::MAX)),
    rule(&["stop", "stopSequences"], Kind::Texts),
    rule(&["model", "userId", "conversationId"], Kind::Text),
    rule(&["userContext", "context", "extraOptions", "providerOptions"], Kind::Object),
    rule(&["output"], Kind::Output),
];

/// Those the hub heeds itself; no vendor hears of them.
const HEEDED_HERE: [&str; 8] = ["model", "maxSteps", "contextLimit", "userContext", "context", "userId", "conversationId", "output"];

/// Notes what is wrong with options, by these rules. `null` is the same as not given.
pub fn check(options: &Map<String, Value>, rules: &[Rule], issues: &mut Issues) {
    for (name, value) in options.iter().filter(|(_, value)| !value.is_null()) {
        let rule = rules.iter().find(|rule| rule.names.contains(&name.as_str()));
        if let Some(complaint) = rule.and_then(|rule| complaint(rule.kind, value)) {
            issues.add(Refusal::invalid(&format!("options.{name}"), format!("{name} {complaint}")));
        }
    }
}

/// Options that would have no effect, because neither the hub nor this vendor knows them.
pub fn without_effect(options: &Map<String, Value>, provider: &dyn ModelProvider) -> Vec<String> {
    let lost = |name: &&String| !HEEDED_HERE.contains(&name.as_str()) && !provider.knows_option(name);
    options.iter().filter(|(_, value)| !value.is_null()).map(|(name, _)| name).filter(lost).cloned().collect()
}

/// The schema that the answer must fit, where one is asked for.
pub fn answer_schema(options: &Map<String, Value>) -> Option<&Value> {
    options.get("output")?.get("schema").filter(|schema| !schema.is_null())
}

fn complaint(kind: Kind, value: &Value) -> Option<String> {
    let fine = match kind {
        Kind::Number(least, most) => value.as_f64().is_some_and(|number| (least..=most).contains(&number)),
        Kind::Whole(least, most) => value.as_i64().is_some_and(|number| (least..=most).contains(&number)),
        Kind::Text => value.is_string(),
        Kind::Texts => value.is_string() || value.as_array().is_some_and(|texts| texts.iter().all(Value::is_string)),
        Kind::Object => value.is_object(),
        Kind::Output => match value.get("schema") {
            Some(schema) => return structured::check_schema(schema).err(),
            // Plain text, said explicitly.
            None => value.get("type").is_some_and(|kind| kind == "text"),
        },
    };
    (!fine).then(|| match kind {
        Kind::Number(least, most) => format!("must be a number from {least} to {most}"),
        Kind::Whole(i64::MIN, i64::MAX) => "must be a whole number".to_owned(),
        Kind::Whole(least, i64::MAX) => format!("must be a whole number, {least} or more"),
        Kind::Whole(least, most) => format!("must be a whole number from {least} to {most}"),
        Kind::Text => "must be a text".to_owned(),
        Kind::Texts => "must be a text or a list of texts".to_owned(),
        Kind::Object => "must be an object".to_owned(),
        Kind::Output => "must be an object with a \"schema\", a JSON Schema".to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn complaints(options: Value) -> Vec<String> {
        let mut issues = Issues::default();
        check(options.as_object().expect("an object"), NATIVE, &mut issues);
        match issues.finish(Ok(())) {
            Ok(()) => Vec::new(),
            Err(refusal) => {
                let details = refusal.details.map(|details| details["issues"].clone()).unwrap_or_default();
                details.as_array().into_iter().flatten().map(|issue| issue["message"].as_str().unwrap_or_default().to_owned()).collect()
            }
        }
    }

    #[test]
    fn what_fits_passes_and_what_does_not_is_named() {
        let fine = json!({
            "temperature": 0, "topP": 1.0, "maxTokens": 1, "seed": -3, "stop": "x", "stopSequences": ["a", "b"], "userContext": {},
            "contextLimit": 0, "output": { "schema": { "type": "object" } }, "presencePenalty": null, "unknown": [1]
        });
        assert_eq!(complaints(fine), Vec::<String>::new());
        for (options, complaint) in [
            (json!({ "temperature": 2.1 }), "temperature must be a number from 0 to 2"),
            (json!({ "temperature": "hot" }), "temperature must be a number from 0 to 2"),
            (json!({ "maxTokens": 0 }), "maxTokens must be a whole number, 1 or more"),
            (json!({ "seed": 1.5 }), "seed must be a whole number"),
            (json!({ "stop": [1] }), "stop must be a text or a list of texts"),
            (json!({ "userContext": "x" }), "userContext must be an object"),
            (json!({ "output": {} }), "output must be an object with a \"schema\", a JSON Schema"),
        ] {
            assert_eq!(complaints(options), [complaint]);
        }
        let broken = complaints(json!({ "output": { "schema": { "type": "nonsense" } } }));
        assert!(broken[0].starts_with("output is not a valid JSON Schema"), "{broken:?}");
    }
}
