//! x
/// x
#[derive(Debug, clap::Args)]
pub struct NetworkArgs {}
/// x
#[derive(serde::Serialize)]
pub struct Report {}
impl Report {
    /// x
    pub fn kept(&self) -> bool {
        true
    }
}
impl std::fmt::Display for Report {
    fn fmt(&self, _: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        Ok(())
    }
}
/// x
/// # Errors
/// x
pub async fn run(_: &NetworkArgs) -> anyhow::Result<Report> {
    Ok(Report {})
}
