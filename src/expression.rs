//! Small expressions over JSON, written by operators: rules of approvals, steps of workflows.
//!
//! Rhai's expressions, and only those: no loops, no functions of one's own, no way out. What is not there reads as `()`, which is `null`.

use std::{fmt, sync::LazyLock};

use rhai::{AST, Dynamic, Engine, Scope};
use serde_json::Value;

/// Bounds of one evaluation. An expression that a person can read stays far below.
const OPERATIONS: u64 = 100_000;
const DEPTH: usize = 32;
const TEXT_BYTES: usize = 256 * 1024;
const ENTRIES: usize = 20_000;
/// Of an expression as it is written, in bytes.
const SOURCE_BYTES: usize = 8 * 1024;

static ENGINE: LazyLock<Engine> = LazyLock::new(|| {
    let mut engine = Engine::new();
    engine
        .set_max_operations(OPERATIONS)
        .set_max_expr_depths(DEPTH, DEPTH)
        .set_max_string_size(TEXT_BYTES)
        .set_max_array_size(ENTRIES)
        .set_max_map_size(ENTRIES)
        .set_max_call_levels(8)
        .disable_symbol("eval")
        // Nobody reads what it would print.
        .on_print(|_| ())
        .on_debug(|_, _, _| ());
    engine
});

/// An expression that was read once and is evaluated often.
#[derive(Clone)]
pub struct Expression {
    text: String,
    ast: AST,
}

/// What is wrong with an expression, or with what it is given.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct ExpressionError(String);

impl Expression {
    /// Reads an expression.
    ///
    /// # Errors
    /// What is wrong with it, and where.
    pub fn parse(text: impl Into<String>) -> Result<Self, ExpressionError> {
        let text = text.into();
        if text.len() > SOURCE_BYTES {
            return Err(ExpressionError(format!("it is longer than {SOURCE_BYTES} bytes")));
        }
        let ast = ENGINE.compile_expression(&text).map_err(|error| ExpressionError(error.to_string()))?;
        Ok(Self { text, ast })
    }

    /// Its value, where these names have these values.
    ///
    /// # Errors
    /// It cannot be evaluated, takes too much, or has a value that is no JSON.
    pub fn evaluate(&self, names: &[(&str, &Value)]) -> Result<Value, ExpressionError> {
        let mut scope = Scope::new();
        for (name, value) in names {
            let value = rhai::serde::to_dynamic(*value).map_err(|error| ExpressionError(error.to_string()))?;
            scope.push_dynamic(*name, value);
        }
        let value = ENGINE.eval_ast_with_scope::<Dynamic>(&mut scope, &self.ast).map_err(|error| ExpressionError(error.to_string()))?;
        rhai::serde::from_dynamic(&value).map_err(|error| ExpressionError(error.to_string()))
    }

    /// As it is written.
    pub fn as_str(&self) -> &str {
        &self.text
    }
}

impl fmt::Debug for Expression {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.text.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use serde_json::json;

    use super::*;

    fn evaluate(text: &str, input: &Value) -> Result<Value, String> {
        Expression::parse(text).and_then(|expression| expression.evaluate(&[("input", input)])).map_err(|error| error.to_string())
    }

    #[test]
    fn values_go_in_and_come_out_as_json() {
        let input = json!({"n": 3, "f": 1.5, "list": [1, "two", null], "name": "Ada", "big": i64::MAX, "deep": {"ok": true}});
        for (text, value) in [
            ("input.n + 1", json!(4)),
            ("input.f * 2", json!(3.0)),
            ("input.n > 2 && input.deep.ok", json!(true)),
            ("input.missing", json!(null)),
            ("input.missing == ()", json!(true)),
            ("input.list[1]", json!("two")),
            ("input.list.len()", json!(3)),
            ("#{ greeting: `Hello ${input.name}`, n: input.n }", json!({"greeting": "Hello Ada", "n": 3})),
            ("if input.n == 3 { \"three\" } else { \"other\" }", json!("three")),
            ("input.big", json!(i64::MAX)),
            ("input.list.filter(|x| x != ())", json!([1, "two"])),
        ] {
            assert_eq!(evaluate(text, &input), Ok(value), "{text}");
        }
    }

    #[test]
    fn what_is_wrong_or_too_much_is_said() {
        let input = json!({"s": "x".repeat(1000), "list": vec![0; 1000]});
        for text in [
            "input.",
            "let x = 1; x",
            "while true {}",
            "fn f() { f() } f()",
            "eval(\"1\")",
            "nonsense",
            "1 / 0",
            "input.list.map(|a| input.list.map(|b| input.list.len()))",
            "input.s.split(\"\").map(|a| input.s + input.s + input.s).reduce(|sum, a| sum + a, \"\")",
            &format!("{}1{}", "(".repeat(200), ")".repeat(200)),
            &"1 + ".repeat(10_000),
        ] {
            assert!(evaluate(text, &input).is_err(), "{}", text.chars().take(60).collect::<String>());
        }
    }
}
