//! A fake vendor with a thread and a runtime of its own, in this process: one clock for both ends of a call, and nobody else's turn to wait for.

use std::{sync::mpsc, thread};

use anyhow::Context;
use tokio::sync::oneshot;

use super::{FakeVendor, FakeVendorConfig};

/// See the module. Dropping it ends the thread.
#[derive(Debug)]
pub struct VendorThread {
    /// The vendor.
    pub vendor: FakeVendor,
    /// Dropped: the thread ends.
    _stop: mpsc::Sender<()>,
}

impl VendorThread {
    /// Starts one.
    ///
    /// # Errors
    /// No thread, or no port.
    pub async fn start(config: FakeVendorConfig) -> anyhow::Result<Self> {
        let (stop, stopped) = mpsc::channel::<()>();
        let (started, vendor) = oneshot::channel();
        thread::Builder::new().name("fake-vendor".into()).spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            let Ok(runtime) = runtime else { return };
            runtime.block_on(async {
                let vendor = FakeVendor::start(config).await;
                drop(started.send(vendor));
                // Ends when the sender is dropped; on the pool, because this one serves.
                let _ = tokio::task::spawn_blocking(move || stopped.recv()).await;
            });
        })?;
        let vendor = vendor.await.context("the fake vendor's thread ended")??;
        Ok(Self { vendor, _stop: stop })
    }
}
