//! Waiting for something that another process does.

use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};

use super::interrupt;

/// Far more than any step takes; only bounds a hang.
pub(crate) const LIMIT: Duration = Duration::from_secs(60);

/// Looks until there is something, and says what was waited for in vain.
pub(crate) fn until<T>(what: &str, mut look: impl FnMut() -> Result<Option<T>>) -> Result<T> {
    const PAUSE: Duration = Duration::from_millis(100);
    let deadline = Instant::now() + LIMIT;
    loop {
        interrupt::check()?;
        if let Some(found) = look()? {
            return Ok(found);
        }
        if Instant::now() >= deadline {
            bail!("waited {} s in vain: {what}", LIMIT.as_secs());
        }
        sleep(PAUSE);
    }
}
