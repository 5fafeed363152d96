//! Certificate profiles.

use certctl_domain::{
    access::{Actor, Permission, Scope},
    approval::{Approval, ApprovalKind, ApprovalState},
    audit::EventCategory,
    id::{IssuerId, ProfileId},
    key::{AllowedKey, KeyAlgorithm},
    page::{Page, PageRequest},
    profile::{AcmeAuthMode, ExtendedKeyUsage, Profile},
    time::Timestamp,
    validation::{InvalidField, MAX_NAME, optional_text, required_text},
};
use certctl_repository::{
    Conn, approvals,
    certificates::{self, CertificateFilter},
    locks, profiles, transaction,
};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::{
    Error, Services,
    approvals::count_bypassed,
    engine::request::compile,
    error::Expect as _,
    input::{deleted, new_id, one_of, reference, written},
    services::{authorise, authorise_for, event, record},
};

/// Attributes that EST clients are asked for, at the most.
const MAX_CSR_ATTRIBUTES: usize = 64;

/// What a caller says of a profile; absent fields take the defaults of the contract (model §3.4), also on an update, which
/// replaces the profile. As JSON it is the payload of an edit that waits for approval.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct ProfileInput {
    /// The id; made when absent. Not read on an update.
    #[serde(skip)]
    pub id: Option<String>,
    /// The name; required.
    pub name: String,
    /// What it is for.
    pub description: String,
    /// Which keys may be certified: ECDSA 256 and RSA 2048.
    pub allowed_key_algorithms: Option<Vec<AllowedKeyInput>>,
    /// Longest life in seconds; 0 sets no bound.
    pub max_ttl_seconds: u32,
    /// Which extended key usages are put in: `serverAuth`.
    pub allowed_ekus: Option<Vec<String>>,
    /// Regular expressions that names must match.
    pub required_san_patterns: Vec<String>,
    /// A SPIFFE id with wildcards that URI names must match.
    pub spiffe_uri_pattern: String,
    /// Whether lives under an hour are meant.
    pub allow_short_lived: bool,
    /// Whether the TLS feature extension is put in.
    pub must_staple: bool,
    /// Attributes that EST clients are asked for.
    pub required_csr_attributes: Vec<String>,
    /// How ACME authorises; empty means the configured way, which is `trust_authenticated` where none is.
    pub acme_auth_mode: String,
    /// Who signs for ACME; empty for the configured issuer, or the only enabled one.
    pub acme_issuer_id: String,
    /// Whether a second person must approve issuance, renewal and edits.
    pub requires_approval: bool,
    /// Whether it may be used; yes.
    pub enabled: Option<bool>,
}

/// One row of the allowed keys, as the caller says it.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct AllowedKeyInput {
    /// The family.
    pub algorithm: String,
    /// The least size in bits.
    pub min_size: u32,
}

/// What became of a change of a profile.
#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(
    clippy::large_enum_variant,
    reason = "one is alive at a time, and its caller takes the profile out of it"
)]
pub enum ProfileChange {
    /// It is in force.
    Applied(Profile),
    /// A second person must approve it; nothing has changed.
    Pending {
        /// The request for approval.
        approval_id: String,
    },
}

impl Services {
    /// Lists profiles, newest first.
    ///
    /// # Errors
    /// [`Error::Forbidden`] without `profile.read`.
    pub async fn list_profiles(
        &self,
        actor: &Actor,
        page: PageRequest,
    ) -> Result<Page<Profile>, Error> {
        authorise(actor, Permission::ProfileRead)?;
        Ok(profiles::list(&mut self.read().await?, page).await?)
    }

    /// Reads a profile.
    ///
    /// # Errors
    /// [`Error::Forbidden`] without `profile.read` for it, [`Error::NotFound`].
    pub async fn get_profile(&self, actor: &Actor, id: &ProfileId) -> Result<Profile, Error> {
        authorise_for(actor, Permission::ProfileRead, &scope(id))?;
        profiles::find(&mut self.read().await?, id)
            .await
            .or_not_found("profile", id)
    }

    /// Makes a profile.
    ///
    /// # Errors
    /// [`Error::Forbidden`] without `profile.edit`, [`Error::Invalid`] naming the field, [`Error::Conflict`] when the id or name
    /// is taken.
    pub async fn create_profile(
        &self,
        actor: &Actor,
        input: ProfileInput,
    ) -> Result<Profile, Error> {
        authorise(actor, Permission::ProfileEdit)?;
        let now = self.now();
        let id = new_id(input.id.as_deref(), ProfileId::parse, || {
            ProfileId::generate(now)
        })?;
        let profile = parse(id, &self.with_auth_mode(input), now)?;
        transaction!(self.db, "create profile", conn => {
            let inserted = profiles::insert(conn, &profile).await;
            written(inserted, "acme_issuer_id", || format!("a profile named {:?} or with this id exists", profile.name))?;
            let details = json!({"requires_approval": profile.requires_approval});
            record(conn, event(actor, EventCategory::Config, "create_profile", ("profile", profile.id.as_str()), details, now)).await?;
            Ok::<_, Error>(())
        })?;
        Ok(profile)
    }

    /// Replaces a profile. When it requires approval, as it stands or as it is to be, nothing changes until a second person
    /// agrees; asking again for the same gives the same request.
    ///
    /// # Errors
    /// [`Error::Forbidden`] without `profile.edit` for it, [`Error::NotFound`], [`Error::Invalid`] naming the field,
    /// [`Error::Conflict`] when the name is taken.
    pub async fn update_profile(
        &self,
        actor: &Actor,
        id: &ProfileId,
        input: ProfileInput,
    ) -> Result<ProfileChange, Error> {
        authorise_for(actor, Permission::ProfileEdit, &scope(id))?;
        let now = self.now();
        let wanted = parse(id.clone(), &self.with_auth_mode(input), now)?;
        let changed = transaction!(self.db, "update profile", conn => {
            // Locked, so that whether approval is required cannot change between the look and the write.
            locks::profile(conn, id).await.or_not_found("profile", id)?;
            let stored = profiles::find(conn, id).await.or_not_found("profile", id)?;
            let wanted = Profile { created_at: stored.created_at, ..wanted.clone() };
            let mut bypassed = None;
            if stored.requires_approval || wanted.requires_approval {
                let asked = self.request_edit(conn, actor, &wanted, now).await?;
                if asked.state == ApprovalState::Pending {
                    let approval_id = asked.id.into_string();
                    return Ok((ProfileChange::Pending { approval_id }, None));
                }
                bypassed = Some(asked);
            }
            let updated = profiles::update(conn, &wanted).await;
            written(updated, "acme_issuer_id", || format!("a profile named {:?} exists", wanted.name))?;
            record(conn, event(actor, EventCategory::Config, "update_profile", ("profile", id.as_str()), json!({}), now)).await?;
            Ok::<_, Error>((ProfileChange::Applied(wanted), bypassed))
        });
        let (change, bypassed) = changed?;
        count_bypassed(bypassed.as_slice());
        Ok(change)
    }

    /// A profile that does not say how ACME authorises takes the configured way (acme-server §2).
    fn with_auth_mode(&self, mut input: ProfileInput) -> ProfileInput {
        if let Some(acme) = &self.config.acme
            && input.acme_auth_mode.is_empty()
        {
            acme.default_auth_mode
                .as_str()
                .clone_into(&mut input.acme_auth_mode);
        }
        input
    }

    /// Enters the request for a second person, unless the same actor asks for the same already.
    async fn request_edit(
        &self,
        conn: &mut Conn,
        actor: &Actor,
        wanted: &Profile,
        now: Timestamp,
    ) -> Result<Approval, Error> {
        let payload = payload(wanted)?;
        let pending = approvals::pending_edits(conn, &wanted.id, actor.id()).await?;
        let same = |other: &Approval| other.payload.as_ref() == Some(&payload);
        if let Some(asked) = pending.into_iter().find(same) {
            return Ok(asked);
        }
        let asked = Approval {
            profile_id: wanted.id.clone(),
            payload: Some(payload),
            ..self.new_request(actor, ApprovalKind::ProfileEdit, now)
        };
        self.enter_requests(conn, actor, std::slice::from_ref(&asked), now)
            .await?;
        let details = json!({"approval_id": asked.id.as_str()});
        let resource = ("profile", wanted.id.as_str());
        let event = event(
            actor,
            EventCategory::Config,
            "profile.edit_request",
            resource,
            details,
            now,
        );
        record(conn, event).await?;
        Ok(asked)
    }

    /// Deletes a profile that nothing refers to.
    ///
    /// # Errors
    /// [`Error::Forbidden`] without `profile.delete` for it, [`Error::NotFound`], [`Error::Conflict`] while certificates or
    /// approvals refer to it.
    pub async fn delete_profile(&self, actor: &Actor, id: &ProfileId) -> Result<(), Error> {
        const REFERRED_TO: &str = "certificates or approvals refer to this profile";
        authorise_for(actor, Permission::ProfileDelete, &scope(id))?;
        let now = self.now();
        transaction!(self.db, "delete profile", conn => {
            locks::profile(conn, id).await.or_not_found("profile", id)?;
            // The database would let certificates go on without the profile, and with it without its limits.
            let filter = CertificateFilter { profile_id: Some(id.to_string()), ..CertificateFilter::default() };
            if certificates::count(conn, &filter).await? > 0 {
                return Err(Error::Conflict(REFERRED_TO.to_owned()));
            }
            deleted(profiles::delete(conn, id).await, "profile", id, REFERRED_TO)?;
            record(conn, event(actor, EventCategory::Config, "delete_profile", ("profile", id.as_str()), json!({}), now)).await?;
            Ok::<_, Error>(())
        })
    }
}

fn scope(id: &ProfileId) -> Scope {
    Scope::Profile(id.to_string())
}

/// Makes the edit that a request asks for, now that a second person agreed. What was valid when it was asked for need not be
/// any more, so that it is checked again; the rest of the profile is as it is now.
///
/// # Errors
/// [`Error::Conflict`] when the edit is not valid any more or its name is taken; the request stays open.
pub(crate) async fn apply_edit(
    conn: &mut Conn,
    actor: &Actor,
    approval: &Approval,
    now: Timestamp,
) -> Result<(), Error> {
    let id = &approval.profile_id;
    let stale =
        |problem: String| Error::Conflict(format!("the edit can no longer be applied: {problem}"));
    locks::profile(conn, id).await?;
    let stored = profiles::find(conn, id).await?;
    let payload = approval
        .payload
        .clone()
        .ok_or_else(|| stale("it says nothing".to_owned()))?;
    let input: ProfileInput =
        serde_json::from_value(payload).map_err(|error| stale(error.to_string()))?;
    let wanted = match parse(id.clone(), &input, now) {
        Ok(wanted) => wanted,
        Err(Error::Invalid(field)) => return Err(stale(field.to_string())),
        Err(other) => return Err(other),
    };
    let wanted = Profile {
        created_at: stored.created_at,
        ..wanted
    };
    match profiles::update(conn, &wanted).await {
        Err(certctl_repository::Error::Reference) => {
            return Err(stale("acme_issuer_id does not exist".to_owned()));
        }
        updated => updated.or_conflict(|| format!("a profile named {:?} exists", wanted.name))?,
    }
    let details =
        json!({"approval_id": approval.id.as_str(), "requested_by": approval.requested_by});
    let resource = ("profile", id.as_str());
    let event = event(
        actor,
        EventCategory::Config,
        "profile.edit_applied",
        resource,
        details,
        now,
    );
    record(conn, event).await
}

/// The payload of an edit: the whole profile as a caller would say it.
fn payload(profile: &Profile) -> Result<Value, Error> {
    serde_json::to_value(ProfileInput::from(profile)).map_err(Error::internal)
}

impl From<&Profile> for ProfileInput {
    fn from(profile: &Profile) -> Self {
        let keys = profile
            .allowed_key_algorithms
            .iter()
            .map(|key| AllowedKeyInput {
                algorithm: key.algorithm.to_string(),
                min_size: key.min_size,
            });
        Self {
            id: None,
            name: profile.name.clone(),
            description: profile.description.clone(),
            allowed_key_algorithms: Some(keys.collect()),
            max_ttl_seconds: profile.max_ttl_seconds,
            allowed_ekus: Some(
                profile
                    .allowed_ekus
                    .iter()
                    .map(ToString::to_string)
                    .collect(),
            ),
            required_san_patterns: profile.required_san_patterns.clone(),
            spiffe_uri_pattern: profile.spiffe_uri_pattern.clone(),
            allow_short_lived: profile.allow_short_lived,
            must_staple: profile.must_staple,
            required_csr_attributes: profile.required_csr_attributes.clone(),
            acme_auth_mode: profile.acme_auth_mode.to_string(),
            acme_issuer_id: profile
                .acme_issuer_id
                .as_ref()
                .map(ToString::to_string)
                .unwrap_or_default(),
            requires_approval: profile.requires_approval,
            enabled: Some(profile.enabled),
        }
    }
}

fn parse(id: ProfileId, input: &ProfileInput, now: Timestamp) -> Result<Profile, Error> {
    // The column is a signed 32-bit integer on both databases.
    if i32::try_from(input.max_ttl_seconds).is_err() {
        return Err(
            InvalidField::new("max_ttl_seconds", format!("is greater than {}", i32::MAX)).into(),
        );
    }
    let mode = match input.acme_auth_mode.as_str() {
        "" => AcmeAuthMode::TrustAuthenticated,
        text => one_of("acme_auth_mode", text, AcmeAuthMode::parse)?,
    };
    let acme_issuer_id = match input.acme_issuer_id.as_str() {
        "" => None,
        text => Some(reference("acme_issuer_id", text, IssuerId::parse)?),
    };
    let profile = Profile {
        id,
        name: required_text("name", &input.name, MAX_NAME)?,
        description: optional_text("description", &input.description, 4096)?,
        allowed_key_algorithms: parse_keys(input.allowed_key_algorithms.as_deref())?,
        max_ttl_seconds: input.max_ttl_seconds,
        allowed_ekus: parse_ekus(input.allowed_ekus.as_deref())?,
        required_san_patterns: parse_patterns(&input.required_san_patterns)?,
        spiffe_uri_pattern: optional_text("spiffe_uri_pattern", &input.spiffe_uri_pattern, 512)?,
        allow_short_lived: input.allow_short_lived,
        must_staple: input.must_staple,
        required_csr_attributes: parse_attributes(&input.required_csr_attributes)?,
        acme_auth_mode: mode,
        acme_issuer_id,
        requires_approval: input.requires_approval,
        enabled: input.enabled.unwrap_or(true),
        created_at: now,
        updated_at: now,
    };
    profile.check()?;
    for pattern in &profile.required_san_patterns {
        compile(pattern)
            .map_err(|error| InvalidField::new("required_san_patterns", error.to_string()))?;
    }
    Ok(profile)
}

fn parse_keys(keys: Option<&[AllowedKeyInput]>) -> Result<Vec<AllowedKey>, InvalidField> {
    const FIELD: &str = "allowed_key_algorithms";
    let Some(keys) = keys else {
        return Ok(AllowedKey::DEFAULT.to_vec());
    };
    if keys.len() > 16 {
        return Err(InvalidField::new(FIELD, "has more than 16 entries"));
    }
    keys.iter()
        .map(|key| {
            AllowedKey::new(
                one_of(FIELD, &key.algorithm, KeyAlgorithm::parse)?,
                key.min_size,
            )
        })
        .collect()
}

fn parse_ekus(ekus: Option<&[String]>) -> Result<Vec<ExtendedKeyUsage>, InvalidField> {
    let Some(ekus) = ekus else {
        return Ok(vec![ExtendedKeyUsage::ServerAuth]);
    };
    let mut usages = Vec::new();
    for eku in ekus {
        let usage = one_of("allowed_ekus", eku, ExtendedKeyUsage::parse)?;
        // Twice the same usage would be twice the same OID in the extension.
        if !usages.contains(&usage) {
            usages.push(usage);
        }
    }
    Ok(usages)
}

/// Whether they are regular expressions is checked once their number and length are.
fn parse_patterns(patterns: &[String]) -> Result<Vec<String>, InvalidField> {
    patterns
        .iter()
        .map(|pattern| required_text("required_san_patterns", pattern, 512))
        .collect()
}

fn parse_attributes(attributes: &[String]) -> Result<Vec<String>, InvalidField> {
    const FIELD: &str = "required_csr_attributes";
    if attributes.len() > MAX_CSR_ATTRIBUTES {
        return Err(InvalidField::new(
            FIELD,
            format!("has more than {MAX_CSR_ATTRIBUTES} entries"),
        ));
    }
    attributes
        .iter()
        .map(|attribute| required_text(FIELD, attribute, MAX_NAME))
        .collect()
}
