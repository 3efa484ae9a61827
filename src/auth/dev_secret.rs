//! The secret of development mode: made once and kept, so that a restart does not invalidate the tokens people work with.

use std::{
    fs::{self, DirBuilder, OpenOptions},
    io::{self, Write as _},
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
};

use secrecy::SecretString;
use uuid::Uuid;

/// Why there is no development secret.
#[derive(Debug, thiserror::Error)]
pub enum SecretFileError {
    /// Others can read it, so it is none.
    #[error("{0} holds the secret that signs tokens and others can read it: chmod 600 {0}, or delete it to have a new one made")]
    Exposed(PathBuf),
    /// It is not what the hub writes.
    #[error("{0} does not hold a secret; delete it to have a new one made")]
    Damaged(PathBuf),
    /// The file system said no.
    #[error("cannot read or write {path}")]
    Io {
        /// Which file.
        path: PathBuf,
        /// What it said.
        #[source]
        source: io::Error,
    },
}

pub(super) fn read_or_make(path: &Path) -> Result<SecretString, SecretFileError> {
    let failed = |source| SecretFileError::Io { path: path.to_owned(), source };
    match fs::metadata(path) {
        Ok(there) if there.permissions().mode() & 0o077 != 0 => return Err(SecretFileError::Exposed(path.to_owned())),
        Ok(_) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => make(path).map_err(failed)?,
        Err(error) => return Err(failed(error)),
    }
    let secret = fs::read_to_string(path).map_err(failed)?.trim().to_owned();
    if secret.len() < 32 { Err(SecretFileError::Damaged(path.to_owned())) } else { Ok(SecretString::from(secret)) }
}

/// Written whole under another name first: of two hubs that start at the same time both use the file that came first, and neither
/// reads half of it.
fn make(path: &Path) -> io::Result<()> {
    if let Some(directory) = path.parent() {
        // What else the hub keeps here is what people said to agents.
        DirBuilder::new().recursive(true).mode(0o700).create(directory)?;
    }
    let draft = path.with_extension(format!("draft-{}", std::process::id()));
    let secret = random_hex();
    let written = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&draft).and_then(|mut file| {
        file.write_all(secret.as_bytes())?;
        file.sync_all()?;
        match fs::hard_link(&draft, path) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
            linked => linked,
        }
    });
    let _ = fs::remove_file(&draft);
    written
}

/// 244 random bits from the system, as hexadecimal text.
pub(super) fn random_hex() -> String {
    format!("{}{}", Uuid::new_v4().simple(), Uuid::new_v4().simple())
}

#[cfg(test)]
mod tests {
    use secrecy::ExposeSecret as _;

    use super::*;

    #[test]
    fn made_once_kept_private_and_refused_when_others_can_read_it() {
        let directory = tempfile::tempdir().expect("directory");
        let path = directory.path().join("data/dev-secret");
        let first = read_or_make(&path).expect("made");
        assert_eq!(first.expose_secret(), read_or_make(&path).expect("kept").expose_secret());
        assert_eq!(fs::metadata(&path).expect("there").permissions().mode() & 0o777, 0o600);
        assert_eq!(fs::read_dir(directory.path().join("data")).expect("list").count(), 1, "no draft stays");

        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).expect("chmod");
        assert!(matches!(read_or_make(&path), Err(SecretFileError::Exposed(_))));
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).expect("chmod");
        fs::write(&path, "short").expect("write");
        assert!(matches!(read_or_make(&path), Err(SecretFileError::Damaged(_))));
    }
}
