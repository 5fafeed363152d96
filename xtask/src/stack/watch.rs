//! Handshakes all the time, while something is changed under the visitors.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use anyhow::{Result, anyhow};

use super::tls::Visitor;

/// What the visitors saw.
#[derive(Debug, Default)]
pub(crate) struct Seen {
    pub(crate) handshakes: u64,
    pub(crate) failures: Vec<String>,
    /// The certificates in the order in which they first were served, each with how often it was.
    pub(crate) certificates: Vec<(String, u64)>,
}

impl Seen {
    fn note(&mut self, visit: Result<String>) {
        self.handshakes += 1;
        match visit {
            Err(failure) => self.failures.push(format!("{failure:#}")),
            Ok(fingerprint) => match self
                .certificates
                .iter_mut()
                .find(|(known, _)| *known == fingerprint)
            {
                Some((_, times)) => *times += 1,
                None => self.certificates.push((fingerprint, 1)),
            },
        }
    }
}

/// A visitor who comes back every few milliseconds; gone on drop.
pub(crate) struct Watch {
    done: Arc<AtomicBool>,
    visits: Option<JoinHandle<Seen>>,
}

impl Watch {
    pub(crate) fn start(visitor: &Visitor, port: u16, name: &str) -> Self {
        const PAUSE: Duration = Duration::from_millis(3);
        let done = Arc::new(AtomicBool::new(false));
        let (visitor, name, asked) = (visitor.clone(), name.to_owned(), Arc::clone(&done));
        let visits = thread::spawn(move || {
            let mut seen = Seen::default();
            while !asked.load(Ordering::Relaxed) {
                seen.note(visitor.visit(port, &name));
                thread::sleep(PAUSE);
            }
            seen
        });
        Self {
            done,
            visits: Some(visits),
        }
    }

    /// Ends the visits and tells what they saw.
    pub(crate) fn finish(mut self) -> Result<Seen> {
        self.done.store(true, Ordering::Relaxed);
        let visits = self
            .visits
            .take()
            .ok_or_else(|| anyhow!("the visits are over"))?;
        visits.join().map_err(|_| anyhow!("the visitor panicked"))
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.done.store(true, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failures_and_certificates_are_counted_in_order() {
        let mut seen = Seen::default();
        for visit in [
            Ok("old".to_owned()),
            Ok("old".to_owned()),
            Err(anyhow!("reset")),
            Ok("new".to_owned()),
        ] {
            seen.note(visit);
        }
        assert_eq!(seen.handshakes, 4);
        assert_eq!(seen.failures, ["reset"]);
        assert_eq!(
            seen.certificates,
            [("old".to_owned(), 2), ("new".to_owned(), 1)]
        );
    }
}
