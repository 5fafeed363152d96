//! Issuers (api §13).

use axum::{Json, extract::State};
use certctl_domain::{
    access::Permission,
    id::IssuerId,
    issuer::{ConfigSource, HierarchyMode, Issuer, IssuerType, TestStatus},
};
use certctl_service::issuers::IssuerInput;
use http::StatusCode;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{
    ApiError, ApiJson, AppState, Caller, Paged, Paging, PathId, Rfc3339,
    routes::Route,
    wire::{ChosenId, WORDS, creation, spellings},
};

pub(crate) fn routes() -> Vec<Route> {
    const COLLECTION: &str = "/api/v1/issuers";
    const ITEM: &str = "/api/v1/issuers/{id}";
    vec![
        Route::get(COLLECTION, "list_issuers")
            .permission(Permission::IssuerRead)
            .lists::<IssuerView>()
            .handler(list_issuers),
        Route::post(COLLECTION, "create_issuer")
            .permission(Permission::IssuerEdit)
            .accepts::<NewIssuer>()
            .refuses(&[StatusCode::CONFLICT])
            .returns_with::<IssuerView>(StatusCode::CREATED)
            .handler(create_issuer),
        Route::get(ITEM, "get_issuer")
            .permission_at_issuer(Permission::IssuerRead)
            .returns::<IssuerView>()
            .handler(get_issuer),
        Route::put(ITEM, "update_issuer")
            .permission_at_issuer(Permission::IssuerEdit)
            .summary("Update issuer; absent fields and masked values stay as they are")
            .accepts::<IssuerRequest>()
            .refuses(&[StatusCode::CONFLICT])
            .returns::<IssuerView>()
            .handler(update_issuer),
        Route::delete(ITEM, "delete_issuer")
            .permission_at_issuer(Permission::IssuerDelete)
            .refuses(&[StatusCode::CONFLICT])
            .returns_nothing()
            .handler(delete_issuer),
        Route::post("/api/v1/issuers/{id}/test", "test_issuer")
            .permission_at_issuer(Permission::IssuerEdit)
            .summary("Connects to an issuer anew and stores what came of it")
            .refuses(&[StatusCode::BAD_GATEWAY])
            .returns::<IssuerTestView>()
            .handler(test_issuer),
    ]
}

crud_handlers!(IssuerId, IssuerRequest => IssuerView: list_issuers, create_issuer, get_issuer, update_issuer, delete_issuer);

async fn test_issuer(
    State(state): State<AppState>,
    Caller(actor): Caller,
    PathId(id): PathId<IssuerId>,
) -> Result<Json<IssuerTestView>, ApiError> {
    state.services.test_issuer(&actor, &id).await?;
    Ok(Json(IssuerTestView {
        status: "connection_successful",
    }))
}

/// A CA that certificates come from.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "Issuer")]
struct IssuerView {
    id: String,
    /// Unique.
    name: String,
    #[schemars(extend("enum" = spellings!(IssuerType)))]
    r#type: &'static str,
    /// Secrets are shown as `********`.
    #[schemars(extend("type" = "object"))]
    config: Value,
    enabled: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    last_tested_at: Option<Rfc3339>,
    /// What the last test of the present configuration said.
    #[schemars(extend("enum" = spellings!(TestStatus)))]
    test_status: &'static str,
    /// Whether it was made over the API or from the environment.
    #[schemars(extend("enum" = spellings!(ConfigSource)))]
    source: &'static str,
    /// Whether it signs with one CA or with a tree of them.
    #[schemars(extend("enum" = spellings!(HierarchyMode)))]
    hierarchy_mode: &'static str,
    created_at: Rfc3339,
    updated_at: Rfc3339,
}

impl From<Issuer> for IssuerView {
    fn from(issuer: Issuer) -> Self {
        Self {
            id: issuer.id.into_string(),
            name: issuer.name,
            r#type: issuer.issuer_type.as_str(),
            config: issuer.config,
            enabled: issuer.enabled,
            last_tested_at: issuer.last_tested_at.map(Into::into),
            test_status: issuer.test_status.as_str(),
            source: issuer.source.as_str(),
            hierarchy_mode: issuer.hierarchy_mode.as_str(),
            created_at: issuer.created_at.into(),
            updated_at: issuer.updated_at.into(),
        }
    }
}

/// What is said of an issuer; on an update absent fields stay as they are. It holds secrets, so it does not print.
#[derive(Deserialize, JsonSchema)]
struct IssuerRequest {
    /// Made when absent; not read on an update.
    id: Option<ChosenId>,
    /// Unique; required on creation.
    #[schemars(length(min = 1, max = 255), regex(pattern = WORDS), example = &"Second CA")]
    name: Option<String>,
    /// Required on creation; in any capitalisation, and `GenericCA` also as `local` or `local_ca`. A kind that this build does not
    /// connect to is refused.
    #[schemars(extend("enum" = kinds()), example = &"GenericCA")]
    r#type: Option<String>,
    /// What it takes depends on the kind; a value of `********` keeps what is stored.
    #[schemars(extend("type" = ["object", "null"]))]
    config: Option<Value>,
    /// True when absent on creation.
    enabled: Option<bool>,
    /// `single` when absent on creation.
    #[schemars(extend("enum" = spellings!(HierarchyMode, or none)))]
    hierarchy_mode: Option<String>,
}

creation!(NewIssuer: IssuerRequest, "name", "type");

fn kinds() -> Vec<Option<&'static str>> {
    let mut kinds = spellings!(IssuerType, or none);
    kinds.extend([Some("local"), Some("local_ca")]);
    kinds
}

impl From<IssuerRequest> for IssuerInput {
    fn from(body: IssuerRequest) -> Self {
        Self {
            id: body.id.map(ChosenId::into_string),
            name: body.name,
            issuer_type: body.r#type,
            config: body.config,
            enabled: body.enabled,
            hierarchy_mode: body.hierarchy_mode,
        }
    }
}

/// An issuer that could be connected to.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "IssuerTest")]
struct IssuerTestView {
    #[schemars(extend("enum" = ["connection_successful"]))]
    status: &'static str,
}
