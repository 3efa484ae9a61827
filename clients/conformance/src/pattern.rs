//! How scripts say what they expect, and how they name what came.
//!
//! A pattern is a JSON value. Objects may have more fields than the pattern names, lists may not have more items. In texts:
//!
//! | text | as a pattern | in what is sent |
//! |---|---|---|
//! | `$name` | anything; from then on the name stands for it | what the name stands for |
//! | `…${name}…` | the text with the name's value put in | the same |
//! | `$any` | anything but nothing | |
//! | `$none` | the field is absent | |
//!
//! Objects with one of these as their only field: `{"$or": […]}` one of several patterns; `{"$min": n}` a number of at least that;
//! `{"$fill": n}`, only in what is sent: a text of `n` letters, where `n` may be a name and `{"$fill": n, "$more": m}` adds `m`.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

/// What the names of a script stand for.
#[derive(Clone, Debug, Default)]
pub struct Names(BTreeMap<String, Value>);

/// What does not fit, and where.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{place}{problem}")]
pub struct Mismatch {
    place: String,
    problem: String,
}

/// A name that stands for nothing yet.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the script uses ${0} before it stands for anything")]
pub struct Unknown(pub String);

impl Names {
    /// From now on the name stands for this.
    pub fn set(&mut self, name: &str, value: impl Into<Value>) {
        self.0.insert(name.to_owned(), value.into());
    }

    /// What a name stands for.
    pub fn get(&self, name: &str) -> Option<&Value> {
        self.0.get(name)
    }

    /// Holds a value against a pattern. Names are learnt only if all of it fits.
    ///
    /// # Errors
    /// [`Mismatch`]: the first difference.
    pub fn fit(&mut self, pattern: &Value, value: &Value) -> Result<(), Mismatch> {
        let mut learnt = self.clone();
        learnt.compare(pattern, Some(value)).map_err(|(place, problem)| Mismatch { place, problem })?;
        *self = learnt;
        Ok(())
    }

    /// What is to be sent, with names replaced.
    ///
    /// # Errors
    /// [`Unknown`].
    pub fn fill(&self, template: &Value) -> Result<Value, Unknown> {
        Ok(match template {
            Value::String(text) => self.fill_text(text)?,
            Value::Array(items) => Value::Array(items.iter().map(|item| self.fill(item)).collect::<Result<_, _>>()?),
            Value::Object(fields) => match self.letters(fields)? {
                Some(letters) => Value::String(letters),
                None => {
                    Value::Object(fields.iter().map(|(name, value)| Ok((name.clone(), self.fill(value)?))).collect::<Result<_, Unknown>>()?)
                }
            },
            other => other.clone(),
        })
    }

    fn fill_text(&self, text: &str) -> Result<Value, Unknown> {
        if let Some(name) = variable(text) {
            return self.get(name).cloned().ok_or_else(|| Unknown(name.to_owned()));
        }
        let mut filled = String::new();
        let mut rest = text;
        while let Some((before, behind)) = rest.split_once("${") {
            filled.push_str(before);
            let (name, behind) = behind.split_once('}').unwrap_or((behind, ""));
            match self.get(name).ok_or_else(|| Unknown(name.to_owned()))? {
                Value::String(text) => filled.push_str(text),
                other => filled.push_str(&other.to_string()),
            }
            rest = behind;
        }
        filled.push_str(rest);
        Ok(Value::String(filled))
    }

    fn letters(&self, fields: &Map<String, Value>) -> Result<Option<String>, Unknown> {
        let Some(wanted) = fields.get("$fill") else { return Ok(None) };
        let number = |value: &Value| self.fill(value).map(|value| value.as_u64().unwrap_or_default());
        let more = fields.get("$more").map(number).transpose()?.unwrap_or_default();
        let count = usize::try_from(number(wanted)? + more).unwrap_or(usize::MAX);
        Ok(Some("x".repeat(count)))
    }

    fn compare(&mut self, pattern: &Value, value: Option<&Value>) -> Result<(), (String, String)> {
        let differs = |what: String| Err((String::new(), what));
        if pattern.as_str() == Some("$none") {
            return value
                .filter(|value| !value.is_null())
                .map_or(Ok(()), |value| differs(format!("should not be there, is {}", short(value))));
        }
        let Some(value) = value else { return differs(format!("is missing, expected {pattern}")) };
        match pattern {
            Value::String(text) => self.compare_text(text, value),
            Value::Object(fields) if fields.contains_key("$or") => self.compare_any(&fields["$or"], value),
            Value::Object(fields) if fields.contains_key("$min") => {
                let least = fields["$min"].as_f64().unwrap_or_default();
                let enough = value.as_f64().is_some_and(|number| number >= least);
                if enough { Ok(()) } else { differs(format!("expected at least {least}, got {}", short(value))) }
            }
            Value::Object(fields) => {
                let Value::Object(actual) = value else { return differs(format!("expected an object, got {}", short(value))) };
                for (name, pattern) in fields {
                    self.compare(pattern, actual.get(name)).map_err(|(place, problem)| (below(name, &place), problem))?;
                }
                Ok(())
            }
            Value::Array(items) => {
                let actual = value.as_array().map(Vec::as_slice).unwrap_or_default();
                if !value.is_array() || actual.len() != items.len() {
                    return differs(format!("expected a list of {}, got {}", items.len(), short(value)));
                }
                for (at, (pattern, value)) in items.iter().zip(actual).enumerate() {
                    self.compare(pattern, Some(value)).map_err(|(place, problem)| (below(&at.to_string(), &place), problem))?;
                }
                Ok(())
            }
            exact if exact == value => Ok(()),
            exact => differs(format!("expected {exact}, got {}", short(value))),
        }
    }

    fn compare_text(&mut self, text: &str, value: &Value) -> Result<(), (String, String)> {
        let differs = |what: String| Err((String::new(), what));
        if text == "$any" {
            return if value.is_null() { differs("is null".to_owned()) } else { Ok(()) };
        }
        if let Some(name) = variable(text)
            && self.get(name).is_none()
        {
            self.set(name, value.clone());
            return Ok(());
        }
        let expected = self.fill_text(text).map_err(|unknown| (String::new(), unknown.to_string()))?;
        if expected == *value { Ok(()) } else { differs(format!("expected {}, got {}", short(&expected), short(value))) }
    }

    fn compare_any(&mut self, patterns: &Value, value: &Value) -> Result<(), (String, String)> {
        let patterns = patterns.as_array().map(Vec::as_slice).unwrap_or_default();
        for pattern in patterns {
            let mut learnt = self.clone();
            if learnt.compare(pattern, Some(value)).is_ok() {
                *self = learnt;
                return Ok(());
            }
        }
        Err((String::new(), format!("expected one of {}, got {}", Value::from(patterns.to_vec()), short(value))))
    }
}

/// The name, if the text is one variable and nothing else.
fn variable(text: &str) -> Option<&str> {
    let name = text.strip_prefix('$')?;
    let plain = |c: char| c.is_ascii_alphanumeric() || c == '_';
    (!name.is_empty() && name != "any" && name != "none" && name.chars().all(plain)).then_some(name)
}

fn below(name: &str, place: &str) -> String {
    if place.is_empty() { format!("{name}: ") } else { format!("{name}.{place}") }
}

/// A value as a person wants to read it: cut when it is long.
pub fn short(value: &Value) -> String {
    cut(&value.to_string())
}

/// A text as a person wants to read it: cut when it is long.
pub fn cut(text: &str) -> String {
    const SHOWN: usize = 400;
    match text.char_indices().nth(SHOWN) {
        Some((at, _)) => format!("{}… ({} bytes)", &text[..at], text.len()),
        None => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn names_are_learnt_and_then_compared() {
        let mut names = Names::default();
        names.fit(&json!({"id": "$c", "type": "ping"}), &json!({"type": "ping", "id": 7, "more": 1})).expect("fits");
        assert_eq!(names.fill(&json!(["$c", "e.${c}"])).expect("known"), json!([7, "e.7"]));
        let error = names.fit(&json!({"a": [{"id": "$c"}]}), &json!({"a": [{"id": 8}]})).expect_err("another id");
        assert_eq!(error.to_string(), "a.0.id: expected 7, got 8");
    }

    #[test]
    fn nothing_is_learnt_from_what_does_not_fit() {
        let mut names = Names::default();
        names.fit(&json!({"id": "$c", "type": "ping"}), &json!({"id": 7, "type": "pong"})).expect_err("no ping");
        assert_eq!(names.fill(&json!("$c")), Err(Unknown("c".into())));
        names.fit(&json!({"$or": [{"a": "$x", "b": 1}, {"a": 1}]}), &json!({"a": 1, "b": 2})).expect("the second");
        assert!(names.get("x").is_none());
    }

    #[test]
    fn absence_presence_and_sizes() {
        let mut names = Names::default();
        names.set("n", 3);
        let fits = |names: &mut Names, pattern: Value, value: Value| names.fit(&pattern, &value).is_ok();
        assert!(fits(&mut names, json!({"a": "$none"}), json!({})) && !fits(&mut names, json!({"a": "$none"}), json!({"a": 1})));
        assert!(fits(&mut names, json!({"a": "$any"}), json!({"a": 0})) && !fits(&mut names, json!({"a": "$any"}), json!({})));
        assert!(fits(&mut names, json!({"$min": 2}), json!(2)) && !fits(&mut names, json!({"$min": 2}), json!(1)));
        assert!(!fits(&mut names, json!([1]), json!([1, 2])) && !fits(&mut names, json!({"a": 1}), json!([1])));
        assert_eq!(names.fill(&json!({"$fill": "$n", "$more": 1})).expect("known"), json!("xxxx"));
    }
}
