//! Ctrl-C as a wish that is looked at, so that everything is cleared up on the way out.

use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, LazyLock, Once};
use std::thread::sleep;
use std::time::Duration;

use anyhow::{Result, bail};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::flag;

/// Handlers stay for good and would otherwise pile up.
static LISTENING: Once = Once::new();

static WISHED: LazyLock<Arc<AtomicBool>> = LazyLock::new(Arc::default);

/// From here on the first signal is only noted; a second one ends the program at once.
///
/// Even then the guards of the children stop them.
pub(crate) fn listen() -> Result<()> {
    let mut registered = Ok(());
    LISTENING.call_once(|| registered = register());
    Ok(registered?)
}

fn register() -> io::Result<()> {
    const ENDED_BY_SIGNAL: i32 = 130;
    for signal in [SIGINT, SIGTERM, SIGHUP] {
        // In this order: the second looks before the first notes.
        flag::register_conditional_shutdown(signal, ENDED_BY_SIGNAL, Arc::clone(&WISHED))?;
        flag::register(signal, Arc::clone(&WISHED))?;
    }
    Ok(())
}

/// Fails once the end is wished for.
pub(crate) fn check() -> Result<()> {
    if WISHED.load(Ordering::Relaxed) {
        bail!("interrupted");
    }
    Ok(())
}

/// Waits until the end is wished for.
pub(crate) fn wait() {
    while check().is_ok() {
        sleep(Duration::from_millis(50));
    }
}
