//! The API of certctl within a service of one's own: `cargo run -p certctl-http --example mount_api`.

use std::{convert::Infallible, error::Error, future::Future, net::SocketAddr, sync::Arc};

use axum::{Router, body::Body, extract::Request, response::Response, routing::get};
use certctl_http::{App, AppState, BuildInfo, Capabilities, HttpSettings, Peer};
use certctl_service::Services;
use certctl_telemetry::Health;
use hyper_util::{
    rt::{TokioExecutor, TokioIo},
    server::conn::auto,
    service::TowerToHyperService,
};
use tokio::net::TcpListener;
use tower::ServiceExt as _;

#[tokio::main(flavor = "multi_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    // The example borrows a database that is gone with it, and a clock that stands still. A service opens its own with
    // `certctl-repository`, takes `SystemClock`, and puts the use cases together with `Services::new`.
    let db = certctl_testkit::TestDb::sqlite().await;
    let folder = std::env::temp_dir();
    let config = certctl_testkit::services::config();
    let services = certctl_testkit::services::services(db.db(), db.clock(), &folder, config);
    let listener = TcpListener::bind(("127.0.0.1", 8080)).await?;
    let key = certctl_testkit::services::ADMIN_KEY;
    println!("curl -H 'Authorization: Bearer {key}' http://127.0.0.1:8080/api/v1/teams");
    serve(listener, mounted(services).await?, std::future::pending()).await;
    Ok(())
}

/// A router of one's own, and below it everything that certctl serves.
pub(crate) async fn mounted(services: Services) -> Result<Router, Box<dyn Error>> {
    // Gives the keys of the configuration their roles.
    services.grant_configured_keys().await?;
    let health = Health::new();
    let clock = Arc::clone(services.clock());
    let app = App::new(AppState::new(Capabilities {
        settings: HttpSettings::default(),
        // Whoever has another way to tell who asks gives another `Authenticator`.
        authenticator: Arc::new(services.clone()),
        readiness: Arc::new(services.clone()),
        services,
        health: health.clone(),
        metrics: certctl_telemetry::install()?,
        info: BuildInfo {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            commit: "unknown".to_owned(),
            modified: false,
            build_time: "unknown".to_owned(),
            toolchain: "unknown".to_owned(),
        },
        started_at: clock.now(),
        clock,
    }));
    health.set_ready();
    // Routes of one's own come first; what they do not know goes through certctl's whole middleware, its limits included.
    Ok(Router::new()
        .route("/hello", get(async || "hello"))
        .fallback_service(app.router()))
}

/// Serves a router on a socket of one's own until `end`; here without TLS, as behind a proxy on the same host.
pub(crate) async fn serve(listener: TcpListener, router: Router, end: impl Future<Output = ()>) {
    tokio::pin!(end);
    loop {
        let accepted = tokio::select! {
            () = &mut end => return,
            accepted = listener.accept() => accepted,
        };
        let Ok((stream, address)) = accepted else {
            continue;
        };
        let service = with_peer(router.clone(), address);
        tokio::spawn(async move {
            let server = auto::Builder::new(TokioExecutor::new());
            // A connection that breaks is its client's affair.
            let _ = server
                .serve_connection(TokioIo::new(stream), TowerToHyperService::new(service))
                .await;
        });
    }
}

/// Tells certctl who is at the other end: its limits and its logs go by it.
fn with_peer(
    router: Router,
    address: SocketAddr,
) -> impl tower::Service<
    hyper::Request<hyper::body::Incoming>,
    Response = Response,
    Error = Infallible,
    Future: Send,
> + Clone {
    tower::service_fn(move |request: hyper::Request<hyper::body::Incoming>| {
        let mut request: Request = request.map(Body::new);
        request.extensions_mut().insert(Peer(address));
        router.clone().oneshot(request)
    })
}
