//! Why a workspace did not do what was asked.

use std::io;

/// Why a workspace did not do what was asked. Its text names no path but the one that was asked for, so it may be shown to anyone who asked.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct WorkspaceError {
    /// What kind of failure.
    pub code: WorkspaceErrorCode,
    /// What went wrong.
    pub message: String,
}

/// Kinds of failure, as far as somebody decides by them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum WorkspaceErrorCode {
    /// The text is no path in a workspace: absolute, with `..`, empty, too long, too deep, with characters that no name here has.
    InvalidPath,
    /// The path names something that is never shown: keys, secrets, the hub's own files.
    Hidden,
    /// Nothing is there.
    NotFound,
    /// There is something, but no regular file of the workspace's own: a directory, a link, a pipe, a device.
    NotAFile,
    /// There is something, but no directory.
    NotADirectory,
    /// More bytes than one write or one file may have.
    TooLarge,
    /// The user's files would be more than they may be together.
    QuotaExceeded,
    /// The operating system refused.
    Io,
}

impl WorkspaceErrorCode {
    /// As written in answers.
    pub const fn as_str(self) -> &'static str {
        match self {
            WorkspaceErrorCode::InvalidPath => "invalid_path",
            WorkspaceErrorCode::Hidden => "hidden",
            WorkspaceErrorCode::NotFound => "not_found",
            WorkspaceErrorCode::NotAFile => "not_a_file",
            WorkspaceErrorCode::NotADirectory => "not_a_directory",
            WorkspaceErrorCode::TooLarge => "too_large",
            WorkspaceErrorCode::QuotaExceeded => "quota_exceeded",
            WorkspaceErrorCode::Io => "io",
        }
    }
}

impl WorkspaceError {
    pub(super) fn new(code: WorkspaceErrorCode, message: impl Into<String>) -> Self {
        Self { code, message: message.into() }
    }

    pub(super) fn not_found(path: &str) -> Self {
        Self::new(WorkspaceErrorCode::NotFound, format!("there is no {path:?}"))
    }

    pub(super) fn not_a_file(path: &str, what: &str) -> Self {
        Self::new(WorkspaceErrorCode::NotAFile, format!("{path:?} is {what}, not a file of this workspace"))
    }

    pub(super) fn not_a_directory(path: &str) -> Self {
        Self::new(WorkspaceErrorCode::NotADirectory, format!("{path:?} is not a directory; links are not followed"))
    }

    /// What went wrong at `path`. Only the kind is told: texts of the system may name places outside.
    pub(super) fn io(path: &str, error: &io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::NotFound => Self::not_found(path),
            io::ErrorKind::NotADirectory => Self::not_a_directory(path),
            // A link where a directory should be, on some systems.
            _ if is_link(error) => Self::not_a_directory(path),
            io::ErrorKind::IsADirectory => Self::not_a_file(path, "a directory"),
            kind => Self::new(WorkspaceErrorCode::Io, format!("{path:?}: {kind}")),
        }
    }

    /// The workspace as a whole cannot be used.
    pub(super) fn unusable(why: &str) -> Self {
        Self::new(WorkspaceErrorCode::Io, format!("the workspace cannot be used: {why}"))
    }
}

/// Whether opening refused because there was a link.
pub(super) fn is_link(error: &io::Error) -> bool {
    error.raw_os_error() == Some(rustix::io::Errno::LOOP.raw_os_error())
}
