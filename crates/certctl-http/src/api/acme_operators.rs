//! What operators do with the ACME server: keys that bind accounts to somebody known, names that are paused, accounts that are to end.
//! Beyond the contract, which has no route for any of it.

use axum::{Json, extract::State};
use certctl_domain::{
    access::Permission,
    acme::{Account, EabKey},
    id::ProfileId,
};
use certctl_service::{
    Error,
    acme::{Acme, NewEabKey, PausedName},
};
use http::StatusCode;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{ApiError, ApiJson, AppState, Caller, Paged, Paging, PathId, Rfc3339, routes::Route};

pub(crate) fn routes() -> Vec<Route> {
    // Where the ACME server is switched off.
    let off = [StatusCode::SERVICE_UNAVAILABLE];
    vec![
        Route::get("/api/v1/acme/accounts", "list_acme_accounts")
            .permission(Permission::ProfileRead)
            .summary("Lists ACME accounts, the newest first")
            .refuses(&off)
            .lists::<AccountView>()
            .handler(list_accounts),
        Route::post("/api/v1/acme/accounts/{id}/revoke", "revoke_acme_account")
            .permission(Permission::ProfileEdit)
            .summary("Ends an ACME account for good, and its orders that are open")
            .refuses(&off)
            .returns_nothing()
            .handler(revoke_account),
        Route::post("/api/v1/acme/accounts/{id}/unpause", "unpause_acme_account")
            .permission(Permission::ProfileEdit)
            .summary("Lets an ACME account order the names again that were paused because their proofs kept failing")
            .refuses(&off)
            .returns::<UnpausedView>()
            .handler(unpause),
        Route::get("/api/v1/acme/paused-names", "list_acme_paused_names")
            .permission(Permission::ProfileRead)
            .summary("Lists names that are paused for an ACME account, the latest first")
            .refuses(&off)
            .lists::<PausedNameView>()
            .handler(list_paused_names),
        Route::get("/api/v1/acme/eab-keys", "list_acme_eab_keys")
            .permission(Permission::ProfileRead)
            .summary("Lists keys for external account binding, the newest first; never their secrets")
            .refuses(&off)
            .lists::<EabKeyView>()
            .handler(list_eab_keys),
        Route::post("/api/v1/acme/eab-keys", "create_acme_eab_key")
            .permission(Permission::ProfileEdit)
            .summary("Makes a key that binds one ACME account, and shows its secret this once")
            .accepts::<EabKeyRequest>()
            .refuses(&[StatusCode::CONFLICT])
            .refuses(&off)
            .returns_with::<NewEabKeyView>(StatusCode::CREATED)
            .handler(create_eab_key),
        Route::delete("/api/v1/acme/eab-keys/{id}", "revoke_acme_eab_key")
            .permission(Permission::ProfileEdit)
            .summary("Revokes a key for external account binding; the account that was made with it stays")
            .refuses(&off)
            .returns_nothing()
            .handler(revoke_eab_key),
    ]
}

fn acme(state: &AppState) -> Result<Acme, ApiError> {
    let off = || Error::Disabled("the ACME server is switched off".to_owned());
    Ok(state.services.acme().ok_or_else(off)?)
}

async fn list_accounts(
    State(state): State<AppState>,
    Caller(actor): Caller,
    Paging(page): Paging,
) -> Result<Paged<AccountView>, ApiError> {
    let accounts = acme(&state)?.list_accounts(&actor, page).await?;
    Ok(Paged::new(accounts, page, Into::into))
}

async fn revoke_account(
    State(state): State<AppState>,
    Caller(actor): Caller,
    PathId(id): PathId<String>,
) -> Result<StatusCode, ApiError> {
    acme(&state)?.revoke_account(&actor, &id).await?;
    Ok(StatusCode::NO_CONTENT)
}

async fn unpause(
    State(state): State<AppState>,
    Caller(actor): Caller,
    PathId(id): PathId<String>,
) -> Result<Json<UnpausedView>, ApiError> {
    let unpaused = acme(&state)?.unpause_names(&actor, &id).await?;
    Ok(Json(UnpausedView { unpaused }))
}

async fn list_paused_names(
    State(state): State<AppState>,
    Caller(actor): Caller,
    Paging(page): Paging,
) -> Result<Paged<PausedNameView>, ApiError> {
    let names = acme(&state)?.list_paused_names(&actor, page).await?;
    Ok(Paged::new(names, page, Into::into))
}

async fn list_eab_keys(
    State(state): State<AppState>,
    Caller(actor): Caller,
    Paging(page): Paging,
) -> Result<Paged<EabKeyView>, ApiError> {
    let keys = acme(&state)?.list_eab_keys(&actor, page).await?;
    Ok(Paged::new(keys, page, Into::into))
}

async fn create_eab_key(
    State(state): State<AppState>,
    Caller(actor): Caller,
    ApiJson(body): ApiJson<EabKeyRequest>,
) -> Result<(StatusCode, Json<NewEabKeyView>), ApiError> {
    let acme = acme(&state)?;
    let absent = || certctl_domain::validation::InvalidField::new("profile_id", "is not an id");
    let profile = ProfileId::parse(&body.profile_id).map_err(|_| absent())?;
    let made = acme
        .create_eab_key(&actor, &profile, body.kid.as_deref())
        .await?;
    Ok((StatusCode::CREATED, Json(made.into())))
}

async fn revoke_eab_key(
    State(state): State<AppState>,
    Caller(actor): Caller,
    PathId(id): PathId<String>,
) -> Result<StatusCode, ApiError> {
    acme(&state)?.revoke_eab_key(&actor, &id).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// An ACME account.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "AcmeAccount")]
struct AccountView {
    /// The end of its URL.
    id: String,
    /// `valid`, `deactivated` or `revoked`.
    status: &'static str,
    profile_id: String,
    /// Who owns what it orders; absent for the configured owner.
    #[serde(skip_serializing_if = "Option::is_none")]
    owner_id: Option<String>,
    /// `mailto:` URLs.
    contact: Vec<String>,
    /// RFC 7638 thumbprint of its key.
    jwk_thumbprint: String,
    terms_of_service_agreed: bool,
    created_at: Rfc3339,
    updated_at: Rfc3339,
}

impl From<Account> for AccountView {
    fn from(account: Account) -> Self {
        Self {
            id: account.id.to_string(),
            status: account.status.as_str(),
            profile_id: account.profile_id.into_string(),
            owner_id: account
                .owner_id
                .map(certctl_domain::id::OwnerId::into_string),
            contact: account.contact,
            jwk_thumbprint: account.thumbprint,
            terms_of_service_agreed: account.terms_agreed,
            created_at: account.created_at.into(),
            updated_at: account.updated_at.into(),
        }
    }
}

/// How many names may be ordered again.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "AcmeUnpaused")]
struct UnpausedView {
    unpaused: usize,
}

/// A name whose proofs kept failing for an account.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "AcmePausedName")]
struct PausedNameView {
    account_id: String,
    /// `dns` or `ip`.
    #[serde(rename = "type")]
    kind: &'static str,
    value: String,
    /// How often its proof failed in a row.
    failures: u32,
    last_failed_at: Rfc3339,
    paused_at: Rfc3339,
}

impl From<PausedName> for PausedNameView {
    fn from(name: PausedName) -> Self {
        Self {
            account_id: name.account_id.to_string(),
            kind: name.identifier.identifier_type().as_str(),
            value: name.identifier.to_string(),
            failures: name.failures,
            last_failed_at: name.last_failed_at.into(),
            paused_at: name.paused_at.into(),
        }
    }
}

/// A key to make.
#[derive(Debug, Deserialize, JsonSchema)]
#[schemars(rename = "AcmeEabKeyRequest")]
struct EabKeyRequest {
    /// For accounts of which profile.
    #[schemars(length(min = 1, max = 128), regex(pattern = r"^[A-Za-z0-9._-]+$"))]
    profile_id: String,
    /// Its name, visible ASCII; one is made up where there is none.
    #[serde(default)]
    #[schemars(length(max = 128), regex(pattern = "^[!-~]*$"))]
    kid: Option<String>,
}

/// A key for external account binding (RFC 8555 §7.3.4).
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "AcmeEabKey")]
struct EabKeyView {
    kid: String,
    profile_id: String,
    /// The account that it binds; absent until it is used. It binds one only.
    #[serde(skip_serializing_if = "Option::is_none")]
    bound_account_id: Option<String>,
    created_at: Rfc3339,
    /// Absent while it may be used.
    #[serde(skip_serializing_if = "Option::is_none")]
    revoked_at: Option<Rfc3339>,
}

impl From<EabKey> for EabKeyView {
    fn from(key: EabKey) -> Self {
        Self {
            kid: key.id.as_str().to_owned(),
            profile_id: key.profile_id.into_string(),
            bound_account_id: key.bound_account_id.map(|id| id.to_string()),
            created_at: key.created_at.into(),
            revoked_at: key.revoked_at.map(Into::into),
        }
    }
}

/// A key that was just made.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "AcmeNewEabKey")]
struct NewEabKeyView {
    kid: String,
    profile_id: String,
    /// The secret of HS256, base64url without padding; shown this once.
    #[schemars(extend("contentEncoding" = "base64url"))]
    hmac_key: String,
    created_at: Rfc3339,
}

impl From<NewEabKey> for NewEabKeyView {
    fn from(made: NewEabKey) -> Self {
        Self {
            kid: made.key.id.as_str().to_owned(),
            profile_id: made.key.profile_id.into_string(),
            hmac_key: made.hmac_key.expose().to_owned(),
            created_at: made.key.created_at.into(),
        }
    }
}
