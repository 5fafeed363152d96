//! What errors look like from outside.

use axum::extract::State;
use certctl_domain::{access::Permission, agent::AgentDependencies, validation::InvalidField};
use certctl_http::{ApiError, AppState, QueryPairs, Route};
use certctl_service::Error;
use serde_json::json;

use crate::support::{Logs, TestApi};

/// A route that fails as its query says.
pub(crate) fn routes() -> Vec<Route> {
    vec![
        Route::get("/fail", "fail")
            .public()
            .returns::<String>()
            .handler(fail),
    ]
}

async fn fail(State(_): State<AppState>, query: QueryPairs) -> Result<String, ApiError> {
    Err(match query.get("with").unwrap_or_default() {
        "invalid" => Error::Invalid(InvalidField::required("name")),
        "bad-request" => Error::BadRequest("the certificate is archived".into()),
        "not-found" => Error::not_found("certificate", "cert-1"),
        "conflict" => Error::Conflict("the name is taken".into()),
        "forbidden" => Error::Forbidden(Permission::CertRead),
        "not-yours" => Error::NotYours("the job belongs to another agent".into()),
        "unauthenticated" => Error::Unauthenticated("invalid_or_missing_bootstrap_token".into()),
        "retired" => Error::AgentRetired("agent-1".into()),
        "blocked" => Error::AgentBlocked(AgentDependencies {
            active_targets: 1,
            active_certificates: 2,
            pending_jobs: 3,
        }),
        "exports" => Error::TooManyExports { retry_after: 1234 },
        "unprocessable" => Error::Unprocessable("the profile forbids RSA".into()),
        "disabled" => Error::Disabled("the ACME server is switched off".into()),
        "not-supported" => Error::NotSupported("its CA tells that".into()),
        "bad-gateway" => Error::BadGateway("the issuer did not answer".into()),
        "unavailable" => Error::Unavailable("canary: connection to 10.0.0.5 refused".into()),
        _ => Error::internal("canary: syntax error at SELECT"),
    }
    .into())
}

#[tokio::test]
async fn each_error_of_the_service_has_its_status_and_shape() {
    let api = TestApi::new();
    for (with, status, error, message) in [
        ("invalid", 400, "Bad Request", "name: is required"),
        (
            "bad-request",
            400,
            "Bad Request",
            "the certificate is archived",
        ),
        (
            "not-found",
            404,
            "Not Found",
            "certificate cert-1 does not exist",
        ),
        ("conflict", 409, "Conflict", "the name is taken"),
        (
            "unauthenticated",
            401,
            "Unauthorized",
            "invalid_or_missing_bootstrap_token",
        ),
        ("retired", 410, "Gone", "agent agent-1 is retired"),
        (
            "unprocessable",
            422,
            "Unprocessable Entity",
            "the profile forbids RSA",
        ),
        (
            "bad-gateway",
            502,
            "Bad Gateway",
            "the issuer did not answer",
        ),
        (
            "unavailable",
            503,
            "Service Unavailable",
            "the database is unavailable; try again",
        ),
        (
            "internal",
            500,
            "Internal Server Error",
            "an internal error occurred; the request id leads to its cause in the log of the server",
        ),
    ] {
        api.get(&format!("/fail?with={with}"), "")
            .await
            .is_main(status, error, message);
    }
    api.get("/fail?with=forbidden", "")
        .await
        .is_gate(403, "Insufficient permissions");
    api.get("/fail?with=not-yours", "")
        .await
        .is_gate(403, "the job belongs to another agent");
    let blocked = api.get("/fail?with=blocked", "").await;
    assert_eq!(
        (blocked.status, &blocked.json()["error"]),
        (409, &json!("blocked_by_dependencies"))
    );
    let counts = json!({ "active_targets": 1, "active_certificates": 2, "pending_jobs": 3 });
    assert_eq!(blocked.json()["counts"], counts);
    assert!(blocked.json()["message"].is_string());
}

#[tokio::test]
async fn an_actor_who_exported_too_much_is_told_when_to_come_back() {
    let answer = TestApi::new().get("/fail?with=exports", "").await;
    assert_eq!(
        (answer.status, answer.header("retry-after")),
        (429, Some("1234"))
    );
    assert_eq!(
        answer.json(),
        json!({ "error": "rate_limit_exceeded", "retry_after_seconds": 1234 })
    );
}

#[tokio::test]
async fn some_errors_say_in_headers_what_would_help() {
    let api = TestApi::new();
    assert_eq!(
        api.get("/fail?with=unavailable", "")
            .await
            .header("retry-after"),
        Some("1")
    );
    let refused = api.get("/fail?with=unauthenticated", "").await;
    assert_eq!(
        refused.header("www-authenticate"),
        Some(r#"Bearer realm="certctl""#)
    );
}

#[tokio::test]
async fn the_cause_of_a_fault_is_in_the_log_once_and_never_in_the_answer() {
    for with in ["internal", "unavailable"] {
        let api = TestApi::new();
        let logs = Logs::catch();
        let answer = api.get(&format!("/fail?with={with}"), "").await;
        assert!(!String::from_utf8_lossy(&answer.body).contains("canary"));
        let told: Vec<_> = logs
            .lines()
            .into_iter()
            .filter(|line| line.to_string().contains("canary"))
            .collect();
        assert_eq!(told.len(), 1, "{}", logs.text());
        assert_eq!(
            told[0]["level"].as_str().map(str::to_lowercase).as_deref(),
            Some("error")
        );
        assert_eq!(
            told[0]["request_id"].as_str(),
            answer.header("x-request-id")
        );
    }
}

#[tokio::test]
async fn a_panic_costs_its_own_request_only_and_says_nothing() {
    let api = TestApi::new();
    for method in ["GET", "POST"] {
        let logs = Logs::catch();
        api.call(method, "/panic", "", "")
            .await
            .is_gate(500, "Internal Server Error");
        assert!(logs.text().contains("the canary sings"), "{}", logs.text());
        assert_eq!(api.get("/health", "").await.status, 200);
    }
}
