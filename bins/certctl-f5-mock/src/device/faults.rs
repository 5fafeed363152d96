//! What a test may have go wrong.

use std::time::Duration;

/// Something that happens to one call.
#[derive(Debug, Clone)]
pub struct Fault {
    /// Which calls are meant: those whose `METHOD path` starts so; all when it is empty.
    pub call: String,
    /// How many of them are let through before.
    pub after: usize,
    /// What happens.
    pub effect: Effect,
}

/// What happens to a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Effect {
    /// It is refused with this status, and has no effect.
    Status(u16),
    /// It is answered only after this time.
    Delay(Duration),
    /// It is carried out, and the connection ends without an answer.
    LoseAnswer,
}

/// The faults that wait for their calls.
#[derive(Default)]
pub(crate) struct Faults(Vec<Fault>);

impl Faults {
    pub(crate) fn add(&mut self, fault: Fault) {
        self.0.push(fault);
    }

    /// What happens to this call; each fault happens once.
    pub(crate) fn on(&mut self, call: &str) -> Option<Effect> {
        let mut hit = None;
        self.0.retain_mut(|fault| {
            if hit.is_some() || !call.starts_with(&fault.call) {
                return true;
            }
            match fault.after.checked_sub(1) {
                Some(left) => {
                    fault.after = left;
                    true
                }
                None => {
                    hit = Some(fault.effect);
                    false
                }
            }
        });
        hit
    }
}

#[cfg(test)]
mod tests {
    use super::{Effect, Fault, Faults};

    #[test]
    fn a_fault_happens_once_after_so_many_calls_of_its_kind() {
        let mut faults = Faults::default();
        faults.add(Fault {
            call: "GET /a".to_owned(),
            after: 1,
            effect: Effect::Status(503),
        });
        let seen: Vec<_> = ["GET /a", "POST /a", "GET /ab", "GET /a"]
            .iter()
            .map(|call| faults.on(call))
            .collect();
        assert_eq!(seen, [None, None, Some(Effect::Status(503)), None]);
    }
}
