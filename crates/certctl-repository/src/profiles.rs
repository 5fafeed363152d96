//! Certificate profiles.

use certctl_domain::{
    id::{IssuerId, ProfileId},
    key::{AllowedKey, KeyAlgorithm},
    page::{Page, PageRequest},
    profile::{AcmeAuthMode, ExtendedKeyUsage, Profile},
};
use diesel::prelude::*;
use diesel_async::RunQueryDsl;
use serde_json::{Value, json};

use crate::{
    Conn, Error,
    schema::certificate_profiles,
    types::{At, Json, Texts},
};

#[derive(Queryable, Selectable, Insertable, AsChangeset)]
#[diesel(table_name = certificate_profiles, treat_none_as_null = true, check_for_backend(diesel::pg::Pg, diesel::sqlite::Sqlite))]
struct ProfileRow {
    id: String,
    name: String,
    description: String,
    allowed_key_algorithms: Json,
    max_ttl_seconds: i32,
    allowed_ekus: Texts,
    required_san_patterns: Texts,
    spiffe_uri_pattern: String,
    allow_short_lived: bool,
    must_staple: bool,
    required_csr_attributes: Texts,
    acme_auth_mode: String,
    acme_issuer_id: Option<String>,
    requires_approval: bool,
    enabled: bool,
    created_at: At,
    updated_at: At,
}

impl From<&Profile> for ProfileRow {
    fn from(profile: &Profile) -> Self {
        Self {
            id: profile.id.to_string(),
            name: profile.name.clone(),
            description: profile.description.clone(),
            allowed_key_algorithms: Json(
                profile.allowed_key_algorithms.iter().map(|key| json!({"algorithm": key.algorithm.as_str(), "min_size": key.min_size})).collect(),
            ),
            max_ttl_seconds: i32::try_from(profile.max_ttl_seconds).unwrap_or(i32::MAX),
            allowed_ekus: Texts(profile.allowed_ekus.iter().map(ToString::to_string).collect()),
            required_san_patterns: Texts(profile.required_san_patterns.clone()),
            spiffe_uri_pattern: profile.spiffe_uri_pattern.clone(),
            allow_short_lived: profile.allow_short_lived,
            must_staple: profile.must_staple,
            required_csr_attributes: Texts(profile.required_csr_attributes.clone()),
            acme_auth_mode: profile.acme_auth_mode.to_string(),
            acme_issuer_id: profile.acme_issuer_id.as_ref().map(ToString::to_string),
            requires_approval: profile.requires_approval,
            enabled: profile.enabled,
            created_at: At(profile.created_at),
            updated_at: At(profile.updated_at),
        }
    }
}

impl TryFrom<ProfileRow> for Profile {
    type Error = Error;

    fn try_from(row: ProfileRow) -> Result<Self, Error> {
        let corrupt = |problem: String| Error::corrupt("certificate_profiles", problem);
        Ok(Self {
            id: ProfileId::from_stored(row.id),
            name: row.name,
            description: row.description,
            allowed_key_algorithms: allowed_keys(&row.allowed_key_algorithms.0)
                .ok_or_else(|| corrupt("allowed_key_algorithms".to_owned()))?,
            max_ttl_seconds: row.max_ttl_seconds.unsigned_abs(),
            allowed_ekus: row
                .allowed_ekus
                .0
                .iter()
                .map(|eku| ExtendedKeyUsage::parse(eku))
                .collect::<Result<_, _>>()
                .map_err(|error| corrupt(error.to_string()))?,
            required_san_patterns: row.required_san_patterns.0,
            spiffe_uri_pattern: row.spiffe_uri_pattern,
            allow_short_lived: row.allow_short_lived,
            must_staple: row.must_staple,
            required_csr_attributes: row.required_csr_attributes.0,
            acme_auth_mode: AcmeAuthMode::parse(&row.acme_auth_mode)
                .map_err(|error| corrupt(error.to_string()))?,
            acme_issuer_id: row.acme_issuer_id.map(IssuerId::from_stored),
            requires_approval: row.requires_approval,
            enabled: row.enabled,
            created_at: row.created_at.0,
            updated_at: row.updated_at.0,
        })
    }
}

fn allowed_keys(json: &Value) -> Option<Vec<AllowedKey>> {
    json.as_array()?
        .iter()
        .map(|entry| {
            let algorithm = KeyAlgorithm::parse(entry.get("algorithm")?.as_str()?).ok()?;
            let min_size =
                u32::try_from(entry.get("min_size").and_then(Value::as_u64).unwrap_or(0)).ok()?;
            Some(AllowedKey {
                algorithm,
                min_size,
            })
        })
        .collect()
}

crud!(certificate_profiles, ProfileRow, Profile, ProfileId, order certificate_profiles::created_at.desc(), certificate_profiles::id);
