//! Managed certificates: making, reading, changing, archiving.

use std::collections::BTreeMap;

use certctl_domain::{
    access::{Actor, Permission},
    audit::EventCategory,
    certificate::{
        Certificate, CertificateEvent, CertificateSource, CertificateStatus, CertificateVersion,
    },
    id::{CertificateId, IssuerId, OwnerId, ProfileId, RenewalPolicyId, TargetId, TeamId},
    name::{CommonName, SubjectAltName},
    page::{Page, PageRequest},
    target::Target,
    time::Timestamp,
    validation::{InvalidField, MAX_NAME, optional_text, required_text},
};
use certctl_repository::{
    Conn,
    certificates::{self, CertificateFilter, CertificateOrder},
    issuers, owners, profiles, renewal_policies, targets, teams, transaction, versions,
};
use serde_json::json;

use crate::{
    Error, Services,
    error::Expect as _,
    jobs::call_off_waiting,
    policies,
    services::{authorise, event, record},
    totals::Asked,
};

/// Names of one certificate at the most.
pub const MAX_SANS: usize = 100;
/// Labels of one certificate at the most.
const MAX_TAGS: usize = 64;
/// Targets of one certificate at the most.
const MAX_TARGETS: usize = 200;

/// What a caller says of a certificate; on an update, absent fields stay as they are.
#[derive(Debug, Clone, Default)]
pub struct CertificateInput {
    /// The id; made when absent. Not read on an update.
    pub id: Option<String>,
    /// The name.
    pub name: Option<String>,
    /// The common name.
    pub common_name: Option<String>,
    /// Further names.
    pub sans: Option<Vec<String>>,
    /// Where it is used.
    pub environment: Option<String>,
    /// Who answers for it.
    pub owner_id: Option<String>,
    /// Which team does.
    pub team_id: Option<String>,
    /// Who issues it.
    pub issuer_id: Option<String>,
    /// How it is renewed.
    pub renewal_policy_id: Option<String>,
    /// What it may be.
    pub certificate_profile_id: Option<String>,
    /// The state it is entered in.
    pub status: Option<String>,
    /// The end of a version that exists elsewhere. Not read on an update.
    pub expires_at: Option<Timestamp>,
    /// Free labels.
    pub tags: Option<BTreeMap<String, String>>,
    /// Where it is deployed.
    pub target_ids: Option<Vec<String>>,
}

impl Services {
    /// Lists certificates.
    ///
    /// # Errors
    /// [`Error::Forbidden`] without `cert.read`.
    pub async fn list_certificates(
        &self,
        actor: &Actor,
        filter: &CertificateFilter,
        order: CertificateOrder,
        descending: bool,
        page: PageRequest,
    ) -> Result<Page<Certificate>, Error> {
        authorise(actor, Permission::CertRead)?;
        let rows = {
            let mut conn = self.read().await?;
            certificates::list_page(&mut conn, filter, order, descending, page).await?
        };
        let total = self.count(&Asked::Certificates(filter.clone())).await?;
        Ok(Page { rows, total })
    }

    /// Lists certificates after a position in the order (created_at, id) descending, with one row more than `limit` when there
    /// are further ones, and the count of all matches.
    ///
    /// # Errors
    /// [`Error::Forbidden`] without `cert.read`.
    pub async fn list_certificates_after(
        &self,
        actor: &Actor,
        filter: &CertificateFilter,
        after: Option<(Timestamp, &str)>,
        limit: u32,
    ) -> Result<(Vec<Certificate>, i64), Error> {
        authorise(actor, Permission::CertRead)?;
        let rows = {
            let mut conn = self.read().await?;
            certificates::list_after(&mut conn, filter, after, i64::from(limit) + 1).await?
        };
        let total = self.count(&Asked::Certificates(filter.clone())).await?;
        Ok((rows, total))
    }

    /// Reads a certificate.
    ///
    /// # Errors
    /// [`Error::Forbidden`] without `cert.read`, [`Error::NotFound`].
    pub async fn get_certificate(
        &self,
        actor: &Actor,
        id: &CertificateId,
    ) -> Result<Certificate, Error> {
        authorise(actor, Permission::CertRead)?;
        certificates::find(&mut self.read().await?, id)
            .await
            .or_not_found("certificate", id)
    }

    /// Enters a certificate. Nothing is issued by it: the first issuance is a renewal (api §11.2).
    ///
    /// # Errors
    /// [`Error::Forbidden`] without `cert.issue`, [`Error::Invalid`] naming the field, also for an owner, team, issuer, policy,
    /// profile or target that does not exist, [`Error::Conflict`] when the id or name is taken.
    pub async fn create_certificate(
        &self,
        actor: &Actor,
        input: CertificateInput,
    ) -> Result<Certificate, Error> {
        authorise(actor, Permission::CertIssue)?;
        let now = self.now();
        let certificate = parse_new(&input, now)?;
        transaction!(self.db, "create certificate", conn => {
            check_references(conn, &certificate).await?;
            certificates::insert(conn, &certificate)
                .await
                .or_conflict(|| format!("a certificate named {:?} or with this id exists", certificate.name))?;
            let details = json!({"common_name": certificate.common_name.as_str(), "issuer_id": certificate.issuer_id.as_str()});
            record(conn, event(actor, EventCategory::CertLifecycle, "certificate_created", ("certificate", certificate.id.as_str()), details, now)).await?;
            policies::evaluate(conn, actor, std::slice::from_ref(&certificate.id), now).await?;
            Ok::<_, Error>(())
        })?;
        Ok(certificate)
    }

    /// Changes a certificate.
    ///
    /// # Errors
    /// [`Error::Forbidden`] without `cert.edit`, [`Error::NotFound`], [`Error::Invalid`], [`Error::Conflict`] when the name is
    /// taken or the certificate changed at the same moment.
    pub async fn update_certificate(
        &self,
        actor: &Actor,
        id: &CertificateId,
        input: CertificateInput,
    ) -> Result<Certificate, Error> {
        authorise(actor, Permission::CertEdit)?;
        let now = self.now();
        transaction!(self.db, "update certificate", conn => {
            let mut certificate = certificates::find_for_update(conn, id).await.or_not_found("certificate", id)?;
            let seen = certificate.status;
            let (targets_before, policy_before) = (certificate.target_ids.clone(), certificate.renewal_policy_id.clone());
            merge(&mut certificate, &input)?;
            if certificate.renewal_policy_id != policy_before {
                // The next scan plans the renewal anew, by the window of the policy it has now.
                certificate.renew_at = None;
            }
            certificate.updated_at = now;
            check_references(conn, &certificate).await?;
            certificates::update(conn, &certificate, seen).await.or_conflict(|| format!("a certificate named {:?} exists", certificate.name))?;
            if certificate.target_ids != targets_before {
                certificates::replace_mappings(conn, id, &certificate.target_ids).await?;
            }
            record(conn, event(actor, EventCategory::CertLifecycle, "certificate_updated", ("certificate", id.as_str()), json!({}), now)).await?;
            policies::evaluate(conn, actor, std::slice::from_ref(id), now).await?;
            Ok::<_, Error>(certificate)
        })
    }

    /// Archives a certificate: the row is kept, nothing happens to it any more. Archiving twice changes nothing.
    ///
    /// # Errors
    /// [`Error::Forbidden`] without `cert.delete`, [`Error::NotFound`].
    pub async fn archive_certificate(
        &self,
        actor: &Actor,
        id: &CertificateId,
    ) -> Result<(), Error> {
        authorise(actor, Permission::CertDelete)?;
        let now = self.now();
        transaction!(self.db, "archive certificate", conn => {
            let mut certificate = certificates::find_for_update(conn, id).await.or_not_found("certificate", id)?;
            if certificate.status == CertificateStatus::Archived {
                return Ok(());
            }
            let seen = certificate.status;
            certificate.status = seen.transition(CertificateEvent::Archive).map_err(|error| Error::Conflict(error.to_string()))?;
            certificate.updated_at = now;
            certificates::update(conn, &certificate, seen).await?;
            call_off_waiting(conn, actor, id, "the certificate was archived", now).await?;
            record(conn, event(actor, EventCategory::CertLifecycle, "certificate_archived", ("certificate", id.as_str()), json!({}), now)).await?;
            Ok::<_, Error>(())
        })
    }

    /// Lists the versions of a certificate, newest first.
    ///
    /// # Errors
    /// [`Error::Forbidden`] without `cert.read`, [`Error::NotFound`].
    pub async fn list_versions(
        &self,
        actor: &Actor,
        id: &CertificateId,
        page: PageRequest,
    ) -> Result<Page<CertificateVersion>, Error> {
        authorise(actor, Permission::CertRead)?;
        let mut conn = self.read().await?;
        certificates::find(&mut conn, id)
            .await
            .or_not_found("certificate", id)?;
        Ok(versions::list(&mut conn, id, page).await?)
    }

    /// Lists the targets a certificate is mapped to.
    ///
    /// # Errors
    /// [`Error::Forbidden`] without `cert.read`, [`Error::NotFound`].
    pub async fn list_deployments(
        &self,
        actor: &Actor,
        id: &CertificateId,
    ) -> Result<Vec<Target>, Error> {
        authorise(actor, Permission::CertRead)?;
        let mut conn = self.read().await?;
        certificates::find(&mut conn, id)
            .await
            .or_not_found("certificate", id)?;
        let mapped = targets::of_certificate(&mut conn, id).await?;
        Ok(mapped.into_iter().map(crate::targets::shown).collect())
    }
}

/// A required id of another thing.
fn reference<T>(
    field: &'static str,
    given: Option<&str>,
    parse: impl FnOnce(&str) -> Result<T, certctl_domain::id::InvalidId>,
) -> Result<T, InvalidField> {
    let text = given
        .filter(|text| !text.is_empty())
        .ok_or_else(|| InvalidField::required(field))?;
    parse(text).map_err(|error| InvalidField::new(field, error.to_string()))
}

fn parse_new(input: &CertificateInput, now: Timestamp) -> Result<Certificate, Error> {
    let blank = |text: &Option<String>| text.clone().unwrap_or_default();
    let mut certificate = Certificate {
        id: match input.id.as_deref().filter(|id| !id.is_empty()) {
            Some(id) => CertificateId::parse(id)
                .map_err(|error| InvalidField::new("id", error.to_string()))?,
            None => CertificateId::generate(now),
        },
        name: required_text("name", &blank(&input.name), MAX_NAME)?,
        common_name: CommonName::parse(&blank(&input.common_name))?,
        sans: Vec::new(),
        environment: String::new(),
        owner_id: reference("owner_id", input.owner_id.as_deref(), OwnerId::parse)?,
        team_id: reference("team_id", input.team_id.as_deref(), TeamId::parse)?,
        issuer_id: reference("issuer_id", input.issuer_id.as_deref(), IssuerId::parse)?,
        target_ids: Vec::new(),
        renewal_policy_id: reference(
            "renewal_policy_id",
            input.renewal_policy_id.as_deref(),
            RenewalPolicyId::parse,
        )?,
        profile_id: None,
        status: CertificateStatus::Pending,
        expires_at: input.expires_at,
        renew_at: None,
        tags: BTreeMap::new(),
        last_renewal_at: None,
        last_deployment_at: None,
        revoked_at: None,
        revocation_reason: None,
        source: CertificateSource::Api,
        created_at: now,
        updated_at: now,
    };
    merge(&mut certificate, input)?;
    Ok(certificate)
}

/// Puts what the caller said over what is there.
fn merge(certificate: &mut Certificate, input: &CertificateInput) -> Result<(), Error> {
    let given = |text: &Option<String>| text.clone().filter(|text| !text.is_empty());
    if let Some(name) = given(&input.name) {
        certificate.name = required_text("name", &name, MAX_NAME)?;
    }
    if let Some(name) = given(&input.common_name) {
        certificate.common_name = CommonName::parse(&name)?;
    }
    if let Some(sans) = &input.sans {
        certificate.sans = parse_sans(sans)?;
    }
    if let Some(environment) = given(&input.environment) {
        certificate.environment = optional_text("environment", &environment, 50)?;
    }
    if let Some(id) = given(&input.owner_id) {
        certificate.owner_id = reference("owner_id", Some(&id), OwnerId::parse)?;
    }
    if let Some(id) = given(&input.team_id) {
        certificate.team_id = reference("team_id", Some(&id), TeamId::parse)?;
    }
    if let Some(id) = given(&input.issuer_id) {
        certificate.issuer_id = reference("issuer_id", Some(&id), IssuerId::parse)?;
    }
    if let Some(id) = given(&input.renewal_policy_id) {
        certificate.renewal_policy_id =
            reference("renewal_policy_id", Some(&id), RenewalPolicyId::parse)?;
    }
    if let Some(id) = given(&input.certificate_profile_id) {
        certificate.profile_id = Some(reference(
            "certificate_profile_id",
            Some(&id),
            ProfileId::parse,
        )?);
    }
    if let Some(status) = given(&input.status) {
        certificate.status = parse_status(&status, certificate.status)?;
    }
    if let Some(tags) = &input.tags {
        certificate.tags = parse_tags(tags)?;
    }
    if let Some(ids) = &input.target_ids {
        certificate.target_ids = parse_targets(ids)?;
    }
    Ok(())
}

/// A state may be entered by hand, but not left when it is terminal, and not one that only a use case of its own brings about.
fn parse_status(text: &str, present: CertificateStatus) -> Result<CertificateStatus, InvalidField> {
    let refuse = |problem: String| InvalidField::new("status", problem);
    let wanted = CertificateStatus::parse(text).map_err(|error| refuse(error.to_string()))?;
    if wanted == present {
        return Ok(wanted);
    }
    if matches!(
        present,
        CertificateStatus::Revoked | CertificateStatus::Archived
    ) {
        return Err(refuse(format!("a certificate that is {present} stays so")));
    }
    match wanted {
        CertificateStatus::Archived => Err(refuse(
            "a certificate is archived by deleting it".to_owned(),
        )),
        CertificateStatus::Revoked => Err(refuse(
            "a certificate is revoked by its revoke operation".to_owned(),
        )),
        CertificateStatus::RenewalInProgress => Err(refuse(
            "a certificate is renewed by its renew operation".to_owned(),
        )),
        _ => Ok(wanted),
    }
}

fn parse_sans(sans: &[String]) -> Result<Vec<String>, InvalidField> {
    if sans.len() > MAX_SANS {
        return Err(InvalidField::new(
            "sans",
            format!("has more than {MAX_SANS} entries"),
        ));
    }
    let mut names: Vec<String> = Vec::with_capacity(sans.len());
    for text in sans {
        let name = SubjectAltName::parse(text)?.to_string();
        if !names.contains(&name) {
            names.push(name);
        }
    }
    Ok(names)
}

fn parse_tags(tags: &BTreeMap<String, String>) -> Result<BTreeMap<String, String>, InvalidField> {
    if tags.len() > MAX_TAGS {
        return Err(InvalidField::new(
            "tags",
            format!("has more than {MAX_TAGS} entries"),
        ));
    }
    for (key, value) in tags {
        required_text("tags", key, 128)?;
        optional_text("tags", value, 1024)?;
    }
    Ok(tags.clone())
}

fn parse_targets(ids: &[String]) -> Result<Vec<TargetId>, InvalidField> {
    if ids.len() > MAX_TARGETS {
        return Err(InvalidField::new(
            "target_ids",
            format!("has more than {MAX_TARGETS} entries"),
        ));
    }
    let mut targets = ids
        .iter()
        .map(|id| {
            TargetId::parse(id).map_err(|error| InvalidField::new("target_ids", error.to_string()))
        })
        .collect::<Result<Vec<_>, _>>()?;
    targets.sort();
    targets.dedup();
    Ok(targets)
}

/// Names the reference that leads nowhere; the database would only say that one does.
async fn check_references(conn: &mut Conn, certificate: &Certificate) -> Result<(), Error> {
    fn known<T>(
        field: &'static str,
        found: Result<T, certctl_repository::Error>,
    ) -> Result<T, Error> {
        found.map_err(|error| match error {
            certctl_repository::Error::NotFound => {
                InvalidField::new(field, "does not exist").into()
            }
            other => other.into(),
        })
    }
    known("owner_id", owners::find(conn, &certificate.owner_id).await)?;
    known("team_id", teams::find(conn, &certificate.team_id).await)?;
    known(
        "issuer_id",
        issuers::find(conn, &certificate.issuer_id).await,
    )?;
    known(
        "renewal_policy_id",
        renewal_policies::find(conn, &certificate.renewal_policy_id).await,
    )?;
    if let Some(profile) = &certificate.profile_id {
        known(
            "certificate_profile_id",
            profiles::find(conn, profile).await,
        )?;
    }
    let found = targets::find_many(conn, &certificate.target_ids).await?;
    if let Some(missing) = certificate
        .target_ids
        .iter()
        .find(|id| found.iter().all(|target| target.id != **id))
    {
        return Err(
            InvalidField::new("target_ids", format!("target {missing} does not exist")).into(),
        );
    }
    if let Some(retired) = found.iter().find(|target| target.retired_at.is_some()) {
        return Err(
            InvalidField::new("target_ids", format!("target {} is retired", retired.id)).into(),
        );
    }
    Ok(())
}
