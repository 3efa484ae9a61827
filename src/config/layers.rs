//! What was given, and by whom: file < environment < flags, as one flat map of dotted keys.

use std::{collections::BTreeMap, fs, path::Path};

use figment::{
    providers::{Format, Toml},
    value::{Dict, Num, Value},
};

use super::{
    mistake::{Mistake, Source},
    value::{Raw, quoted},
};

/// The file that is read when none is named.
pub(crate) const DEFAULT_FILE: &str = "agent-hub.toml";

/// Short names in the environment, and the settings they mean.
pub(crate) const SHORT_NAMES: [(&str, &str); 14] = [
    ("HOST", "server.host"),
    ("PORT", "server.port"),
    ("ALLOWED_ORIGINS", "server.allowed_origins"),
    ("ALLOWED_HOSTS", "server.allowed_hosts"),
    ("JWT_SECRET", "auth.jwt_secret"),
    ("STORAGE_TYPE", "storage.type"),
    ("STORAGE_PATH", "storage.path"),
    ("WORKSPACE_PATH", "workspace.path"),
    ("MODEL_PROVIDER", "provider.type"),
    ("MODEL_ID", "provider.model"),
    ("OPENAI_API_KEY", "provider.openai.api_key"),
    ("OPENAI_BASE_URL", "provider.openai.base_url"),
    ("ANTHROPIC_API_KEY", "provider.anthropic.api_key"),
    ("ANTHROPIC_BASE_URL", "provider.anthropic.base_url"),
];

/// `AGENT_HUB_*` names that are shorter than their setting.
const OWN_NAMES: [(&str, &str); 2] = [("AGENT_HUB_LIMITS", "limits"), ("AGENT_HUB_LOG", "log.filter")];

/// Names the file; not a setting itself.
const FILE_VARIABLE: &str = "AGENT_HUB_CONFIG";

/// Everything a configuration is made from. Tests make their own; the program takes it from the process.
#[derive(Clone, Debug, Default)]
pub struct Inputs {
    /// The file named by `--config`.
    pub file: Option<String>,
    /// The process's environment, or what a test says it is.
    pub environment: Vec<(String, String)>,
    /// Flags: the name as typed, the setting, the value.
    pub flags: Vec<(String, String, String)>,
    /// How many files the process may open; `None` where it cannot be known.
    pub open_files: Option<usize>,
}

/// One setting as it was given.
#[derive(Clone, Debug)]
pub(crate) struct Given {
    pub(crate) raw: Raw,
    pub(crate) source: Source,
}

/// All of them, the later layer over the earlier one.
#[derive(Debug, Default)]
pub(crate) struct Layers {
    pub(crate) given: BTreeMap<String, Given>,
    pub(crate) mistakes: Vec<Mistake>,
}

impl Inputs {
    /// What this process was started with. The only place that reads the environment.
    pub fn of_process(file: Option<String>, flags: Vec<(String, String, String)>) -> Self {
        let text = |text: std::ffi::OsString| text.to_string_lossy().into_owned();
        let environment = std::env::vars_os().map(|(name, value)| (text(name), text(value))).collect();
        Self { file, environment, flags, open_files: open_files() }
    }
}

impl Given {
    pub(crate) fn text(&self) -> Option<&str> {
        match &self.raw {
            Raw::One(text) => Some(text),
            Raw::Many(_) => None,
        }
    }

    /// For a mistake. What stands before an `@` in a URL is a password as often as not.
    pub(crate) fn shown(&self) -> String {
        match &self.raw {
            Raw::One(text) if text.contains("://") && text.contains('@') => "a URL with user or password".to_owned(),
            Raw::One(text) => quoted(text),
            Raw::Many(texts) => format!("[{}]", texts.iter().map(|t| quoted(t)).collect::<Vec<_>>().join(", ")),
        }
    }
}

impl Layers {
    pub(crate) fn gather(inputs: &Inputs) -> Self {
        let mut layers = Self::default();
        layers.add_file(inputs);
        layers.add_environment(&inputs.environment);
        for (flag, key, value) in &inputs.flags {
            layers.put(key.clone(), Raw::One(value.clone()), Source::Flag(flag.clone()));
        }
        layers
    }

    fn add_file(&mut self, inputs: &Inputs) {
        let variable = inputs.environment.iter().find(|(name, value)| name == FILE_VARIABLE && !value.is_empty());
        let named = inputs.file.as_ref().or(variable.map(|(_, path)| path));
        let path = named.map_or(DEFAULT_FILE, String::as_str);
        if named.is_none() && !Path::new(path).exists() {
            return;
        }
        let source = Source::File(path.to_owned());
        let text = match fs::read_to_string(path) {
            Ok(text) => text,
            Err(error) => return self.mistake("--config", source, format!("cannot be read: {error}")),
        };
        match <Toml as Format>::from_str::<Dict>(&text) {
            Ok(dict) => self.add_table("", dict, &source),
            Err(error) => self.mistake("--config", source, format!("is not TOML: {}", error.to_string().trim_end())),
        }
    }

    fn add_table(&mut self, prefix: &str, table: Dict, source: &Source) {
        for (name, value) in table {
            if name.is_empty() || name.contains('.') {
                self.mistake(&format!("{prefix}{name:?}"), source.clone(), "a name here has letters, digits, - and _ only".to_owned());
                continue;
            }
            let key = format!("{prefix}{name}");
            match value {
                Value::Dict(_, below) => self.add_table(&format!("{key}."), below, source),
                Value::Array(_, values) => match values.iter().map(scalar).collect() {
                    Some(texts) => self.put(key, Raw::Many(texts), source.clone()),
                    None => self.mistake(&key, source.clone(), "a list here holds plain values only".to_owned()),
                },
                single => match scalar(&single) {
                    Some(text) => self.put(key, Raw::One(text), source.clone()),
                    None => self.mistake(&key, source.clone(), "expected a plain value".to_owned()),
                },
            }
        }
    }

    /// Short names first: the long name of the same setting says it more deliberately, so it wins. An empty variable counts as
    /// not given, as in every compose file that passes variables through; but an empty secret is somebody's mistake.
    fn add_environment(&mut self, environment: &[(String, String)]) {
        let given = |name: &str, value: &str| !value.is_empty() || name == "JWT_SECRET" || name == "AGENT_HUB_AUTH__JWT_SECRET";
        for (name, value) in environment {
            if let Some((_, key)) = SHORT_NAMES.iter().find(|(short, _)| short == name)
                && given(name, value)
            {
                self.put((*key).to_owned(), Raw::One(value.clone()), Source::Environment(name.clone()));
            }
        }
        for (name, value) in environment {
            let Some(rest) = name.strip_prefix("AGENT_HUB_") else { continue };
            if name == FILE_VARIABLE || !given(name, value) {
                continue;
            }
            let own = OWN_NAMES.iter().find(|(own, _)| own == name).map(|(_, key)| (*key).to_owned());
            let key = own.unwrap_or_else(|| rest.to_ascii_lowercase().replace("__", "."));
            self.put(key, Raw::One(value.clone()), Source::Environment(name.clone()));
        }
    }

    fn put(&mut self, key: String, raw: Raw, source: Source) {
        self.given.insert(key, Given { raw, source });
    }

    fn mistake(&mut self, key: &str, source: Source, text: String) {
        self.mistakes.push(Mistake { key: key.to_owned(), source, text });
    }
}

fn scalar(value: &Value) -> Option<String> {
    match value {
        Value::String(_, text) => Some(text.clone()),
        Value::Char(_, letter) => Some(letter.to_string()),
        Value::Bool(_, yes) => Some(yes.to_string()),
        Value::Num(_, number) => Some(number_text(*number)),
        Value::Empty(..) | Value::Dict(..) | Value::Array(..) => None,
    }
}

fn number_text(number: Num) -> String {
    match (number.to_i128(), number.to_u128(), number.to_f64()) {
        (Some(whole), _, _) => whole.to_string(),
        (_, Some(whole), _) => whole.to_string(),
        (_, _, Some(float)) => float.to_string(),
        (None, None, None) => String::new(),
    }
}

/// The soft limit of open files. From the kernel's own table, because asking for it otherwise takes unsafe code or one more crate.
fn open_files() -> Option<usize> {
    let limits = fs::read_to_string("/proc/self/limits").ok()?;
    let line = limits.lines().find(|line| line.starts_with("Max open files"))?;
    line.split_whitespace().nth(3)?.parse().ok()
}
