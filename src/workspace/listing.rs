//! What is in a workspace.

use std::{collections::VecDeque, io, time::SystemTime};

use cap_std::fs::{Dir, Metadata};
use tokio_util::sync::CancellationToken;

use super::{
    WorkspaceError,
    handles::{Kind, descend, look},
    path::RelPath,
};

/// Names one listing or search looks at, so that a huge tree costs a bounded time.
const LOOKED_AT: usize = 20_000;

/// What a directory contains. Only what could be asked for is in it: no hidden names, none that are not UTF-8 or no path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listing {
    /// The directory, relative to the workspace; `.` is the workspace itself.
    pub path: String,
    /// Outer directories before inner ones, each in order of names.
    pub entries: Vec<Entry>,
    /// Whether there is more than may be told.
    pub truncated: bool,
}

/// One thing in a workspace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Relative to the workspace.
    pub path: String,
    /// What it is.
    pub kind: EntryKind,
    /// Bytes of a file.
    pub size: Option<u64>,
    /// When a file or directory was changed last.
    pub modified: Option<SystemTime>,
}

/// What something in a workspace is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EntryKind {
    /// A file that can be read.
    File,
    /// A directory.
    Directory,
    /// Something that is there but not touched: a link, a file with several names, a pipe, a device.
    Other,
}

impl EntryKind {
    /// As written in answers.
    pub const fn as_str(self) -> &'static str {
        match self {
            EntryKind::File => "file",
            EntryKind::Directory => "directory",
            EntryKind::Other => "other",
        }
    }
}

/// What is wanted of a directory.
#[derive(Debug)]
pub(super) struct Wanted {
    /// Names that contain this text, in either case of letters; all if `None`.
    pub(super) part: Option<String>,
    pub(super) recursive: bool,
    pub(super) limit: usize,
}

/// Lists what is below `path`; `workspace` is `None` when nothing was ever written.
pub(super) fn list(workspace: Option<Dir>, path: &RelPath, wanted: &Wanted, stop: &CancellationToken) -> Result<Listing, WorkspaceError> {
    let mut listing = Listing { path: path.shown().to_owned(), entries: Vec::new(), truncated: false };
    let Some(workspace) = workspace else {
        return if path.names().is_empty() { Ok(listing) } else { Err(WorkspaceError::not_found(path.shown())) };
    };
    let failed = |error: io::Error| WorkspaceError::io(path.shown(), &error);
    let mut next = VecDeque::from([path.clone()]);
    let mut left = LOOKED_AT;
    while let Some(folder) = next.pop_front() {
        let opened = descend(workspace.try_clone().map_err(failed)?, &folder.names());
        let directory = match opened {
            Ok((directory, rest)) if rest.is_empty() => directory,
            // Went away, or became something else, after its name was read.
            _ if folder != *path => continue,
            Ok(_) => return Err(WorkspaceError::not_found(path.shown())),
            Err(error) => return Err(failed(error)),
        };
        let (names, whole) = names_of(&directory, &mut left, stop).map_err(failed)?;
        listing.truncated |= !whole;
        for name in names {
            let Some(child) = folder.child(&name) else { continue };
            let Some(entry) = entry_of(&directory, &name, &child).map_err(failed)? else { continue };
            if wanted.recursive && entry.kind == EntryKind::Directory {
                next.push_back(child);
            }
            if wanted.part.as_ref().is_some_and(|part| !name.to_lowercase().contains(part)) {
                continue;
            }
            if listing.entries.len() == wanted.limit {
                listing.truncated = true;
                return Ok(listing);
            }
            listing.entries.push(entry);
        }
    }
    Ok(listing)
}

/// The names in a directory, in order, and whether these are all.
fn names_of(directory: &Dir, left: &mut usize, stop: &CancellationToken) -> io::Result<(Vec<String>, bool)> {
    let mut names = Vec::new();
    let mut whole = true;
    for entry in directory.entries()? {
        if *left == 0 || stop.is_cancelled() {
            whole = false;
            break;
        }
        *left -= 1;
        names.extend(entry?.file_name().into_string().ok());
    }
    names.sort_unstable();
    Ok((names, whole))
}

/// `None` when it is gone already.
fn entry_of(directory: &Dir, name: &str, path: &RelPath) -> io::Result<Option<Entry>> {
    let modified = |found: &Metadata| found.modified().ok().map(cap_std::time::SystemTime::into_std);
    let (kind, size, modified) = match look(directory, name)? {
        Kind::Absent => return Ok(None),
        Kind::File(found) => (EntryKind::File, Some(found.len()), modified(&found)),
        Kind::Directory(found) => (EntryKind::Directory, None, modified(&found)),
        Kind::Other(_) => (EntryKind::Other, None, None),
    };
    Ok(Some(Entry { path: path.shown().to_owned(), kind, size, modified }))
}
