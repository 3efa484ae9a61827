//! Somebody swaps directories and files with links while the hub reads and writes.

use std::{
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
    thread,
    time::{Duration, Instant},
};

use rustix::fs::{CWD, RenameFlags, renameat_with};

use super::*;

/// How long they go on. Nothing is asserted about time: a longer race finds more.
const LASTS: Duration = Duration::from_secs(4);

/// What the workspace answered.
#[derive(Default)]
struct Tally {
    done: AtomicU64,
    refused: AtomicU64,
}

impl Tally {
    fn note<T: std::fmt::Debug>(&self, result: &Result<T, WorkspaceError>) {
        match result {
            Ok(_) => self.done.fetch_add(1, Ordering::Relaxed),
            Err(error) => {
                let known = [WorkspaceErrorCode::NotAFile, WorkspaceErrorCode::NotADirectory, WorkspaceErrorCode::NotFound];
                assert!(known.contains(&error.code), "{error:?}");
                self.refused.fetch_add(1, Ordering::Relaxed)
            }
        };
    }
}

/// Swaps a directory and a file with links to their likes outside, until it is told to stop.
fn swap(home: PathBuf, outside: PathBuf, stop: &AtomicBool) -> u64 {
    let mut swaps = 0;
    let exchange = |one: &str, other: &str| renameat_with(CWD, home.join(one), CWD, home.join(other), RenameFlags::EXCHANGE);
    while !stop.load(Ordering::Relaxed) {
        exchange("swap", "swap_link").unwrap();
        exchange("canary.txt", "file_link").unwrap();
        // A write may have replaced the link itself.
        if !["canary.txt", "file_link"].iter().any(|name| home.join(name).is_symlink()) {
            fs::remove_file(home.join("file_link")).unwrap();
            link(outside.join("canary.txt"), home.join("file_link"));
        }
        swaps += 1;
    }
    swaps
}

async fn use_it(workspace: Workspace, until: Instant, tally: Arc<Tally>) {
    let mut told = Told::default();
    while Instant::now() < until {
        for path in ["swap/canary.txt", "swap/dir/canary.txt", "canary.txt"] {
            let read = workspace.read(path, 0, usize::MAX).await;
            told.bytes(&read);
            tally.note(&read);
        }
        let listing = workspace.list("swap", true).await;
        told.note(&listing);
        tally.note(&listing);
        for path in ["swap/new.txt", "swap/dir/canary.txt", "swap/made/new.txt", "canary.txt"] {
            tally.note(&workspace.write(path, b"written by the hub".to_vec(), false).await);
        }
        tally.note(&workspace.write("swap/canary.txt", b".".to_vec(), !tally.done.load(Ordering::Relaxed).is_multiple_of(64)).await);
        told.assert_clean("race");
        told.0.clear();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_escapes_while_links_are_swapped_in() {
    let world = World::new();
    world.plant();
    let home = world.make_home();
    fs::create_dir_all(home.join("swap/dir")).unwrap();
    fs::write(home.join("swap/canary.txt"), "inside").unwrap();
    fs::write(home.join("swap/dir/canary.txt"), "inside").unwrap();
    fs::write(home.join("canary.txt"), "inside").unwrap();
    link(world.outside(), home.join("swap_link"));
    link(world.outside().join("canary.txt"), home.join("file_link"));
    let before = world.snapshot();
    let stop = Arc::new(AtomicBool::new(false));
    let swapper = {
        let (outside, stop) = (world.outside(), stop.clone());
        thread::spawn(move || swap(home, outside, &stop))
    };
    let tally = Arc::new(Tally::default());
    let until = Instant::now() + LASTS;
    let users = (0..3).map(|_| use_it(world.workspace(), until, tally.clone()));
    futures::future::join_all(users).await;
    stop.store(true, Ordering::Relaxed);
    let swaps = swapper.join().unwrap();
    assert!(world.snapshot() == before, "something outside was changed");
    let (done, refused) = (tally.done.load(Ordering::Relaxed), tally.refused.load(Ordering::Relaxed));
    // Otherwise there was no race.
    assert!(swaps > 100 && done > 100 && refused > 100, "{swaps} swaps, {done} done, {refused} refused");
}
