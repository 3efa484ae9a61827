//! Reads fields of a definition one by one, and says of all of them what is wrong.

use std::time::Duration;

use serde_json::{Map, Value};

use super::form::Form;
use crate::{duration, expression::Expression, schema};

/// One object of a definition. Fields are taken out of it; what is left in the end is not known.
pub(super) struct Fields<'a> {
    /// Where it stands, for complaints.
    pub(super) place: String,
    left: Map<String, Value>,
    wrong: &'a mut Vec<String>,
}

impl<'a> Fields<'a> {
    /// `None`, with a complaint, for what is no object.
    pub(super) fn of(value: Value, place: String, wrong: &'a mut Vec<String>) -> Option<Self> {
        match value {
            Value::Object(left) => Some(Self { place, left, wrong }),
            _ => {
                wrong.push(format!("{place}: must be an object"));
                None
            }
        }
    }

    pub(super) fn complain(&mut self, field: &str, what: impl std::fmt::Display) {
        self.wrong.push(format!("{}.{field}: {what}", self.place));
    }

    /// Everything that is wrong so far, for what reads a part of this.
    pub(super) fn complaints(&mut self) -> &mut Vec<String> {
        self.wrong
    }

    pub(super) fn take(&mut self, field: &str) -> Option<Value> {
        self.left.shift_remove(field).filter(|value| !value.is_null())
    }

    pub(super) fn needed(&mut self, field: &str) -> Option<Value> {
        let value = self.take(field);
        if value.is_none() {
            self.complain(field, "is missing");
        }
        value
    }

    pub(super) fn text(&mut self, field: &str) -> Option<String> {
        match self.take(field)? {
            Value::String(text) => Some(text),
            _ => {
                self.complain(field, "must be a text");
                None
            }
        }
    }

    pub(super) fn needed_text(&mut self, field: &str) -> Option<String> {
        if !self.left.contains_key(field) {
            self.complain(field, "is missing");
        }
        self.text(field)
    }

    pub(super) fn flag(&mut self, field: &str) -> bool {
        match self.take(field) {
            None => false,
            Some(Value::Bool(flag)) => flag,
            Some(_) => {
                self.complain(field, "must be true or false");
                false
            }
        }
    }

    pub(super) fn number(&mut self, field: &str, usual: u64, most: u64) -> u64 {
        match self.take(field) {
            None => usual,
            Some(value) => match value.as_u64().filter(|number| *number <= most) {
                Some(number) => number,
                None => {
                    self.complain(field, format_args!("must be a whole number, {most} at most"));
                    usual
                }
            },
        }
    }

    pub(super) fn duration(&mut self, field: &str) -> Option<Duration> {
        let parsed = match self.take(field)? {
            Value::String(text) => duration::parse(&text),
            Value::Number(seconds) => seconds.as_u64().map(Duration::from_secs),
            _ => None,
        };
        if parsed.is_none() {
            self.complain(field, format_args!("expected {}", duration::ALLOWED));
        }
        parsed
    }

    pub(super) fn form(&mut self, field: &str) -> Option<Form> {
        let value = self.take(field)?;
        Form::parse(value).map_err(|error| self.complain(field, error)).ok()
    }

    pub(super) fn needed_form(&mut self, field: &str) -> Option<Form> {
        let value = self.needed(field)?;
        Form::parse(value).map_err(|error| self.complain(field, error)).ok()
    }

    /// An expression, with or without `=` before it.
    pub(super) fn expression(&mut self, field: &str) -> Option<Expression> {
        let text = self.needed_text(field)?;
        Expression::parse(text.trim_start_matches('=').trim()).map_err(|error| self.complain(field, error)).ok()
    }

    /// A JSON Schema that is one.
    pub(super) fn schema(&mut self, field: &str) -> Option<Value> {
        let schema = self.take(field)?;
        if let Err(error) = schema::compile(&schema) {
            self.complain(field, format_args!("is not a valid JSON Schema: {error}"));
            return None;
        }
        Some(schema)
    }

    /// Complains about what nobody has taken.
    pub(super) fn finish(self, what: &str) {
        for field in self.left.keys() {
            self.wrong.push(format!("{}.{field}: {what} has no such field", self.place));
        }
    }
}
