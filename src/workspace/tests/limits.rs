//! How much a user may have.

use super::*;

/// In blocks of 4 KiB.
fn blocks(count: u64) -> Limits {
    Limits { user_bytes: count * quota::BLOCK, ..Limits::default() }
}

fn filled(count: u64) -> Vec<u8> {
    vec![b'x'; usize::try_from(count * quota::BLOCK).unwrap()]
}

#[tokio::test]
async fn all_sessions_of_a_user_share_one_quota_and_a_restart_changes_nothing() {
    // Two of the blocks are directories: that of the user, and that of the session.
    let world = World::with(blocks(10));
    let first = world.workspace();
    first.write("a", filled(4), false).await.unwrap();
    let second = world.workspaces.of("alice", world.other);
    second.write("a", filled(3), false).await.unwrap();
    // Full.
    for workspaces in [world.workspaces.clone(), world.reopened(blocks(10))] {
        let second = workspaces.of("alice", world.other);
        assert_eq!(code(second.write("b", b"x".to_vec(), false).await), WorkspaceErrorCode::QuotaExceeded);
        assert_eq!(code(second.write("dir/b", Vec::new(), false).await), WorkspaceErrorCode::QuotaExceeded);
        assert_eq!(code(second.write("a", b"x".to_vec(), true).await), WorkspaceErrorCode::QuotaExceeded);
        assert_eq!(
            code(workspaces.of("alice", SessionId::random()).write("a", Vec::new(), false).await),
            WorkspaceErrorCode::QuotaExceeded
        );
        assert_eq!(names(&second.list("", true).await.unwrap()), ["a"], "a refused write makes nothing");
        // The same size again is no more than before.
        second.write("a", filled(3), false).await.unwrap();
    }
    assert_eq!(fs::read_dir(world.home().parent().unwrap()).unwrap().count(), 2);
    // Another user has a quota of its own.
    world.workspaces.of("bob", SessionId::random()).write("a", filled(8), false).await.unwrap();
    // What is made smaller, or goes with a session, is free again.
    second.write("a", filled(1), false).await.unwrap();
    second.write("b", filled(2), false).await.unwrap();
    assert_eq!(code(second.write("c", b"x".to_vec(), false).await), WorkspaceErrorCode::QuotaExceeded);
    world.workspaces.remove("alice", world.session).await.unwrap();
    second.write("c", filled(5), false).await.unwrap();
    assert_eq!(code(second.write("d", b"x".to_vec(), false).await), WorkspaceErrorCode::QuotaExceeded);
}

#[tokio::test]
async fn empty_files_are_not_free() {
    let world = World::with(blocks(12));
    let workspace = world.workspace();
    let mut made = 0;
    for number in 0..100 {
        made += u32::from(workspace.write(&format!("f{number}"), Vec::new(), false).await.is_ok());
    }
    assert_eq!(made, 10);
}

#[tokio::test]
async fn writes_at_once_do_not_use_the_same_room() {
    let world = World::with(blocks(12));
    let writes = (0..40).map(|number| {
        let session = if number % 2 == 0 { world.session } else { world.other };
        let workspace = world.workspaces.of("alice", session);
        async move { workspace.write(&format!("f{number}"), filled(1), false).await.is_ok() }
    });
    let done = futures::future::join_all(writes).await.into_iter().filter(|done| *done).count();
    assert_eq!(done, 9);
}

#[tokio::test]
async fn what_others_take_away_is_seen_before_a_write_is_refused() {
    let world = World::with(blocks(10));
    let workspace = world.workspace();
    workspace.write("a", filled(8), false).await.unwrap();
    assert_eq!(code(workspace.write("b", b"x".to_vec(), false).await), WorkspaceErrorCode::QuotaExceeded);
    fs::remove_file(world.home().join("a")).unwrap();
    workspace.write("b", filled(8), false).await.unwrap();
}

#[tokio::test]
async fn one_write_and_one_file_are_bounded() {
    let limits = Limits { write_bytes: 10, file_bytes: 15, ..Limits::default() };
    let world = World::with(limits);
    let workspace = world.workspace();
    assert_eq!(code(workspace.write("a", vec![b'a'; 11], false).await), WorkspaceErrorCode::TooLarge);
    assert!(!world.home().exists());
    workspace.write("a", vec![b'a'; 10], false).await.unwrap();
    workspace.write("a", vec![b'b'; 5], true).await.unwrap();
    assert_eq!(code(workspace.write("a", vec![b'c'; 1], true).await), WorkspaceErrorCode::TooLarge);
    assert_eq!(text(&workspace, "a").await, "aaaaaaaaaabbbbb");
}

#[tokio::test]
async fn what_a_crash_left_goes_at_the_next_count() {
    let world = World::with(blocks(10));
    let home = world.make_home();
    fs::create_dir(home.join("dir")).unwrap();
    fs::write(home.join("dir/.agent-hub-0123"), filled(20)).unwrap();
    fs::create_dir(home.parent().unwrap().join(".agent-hub-4567")).unwrap();
    fs::write(home.parent().unwrap().join(".agent-hub-4567/old"), filled(20)).unwrap();
    world.workspace().write("dir/new", filled(7), false).await.unwrap();
    assert_eq!(fs::read_dir(home.join("dir")).unwrap().count(), 1);
    assert_eq!(fs::read_dir(home.parent().unwrap()).unwrap().count(), 1);
}

#[test]
fn the_counts_of_users_are_bounded() {
    let ledger = Ledger::default();
    let name = |number: u32| Arc::<str>::from(number.to_string());
    let held = ledger.account(&name(0));
    for number in 1..5000 {
        ledger.account(&name(number));
    }
    assert_eq!(ledger.len(), 1024);
    assert!(Arc::ptr_eq(&held, &ledger.account(&name(0))), "one that is used stays");
}

#[test]
fn a_charge_is_whole_blocks_and_never_overflows() {
    for (length, blocks, wanted) in
        [(0, 0, 4096), (1, 8, 4096), (4096, 8, 4096), (4097, 16, 8192), (0, 1 << 20, 1 << 29), (10 << 30, 0, 10 << 30)]
    {
        assert_eq!(quota::charge(length, blocks), wanted, "{length} {blocks}");
    }
    assert!(quota::charge(u64::MAX, u64::MAX) > u64::MAX - 2 * 4096);
}
