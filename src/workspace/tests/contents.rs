//! What reads, writes and removals do when nobody is hostile.

use std::{collections::HashSet, os::unix::fs::PermissionsExt as _};

use super::*;

#[tokio::test]
async fn what_was_written_is_read() {
    let world = World::new();
    let workspace = world.workspace();
    let written = workspace.write("notes/plan.md", b"first".to_vec(), false).await.unwrap();
    assert_eq!(written, Written { path: "notes/plan.md".into(), size: 5, created: true });
    let written = workspace.write("notes/plan.md", b" and more".to_vec(), true).await.unwrap();
    assert_eq!(written, Written { path: "notes/plan.md".into(), size: 14, created: false });
    assert_eq!(text(&workspace, "notes/plan.md").await, "first and more");
    let piece = workspace.read("notes/plan.md", 6, 3).await.unwrap();
    assert_eq!(piece, Piece { path: "notes/plan.md".into(), bytes: b"and".to_vec(), offset: 6, size: 14 });
    assert!(workspace.write("new", b"x".to_vec(), true).await.unwrap().created, "an append makes the file");
    workspace.write("notes/plan.md", Vec::new(), false).await.unwrap();
    assert_eq!(text(&workspace, "notes/plan.md").await, "");
    assert_eq!(names(&workspace.list("", true).await.unwrap()), ["new", "notes", "notes/plan.md"]);
    assert_eq!(names(&workspace.list("notes/", false).await.unwrap()), ["notes/plan.md"]);
    assert_eq!(names(&workspace.search("PLAN", 5).await.unwrap()), ["notes/plan.md"]);
    assert_eq!(workspace.validate("notes/").await, Ok(Some(EntryKind::Directory)));
    assert_eq!(workspace.validate("notes/other/x").await, Ok(None));
    assert_eq!(code(workspace.list("new", false).await), WorkspaceErrorCode::NotADirectory);
    assert_eq!(code(workspace.list("missing", false).await), WorkspaceErrorCode::NotFound);
}

#[tokio::test]
async fn a_session_without_files_makes_none_when_it_is_looked_at() {
    let world = World::new();
    let workspace = world.workspace();
    assert_eq!(code(workspace.read("a", 0, 1).await), WorkspaceErrorCode::NotFound);
    assert!(workspace.list("", true).await.unwrap().entries.is_empty());
    assert_eq!(code(workspace.list("dir", true).await), WorkspaceErrorCode::NotFound);
    assert!(workspace.search("a", 10).await.unwrap().entries.is_empty());
    assert_eq!(workspace.validate("a").await, Ok(None));
    world.workspaces.remove("alice", world.session).await.unwrap();
    assert!(fs::read_dir(world.root()).unwrap().next().is_none());
}

#[tokio::test]
async fn sessions_and_users_do_not_see_each_other() {
    let world = World::new();
    let all = [("alice", world.session), ("alice", world.other), ("bob", world.session), ("ALICE", world.session), ("", world.session)];
    for (number, (user, session)) in all.iter().enumerate() {
        world.workspaces.of(user, *session).write("a", number.to_string().into_bytes(), false).await.unwrap();
    }
    for (number, (user, session)) in all.iter().enumerate() {
        assert_eq!(text(&world.workspaces.of(user, *session), "a").await, number.to_string());
    }
    world.workspaces.remove("alice", world.session).await.unwrap();
    assert_eq!(code(world.workspace().read("a", 0, 1).await), WorkspaceErrorCode::NotFound);
    assert_eq!(text(&world.workspaces.of("alice", world.other), "a").await, "1");
    assert_eq!(text(&world.workspaces.of("bob", world.session), "a").await, "2");
}

#[test]
fn every_user_has_a_directory_of_its_own_with_a_harmless_name() {
    let long = "x".repeat(10_000);
    let hash = directory_of("A");
    let users = [
        "",
        "a",
        "A",
        "a/b",
        "a\\b",
        "..",
        ".",
        "../a",
        "/",
        "\0",
        "a\0",
        "a\n",
        "u-a",
        "h-a",
        &hash,
        &hash[2..],
        "a ",
        " a",
        "a.",
        "é",
        "e\u{301}",
        "É",
        "a@b",
        "a@b.c",
        "CON",
        "con",
        "-",
        "--rf",
        "~",
        &long,
        &long[1..],
        "jane@example.com",
        "😀",
        "%2e%2e",
        "a:b",
    ];
    let directories: HashSet<String> = users.iter().map(|user| directory_of(user).to_lowercase()).collect();
    assert_eq!(directories.len(), users.len(), "each its own, even where the cases of letters are one");
    for directory in directories {
        assert!(directory.len() <= 66, "{directory}");
        assert!(directory.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_@".contains(&b)), "{directory}");
        assert!(directory.starts_with("u-") || directory.starts_with("h-"), "{directory}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_is_always_one_of_the_contents_it_was_given() {
    let world = World::new();
    let whole = |piece: &Piece| piece.bytes.len() == 100_000 && piece.bytes.iter().all(|byte| *byte == piece.bytes[0]);
    world.workspace().write("a", vec![b'-'; 100_000], false).await.unwrap();
    let writes = (b'a'..=b'z').map(|letter| {
        let workspace = world.workspace();
        async move { drop(workspace.write("a", vec![letter; 100_000], false).await.unwrap()) }
    });
    let reads = (0..50).map(|_| {
        let workspace = world.workspace();
        async move { assert!(whole(&workspace.read("a", 0, usize::MAX).await.unwrap())) }
    });
    futures::join!(futures::future::join_all(writes), futures::future::join_all(reads));
    assert!(whole(&world.workspace().read("a", 0, usize::MAX).await.unwrap()));
    assert_eq!(fs::read_dir(world.home()).unwrap().count(), 1, "no draft is left");
}

#[tokio::test(flavor = "multi_thread")]
async fn no_append_is_lost() {
    let world = World::new();
    let appends = (0..60).map(|number| {
        let workspace = world.workspace();
        async move { workspace.write("log", format!("{number:02}\n").into_bytes(), true).await.unwrap() }
    });
    let sizes: HashSet<u64> = futures::future::join_all(appends).await.into_iter().map(|written| written.size).collect();
    assert_eq!(sizes.len(), 60);
    let log = text(&world.workspace(), "log").await;
    assert_eq!(log.lines().collect::<HashSet<_>>().len(), 60);
}

#[tokio::test]
async fn a_write_nobody_waits_for_is_done_as_a_whole_or_not_at_all() {
    let world = World::new();
    let workspace = world.workspace();
    workspace.write("a", vec![b'0'; 500_000], false).await.unwrap();
    for round in 0..20u8 {
        let mut write = Box::pin(workspace.write("a", vec![b'a' + round; 500_000], false));
        for _ in 0..round % 4 {
            if futures::poll!(&mut write).is_ready() {
                break;
            }
        }
        drop(write);
        let piece = workspace.read("a", 0, usize::MAX).await.unwrap();
        assert!(piece.bytes.len() == 500_000 && piece.bytes.iter().all(|byte| *byte == piece.bytes[0]));
    }
    // Waits until the last of them has ended.
    workspace.write("b", b"b".to_vec(), false).await.unwrap();
    assert_eq!(fs::read_dir(world.home()).unwrap().count(), 2, "no draft is left");
}

#[tokio::test]
async fn what_is_made_is_for_the_owner_alone_and_a_rewrite_keeps_a_files_mode() {
    let world = World::new();
    let workspace = world.workspace();
    workspace.write("dir/run.sh", b"old".to_vec(), false).await.unwrap();
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    for path in [world.root(), world.home().parent().unwrap().to_owned(), world.home(), world.home().join("dir")] {
        assert_eq!(mode(&path), 0o700, "{}", path.display());
    }
    let file = world.home().join("dir/run.sh");
    assert_eq!(mode(&file), 0o600);
    fs::set_permissions(&file, fs::Permissions::from_mode(0o755)).unwrap();
    workspace.write("dir/run.sh", b"new".to_vec(), false).await.unwrap();
    assert_eq!(mode(&file), 0o755);
}

#[tokio::test]
async fn an_erased_session_is_gone_with_its_directory() {
    let world = World::new();
    let workspace = world.workspace();
    workspace.write("a/b/c", b"x".to_vec(), false).await.unwrap();
    world.workspaces.remove("alice", world.session).await.unwrap();
    assert!(fs::read_dir(world.root()).unwrap().next().is_none());
    world.workspaces.remove("alice", world.session).await.unwrap();
    workspace.write("a", b"x".to_vec(), false).await.unwrap();
    assert_eq!(names(&workspace.list("", true).await.unwrap()), ["a"]);
}

#[test]
fn a_root_that_is_no_directory_is_refused_at_the_start() {
    let base = tempfile::tempdir().unwrap();
    fs::write(base.path().join("file"), "").unwrap();
    assert!(Workspaces::open(&base.path().join("file"), Limits::default()).is_err());
    assert!(Workspaces::open(&base.path().join("file/below"), Limits::default()).is_err());
    assert!(Workspaces::open(&base.path().join("a/b/c"), Limits::default()).is_ok());
}
