//! Ctrl-C, or SIGTERM: everything that was started is ended in order, and the folders are removed, a running Postfix's as well.
//!
//! Ctrl-C reaches the running `postmap` by itself, which ends the present step. SIGTERM waits for its end.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use tokio::signal::unix::{SignalKind, signal};

use crate::apparatus::Result;

/// Whether somebody wants an end.
pub(crate) struct Interruption {
    wanted: Arc<AtomicBool>,
}

impl Interruption {
    /// From now on it is noticed, and ends nothing by itself.
    pub(crate) fn expect() -> Result<Self> {
        let wanted = Arc::new(AtomicBool::new(false));
        let noticed = Arc::clone(&wanted);
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_io()
            .build()?;
        thread::Builder::new().name("interrupt".into()).spawn(move || {
            let signal = async {
                let mut terminate = signal(SignalKind::terminate())?;
                tokio::select! {
                    result = tokio::signal::ctrl_c() => result,
                    _ = terminate.recv() => Ok(()),
                }
            };
            if runtime.block_on(signal).is_ok() {
                noticed.store(true, Ordering::Relaxed);
            }
        })?;
        Ok(Self { wanted })
    }

    /// An error, once somebody has.
    pub(crate) fn check(&self) -> Result<()> {
        if self.wanted.load(Ordering::Relaxed) {
            return Err("interrupted".into());
        }
        Ok(())
    }
}
