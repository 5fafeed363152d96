//! Orders: made (RFC 8555 §7.4), many of them together.

use std::collections::{BTreeSet, HashMap, HashSet};

use certctl_acme::{ari::CertId, base64url, payload::NewOrder, resource::OrderBody};
use certctl_domain::{
    acme::{
        AcmeAccountId, AcmeAuthorizationId, AcmeChallengeId, AcmeOrderId, Authorization,
        AuthorizationStatus, Challenge, ChallengeStatus, ChallengeType, Identifier, Order,
        OrderStatus, Problem, ProblemType, SUFFIX_BYTES, Subproblem,
    },
    audit::EventCategory,
    profile::AcmeAuthMode,
    time::Timestamp,
};
use certctl_repository::{
    Conn,
    acme::{
        authorizations::{self, Kept},
        challenges, failing_names, issuing, orders,
    },
};
use certctl_telemetry::metrics_names as names;
use ring::rand::{SecureRandom as _, SystemRandom};
use serde_json::json;

use super::{
    Acme, OrderAnswer, Refusal, SignedRequest,
    accounts::unexpected,
    actor_of,
    desk::{Batch, Done, Work},
    limits::limited,
    metrics,
    signed::{Opened, Signer},
    view::{ProfileView, not_set_up},
};
use crate::{Error, services::event};

/// Octets of a challenge's token; RFC 8555 §8.1 asks for 16.
const TOKEN: usize = 32;

/// An order as it is to be made, if nothing is in its way.
pub(super) struct Draft {
    order: Order,
    authorizations: Vec<Kept>,
    challenges: Vec<Challenge>,
    /// Orders the account may have open; 0 for no limit.
    concurrent: u32,
}

impl Acme {
    /// Makes an order (RFC 8555 §7.4).
    ///
    /// # Errors
    /// Those of every signed request, `rejectedIdentifier`, `unsupportedIdentifier` and `compound` with subproblems,
    /// `invalidProfile`, `alreadyReplaced`, `rateLimited`, `malformed`, `serverInternal` where the server is not set up to issue.
    pub async fn new_order(&self, request: SignedRequest) -> Result<OrderAnswer, Refusal> {
        let result = match self.open(&request).await {
            Ok(opened) => {
                let made = self.make_order(&opened, &request).await;
                self.settle(&opened, made).await
            }
            Err(refusal) => Err(refusal),
        };
        metrics::count(metrics::NEW_ORDER, &result);
        if let Err(refusal) = &result
            && !refusal.problem.subproblems.is_empty()
        {
            metrics::add(&names::ACME_NEW_ORDER_REJECTED_TOTAL, 1);
        }
        result
    }

    async fn make_order(
        &self,
        opened: &Opened,
        request: &SignedRequest,
    ) -> Result<OrderAnswer, Refusal> {
        let signer = self.signer(opened, request).await?;
        let asked = NewOrder::parse(opened.jws.payload())?;
        let view = self.view().await?;
        let profile = match &asked.profile {
            None => view.profile(&request.profile),
            Some(name) => self
                .offered(request.urls.family(), &request.profile)
                .find(|id| id.as_str() == name)
                .and_then(|id| view.profile(id)),
        };
        let profile = profile.ok_or_else(|| match &asked.profile {
            Some(_) => {
                let detail = "the profile is none of those in the directory";
                Problem::new(ProblemType::InvalidProfile, detail).into()
            }
            None => super::signed::absent("profile"),
        })?;
        if view.defaults.is_none() {
            tracing::error!(
                "owner, team or renewal policy of ACME certificates is not set or does not exist"
            );
            return Err(not_set_up());
        }
        let now = self.services.now();
        profile.admit(&asked.identifiers)?;
        check_times(&asked, profile, now)?;
        if let Some(replaced) = &asked.replaces {
            self.check_replaced(replaced, profile, &signer, &asked.identifiers)
                .await?;
        } else {
            let limits = &self.state.limits;
            limits.new_order.take(signer.id().as_str(), now).await?;
        }
        let draft = self.draft(&signer, asked, profile, now)?;
        let work = Work::Order(Box::new(draft));
        match self.submit(opened, Some(&signer), work).await? {
            Done::Order(order, authorizations) => {
                self.state.recent.keep_order(&order, &authorizations);
                Ok(OrderAnswer {
                    id: order.id.clone(),
                    order: OrderBody::new(&order, &authorizations, &request.urls),
                    retry_after: None,
                })
            }
            other => Err(unexpected(&other)),
        }
    }

    /// RFC 9773 §5: what is replaced is the account's own, and is for one of the same names.
    async fn check_replaced(
        &self,
        id: &CertId,
        profile: &ProfileView,
        signer: &Signer,
        identifiers: &[Identifier],
    ) -> Result<(), Refusal> {
        let refused = || {
            let detail = "replaces does not name a certificate of this account";
            Refusal::from(Problem::new(ProblemType::Malformed, detail))
        };
        let found = self.issued(id, profile).await?.ok_or_else(refused)?;
        let (order, account) = found.ordered.ok_or_else(refused)?;
        if account != *signer.id() {
            return Err(refused());
        }
        let order = orders::find(&mut self.services.read().await?, &order).await?;
        let order = order.ok_or_else(refused)?;
        if order
            .identifiers
            .iter()
            .any(|one| identifiers.contains(one))
        {
            return Ok(());
        }
        let detail = "the certificate to be replaced has none of these names";
        Err(Problem::new(ProblemType::Malformed, detail).into())
    }

    /// The version that a certificate identifier names, of those that the profile's issuer signed.
    pub(super) async fn issued(
        &self,
        id: &CertId,
        profile: &ProfileView,
    ) -> Result<Option<issuing::IssuedVersion>, Refusal> {
        let issuer = profile.issuer()?;
        let mut conn = self.services.read().await?;
        let found = issuing::by_serial(&mut conn, issuer, id.serial()).await?;
        Ok(found.filter(|version| super::certificates::is_of(version, id)))
    }

    fn draft(
        &self,
        signer: &Signer,
        asked: NewOrder,
        profile: &ProfileView,
        now: Timestamp,
    ) -> Result<Draft, Refusal> {
        let config = &self.state.config;
        let mode = profile.profile.acme_auth_mode;
        let trusted = mode == AcmeAuthMode::TrustAuthenticated;
        let order = Order {
            id: AcmeOrderId::from_random(random()?),
            account_id: signer.id().clone(),
            profile_id: profile.profile.id.clone(),
            issuer_id: profile.issuer()?.clone(),
            auth_mode: mode,
            identifiers: asked.identifiers,
            status: if trusted {
                OrderStatus::Ready
            } else {
                OrderStatus::Pending
            },
            expires_at: now + config.order_ttl,
            not_before: asked.not_before,
            not_after: asked.not_after,
            error: None,
            csr_pem: None,
            certificate_id: None,
            job_id: None,
            replaces: asked.replaces.map(|id| id.to_string()),
            created_at: now,
            updated_at: now,
        };
        let mut authorizations = Vec::with_capacity(order.identifiers.len());
        let mut challenges = Vec::new();
        for identifier in &order.identifiers {
            let authorization = Authorization {
                id: AcmeAuthorizationId::from_random(random()?),
                order_id: order.id.clone(),
                identifier: identifier.without_wildcard(),
                wildcard: identifier.is_wildcard(),
                status: if trusted {
                    AuthorizationStatus::Valid
                } else {
                    AuthorizationStatus::Pending
                },
                // Its order ends it at the latest.
                expires_at: now + config.authz_ttl.min(config.order_ttl),
                created_at: now,
                updated_at: now,
            };
            for kind in offered(identifier, trusted) {
                challenges.push(challenge(&authorization, kind, trusted, now)?);
            }
            authorizations.push(Kept {
                authorization,
                account_id: signer.id().clone(),
                proof: None,
            });
        }
        Ok(Draft {
            order,
            authorizations,
            challenges,
            concurrent: config.concurrent_orders,
        })
    }
}

/// Where the account is trusted there is nothing to prove, and one challenge to show (acme-server §2).
fn offered(identifier: &Identifier, trusted: bool) -> impl Iterator<Item = ChallengeType> {
    let can = move |kind: &ChallengeType| kind.can_prove(identifier);
    let count = if trusted { 1 } else { 3 };
    [
        ChallengeType::Http01,
        ChallengeType::Dns01,
        ChallengeType::TlsAlpn01,
    ]
    .into_iter()
    .filter(can)
    .take(count)
}

fn challenge(
    authorization: &Authorization,
    kind: ChallengeType,
    trusted: bool,
    now: Timestamp,
) -> Result<Challenge, Error> {
    let token: [u8; TOKEN] = random()?;
    Ok(Challenge {
        id: AcmeChallengeId::from_random(random()?),
        authorization_id: authorization.id.clone(),
        challenge_type: kind,
        status: if trusted {
            ChallengeStatus::Valid
        } else {
            ChallengeStatus::Pending
        },
        token: base64url::encode(token),
        validated_at: trusted.then_some(now),
        error: None,
        created_at: now,
    })
}

pub(super) fn random<const N: usize>() -> Result<[u8; N], Error> {
    const { assert!(N >= SUFFIX_BYTES, "fewer could be guessed") };
    let mut bytes = [0; N];
    SystemRandom::new()
        .fill(&mut bytes)
        .map_err(|_| Error::internal("the machine has no randomness"))?;
    Ok(bytes)
}

/// What the client asks of the dates, as far as it can be decided now (acme-server §6).
fn check_times(asked: &NewOrder, profile: &ProfileView, now: Timestamp) -> Result<(), Problem> {
    let Some(end) = asked.not_after else {
        return Ok(());
    };
    let longest = profile.profile.max_ttl_seconds;
    let too_late = longest > 0 && end > now + std::time::Duration::from_secs(u64::from(longest));
    if end <= now || too_late {
        let detail = "notAfter is in the past, or later than the profile allows";
        return Err(Problem::new(ProblemType::Malformed, detail));
    }
    Ok(())
}

/// What has to be known of a batch of orders before the first of them is made.
struct Standing {
    open: HashMap<AcmeAccountId, i64>,
    paused: HashSet<(AcmeAccountId, Identifier)>,
    replaced: HashSet<String>,
    proved: Vec<Kept>,
}

/// Makes the orders of a batch: one statement for each kind of row.
pub(super) async fn enter(conn: &mut Conn, batch: &mut Batch<'_>) -> Result<(), Error> {
    let drafts: Vec<(usize, &Draft)> = batch.open(|work| match work {
        Work::Order(draft) => Some(&**draft),
        _ => None,
    });
    if drafts.is_empty() {
        return Ok(());
    }
    let mut standing = Standing::of(conn, &drafts, batch.now).await?;
    let (mut new_orders, mut new_authorizations, mut new_challenges) =
        (Vec::new(), Vec::new(), Vec::new());
    for (place, draft) in drafts {
        if let Err(refusal) = standing.admit(draft) {
            batch.answers[place] = Some(Err(refusal));
            continue;
        }
        let (order, authorizations, challenges) = standing.reuse(draft);
        let ids = authorizations
            .iter()
            .map(|kept| kept.authorization.id.clone());
        let done = Done::Order(Box::new(order.clone()), ids.collect());
        batch.answers[place] = Some(Ok(done));
        batch.events.push(created(&order, batch.now));
        new_orders.push(order);
        new_authorizations.extend(authorizations);
        new_challenges.extend(challenges);
    }
    orders::insert_all(conn, &new_orders).await?;
    authorizations::insert_all(conn, &new_authorizations).await?;
    challenges::insert_all(conn, &new_challenges).await?;
    Ok(())
}

fn created(order: &Order, now: Timestamp) -> certctl_domain::audit::AuditEvent {
    let identifiers: Vec<String> = order.identifiers.iter().map(ToString::to_string).collect();
    let details = json!({"account_id": order.account_id.as_str(), "profile_id": order.profile_id.as_str(),
        "auth_mode": order.auth_mode.as_str(), "identifiers": identifiers, "replaces": order.replaces});
    event(
        &actor_of(&order.account_id),
        EventCategory::CertLifecycle,
        "acme_order_created",
        ("acme_order", order.id.as_str()),
        details,
        now,
    )
}

impl Standing {
    async fn of(
        conn: &mut Conn,
        drafts: &[(usize, &Draft)],
        now: Timestamp,
    ) -> Result<Self, Error> {
        let accounts: BTreeSet<&AcmeAccountId> = drafts
            .iter()
            .map(|(_, one)| &one.order.account_id)
            .collect();
        let accounts: Vec<AcmeAccountId> = accounts.into_iter().cloned().collect();
        // Where accounts are trusted nothing is proved, and so nothing fails.
        let names: BTreeSet<String> = drafts
            .iter()
            .filter(|(_, one)| one.order.auth_mode == AcmeAuthMode::Challenge)
            .flat_map(|(_, one)| &one.authorizations)
            .map(|kept| kept.authorization.identifier.to_string())
            .collect();
        let names: Vec<String> = names.into_iter().collect();
        let replaces: Vec<&str> = drafts
            .iter()
            .filter_map(|(_, one)| one.order.replaces.as_deref())
            .collect();
        let is_bounded = drafts.iter().any(|(_, one)| one.concurrent > 0);
        Ok(Self {
            open: if is_bounded {
                orders::count_open(conn, &accounts, now).await?
            } else {
                HashMap::new()
            },
            paused: failing_names::paused(conn, &accounts, &names)
                .await?
                .into_iter()
                .collect(),
            replaced: orders::replaced(conn, &replaces)
                .await?
                .into_iter()
                .collect(),
            proved: authorizations::proved(conn, &accounts, &names, now).await?,
        })
    }

    /// Whether an order may be made, and if so, that it is.
    fn admit(&mut self, draft: &Draft) -> Result<(), Refusal> {
        let order = &draft.order;
        if let Some(id) = &order.replaces
            && self.replaced.contains(id)
        {
            let detail = "another order replaces this certificate already";
            return Err(Problem::new(ProblemType::AlreadyReplaced, detail).into());
        }
        self.check_paused(draft)?;
        let open = self.open.entry(order.account_id.clone()).or_default();
        if draft.concurrent > 0 && *open >= i64::from(draft.concurrent) {
            return Err(limited(
                "concurrent_orders",
                "the account has as many open orders as it may have",
                60,
            ));
        }
        *open += 1;
        self.replaced.extend(order.replaces.clone());
        Ok(())
    }

    fn check_paused(&self, draft: &Draft) -> Result<(), Refusal> {
        let paused: Vec<Subproblem> = draft
            .authorizations
            .iter()
            .map(|kept| &kept.authorization.identifier)
            .filter(|name| {
                self.paused
                    .contains(&(draft.order.account_id.clone(), (*name).clone()))
            })
            .map(|name| {
                let detail = "its proof failed too often; an operator has to unpause it";
                Subproblem::of(ProblemType::RateLimited, detail, name)
            })
            .collect();
        if paused.is_empty() {
            return Ok(());
        }
        metrics::count_limited("paused_name");
        Err(Problem {
            subproblems: paused,
            ..Problem::new(
                ProblemType::RateLimited,
                "names of this order are paused for the account",
            )
        }
        .into())
    }

    /// The rows of an order. What its account has proved and may still use is taken over, until when it may be used (RFC 8555 §7.4).
    fn reuse(&self, draft: &Draft) -> (Order, Vec<Kept>, Vec<Challenge>) {
        let mut order = draft.order.clone();
        let mut authorizations = draft.authorizations.clone();
        let mut challenges = draft.challenges.clone();
        if order.auth_mode != AcmeAuthMode::Challenge {
            return (order, authorizations, challenges);
        }
        for kept in &mut authorizations {
            let Some((proved, proof)) = self.proof_of(kept) else {
                continue;
            };
            let authorization = &mut kept.authorization;
            authorization.status = AuthorizationStatus::Valid;
            authorization.expires_at = authorization
                .expires_at
                .min(proved.authorization.expires_at);
            kept.proof = Some(proof);
            challenges.retain(|one| {
                one.authorization_id != authorization.id || one.challenge_type == proof.0
            });
            for one in challenges
                .iter_mut()
                .filter(|one| one.authorization_id == authorization.id)
            {
                one.status = ChallengeStatus::Valid;
                one.validated_at = Some(proof.1);
            }
        }
        let is_valid = |kept: &Kept| kept.authorization.status == AuthorizationStatus::Valid;
        if authorizations.iter().all(is_valid) {
            order.status = OrderStatus::Ready;
        }
        (order, authorizations, challenges)
    }

    fn proof_of(&self, wanted: &Kept) -> Option<(&Kept, (ChallengeType, Timestamp))> {
        let is_same = |kept: &&Kept| {
            kept.account_id == wanted.account_id
                && kept.authorization.identifier == wanted.authorization.identifier
                && kept.authorization.wildcard == wanted.authorization.wildcard
        };
        let proved = self.proved.iter().find(is_same)?;
        Some((proved, proved.proof?))
    }
}
