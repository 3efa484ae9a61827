//! Reading and writing of one file.

use std::{
    fs::{File, Permissions},
    io::{self, Read as _, Seek as _, SeekFrom, Write as _},
    os::unix::fs::{MetadataExt as _, PermissionsExt as _},
};

use cap_std::fs::{Dir, Metadata, PermissionsExt as _};
use tokio_util::sync::CancellationToken;

use super::{
    Limits, WorkspaceError, WorkspaceErrorCode,
    handles::{Kind, create_file, descend, look, make_directories, open_file},
    path::RelPath,
    quota::{BLOCK, Count, charge, charge_of},
    removal::own_name,
};

/// A piece of a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Piece {
    /// The file, relative to the workspace.
    pub path: String,
    /// Its bytes from `offset`.
    pub bytes: Vec<u8>,
    /// Where they begin.
    pub offset: u64,
    /// How large the whole file is.
    pub size: u64,
}

/// What a write did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Written {
    /// The file, relative to the workspace.
    pub path: String,
    /// How large it is now.
    pub size: u64,
    /// Whether it was not there before.
    pub created: bool,
}

/// What is to be written.
#[derive(Debug)]
pub(super) struct Content {
    pub(super) bytes: Vec<u8>,
    pub(super) append: bool,
}

/// Reads at most `most` bytes from `offset`.
pub(super) fn read(workspace: Option<Dir>, path: &RelPath, offset: u64, most: usize) -> Result<Piece, WorkspaceError> {
    let shown = path.shown();
    let failed = |error: io::Error| WorkspaceError::io(shown, &error);
    let names = path.names();
    let (Some(workspace), Some((name, folders))) = (workspace, names.split_last()) else {
        return Err(WorkspaceError::not_found(shown));
    };
    let (folder, missing) = descend(workspace, folders).map_err(failed)?;
    if !missing.is_empty() {
        return Err(WorkspaceError::not_found(shown));
    }
    let (mut file, metadata) = open_file(&folder, name, shown)?;
    let mut piece = Piece { path: shown.to_owned(), bytes: Vec::new(), offset, size: metadata.len() };
    if offset < piece.size {
        file.seek(SeekFrom::Start(offset)).map_err(failed)?;
        file.take(most as u64).read_to_end(&mut piece.bytes).map_err(failed)?;
    }
    Ok(piece)
}

/// Where a write goes, before anything was made for it.
struct Place<'n> {
    folder: Dir,
    missing: Vec<&'n str>,
    old: Option<Metadata>,
}

/// Writes a file as a whole: others see it as it was or as it is now. Nothing is made when it is refused. What was written survives the
/// end of the process, but not a loss of power right after it.
pub(super) fn write(
    root: Dir,
    home: &[&str],
    path: &RelPath,
    content: &Content,
    limits: &Limits,
    count: &mut Count,
    stop: &CancellationToken,
) -> Result<Written, WorkspaceError> {
    let shown = path.shown();
    let failed = |error: io::Error| WorkspaceError::io(shown, &error);
    let names = path.names();
    let Some((name, folders)) = names.split_last() else { return Err(WorkspaceError::not_a_file(shown, "a directory")) };
    let user = descend(root.try_clone().map_err(failed)?, &home[..1]).map_err(failed)?;
    let place = find_place(root, &[home, folders].concat(), name, shown)?;
    let kept = if content.append { place.old.as_ref().map_or(0, Metadata::len) } else { 0 };
    let size = kept.saturating_add(content.bytes.len() as u64);
    if size > limits.file_bytes {
        let message = format!("{shown:?} would have {size} bytes; a file has at most {}", limits.file_bytes);
        return Err(WorkspaceError::new(WorkspaceErrorCode::TooLarge, message));
    }
    let before = place.old.as_ref().map_or(0, charge_of);
    let folders_made = place.missing.len() as u64 * BLOCK;
    let more = (charge(size, 0) + folders_made).saturating_sub(before);
    // Who only shrinks a file may do so even when too much is used.
    if more > 0 {
        count.admit(user.1.is_empty().then_some(&user.0), more, limits.user_bytes, stop)?;
    }
    let folder = make_directories(place.folder, &place.missing).map_err(failed)?;
    count.change(0, folders_made);
    let after = replace(&folder, name, shown, content, place.old.as_ref(), limits, stop)?;
    count.change(before, charge(after.len(), after.blocks()));
    Ok(Written { path: shown.to_owned(), size: after.len(), created: place.old.is_none() })
}

fn find_place<'n>(root: Dir, folders: &[&'n str], name: &str, shown: &str) -> Result<Place<'n>, WorkspaceError> {
    let failed = |error: io::Error| WorkspaceError::io(shown, &error);
    let (folder, missing) = descend(root, folders).map_err(failed)?;
    let old = match missing.is_empty() {
        false => Kind::Absent,
        true => look(&folder, name).map_err(failed)?,
    };
    let old = match old {
        Kind::Absent => None,
        Kind::File(found) => Some(found),
        Kind::Directory(_) => return Err(WorkspaceError::not_a_file(shown, "a directory")),
        Kind::Other(what) => return Err(WorkspaceError::not_a_file(shown, what)),
    };
    Ok(Place { folder, missing, old })
}

/// Writes the content beside the file and puts it in its place. A rename replaces a name and follows nothing.
fn replace(
    folder: &Dir,
    name: &str,
    shown: &str,
    content: &Content,
    old: Option<&Metadata>,
    limits: &Limits,
    stop: &CancellationToken,
) -> Result<std::fs::Metadata, WorkspaceError> {
    let failed = |error: io::Error| WorkspaceError::io(shown, &error);
    let draft = Draft { folder, name: own_name() };
    let mut file = create_file(folder, &draft.name).map_err(failed)?;
    if content.append && old.is_some() {
        copy_old(folder, name, shown, &mut file, limits.file_bytes - content.bytes.len() as u64)?;
    }
    file.write_all(&content.bytes).map_err(failed)?;
    if let Some(old) = old {
        file.set_permissions(Permissions::from_mode(old.permissions().mode() & 0o777)).map_err(failed)?;
    }
    let metadata = file.metadata().map_err(failed)?;
    if stop.is_cancelled() {
        return Err(WorkspaceError::unusable("nobody waits for this write any more"));
    }
    folder.rename(&draft.name, folder, name).map_err(failed)?;
    Ok(metadata)
}

fn copy_old(folder: &Dir, name: &str, shown: &str, to: &mut File, most: u64) -> Result<(), WorkspaceError> {
    let (old, _) = open_file(folder, name, shown)?;
    // It may have grown since it was measured.
    io::copy(&mut old.take(most), to).map_err(|error| WorkspaceError::io(shown, &error))?;
    Ok(())
}

/// A file that is being written. Dropped before it is in its place: it goes.
struct Draft<'d> {
    folder: &'d Dir,
    name: String,
}

impl Drop for Draft<'_> {
    fn drop(&mut self) {
        // After the rename there is none of this name. One that stays is hidden, and goes when its user's files are counted next.
        let _ = self.folder.remove_file(&self.name);
    }
}
