//! Exports as files of lines, read from the database while they are sent.

use axum::{
    body::{Body, Bytes},
    extract::State,
    response::{IntoResponse, Response},
};
use certctl_domain::{access::Permission, audit::EventCategory, time::Timestamp};
use certctl_service::{
    Error,
    audit::{AuditExport, ExportRange, SealedExport},
};
use futures_util::stream;
use http::{HeaderValue, StatusCode, header};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::Deserialize;

use super::{AuditEventView, category, given, time};
use crate::{
    ApiError, AppState, Caller, Rfc3339, extract::QueryPairs, routes::Route, wire::spellings,
};

const NDJSON: &str = "application/x-ndjson";
/// Rows where no limit is given (api §23).
const DEFAULT_LIMIT: u32 = 50_000;

pub(super) fn routes() -> Vec<Route> {
    vec![
        Route::get("/api/v1/audit/export", "export_audit_events")
            .permission(Permission::AuditExport)
            .summary("Export audit events, one on a line, newest first")
            .query::<ExportQuery>()
            .refuses(&[StatusCode::BAD_REQUEST])
            // It is in the audit trail itself.
            .detached()
            .returns_media(NDJSON)
            .handler(export_audit_events),
    ]
}

/// The parameters, for the description of the API; an empty value says as much as none.
#[derive(Deserialize, JsonSchema)]
#[expect(dead_code, reason = "described here, read one by one")]
struct ExportQuery {
    /// Not before.
    from: Rfc3339,
    /// Not after; at most 90 days after `from`.
    to: Rfc3339,
    /// Only this part of the program; in a sealed export other rows are there by their hashes.
    #[schemars(extend("enum" = spellings!(EventCategory, or none)))]
    category: Option<String>,
    /// Rows at the most, 50,000 where none is given; a sealed export ends with the batch that reaches it.
    #[serde(default)]
    #[schemars(schema_with = "rows_or_empty")]
    limit: Option<String>,
    /// `events`, by when they happened, newest first, where none is given; `sealed` for whole batches by when they were sealed, oldest
    /// first, with what checking them offline takes.
    #[schemars(extend("enum" = ["", "events", "sealed"]))]
    format: Option<String>,
}

fn rows_or_empty(_: &mut SchemaGenerator) -> Schema {
    json_schema!({ "anyOf": [{ "type": "integer", "minimum": 1, "maximum": 100_000 }, { "const": "" }] })
}

async fn export_audit_events(
    State(state): State<AppState>,
    Caller(actor): Caller,
    query: QueryPairs,
) -> Result<Response, ApiError> {
    let needed = |name: &str| {
        time(&query, name)?.ok_or_else(|| ApiError::Query(format!("{name}: is required")))
    };
    let limit = given(&query, "limit").map_or(Ok(DEFAULT_LIMIT), |text| {
        text.parse()
            .map_err(|_| ApiError::Query("limit: is no number from 1 to 100000".to_owned()))
    })?;
    let range = ExportRange {
        from: needed("from")?,
        to: needed("to")?,
        category: category(&query)?,
        limit,
    };
    let (from, to) = (range.from, range.to);
    match given(&query, "format").unwrap_or("events") {
        "events" => {
            let export = state.services.export_audit(&actor, range).await?;
            Ok(file(
                "certctl-audit",
                from,
                to,
                Body::from_stream(events(export)),
            ))
        }
        "sealed" => {
            let export = state.services.export_sealed_audit(&actor, range).await?;
            let body = Body::from_stream(batches(export));
            Ok(file("certctl-audit-sealed", from, to, body))
        }
        _ => Err(ApiError::Query(
            "format: is neither events nor sealed".to_owned(),
        )),
    }
}

/// The named days are those of the range, in UTC.
fn file(name: &str, from: Timestamp, to: Timestamp, body: Body) -> Response {
    let day = |time: Timestamp| time.to_string().chars().take(10).collect::<String>();
    let name = format!(
        "attachment; filename=\"{name}-{}_to_{}.ndjson\"",
        day(from),
        day(to)
    );
    let name = HeaderValue::try_from(name).unwrap_or(HeaderValue::from_static("attachment"));
    let headers = [
        (header::CONTENT_TYPE, HeaderValue::from_static(NDJSON)),
        (header::CONTENT_DISPOSITION, name),
    ];
    (headers, body).into_response()
}

/// A fault in the middle ends the connection without the end of the body, which tells the client that it has not got all.
fn events(export: AuditExport) -> impl stream::Stream<Item = Result<Bytes, Error>> {
    stream::try_unfold(export, async |mut export| {
        let Some(page) = export.next().await? else {
            return Ok(None);
        };
        let mut lines = Vec::new();
        for event in page {
            serde_json::to_writer(&mut lines, &AuditEventView::from(event))
                .map_err(Error::internal)?;
            lines.push(b'\n');
        }
        Ok(Some((Bytes::from(lines), export)))
    })
}

fn batches(export: SealedExport) -> impl stream::Stream<Item = Result<Bytes, Error>> {
    stream::try_unfold(export, async |mut export| {
        let lines = export.next().await?;
        Ok(lines.map(|lines| (Bytes::from(lines), export)))
    })
}
