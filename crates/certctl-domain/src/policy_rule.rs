//! Policy rules, and what violates them (model §3.4). A violation is put on record and hinders nothing, whatever its severity.

use std::{collections::BTreeMap, time::Duration};

use serde_json::Value;

use crate::{
    id::{CertificateId, PolicyRuleId, PolicyViolationId},
    name::SubjectAltName,
    text_enum,
    time::Timestamp,
    validation::{InvalidField, required_text},
};

text_enum! {
    /// What a rule asks.
    pub enum PolicyType ("policy type") {
        /// The issuer is one of a list.
        AllowedIssuers = "AllowedIssuers",
        /// Every name lies in one of a list of domains.
        AllowedDomains = "AllowedDomains",
        /// Owner, team or tags are there.
        RequiredMetadata = "RequiredMetadata",
        /// The environment is one of a list.
        AllowedEnvironments = "AllowedEnvironments",
        /// It is renewed early enough before its end.
        RenewalLeadTime = "RenewalLeadTime",
        /// It lives no longer than so many days.
        CertificateLifetime = "CertificateLifetime",
    }
}

text_enum! {
    /// How bad a violation is.
    pub enum PolicySeverity ("policy severity") {
        /// To be looked at.
        Warning = "Warning",
        /// Against the rules.
        Error = "Error",
        /// Against the rules, and urgent.
        Critical = "Critical",
    }
}

/// Entries of a list in a configuration at the most.
pub const MAX_ENTRIES: usize = 200;
/// Longest message of a violation, in characters: it is part of an index.
const MAX_MESSAGE: usize = 500;
/// Days of a renewal lead time where a rule names none.
const DEFAULT_LEAD_DAYS: u32 = 30;
const DAY: Duration = Duration::from_secs(86_400);

/// A rule.
#[derive(Debug, Clone, PartialEq)]
pub struct PolicyRule {
    /// The id.
    pub id: PolicyRuleId,
    /// The name, unique.
    pub name: String,
    /// What it asks.
    pub rule_type: PolicyType,
    /// How exactly; rows of others may hold what [`Demand::parse`] refuses.
    pub config: Value,
    /// Whether it counts.
    pub enabled: bool,
    /// How bad a violation is.
    pub severity: PolicySeverity,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it was last changed.
    pub updated_at: Timestamp,
}

/// A violation on record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PolicyViolation {
    /// The id.
    pub id: PolicyViolationId,
    /// By which certificate.
    pub certificate_id: CertificateId,
    /// Of which rule.
    pub rule_id: PolicyRuleId,
    /// What is wrong.
    pub message: String,
    /// How bad it is.
    pub severity: PolicySeverity,
    /// When it was first found.
    pub created_at: Timestamp,
    /// When it was first not found any more; none while it stands.
    pub resolved_at: Option<Timestamp>,
}

/// What a rule asks, read from its configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Demand {
    /// One of these issuers, by id.
    Issuers(Vec<String>),
    /// In one of these domains; `*.` stands for one label.
    Domains(Vec<String>),
    /// `owner`, `team`, or the key of a tag.
    Metadata(Vec<String>),
    /// One of these environments, in any case.
    Environments(Vec<String>),
    /// Renewed so many days before its end.
    LeadTime(u32),
    /// Living so many days at the most.
    Lifetime(u32),
}

/// What of a certificate rules look at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Subject {
    /// The certificate.
    pub certificate_id: CertificateId,
    /// Who issues it.
    pub issuer_id: String,
    /// Its common name.
    pub common_name: String,
    /// Its further names.
    pub sans: Vec<String>,
    /// Where it is used.
    pub environment: String,
    /// Who answers for it.
    pub owner_id: String,
    /// Which team does.
    pub team_id: String,
    /// Its labels.
    pub tags: BTreeMap<String, String>,
    /// How many days before its end its policy renews it.
    pub renewal_window_days: u32,
    /// How long it lives: what is issued, or what its profile allows at the most; none where neither is known.
    pub lifetime: Option<Duration>,
}

impl Demand {
    /// Reads a configuration.
    ///
    /// # Errors
    /// [`InvalidField`] for `config`, naming the key that is missing or wrong.
    pub fn parse(rule_type: PolicyType, config: &Value) -> Result<Self, InvalidField> {
        if !config.is_object() {
            return Err(wrong("is not an object"));
        }
        Ok(match rule_type {
            PolicyType::AllowedIssuers => Self::Issuers(list(config, "allowed_issuer_ids")?),
            PolicyType::AllowedDomains => Self::Domains(domains(config)?),
            PolicyType::RequiredMetadata => Self::Metadata(list(config, "required_keys")?),
            PolicyType::AllowedEnvironments => Self::Environments(list(config, "allowed")?),
            PolicyType::RenewalLeadTime => {
                Self::LeadTime(days(config, "lead_time_days", Some(DEFAULT_LEAD_DAYS))?)
            }
            PolicyType::CertificateLifetime => Self::Lifetime(days(config, "max_days", None)?),
        })
    }

    /// What of a certificate violates it, in words; none where nothing does.
    #[must_use]
    pub fn violation(&self, subject: &Subject) -> Option<String> {
        let message = match self {
            Self::Issuers(allowed) => (!allowed.contains(&subject.issuer_id))
                .then(|| format!("issuer {} is not allowed", subject.issuer_id)),
            Self::Domains(allowed) => {
                let outside: Vec<String> = hosts(subject)
                    .into_iter()
                    .filter(|host| !allowed.iter().any(|domain| covers(domain, host)))
                    .collect();
                (!outside.is_empty())
                    .then(|| format!("not in an allowed domain: {}", outside.join(", ")))
            }
            Self::Metadata(keys) => {
                let missing: Vec<&str> = keys
                    .iter()
                    .map(String::as_str)
                    .filter(|key| lacks(subject, key))
                    .collect();
                (!missing.is_empty())
                    .then(|| format!("required metadata is missing: {}", missing.join(", ")))
            }
            Self::Environments(allowed) => {
                let environment = subject.environment.as_str();
                // A certificate need have none, and those of ACME have none; who wants each to have one requires it as metadata.
                let is_allowed = environment.is_empty()
                    || allowed
                        .iter()
                        .any(|one| one.eq_ignore_ascii_case(environment));
                (!is_allowed).then(|| format!("environment {environment:?} is not allowed"))
            }
            Self::LeadTime(least) => (subject.renewal_window_days < *least).then(|| {
                format!(
                    "renewed {} days before its end, at least {least} are required",
                    subject.renewal_window_days
                )
            }),
            Self::Lifetime(most) => {
                subject
                    .lifetime
                    .filter(|life| *life > DAY * *most)
                    .map(|life| {
                        let days = life.as_secs().div_ceil(DAY.as_secs());
                        format!("lives {days} days, at most {most} are allowed")
                    })
            }
        };
        message.map(|text| text.chars().take(MAX_MESSAGE).collect())
    }
}

/// The hosts that names lead to: DNS names, addresses, and those of e-mail addresses and URIs, in lower case and each once.
fn hosts(subject: &Subject) -> Vec<String> {
    let mut hosts = Vec::new();
    for text in std::iter::once(&subject.common_name).chain(&subject.sans) {
        let Ok(name) = SubjectAltName::parse(text) else {
            continue;
        };
        let host = host(&name.to_string()).to_ascii_lowercase();
        if !hosts.contains(&host) {
            hosts.push(host);
        }
    }
    hosts
}

fn host(name: &str) -> &str {
    if let Some((_, rest)) = name.split_once("://") {
        let authority = rest.split(['/', '?', '#']).next().unwrap_or(rest);
        let host = authority.rsplit('@').next().unwrap_or(authority);
        return host.split(':').next().unwrap_or(host);
    }
    name.rsplit('@').next().unwrap_or(name)
}

/// Whether a host lies in a domain: `*.` is exactly one label (RFC 9525 §6.3 reads wildcards the same way).
fn covers(domain: &str, host: &str) -> bool {
    match domain.strip_prefix("*.") {
        Some(parent) => host
            .split_once('.')
            .is_some_and(|(label, rest)| !label.is_empty() && rest == parent),
        None => host == domain,
    }
}

fn lacks(subject: &Subject, key: &str) -> bool {
    let blank = |text: &str| text.trim().is_empty();
    match key {
        "owner" => blank(&subject.owner_id),
        "team" => blank(&subject.team_id),
        "environment" if !blank(&subject.environment) => false,
        tag => subject.tags.get(tag).is_none_or(|value| blank(value)),
    }
}

fn wrong(problem: impl Into<String>) -> InvalidField {
    InvalidField::new("config", problem)
}

fn list(config: &Value, key: &'static str) -> Result<Vec<String>, InvalidField> {
    let entries = config
        .get(key)
        .and_then(Value::as_array)
        .ok_or_else(|| wrong(format!("{key} is required: a list of texts")))?;
    if entries.is_empty() || entries.len() > MAX_ENTRIES {
        return Err(wrong(format!("{key} must have 1 to {MAX_ENTRIES} entries")));
    }
    entries
        .iter()
        .map(|entry| {
            let text = entry
                .as_str()
                .ok_or_else(|| wrong(format!("{key} holds something that is no text")))?;
            required_text("config", text, 253)
        })
        .collect()
}

fn domains(config: &Value) -> Result<Vec<String>, InvalidField> {
    const KEY: &str = "allowed_domains";
    list(config, KEY)?
        .into_iter()
        .map(|domain| {
            let domain = domain.to_ascii_lowercase();
            let body = domain.strip_prefix("*.").unwrap_or(&domain);
            if body.is_empty() || body.contains('*') {
                return Err(wrong(format!(
                    "{KEY}: {domain:?} has a wildcard that is not its first label"
                )));
            }
            Ok(domain)
        })
        .collect()
}

fn days(config: &Value, key: &'static str, default: Option<u32>) -> Result<u32, InvalidField> {
    let problem = || wrong(format!("{key} must be a number of days from 1 to 36500"));
    match config.get(key) {
        None | Some(Value::Null) => default.ok_or_else(problem),
        Some(value) => value
            .as_u64()
            .and_then(|days| u32::try_from(days).ok())
            .filter(|days| (1..=36_500).contains(days))
            .ok_or_else(problem),
    }
}

#[cfg(test)]
mod tests;
