//! The list of certificates: filters, orders, pages and cursors (api §11.1).

use std::borrow::Cow;

use axum::{Json, extract::State};
use certctl_domain::{
    access::Permission,
    certificate::{Certificate, CertificateStatus},
    id::AgentId,
    page::PageRequest,
    time::Timestamp,
};
use certctl_service::{CertificateFilter, CertificateOrder};
use http::StatusCode;
use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::wire::CertificateView;
use crate::{
    ApiError, AppState, Caller, Paged,
    extract::QueryPairs,
    routes::Route,
    wire::{lenient_flag, lenient_rows},
};

pub(super) fn route() -> Route {
    Route::get("/api/v1/certificates", "list_certificates")
        .permission(Permission::CertRead)
        .summary("Lists certificates by page, or with the parameter cursor by position")
        .etag()
        .query::<ListQuery>()
        .refuses(&[StatusCode::BAD_REQUEST])
        .lists::<Row>()
        .or_returns::<CursorPage>(StatusCode::OK)
        .handler(list_certificates)
}

/// The parameters, for the description of the API; they are read leniently.
#[derive(Deserialize, JsonSchema)]
#[expect(dead_code, reason = "described here, read one by one")]
struct ListQuery {
    /// Only this state.
    status: Option<String>,
    /// Only this environment.
    environment: Option<String>,
    /// Only this owner's.
    owner_id: Option<String>,
    /// Only this team's.
    team_id: Option<String>,
    /// Only this issuer's.
    issuer_id: Option<String>,
    /// Only this profile's.
    profile_id: Option<String>,
    /// Only those mapped to a target of this agent.
    agent_id: Option<String>,
    /// Only those ending before, RFC 3339.
    expires_before: Option<String>,
    /// Only those ending after, RFC 3339.
    expires_after: Option<String>,
    /// Only those made after, RFC 3339.
    created_after: Option<String>,
    /// Only those changed after, RFC 3339.
    updated_after: Option<String>,
    /// `notAfter`, `expiresAt`, `createdAt`, `updatedAt`, `commonName`, `name`, `status` or `environment`; with `-` descending.
    sort: Option<String>,
    /// `true` or `1` for descending; anything else is ascending.
    #[serde(default)]
    #[schemars(schema_with = "lenient_flag")]
    sort_desc: Option<String>,
    /// Only these keys of each row, comma separated.
    fields: Option<String>,
    /// Rows of a page, 1 to 500, over `per_page`; what is no such number counts as absent.
    #[serde(default)]
    #[schemars(schema_with = "lenient_rows")]
    page_size: Option<String>,
    /// Present, even empty: pages by position, newest first, whatever `sort` says. Empty for the first, then `next_cursor` of the
    /// page before.
    #[schemars(regex(pattern = "^[A-Za-z0-9_-]*={0,2}$"))]
    cursor: Option<String>,
}

/// A page by position.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "CertificateCursorPage")]
struct CursorPage {
    /// The rows, newest first.
    data: Vec<Row>,
    /// How many rows match in all.
    total: i64,
    /// The position after the last row; absent on the last page.
    #[serde(skip_serializing_if = "Option::is_none")]
    next_cursor: Option<String>,
    /// Rows on a page.
    page_size: u32,
}

/// A row of the list: a certificate, or what `fields` leaves of it.
#[derive(Serialize)]
#[serde(transparent)]
struct Row(Value);

impl JsonSchema for Row {
    fn schema_name() -> Cow<'static, str> {
        "CertificateRow".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let mut schema = CertificateView::json_schema(generator);
        schema.remove("required");
        schema.insert(
            "description".to_owned(),
            "A certificate, or what `fields` leaves of it.".into(),
        );
        schema
    }
}

async fn list_certificates(
    State(state): State<AppState>,
    Caller(actor): Caller,
    query: QueryPairs,
) -> Result<Json<Value>, ApiError> {
    let after = query.get("cursor").map(parse_cursor).transpose()?;
    let Some(filter) = filter(&query) else {
        return Ok(Json(nothing(&query)));
    };
    let fields = query.get("fields").filter(|fields| !fields.is_empty());
    let page = page(&query);
    if let Some(after) = after {
        let after = after.as_ref().map(|(time, id)| (*time, id.as_str()));
        let (mut rows, total) = state
            .services
            .list_certificates_after(&actor, &filter, after, page.per_page())
            .await?;
        let more = rows.len() > page.per_page() as usize;
        rows.truncate(page.per_page() as usize);
        let next_cursor = rows.last().filter(|_| more).map(cursor_of);
        let data = rows.into_iter().map(|row| view(row, fields)).collect();
        return Ok(Json(to_value(&CursorPage {
            data,
            total,
            next_cursor,
            page_size: page.per_page(),
        })));
    }
    let (order, descending) = order(&query);
    let found = state
        .services
        .list_certificates(&actor, &filter, order, descending, page)
        .await?;
    Ok(Json(to_value(&Paged::new(found, page, |row| {
        view(row, fields)
    }))))
}

/// What to list; none for a state or an agent that there cannot be, which nothing matches.
fn filter(query: &QueryPairs) -> Option<CertificateFilter> {
    let text = |name: &str| {
        query
            .get(name)
            .filter(|text| !text.is_empty())
            .map(str::to_owned)
    };
    let time = |name: &str| {
        query
            .get(name)
            .and_then(|text| Timestamp::parse_bound(text).ok())
    };
    Some(CertificateFilter {
        status: match text("status") {
            Some(status) => Some(CertificateStatus::parse(&status).ok()?),
            None => None,
        },
        environment: text("environment"),
        owner_id: text("owner_id"),
        team_id: text("team_id"),
        issuer_id: text("issuer_id"),
        profile_id: text("profile_id"),
        agent_id: match text("agent_id") {
            Some(id) => Some(AgentId::parse(&id).ok()?),
            None => None,
        },
        expires_before: time("expires_before"),
        expires_after: time("expires_after"),
        created_after: time("created_after"),
        updated_after: time("updated_after"),
    })
}

fn page(query: &QueryPairs) -> PageRequest {
    let size = query.get("page_size").filter(|size| {
        size.parse()
            .is_ok_and(|size: u32| (1..=PageRequest::MAX_PER_PAGE).contains(&size))
    });
    PageRequest::lenient(query.get("page"), size.or_else(|| query.get("per_page")))
}

fn nothing(query: &QueryPairs) -> Value {
    let page = page(query);
    if query.has("cursor") {
        return to_value(&CursorPage {
            data: Vec::new(),
            total: 0,
            next_cursor: None,
            page_size: page.per_page(),
        });
    }
    let none = certctl_domain::page::Page {
        rows: Vec::<Row>::new(),
        total: 0,
    };
    to_value(&Paged::new(none, page, |row| row))
}

fn order(query: &QueryPairs) -> (CertificateOrder, bool) {
    let sort = query.get("sort").unwrap_or_default();
    let (name, minus) = match sort.strip_prefix('-') {
        Some(name) => (name, true),
        None => (sort, false),
    };
    let order = match name {
        "notAfter" | "expiresAt" => CertificateOrder::ExpiresAt,
        "updatedAt" => CertificateOrder::UpdatedAt,
        "commonName" => CertificateOrder::CommonName,
        "name" => CertificateOrder::Name,
        "status" => CertificateOrder::Status,
        "environment" => CertificateOrder::Environment,
        _ => CertificateOrder::CreatedAt,
    };
    (order, minus || query.flag("sort_desc"))
}

/// A row, reduced to the keys that were asked for.
fn view(row: Certificate, fields: Option<&str>) -> Row {
    let row = to_value(&CertificateView::from(row));
    Row(match (fields, row) {
        (Some(fields), Value::Object(all)) => {
            let wanted: Vec<&str> = fields.split(',').map(str::trim).collect();
            Value::Object(
                all.into_iter()
                    .filter(|(key, _)| wanted.contains(&key.as_str()))
                    .collect::<Map<_, _>>(),
            )
        }
        (_, row) => row,
    })
}

/// `<created_at>|<id>` in unpadded base64url (api §11.1).
fn cursor_of(row: &Certificate) -> String {
    use base64::Engine as _;
    base64::engine::general_purpose::URL_SAFE_NO_PAD
        .encode(format!("{}|{}", row.created_at, row.id))
}

/// The position a cursor names; none for the empty one, which begins.
fn parse_cursor(cursor: &str) -> Result<Option<(Timestamp, String)>, ApiError> {
    use base64::Engine as _;
    if cursor.is_empty() {
        return Ok(None);
    }
    let malformed = || ApiError::Query("cursor: is not one that this API made".to_owned());
    let bytes = base64::engine::general_purpose::URL_SAFE_NO_PAD
        .decode(cursor.trim_end_matches('='))
        .map_err(|_| malformed())?;
    let text = String::from_utf8(bytes).map_err(|_| malformed())?;
    let (time, id) = text.split_once('|').ok_or_else(malformed)?;
    let time = time.parse().map_err(|_| malformed())?;
    // The id of a row that others wrote may hold anything but what no database can compare with.
    if id.is_empty() || id.contains('\0') {
        return Err(malformed());
    }
    Ok(Some((time, id.to_owned())))
}

fn to_value(view: &impl Serialize) -> Value {
    serde_json::to_value(view).expect("wire types have text keys only and serialise")
}
