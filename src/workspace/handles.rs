//! The jail: every step is one name, opened from the handle of the directory it is in, and never through a link.
//!
//! So there is nothing to check before opening that could change meanwhile, and no path of the machine at all. What was opened is then looked
//! at through its own handle.

use std::{
    ffi::OsStr,
    fs::{DirBuilder, File},
    io,
    os::unix::fs::{DirBuilderExt as _, MetadataExt as _},
    path::Path,
};

use cap_std::{
    ambient_authority,
    fs::{Dir, DirBuilder as DirOptions, DirBuilderExt as _, Metadata, MetadataExt as _},
};
use rustix::fs::{Mode, OFlags, openat};

use super::{WorkspaceError, error::is_link};

/// What there is under a name.
#[derive(Debug)]
pub(super) enum Kind {
    Absent,
    /// A regular file with one name.
    File(Metadata),
    Directory(Metadata),
    /// Anything that is not touched: what it is, for people.
    Other(&'static str),
}

/// The directory of all workspaces. The operator chose it, so links on the way to it are followed.
pub(super) fn open_root(root: &Path) -> io::Result<Dir> {
    DirBuilder::new().recursive(true).mode(0o700).create(root)?;
    Dir::open_ambient_dir(root, ambient_authority())
}

/// Opens a directory in another. A link is not a directory, wherever it leads.
pub(super) fn open_directory(parent: &Dir, name: impl AsRef<OsStr>) -> io::Result<Dir> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    Ok(Dir::from(openat(parent, name.as_ref(), flags, Mode::empty())?))
}

/// Goes down as far as there are directories; the names that are left.
pub(super) fn descend<'n>(from: Dir, names: &[&'n str]) -> io::Result<(Dir, Vec<&'n str>)> {
    let mut at = from;
    for (index, name) in names.iter().enumerate() {
        match open_directory(&at, name) {
            Ok(next) => at = next,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok((at, names[index..].to_vec())),
            Err(error) => return Err(error),
        }
    }
    Ok((at, Vec::new()))
}

/// Goes down, and makes what is missing.
pub(super) fn make_directories(from: Dir, names: &[&str]) -> io::Result<Dir> {
    let mut at = from;
    for name in names {
        match at.create_dir_with(name, DirOptions::new().mode(0o700)) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
            _ => at = open_directory(&at, name)?,
        }
    }
    Ok(at)
}

/// What there is under a name now. Good for choosing words, never for trusting what is opened later.
pub(super) fn look(parent: &Dir, name: &str) -> io::Result<Kind> {
    let found = match parent.symlink_metadata(name) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Kind::Absent),
        found => found?,
    };
    Ok(if found.is_dir() {
        Kind::Directory(found)
    } else if found.is_file() && found.nlink() <= 1 {
        Kind::File(found)
    } else {
        Kind::Other(what_is(&found))
    })
}

/// Opens a regular file for reading.
pub(super) fn open_file(parent: &Dir, name: &str, path: &str) -> Result<(File, std::fs::Metadata), WorkspaceError> {
    // Looked at first because to open some devices is to use them. What decides is the look through the handle.
    match look(parent, name).map_err(|error| WorkspaceError::io(path, &error))? {
        Kind::Absent => Err(WorkspaceError::not_found(path)),
        Kind::Directory(_) => Err(WorkspaceError::not_a_file(path, "a directory")),
        Kind::Other(what) => Err(WorkspaceError::not_a_file(path, what)),
        Kind::File(_) => open_looked_at(parent, name, path),
    }
}

/// Opens what was a regular file when it was looked at, and makes sure that it is one.
pub(super) fn open_looked_at(parent: &Dir, name: &str, path: &str) -> Result<(File, std::fs::Metadata), WorkspaceError> {
    // Without NONBLOCK a pipe would wait for its other end.
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    let opened = openat(parent, name, flags, Mode::empty()).map_err(io::Error::from);
    let file = File::from(opened.map_err(|error| match is_link(&error) {
        true => WorkspaceError::not_a_file(path, "a link"),
        false => WorkspaceError::io(path, &error),
    })?);
    let metadata = file.metadata().map_err(|error| WorkspaceError::io(path, &error))?;
    // One of several names of a file may be outside. The hub makes no such names, so whoever did was not the agent. A file that was replaced
    // meanwhile has none.
    if !metadata.is_file() || metadata.nlink() > 1 {
        return Err(WorkspaceError::not_a_file(path, "something else"));
    }
    Ok((file, metadata))
}

/// Makes a file that was not there.
pub(super) fn create_file(parent: &Dir, name: &str) -> io::Result<File> {
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    Ok(File::from(openat(parent, name, flags, Mode::RUSR | Mode::WUSR)?))
}

fn what_is(found: &Metadata) -> &'static str {
    if found.is_symlink() {
        "a link"
    } else if found.is_file() {
        "a file with several names (hard links)"
    } else {
        "a pipe, socket or device"
    }
}
