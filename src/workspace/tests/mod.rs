//! Workspaces on a real disk, with things outside that must never be seen or changed.

// Failing loudly is what a test is for.
#![allow(clippy::unwrap_used, clippy::panic)]

mod contents;
mod corpus;
mod hostile;
mod limits;
mod odd;
mod race;

use std::{
    collections::BTreeMap,
    fs,
    os::unix::fs::{MetadataExt as _, symlink},
    path::{Path, PathBuf},
};

use agent_hub_protocol::SessionId;
use tempfile::TempDir;

use super::{user::directory_of, *};

/// In every file that must not be read.
const CANARY: &str = "CANARY-7f3a-do-not-read";
/// The name of a file that must not be listed.
const CANARY_NAME: &str = "canary-name.txt";

/// A root with the workspaces of alice (two sessions) and bob, and a tree beside it.
struct World {
    base: TempDir,
    workspaces: Workspaces,
    session: SessionId,
    other: SessionId,
}

impl World {
    fn new() -> Self {
        Self::with(Limits::default())
    }

    fn with(limits: Limits) -> Self {
        let base = tempfile::tempdir().unwrap();
        let workspaces = Workspaces::open(&base.path().join("root"), limits).unwrap();
        Self { base, workspaces, session: SessionId::random(), other: SessionId::random() }
    }

    /// As after a restart of the process.
    fn reopened(&self, limits: Limits) -> Workspaces {
        Workspaces::open(&self.root(), limits).unwrap()
    }

    fn root(&self) -> PathBuf {
        self.base.path().join("root")
    }

    fn outside(&self) -> PathBuf {
        self.base.path().join("outside")
    }

    fn workspace(&self) -> Workspace {
        self.workspaces.of("alice", self.session)
    }

    /// Where the workspace is on the disk.
    fn home(&self) -> PathBuf {
        self.home_of("alice", self.session)
    }

    fn home_of(&self, user: &str, session: SessionId) -> PathBuf {
        self.root().join(directory_of(user)).join(session.to_string())
    }

    /// Makes the directory of the workspace, as somebody else than the hub may fill it.
    fn make_home(&self) -> PathBuf {
        fs::create_dir_all(self.home()).unwrap();
        self.home()
    }

    /// Canaries in all the places somebody would try to reach.
    fn plant(&self) {
        let outside = self.outside();
        fs::create_dir_all(outside.join("dir")).unwrap();
        let evil = self.base.path().join("root-evil");
        let homes = [self.home_of("alice", self.other), self.home_of("bob", self.other)];
        for folder in [&outside, &outside.join("dir"), &evil, &homes[0], &homes[1], &self.root()] {
            fs::create_dir_all(folder).unwrap();
            fs::write(folder.join("canary.txt"), CANARY).unwrap();
            fs::write(folder.join(CANARY_NAME), CANARY).unwrap();
        }
    }

    /// All there is but the workspace: what it contains, and when it was changed.
    fn snapshot(&self) -> BTreeMap<PathBuf, (u32, u64, i64, i64, Vec<u8>)> {
        let mut seen = BTreeMap::new();
        let mut left = vec![self.base.path().to_owned()];
        while let Some(path) = left.pop() {
            if path == self.home() {
                continue;
            }
            let found = fs::symlink_metadata(&path).unwrap();
            let content = if found.is_file() { fs::read(&path).unwrap() } else { Vec::new() };
            if found.is_dir() {
                left.extend(fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
            }
            seen.insert(path, (found.mode(), found.nlink(), found.mtime(), found.mtime_nsec(), content));
        }
        seen
    }
}

/// What a call may have told.
#[derive(Default)]
struct Told(Vec<String>);

impl Told {
    fn note<T: std::fmt::Debug>(&mut self, result: &Result<T, WorkspaceError>) {
        self.0.push(format!("{result:?}"));
    }

    fn bytes(&mut self, result: &Result<Piece, WorkspaceError>) {
        self.note(result);
        if let Ok(piece) = result {
            self.0.push(String::from_utf8_lossy(&piece.bytes).into_owned());
        }
    }

    fn assert_clean(&self, about: &str) {
        for told in &self.0 {
            assert!(!told.contains(CANARY) && !told.contains(CANARY_NAME), "{about}: {told}");
        }
    }
}

fn code<T: std::fmt::Debug>(result: Result<T, WorkspaceError>) -> WorkspaceErrorCode {
    match result {
        Err(error) => error.code,
        Ok(done) => panic!("done: {done:?}"),
    }
}

async fn text(workspace: &Workspace, path: &str) -> String {
    String::from_utf8(workspace.read(path, 0, usize::MAX).await.unwrap().bytes).unwrap()
}

fn names(listing: &Listing) -> Vec<&str> {
    listing.entries.iter().map(|entry| entry.path.as_str()).collect()
}

fn link(target: impl AsRef<Path>, at: PathBuf) {
    symlink(target, at).unwrap();
}
