//! Every path of the corpus against a real tree, in every method.

use std::{collections::HashSet, os::unix::net::UnixListener};

use rustix::fs::{CWD, Mode, mkfifoat};

use super::{
    corpus::{CORPUS, Want},
    *,
};

/// Everything the corpus names.
fn furnish(world: &World) -> UnixListener {
    let home = world.make_home();
    fs::create_dir_all(home.join("dir/.git")).unwrap();
    fs::create_dir_all(home.join(".ssh")).unwrap();
    fs::create_dir_all(home.join(".git/hooks")).unwrap();
    fs::write(home.join("plain.txt"), "plain").unwrap();
    fs::write(home.join("dir/inner.txt"), "inner").unwrap();
    for secret in [".env", ".env.local", "dir/.env", ".ssh/id_rsa", ".git/config", "dir/.git/config", "server.key", "server.pem", "id_rsa"]
    {
        fs::write(home.join(secret), CANARY).unwrap();
    }
    let outside = world.outside();
    let other = world.other.to_string();
    for (name, target) in [
        ("link_file", outside.join("canary.txt")),
        ("link_dir", outside.clone()),
        ("link_dangling", outside.join("new.txt")),
        ("link_rel", "../../../outside/canary.txt".into()),
        ("link_inside", "plain.txt".into()),
        ("link_inside_dir", "dir".into()),
        ("link_here", ".".into()),
        ("link_up", "..".into()),
        ("link_root", "/".into()),
        ("link_self", "link_self".into()),
        ("link_loop_a", "link_loop_b".into()),
        ("link_loop_b", "link_loop_a".into()),
        ("link_dev", "/dev/zero".into()),
        ("link_stdin", "/dev/stdin".into()),
        ("link_environ", "/proc/self/environ".into()),
        ("link_proc", "/proc/self".into()),
        ("link_procroot", "/proc/self/root".into()),
        ("link_bob", "../../u-bob".into()),
        ("link_sibling", format!("../{other}").into()),
        ("dir/link_deep", "../../../../outside".into()),
    ] {
        link(target, home.join(name));
    }
    mkfifoat(CWD, home.join("pipe"), Mode::RUSR | Mode::WUSR).unwrap();
    fs::hard_link(outside.join("canary.txt"), home.join("hard")).unwrap();
    UnixListener::bind(home.join("socket")).unwrap()
}

fn filled_in(path: &str, world: &World) -> String {
    path.replace("{out}", world.outside().to_str().unwrap())
        .replace("{other}", &world.other.to_string())
        .replace("{long}", &"n".repeat(300))
        .replace("{huge}", &"h".repeat(100_000))
}

#[test]
fn the_corpus_is_large_and_says_nothing_twice() {
    let paths: HashSet<&str> = CORPUS.iter().map(|(path, _)| *path).collect();
    assert_eq!(paths.len(), CORPUS.len(), "a path is there twice");
    assert!(CORPUS.len() >= 200, "{}", CORPUS.len());
    for want in [Want::Invalid, Want::Hidden, Want::NotAFile, Want::NotADirectory, Want::Plain] {
        assert!(CORPUS.iter().filter(|(_, wanted)| *wanted == want).count() >= 15, "{want:?}");
    }
}

#[tokio::test]
async fn no_path_leads_outside() {
    let world = World::new();
    world.plant();
    let _socket = furnish(&world);
    let before = world.snapshot();
    let workspace = world.workspace();
    for (path, want) in CORPUS {
        let path = filled_in(path, &world);
        let about: String = path.chars().take(100).collect();
        let mut told = Told::default();
        let read = workspace.read(&path, 0, usize::MAX).await;
        told.bytes(&read);
        told.bytes(&workspace.read(&path, 3, 10).await);
        told.note(&workspace.list(&path, false).await);
        told.note(&workspace.list(&path, true).await);
        let valid = workspace.validate(&path).await;
        told.note(&valid);
        let written = workspace.write(&path, b"written by the hub".to_vec(), false).await;
        told.note(&written);
        let appended = workspace.write(&path, b"written by the hub".to_vec(), true).await;
        told.note(&appended);
        told.assert_clean(&about);
        if !path.contains(world.base.path().to_str().unwrap()) {
            assert!(told.0.iter().all(|told| !told.contains(world.base.path().to_str().unwrap())), "{about}: {:?}", told.0);
        }
        assert!(world.snapshot() == before, "{about} changed something outside");
        let (wanted_read, wanted_write) = match want {
            Want::Invalid => (WorkspaceErrorCode::InvalidPath, Some(WorkspaceErrorCode::InvalidPath)),
            Want::Hidden => (WorkspaceErrorCode::Hidden, Some(WorkspaceErrorCode::Hidden)),
            Want::NotAFile => (WorkspaceErrorCode::NotAFile, Some(WorkspaceErrorCode::NotAFile)),
            Want::NotADirectory => (WorkspaceErrorCode::NotADirectory, Some(WorkspaceErrorCode::NotADirectory)),
            Want::Plain => (WorkspaceErrorCode::NotFound, None),
        };
        assert_eq!(code(read), wanted_read, "read {about}");
        assert_eq!(written.as_ref().err().map(|error| error.code), wanted_write, "write {about}");
        assert_eq!(appended.as_ref().err().map(|error| error.code), wanted_write, "append {about}");
        if *want == Want::Plain {
            assert_eq!(valid, Ok(None), "{about}");
            let mut made = world.home().join(&path);
            assert_eq!(fs::read(&made).unwrap(), b"written by the hubwritten by the hub", "{about}");
            fs::remove_file(&made).unwrap();
            // Neither may be in the way of the next.
            while made.pop() && made != world.home() && fs::remove_dir(&made).is_ok() {}
        }
    }
}

#[tokio::test]
async fn what_is_listed_can_be_asked_for_and_the_rest_is_not_told() {
    let world = World::new();
    world.plant();
    let _socket = furnish(&world);
    let workspace = world.workspace();
    let listing = workspace.list(".", true).await.unwrap();
    assert!(!listing.truncated);
    for entry in &listing.entries {
        let kind = workspace.validate(&entry.path).await;
        assert_eq!(kind, Ok(Some(entry.kind)), "{entry:?}");
        assert_eq!(workspace.read(&entry.path, 0, 9).await.is_ok(), entry.kind == EntryKind::File, "{entry:?}");
    }
    let files: Vec<&Entry> = listing.entries.iter().filter(|entry| entry.kind == EntryKind::File).collect();
    assert_eq!(
        files.iter().map(|file| (file.path.as_str(), file.size)).collect::<Vec<_>>(),
        [("plain.txt", Some(5)), ("dir/inner.txt", Some(5))]
    );
    let mut told = Told::default();
    told.note(&Ok(&listing));
    for part in ["", "env", "canary", "config", "id_rsa", ".key", "outside"] {
        told.note(&workspace.search(part, 1000).await);
    }
    told.assert_clean("listings");
    for hidden in [".env", ".ssh", "server.key", "server.pem", "id_rsa", ".git/config", "dir/.env", "dir/.git/config"] {
        assert!(!names(&listing).contains(&hidden), "{hidden}");
    }
}
