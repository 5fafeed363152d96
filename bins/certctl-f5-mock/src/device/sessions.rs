//! Tokens: one for each login, until its time is over.

use std::{collections::BTreeMap, time::Duration};

use certctl_domain::{secret::Secret, time::Timestamp};
use ring::rand::{SecureRandom as _, SystemRandom};

use crate::reply::Refusal;

/// How long a token is good for.
pub(crate) const TOKEN_LIFE: Duration = Duration::from_secs(1200);

/// How many tokens a user may have, as on the real device.
const MOST_TOKENS: usize = 100;

#[derive(Default)]
pub(crate) struct Sessions {
    /// When each token ends.
    tokens: BTreeMap<String, Timestamp>,
}

impl Sessions {
    /// A new token.
    pub(crate) fn open(&mut self, now: Timestamp) -> Result<Secret, Refusal> {
        self.tokens.retain(|_, end| *end > now);
        if self.tokens.len() >= MOST_TOKENS {
            return Err(Refusal::bad(
                "maximum active login tokens reached for the user",
            ));
        }
        let mut bytes = [0; 16];
        SystemRandom::new().fill(&mut bytes).map_err(|_| {
            Refusal::new(
                hyper::StatusCode::SERVICE_UNAVAILABLE,
                "there are no random bytes",
            )
        })?;
        let token = hex::encode_upper(bytes);
        self.tokens.insert(token.clone(), now + TOKEN_LIFE);
        Ok(Secret::new(token))
    }

    /// Whether a token is good now.
    pub(crate) fn check(&mut self, token: Option<&str>, now: Timestamp) -> Result<(), Refusal> {
        let token = token.ok_or_else(|| {
            Refusal::unauthorised(
                "Authorization failed: no user authentication header or token detected.",
            )
        })?;
        match self.tokens.get(token) {
            Some(end) if *end > now => Ok(()),
            Some(_) => {
                self.tokens.remove(token);
                Err(Refusal::unauthorised("X-F5-Auth-Token has expired."))
            }
            None => Err(Refusal::unauthorised("X-F5-Auth-Token does not exist.")),
        }
    }

    /// Ends a token early.
    pub(crate) fn close(&mut self, token: &str) -> bool {
        self.tokens.remove(token).is_some()
    }

    /// Ends all of them, as a restart of the device does.
    pub(crate) fn forget(&mut self) {
        self.tokens.clear();
    }

    pub(crate) fn count(&self) -> usize {
        self.tokens.len()
    }
}
