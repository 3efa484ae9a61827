// Failing loudly is what a test is for.
#![allow(clippy::unwrap_used, clippy::panic)]

use std::fs;

use agent_hub_protocol::{SessionId, TaskId};
use tempfile::TempDir;

use super::*;
use crate::{tool::Output, workspace::Limits};

struct Desk {
    base: TempDir,
    tools: [SharedTool; 3],
    session: SessionId,
}

impl Desk {
    fn new() -> Self {
        let base = tempfile::tempdir().unwrap();
        let tools = tools(&Workspaces::open(base.path(), Limits::default()).unwrap());
        Self { base, tools, session: SessionId::random() }
    }

    fn tool(&self, name: &str) -> &SharedTool {
        self.tools.iter().find(|tool| tool.spec().name == name).unwrap()
    }

    async fn call_in(&self, session: SessionId, name: &str, arguments: Value) -> Result<Value, ToolError> {
        let tool = self.tool(name);
        let checked = jsonschema::validator_for(&tool.spec().parameters).unwrap();
        assert!(checked.is_valid(&arguments), "{arguments}");
        let Value::Object(arguments) = arguments else { panic!("no object") };
        let (task, call_id) = (TaskId::random(), "call_1".into());
        let result = tool.call(Invocation { session, task, call_id, user: "alice".into(), arguments, output: Output::unread() }).await;
        assert!(result.as_ref().map_or(0, |result| result.to_string().len()) <= RESULT_BYTES);
        result
    }

    async fn call(&self, name: &str, arguments: Value) -> Result<Value, ToolError> {
        self.call_in(self.session, name, arguments).await
    }

    /// Reads a file part by part; the parts.
    async fn pages(&self, path: &str, most: Option<usize>) -> Vec<String> {
        let mut pages = Vec::new();
        let mut offset = 0;
        loop {
            let mut arguments = json!({"path": path, "offset": offset});
            if let Some(most) = most {
                arguments["maxBytes"] = most.into();
            }
            let page = self.call("file_read", arguments).await.unwrap();
            pages.push(page["content"].as_str().unwrap().to_owned());
            assert_eq!(page["truncated"].as_bool().unwrap(), page.get("nextOffset").is_some());
            match page.get("nextOffset") {
                Some(next) => offset = next.as_u64().unwrap(),
                None => return pages,
            }
        }
    }

    fn home(&self) -> std::path::PathBuf {
        self.base.path().join("u-alice").join(self.session.to_string())
    }
}

#[tokio::test]
async fn what_an_agent_writes_it_lists_and_reads() {
    let desk = Desk::new();
    assert_eq!(desk.call("file_list", json!({})).await.unwrap(), json!({"path": ".", "entries": [], "truncated": false}));
    let written = desk.call("file_write", json!({"path": "notes/plan.md", "content": "größer"})).await.unwrap();
    assert_eq!(written, json!({"path": "notes/plan.md", "size": 8, "created": true}));
    let written = desk.call("file_write", json!({"path": "notes/plan.md", "content": "!", "append": true})).await.unwrap();
    assert_eq!(written, json!({"path": "notes/plan.md", "size": 9, "created": false}));
    let read = desk.call("file_read", json!({"path": "notes/plan.md"})).await.unwrap();
    assert_eq!(read, json!({"path": "notes/plan.md", "content": "größer!", "size": 9, "truncated": false}));
    let listed = desk.call("file_list", json!({"recursive": true})).await.unwrap();
    let entries = json!([{"name": "notes", "type": "directory"}, {"name": "notes/plan.md", "type": "file", "size": 9}]);
    assert_eq!(listed, json!({"path": ".", "entries": entries, "truncated": false}));
    let listed = desk.call("file_list", json!({"path": "notes"})).await.unwrap();
    assert_eq!(listed, json!({"path": "notes", "entries": [{"name": "plan.md", "type": "file", "size": 9}], "truncated": false}));
    let elsewhere = desk.call_in(SessionId::random(), "file_read", json!({"path": "notes/plan.md"})).await;
    assert_eq!(elsewhere.unwrap_err().code, ToolErrorCode::NotFound);
}

#[tokio::test]
async fn a_long_file_comes_in_parts_that_make_the_whole() {
    let desk = Desk::new();
    // One byte, several, and those that JSON writes as six.
    for (unit, parts) in [("abc\n", 4), ("ä€😀\"\\", 4), ("\u{1}\u{2}\u{1b}", 20)] {
        let content = unit.repeat(200_000 / unit.len());
        desk.call("file_write", json!({"path": "long", "content": content})).await.unwrap();
        let pages = desk.pages("long", None).await;
        assert!(pages.concat() == content && pages.len() >= parts, "{} pages", pages.len());
    }
    desk.call("file_write", json!({"path": "short", "content": "aä€😀".repeat(5)})).await.unwrap();
    for most in 4..12 {
        assert_eq!(desk.pages("short", Some(most)).await.concat(), "aä€😀".repeat(5), "{most}");
    }
}

#[tokio::test]
async fn an_offset_inside_a_character_begins_at_the_next_and_says_so() {
    let desk = Desk::new();
    desk.call("file_write", json!({"path": "a", "content": "€uro"})).await.unwrap();
    let read = desk.call("file_read", json!({"path": "a", "offset": 1})).await.unwrap();
    assert_eq!(read, json!({"path": "a", "content": "uro", "size": 6, "truncated": false, "offset": 3}));
    let read = desk.call("file_read", json!({"path": "a", "offset": 6})).await.unwrap();
    assert_eq!(read, json!({"path": "a", "content": "", "size": 6, "truncated": false, "offset": 6}));
    let read = desk.call("file_read", json!({"path": "a", "offset": 1_000_000})).await.unwrap();
    assert_eq!(read["content"], "");
}

#[tokio::test]
async fn what_is_no_text_is_refused() {
    let desk = Desk::new();
    fs::create_dir_all(desk.home()).unwrap();
    let cut = "ä".as_bytes()[..1].to_vec();
    for bytes in [b"a\0b".to_vec(), vec![0xff, 0xfe], vec![0x80; 100], [b"text".to_vec(), cut].concat(), vec![0; 100_000]] {
        fs::write(desk.home().join("binary"), bytes).unwrap();
        for offset in [0, 1] {
            let error = desk.call("file_read", json!({"path": "binary", "offset": offset})).await.unwrap_err();
            assert_eq!(error.code, ToolErrorCode::Failed);
            assert!(error.message.contains("not text"), "{error}");
        }
    }
}

#[tokio::test]
async fn a_listing_fits_into_a_result() {
    let desk = Desk::new();
    fs::create_dir_all(desk.home()).unwrap();
    for number in 0..900 {
        fs::write(desk.home().join(format!("{number:03}{}", "\"".repeat(200))), "").unwrap();
    }
    let listed = desk.call("file_list", json!({})).await.unwrap();
    let entries = listed["entries"].as_array().unwrap();
    assert!(listed["truncated"].as_bool().unwrap() && entries.len() > 100 && entries.len() < 900, "{}", entries.len());
}

#[tokio::test]
async fn what_goes_wrong_has_a_kind() {
    let desk = Desk::new();
    desk.call("file_write", json!({"path": "dir/a", "content": "x"})).await.unwrap();
    for (tool, arguments, wanted) in [
        ("file_read", json!({"path": "../a"}), ToolErrorCode::Refused),
        ("file_read", json!({"path": "/etc/passwd"}), ToolErrorCode::Refused),
        ("file_write", json!({"path": "/etc/new", "content": "x"}), ToolErrorCode::Refused),
        ("file_list", json!({"path": ".."}), ToolErrorCode::Refused),
        ("file_read", json!({"path": ".env"}), ToolErrorCode::Refused),
        ("file_write", json!({"path": ".git/hooks/x", "content": "x"}), ToolErrorCode::Refused),
        ("file_read", json!({"path": "missing"}), ToolErrorCode::NotFound),
        ("file_list", json!({"path": "missing"}), ToolErrorCode::NotFound),
        ("file_read", json!({"path": "dir"}), ToolErrorCode::Failed),
        ("file_list", json!({"path": "dir/a"}), ToolErrorCode::Failed),
        ("file_write", json!({"path": "dir", "content": "x"}), ToolErrorCode::Failed),
        ("file_write", json!({"path": "big", "content": "x".repeat((1 << 20) + 1)}), ToolErrorCode::TooLarge),
    ] {
        assert_eq!(desk.call(tool, arguments.clone()).await.unwrap_err().code, wanted, "{tool} {:.80}", arguments.to_string());
    }
}

#[tokio::test]
async fn the_schema_takes_what_is_told_and_nothing_else() {
    let desk = Desk::new();
    for (tool, arguments) in [
        ("file_read", json!({})),
        ("file_read", json!({"path": 1})),
        ("file_read", json!({"path": "a", "offset": -1})),
        ("file_read", json!({"path": "a", "maxBytes": 0})),
        ("file_read", json!({"path": "a", "other": 1})),
        ("file_write", json!({"path": "a"})),
        ("file_write", json!({"path": "a", "content": "x", "append": "yes"})),
        ("file_list", json!({"recursive": 1})),
    ] {
        let checked = jsonschema::validator_for(&desk.tool(tool).spec().parameters).unwrap();
        assert!(!checked.is_valid(&arguments), "{tool} {arguments}");
    }
    desk.call("file_write", json!({"path": "a", "content": "0123456789"})).await.unwrap();
    let read = desk.call("file_read", json!({"path": "a", "offset": 2.0, "maxBytes": 4})).await.unwrap();
    assert_eq!(read, json!({"path": "a", "content": "2345", "size": 10, "truncated": true, "offset": 2, "nextOffset": 6}));
}
