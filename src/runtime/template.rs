//! Texts of an agent that depend on whom it works for.

use std::{fmt, sync::Arc};

use minijinja::{Environment, ErrorKind, UndefinedBehavior, value::Serde};
use serde_json::{Map, Value, json};

/// Instructions of the template engine in one rendering; a loop over everything a request can carry takes less.
const FUEL: u64 = 100_000;
/// Of a rendered text, in bytes.
const RENDERED_BYTES: usize = 256 * 1024;
/// The only name, and so the only template, of an environment.
const NAME: &str = "text";

/// A text with places for what is known of the user: `{{ userContext.language }}`, `{% if userContext.tier == "pro" %}…{% endif %}`.
/// Jinja's syntax. To print what is not known is an error, to ask for it or to compare it is not.
#[derive(Clone)]
pub struct Template {
    text: Arc<str>,
    /// `None` for a text without places.
    engine: Option<Arc<Environment<'static>>>,
}

/// Why a text cannot be read or made.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct TemplateError(String);

impl Template {
    /// Reads a text.
    ///
    /// # Errors
    /// What is wrong with it, and where.
    pub fn parse(text: impl Into<String>) -> Result<Self, TemplateError> {
        let text = text.into();
        let engine = if ["{{", "{%", "{#"].iter().any(|mark| text.contains(mark)) {
            let mut engine = Environment::new();
            engine.set_undefined_behavior(UndefinedBehavior::Lenient);
            engine.set_formatter(|out, state, value| {
                if value.is_undefined() {
                    return Err(minijinja::Error::from(ErrorKind::UndefinedError));
                }
                minijinja::escape_formatter(out, state, value)
            });
            engine.set_fuel(Some(FUEL));
            engine.add_template_owned(NAME, text.clone()).map_err(|error| explained(&error))?;
            Some(Arc::new(engine))
        } else {
            None
        };
        Ok(Self { text: text.into(), engine })
    }

    /// The text for a user of whom this is known.
    ///
    /// # Errors
    /// It needs something that is not known, or becomes too long.
    pub fn render(&self, user_context: &Map<String, Value>) -> Result<String, TemplateError> {
        let Some(engine) = &self.engine else { return Ok(self.text.to_string()) };
        let known = json!({ "userContext": user_context });
        let template = engine.get_template(NAME).map_err(|error| explained(&error))?;
        let text = template.render(minijinja::Value::from(Serde(known))).map_err(|error| explained(&error))?;
        if text.len() > RENDERED_BYTES {
            return Err(TemplateError(format!("the text becomes longer than {RENDERED_BYTES} bytes")));
        }
        Ok(text)
    }

    /// As it is written.
    pub fn as_str(&self) -> &str {
        &self.text
    }
}

impl fmt::Debug for Template {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.text.fmt(f)
    }
}

fn explained(error: &minijinja::Error) -> TemplateError {
    let what = error.detail().map_or_else(|| error.kind().to_string(), |detail| format!("{}: {detail}", error.kind()));
    TemplateError(error.line().map_or_else(|| what.clone(), |line| format!("{what} (line {line})")))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::panic)]

    use super::*;

    fn render(text: &str, known: Value) -> Result<String, String> {
        let Value::Object(known) = known else { panic!("an object") };
        Template::parse(text).and_then(|template| template.render(&known)).map_err(|error| error.to_string())
    }

    #[test]
    fn what_is_known_takes_its_place() {
        let text = "Speak {{ userContext.language }}.{% if userContext.tier == \"pro\" %} At length.{% endif %}";
        assert_eq!(render(text, json!({"language": "Latin", "tier": "pro"})), Ok("Speak Latin. At length.".into()));
        assert_eq!(render(text, json!({"language": "Latin"})), Ok("Speak Latin.".into()));
        assert_eq!(render("100 % { plain }", json!({})), Ok("100 % { plain }".into()));
    }

    #[test]
    fn what_is_wrong_is_said() {
        for (text, why) in [
            ("{{ userContext.language }}", "undefined"),
            ("{% if %}", "syntax error"),
            ("{{ nonsense( }}", "syntax error"),
            ("{% for i in range(10000) %}{% for j in range(10000) %}x{% endfor %}{% endfor %}", "fuel"),
            ("{{ \"x\" * 10 * 1000000 }}", ""),
        ] {
            let error = render(text, json!({})).expect_err(text);
            assert!(error.contains(why), "{text}: {error}");
        }
    }
}
