//! Answers that were signed before.
//!
//! They stand in memory and not in a table: a replica that misses one signs it for less than a round trip to the database costs,
//! and a table would cost a commit for every answer.

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
};

use certctl_domain::{id::IssuerId, time::Timestamp};
use certctl_repository::revocations::Standing;

use crate::crls::Der;

/// Answers remembered at the most. With the responder's certificate in it an answer has about one kilobyte.
const CAPACITY: usize = 60_000;

/// An answer that was signed.
#[derive(Debug, Clone)]
pub(crate) struct Answer {
    pub(crate) der: Der,
    /// What it says.
    pub(crate) standing: Standing,
    /// The version of the issuer when that was read, or when it was last found to be so still.
    pub(crate) version: i64,
    pub(crate) this_update: Timestamp,
    pub(crate) next_update: Timestamp,
}

/// The question: whose certificate, and the `CertID` as it was asked with, which names the serial.
type Question = (IssuerId, Vec<u8>);

/// Two generations: what is asked for moves to the young one, and when that is full the old one is dropped. So what nobody has
/// asked for goes first, at no cost for each question.
#[derive(Default)]
pub(crate) struct AnswerCache(Mutex<Generations>);

#[derive(Default)]
struct Generations {
    young: HashMap<Question, Answer>,
    old: HashMap<Question, Answer>,
}

impl AnswerCache {
    pub(crate) fn get(&self, issuer: &IssuerId, question: &[u8]) -> Option<Answer> {
        let key = (issuer.clone(), question.to_vec());
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(answer) = all.young.get(&key) {
            return Some(answer.clone());
        }
        let answer = all.old.remove(&key)?;
        all.put(key, answer.clone());
        Some(answer)
    }

    pub(crate) fn put(&self, issuer: &IssuerId, question: &[u8], answer: Answer) {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.put((issuer.clone(), question.to_vec()), answer);
    }
}

impl Generations {
    fn put(&mut self, key: Question, answer: Answer) {
        if self.young.len() >= CAPACITY / 2 && !self.young.contains_key(&key) {
            self.old = std::mem::take(&mut self.young);
        }
        self.young.insert(key, answer);
    }
}

#[cfg(test)]
mod tests {
    use certctl_domain::{id::IssuerId, time::Timestamp};
    use certctl_repository::revocations::Standing;

    use super::{Answer, AnswerCache, CAPACITY};

    #[test]
    fn what_is_asked_for_stays_and_the_rest_goes() {
        let cache = AnswerCache::default();
        let issuer = IssuerId::from_stored("iss-a".to_owned());
        let answer = Answer {
            der: Vec::new().into(),
            standing: Standing::Good,
            version: 1,
            this_update: Timestamp::UNIX_EPOCH,
            next_update: Timestamp::UNIX_EPOCH,
        };
        cache.put(&issuer, b"asked", answer.clone());
        for number in 0..3 * CAPACITY {
            cache.put(&issuer, &number.to_be_bytes(), answer.clone());
            if number % 1000 == 0 {
                assert!(cache.get(&issuer, b"asked").is_some(), "{number}");
            }
        }
        assert!(cache.get(&issuer, &0_usize.to_be_bytes()).is_none());
        let all = cache.0.lock().unwrap();
        assert!(all.young.len() + all.old.len() <= CAPACITY);
    }
}
