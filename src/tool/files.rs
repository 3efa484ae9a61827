//! The files of the session, as tools: `file_read`, `file_write`, `file_list`.

#[cfg(test)]
mod tests;
mod text;

use std::sync::Arc;

use agent_hub_protocol::SessionId;
use futures::{FutureExt as _, future::BoxFuture};
use serde_json::{Map, Value, json};

use super::{Invocation, SharedTool, Tool, ToolError, ToolErrorCode};
use crate::{
    provider::ToolSpec,
    workspace::{Entry, Workspace, WorkspaceError, WorkspaceErrorCode, Workspaces},
};

/// What a result may be as JSON: more is of no use to a model, and is paid for at every further step.
const RESULT_BYTES: usize = 64 * 1024;
/// Of that, for what is not content: names of members, numbers, and a path of 1 KiB, which may double when it is written as JSON.
const REST_BYTES: usize = 4 * 1024;
/// Content of a file or entries of a listing, as JSON.
const CONTENT_BYTES: usize = RESULT_BYTES - REST_BYTES;

/// The three tools over these workspaces.
pub fn tools(workspaces: &Workspaces) -> [SharedTool; 3] {
    [FileTool::shared(Verb::Read, workspaces), FileTool::shared(Verb::Write, workspaces), FileTool::shared(Verb::List, workspaces)]
}

#[derive(Clone, Copy, Debug)]
enum Verb {
    Read,
    Write,
    List,
}

#[derive(Debug)]
struct FileTool {
    verb: Verb,
    spec: ToolSpec,
    workspaces: Workspaces,
}

impl FileTool {
    fn shared(verb: Verb, workspaces: &Workspaces) -> SharedTool {
        Arc::new(Self { verb, spec: spec(verb), workspaces: workspaces.clone() })
    }
}

impl Tool for FileTool {
    fn spec(&self) -> &ToolSpec {
        &self.spec
    }

    fn call(&self, call: Invocation) -> BoxFuture<'static, Result<Value, ToolError>> {
        let workspace = self.workspaces.of(&call.user, call.session);
        match self.verb {
            Verb::Read => read(workspace, call).boxed(),
            Verb::Write => write(workspace, call).boxed(),
            Verb::List => list(workspace, call).boxed(),
        }
    }

    fn forget(&self, user: &str, session: SessionId) -> BoxFuture<'static, ()> {
        let (verb, workspaces, user) = (self.verb, self.workspaces.clone(), user.to_owned());
        async move {
            // Once for the three of them.
            if matches!(verb, Verb::Write)
                && let Err(error) = workspaces.remove(&user, session).await
            {
                tracing::warn!(%session, %error, "the files of an erased session were not taken away");
            }
        }
        .boxed()
    }
}

fn spec(verb: Verb) -> ToolSpec {
    let (name, description, required, properties) = match verb {
        Verb::Read => (
            "file_read",
            "Read a text file of this session's workspace. A long file comes in parts: while `truncated` is true, call again with `offset` \
             set to `nextOffset`.",
            json!(["path"]),
            json!({
                "path": path_schema("The file, such as \"notes/plan.md\"."),
                "offset": {"type": "integer", "minimum": 0, "description": "The byte to begin at; 0 if absent."},
                "maxBytes": {"type": "integer", "minimum": text::LONGEST_CHAR, "maximum": CONTENT_BYTES,
                    "description": "Read at most this many bytes."},
            }),
        ),
        Verb::Write => (
            "file_write",
            "Write a text file of this session's workspace: all of it, or more at its end. Directories are made as needed.",
            json!(["path", "content"]),
            json!({
                "path": path_schema("The file, such as \"notes/plan.md\"."),
                "content": {"type": "string", "description": "What the file contains, or what is added to it."},
                "append": {"type": "boolean", "description": "Add to the end and keep what is there; false if absent."},
            }),
        ),
        Verb::List => (
            "file_list",
            "List a directory of this session's workspace. Hidden files, such as keys, are left out.",
            json!([]),
            json!({
                "path": path_schema("The directory, such as \"notes\"; the whole workspace if absent."),
                "recursive": {"type": "boolean", "description": "List all that is below it, too; false if absent."},
            }),
        ),
    };
    let parameters = json!({"type": "object", "properties": properties, "required": required, "additionalProperties": false});
    ToolSpec { name: name.into(), description: description.into(), parameters }
}

fn path_schema(what: &str) -> Value {
    json!({"type": "string", "description": format!("{what} Relative to the workspace, names joined by \"/\", without \"..\".")})
}

async fn read(workspace: Workspace, call: Invocation) -> Result<Value, ToolError> {
    let path = call.text("path")?;
    let offset = number(&call.arguments, "offset")?.unwrap_or(0);
    let most = number(&call.arguments, "maxBytes")?.map_or(CONTENT_BYTES, |most| usize::try_from(most).unwrap_or(CONTENT_BYTES));
    let piece = workspace.read(path, offset, most.clamp(text::LONGEST_CHAR, CONTENT_BYTES)).await?;
    let Some(part) = text::part(&piece.bytes, offset, piece.size, CONTENT_BYTES) else {
        return Err(ToolError::new(ToolErrorCode::Failed, format!("{:?} is not text (UTF-8), and only text can be read", piece.path)));
    };
    let mut result = json!({"path": piece.path, "content": part.content, "size": piece.size, "truncated": part.next.is_some()});
    if part.from > 0 {
        result["offset"] = part.from.into();
    }
    if let Some(next) = part.next {
        result["nextOffset"] = next.into();
    }
    Ok(result)
}

async fn write(workspace: Workspace, call: Invocation) -> Result<Value, ToolError> {
    let append = switch(&call.arguments, "append")?;
    let written = workspace.write(call.text("path")?, call.text("content")?.as_bytes().to_vec(), append).await?;
    Ok(json!({"path": written.path, "size": written.size, "created": written.created}))
}

async fn list(workspace: Workspace, call: Invocation) -> Result<Value, ToolError> {
    let path = if call.arguments.contains_key("path") { call.text("path")? } else { "." };
    let listing = workspace.list(path, switch(&call.arguments, "recursive")?).await?;
    let mut left = CONTENT_BYTES;
    let mut entries = Vec::new();
    for entry in &listing.entries {
        let shown = show(entry, &listing.path);
        // A comma stands between two.
        let Some(rest) = left.checked_sub(shown.to_string().len() + 1) else { break };
        left = rest;
        entries.push(shown);
    }
    let truncated = listing.truncated || entries.len() < listing.entries.len();
    Ok(json!({"path": listing.path, "entries": entries, "truncated": truncated}))
}

/// An entry, named relative to the directory that was listed.
fn show(entry: &Entry, listed: &str) -> Value {
    let below = entry.path.strip_prefix(listed).and_then(|rest| rest.strip_prefix('/'));
    let mut shown = json!({"name": below.unwrap_or(&entry.path), "type": entry.kind.as_str()});
    if let Some(size) = entry.size {
        shown["size"] = size.into();
    }
    shown
}

fn number(arguments: &Map<String, Value>, name: &str) -> Result<Option<u64>, ToolError> {
    let Some(value) = arguments.get(name) else { return Ok(None) };
    // Models write 10.0 for 10, and the schema takes it.
    let whole = value.as_u64().or_else(|| value.as_f64().filter(|n| n.fract() == 0.0 && (0.0..1e15).contains(n)).map(|n| n as u64));
    whole.map(Some).ok_or_else(|| ToolError::new(ToolErrorCode::InvalidArguments, format!("{name:?} must be a whole number, 0 or more")))
}

fn switch(arguments: &Map<String, Value>, name: &str) -> Result<bool, ToolError> {
    let Some(value) = arguments.get(name) else { return Ok(false) };
    value.as_bool().ok_or_else(|| ToolError::new(ToolErrorCode::InvalidArguments, format!("{name:?} must be true or false")))
}

impl From<WorkspaceError> for ToolError {
    fn from(error: WorkspaceError) -> Self {
        let code = match error.code {
            WorkspaceErrorCode::InvalidPath | WorkspaceErrorCode::Hidden => ToolErrorCode::Refused,
            WorkspaceErrorCode::NotFound => ToolErrorCode::NotFound,
            WorkspaceErrorCode::TooLarge | WorkspaceErrorCode::QuotaExceeded => ToolErrorCode::TooLarge,
            WorkspaceErrorCode::NotAFile | WorkspaceErrorCode::NotADirectory | WorkspaceErrorCode::Io => ToolErrorCode::Failed,
        };
        Self::new(code, error.message)
    }
}
