//! Certificate profiles (api §21).

use axum::{
    Json,
    extract::State,
    response::{IntoResponse, Response},
};
use certctl_domain::{
    access::Permission,
    id::{IssuerId, ProfileId},
    key::KeyAlgorithm,
    profile::{AcmeAuthMode, ExtendedKeyUsage, Profile},
};
use certctl_service::profiles::{AllowedKeyInput, ProfileChange, ProfileInput};
use http::StatusCode;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::{
    ApiError, ApiJson, AppState, Caller, Paged, Paging, PathId, Rfc3339,
    routes::Route,
    wire::{ChosenId, ID_OR_NONE, TEXT, WORDS, spellings},
};

pub(crate) fn routes() -> Vec<Route> {
    const COLLECTION: &str = "/api/v1/profiles";
    const ITEM: &str = "/api/v1/profiles/{id}";
    vec![
        Route::get(COLLECTION, "list_profiles")
            .permission(Permission::ProfileRead)
            .lists::<ProfileView>()
            .handler(list_profiles),
        Route::post(COLLECTION, "create_profile")
            .permission(Permission::ProfileEdit)
            .accepts::<ProfileRequest>()
            .refuses(&[StatusCode::CONFLICT])
            .returns_with::<ProfileView>(StatusCode::CREATED)
            .handler(create_profile),
        Route::get(ITEM, "get_profile")
            .permission_at_profile(Permission::ProfileRead)
            .returns::<ProfileView>()
            .handler(get_profile),
        Route::put(ITEM, "update_profile")
            .permission_at_profile(Permission::ProfileEdit)
            .summary("Replace a profile, or ask for it where a second person must approve")
            .accepts::<ProfileRequest>()
            .refuses(&[StatusCode::CONFLICT])
            .returns::<ProfileView>()
            .or_returns::<PendingView>(StatusCode::ACCEPTED)
            .handler(update_profile),
        Route::delete(ITEM, "delete_profile")
            .permission_at_profile(Permission::ProfileDelete)
            .refuses(&[StatusCode::CONFLICT])
            .returns_nothing()
            .handler(delete_profile),
    ]
}

async fn list_profiles(
    State(state): State<AppState>,
    Caller(actor): Caller,
    Paging(page): Paging,
) -> Result<Paged<ProfileView>, ApiError> {
    let profiles = state.services.list_profiles(&actor, page).await?;
    Ok(Paged::new(profiles, page, Into::into))
}

async fn create_profile(
    State(state): State<AppState>,
    Caller(actor): Caller,
    ApiJson(body): ApiJson<ProfileRequest>,
) -> Result<Response, ApiError> {
    let profile = state.services.create_profile(&actor, body.into()).await?;
    Ok((StatusCode::CREATED, Json(ProfileView::from(profile))).into_response())
}

async fn get_profile(
    State(state): State<AppState>,
    Caller(actor): Caller,
    PathId(id): PathId<ProfileId>,
) -> Result<Json<ProfileView>, ApiError> {
    Ok(Json(state.services.get_profile(&actor, &id).await?.into()))
}

async fn update_profile(
    State(state): State<AppState>,
    Caller(actor): Caller,
    PathId(id): PathId<ProfileId>,
    ApiJson(body): ApiJson<ProfileRequest>,
) -> Result<Response, ApiError> {
    let services = &state.services;
    Ok(
        match services.update_profile(&actor, &id, body.into()).await? {
            ProfileChange::Applied(profile) => Json(ProfileView::from(profile)).into_response(),
            ProfileChange::Pending { approval_id } => {
                (StatusCode::ACCEPTED, Json(PendingView::of(approval_id))).into_response()
            }
        },
    )
}

async fn delete_profile(
    State(state): State<AppState>,
    Caller(actor): Caller,
    PathId(id): PathId<ProfileId>,
) -> Result<StatusCode, ApiError> {
    state.services.delete_profile(&actor, &id).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// What certificates may be issued under this name.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "CertificateProfile")]
struct ProfileView {
    id: String,
    /// Unique.
    name: String,
    description: String,
    /// Which keys may be certified; the first is what certctl makes itself.
    allowed_key_algorithms: Vec<AllowedKeyView>,
    /// Longest life; 0 sets no bound.
    max_ttl_seconds: u32,
    allowed_ekus: Vec<&'static str>,
    /// Regular expressions; every name must match one of them when there are any.
    required_san_patterns: Vec<String>,
    /// A SPIFFE id with wildcards that URI names must match; may be empty.
    spiffe_uri_pattern: String,
    /// Whether lives under an hour are meant.
    allow_short_lived: bool,
    /// Whether the TLS feature extension is put in (RFC 7633).
    must_staple: bool,
    /// Attributes that EST clients are asked for.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    required_csr_attributes: Vec<String>,
    /// `trust_authenticated` or `challenge`.
    acme_auth_mode: &'static str,
    /// Who signs for ACME; absent for the configured issuer, or the only enabled one.
    #[serde(skip_serializing_if = "Option::is_none")]
    acme_issuer_id: Option<String>,
    /// Whether a second person must approve issuance, renewal and edits; absent when not.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    requires_approval: bool,
    enabled: bool,
    created_at: Rfc3339,
    updated_at: Rfc3339,
}

/// A kind of key that may be certified.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "AllowedKey")]
struct AllowedKeyView {
    /// `RSA`, `ECDSA` or `Ed25519`.
    algorithm: &'static str,
    /// The least size in bits; 0 for Ed25519.
    min_size: u32,
}

impl From<Profile> for ProfileView {
    fn from(profile: Profile) -> Self {
        let keys = profile
            .allowed_key_algorithms
            .iter()
            .map(|key| AllowedKeyView {
                algorithm: key.algorithm.as_str(),
                min_size: key.min_size,
            });
        Self {
            id: profile.id.into_string(),
            name: profile.name,
            description: profile.description,
            allowed_key_algorithms: keys.collect(),
            max_ttl_seconds: profile.max_ttl_seconds,
            allowed_ekus: profile
                .allowed_ekus
                .iter()
                .map(|eku| eku.as_str())
                .collect(),
            required_san_patterns: profile.required_san_patterns,
            spiffe_uri_pattern: profile.spiffe_uri_pattern,
            allow_short_lived: profile.allow_short_lived,
            must_staple: profile.must_staple,
            required_csr_attributes: profile.required_csr_attributes,
            acme_auth_mode: profile.acme_auth_mode.as_str(),
            acme_issuer_id: profile.acme_issuer_id.map(IssuerId::into_string),
            requires_approval: profile.requires_approval,
            enabled: profile.enabled,
            created_at: profile.created_at.into(),
            updated_at: profile.updated_at.into(),
        }
    }
}

/// An edit that waits for a second person.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "PendingApproval")]
struct PendingView {
    /// Always `pending_approval`.
    status: &'static str,
    pending_approval_id: String,
    message: &'static str,
}

impl PendingView {
    fn of(approval_id: String) -> Self {
        Self {
            status: "pending_approval",
            pending_approval_id: approval_id,
            message: "the profile requires approval; nothing changes until a second person approves",
        }
    }
}

/// What is said of a profile; absent fields take their defaults, also on an update.
#[derive(Debug, Deserialize, JsonSchema)]
struct ProfileRequest {
    /// Made when absent; not read on an update.
    id: Option<ChosenId>,
    /// Unique.
    #[schemars(length(min = 1, max = 255), regex(pattern = WORDS))]
    name: String,
    #[schemars(length(max = 4096), regex(pattern = TEXT))]
    description: Option<String>,
    /// ECDSA 256 and RSA 2048 when absent.
    #[schemars(length(max = 16))]
    allowed_key_algorithms: Option<Vec<AllowedKeyRequest>>,
    /// 0, which sets no bound, when absent.
    #[schemars(range(min = 0, max = 2_147_483_647))]
    max_ttl_seconds: Option<u32>,
    /// `serverAuth` when absent.
    #[schemars(extend("items" = json!({ "type": "string", "enum": spellings!(ExtendedKeyUsage) })))]
    allowed_ekus: Option<Vec<String>>,
    /// Regular expressions.
    #[schemars(length(max = 64), inner(length(min = 1, max = 512), regex(pattern = WORDS)))]
    required_san_patterns: Option<Vec<String>>,
    #[schemars(
        length(max = 512),
        regex(pattern = r"^(spiffe://[^\u0000-\u0008\u000B-\u001F\u007F-\u009F]*)?$")
    )]
    spiffe_uri_pattern: Option<String>,
    /// Needs `max_ttl_seconds` of 1 to 3599.
    allow_short_lived: Option<bool>,
    must_staple: Option<bool>,
    #[schemars(length(max = 64), inner(length(min = 1, max = 255), regex(pattern = WORDS)))]
    required_csr_attributes: Option<Vec<String>>,
    /// `trust_authenticated` when absent or empty.
    #[schemars(extend("enum" = spellings!(AcmeAuthMode, or none)))]
    acme_auth_mode: Option<String>,
    /// The id of an issuer; none when absent or empty.
    #[schemars(regex(pattern = ID_OR_NONE))]
    acme_issuer_id: Option<String>,
    requires_approval: Option<bool>,
    /// True when absent.
    enabled: Option<bool>,
}

/// A kind of key that may be certified.
#[derive(Debug, Deserialize, JsonSchema)]
struct AllowedKeyRequest {
    #[schemars(extend("enum" = spellings!(KeyAlgorithm)))]
    algorithm: String,
    /// The least size in bits: RSA at least 2048, ECDSA at least 256.
    min_size: Option<u32>,
}

impl From<ProfileRequest> for ProfileInput {
    fn from(body: ProfileRequest) -> Self {
        let key = |key: AllowedKeyRequest| AllowedKeyInput {
            algorithm: key.algorithm,
            min_size: key.min_size.unwrap_or_default(),
        };
        let keys = body.allowed_key_algorithms;
        Self {
            id: body.id.map(ChosenId::into_string),
            name: body.name,
            description: body.description.unwrap_or_default(),
            allowed_key_algorithms: keys.map(|keys| keys.into_iter().map(key).collect()),
            max_ttl_seconds: body.max_ttl_seconds.unwrap_or_default(),
            allowed_ekus: body.allowed_ekus,
            required_san_patterns: body.required_san_patterns.unwrap_or_default(),
            spiffe_uri_pattern: body.spiffe_uri_pattern.unwrap_or_default(),
            allow_short_lived: body.allow_short_lived.unwrap_or_default(),
            must_staple: body.must_staple.unwrap_or_default(),
            required_csr_attributes: body.required_csr_attributes.unwrap_or_default(),
            acme_auth_mode: body.acme_auth_mode.unwrap_or_default(),
            acme_issuer_id: body.acme_issuer_id.unwrap_or_default(),
            requires_approval: body.requires_approval.unwrap_or_default(),
            enabled: body.enabled,
        }
    }
}
