//! Policy rules, and what violates them.
//!
//! Rules are asked when a certificate is made, changed, asked to be renewed or issued, in the same transaction, and for as many
//! certificates at a time as there are. What violates one is put on record and hinders nothing (model §3.4). The same violation
//! is on record once while it stands, and stays there with its end when it stands no more. Whoever owns the certificate is told.
//!
//! A rule that changes is asked of all certificates there are, page by page behind the answer (`policies::review`).

mod review;

use std::collections::{HashMap, HashSet};

use certctl_domain::{
    access::{Actor, Permission},
    audit::{AuditEvent, EventCategory},
    id::{CertificateId, PolicyRuleId, PolicyViolationId},
    notification::NotificationType,
    page::{Page, PageRequest},
    policy_rule::{Demand, PolicyRule, PolicySeverity, PolicyType, PolicyViolation, Subject},
    time::Timestamp,
    validation::{MAX_NAME, check_object, required_text},
};
use certctl_repository::{
    Conn, audit_events,
    notifications::{self, Notice},
    policy_review, policy_rules, policy_violations, transaction,
};
use serde_json::{Value, json};

pub use self::review::Review;
use crate::{
    Error, Services,
    error::Expect as _,
    input::{new_id, one_of},
    services::{authorise, event, record},
};

/// The largest configuration of a rule, in bytes.
const MAX_CONFIG: usize = 65_536;
/// How deep it may be nested.
const MAX_CONFIG_DEPTH: usize = 8;

/// What a caller says of a rule; an update replaces it, but for a severity that is not said.
#[derive(Debug, Clone, Default)]
pub struct PolicyRuleInput {
    /// The id; made when absent. Not read on an update.
    pub id: Option<String>,
    /// The name; required.
    pub name: String,
    /// What it asks; required.
    pub rule_type: String,
    /// How exactly; required.
    pub config: Value,
    /// Whether it counts; yes.
    pub enabled: Option<bool>,
    /// How bad a violation is: `Warning`, or what it was.
    pub severity: Option<String>,
}

impl Services {
    /// Lists rules, newest first.
    ///
    /// # Errors
    /// [`Error::Forbidden`] without `policy.read`.
    pub async fn list_policies(
        &self,
        actor: &Actor,
        page: PageRequest,
    ) -> Result<Page<PolicyRule>, Error> {
        authorise(actor, Permission::PolicyRead)?;
        Ok(policy_rules::list(&mut self.read().await?, page).await?)
    }

    /// Reads a rule.
    ///
    /// # Errors
    /// [`Error::Forbidden`] without `policy.read`, [`Error::NotFound`].
    pub async fn get_policy(&self, actor: &Actor, id: &PolicyRuleId) -> Result<PolicyRule, Error> {
        authorise(actor, Permission::PolicyRead)?;
        policy_rules::find(&mut self.read().await?, id)
            .await
            .or_not_found("policy", id)
    }

    /// Makes a rule. It is asked from now on, and soon of all certificates there are.
    ///
    /// # Errors
    /// [`Error::Forbidden`] without `policy.edit`, [`Error::Invalid`] naming the field, [`Error::Conflict`] when the id or name is
    /// taken.
    pub async fn create_policy(
        &self,
        actor: &Actor,
        input: PolicyRuleInput,
    ) -> Result<PolicyRule, Error> {
        authorise(actor, Permission::PolicyEdit)?;
        let now = self.now();
        let id = new_id(input.id.as_deref(), PolicyRuleId::parse, || {
            PolicyRuleId::generate(now)
        })?;
        let rule = parse(id, &input, PolicySeverity::Warning, now)?;
        transaction!(self.db, "create policy rule", conn => {
            policy_rules::insert(conn, &rule).await.or_conflict(|| taken(&rule))?;
            policy_review::begin(conn).await?;
            record(conn, changed(actor, "policy_rule_created", &rule.id, now)).await?;
            Ok::<_, Error>(())
        })?;
        self.policies_changed.ring();
        Ok(rule)
    }

    /// Replaces a rule. It is asked anew of all certificates there are, soon; what violated it as it was ends with that.
    ///
    /// # Errors
    /// [`Error::Forbidden`] without `policy.edit`, [`Error::NotFound`], [`Error::Invalid`] naming the field, [`Error::Conflict`] when
    /// the name is taken.
    pub async fn update_policy(
        &self,
        actor: &Actor,
        id: &PolicyRuleId,
        input: PolicyRuleInput,
    ) -> Result<PolicyRule, Error> {
        authorise(actor, Permission::PolicyEdit)?;
        let now = self.now();
        // What is wrong with it is said before anything is looked up.
        parse(id.clone(), &input, PolicySeverity::Warning, now)?;
        let rule = transaction!(self.db, "update policy rule", conn => {
            let stored = policy_rules::find(conn, id).await.or_not_found("policy", id)?;
            let rule = PolicyRule { created_at: stored.created_at, ..parse(id.clone(), &input, stored.severity, now)? };
            policy_rules::update(conn, &rule).await.or_conflict(|| taken(&rule))?;
            policy_review::begin(conn).await?;
            record(conn, changed(actor, "policy_rule_updated", id, now)).await?;
            Ok::<_, Error>(rule)
        })?;
        self.policies_changed.ring();
        Ok(rule)
    }

    /// Deletes a rule, and with it what is on record of it.
    ///
    /// # Errors
    /// [`Error::Forbidden`] without `policy.delete`, [`Error::NotFound`].
    pub async fn delete_policy(&self, actor: &Actor, id: &PolicyRuleId) -> Result<(), Error> {
        authorise(actor, Permission::PolicyDelete)?;
        let now = self.now();
        transaction!(self.db, "delete policy rule", conn => {
            policy_rules::delete(conn, id).await.or_not_found("policy", id)?;
            record(conn, changed(actor, "policy_rule_deleted", id, now)).await?;
            Ok::<_, Error>(())
        })
    }

    /// Lists what violates a rule, or did, newest first.
    ///
    /// # Errors
    /// [`Error::Forbidden`] without `policy.read`, [`Error::NotFound`].
    pub async fn list_violations(
        &self,
        actor: &Actor,
        id: &PolicyRuleId,
        page: PageRequest,
    ) -> Result<Page<PolicyViolation>, Error> {
        authorise(actor, Permission::PolicyRead)?;
        let mut conn = self.read().await?;
        policy_rules::find(&mut conn, id)
            .await
            .or_not_found("policy", id)?;
        Ok(policy_violations::list(&mut conn, id, page).await?)
    }
}

/// How owners are told of what is found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Telling {
    /// Of each violation: one certificate or a few were touched.
    Each,
    /// Of the first one by rule: a rule was changed, and the fleet of an owner may violate it.
    OncePerOwner,
}

/// Asks every rule of certificates, and brings what is on record up to date: six statements at the most, however many they are.
/// To be called in the transaction of what changed them, after it.
pub(crate) async fn evaluate(
    conn: &mut Conn,
    actor: &Actor,
    certificates: &[CertificateId],
    now: Timestamp,
) -> Result<(), Error> {
    ask(conn, actor, certificates, Telling::Each, now)
        .await
        .map(drop)
}

/// As [`evaluate`]; how many violations are new.
async fn ask(
    conn: &mut Conn,
    actor: &Actor,
    certificates: &[CertificateId],
    telling: Telling,
    now: Timestamp,
) -> Result<usize, Error> {
    if certificates.is_empty() {
        return Ok(0);
    }
    let rules = policy_rules::enabled(conn).await?;
    let demands = readable(&rules);
    let standing = policy_violations::open(conn, certificates).await?;
    let subjects = if demands.is_empty() {
        Vec::new()
    } else {
        policy_violations::subjects(conn, certificates).await?
    };
    let mut found = Vec::new();
    for subject in &subjects {
        for (rule, demand) in &demands {
            if let Some(message) = demand.violation(subject) {
                found.push(PolicyViolation {
                    id: PolicyViolationId::generate(now),
                    certificate_id: subject.certificate_id.clone(),
                    rule_id: rule.id.clone(),
                    message,
                    severity: rule.severity,
                    created_at: now,
                    resolved_at: None,
                });
            }
        }
    }
    // One that is found as before, but graver or milder now, ends, and begins anew as what it is.
    let same = |one: &PolicyViolation| {
        let PolicyViolation {
            certificate_id,
            rule_id,
            message,
            severity,
            ..
        } = one.clone();
        (certificate_id, rule_id, message, severity)
    };
    let present: HashSet<_> = found.iter().map(same).collect();
    let known: HashSet<_> = standing.iter().map(same).collect();
    let gone: Vec<PolicyViolationId> = standing
        .iter()
        .filter(|one| !present.contains(&same(one)))
        .map(|one| one.id.clone())
        .collect();
    policy_violations::resolve(conn, &gone, now).await?;
    found.retain(|one| !known.contains(&same(one)));
    let new = policy_violations::record(conn, &found).await?;
    let new: HashSet<PolicyViolationId> = new.into_iter().collect();
    found.retain(|one| new.contains(&one.id));
    let events: Vec<AuditEvent> = found.iter().map(|one| detected(actor, one, now)).collect();
    audit_events::insert_all(conn, &events).await?;
    notifications::enqueue_all(conn, &notices(&found, &rules, &subjects, telling), now).await?;
    Ok(found.len())
}

/// What rules ask that can be read; those of others that cannot are told of in the log.
fn readable(rules: &[PolicyRule]) -> Vec<(&PolicyRule, Demand)> {
    rules
        .iter()
        .filter_map(|rule| match Demand::parse(rule.rule_type, &rule.config) {
            Ok(demand) => Some((rule, demand)),
            Err(error) => {
                tracing::error!(policy.id = %rule.id, error = %error, "a policy rule cannot be read and is not asked");
                None
            }
        })
        .collect()
}

/// What owners are told of violations.
fn notices(
    found: &[PolicyViolation],
    rules: &[PolicyRule],
    subjects: &[Subject],
    telling: Telling,
) -> Vec<Notice> {
    let rules: HashMap<&PolicyRuleId, &PolicyRule> =
        rules.iter().map(|rule| (&rule.id, rule)).collect();
    let owners: HashMap<&CertificateId, &str> = subjects
        .iter()
        .map(|one| (&one.certificate_id, one.owner_id.as_str()))
        .collect();
    let notice = |one: &PolicyViolation| {
        let rule = rules.get(&one.rule_id)?;
        let said = format!(
            "violates the policy rule {:?} ({}): {}",
            rule.name,
            one.severity.as_str(),
            one.message
        );
        let (message, key) = match telling {
            Telling::Each => (said, format!("violation:{}", one.id)),
            Telling::OncePerOwner => {
                let owner = owners.get(&one.certificate_id)?;
                let changed_at = rule.updated_at.as_micros();
                let message = format!(
                    "{said}; the rule has changed, and others of your certificates may violate it too: see the violations of {}",
                    rule.id
                );
                (
                    message,
                    format!("violation:{}:{changed_at}:{owner}", rule.id),
                )
            }
        };
        Some(Notice {
            kind: NotificationType::PolicyViolation,
            certificate_id: one.certificate_id.clone(),
            message,
            key,
        })
    };
    found.iter().filter_map(notice).collect()
}

fn detected(actor: &Actor, one: &PolicyViolation, now: Timestamp) -> AuditEvent {
    let details = json!({"rule_id": one.rule_id.as_str(), "severity": one.severity.as_str(), "message": one.message});
    let resource = ("certificate", one.certificate_id.as_str());
    let category = EventCategory::CertLifecycle;
    event(
        actor,
        category,
        "policy_violation_detected",
        resource,
        details,
        now,
    )
}

fn changed(actor: &Actor, action: &str, id: &PolicyRuleId, now: Timestamp) -> AuditEvent {
    let resource = ("policy", id.as_str());
    event(
        actor,
        EventCategory::Config,
        action,
        resource,
        json!({}),
        now,
    )
}

fn taken(rule: &PolicyRule) -> String {
    format!("a policy rule named {:?} or with this id exists", rule.name)
}

fn parse(
    id: PolicyRuleId,
    input: &PolicyRuleInput,
    otherwise: PolicySeverity,
    now: Timestamp,
) -> Result<PolicyRule, Error> {
    let name = required_text("name", &input.name, MAX_NAME)?;
    let rule_type = one_of("type", &input.rule_type, PolicyType::parse)?;
    check_object("config", &input.config, MAX_CONFIG, MAX_CONFIG_DEPTH)?;
    Demand::parse(rule_type, &input.config)?;
    let severity = match input.severity.as_deref() {
        None | Some("") => otherwise,
        Some(text) => one_of("severity", text, PolicySeverity::parse)?,
    };
    Ok(PolicyRule {
        id,
        name,
        rule_type,
        config: input.config.clone(),
        enabled: input.enabled.unwrap_or(true),
        severity,
        created_at: now,
        updated_at: now,
    })
}
