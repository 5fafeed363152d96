//! The device: one user, what is configured, and what is under way.

pub(crate) mod faults;
pub(crate) mod objects;
pub(crate) mod sessions;
pub(crate) mod transactions;
pub(crate) mod uploads;

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock},
};

use certctl_domain::{secret::Secret, time::Clock};
use rustls::sign::CertifiedKey;
use serde_json::{Value, json};

use self::{
    faults::{Effect, Fault, Faults},
    objects::{Config, FullPath, Kind},
    sessions::Sessions,
    transactions::Transactions,
    uploads::Uploads,
};
use crate::{
    PairPem,
    error::Error,
    reply::{Answer, Call, Refusal},
    tls,
};

/// How many calls are remembered.
const REMEMBERED: usize = 4096;

/// The device behind the sockets.
pub struct Device {
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) user: String,
    pub(crate) password: Secret,
    profile: FullPath,
    held: Mutex<Held>,
    served: RwLock<Arc<CertifiedKey>>,
}

/// What changes.
pub(crate) struct Held {
    pub(crate) config: Config,
    pub(crate) sessions: Sessions,
    pub(crate) uploads: Uploads,
    pub(crate) transactions: Transactions,
    faults: Faults,
    calls: VecDeque<String>,
}

impl Device {
    pub(crate) fn new(
        clock: Arc<dyn Clock>,
        (user, password): (String, Secret),
        profile: &FullPath,
        pair: &PairPem,
    ) -> Result<Self, Error> {
        let served = tls::certified(&pair.certificates, &pair.key)?;
        let device = Self {
            clock,
            user,
            password,
            profile: profile.clone(),
            held: Mutex::new(Held {
                config: Config::default(),
                sessions: Sessions::default(),
                uploads: Uploads::default(),
                transactions: Transactions::default(),
                faults: Faults::default(),
                calls: VecDeque::new(),
            }),
            served: RwLock::new(served),
        };
        device
            .seed(profile, "default", pair)
            .map_err(|_| Error::Empty)?;
        Ok(device)
    }

    /// Installs a pair as `<name>.crt` and `<name>.key` beside a profile, and has the profile use it.
    pub(crate) fn seed(&self, profile: &FullPath, name: &str, pair: &PairPem) -> Answer {
        let (cert, key) = (
            FullPath::new("Common", format!("{name}.crt")),
            FullPath::new("Common", format!("{name}.key")),
        );
        self.change(|held| {
            let mut draft = held.config.clone();
            draft.install(Kind::Certificate, &cert, &pair.certificates)?;
            draft.install(Kind::Key, &key, pair.key.expose())?;
            let shown = draft.put_profile(profile.clone(), cert, key, None)?;
            held.config = draft;
            Ok(shown)
        })
    }

    /// Looks at what is held, or changes what is not served.
    pub(crate) fn held(&self) -> MutexGuard<'_, Held> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes the configuration; a change that succeeds is served before this returns.
    pub(crate) fn change<T>(
        &self,
        change: impl FnOnce(&mut Held) -> Result<T, Refusal>,
    ) -> Result<T, Refusal> {
        let mut held = self.held();
        let done = change(&mut held)?;
        // Still under the lock, so that two changes are served in their order.
        if let Ok(certified) = held.config.served(&self.profile) {
            *self.served.write().unwrap_or_else(PoisonError::into_inner) = certified;
        }
        Ok(done)
    }

    /// What the virtual server presents now.
    pub(crate) fn served(&self) -> Arc<CertifiedKey> {
        Arc::clone(&self.served.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Notes a call, and says what is to go wrong with it.
    pub(crate) fn effect_on(&self, call: &Call) -> Option<Effect> {
        let line = format!("{} {}", call.method, call.path);
        if !call.path.starts_with("/mgmt/") {
            return None;
        }
        let mut held = self.held();
        if held.calls.len() >= REMEMBERED {
            held.calls.pop_front();
        }
        let effect = held.faults.on(&line);
        held.calls.push_back(line);
        effect
    }

    /// Has something go wrong with a call to come.
    pub fn inject(&self, fault: Fault) {
        self.held().faults.add(fault);
    }

    /// Changes a profile as an operator at the device would; whether the device allows it.
    pub fn patch(&self, profile: &FullPath, changes: &Value) -> bool {
        let patched = self.change(|held| {
            let mut draft = held.config.clone();
            draft.patch_profile(profile, changes)?;
            held.config = draft;
            Ok(())
        });
        patched.is_ok()
    }

    /// Ends every token, as a restart does.
    pub fn end_sessions(&self) {
        self.held().sessions.forget();
    }

    /// How many tokens are good or have ended unnoticed.
    #[must_use]
    pub fn sessions(&self) -> usize {
        self.held().sessions.count()
    }

    /// The last calls, oldest first, as `METHOD path`.
    #[must_use]
    pub fn calls(&self) -> Vec<String> {
        self.held().calls.iter().cloned().collect()
    }

    /// Everything that is configured, without keys: names of certificates and keys, profiles, files that were uploaded.
    #[must_use]
    pub fn dump(&self) -> Value {
        let held = self.held();
        let mut dump = held.config.dump();
        dump["uploads"] = held.uploads.names();
        dump["tokens"] = json!(held.sessions.count());
        dump
    }
}
