//! SIGTERM and SIGINT.

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_util::sync::CancellationToken;

/// What a shell reports of a process that a signal ended.
const INTERRUPTED: i32 = 130;

/// The first signal begins to stop the hub; the second ends the process at once. Waits for it as long as it is let. Signals are received from
/// the call on, not from the first poll: whoever reads that the hub listens may end it.
pub(super) fn stop_on_signal(stop: CancellationToken) -> impl Future<Output = ()> + Send {
    let signals = (signal(SignalKind::terminate()), signal(SignalKind::interrupt()));
    async move {
        let (Ok(mut terminate), Ok(mut interrupt)) = signals else {
            tracing::error!("signals cannot be received; only kill -9 stops this process");
            return;
        };
        tokio::select! {
            () = stop.cancelled() => {}
            name = either(&mut terminate, &mut interrupt) => tracing::info!(signal = name, "draining; a second signal stops at once"),
        }
        stop.cancel();
        either(&mut terminate, &mut interrupt).await;
        tracing::warn!("stopped without draining");
        std::process::exit(INTERRUPTED);
    }
}

async fn either(terminate: &mut Signal, interrupt: &mut Signal) -> &'static str {
    tokio::select! {
        _ = terminate.recv() => "SIGTERM",
        _ = interrupt.recv() => "SIGINT",
    }
}
