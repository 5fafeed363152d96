//! One line and one count per request.

use axum::{extract::Request, middleware::Next, response::Response};
use certctl_telemetry::metrics_names::{
    HTTP_INFLIGHT, HTTP_REQUEST_DURATION_SECONDS, HTTP_REQUESTS_TOTAL,
};
use metrics::{counter, gauge, histogram};
use tokio::time::Instant;

use super::context::Context;

/// Takes the request out of the number in flight however it ends, be it by the client hanging up.
struct InFlight;

impl InFlight {
    fn begin() -> Self {
        gauge!(HTTP_INFLIGHT.name).increment(1);
        Self
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        gauge!(HTTP_INFLIGHT.name).decrement(1);
    }
}

pub(super) async fn record(request: Request, next: Next) -> Response {
    let context = Context::of(&request);
    let method = request.method().clone();
    // Without the query, which may hold what nobody should keep.
    let path = request.uri().path().to_owned();
    let begun = Instant::now();
    let in_flight = InFlight::begin();
    let response = next.run(request).await;
    drop(in_flight);
    let took = begun.elapsed();
    let status = response.status();
    let labels = [
        ("method", label(&method)),
        ("route", context.template()),
        ("status", class(status.as_u16())),
    ];
    counter!(HTTP_REQUESTS_TOTAL.name, &labels).increment(1);
    histogram!(HTTP_REQUEST_DURATION_SECONDS.name, &labels).record(took.as_secs_f64());
    tracing::info!(
        target: "http",
        %method,
        path,
        status = status.as_u16(),
        duration_ms = took.as_secs_f64() * 1000.0,
        remote_addr = %context.client,
        "request served"
    );
    response
}

/// Clients may invent methods, and every label is kept forever.
fn label(method: &http::Method) -> &'static str {
    match method.as_str() {
        "GET" => "GET",
        "HEAD" => "HEAD",
        "POST" => "POST",
        "PUT" => "PUT",
        "PATCH" => "PATCH",
        "DELETE" => "DELETE",
        "OPTIONS" => "OPTIONS",
        _ => "other",
    }
}

const fn class(status: u16) -> &'static str {
    match status / 100 {
        1 => "1xx",
        2 => "2xx",
        3 => "3xx",
        4 => "4xx",
        _ => "5xx",
    }
}
