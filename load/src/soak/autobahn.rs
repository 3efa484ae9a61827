//! Autobahn's fuzzing client against an echo server that is made of the hub's WebSocket parts.
//!
//! The suite is a Python 2.7 program. Where it cannot be had this part says so and passes nothing off as checked.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use anyhow::{Context, bail};
use clap::Args;
use serde::Deserialize;
use serde_json::json;
use tempfile::TempDir;
use tokio::{
    io::{AsyncBufReadExt, BufReader},
    process::{Child, Command},
    time::timeout,
};

use super::Report;

/// What to run.
#[derive(Args, Clone, Debug)]
pub struct Size {
    /// Cases; without the large messages (9.*) it takes seconds.
    #[arg(long, value_delimiter = ',', default_value = "*")]
    pub cases: Vec<String>,
    /// The echo server: `cargo build --release --example ws_echo`. Beside this program otherwise.
    #[arg(long)]
    pub echo: Option<PathBuf>,
    /// A directory to keep the suite in between runs. Otherwise it is installed anew each time, for this run only.
    #[arg(long, env = "AUTOBAHN_DIR")]
    pub suite: Option<PathBuf>,
}

impl Default for Size {
    fn default() -> Self {
        Self { cases: vec!["*".to_owned()], echo: None, suite: std::env::var_os("AUTOBAHN_DIR").map(PathBuf::from) }
    }
}

impl Size {
    /// What runs in seconds: everything but large messages.
    pub fn quick(echo: &Path) -> Self {
        let cases = ["1.*", "2.*", "3.*", "4.*", "5.*", "6.*", "7.*", "10.*"].map(str::to_owned).to_vec();
        Self { cases, echo: Some(echo.to_owned()), ..Self::default() }
    }
}

/// Compression is off in the hub.
const EXCLUDED: [&str; 2] = ["12.*", "13.*"];
const PACKAGE: &str = "autobahntestsuite==0.8.2";
const AGENT: &str = "agent-hub";
/// How long all cases may take.
const RUN_WITHIN: Duration = Duration::from_secs(600);

/// Runs it.
///
/// # Errors
/// The suite breaks. That it is not there is a violation that says so.
pub async fn run(size: Size) -> anyhow::Result<Report> {
    let mut report = Report::default();
    let work = TempDir::with_prefix("agent-hub-autobahn-")?;
    let suite = size.suite.clone().unwrap_or_else(|| work.path().join("suite"));
    let python = match install(&suite).await {
        Ok(python) => python,
        Err(error) => {
            report.not_run = true;
            report.violation(format!("NOT RUN: no Python 2.7 with {PACKAGE}: {error:#}"));
            return Ok(report);
        }
    };
    let echo = match size.echo {
        Some(echo) => echo,
        None => std::env::current_exe()?.parent().context("no directory")?.join("examples/ws_echo"),
    };
    let (_server, url) = start_echo(&echo).await?;
    let spec = json!({
        "outdir": work.path().join("reports"),
        "servers": [{ "agent": AGENT, "url": url }],
        "cases": size.cases,
        "exclude-cases": EXCLUDED,
        "exclude-agent-cases": {}
    });
    let spec_path = work.path().join("spec.json");
    fs::write(&spec_path, spec.to_string())?;
    let mut wstest = python.command();
    wstest.arg("-c").arg(within(&suite, "from autobahntestsuite.wstest import run; run()"));
    wstest.args(["-m", "fuzzingclient", "-s"]).arg(&spec_path);
    let output = timeout(RUN_WITHIN, wstest.current_dir(work.path()).output()).await.context("the suite did not end")??;
    judge(&work.path().join("reports/index.json"), &mut report).with_context(|| {
        let said = String::from_utf8_lossy(&output.stderr);
        format!("the suite said: {}", said.lines().rev().take(10).collect::<Vec<_>>().join(" | "))
    })?;
    Ok(report)
}

/// A case, as the suite judges it.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Case {
    behavior: String,
    behavior_close: String,
}

/// The exit code says nothing; the index does.
fn judge(index: &Path, report: &mut Report) -> anyhow::Result<()> {
    let text = fs::read_to_string(index).with_context(|| format!("reading {}", index.display()))?;
    let mut agents: BTreeMap<String, BTreeMap<String, Case>> = serde_json::from_str(&text)?;
    let cases = agents.remove(AGENT).context("the index has no cases")?;
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    for (name, case) in &cases {
        *counts.entry(case.behavior.as_str()).or_default() += 1;
        let failed = |verdict: &str| !matches!(verdict, "OK" | "NON-STRICT" | "INFORMATIONAL");
        report.expect(!failed(&case.behavior) && !failed(&case.behavior_close), || {
            format!("case {name}: {}, closing {}", case.behavior, case.behavior_close)
        });
    }
    report.expect(!cases.is_empty(), || "no case was run".to_owned());
    report.fact(format!("{} cases: {counts:?}", cases.len()));
    Ok(())
}

/// A Python that runs the suite.
struct Python(&'static str);

impl Python {
    fn command(&self) -> Command {
        let mut command = Command::new(self.0);
        // For pyenv, where it is what provides the interpreter; others do not look at it.
        command.env("PYENV_VERSION", "2.7.18").stdin(Stdio::null()).kill_on_drop(true);
        command
    }

    async fn succeeds(&self, code: &str) -> bool {
        self.command().arg("-c").arg(code).output().await.is_ok_and(|output| output.status.success())
    }
}

/// Finds a Python 2.7 and puts the suite into the directory, unless it is there.
async fn install(suite: &Path) -> anyhow::Result<Python> {
    for name in ["python2.7", "python2"] {
        let python = Python(name);
        if !python.succeeds("import sys; sys.exit(sys.version_info[:2] != (2, 7))").await {
            continue;
        }
        let there = within(suite, "import autobahntestsuite.wstest");
        if python.succeeds(&there).await {
            return Ok(python);
        }
        let mut pip = python.command();
        pip.args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--target"]).arg(suite).arg(PACKAGE);
        let output = timeout(RUN_WITHIN, pip.output()).await.context("pip does not end")??;
        if !python.succeeds(&there).await {
            let said = String::from_utf8_lossy(&output.stderr);
            bail!("pip said: {}", said.lines().filter(|line| !line.starts_with("WARNING")).collect::<Vec<_>>().join(" | "));
        }
        return Ok(python);
    }
    bail!("there is no python2.7")
}

/// Code that finds the suite's packages. Some of them are only found by way of their `.pth` files, which a mere search path leaves out.
fn within(suite: &Path, code: &str) -> String {
    format!("import site; site.addsitedir({:?}); {code}", suite.display().to_string())
}

/// The echo server's process and its address, which is the first thing it says.
async fn start_echo(binary: &Path) -> anyhow::Result<(Child, String)> {
    let mut command = Command::new(binary);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).kill_on_drop(true);
    let mut child =
        command.spawn().with_context(|| format!("starting {}; build it with cargo build --example ws_echo", binary.display()))?;
    let stdout = child.stdout.take().context("the echo server says nothing")?;
    let mut line = String::new();
    BufReader::new(stdout).read_line(&mut line).await?;
    Ok((child, line.trim().to_owned()))
}
