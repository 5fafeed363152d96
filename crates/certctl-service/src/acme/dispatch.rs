//! Who looks whether proofs are there: three pools of their own, so that slow name servers keep nobody from looking at files.
//!
//! A challenge that is taken up has a lease in its row. Whoever took it up looks, tries again, and writes down what was found, with
//! the token of the lease; what nobody has written down when the lease runs out is taken up by whichever replica sweeps next.

use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use certctl_acme::{
    key_authorization::key_authorization,
    urls::{Family, Urls},
};
use certctl_domain::{
    acme::{AcmeChallengeId, ChallengeType, Identifier, Problem, ProblemType},
    ports::challenge::{CaaRequest, ProofRequest},
};
use certctl_repository::{
    acme::challenges::{self, InContext},
    transaction,
};
use certctl_telemetry::ErrorChain;
use tokio::{
    sync::{Semaphore, mpsc},
    task::JoinSet,
    time::{Instant, timeout_at},
};
use tokio_util::sync::CancellationToken;

use super::{
    Acme, AcmeConfig,
    challenges::ChallengeWork,
    desk::{Done, Work},
    metrics,
};
use crate::Error;

/// Challenges that are taken over from replicas that died, in one step.
const RECOVERED: i64 = 500;

/// A challenge that this replica has taken up.
pub(super) struct Taken {
    id: AcmeChallengeId,
    token: i64,
    /// The account's URL, where the request that took it up is known.
    account_uri: Option<String>,
    since: Instant,
    deadline: Instant,
}

impl Taken {
    pub(super) fn new(
        id: AcmeChallengeId,
        token: i64,
        account_uri: Option<String>,
        within: Duration,
    ) -> Self {
        let since = Instant::now();
        Self {
            id,
            token,
            account_uri,
            since,
            deadline: since + within,
        }
    }
}

pub(super) struct Pools([Pool; 3]);

struct Pool {
    kind: ChallengeType,
    queue: mpsc::Sender<Taken>,
    /// Taken by whoever runs the pool.
    waiting: Mutex<Option<mpsc::Receiver<Taken>>>,
    permits: Arc<Semaphore>,
    inflight: Arc<Inflight>,
}

#[derive(Default)]
struct Inflight {
    now: AtomicUsize,
    peak: AtomicUsize,
}

/// A place in a queue.
pub(super) struct Place(mpsc::OwnedPermit<Taken>);

impl Place {
    pub(super) fn send(self, taken: Taken) {
        self.0.send(taken);
    }
}

impl Pools {
    pub(super) fn new(config: &AcmeConfig) -> Self {
        let pool = |kind, concurrency: usize| {
            let (queue, waiting) = mpsc::channel(config.challenge_queue.max(1));
            Pool {
                kind,
                queue,
                waiting: Mutex::new(Some(waiting)),
                permits: Arc::new(Semaphore::new(concurrency.max(1))),
                inflight: Arc::default(),
            }
        };
        Self([
            pool(ChallengeType::Http01, config.http01_concurrency),
            pool(ChallengeType::Dns01, config.dns01_concurrency),
            pool(ChallengeType::TlsAlpn01, config.tlsalpn01_concurrency),
        ])
    }

    fn of(&self, kind: ChallengeType) -> &Pool {
        let place = match kind {
            ChallengeType::Http01 => 0,
            ChallengeType::Dns01 => 1,
            ChallengeType::TlsAlpn01 => 2,
        };
        &self.0[place]
    }

    /// A place in the queue of a type; none when it is full.
    pub(super) fn reserve(&self, kind: ChallengeType) -> Option<Place> {
        let queue = self.of(kind).queue.clone();
        queue.try_reserve_owned().ok().map(Place)
    }
}

impl Inflight {
    fn enter(&self, kind: ChallengeType) {
        let now = self.now.fetch_add(1, Ordering::Relaxed) + 1;
        let peak = self.peak.fetch_max(now, Ordering::Relaxed).max(now);
        metrics::show_inflight(kind, now, peak);
    }

    fn leave(&self, kind: ChallengeType) {
        let now = self.now.fetch_sub(1, Ordering::Relaxed).saturating_sub(1);
        metrics::show_inflight(kind, now, self.peak.load(Ordering::Relaxed));
    }
}

impl Acme {
    /// Looks at challenges until it is stopped; then what is looked at ends, and what waits is given back. Called once.
    pub async fn run_challenges(&self, stop: &CancellationToken) {
        let [http, dns, tls] = &self.state.pools.0;
        tokio::join!(
            self.run_pool(http, stop),
            self.run_pool(dns, stop),
            self.run_pool(tls, stop)
        );
    }

    async fn run_pool(&self, pool: &Pool, stop: &CancellationToken) {
        let waiting = pool
            .waiting
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        let Some(mut waiting) = waiting else {
            tracing::error!(pool = %pool.kind, "a pool of challenges is run twice");
            return;
        };
        let mut looking = JoinSet::new();
        loop {
            // The permit first, so that at the end nothing is held that nobody looks at.
            let next = async {
                let permit = Arc::clone(&pool.permits).acquire_owned().await.ok()?;
                Some((permit, waiting.recv().await?))
            };
            let Some(Some((permit, taken))) = stop.run_until_cancelled(next).await else {
                break;
            };
            let (acme, kind, inflight) = (self.clone(), pool.kind, Arc::clone(&pool.inflight));
            looking.spawn(async move {
                inflight.enter(kind);
                acme.look_at(taken).await;
                inflight.leave(kind);
                drop(permit);
            });
            while looking.try_join_next().is_some() {}
        }
        waiting.close();
        let mut left = Vec::new();
        // Those whose places are reserved come yet, as soon as they are written down.
        while let Some(taken) = waiting.recv().await {
            left.push((taken.id, taken.token));
        }
        self.give_back(&left).await;
        while looking.join_next().await.is_some() {}
    }

    async fn give_back(&self, held: &[(AcmeChallengeId, i64)]) {
        if held.is_empty() {
            return;
        }
        let now = self.services.now();
        let released: Result<usize, Error> = transaction!(self.services.db, "give challenges back", conn => {
            Ok::<_, Error>(challenges::release(conn, held, now).await?)
        });
        if let Err(error) = released {
            tracing::warn!(error = %ErrorChain(&error), "challenges could not be given back; their leases will run out");
        }
    }

    /// Takes up challenges whose replica died (acme-server §6); to be called at the start and by the sweep. Says how many.
    ///
    /// # Errors
    /// [`Error::Unavailable`].
    pub async fn recover_challenges(&self) -> Result<usize, Error> {
        let (lease, now) = (self.lease(), self.services.now());
        let taken = transaction!(self.services.db, "take challenges over", conn => {
            let taken = challenges::take_over(conn, lease, RECOVERED, now).await?;
            let ids: Vec<AcmeChallengeId> = taken.into_iter().map(|(id, _)| id).collect();
            if ids.is_empty() {
                return Ok(Vec::new());
            }
            Ok::<_, Error>(challenges::find_many(conn, &ids).await?)
        })?;
        let count = taken.len();
        let mut left = Vec::new();
        for one in taken {
            match self.state.pools.reserve(one.challenge.challenge_type) {
                Some(place) => {
                    let within = self.state.config.challenge_timeout;
                    let uri = self.configured_uri(&one);
                    place.send(Taken::new(one.challenge.id, one.token, uri, within));
                }
                None => left.push((one.challenge.id, one.token)),
            }
        }
        self.give_back(&left).await;
        if count > 0 {
            tracing::info!(
                challenges = count,
                "challenges that nobody looked at were taken up"
            );
        }
        Ok(count - left.len())
    }

    /// Looks at one challenge and writes down what was found.
    async fn look_at(&self, taken: Taken) {
        let ended = self.try_to_end(&taken).await;
        if let Err(problem) = ended {
            tracing::error!(challenge.id = %taken.id, problem, "what was found of a challenge could not be written down; its lease will run out");
        }
    }

    async fn try_to_end(&self, taken: &Taken) -> Result<(), String> {
        let context = self
            .context(taken)
            .await
            .map_err(|error| ErrorChain(&error).to_string())?;
        let Some(context) = context else {
            return Ok(());
        };
        let kind = context.challenge.challenge_type;
        let is_late = taken.deadline <= Instant::now();
        let found = if is_late {
            Err(no_time())
        } else {
            self.look(&context, taken).await
        };
        if let Err(problem) = &found {
            tracing::info!(challenge.id = %taken.id, problem = problem.kind.as_str(), detail = %problem.detail, "a challenge was not proved");
        }
        metrics::observe_challenge(kind, taken.since.elapsed(), found.is_ok());
        let until = self.services.now() + self.state.config.authz_ttl;
        let work = Work::Challenge(Box::new(ChallengeWork::End {
            token: taken.token,
            found,
            until,
            // That the server had no time is no fault of whoever has the name.
            pause_after: if is_late {
                0
            } else {
                self.state.config.pause_after
            },
            context: Box::new(context),
        }));
        match self.submit_own(work).await {
            Ok(Done::Taken(None)) => {
                tracing::warn!(challenge.id = %taken.id, "a challenge was taken up by another replica meanwhile");
                Ok(())
            }
            Ok(_) => Ok(()),
            Err(refusal) => Err(refusal.problem.detail),
        }
    }

    async fn context(&self, taken: &Taken) -> Result<Option<InContext>, Error> {
        let mut conn = self.services.read().await?;
        Ok(challenges::find(&mut conn, &taken.id).await?)
    }

    /// Tries until the proof is there, the tries are used up, or the time is over.
    async fn look(&self, context: &InContext, taken: &Taken) -> Result<(), Problem> {
        let mut last = no_time();
        let tries = async {
            for wait in &self.state.config.challenge_tries {
                tokio::time::sleep(*wait).await;
                match self.look_once(context, taken).await {
                    Ok(()) => return Ok(()),
                    Err(problem) => last = problem,
                }
            }
            Err(())
        };
        match timeout_at(taken.deadline, tries).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(())) | Err(_) => Err(last),
        }
    }

    async fn look_once(&self, context: &InContext, taken: &Taken) -> Result<(), Problem> {
        let Some(validator) = &self.state.ports.validator else {
            tracing::error!("challenges cannot be looked at: there is no validator");
            return Err(Problem::new(
                ProblemType::ServerInternal,
                "the server cannot look",
            ));
        };
        let (challenge, kept) = (&context.challenge, &context.authorization);
        let identifier = &kept.authorization.identifier;
        let request = ProofRequest {
            challenge_type: challenge.challenge_type,
            identifier: identifier.clone(),
            token: challenge.token.clone(),
            key_authorization: key_authorization(&challenge.token, &context.thumbprint),
        };
        validator.prove(&request).await?;
        let (Some(caa), Identifier::Dns(name)) = (&self.state.ports.caa, identifier) else {
            return Ok(());
        };
        caa.check(&CaaRequest {
            name: name.clone(),
            wildcard: kept.authorization.wildcard,
            account_uri: taken.account_uri.clone().unwrap_or_default(),
            method: challenge.challenge_type,
        })
        .await
    }

    /// The URL of the account (RFC 8657 §3) where no request says which host the client uses: under the configured origin. Without
    /// one, a CAA record that names accounts allows none of them.
    fn configured_uri(&self, context: &InContext) -> Option<String> {
        let origin = self.state.config.base_url.as_deref()?;
        let profile = context.order.profile_id.clone();
        Some(Urls::new(origin, Family::Profile(profile)).account(&context.order.account_id))
    }
}

/// What is found where nobody looked.
fn no_time() -> Problem {
    Problem::new(ProblemType::Connection, "there was no time to look")
}
