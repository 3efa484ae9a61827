//! What the stores ask of the machine: one process at a time, and which boot this is.

use std::{
    fs::{File, OpenOptions, TryLockError},
    io,
    path::Path,
};

use super::{OpenError, StoreError};

/// Keeps what is `shown` to one process (and one store in it) for as long as it lives, also while nothing happens.
///
/// # Errors
/// [`OpenError::Locked`] when another one has it.
pub(super) fn lock_file(path: &Path, shown: &Path) -> Result<File, OpenError> {
    let shown = shown.display().to_string();
    let failed = |error: io::Error| open_error(path, &error);
    let file = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path).map_err(failed)?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(OpenError::Locked { path: shown }),
        Err(TryLockError::Error(error)) => Err(open_error(path, &error)),
    }
}

/// The kernel's name for the time since the machine was started; `None` where there is none.
pub(super) fn boot_id() -> Option<String> {
    std::fs::read_to_string("/proc/sys/kernel/random/boot_id").ok().map(|id| id.trim().to_owned())
}

/// What a failure of the file system means for whoever opens a store.
pub(super) fn open_error(path: &Path, error: &io::Error) -> OpenError {
    open_failure(path, io_error(error))
}

/// A failure of the store as whoever opens it is told.
pub(super) fn open_failure(path: &Path, error: StoreError) -> OpenError {
    let path = path.display().to_string();
    match error {
        StoreError::NotWritable(reason) => OpenError::NotWritable { path, reason },
        StoreError::Failed(reason) => OpenError::Failed { path, reason },
        StoreError::Damaged(_) | StoreError::Closed => OpenError::Failed { path, reason: error.to_string() },
    }
}

/// What a failure of the file system means for a caller.
pub(super) fn io_error(error: &io::Error) -> StoreError {
    use io::ErrorKind::{FileTooLarge, PermissionDenied, QuotaExceeded, ReadOnlyFilesystem, StorageFull};
    match error.kind() {
        StorageFull | QuotaExceeded | FileTooLarge | ReadOnlyFilesystem | PermissionDenied => StoreError::NotWritable(error.to_string()),
        _ => StoreError::Failed(error.to_string()),
    }
}
