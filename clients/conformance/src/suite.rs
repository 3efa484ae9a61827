//! Scripts: where they come from, and how many are played at once.

use std::path::PathBuf;

use anyhow::{Context, bail};
use futures::{StreamExt, stream};
use rust_embed::RustEmbed;
use serde::de::DeserializeOwned;

use crate::verdict::{Outcome, Transcript, Verdict};

#[derive(RustEmbed)]
#[folder = "scripts/client"]
struct ClientScripts;

#[derive(RustEmbed)]
#[folder = "scripts/server"]
struct ServerScripts;

/// For whom a script is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// Plays a server, tests a client.
    Client,
    /// Plays a client, tests a server.
    Server,
}

/// Which scripts, and how they are played.
#[derive(Clone, Debug, clap::Args)]
pub struct Selection {
    /// Plays the *.toml of this directory instead of those that come with the kit.
    #[arg(long, value_name = "DIRECTORY")]
    pub scripts: Option<PathBuf>,
    /// Only scripts whose name holds one of these.
    #[arg(long, value_name = "NAME")]
    pub only: Vec<String>,
    /// Scripts played at the same time.
    #[arg(long, default_value_t = 4)]
    pub jobs: usize,
    /// Seconds to wait for each thing that must come.
    #[arg(long, default_value_t = 15)]
    pub patience: u64,
}

impl Default for Selection {
    fn default() -> Self {
        Self { scripts: None, only: Vec::new(), jobs: 4, patience: 15 }
    }
}

/// Reads the selected scripts, in the order of their names.
///
/// # Errors
/// A file cannot be read or is no script; with the file and the place in it.
pub fn read<S: DeserializeOwned>(side: Side, selection: &Selection) -> anyhow::Result<Vec<(String, S)>> {
    let mut texts = match &selection.scripts {
        Some(directory) => from_directory(directory)?,
        None => embedded(side)?,
    };
    texts.sort();
    texts.retain(|(name, _)| selection.only.is_empty() || selection.only.iter().any(|part| name.contains(part.as_str())));
    if texts.is_empty() {
        bail!("no script is selected");
    }
    let parse = |(name, text): (String, String)| {
        let script = toml::from_str(&text).with_context(|| format!("the script {name}"))?;
        Ok((name, script))
    };
    texts.into_iter().map(parse).collect()
}

fn from_directory(directory: &PathBuf) -> anyhow::Result<Vec<(String, String)>> {
    let mut texts = Vec::new();
    for entry in std::fs::read_dir(directory).with_context(|| format!("reading {}", directory.display()))? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "toml") {
            let name = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
            texts.push((name, std::fs::read_to_string(&path).with_context(|| format!("reading {}", path.display()))?));
        }
    }
    Ok(texts)
}

fn embedded(side: Side) -> anyhow::Result<Vec<(String, String)>> {
    let names: Vec<_> = match side {
        Side::Client => ClientScripts::iter().collect(),
        Side::Server => ServerScripts::iter().collect(),
    };
    let mut texts = Vec::new();
    for name in names {
        let file = match side {
            Side::Client => ClientScripts::get(&name),
            Side::Server => ServerScripts::get(&name),
        };
        let file = file.with_context(|| format!("the script {name} is gone"))?;
        let text = String::from_utf8(file.data.into_owned()).with_context(|| format!("the script {name}"))?;
        texts.push((name.trim_end_matches(".toml").to_owned(), text));
    }
    Ok(texts)
}

/// Plays scripts, several at a time. Each verdict is shown as soon as it is there; all are returned, in the order of the scripts.
pub async fn play<S, F>(
    scripts: Vec<(String, S)>,
    jobs: usize,
    play_one: impl Fn(S, Transcript) -> F,
    mut show: impl FnMut(&Verdict),
) -> Vec<Verdict>
where
    S: About,
    F: Future<Output = Outcome>,
{
    let order: Vec<String> = scripts.iter().map(|(name, _)| name.clone()).collect();
    let play_one = &play_one;
    let mut playing = stream::iter(scripts)
        .map(|(name, script)| async move {
            let (about, transcript) = (script.about().to_owned(), Transcript::default());
            let outcome = play_one(script, transcript.clone()).await;
            let took_ms = u64::try_from(transcript.elapsed().as_millis()).unwrap_or(u64::MAX);
            let transcript = if matches!(outcome, Outcome::Failed(_)) { transcript.take() } else { Vec::new() };
            Verdict { name, about, outcome, took_ms, transcript }
        })
        .buffer_unordered(jobs.max(1));
    let mut verdicts = Vec::new();
    while let Some(verdict) = playing.next().await {
        show(&verdict);
        verdicts.push(verdict);
    }
    verdicts.sort_by_key(|verdict| order.iter().position(|name| *name == verdict.name));
    verdicts
}

/// What a script says of itself.
pub trait About {
    /// The rule it is about.
    fn about(&self) -> &str;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_script_that_comes_with_the_kit_can_be_read() {
        let all = Selection::default();
        assert!(read::<crate::client::Script>(Side::Client, &all).expect("scripts").len() > 30);
        assert!(read::<crate::server::Script>(Side::Server, &all).expect("scripts").len() > 30);
    }

    #[test]
    fn a_script_with_an_unknown_step_is_refused_with_its_place() {
        let error = toml::from_str::<crate::client::Script>("about = \"x\"\nsteps = [ { dance = 1 } ]").expect_err("unknown");
        assert!(error.to_string().contains("dance"), "{error}");
    }
}
