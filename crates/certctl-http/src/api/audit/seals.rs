//! What proves that the trail is as it was: heads, keys, verification, and the proof for one row.

use axum::{Json, extract::State};
use certctl_domain::{access::Permission, id::AuditEventId};
use certctl_service::audit::{
    AuditVerification, InclusionProof, SignedHead, TrailKeyView, VerifyFrom, hash_from_hex,
};
use http::StatusCode;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{AuditEventView, given};
use crate::{
    ApiError, AppState, Caller, OptionalJson, Paged, PathId, Rfc3339, extract::QueryPairs,
    routes::Route,
};

pub(super) fn routes() -> Vec<Route> {
    vec![
        Route::get("/api/v1/audit/verify", "verify_audit_trail")
            .permission(Permission::AuditRead)
            .summary("Check the audit trail against its signed heads; names the first bad row")
            .query::<VerifyQuery>()
            .refuses(&[StatusCode::BAD_REQUEST, StatusCode::CONFLICT])
            .returns::<VerificationView>()
            .handler(verify_audit_trail),
        Route::get("/api/v1/audit/heads", "list_audit_heads")
            .permission(Permission::AuditRead)
            .summary("List the signed heads of the audit trail, newest first")
            .lists::<HeadView>()
            .handler(list_audit_heads),
        Route::get("/api/v1/audit/keys", "list_audit_keys")
            .permission(Permission::AuditRead)
            .summary("List the public keys that have signed the audit trail, newest first")
            .returns::<Vec<KeyView>>()
            .handler(list_audit_keys),
        Route::post("/api/v1/audit/keys/rotate", "rotate_audit_key")
            .permission(Permission::AuthKeyRotate)
            .summary("Sign the audit trail with a new key from now on")
            .accepts_optional::<RotateKeyRequest>()
            .returns_with::<KeyView>(StatusCode::CREATED)
            .handler(rotate_audit_key),
        Route::get("/api/v1/audit/{id}/proof", "prove_audit_event")
            .permission(Permission::AuditRead)
            .summary("Prove that an event is in the audit trail (RFC 9162 §2.1.3)")
            .refuses(&[StatusCode::CONFLICT])
            .returns::<ProofView>()
            .handler(prove_audit_event),
    ]
}

/// The parameters, for the description of the API; an empty value says as much as none.
#[derive(Deserialize, JsonSchema)]
#[expect(dead_code, reason = "described here, read one by one")]
struct VerifyQuery {
    /// `start` for the first row; `checkpoint`, where the last scheduled verification ended, where none is given.
    #[schemars(extend("enum" = ["", "start", "checkpoint"]))]
    from: Option<String>,
    /// The hash of a head that must be in the part that is checked, 64 hex digits.
    #[schemars(regex(pattern = "^([0-9A-Fa-f]{64})?$"))]
    expect_head: Option<String>,
}

async fn verify_audit_trail(
    State(state): State<AppState>,
    Caller(actor): Caller,
    query: QueryPairs,
) -> Result<Json<VerificationView>, ApiError> {
    let from = match given(&query, "from").unwrap_or("checkpoint") {
        "checkpoint" => VerifyFrom::Checkpoint,
        "start" => VerifyFrom::Start,
        _ => {
            return Err(ApiError::Query(
                "from: is neither checkpoint nor start".to_owned(),
            ));
        }
    };
    let expected = given(&query, "expect_head")
        .map(|text| {
            hash_from_hex(text)
                .ok_or_else(|| ApiError::Query("expect_head: is not 64 hex digits".to_owned()))
        })
        .transpose()?;
    let found = state
        .services
        .verify_audit_log(&actor, from, expected)
        .await?;
    Ok(Json(found.into()))
}

/// What a verification found (model §8.3).
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "AuditVerification")]
struct VerificationView {
    /// Whether every row that was checked is as it was sealed.
    intact: bool,
    /// The first bad row, `position-<n>` when nothing is left of it; null when there is none.
    first_break_id: Option<String>,
    /// Its position from 0, -1 when there is none.
    #[schemars(range(min = -1))]
    first_break_pos: i64,
    /// What is wrong with it, in words.
    problem: Option<String>,
    /// Rows that were checked.
    row_count: u64,
    /// The position the check began at.
    #[schemars(range(min = 0))]
    from_seq: i64,
    /// Rows of the trail up to the last good batch.
    #[schemars(range(min = 0))]
    total_rows: i64,
    /// The number of the last good batch, 0 when there is none.
    #[schemars(range(min = 0))]
    head_batch: i64,
    /// The hash of its head.
    head_hash: String,
    /// Rows that wait to be sealed, which takes about a second.
    #[schemars(range(min = 0))]
    unsealed: i64,
    verified_at: Rfc3339,
}

impl From<AuditVerification> for VerificationView {
    fn from(found: AuditVerification) -> Self {
        let broken = found.first_break;
        Self {
            intact: broken.is_none(),
            first_break_pos: broken.as_ref().map_or(-1, |broken| broken.position),
            problem: broken.as_ref().map(|broken| broken.problem.to_string()),
            first_break_id: broken.map(|broken| broken.id),
            row_count: found.row_count,
            from_seq: found.from_seq,
            total_rows: found.verified.end_seq,
            head_batch: found.verified.batch,
            head_hash: hex::encode(found.verified.hash),
            unsealed: found.unsealed,
            verified_at: found.verified_at.into(),
        }
    }
}

async fn list_audit_heads(
    State(state): State<AppState>,
    Caller(actor): Caller,
    query: QueryPairs,
) -> Result<Json<Paged<HeadView>>, ApiError> {
    let page = query.page();
    let heads = state.services.list_audit_heads(&actor, page).await?;
    Ok(Json(Paged::new(heads, page, Into::into)))
}

/// The head of a batch. What is signed, with Ed25519, is the RFC 8785 form of the fields but `signature` and `hash`.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "AuditHead")]
struct HeadView {
    /// Its number, from 1 without gaps.
    #[schemars(range(min = 1))]
    batch: i64,
    /// The position of its first row.
    #[schemars(range(min = 0))]
    first_seq: i64,
    /// How many rows it has.
    #[schemars(range(min = 1))]
    row_count: i64,
    /// The root of the Merkle tree of its rows (RFC 9162 §2.1.1), whose leaves are their RFC 8785 forms.
    root: String,
    /// The hash of the head before; zeros for the first.
    previous: String,
    sealed_at: Rfc3339,
    /// The key that signed it.
    key_id: String,
    /// The signature, hex.
    signature: String,
    /// SHA-256 of what is signed.
    hash: String,
}

impl From<SignedHead> for HeadView {
    fn from(signed: SignedHead) -> Self {
        let hash = hex::encode(signed.head.hash());
        let head = signed.head;
        Self {
            batch: head.batch,
            first_seq: head.first_seq,
            row_count: head.row_count,
            root: hex::encode(head.root),
            previous: hex::encode(head.previous),
            sealed_at: head.sealed_at.into(),
            key_id: head.key_id,
            signature: hex::encode(signed.signature),
            hash,
        }
    }
}

async fn list_audit_keys(
    State(state): State<AppState>,
    Caller(actor): Caller,
) -> Result<Json<Vec<KeyView>>, ApiError> {
    let keys = state.services.list_audit_keys(&actor).await?;
    Ok(Json(keys.into_iter().map(Into::into).collect()))
}

async fn rotate_audit_key(
    State(state): State<AppState>,
    Caller(actor): Caller,
    OptionalJson(_): OptionalJson<RotateKeyRequest>,
) -> Result<(StatusCode, Json<KeyView>), ApiError> {
    let key = state.services.rotate_audit_key(&actor).await?;
    Ok((StatusCode::CREATED, Json(key.into())))
}

/// Nothing needs to be said.
#[derive(Deserialize, JsonSchema)]
#[schemars(rename = "RotateAuditKeyRequest")]
struct RotateKeyRequest {}

/// A key that signs the trail, or did.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "AuditKey")]
struct KeyView {
    /// What heads name it by: its subject key identifier (RFC 7093 §2).
    key_id: String,
    /// Ed25519, PEM.
    public_key_pem: String,
    created_at: Rfc3339,
    /// When another took its place; null while it signs.
    retired_at: Option<Rfc3339>,
}

impl From<TrailKeyView> for KeyView {
    fn from(key: TrailKeyView) -> Self {
        Self {
            key_id: key.key_id,
            public_key_pem: key.public_key_pem,
            created_at: key.created_at.into(),
            retired_at: key.retired_at.map(Into::into),
        }
    }
}

async fn prove_audit_event(
    State(state): State<AppState>,
    Caller(actor): Caller,
    PathId(id): PathId<AuditEventId>,
) -> Result<Json<ProofView>, ApiError> {
    Ok(Json(
        state.services.prove_audit_event(&actor, &id).await?.into(),
    ))
}

/// The proof that an event is in the trail: with `leaf` and `path` comes the root of `head`.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "AuditInclusionProof")]
struct ProofView {
    event: AuditEventView,
    /// Its position in the trail, from 0.
    #[schemars(range(min = 0))]
    seq: i64,
    /// Its place in the batch, from 0.
    #[schemars(range(min = 0))]
    leaf_index: i64,
    /// Rows in the batch.
    #[schemars(range(min = 1))]
    tree_size: i64,
    /// SHA-256 over a zero byte and the RFC 8785 form of `event`, hex.
    leaf: String,
    /// The hashes on the way to the root, lowest first, hex.
    path: Vec<String>,
    head: HeadView,
}

impl From<InclusionProof> for ProofView {
    fn from(proof: InclusionProof) -> Self {
        Self {
            event: proof.event.into(),
            seq: proof.seq,
            leaf_index: proof.leaf_index,
            tree_size: proof.tree_size,
            leaf: hex::encode(proof.leaf),
            path: proof.path.iter().map(hex::encode).collect(),
            head: proof.head.into(),
        }
    }
}
