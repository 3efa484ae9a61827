//! Settings of what agents may do besides talking: files, tools, servers of tools, workflows.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use ipnet::IpNet;

use super::{
    AgentConfig, CodeLimits, FetchConfig, McpServerConfig, SearchConfig, SearchKind, ToolsConfig,
    reader::Reader,
    value::{Bytes, HttpUrl, choice},
};
use crate::{
    dependencies::{Dependency, Place},
    workflow::{Workflow, Workflows},
};

const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);

choice!(SearchKind { "searxng" => SearchKind::Searxng, "brave" => SearchKind::Brave, "tavily" => SearchKind::Tavily });

pub(super) fn workspace(r: &mut Reader) -> Option<PathBuf> {
    r.section("workspace", "files of sessions: file_read, file_write, file_list");
    let path = r.optional(
        "workspace.path",
        "A directory; made if missing; each session has its own in it. Not set: no agent has files.",
        &PathBuf::from("./workspace"),
    )?;
    if path.exists() && !path.is_dir() {
        r.refuse("workspace.path", format!("{} is not a directory", path.display()));
    }
    Some(path)
}

pub(super) fn tools(r: &mut Reader) -> ToolsConfig {
    r.section("tools.code_execution", "JavaScript, in a process that is locked up and killed when its time is over");
    let enabled = r.take("tools.code_execution.enabled", "Off unless set; needs Landlock and seccomp.", false);
    let wall =
        r.within("tools.code_execution.wall", "The longest a script may take.", 30 * SECOND, Duration::from_millis(100), 10 * MINUTE);
    let cpu = r.within("tools.code_execution.cpu", "Of the processor.", 2 * SECOND, SECOND, 10 * MINUTE);
    let (least, most) = (Bytes(8 * 1024 * 1024), Bytes(512 * 1024 * 1024));
    let Bytes(memory) = r.within("tools.code_execution.memory", "Of its engine.", Bytes(64 * 1024 * 1024), least, most);
    if enabled && !cfg!(feature = "js") {
        r.refuse("tools.code_execution.enabled", "this build has no JavaScript engine (feature js)");
    }
    ToolsConfig {
        code_execution: enabled.then_some(CodeLimits { wall, cpu, memory }),
        web_search: web_search(r),
        http_fetch: http_fetch(r),
        mcp: mcp(r),
    }
}

fn mcp(r: &mut Reader) -> Vec<McpServerConfig> {
    let names = r.names_below("mcp.");
    names.iter().filter_map(|name| mcp_server(r, name)).collect()
}

fn mcp_server(r: &mut Reader, name: &str) -> Option<McpServerConfig> {
    r.section(&format!("mcp.{name}"), "a server of the Model Context Protocol; its tools are called name__tool");
    let key = |field: &str| format!("mcp.{name}.{field}");
    let fine = name.len() <= 32 && name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '-' | '_'));
    if !fine {
        r.refuse(&format!("mcp.{name}"), "a server's name has lower-case letters, digits, - and _, at most 32");
    }
    let command = r.optional(&key("command"), "A program of this machine; or else a URL.", &"npx".to_owned());
    let arguments: Vec<String> = r.take(&key("args"), "What it is started with.", Vec::new());
    let environment: Vec<String> = r.take(&key("env"), "Names of this hub's variables that it may see, besides PATH.", Vec::new());
    let url = r.optional(&key("url"), "Where it answers over streamable HTTP.", &HttpUrl("http://127.0.0.1:8000/mcp".to_owned()));
    let token = r.secret(&key("token"), "Sent there as a bearer token. Better in the environment than here.");
    let call_timeout = r.within(&key("call_timeout"), "The longest one call may take.", 30 * SECOND, SECOND, 10 * MINUTE);
    let tools: Vec<String> =
        r.take(&key("tools"), "Which of its tools are taken; \"read_*\" means all that begin so.", vec!["*".to_owned()]);
    if command.is_some() == url.is_some() {
        r.refuse(&key("command"), "exactly one of command and url must be set");
        return None;
    }
    if !cfg!(feature = "mcp") {
        r.refuse(&format!("mcp.{name}"), "this build has no MCP client (feature mcp)");
    }
    let command = command.map(|command| (command, arguments));
    Some(McpServerConfig { name: name.to_owned(), command, environment, url: url.map(|url| url.0), token, call_timeout, tools })
}

fn web_search(r: &mut Reader) -> Option<SearchConfig> {
    r.section("tools.web_search", "the web, through a search service");
    let kind = r.optional("tools.web_search.provider", "searxng, brave or tavily. Not set: no agent searches.", &SearchKind::Searxng);
    let url = r.optional(
        "tools.web_search.url",
        "The service's own unless set; searxng has none of its own.",
        &HttpUrl("http://127.0.0.1:8888".to_owned()),
    );
    let api_key = r.secret("tools.web_search.api_key", "Of brave and tavily. Better in the environment than here.");
    let results = r.within("tools.web_search.results", "Of one search, unless the agent says.", 5, 1, 20);
    let kind = kind?;
    if kind.needs_key() && api_key.is_none() {
        r.refuse("tools.web_search.api_key", "is needed for this service");
    }
    let url = url.map(|url| url.0).or_else(|| kind.usual_url().map(str::to_owned));
    let Some(url) = url.and_then(|url| url.parse().ok()) else {
        r.refuse("tools.web_search.url", "is needed for searxng");
        return None;
    };
    Some(SearchConfig { kind, url, api_key, results })
}

fn http_fetch(r: &mut Reader) -> Option<FetchConfig> {
    r.section("tools.http_fetch", "pages of the web; never addresses inside, unless they are named here");
    let enabled = r.take("tools.http_fetch.enabled", "Off unless set.", false);
    let allow_http = r.take("tools.http_fetch.allow_http", "Plain HTTP besides HTTPS.", false);
    let allowed_private: Vec<IpNet> =
        r.take("tools.http_fetch.allowed_private", "Addresses that are not public, and allowed all the same.", Vec::new());
    enabled.then_some(FetchConfig { allow_http, allowed_private })
}

pub(super) fn dependencies(r: &mut Reader) -> Vec<Dependency> {
    let names = r.names_below("dependencies.");
    names.iter().filter_map(|name| dependency(r, name)).collect()
}

fn dependency(r: &mut Reader, name: &str) -> Option<Dependency> {
    r.section(&format!("dependencies.{name}"), "what agents need besides the hub; /status says whether it answers");
    let key = format!("dependencies.{name}.url");
    let url = r.optional(&key, "http(s)://…, answered below 400; or tcp://host:port.", &"http://127.0.0.1:6333/healthz".to_owned());
    let required = r.take(&format!("dependencies.{name}.required"), "Whether /ready says no without it.", false);
    let place = url.as_deref().and_then(Place::parse);
    if place.is_none() {
        r.refuse(&key, "must be http://…, https://… or tcp://host:port");
    }
    Some(Dependency { name: name.to_owned(), place: place?, required })
}

pub(super) fn workflows(r: &mut Reader, agents: &[AgentConfig]) -> Workflows {
    const KEY: &str = "workflows.path";
    const USUAL: &str = "./workflows";
    r.section("workflows", "steps that may wait; one file each: order-approval.yaml, order-approval.toml");
    let path = r.take(KEY, "The directory of the definitions; none if there is none.", PathBuf::from(USUAL));
    let mut wrong = Vec::new();
    let mut found = Vec::new();
    match definitions(&path) {
        Ok(definitions) => {
            for (id, file, text) in definitions {
                let toml = file.extension().is_some_and(|extension| extension == "toml");
                match if toml { Workflow::from_toml(&id, &text) } else { Workflow::from_yaml(&id, &text) } {
                    Ok(workflow) => found.push(workflow),
                    Err(complaints) => wrong.extend(complaints),
                }
            }
        }
        // The usual place may be empty; one that somebody has chosen should be there.
        Err(_) if !path.exists() && path == Path::new(USUAL) => {}
        Err(error) => r.refuse(KEY, format!("{} cannot be read: {error}", path.display())),
    }
    for workflow in &found {
        for whom in workflow.agents() {
            if !agents.iter().any(|agent| agent.name == whom) {
                wrong.push(format!("{}: no agent is named {whom:?}", workflow.id));
            }
        }
    }
    // What is wrong with one of them would be said again of those that execute it.
    let workflows = if wrong.is_empty() { Workflows::new(found) } else { Ok(Workflows::default()) };
    let workflows = workflows.unwrap_or_else(|complaints| {
        wrong.extend(complaints);
        Workflows::default()
    });
    for complaint in wrong {
        r.refuse(KEY, complaint);
    }
    workflows
}

/// The definitions in a directory, by id: their files and texts.
fn definitions(path: &Path) -> std::io::Result<Vec<(String, PathBuf, String)>> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(path)? {
        let file = entry?.path();
        let known = file.extension().and_then(|extension| extension.to_str()).is_some_and(|e| matches!(e, "yaml" | "yml" | "toml"));
        if !known || !file.is_file() {
            continue;
        }
        let id = file.file_stem().map(|stem| stem.to_string_lossy().into_owned()).unwrap_or_default();
        let text = std::fs::read_to_string(&file)?;
        found.push((id, file, text));
    }
    // Whatever the file system says first, complaints come in one order.
    found.sort();
    Ok(found)
}
