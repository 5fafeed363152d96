//! Certificates (api §11).

mod bulk;
mod list;
mod wire;

use axum::{
    Json,
    extract::State,
    response::{IntoResponse, Response},
};
use certctl_domain::{access::Permission, id::CertificateId, secret::Secret};
use http::{HeaderValue, StatusCode, header};

use self::wire::{
    CertificateRequest, CertificateView, DeployRequest, DeploymentsView, NewCertificate, PemView,
    Pkcs12Request, RenewRequest, RevokeRequest, StatusView, TriggeredView, VersionView,
};
use crate::{
    ApiError, ApiJson, AppState, Caller, OptionalJson, Paged, Paging, PathId,
    api::targets::TargetView, extract::QueryPairs, problem::ExportLimitBody, routes::Route,
};

const PEM: &str = "application/x-pem-file";
const PKCS12: &str = "application/x-pkcs12";

pub(crate) fn routes() -> Vec<Route> {
    let mut routes = bulk::routes();
    routes.extend([
        list::route(),
        Route::post("/api/v1/certificates", "create_certificate")
            .permission(Permission::CertIssue)
            .summary("Enters a certificate; its first version is issued by renewing it")
            .accepts::<NewCertificate>()
            .refuses(&[StatusCode::CONFLICT])
            .returns_with::<CertificateView>(StatusCode::CREATED)
            .handler(create_certificate),
        Route::get("/api/v1/certificates/{id}", "get_certificate")
            .permission(Permission::CertRead)
            .returns::<CertificateView>()
            .handler(get_certificate),
        Route::put("/api/v1/certificates/{id}", "update_certificate")
            .permission(Permission::CertEdit)
            .summary("Changes a certificate; absent fields stay as they are")
            .accepts::<CertificateRequest>()
            .refuses(&[StatusCode::CONFLICT])
            .returns::<CertificateView>()
            .handler(update_certificate),
        Route::delete("/api/v1/certificates/{id}", "archive_certificate")
            .permission(Permission::CertDelete)
            .summary("Archives a certificate; its row and versions are kept")
            .returns_nothing()
            .handler(archive_certificate),
        Route::get(
            "/api/v1/certificates/{id}/versions",
            "list_certificate_versions",
        )
        .permission(Permission::CertRead)
        .lists::<VersionView>()
        .handler(list_certificate_versions),
        Route::get(
            "/api/v1/certificates/{id}/deployments",
            "list_certificate_deployments",
        )
        .permission(Permission::CertRead)
        .summary("Lists the targets a certificate is deployed to")
        .returns::<DeploymentsView>()
        .handler(list_certificate_deployments),
        Route::post("/api/v1/certificates/{id}/renew", "renew_certificate")
            .permission(Permission::CertIssue)
            .accepts_optional::<RenewRequest>()
            .refuses(&[StatusCode::CONFLICT])
            .returns_with::<TriggeredView>(StatusCode::ACCEPTED)
            .handler(renew_certificate),
        Route::post("/api/v1/certificates/{id}/deploy", "deploy_certificate")
            .permission(Permission::CertEdit)
            .accepts_optional::<DeployRequest>()
            .refuses(&[StatusCode::CONFLICT])
            .returns_with::<StatusView>(StatusCode::ACCEPTED)
            .handler(deploy_certificate),
        Route::post("/api/v1/certificates/{id}/revoke", "revoke_certificate")
            .permission(Permission::CertRevoke)
            .accepts_optional::<RevokeRequest>()
            .returns::<StatusView>()
            .handler(revoke_certificate),
        Route::get(
            "/api/v1/certificates/{id}/export/pem",
            "export_certificate_pem",
        )
        .permission(Permission::CertRead)
        .summary("Exports the latest version, as JSON or with download=true as a file")
        .refuses(&[StatusCode::UNPROCESSABLE_ENTITY])
        .refuses_with::<ExportLimitBody>(StatusCode::TOO_MANY_REQUESTS)
        .returns::<PemView>()
        .or_media(PEM)
        .handler(export_certificate_pem),
        Route::post(
            "/api/v1/certificates/{id}/export/pkcs12",
            "export_certificate_pkcs12",
        )
        .permission(Permission::CertRead)
        .summary(
            "Exports the chain of the latest version as a PKCS#12 trust store; it holds no key",
        )
        .accepts_optional::<Pkcs12Request>()
        .refuses(&[StatusCode::UNPROCESSABLE_ENTITY])
        .refuses_with::<ExportLimitBody>(StatusCode::TOO_MANY_REQUESTS)
        .returns_media(PKCS12)
        .handler(export_certificate_pkcs12),
    ]);
    routes
}

async fn create_certificate(
    State(state): State<AppState>,
    Caller(actor): Caller,
    ApiJson(body): ApiJson<CertificateRequest>,
) -> Result<(StatusCode, Json<CertificateView>), ApiError> {
    let certificate = state
        .services
        .create_certificate(&actor, body.into())
        .await?;
    Ok((StatusCode::CREATED, Json(certificate.into())))
}

async fn get_certificate(
    State(state): State<AppState>,
    Caller(actor): Caller,
    PathId(id): PathId<CertificateId>,
) -> Result<Json<CertificateView>, ApiError> {
    Ok(Json(
        state.services.get_certificate(&actor, &id).await?.into(),
    ))
}

async fn update_certificate(
    State(state): State<AppState>,
    Caller(actor): Caller,
    PathId(id): PathId<CertificateId>,
    ApiJson(body): ApiJson<CertificateRequest>,
) -> Result<Json<CertificateView>, ApiError> {
    Ok(Json(
        state
            .services
            .update_certificate(&actor, &id, body.into())
            .await?
            .into(),
    ))
}

async fn archive_certificate(
    State(state): State<AppState>,
    Caller(actor): Caller,
    PathId(id): PathId<CertificateId>,
) -> Result<StatusCode, ApiError> {
    state.services.archive_certificate(&actor, &id).await?;
    Ok(StatusCode::NO_CONTENT)
}

async fn list_certificate_versions(
    State(state): State<AppState>,
    Caller(actor): Caller,
    PathId(id): PathId<CertificateId>,
    Paging(page): Paging,
) -> Result<Json<Paged<VersionView>>, ApiError> {
    let versions = state.services.list_versions(&actor, &id, page).await?;
    Ok(Json(Paged::new(versions, page, Into::into)))
}

async fn list_certificate_deployments(
    State(state): State<AppState>,
    Caller(actor): Caller,
    PathId(id): PathId<CertificateId>,
) -> Result<Json<DeploymentsView>, ApiError> {
    let targets = state.services.list_deployments(&actor, &id).await?;
    let data: Vec<TargetView> = targets.into_iter().map(Into::into).collect();
    Ok(Json(DeploymentsView {
        total: data.len(),
        data,
    }))
}

async fn renew_certificate(
    State(state): State<AppState>,
    Caller(actor): Caller,
    PathId(id): PathId<CertificateId>,
    query: QueryPairs,
    OptionalJson(body): OptionalJson<RenewRequest>,
) -> Result<(StatusCode, Json<TriggeredView>), ApiError> {
    let force = body.is_some_and(|body| body.force) || query.flag("force");
    let triggered = state.services.renew_certificate(&actor, &id, force).await?;
    Ok((StatusCode::ACCEPTED, Json(triggered.into())))
}

async fn deploy_certificate(
    State(state): State<AppState>,
    Caller(actor): Caller,
    PathId(id): PathId<CertificateId>,
    OptionalJson(body): OptionalJson<DeployRequest>,
) -> Result<(StatusCode, Json<StatusView>), ApiError> {
    let target = body.and_then(|body| body.target_id);
    state
        .services
        .deploy_certificate(&actor, &id, target.as_deref())
        .await?;
    Ok((
        StatusCode::ACCEPTED,
        Json(StatusView {
            status: "deployment_triggered",
        }),
    ))
}

async fn revoke_certificate(
    State(state): State<AppState>,
    Caller(actor): Caller,
    PathId(id): PathId<CertificateId>,
    OptionalJson(body): OptionalJson<RevokeRequest>,
) -> Result<Json<StatusView>, ApiError> {
    let reason = body.and_then(|body| body.reason);
    state
        .services
        .revoke_certificate(&actor, &id, reason.as_deref())
        .await?;
    Ok(Json(StatusView { status: "revoked" }))
}

async fn export_certificate_pem(
    State(state): State<AppState>,
    Caller(actor): Caller,
    PathId(id): PathId<CertificateId>,
    query: QueryPairs,
) -> Result<Response, ApiError> {
    let export = state.services.export_pem(&actor, &id).await?;
    if !query.flag("download") {
        return Ok(Json(PemView::from(export)).into_response());
    }
    let file = HeaderValue::from_static("attachment; filename=\"certificate.pem\"");
    let headers = [
        (header::CONTENT_TYPE, HeaderValue::from_static(PEM)),
        (header::CONTENT_DISPOSITION, file),
    ];
    Ok((headers, export.full_pem).into_response())
}

async fn export_certificate_pkcs12(
    State(state): State<AppState>,
    Caller(actor): Caller,
    PathId(id): PathId<CertificateId>,
    OptionalJson(body): OptionalJson<Pkcs12Request>,
) -> Result<Response, ApiError> {
    let password = Secret::new(body.and_then(|body| body.password).unwrap_or_default());
    let export = state.services.export_pkcs12(&actor, &id, &password).await?;
    let file = HeaderValue::from_static("attachment; filename=\"certificate.p12\"");
    let headers = [
        (header::CONTENT_TYPE, HeaderValue::from_static(PKCS12)),
        (header::CONTENT_DISPOSITION, file),
    ];
    Ok((headers, export).into_response())
}
