//! Scripts of a faulty server, played against a client.

mod peer;
mod play;
mod script;

pub use self::script::Script;
use crate::{
    driver::DriverCommand,
    suite::{self, Selection, Side},
    verdict::Verdict,
};

/// Plays the selected scripts against the client behind this driver. Each verdict is shown as soon as it is there.
///
/// # Errors
/// A script cannot be read, or the driver cannot be started.
pub async fn run(driver: &DriverCommand, selection: &Selection, show: impl FnMut(&Verdict)) -> anyhow::Result<Vec<Verdict>> {
    let scripts = suite::read::<Script>(Side::Client, selection)?;
    let patience = std::time::Duration::from_secs(selection.patience);
    let play = |script, transcript| async move {
        match play::play(driver, script, patience, transcript).await {
            Ok(()) => crate::verdict::Outcome::Passed,
            Err(failure) => crate::verdict::Outcome::Failed(failure),
        }
    };
    Ok(suite::play(scripts, selection.jobs, play, show).await)
}
