//! One table of a scenario, taken apart key by key. What is wrong is noted and reading goes on, so that all mistakes are told together.

use std::{cell::RefCell, ops::Range, time::Duration};

use toml_edit::{Item, TableLike, Value};

use super::read::Mistake;

/// No time of a scenario is longer: sums of some of them must be times too.
pub(super) const LONGEST: Duration = Duration::from_secs(1000 * 3600);

/// Where mistakes are noted, and how an offset becomes a line.
pub(super) struct Notes<'a> {
    text: &'a str,
    found: RefCell<Vec<Mistake>>,
}

impl<'a> Notes<'a> {
    pub(super) fn new(text: &'a str) -> Self {
        Self { text, found: RefCell::default() }
    }

    pub(super) fn add(&self, span: Option<Range<usize>>, place: &str, text: impl Into<String>) {
        let line = span.map(|span| line_of(self.text, span.start));
        self.found.borrow_mut().push(Mistake { line, place: place.to_owned(), text: text.into() });
    }

    /// What stands there, as it was written; of several lines the first.
    pub(super) fn written(&self, span: Option<Range<usize>>) -> &'a str {
        let written = span.and_then(|span| self.text.get(span)).unwrap_or_default();
        written.lines().next().unwrap_or_default().trim()
    }

    pub(super) fn into_found(self) -> Vec<Mistake> {
        self.found.into_inner()
    }
}

/// Counts from 1.
pub(super) fn line_of(text: &str, offset: usize) -> usize {
    text.as_bytes().iter().take(offset).filter(|byte| **byte == b'\n').count() + 1
}

/// A table and the keys that were asked for. Those that were not are unknown.
pub(super) struct Fields<'a> {
    table: &'a dyn TableLike,
    span: Option<Range<usize>>,
    /// As in `group "chatters", step 3`.
    pub(super) place: String,
    known: Vec<&'static str>,
    pub(super) notes: &'a Notes<'a>,
}

/// Something a key can be.
pub(super) trait FromToml: Sized {
    /// What is allowed, to follow "expected".
    fn allowed() -> String;

    fn from_value(value: &Value) -> Option<Self>;
}

impl<'a> Fields<'a> {
    pub(super) fn new(table: &'a dyn TableLike, span: Option<Range<usize>>, place: String, notes: &'a Notes<'a>) -> Self {
        Self { table, span, place, known: Vec::new(), notes }
    }

    pub(super) fn has(&self, key: &str) -> bool {
        self.table.contains_key(key)
    }

    /// A key that may be left out.
    pub(super) fn optional<T: FromToml>(&mut self, key: &'static str) -> Option<T> {
        let item = self.item(key)?;
        let read = item.as_value().and_then(T::from_value);
        if read.is_none() {
            let given = self.notes.written(item.span());
            self.wrong(key, format!("expected {}, got {given}", T::allowed()));
        }
        read
    }

    /// A key that may be left out, with what holds then.
    pub(super) fn or<T: FromToml>(&mut self, key: &'static str, default: T) -> T {
        self.optional(key).unwrap_or(default)
    }

    /// A key that must be there. Without it, what is returned does not matter: the scenario is refused.
    pub(super) fn required<T: FromToml>(&mut self, key: &'static str, stand_in: T) -> T {
        if !self.has(key) {
            self.known.push(key);
            let text = format!("`{key}` is missing: {}", T::allowed());
            self.notes.add(self.span.clone(), &self.place, text);
            return stand_in;
        }
        self.optional(key).unwrap_or(stand_in)
    }

    /// A whole number within bounds.
    pub(super) fn within(&mut self, key: &'static str, default: u64, least: u64, most: u64) -> u64 {
        let Some(number) = self.optional::<u64>(key) else { return default };
        if !(least..=most).contains(&number) {
            self.wrong(key, format!("expected a whole number from {least} to {most}, got {number}"));
            return default;
        }
        number
    }

    /// A share: 0 to 1.
    pub(super) fn share(&mut self, key: &'static str, default: f64) -> f64 {
        let Some(share) = self.optional::<f64>(key) else { return default };
        if !(0.0..=1.0).contains(&share) {
            self.wrong(key, format!("expected a number from 0 to 1, got {share}"));
            return default;
        }
        share
    }

    /// A table inside.
    pub(super) fn table(&mut self, key: &'static str) -> Option<Fields<'a>> {
        let item = self.item(key)?;
        let Some(table) = item.as_table_like() else {
            self.wrong(key, "expected a table".to_owned());
            return None;
        };
        let place = if self.place.is_empty() { format!("[{key}]") } else { format!("{}, {key}", self.place) };
        Some(Fields::new(table, item.span(), place, self.notes))
    }

    /// Tables inside: `[[key]]`, or an array of inline tables.
    pub(super) fn tables(&mut self, key: &'static str) -> Vec<(&'a dyn TableLike, Option<Range<usize>>)> {
        let Some(item) = self.item(key) else { return Vec::new() };
        match item {
            Item::ArrayOfTables(tables) => tables.iter().map(|table| (table as &dyn TableLike, table.span())).collect(),
            Item::Value(Value::Array(values)) => {
                let mut tables = Vec::new();
                for value in values {
                    match value.as_inline_table() {
                        Some(table) => tables.push((table as &dyn TableLike, value.span())),
                        None => self.notes.add(
                            value.span(),
                            &self.place,
                            format!("`{key}`: expected tables, got {}", self.notes.written(value.span())),
                        ),
                    }
                }
                tables
            }
            _ => {
                self.wrong(key, "expected an array of tables".to_owned());
                Vec::new()
            }
        }
    }

    /// All keys and values, whatever they are called.
    pub(super) fn entries(&self) -> impl Iterator<Item = (&'a str, &'a Item)> + use<'a> {
        self.table.iter()
    }

    /// The span of a key, for mistakes about it.
    pub(super) fn span_of(&self, key: &str) -> Option<Range<usize>> {
        let (key, item) = self.table.get_key_value(key)?;
        key.span().or_else(|| item.span())
    }

    /// A mistake about a key.
    pub(super) fn wrong(&self, key: &str, text: String) {
        self.notes.add(self.span_of(key), &self.place, format!("`{key}`: {text}"));
    }

    /// A mistake about the whole table.
    pub(super) fn wrong_here(&self, text: impl Into<String>) {
        self.notes.add(self.span.clone(), &self.place, text);
    }

    /// Refuses the keys nobody asked for.
    pub(super) fn finish(self) {
        for (key, _) in self.table.iter() {
            if !self.known.contains(&key) {
                let text = format!("`{key}` is not known here; allowed: {}", self.known.join(", "));
                self.notes.add(self.span_of(key), &self.place, text);
            }
        }
    }

    fn item(&mut self, key: &'static str) -> Option<&'a Item> {
        if !self.known.contains(&key) {
            self.known.push(key);
        }
        self.table.get(key)
    }
}

impl FromToml for String {
    fn allowed() -> String {
        "a text that is not empty".to_owned()
    }

    fn from_value(value: &Value) -> Option<Self> {
        value.as_str().filter(|text| !text.is_empty()).map(str::to_owned)
    }
}

impl FromToml for bool {
    fn allowed() -> String {
        "true or false".to_owned()
    }

    fn from_value(value: &Value) -> Option<Self> {
        value.as_bool()
    }
}

impl FromToml for u64 {
    fn allowed() -> String {
        "a whole number".to_owned()
    }

    fn from_value(value: &Value) -> Option<Self> {
        u64::try_from(value.as_integer()?).ok()
    }
}

impl FromToml for f64 {
    fn allowed() -> String {
        "a number".to_owned()
    }

    fn from_value(value: &Value) -> Option<Self> {
        value.as_float().or_else(|| value.as_integer().map(|whole| whole as f64)).filter(|number| number.is_finite() && *number >= 0.0)
    }
}

impl FromToml for Duration {
    fn allowed() -> String {
        "a time with its unit of at most 1000 h, such as \"250 ms\", \"5 s\" or \"2 min\"".to_owned()
    }

    fn from_value(value: &Value) -> Option<Self> {
        duration(value.as_str()?)
    }
}

/// `"250 ms"`, `"1.5 s"`, `"2 min"`, `"1 h"`; space or not.
pub(super) fn duration(text: &str) -> Option<Duration> {
    let (number, unit) = number_and_unit(text)?;
    let seconds = match unit {
        "us" => 1e-6,
        "ms" => 1e-3,
        "s" => 1.0,
        "min" => 60.0,
        "h" => 3600.0,
        _ => return None,
    };
    Duration::try_from_secs_f64(number * seconds).ok().filter(|time| *time <= LONGEST)
}

/// A size in bytes: `2048` or `"2 KiB"`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Bytes(pub(super) u64);

impl FromToml for Bytes {
    fn allowed() -> String {
        "a size, such as 2048 or \"2 KiB\"".to_owned()
    }

    fn from_value(value: &Value) -> Option<Self> {
        if let Some(bytes) = value.as_integer() {
            return u64::try_from(bytes).ok().map(Bytes);
        }
        bytes(value.as_str()?).map(|bytes| Bytes(bytes as u64))
    }
}

/// `"2 KiB"`, `"1 MiB"`, `"100 B"`.
pub(super) fn bytes(text: &str) -> Option<f64> {
    let (number, unit) = number_and_unit(text)?;
    let factor = match unit {
        "B" => 1.0,
        "KiB" => 1024.0,
        "MiB" => 1024.0 * 1024.0,
        _ => return None,
    };
    Some(number * factor)
}

fn number_and_unit(text: &str) -> Option<(f64, &str)> {
    let text = text.trim();
    let end = text.find(|c: char| !c.is_ascii_digit() && c != '.')?;
    let number: f64 = text[..end].parse().ok()?;
    Some((number, text[end..].trim_start()))
}

/// A word of a few.
macro_rules! choice {
    ($type:ty { $($name:literal => $value:expr),+ $(,)? }) => {
        impl FromToml for $type {
            fn allowed() -> String {
                ["one of", $(concat!("\"", $name, "\"")),+].join(" ")
            }

            fn from_value(value: &Value) -> Option<Self> {
                Some(match value.as_str()? {
                    $($name => $value,)+
                    _ => return None,
                })
            }
        }
    };
}
pub(super) use choice;
