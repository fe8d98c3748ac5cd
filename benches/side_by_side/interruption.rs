//! Ctrl-C: everything that was started is ended in order, and the folders are removed, a running Postfix's as well.
//!
//! The signal reaches the running `postmap` by itself, which ends the present step.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use crate::apparatus::Result;

/// Whether somebody has pressed Ctrl-C.
pub(crate) struct Interruption {
    pressed: Arc<AtomicBool>,
}

impl Interruption {
    /// From now on it is noticed, and ends nothing by itself.
    pub(crate) fn expect() -> Result<Self> {
        let pressed = Arc::new(AtomicBool::new(false));
        let noticed = Arc::clone(&pressed);
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_io()
            .build()?;
        thread::Builder::new().name("interrupt".into()).spawn(move || {
            if runtime.block_on(tokio::signal::ctrl_c()).is_ok() {
                noticed.store(true, Ordering::Relaxed);
            }
        })?;
        Ok(Self { pressed })
    }

    /// An error, once somebody has.
    pub(crate) fn check(&self) -> Result<()> {
        if self.pressed.load(Ordering::Relaxed) {
            return Err("interrupted".into());
        }
        Ok(())
    }
}
