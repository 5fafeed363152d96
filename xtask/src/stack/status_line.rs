//! How far something is, on one line of a terminal that is written over.

use std::io::{IsTerminal as _, Write as _, stderr};
use std::time::{Duration, Instant};

/// How often something is said where nothing can be written over.
const SELDOM: Duration = Duration::from_secs(10);

/// A line on standard error; it is cleared on drop.
pub(crate) struct StatusLine {
    is_terminal: bool,
    said_at: Option<Instant>,
}

impl StatusLine {
    pub(crate) fn new() -> Self {
        Self {
            is_terminal: stderr().is_terminal(),
            said_at: None,
        }
    }

    /// Says it in place of what was said before; where that cannot be, only now and then.
    pub(crate) fn say(&mut self, text: &str) {
        let mut out = stderr();
        // A terminal that is gone is no reason to stop.
        if self.is_terminal {
            let _: std::io::Result<()> = write!(out, "\r\x1b[K    {text}");
            let _: std::io::Result<()> = out.flush();
        } else if self.said_at.is_none_or(|at| at.elapsed() >= SELDOM) {
            let _: std::io::Result<()> = writeln!(out, "    {text}");
            self.said_at = Some(Instant::now());
        }
    }
}

impl Drop for StatusLine {
    fn drop(&mut self) {
        if self.is_terminal {
            let _: std::io::Result<()> = write!(stderr(), "\r\x1b[K");
        }
    }
}
