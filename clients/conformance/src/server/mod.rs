//! Scripts of a client, played against a server.
use crate::{suite::*, verdict::Verdict};
/// x
#[derive(Debug, clap::Args)]
pub struct ServerArgs {}
/// x
#[derive(Debug, serde::Deserialize)]
pub struct Script { #[allow(dead_code)] about: String }
/// x
/// # Errors
/// x
pub async fn run(_: &ServerArgs, _: impl FnMut(&Verdict)) -> anyhow::Result<Vec<Verdict>> { Ok(vec![]) }
impl About for Script { fn about(&self) -> &str { &self.about } }
