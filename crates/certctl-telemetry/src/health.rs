//! Whether this process takes requests: what `/health` and `/ready` answer from.

use std::sync::{
    Arc,
    atomic::{AtomicU8, Ordering},
};

/// Where a process is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum HealthState {
    /// Not everything is set up yet.
    Starting = 0,
    /// Requests are taken.
    Ready = 1,
    /// The process is going to end; what is under way is finished, nothing new should be sent.
    Draining = 2,
}

/// The state of a process, shared by all who ask. It only ever moves forward: `Starting`, `Ready`, `Draining`.
///
/// It knows nothing of the database: whether that answers is asked anew by `/ready`, and never by `/health`, or a slow
/// database would have the process killed.
#[derive(Debug, Clone, Default)]
pub struct Health(Arc<AtomicU8>);

impl Health {
    /// A process that is starting.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Where the process is in its life.
    #[must_use]
    pub fn state(&self) -> HealthState {
        match self.0.load(Ordering::Acquire) {
            0 => HealthState::Starting,
            1 => HealthState::Ready,
            _ => HealthState::Draining,
        }
    }

    /// Whether requests are taken.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        self.state() == HealthState::Ready
    }

    /// Says that requests are taken from now on. Without effect once the process is draining: a start that is
    /// interrupted must not become ready.
    pub fn set_ready(&self) {
        self.advance_to(HealthState::Ready);
    }

    /// Says that the process is going to end.
    pub fn set_draining(&self) {
        self.advance_to(HealthState::Draining);
    }

    fn advance_to(&self, state: HealthState) {
        self.0.fetch_max(state as u8, Ordering::AcqRel);
    }
}

#[cfg(test)]
mod tests {
    use super::{Health, HealthState};

    #[test]
    fn a_life_goes_forward_only() {
        let health = Health::new();
        let shared = health.clone();
        assert_eq!(health.state(), HealthState::Starting);
        health.set_ready();
        assert!(shared.is_ready());
        shared.set_draining();
        assert_eq!(health.state(), HealthState::Draining);
        health.set_ready();
        assert_eq!(health.state(), HealthState::Draining);
    }

    #[test]
    fn an_interrupted_start_never_becomes_ready() {
        let health = Health::new();
        health.set_draining();
        health.set_ready();
        assert!(!health.is_ready());
    }
}
