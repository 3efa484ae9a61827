//! Taking a session's files away: out of reach with one rename, then from the disk.

use std::{
    ffi::{OsStr, OsString},
    io,
};

use cap_std::fs::{Dir, ReadDir};
use uuid::Uuid;

use super::{handles::open_directory, hidden::OWN_PREFIX};

/// Handles held at once. What is nested deeper is moved up first.
const DEPTH: usize = 64;
/// Passes over one tree: some file systems skip names while others are removed, and what was moved up may be seen in the next pass only.
const PASSES: usize = 1000;

/// Removes the directory of a session from that of its user. What an earlier removal left, because it was cut off, goes with it.
pub(super) fn remove_session(user: &Dir, session: &str) -> io::Result<()> {
    match user.rename(session, user, own_name()) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        moved => moved?,
    }
    sweep(user)
}

/// Removes what the hub left half done in a directory.
fn sweep(directory: &Dir) -> io::Result<()> {
    for entry in directory.entries()? {
        let name = entry?.file_name();
        if name.to_str().is_some_and(|name| name.starts_with(OWN_PREFIX)) {
            remove(directory, &name)?;
        }
    }
    Ok(())
}

/// A name that nobody else uses and nobody sees.
pub(super) fn own_name() -> String {
    format!("{OWN_PREFIX}{}", Uuid::new_v4().simple())
}

/// Removes a file, or a directory with all that is below it.
pub(super) fn remove(parent: &Dir, name: &OsStr) -> io::Result<()> {
    if !parent.symlink_metadata(name)?.is_dir() {
        return parent.remove_file(name);
    }
    let top = open_directory(parent, name)?;
    for _ in 0..PASSES {
        empty(&top)?;
        match parent.remove_dir(name) {
            Err(error) if error.kind() == io::ErrorKind::DirectoryNotEmpty => {}
            removed => return removed,
        }
    }
    Err(io::Error::from(io::ErrorKind::DirectoryNotEmpty))
}

struct Level {
    name: OsString,
    directory: Dir,
    entries: ReadDir,
}

impl Level {
    fn new(name: OsString, directory: Dir) -> io::Result<Self> {
        let entries = directory.entries()?;
        Ok(Self { name, directory, entries })
    }
}

/// One pass: removes all that can be removed below `top`, without recursion, so that no depth of the tree is too much.
fn empty(top: &Dir) -> io::Result<()> {
    let mut levels = vec![Level::new(OsString::new(), top.try_clone()?)?];
    loop {
        let depth = levels.len();
        let Some(level) = levels.last_mut() else { return Ok(()) };
        let Some(entry) = level.entries.next() else {
            let done = levels.pop();
            if let (Some(done), Some(above)) = (done, levels.last()) {
                match above.directory.remove_dir(&done.name) {
                    Err(error) if error.kind() == io::ErrorKind::DirectoryNotEmpty => {}
                    removed => removed?,
                }
            }
            continue;
        };
        let name = entry?.file_name();
        // Links are removed, not followed.
        if !level.directory.symlink_metadata(&name)?.is_dir() {
            level.directory.remove_file(&name)?;
        } else if depth == DEPTH {
            level.directory.rename(&name, top, own_name())?;
        } else {
            let below = open_directory(&level.directory, &name)?;
            levels.push(Level::new(name, below)?);
        }
    }
}
