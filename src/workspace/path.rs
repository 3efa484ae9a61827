//! Which texts are paths in a workspace.
//!
//! This is no jail: what keeps an access inside are the handles (`handles.rs`). These rules make mistakes clear, keep names sane, and hold the
//! hidden ones back.

use super::{WorkspaceError, WorkspaceErrorCode, hidden};

/// Longer paths are refused; what a system may take is at least this.
const PATH_BYTES: usize = 1024;
/// The longest name that common file systems can keep.
const NAME_BYTES: usize = 255;
/// Directories and the file in them. More than people need, and few enough to hold a handle of each.
pub(super) const DEPTH: usize = 16;
/// Of a path that is refused, this much is said again.
const SHOWN_CHARS: usize = 80;

/// A path that has passed: plain names joined by `/`, none of them hidden. Empty: the workspace itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct RelPath(String);

impl RelPath {
    /// The path of a file.
    pub(super) fn file(text: &str) -> Result<Self, WorkspaceError> {
        if text.is_empty() {
            return Err(invalid("a path is missing"));
        }
        check(text)?;
        Ok(Self(text.to_owned()))
    }

    /// The path of a directory: as of a file, and one `/` may end it; nothing or `.` is the workspace itself.
    pub(super) fn directory(text: &str) -> Result<Self, WorkspaceError> {
        match text {
            "" | "." | "./" => Ok(Self(String::new())),
            "/" => Self::file(text),
            _ => Self::file(text.strip_suffix('/').unwrap_or(text)),
        }
    }

    /// The path of what a directory contains, if it could be asked for.
    pub(super) fn child(&self, name: &str) -> Option<Self> {
        let path = if self.0.is_empty() { name.to_owned() } else { format!("{}/{name}", self.0) };
        (!name.contains('/') && check(&path).is_ok()).then_some(Self(path))
    }

    pub(super) fn names(&self) -> Vec<&str> {
        self.0.split('/').filter(|name| !name.is_empty()).collect()
    }

    /// As answers show it.
    pub(super) fn shown(&self) -> &str {
        if self.0.is_empty() { "." } else { &self.0 }
    }
}

fn invalid(message: impl Into<String>) -> WorkspaceError {
    WorkspaceError::new(WorkspaceErrorCode::InvalidPath, message)
}

fn check(text: &str) -> Result<(), WorkspaceError> {
    if text.len() > PATH_BYTES {
        return Err(invalid(format!("a path has at most {PATH_BYTES} bytes")));
    }
    let shown: String = text.chars().take(SHOWN_CHARS).collect();
    if let Some(odd) = text.chars().find(|c| c.is_control() || invisible(*c)) {
        return Err(invalid(format!("{shown:?}: a path has no control characters and no invisible ones (U+{:04X})", u32::from(odd))));
    }
    if text.contains('\\') {
        return Err(invalid(format!("{shown:?}: names are joined by \"/\", and none has a \"\\\"")));
    }
    if text.starts_with('/') || has_drive(text) {
        return Err(invalid(format!("{shown:?}: paths are relative to the workspace")));
    }
    let names: Vec<&str> = text.split('/').collect();
    for name in &names {
        check_name(name).map_err(|why| invalid(format!("{shown:?}: {why}")))?;
    }
    if names.first() == Some(&"~") {
        return Err(invalid(format!("{shown:?}: paths are relative to the workspace")));
    }
    if names.len() > DEPTH {
        return Err(invalid(format!("{shown:?}: a path has at most {DEPTH} names")));
    }
    if hidden::is_hidden(&names) {
        return Err(WorkspaceError::new(WorkspaceErrorCode::Hidden, format!("{shown:?} is hidden: it may hold secrets")));
    }
    Ok(())
}

fn check_name(name: &str) -> Result<(), String> {
    match name {
        "" => Err("a name is empty; there is one \"/\" between names, none at the end".into()),
        "." | ".." => Err(format!("{name:?} is not used in paths")),
        _ if name.bytes().all(|byte| matches!(byte, b'.' | b' ')) => Err("a name has more than dots and spaces".into()),
        _ if name.len() > NAME_BYTES => Err(format!("a name has at most {NAME_BYTES} bytes")),
        _ => Ok(()),
    }
}

/// `C:` and what follows it.
fn has_drive(text: &str) -> bool {
    matches!(text.as_bytes(), [letter, b':', ..] if letter.is_ascii_alphabetic())
}

/// Characters that make two different names look the same, or a name look like another one; some file systems drop them.
fn invisible(c: char) -> bool {
    matches!(c, '\u{ad}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}')
}
