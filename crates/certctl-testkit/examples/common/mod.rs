//! What the benches have in common: a migrated database, the use cases on it, the whole API in this process, and times.

use std::{sync::Arc, time::Duration};

use axum::body::Body;
use certctl_connectors::issuer::{Factory, ca_store::FileCaStore};
use certctl_domain::{
    secret::Secret,
    time::{Clock, SystemClock},
};
use certctl_http::{App, AppState, BuildInfo, Capabilities, HttpSettings};
use certctl_pki::seal::Sealer;
use certctl_repository::{Backend, Db, DbOptions, migrations, testing};
use certctl_service::{
    Services,
    config::{Dependencies, ServiceConfig},
};
use certctl_telemetry::Health;
use certctl_testkit::services::{ADMIN_KEY, config};
use http::Request;
use http_body_util::BodyExt as _;
use tower::ServiceExt as _;

/// Opens a database and brings it up to date.
pub(crate) async fn open(url: &str) -> anyhow::Result<Db> {
    let url = Secret::new(url);
    let db = Db::open(&DbOptions {
        url: url.clone(),
        max_connections: 20,
        acquire_timeout: Duration::from_secs(30),
    })?;
    let options = migrations::Options {
        url,
        lock_timeout: Duration::from_secs(60),
        allow_newer: false,
        applied_by: "bench".to_owned(),
    };
    migrations::up(&options, &migrations::embedded(db.backend())).await?;
    Ok(db)
}

/// The use cases by the clock of the machine, with keys made by agents.
pub(crate) async fn services(db: Db, folder: &str) -> anyhow::Result<Services> {
    services_with(db, folder, config()).await
}

/// As [`services`], with a configuration of its own; those that share a database and a folder are replicas.
pub(crate) async fn services_with(
    db: Db,
    folder: &str,
    config: ServiceConfig,
) -> anyhow::Result<Services> {
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let sealer = Arc::new(Sealer::new(&Secret::new(
        "an encryption key of 32 bytes and some more",
    )));
    let store = Arc::new(FileCaStore::new(folder.as_ref()));
    let issuers = Arc::new(Factory::new(
        store,
        Some(Arc::clone(&sealer)),
        Arc::clone(&clock),
    ));
    let services = Services::new(Dependencies {
        db,
        clock,
        sealer: Some(sealer),
        issuers,
        responder_keys: None,
        vault: Arc::new(certctl_testkit::services::MemoryVault::default()),
        acme: certctl_service::acme::AcmePorts::default(),
        config,
    });
    services.grant_configured_keys().await?;
    Ok(services)
}

/// The whole API in this process: routes, middleware, authentication; only the socket is missing.
pub(crate) struct Api(App);

impl Api {
    pub(crate) fn new(services: &Services) -> anyhow::Result<Self> {
        let health = Health::new();
        health.set_ready();
        tokio::spawn(write_api_trail(services.clone()));
        Ok(Self(App::new(AppState::new(Capabilities {
            settings: HttpSettings {
                rate_limits: None,
                ..HttpSettings::default()
            },
            services: services.clone(),
            authenticator: Arc::new(services.clone()),
            readiness: Arc::new(services.clone()),
            health,
            metrics: certctl_telemetry::install()?,
            info: BuildInfo {
                version: "0".into(),
                commit: String::new(),
                modified: false,
                build_time: String::new(),
                toolchain: String::new(),
            },
            started_at: SystemClock.now(),
            clock: Arc::new(SystemClock),
        }))))
    }

    /// Sends a request of the administrator, and reads the whole answer.
    pub(crate) async fn call(
        &self,
        method: &str,
        path: &str,
        body: Option<&serde_json::Value>,
    ) -> anyhow::Result<(u16, serde_json::Value, usize)> {
        let body = body.map_or_else(Body::empty, |body| Body::from(body.to_string()));
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header("authorization", format!("Bearer {ADMIN_KEY}"))
            .body(body)?;
        let response = self.0.router().oneshot(request).await?;
        let status = response.status().as_u16();
        let bytes = response.into_body().collect().await?.to_bytes();
        Ok((status, serde_json::from_slice(&bytes)?, bytes.len()))
    }
}

/// Writes the trail of calls behind their answers, as the loop of a server does: calls wait when nobody writes it.
async fn write_api_trail(services: Services) {
    loop {
        tokio::select! {
            () = services.api_trail_is_long() => {}
            () = tokio::time::sleep(Duration::from_secs(1)) => {}
        }
        if let Err(error) = services.flush_api_trail_in_turn().await {
            eprintln!("the trail of calls could not be written: {error}");
        }
    }
}

/// What stands before `SELECT … FROM n`, where `i` counts from `from` to `to`: in the place where each database wants it.
pub(crate) fn numbered(
    backend: Backend,
    into: &str,
    from: usize,
    to: usize,
    select: &str,
) -> String {
    let numbers = format!(
        "WITH RECURSIVE n(i) AS (SELECT {from} UNION ALL SELECT i + 1 FROM n WHERE i < {to})"
    );
    match backend {
        Backend::Postgres => format!("INSERT INTO {into} {numbers} {select}"),
        Backend::Sqlite => format!("{numbers} INSERT INTO {into} {select}"),
    }
}

/// A time as SQL, in seconds after the epoch.
pub(crate) fn at(backend: Backend, seconds: &str) -> String {
    match backend {
        Backend::Postgres => format!("to_timestamp({seconds})"),
        Backend::Sqlite => format!("({seconds}) * 1000000"),
    }
}

/// Lets the planner know what there is, as a server finds out by itself after a while.
pub(crate) async fn settle(db: &Db) -> anyhow::Result<()> {
    match db.backend() {
        Backend::Postgres => testing::execute(db, "VACUUM ANALYZE").await?,
        Backend::Sqlite => testing::execute(db, "ANALYZE; PRAGMA wal_checkpoint(TRUNCATE)").await?,
    }
    Ok(())
}
