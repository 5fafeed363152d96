//! Finalising: from an order that is ready to a job that issues its certificate (RFC 8555 §7.4).
//!
//! Order, certificate, job and the intent to sign are written together. From there on the jobs engine does what it does for every
//! certificate, and its completing transaction makes the order valid; whenever somebody dies on the way, the same serial number is
//! asked for again.

use std::{collections::BTreeMap, time::Duration};

use certctl_acme::{csr, payload::Finalize};
use certctl_domain::{
    access::Actor,
    acme::{
        Account, AcmeOrderId, AuthorizationStatus, Identifier, Order, OrderStatus, Problem,
        ProblemType, managed_certificate_id,
    },
    audit::{AuditEvent, EventCategory},
    certificate::{Certificate, CertificateSource, CertificateStatus},
    id::JobId,
    job::{JobStatus, JobType},
    name::CommonName,
    ports::challenge::CaaRequest,
    profile::AcmeAuthMode,
    time::Timestamp,
};
use certctl_pki::{cert::random_serial, csr::Csr, pem};
use certctl_repository::{
    Conn,
    acme::{
        authorizations,
        issuing::Ended,
        orders::{self, Finalized},
    },
    certificates,
    intents::{self, Intent},
    jobs::{self, NewJob},
};
use serde_json::json;
use tokio::time::Instant;

use super::{
    Acme, OrderAnswer, Refusal, SignedRequest,
    accounts::unexpected,
    actor_of,
    desk::{Batch, Done, Work},
    metrics,
    new_order::random,
    orders::answer_of,
    signed::{Opened, Signer, absent},
    view::{Defaults, ProfileView, not_set_up},
    waiting::ended_event,
};
use crate::{
    Error, Services,
    approvals::{Gated, count_bypassed},
    engine::{
        ahead::{self, Signed},
        held::Held,
        request::Wanted,
    },
    services::event,
};

/// How often a certificate of ACME is tried to be issued: its client waits, and starts anew by itself.
const MAX_ATTEMPTS: u32 = 3;
/// How old a look at CAA records may be when a certificate is issued (RFC 8659 §3 leaves it to the CA; 8 hours are the rule of
/// those that everybody trusts).
const CAA_FRESH: Duration = Duration::from_secs(8 * 3600);

/// What finalising writes, if the order lets it.
pub(super) struct Finalization {
    pub(super) order_id: AcmeOrderId,
    csr_pem: String,
    held: Held,
    /// What is signed for it already, and is to be entered with it.
    signed: Option<Signed>,
    /// Whether a second person is to be asked.
    is_gated: bool,
}

impl Finalization {
    /// Whether a job is to sign.
    pub(super) const fn is_to_be_signed(&self) -> bool {
        self.signed.is_none()
    }

    /// Counts what was signed, once it is stored as that order's.
    pub(super) fn count(&self, services: &Services, order: &Order) {
        if let Some(signed) = &self.signed
            && order.certificate_id.as_ref() == Some(&self.held.certificate.id)
        {
            services.count_ahead(&self.held, signed);
        }
    }
}

impl Acme {
    /// Finalises an order, and waits a while for its certificate.
    ///
    /// # Errors
    /// Those of every signed request, `unauthorized` for another's order, `malformed` with 404 where there is none, `orderNotReady`,
    /// `badCSR`, `rejectedIdentifier`, `caa`.
    pub async fn finalize(&self, request: SignedRequest, id: &str) -> Result<OrderAnswer, Refusal> {
        let result = match self.open(&request).await {
            Ok(opened) => {
                let done = self.finalize_order(&opened, &request, id).await;
                self.settle(&opened, done).await
            }
            Err(refusal) => Err(refusal),
        };
        metrics::count(metrics::FINALIZE_ORDER, &result);
        result
    }

    async fn finalize_order(
        &self,
        opened: &Opened,
        request: &SignedRequest,
        id: &str,
    ) -> Result<OrderAnswer, Refusal> {
        let signer = self.signer(opened, request).await?;
        let asked = Finalize::parse(opened.jws.payload())?;
        let csr = &asked.csr;
        let recent = self.own_recent_order(&signer, id);
        let drafted = match &recent {
            Some((order, _)) => self.draft_finalization(order, csr, &signer, request).await,
            None => Err(absent("order")),
        };
        // Whatever is refused by what is remembered is looked at again: the order may be another by now.
        let (order, authorizations, mut finalization) = match (recent, drafted) {
            (Some((order, authorizations)), Ok(drafted)) => (order, authorizations, drafted),
            _ => {
                let (order, authorizations) = self.own_order(&signer, id).await?;
                match order.status {
                    // Asking twice gives one certificate.
                    OrderStatus::Valid | OrderStatus::Processing => {
                        self.touch(opened, &signer).await?;
                        return Ok(answer_of(order, &authorizations, request));
                    }
                    OrderStatus::Ready => {}
                    status => return Err(not_ready(status)),
                }
                let drafted = self.draft_finalization(&order, csr, &signer, request);
                let drafted = drafted.await?;
                (order, authorizations, drafted)
            }
        };
        let waiting = self.state.waiting.for_order(&order.id);
        let deadline = Instant::now() + self.state.config.finalize_wait;
        let waits_for_somebody = finalization.held.job.status == JobStatus::AwaitingApproval;
        // Whoever finalises the same order again meanwhile would have signed what is dropped.
        if !waits_for_somebody && self.may_sign_ahead() && waiting.is_alone() {
            let (held, turns) = (&finalization.held, &self.state.signing);
            finalization.signed = self.services.sign_ahead(held, turns, deadline).await;
        }
        let order = self
            .submit_finalization(opened, &signer, finalization)
            .await?;
        let order = if waits_for_somebody {
            order
        } else {
            self.wait_for(order, waiting, deadline).await?
        };
        Ok(answer_of(order, &authorizations, request))
    }

    fn may_sign_ahead(&self) -> bool {
        let config = &self.state.config;
        config.lanes > 0 && !config.finalize_wait.is_zero()
    }

    /// Everything that can be checked before the transaction, and what that is to write.
    async fn draft_finalization(
        &self,
        order: &Order,
        csr_der: &[u8],
        signer: &Signer,
        request: &SignedRequest,
    ) -> Result<Finalization, Refusal> {
        let csr = csr::check(csr_der, &order.identifiers, signer.known.key.spki_der())?;
        let view = self.view().await?;
        let profile = view.profile(&order.profile_id).ok_or_else(|| {
            Problem::new(ProblemType::BadCsr, "the profile of the order is disabled")
        })?;
        let defaults = view.defaults.as_ref().ok_or_else(not_set_up)?;
        check_key(&csr, profile)?;
        profile.admit(&order.identifiers)?;
        self.check_caa(order, request).await?;
        let now = self.services.now();
        let account = &signer.known.account;
        let mut drafted = finalization(order, &csr, account, profile, defaults, now)?;
        if drafted.is_gated && !self.services.config.approval_bypass {
            drafted.held.job.status = JobStatus::AwaitingApproval;
        }
        Ok(drafted)
    }

    /// The order as it is then, whoever finalised it.
    async fn submit_finalization(
        &self,
        opened: &Opened,
        signer: &Signer,
        finalization: Finalization,
    ) -> Result<Order, Refusal> {
        let id = finalization.held.certificate.id.clone();
        let chain = finalization
            .signed
            .as_ref()
            .map(|one| one.pem_chain().to_owned());
        let work = Work::Finalize(Box::new(finalization));
        let order = match self.submit(opened, Some(signer), work).await? {
            Done::Order(order, _) => *order,
            other => return Err(unexpected(&other)),
        };
        // Another request for the same order may have been first; what was signed here is then dropped.
        if let Some(chain) = chain
            && order.certificate_id.as_ref() == Some(&id)
        {
            let chain = (order.account_id.clone(), order.issuer_id.clone(), chain);
            self.state.recent.keep_chain(id, chain);
        }
        Ok(order)
    }

    /// CAA once more where the last look is too old (RFC 8659 §3).
    async fn check_caa(&self, order: &Order, request: &SignedRequest) -> Result<(), Refusal> {
        let (Some(caa), AcmeAuthMode::Challenge) = (&self.state.ports.caa, order.auth_mode) else {
            return Ok(());
        };
        let now = self.services.now();
        let mut conn = self.services.read().await?;
        let kept = authorizations::of_orders(&mut conn, std::slice::from_ref(&order.id)).await?;
        drop(conn);
        for one in kept {
            let (Some((method, at)), Identifier::Dns(name)) =
                (one.proof, &one.authorization.identifier)
            else {
                continue;
            };
            if now.since(at) < CAA_FRESH {
                continue;
            }
            let asked = CaaRequest {
                name: name.clone(),
                wildcard: one.authorization.wildcard,
                account_uri: request.urls.account(&order.account_id),
                method,
            };
            caa.check(&asked).await?;
        }
        Ok(())
    }
}

fn not_ready(status: OrderStatus) -> Refusal {
    Problem::new(ProblemType::OrderNotReady, format!("the order is {status}")).into()
}

fn check_key(csr: &Csr, profile: &ProfileView) -> Result<(), Problem> {
    let (algorithm, bits) = (csr.key_algorithm(), csr.key_bits());
    if profile.profile.admits_key(algorithm, bits) {
        return Ok(());
    }
    let detail = format!("the profile does not allow a key of {algorithm} with {bits} bits");
    Err(Problem::new(ProblemType::BadCsr, detail))
}

fn finalization(
    order: &Order,
    csr: &Csr,
    account: &Account,
    profile: &ProfileView,
    defaults: &Defaults,
    now: Timestamp,
) -> Result<Finalization, Refusal> {
    let certificate = certificate(order, csr, account, defaults, now)?;
    let job = NewJob {
        id: JobId::generate(now),
        job_type: JobType::Issuance,
        certificate_id: certificate.id.clone(),
        target_id: None,
        agent_id: None,
        status: JobStatus::Pending,
        max_attempts: MAX_ATTEMPTS,
        created_at: now,
    };
    let start = order.not_before.unwrap_or(now).max(now);
    let csr_pem = pem::encode(pem::CERTIFICATE_REQUEST, csr.der());
    let wanted = Wanted::for_order(
        &certificate,
        &profile.profile,
        lifetime(order, profile, start),
    );
    let intent = Intent {
        job_id: job.id.clone(),
        issuer_id: order.issuer_id.clone(),
        serial_number: random_serial().map_err(Error::from)?,
        not_before: start.truncated_to_seconds(),
        spki: csr.spki_der().to_vec(),
        request: wanted.to_json(),
        csr_pem: csr_pem.clone(),
        sealed_key: None,
        created_at: now,
    };
    Ok(Finalization {
        order_id: order.id.clone(),
        csr_pem,
        held: Held {
            job,
            certificate,
            policy: defaults.policy.clone(),
            intent,
        },
        signed: None,
        is_gated: profile.profile.requires_approval,
    })
}

/// The profile's bound, or what the client asked for where that is shorter; 0 where neither says.
fn lifetime(order: &Order, profile: &ProfileView, start: Timestamp) -> u32 {
    let longest = profile.profile.max_ttl_seconds;
    let Some(end) = order.not_after else {
        return longest;
    };
    let asked = u32::try_from(end.since(start).as_secs()).unwrap_or(u32::MAX);
    if longest == 0 {
        asked.max(1)
    } else {
        asked.clamp(1, longest)
    }
}

fn certificate(
    order: &Order,
    csr: &Csr,
    account: &Account,
    defaults: &Defaults,
    now: Timestamp,
) -> Result<Certificate, Error> {
    let sans: Vec<String> = order.identifiers.iter().map(ToString::to_string).collect();
    // The common name is one of the names, which has been checked; without one it is the first.
    let common_name = csr
        .common_name()
        .map(str::to_ascii_lowercase)
        .or_else(|| sans.first().cloned())
        .unwrap_or_default();
    Ok(Certificate {
        id: managed_certificate_id(random()?),
        name: format!("acme-{}", order.id),
        common_name: CommonName::from_stored(common_name),
        sans,
        environment: String::new(),
        owner_id: account
            .owner_id
            .clone()
            .unwrap_or_else(|| defaults.owner.clone()),
        team_id: defaults.team.clone(),
        issuer_id: order.issuer_id.clone(),
        target_ids: Vec::new(),
        renewal_policy_id: defaults.policy.id.clone(),
        profile_id: Some(order.profile_id.clone()),
        status: CertificateStatus::RenewalInProgress,
        expires_at: None,
        renew_at: None,
        tags: BTreeMap::new(),
        last_renewal_at: None,
        last_deployment_at: None,
        revoked_at: None,
        revocation_reason: None,
        source: CertificateSource::Acme,
        created_at: now,
        updated_at: now,
    })
}

/// Makes the orders of a batch `processing` that are ready, or valid where all is signed, with everything that is to happen then.
pub(super) async fn begin(
    acme: &Acme,
    conn: &mut Conn,
    batch: &mut Batch<'_>,
) -> Result<(), Error> {
    let asked: Vec<(usize, &Finalization)> = batch.open(|work| match work {
        Work::Finalize(finalization) => Some(&**finalization),
        _ => None,
    });
    if asked.is_empty() {
        return Ok(());
    }
    let unproved = unproved(conn, batch, &asked).await?;
    let mut begun: Vec<&Finalization> = Vec::with_capacity(asked.len());
    for (place, one) in asked {
        let Some(order) = batch.orders.get_mut(&one.order_id) else {
            batch.answers[place] = Some(Err(absent("order")));
            continue;
        };
        let is_over = order.expires_at <= batch.now || unproved.contains(&one.order_id);
        match order.status {
            OrderStatus::Ready if is_over => {
                let error =
                    Problem::new(ProblemType::ServerInternal, "order expired before issuance");
                let ids = std::slice::from_ref(&one.order_id);
                orders::invalidate(conn, ids, &error, batch.now).await?;
                order.status = OrderStatus::Invalid;
                batch.answers[place] = Some(Err(not_ready(OrderStatus::Invalid)));
            }
            OrderStatus::Ready => {
                order.status = if one.signed.is_some() {
                    OrderStatus::Valid
                } else {
                    OrderStatus::Processing
                };
                order.csr_pem = Some(one.csr_pem.clone());
                order.certificate_id = Some(one.held.certificate.id.clone());
                order.job_id = Some(one.held.job.id.clone());
                begun.push(one);
                let done = Done::Order(Box::new(order.clone()), Vec::new());
                batch.answers[place] = Some(Ok(done));
            }
            OrderStatus::Processing | OrderStatus::Valid => {
                let done = Done::Order(Box::new(order.clone()), Vec::new());
                batch.answers[place] = Some(Ok(done));
            }
            status => batch.answers[place] = Some(Err(not_ready(status))),
        }
    }
    write(acme, conn, batch, &begun).await
}

/// The orders one of whose authorisations is not good any more.
async fn unproved(
    conn: &mut Conn,
    batch: &Batch<'_>,
    asked: &[(usize, &Finalization)],
) -> Result<Vec<AcmeOrderId>, Error> {
    let challenged: Vec<AcmeOrderId> = asked
        .iter()
        .filter_map(|(_, one)| batch.orders.get(&one.order_id))
        .filter(|order| order.auth_mode == AcmeAuthMode::Challenge)
        .map(|order| order.id.clone())
        .collect();
    let kept = authorizations::of_orders(conn, &challenged).await?;
    Ok(kept
        .into_iter()
        .map(|kept| kept.authorization)
        .filter(|one| one.status != AuthorizationStatus::Valid || one.expires_at <= batch.now)
        .map(|one| one.order_id)
        .collect())
}

async fn write(
    acme: &Acme,
    conn: &mut Conn,
    batch: &mut Batch<'_>,
    begun: &[&Finalization],
) -> Result<(), Error> {
    if begun.is_empty() {
        return Ok(());
    }
    let now = batch.now;
    let signed: Vec<(&Held, &Signed)> = begun
        .iter()
        .filter_map(|one| Some((&one.held, one.signed.as_ref()?)))
        .collect();
    let completed = ahead::enter(conn, &signed, now).await?;
    let unsigned: Vec<&Finalization> = begun
        .iter()
        .filter(|one| one.signed.is_none())
        .copied()
        .collect();
    enter_unsigned(acme, conn, batch, &unsigned).await?;
    let rows: Vec<Finalized> = begun
        .iter()
        .map(|one| Finalized {
            order_id: one.order_id.clone(),
            csr_pem: one.csr_pem.clone(),
            certificate_id: one.held.certificate.id.clone(),
            job_id: one.held.job.id.clone(),
            is_issued: one.signed.is_some(),
        })
        .collect();
    orders::begin(conn, &rows, now).await?;
    let mut finalized = Vec::with_capacity(signed.len());
    for one in begun {
        let Some(account) = batch
            .orders
            .get(&one.order_id)
            .map(|one| one.account_id.clone())
        else {
            continue;
        };
        let actor = actor_of(&account);
        if one.is_gated {
            ask_for_approval(acme, conn, &actor, &one.held, now).await?;
        }
        batch.events.push(processing_event(&actor, one, now));
        if one.signed.is_some() {
            let ended = Ended {
                order_id: one.order_id.clone(),
                account_id: account,
                certificate_id: one.held.certificate.id.clone(),
                is_valid: true,
            };
            finalized.push(ended_event(&ended, now));
        }
    }
    batch.events.extend(completed);
    batch.events.extend(finalized);
    Ok(())
}

/// Certificates without a version, and the jobs that are to sign them: this process's own, or anybody's.
async fn enter_unsigned(
    acme: &Acme,
    conn: &mut Conn,
    batch: &mut Batch<'_>,
    begun: &[&Finalization],
) -> Result<(), Error> {
    if begun.is_empty() {
        return Ok(());
    }
    let new: Vec<Certificate> = begun
        .iter()
        .map(|one| one.held.certificate.clone())
        .collect();
    certificates::insert_all(conn, &new).await?;
    let (held, new): (Vec<&Finalization>, Vec<&Finalization>) = begun
        .iter()
        .partition(|one| batch.may_sign && one.held.job.status == JobStatus::Pending);
    let jobs_of = |of: &[&Finalization]| -> Vec<NewJob> {
        of.iter().map(|one| one.held.job.clone()).collect()
    };
    jobs::insert_all(conn, &jobs_of(&new)).await?;
    let config = &acme.services.config;
    let (owner, lease) = (&config.instance, config.lease);
    jobs::held::insert_all(conn, &jobs_of(&held), owner, lease, batch.now).await?;
    let intents: Vec<Intent> = begun.iter().map(|one| one.held.intent.clone()).collect();
    intents::insert_all(conn, &intents).await?;
    batch.has_jobs |= new
        .iter()
        .any(|one| one.held.job.status == JobStatus::Pending);
    batch
        .held
        .extend(held.into_iter().map(|one| one.held.clone()));
    Ok(())
}

async fn ask_for_approval(
    acme: &Acme,
    conn: &mut Conn,
    actor: &Actor,
    held: &Held,
    now: Timestamp,
) -> Result<(), Error> {
    let gated = Gated {
        job_id: held.job.id.clone(),
        certificate_id: held.certificate.id.clone(),
    };
    let asked = std::slice::from_ref(&gated);
    let services = &acme.services;
    let entered = services.request_approvals(conn, actor, asked, now).await?;
    count_bypassed(&entered);
    Ok(())
}

fn processing_event(actor: &Actor, one: &Finalization, now: Timestamp) -> AuditEvent {
    let held = &one.held;
    let details = json!({"certificate_id": held.certificate.id.as_str(), "job_id": held.job.id.as_str(),
        "serial_number": held.intent.serial_number.as_str()});
    event(
        actor,
        EventCategory::CertLifecycle,
        "acme_order_processing",
        ("acme_order", one.order_id.as_str()),
        details,
        now,
    )
}
