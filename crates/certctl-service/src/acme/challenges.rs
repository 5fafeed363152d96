//! Authorisations and challenges as clients use them (RFC 8555 §7.5), and what a proof leads to.

use std::time::Duration;

use certctl_acme::{
    payload::{AuthorizationUpdate, ChallengeResponse},
    resource::{AuthorizationBody, ChallengeBody},
};
use certctl_domain::{
    access::Actor,
    acme::{
        AcmeAuthorizationId, AcmeChallengeId, AcmeOrderId, AuthorizationStatus, Challenge,
        ChallengeStatus, OrderStatus, Problem, ProblemType,
    },
    audit::EventCategory,
    time::Timestamp,
};
use certctl_repository::{
    Conn,
    acme::{
        authorizations::{self, Change, Kept},
        challenges::{self, InContext},
        failing_names, orders,
    },
};
use certctl_telemetry::metrics_names as names;
use serde_json::json;

use super::{
    Acme, ChallengeAnswer, Refusal, SignedRequest,
    accounts::unexpected,
    actor_of,
    desk::{Batch, Done, Work},
    dispatch::Taken,
    metrics,
    orders::LOOK_AGAIN,
    signed::{Opened, Signer, absent, foreign},
};
use crate::{Error, services::event};

/// What is to be done with a challenge or an authorisation.
pub(super) enum ChallengeWork {
    /// A challenge is taken up.
    Begin {
        id: AcmeChallengeId,
        actor: Actor,
        lease: Duration,
    },
    /// What was found is written down, with everything that follows.
    End {
        context: Box<InContext>,
        token: i64,
        found: Result<(), Problem>,
        until: Timestamp,
        pause_after: u32,
    },
    /// An authorisation is given up.
    Deactivate(Kept),
}

impl Acme {
    /// Shows an authorisation, or gives it up (RFC 8555 §7.5.2).
    ///
    /// # Errors
    /// Those of every signed request, `unauthorized` for another's, `malformed` with 404 where there is none.
    pub async fn authorization(
        &self,
        request: SignedRequest,
        id: &str,
    ) -> Result<AuthorizationBody, Refusal> {
        metrics::add(&names::ACME_AUTHZ_READ_TOTAL, 1);
        let opened = self.open(&request).await?;
        let shown = self.use_authorization(&opened, &request, id).await;
        self.settle(&opened, shown).await
    }

    async fn use_authorization(
        &self,
        opened: &Opened,
        request: &SignedRequest,
        id: &str,
    ) -> Result<AuthorizationBody, Refusal> {
        let signer = self.signer(opened, request).await?;
        let update = AuthorizationUpdate::parse(opened.jws.payload())?;
        let id = AcmeAuthorizationId::parse(id).ok_or_else(|| absent("authorization"))?;
        let kept = match update {
            AuthorizationUpdate::Read => {
                self.touch(opened, &signer).await?;
                self.own_authorization(&signer, &id).await?
            }
            AuthorizationUpdate::Deactivate => {
                let kept = self.own_authorization(&signer, &id).await?;
                let work = Work::Challenge(Box::new(ChallengeWork::Deactivate(kept)));
                self.submit(opened, Some(&signer), work).await?;
                self.own_authorization(&signer, &id).await?
            }
        };
        let mut conn = self.services.read().await?;
        let challenges = challenges::of_authorization(&mut conn, &id).await?;
        Ok(AuthorizationBody::new(
            &kept.authorization,
            &challenges,
            &request.urls,
        ))
    }

    async fn own_authorization(
        &self,
        signer: &Signer,
        id: &AcmeAuthorizationId,
    ) -> Result<Kept, Refusal> {
        let found = authorizations::find(&mut self.services.read().await?, id).await?;
        let kept = found.ok_or_else(|| absent("authorization"))?;
        if kept.account_id == *signer.id() {
            Ok(kept)
        } else {
            Err(foreign())
        }
    }

    /// Takes a challenge up, or shows it (RFC 8555 §7.5.1).
    ///
    /// # Errors
    /// Those of every signed request, `unauthorized` for another's, `malformed` with 404 where there is none and with 400 when its
    /// authorisation is not pending any more; `rateLimited`.
    pub async fn challenge(
        &self,
        request: SignedRequest,
        id: &str,
    ) -> Result<ChallengeAnswer, Refusal> {
        let result = match self.open(&request).await {
            Ok(opened) => {
                let done = self.respond(&opened, &request, id).await;
                self.settle(&opened, done).await
            }
            Err(refusal) => Err(refusal),
        };
        metrics::count(metrics::CHALLENGE_RESPOND, &result);
        result
    }

    async fn respond(
        &self,
        opened: &Opened,
        request: &SignedRequest,
        id: &str,
    ) -> Result<ChallengeAnswer, Refusal> {
        let signer = self.signer(opened, request).await?;
        let response = ChallengeResponse::parse(opened.jws.payload())?;
        let id = AcmeChallengeId::parse(id).ok_or_else(|| absent("challenge"))?;
        let context = self.own_challenge(&signer, &id).await?;
        let is_new = context.challenge.status == ChallengeStatus::Pending;
        if response == ChallengeResponse::Read || !is_new {
            self.touch(opened, &signer).await?;
            return Ok(shown(context.challenge, request));
        }
        let now = self.services.now();
        self.check_open(&context, now)?;
        let kind = context.challenge.challenge_type;
        let Some(place) = self.state.pools.reserve(kind) else {
            // As many wait as may; the client asks again, since it is still pending, and has used nothing up.
            self.touch(opened, &signer).await?;
            return Ok(ChallengeAnswer {
                retry_after: Some(LOOK_AGAIN),
                ..shown(context.challenge, request)
            });
        };
        let limits = &self.state.limits;
        limits.challenge_respond.take(id.as_str(), now).await?;
        let work = Work::Challenge(Box::new(ChallengeWork::Begin {
            id: id.clone(),
            actor: actor_of(signer.id()),
            lease: self.lease(),
        }));
        let token = match self.submit(opened, Some(&signer), work).await? {
            Done::Taken(token) => token,
            other => return Err(unexpected(&other)),
        };
        if let Some(token) = token {
            let account = request.urls.account(signer.id());
            let within = self.state.config.challenge_timeout;
            place.send(Taken::new(id, token, Some(account), within));
        }
        let challenge = Challenge {
            status: ChallengeStatus::Processing,
            ..context.challenge
        };
        Ok(shown(challenge, request))
    }

    async fn own_challenge(
        &self,
        signer: &Signer,
        id: &AcmeChallengeId,
    ) -> Result<InContext, Refusal> {
        let found = challenges::find(&mut self.services.read().await?, id).await?;
        let context = found.ok_or_else(|| absent("challenge"))?;
        if context.order.account_id == *signer.id() {
            Ok(context)
        } else {
            Err(foreign())
        }
    }

    fn check_open(&self, context: &InContext, now: Timestamp) -> Result<(), Refusal> {
        let authorization = &context.authorization.authorization;
        if authorization.status == AuthorizationStatus::Pending && authorization.expires_at > now {
            return Ok(());
        }
        let detail = "the authorization is not pending any more";
        Err(Problem::new(ProblemType::Malformed, detail).into())
    }

    /// How long a replica may look at a challenge without a sign of life (acme-server §6).
    pub(super) fn lease(&self) -> Duration {
        self.state.config.challenge_timeout * 2
    }
}

fn shown(challenge: Challenge, request: &SignedRequest) -> ChallengeAnswer {
    ChallengeAnswer {
        challenge: ChallengeBody::new(&challenge, &request.urls),
        retry_after: (challenge.status == ChallengeStatus::Processing).then_some(LOOK_AGAIN),
        authorization: challenge.authorization_id,
    }
}

impl ChallengeWork {
    /// The order that is changed with it.
    pub(super) fn order(&self) -> Option<&AcmeOrderId> {
        match self {
            Self::Begin { .. } => None,
            Self::End { context, .. } => Some(&context.order.id),
            Self::Deactivate(kept) => Some(&kept.authorization.order_id),
        }
    }

    pub(super) async fn carry_out(
        &self,
        conn: &mut Conn,
        batch: &mut Batch<'_>,
    ) -> Result<Result<Done, Refusal>, Error> {
        match self {
            Self::Begin { id, actor, lease } => {
                let token = challenges::begin(conn, id, *lease, batch.now).await?;
                if token.is_some() {
                    note(batch, actor, "acme_challenge_processing", id, &json!({}));
                }
                Ok(Ok(Done::Taken(token)))
            }
            Self::End {
                context,
                token,
                found,
                until,
                pause_after,
            } => {
                let id = &context.challenge.id;
                let found = found.as_ref().copied();
                if !challenges::end(conn, id, *token, found, batch.now).await? {
                    return Ok(Ok(Done::Taken(None)));
                }
                let details = json!({"type": context.challenge.challenge_type.as_str(),
                    "identifier": context.authorization.authorization.identifier.to_string(),
                    "status": if found.is_ok() { "valid" } else { "invalid" },
                    "problem": found.err().map(|problem| problem.kind.as_str())});
                let actor = actor_of(&context.order.account_id);
                note(batch, &actor, "acme_challenge_completed", id, &details);
                match found {
                    Ok(()) => proved(conn, context, *until, batch.now).await?,
                    Err(_) => failed(conn, context, *pause_after, batch.now).await?,
                }
                Ok(Ok(Done::Taken(Some(*token))))
            }
            Self::Deactivate(kept) => {
                give_up(conn, kept, batch.now).await?;
                Ok(Ok(Done::Touched))
            }
        }
    }
}

/// A proof makes the authorisation valid, and the order ready when it was the last one. The order is locked.
async fn proved(
    conn: &mut Conn,
    context: &InContext,
    until: Timestamp,
    now: Timestamp,
) -> Result<(), Error> {
    let authorization = &context.authorization.authorization;
    let change = Change {
        from: AuthorizationStatus::Pending,
        to: AuthorizationStatus::Valid,
        proof: Some((context.challenge.challenge_type, until)),
        now,
    };
    // Another challenge may have proved it, or failed it, before this one.
    if authorizations::change(conn, &authorization.id, change).await? {
        orders::make_ready(conn, &context.order.id, now).await?;
        let account = &context.order.account_id;
        failing_names::forget(conn, account, &authorization.identifier).await?;
    }
    Ok(())
}

/// A proof that failed ends authorisation and order (RFC 8555 §7.1.6); a name that keeps failing is paused.
async fn failed(
    conn: &mut Conn,
    context: &InContext,
    pause_after: u32,
    now: Timestamp,
) -> Result<(), Error> {
    let authorization = &context.authorization.authorization;
    let change = Change {
        from: AuthorizationStatus::Pending,
        to: AuthorizationStatus::Invalid,
        proof: None,
        now,
    };
    if !authorizations::change(conn, &authorization.id, change).await? {
        return Ok(());
    }
    let problem = Problem::new(
        ProblemType::IncorrectResponse,
        "one or more authorizations failed",
    );
    orders::invalidate(conn, std::slice::from_ref(&context.order.id), &problem, now).await?;
    if pause_after > 0 {
        let account = &context.order.account_id;
        failing_names::count(conn, account, &authorization.identifier, pause_after, now).await?;
    }
    Ok(())
}

/// RFC 8555 §7.5.2. What was taken over from the same proof goes with it, and with them the orders that count on them.
async fn give_up(conn: &mut Conn, kept: &Kept, now: Timestamp) -> Result<(), Error> {
    let concerned = authorizations::deactivate(conn, kept, now).await?;
    let locked = orders::lock_many(conn, &concerned).await?;
    let open: Vec<AcmeOrderId> = locked
        .into_iter()
        .filter(|order| matches!(order.status, OrderStatus::Pending | OrderStatus::Ready))
        .map(|order| order.id)
        .collect();
    if open.is_empty() {
        return Ok(());
    }
    let problem = Problem::new(ProblemType::Unauthorized, "an authorization was given up");
    orders::invalidate(conn, &open, &problem, now).await?;
    Ok(())
}

fn note(
    batch: &mut Batch<'_>,
    actor: &Actor,
    action: &str,
    id: &AcmeChallengeId,
    details: &serde_json::Value,
) {
    batch.events.push(event(
        actor,
        EventCategory::CertLifecycle,
        action,
        ("acme_challenge", id.as_str()),
        details.clone(),
        batch.now,
    ));
}
