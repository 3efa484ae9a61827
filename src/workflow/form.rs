//! Values with places: JSON in which a text that begins with `=` is an expression.

use serde_json::{Map, Value};

use crate::expression::{Expression, ExpressionError};

/// A value that depends on what has happened: `{"path": "out.txt", "text": "=input.text"}`. A text that is to begin with `=` is written
/// with two.
#[derive(Clone, Debug)]
pub enum Form {
    /// What it says.
    Plain(Value),
    /// What this comes to.
    Computed(Expression),
    /// A list of such.
    List(Vec<Form>),
    /// An object of such.
    Object(Vec<(String, Form)>),
}

impl Form {
    /// Reads one.
    ///
    /// # Errors
    /// An expression in it that cannot be read.
    pub fn parse(value: Value) -> Result<Self, ExpressionError> {
        Ok(match value {
            Value::String(text) => match text.strip_prefix('=') {
                Some(literal) if literal.starts_with('=') => Form::Plain(Value::String(literal.to_owned())),
                Some(expression) => Form::Computed(Expression::parse(expression.trim())?),
                None => Form::Plain(Value::String(text)),
            },
            Value::Array(items) => Form::List(items.into_iter().map(Form::parse).collect::<Result<_, _>>()?),
            Value::Object(fields) => {
                let field = |(name, value)| Ok((name, Form::parse(value)?));
                Form::Object(fields.into_iter().map(field).collect::<Result<_, _>>()?)
            }
            plain => Form::Plain(plain),
        })
    }

    /// Its value, where these names have these values.
    ///
    /// # Errors
    /// An expression that cannot be evaluated.
    pub fn evaluate(&self, names: &[(&str, &Value)]) -> Result<Value, ExpressionError> {
        Ok(match self {
            Form::Plain(value) => value.clone(),
            Form::Computed(expression) => expression.evaluate(names)?,
            Form::List(items) => Value::Array(items.iter().map(|item| item.evaluate(names)).collect::<Result<_, _>>()?),
            Form::Object(fields) => {
                let mut made = Map::new();
                for (name, form) in fields {
                    made.insert(name.clone(), form.evaluate(names)?);
                }
                Value::Object(made)
            }
        })
    }
}
