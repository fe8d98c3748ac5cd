//! Ctrl-C, or SIGTERM: all child processes end in order, and the directories are removed, also those of a running
//! Postfix.
//!
//! The running `postmap` receives Ctrl-C too, which ends the present step. SIGTERM waits for the end of the step.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use tokio::signal::unix::{SignalKind, signal};

use crate::apparatus::Result;

/// Whether an interruption was requested.
pub(crate) struct Interruption {
    wanted: Arc<AtomicBool>,
}

impl Interruption {
    /// Handles the signals from now on, so that they do not end the process.
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

    /// Returns an error once an interruption was requested.
    pub(crate) fn check(&self) -> Result<()> {
        if self.wanted.load(Ordering::Relaxed) {
            return Err("interrupted".into());
        }
        Ok(())
    }
}
