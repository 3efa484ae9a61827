//! What others may leave in a workspace.

use std::{
    ffi::OsStr,
    fs::File,
    os::unix::{ffi::OsStrExt as _, net::UnixListener},
    time::Duration,
};

use rustix::fs::{CWD, FileType, Mode, makedev, mkfifoat, mknodat};

use super::*;

/// Fails where a call would wait for ever.
async fn in_time<T>(call: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(20), call).await.expect("it waits")
}

#[tokio::test(flavor = "multi_thread")]
async fn pipes_sockets_and_devices_are_refused_at_once() {
    let world = World::new();
    let home = world.make_home();
    mkfifoat(CWD, home.join("pipe"), Mode::RUSR | Mode::WUSR).unwrap();
    let _socket = UnixListener::bind(home.join("socket")).unwrap();
    let mut odd = vec!["pipe", "socket"];
    // Only the system's administrator makes devices, and not everywhere.
    if mknodat(CWD, home.join("zero"), FileType::CharacterDevice, Mode::RUSR | Mode::WUSR, makedev(1, 5)).is_ok() {
        odd.push("zero");
    }
    let workspace = world.workspace();
    for name in odd {
        assert_eq!(code(in_time(workspace.read(name, 0, 10)).await), WorkspaceErrorCode::NotAFile, "{name}");
        assert_eq!(code(in_time(workspace.read(name, 1 << 40, 10)).await), WorkspaceErrorCode::NotAFile, "{name}");
        assert_eq!(code(in_time(workspace.write(name, b"x".to_vec(), true)).await), WorkspaceErrorCode::NotAFile, "{name}");
        assert_eq!(code(in_time(workspace.write(name, b"x".to_vec(), false)).await), WorkspaceErrorCode::NotAFile, "{name}");
        assert_eq!(code(in_time(workspace.list(name, true)).await), WorkspaceErrorCode::NotADirectory, "{name}");
        assert_eq!(in_time(workspace.validate(name)).await, Ok(Some(EntryKind::Other)), "{name}");
        assert!(!fs::symlink_metadata(home.join(name)).unwrap().is_file(), "{name} is still there");
    }
}

/// What is put in the place of a file between looking and opening: here the look is left out, so that the opening itself is seen.
#[test]
fn opening_alone_neither_follows_links_nor_waits() {
    let world = World::new();
    world.plant();
    let home = world.make_home();
    mkfifoat(CWD, home.join("pipe"), Mode::RUSR | Mode::WUSR).unwrap();
    let folder = open_root(&home).unwrap();
    fs::write(home.join("inside"), "inside").unwrap();
    fs::hard_link(world.outside().join("canary.txt"), home.join("hard")).unwrap();
    link("pipe", home.join("link_pipe"));
    link("inside", home.join("link_inside"));
    link(world.outside().join(CANARY_NAME), home.join("link_outside"));
    for name in ["pipe", "hard", "link_pipe", "link_inside", "link_outside"] {
        assert_eq!(handles::open_looked_at(&folder, name, name).unwrap_err().code, WorkspaceErrorCode::NotAFile, "{name}");
    }
    assert!(handles::open_looked_at(&folder, "inside", "inside").is_ok());
}

/// A second name of a file outside cannot be told from one inside, so files with several names are left alone.
#[tokio::test]
async fn files_with_several_names_are_neither_read_nor_replaced() {
    let world = World::new();
    world.plant();
    let home = world.make_home();
    fs::hard_link(world.outside().join("canary.txt"), home.join("hard.txt")).unwrap();
    let before = world.snapshot();
    let workspace = world.workspace();
    assert_eq!(code(workspace.read("hard.txt", 0, 100).await), WorkspaceErrorCode::NotAFile);
    assert_eq!(code(workspace.write("hard.txt", b"x".to_vec(), false).await), WorkspaceErrorCode::NotAFile);
    assert_eq!(code(workspace.write("hard.txt", b"x".to_vec(), true).await), WorkspaceErrorCode::NotAFile);
    assert_eq!(workspace.list("", false).await.unwrap().entries[0].kind, EntryKind::Other);
    assert!(world.snapshot() == before);
    // Once its other name is gone, it is the workspace's own.
    fs::remove_file(world.outside().join("canary.txt")).unwrap();
    assert_eq!(text(&workspace, "hard.txt").await, CANARY);
}

#[tokio::test]
async fn a_sparse_file_counts_what_it_says_it_has() {
    let world = World::new();
    let home = world.make_home();
    File::create(home.join("sparse")).unwrap().set_len(10 << 30).unwrap();
    let workspace = world.workspace();
    let piece = workspace.read("sparse", 5 << 30, usize::MAX).await.unwrap();
    assert_eq!((piece.bytes.len(), piece.size), (1 << 20, 10 << 30));
    assert!(workspace.read("sparse", 11 << 30, usize::MAX).await.unwrap().bytes.is_empty());
    assert!(workspace.read("sparse", u64::MAX, usize::MAX).await.unwrap().bytes.is_empty());
    assert_eq!(code(workspace.write("sparse", b"x".to_vec(), true).await), WorkspaceErrorCode::TooLarge);
    assert_eq!(code(workspace.write("other", b"x".to_vec(), false).await), WorkspaceErrorCode::QuotaExceeded);
    assert!(!home.join("other").exists());
    // To make it small is the way out.
    workspace.write("sparse", b"x".to_vec(), false).await.unwrap();
    workspace.write("other", b"x".to_vec(), false).await.unwrap();
}

#[tokio::test]
async fn a_huge_directory_is_told_in_part() {
    let world = World::new();
    let home = world.make_home();
    fs::create_dir(home.join("many")).unwrap();
    for number in 0..5000 {
        fs::write(home.join(format!("many/f{number:05}")), "").unwrap();
    }
    let workspace = world.workspace();
    let listing = workspace.list("many", false).await.unwrap();
    assert!(listing.truncated);
    let wanted: Vec<String> = (0..1000).map(|number| format!("many/f{number:05}")).collect();
    assert_eq!(names(&listing), wanted);
    assert_eq!(names(&workspace.search("F0499", 100).await.unwrap()).len(), 10);
    assert!(!workspace.search("f04999", 100).await.unwrap().truncated);
    assert!(workspace.search("f0", 20).await.unwrap().truncated);
    fs::create_dir(home.join("more")).unwrap();
    for number in 0..16_000 {
        fs::write(home.join(format!("more/g{number:05}")), "").unwrap();
    }
    // More than one search looks at.
    let all = workspace.search("nothing", 100).await.unwrap();
    assert!(all.entries.is_empty() && all.truncated);
}

#[tokio::test]
async fn names_that_could_not_be_asked_for_are_left_out() {
    let world = World::new();
    let home = world.make_home();
    for name in [&b"bad\xff"[..], b"\xc3\x28", b"new\nline", b"back\\slash", b"C:", b"bidi\xe2\x80\xae", b"good.txt"] {
        fs::write(home.join(OsStr::from_bytes(name)), "12345").unwrap();
    }
    fs::create_dir(home.join(OsStr::from_bytes(b"dir\xff"))).unwrap();
    fs::write(home.join(OsStr::from_bytes(b"dir\xff")).join("inner"), "12345").unwrap();
    let workspace = world.workspace();
    assert_eq!(names(&workspace.list("", true).await.unwrap()), ["good.txt"]);
    assert_eq!(text(&workspace, "good.txt").await, "12345");
    // They count, and go with the rest.
    let small = world.reopened(Limits { user_bytes: 10 * 4096, ..Limits::default() });
    let full = small.of("alice", world.session);
    assert_eq!(code(full.write("new", b"x".to_vec(), false).await), WorkspaceErrorCode::QuotaExceeded);
    small.remove("alice", world.session).await.unwrap();
    assert!(fs::read_dir(world.root()).unwrap().next().is_none());
}

#[tokio::test]
async fn a_trees_depth_stops_nothing() {
    let world = World::new();
    world.plant();
    let home = world.make_home();
    let mut at = open_root(&home).unwrap();
    for _ in 0..600 {
        at.create_dir("d").unwrap();
        at.write("f", "x").unwrap();
        at.symlink_contents(world.outside(), "out").unwrap();
        at = at.open_dir("d").unwrap();
    }
    drop(at);
    let before = world.snapshot();
    let workspace = world.workspace();
    let listing = workspace.list("", true).await.unwrap();
    // Deeper ones could not be asked for.
    assert_eq!(listing.entries.iter().filter(|entry| entry.kind == EntryKind::Directory).count(), path::DEPTH);
    assert_eq!(code(workspace.write("new", b"x".to_vec(), false).await), WorkspaceErrorCode::Io, "it cannot be counted");
    world.workspaces.remove("alice", world.session).await.unwrap();
    assert!(!home.exists());
    let mut after = world.snapshot();
    let mut before = before;
    // The directory the session was in has changed, of course.
    let changed = home.parent().unwrap();
    assert!(after.remove(changed).is_some() && before.remove(changed).is_some());
    assert!(after == before);
    workspace.write("new", b"x".to_vec(), false).await.unwrap();
}

#[tokio::test]
async fn the_directory_of_a_session_may_not_be_a_link_either() {
    let world = World::new();
    world.plant();
    fs::create_dir_all(world.home().parent().unwrap()).unwrap();
    link(world.outside(), world.home());
    let before = world.snapshot();
    let workspace = world.workspace();
    let mut told = Told::default();
    let read = workspace.read("canary.txt", 0, 100).await;
    told.bytes(&read);
    let written = workspace.write("new.txt", b"x".to_vec(), false).await;
    told.note(&workspace.list("", true).await);
    told.assert_clean("a link for a session");
    assert!(read.is_err() && written.is_err());
    assert!(world.snapshot() == before);
    world.workspaces.remove("alice", world.session).await.unwrap();
    assert!(fs::read(world.outside().join("canary.txt")).is_ok(), "the link is removed, not what it leads to");
}
