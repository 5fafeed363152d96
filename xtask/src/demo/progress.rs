//! One line per step, with the time it took, and below it what there is to see.

use std::io::Write as _;
use std::time::Instant;

use anyhow::{Context as _, Result};

use crate::stack::interrupt;

/// Counts the steps of a run.
pub(super) struct Progress {
    total: usize,
    done: usize,
}

impl Progress {
    pub(super) fn new(total: usize) -> Self {
        Self { total, done: 0 }
    }

    /// Does one step. What it says ends its line; further lines stand below.
    pub(super) fn step<T>(
        &mut self,
        name: &str,
        work: impl FnOnce() -> Result<(T, String)>,
    ) -> Result<T> {
        interrupt::check()?;
        self.done += 1;
        let number = format!("[{:>2}/{}]", self.done, self.total);
        print!("{number} {name}: ");
        // A terminal shows what is being done before it is done. One that is gone is no reason to stop.
        let _: std::io::Result<()> = std::io::stdout().flush();
        let start = Instant::now();
        let outcome = work();
        let seconds = start.elapsed().as_secs_f64();
        match &outcome {
            Ok((_, said)) => {
                let mut lines = said.lines();
                println!("{} ({seconds:.1} s)", lines.next().unwrap_or("done"));
                lines.for_each(|line| println!("        {line}"));
            }
            Err(_) => println!("FAILED ({seconds:.1} s)"),
        }
        outcome
            .map(|(value, _)| value)
            .with_context(|| format!("{number} {name}"))
    }
}
