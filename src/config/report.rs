//! The effective configuration as a file: for `--print-config`, and for the commented example that ships with the hub.

use std::fmt::Write as _;

use super::mistake::Source;

/// One setting as it is.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Line {
    pub(crate) key: String,
    pub(crate) about: &'static str,
    /// As TOML; an example where nothing is set.
    pub(crate) shown: String,
    pub(crate) set: bool,
    pub(crate) source: Source,
}

/// Every setting there is, in the order it was read.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Report {
    sections: Vec<Section>,
}

#[derive(Clone, Debug, PartialEq)]
struct Section {
    name: String,
    about: &'static str,
    lines: Vec<Line>,
}

impl Report {
    pub(crate) fn section(&mut self, name: &str, about: &'static str) {
        self.sections.push(Section { name: name.to_owned(), about, lines: Vec::new() });
    }

    pub(crate) fn line(&mut self, line: Line) {
        if self.sections.is_empty() {
            self.section("", "");
        }
        if let Some(section) = self.sections.last_mut() {
            section.lines.push(line);
        }
    }

    /// The effective values with where each came from. Secrets read `"***"`.
    pub fn effective(&self) -> String {
        self.write(|out, name, line| {
            if line.set {
                let _ = writeln!(out, "{name} = {}  # {}", line.shown, line.source);
            } else {
                let _ = writeln!(out, "# {name} is not set");
            }
        })
    }

    /// A file that changes nothing: every setting with what it does and its default, commented out.
    pub fn example(&self) -> String {
        let head = "# agent-hub: every setting, with its default. A file with nothing in it is a good file.\n#\n\
             # Everything here can also be set in the environment: AGENT_HUB_ and the key in capitals, sections parted by two\n\
             # underscores (AGENT_HUB_SERVER__HEARTBEAT=\"10 s\"), lists with commas. Flags win over the environment, the\n\
             # environment over this file. Short names: HOST PORT ALLOWED_ORIGINS ALLOWED_HOSTS JWT_SECRET STORAGE_TYPE\n\
             # STORAGE_PATH WORKSPACE_PATH MODEL_PROVIDER MODEL_ID OPENAI_API_KEY OPENAI_BASE_URL ANTHROPIC_API_KEY\n\
             # ANTHROPIC_BASE_URL, AGENT_HUB_LIMITS, AGENT_HUB_LOG. AGENT_HUB_CONFIG names this file.\n";
        let body = self.write(|out, name, line| {
            for about in line.about.lines() {
                let _ = writeln!(out, "# {about}");
            }
            let note = if line.set { "" } else { "  # not set" };
            let _ = writeln!(out, "#{name} = {}{note}", line.shown);
        });
        format!("{head}{body}")
    }

    fn write(&self, each: impl Fn(&mut String, &str, &Line)) -> String {
        let mut out = String::new();
        for section in &self.sections {
            if !section.name.is_empty() {
                let _ = write!(out, "\n[{}]", section.name);
            }
            let _ = if section.about.is_empty() { writeln!(out) } else { writeln!(out, "  # {}", section.about) };
            let prefix = format!("{}.", section.name);
            for line in &section.lines {
                each(&mut out, line.key.strip_prefix(&prefix).unwrap_or(&line.key), line);
            }
        }
        out
    }
}
