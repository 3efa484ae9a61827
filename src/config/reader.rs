//! Takes settings one by one out of everything that was given, remembers what each became, and collects every mistake on the way.

use std::collections::{BTreeMap, BTreeSet};

use secrecy::SecretString;

use super::{
    layers::{Given, Layers},
    mistake::{Mistake, Source},
    report::{Line, Report},
    value::Setting,
};

/// Reads settings. A setting that is wrong reads as its default, so that reading goes on and finds the next mistake.
#[derive(Debug)]
pub(crate) struct Reader {
    given: BTreeMap<String, Given>,
    known: BTreeSet<String>,
    report: Report,
    mistakes: Vec<Mistake>,
    limits_off: bool,
}

impl Reader {
    pub(crate) fn new(layers: Layers) -> Self {
        Self { given: layers.given, known: BTreeSet::new(), report: Report::default(), mistakes: layers.mistakes, limits_off: false }
    }

    /// From here on, limits that may be lifted are.
    pub(crate) fn lift_limits(&mut self) {
        self.limits_off = true;
    }

    /// Whether they are.
    pub(crate) fn limits_are_lifted(&self) -> bool {
        self.limits_off
    }

    /// A setting's text, not yet taken.
    pub(crate) fn text(&self, key: &str) -> Option<&str> {
        self.given.get(key)?.text()
    }

    /// A setting that was refused before it was taken is not refused again.
    pub(crate) fn withdraw(&mut self, key: &str) {
        self.given.remove(key);
        self.known.insert(key.to_owned());
    }

    /// Starts a section of the report.
    pub(crate) fn section(&mut self, name: &str, about: &'static str) {
        self.report.section(name, about);
    }

    /// A setting with a default.
    pub(crate) fn take<T: Setting>(&mut self, key: &str, about: &'static str, default: T) -> T {
        self.take_if(key, about, default, |_| Ok(()))
    }

    /// A setting with a default that has to be within bounds.
    pub(crate) fn within<T>(&mut self, key: &str, about: &'static str, default: T, least: T, most: T) -> T
    where
        T: Setting + PartialOrd,
    {
        let bounds = format!("must be between {} and {}", least.show(), most.show());
        self.take_if(key, about, default, |value| if *value < least || *value > most { Err(bounds) } else { Ok(()) })
    }

    /// A setting with a default and a condition.
    pub(crate) fn take_if<T: Setting>(
        &mut self,
        key: &str,
        about: &'static str,
        default: T,
        check: impl FnOnce(&T) -> Result<(), String>,
    ) -> T {
        let (value, source) = match self.parse::<T>(key) {
            None => (default, Source::Default),
            Some((value, source)) => match check(&value) {
                Ok(()) => (value, source),
                Err(text) => {
                    self.mistakes.push(Mistake { key: key.to_owned(), source, text });
                    (default, Source::Default)
                }
            },
        };
        self.report.line(Line { key: key.to_owned(), about, shown: value.show(), set: true, source });
        value
    }

    /// A limit that may be lifted: for this setting alone with `"off"`, or with all others.
    pub(crate) fn limit<T: Setting>(&mut self, key: &str, about: &'static str, default: T) -> Option<T> {
        if self.limits_off {
            // Still read, so that a mistake in it is found.
            let _ = self.parse::<Option<T>>(key);
            let (shown, source) = (None::<T>.show(), Source::Setting("limits = \"off\""));
            self.report.line(Line { key: key.to_owned(), about, shown, set: true, source });
            return None;
        }
        self.take(key, about, Some(default))
    }

    /// A setting that has no default.
    pub(crate) fn optional<T: Setting>(&mut self, key: &str, about: &'static str, example: &T) -> Option<T> {
        let found = self.parse::<T>(key);
        let (shown, source) = match &found {
            Some((value, source)) => (value.show(), source.clone()),
            None => (example.show(), Source::Default),
        };
        self.report.line(Line { key: key.to_owned(), about, shown, set: found.is_some(), source });
        found.map(|(value, _)| value)
    }

    /// A secret. Its value is kept out of the report and of every mistake.
    pub(crate) fn secret(&mut self, key: &str, about: &'static str) -> Option<SecretString> {
        self.known.insert(key.to_owned());
        let found = self.given.get(key).and_then(|given| given.text().map(|text| (text.to_owned(), given.source.clone())));
        if found.is_none() && self.given.contains_key(key) {
            self.refuse(key, "expected text");
        }
        let source = found.as_ref().map_or(Source::Default, |(_, source)| source.clone());
        let line = Line { key: key.to_owned(), about, shown: "\"***\"".to_owned(), set: found.is_some(), source };
        self.report.line(line);
        found.map(|(text, _)| SecretString::from(text))
    }

    /// Says that a setting, as it was given, will not do.
    pub(crate) fn refuse(&mut self, key: &str, text: impl Into<String>) {
        let source = self.source(key);
        self.mistakes.push(Mistake { key: key.to_owned(), source, text: text.into() });
    }

    /// Where a setting came from.
    pub(crate) fn source(&self, key: &str) -> Source {
        self.given.get(key).map_or(Source::Default, |given| given.source.clone())
    }

    /// Whether anybody gave a setting, right or wrong.
    pub(crate) fn is_given(&self, key: &str) -> bool {
        self.given.contains_key(key)
    }

    /// The names directly below a prefix: for `agents.`, those of the agents.
    pub(crate) fn names_below(&self, prefix: &str) -> BTreeSet<String> {
        let below = self.given.keys().filter_map(|key| key.strip_prefix(prefix));
        below.filter_map(|rest| rest.split_once('.')).map(|(name, _)| name.to_owned()).collect()
    }

    /// Everything given that nobody took is a mistake too.
    pub(crate) fn finish(mut self) -> Result<Report, Vec<Mistake>> {
        for (key, given) in &self.given {
            if self.known.contains(key) {
                continue;
            }
            let hint = closest(key, &self.known).map(|near| format!("; did you mean {near}?")).unwrap_or_default();
            let text = format!("there is no such setting{hint}");
            self.mistakes.push(Mistake { key: key.clone(), source: given.source.clone(), text });
        }
        if self.mistakes.is_empty() { Ok(self.report) } else { Err(self.mistakes) }
    }

    fn parse<T: Setting>(&mut self, key: &str) -> Option<(T, Source)> {
        self.known.insert(key.to_owned());
        let given = self.given.get(key)?;
        if let Some(value) = T::from_raw(&given.raw) {
            return Some((value, given.source.clone()));
        }
        let text = format!("expected {}, found {}", T::allowed(), given.shown());
        self.mistakes.push(Mistake { key: key.to_owned(), source: given.source.clone(), text });
        None
    }
}

/// The known key most like this one, if any is like it at all.
fn closest<'a>(key: &str, known: &'a BTreeSet<String>) -> Option<&'a str> {
    let last = |key: &str| key.rsplit('.').next().map(str::to_owned).unwrap_or_default();
    let near = known.iter().map(|candidate| (distance(key, candidate), candidate)).min()?;
    if near.0 <= 2 + key.len() / 8 {
        return Some(near.1);
    }
    // The right name in the wrong section.
    known.iter().find(|candidate| last(candidate) == last(key)).map(String::as_str)
}

/// How many letters have to change.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, letter) in a.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, other) in b.iter().enumerate() {
            let replaced = diagonal + usize::from(letter != *other);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(diagonal + 1).min(row[j] + 1);
        }
    }
    row[b.len()]
}
