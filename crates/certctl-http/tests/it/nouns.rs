//! The whole API on a test's database: real use cases, real keys, the real local CA.

use std::sync::Arc;

use axum::body::Body;
use certctl_domain::secret::Secret;
use certctl_http::{App, AppState, BuildInfo, Capabilities, HttpSettings};
use certctl_service::{
    Services,
    acme::AcmeConfig,
    config::{ConfiguredKey, ServiceConfig},
};
use certctl_telemetry::Health;
use certctl_testkit::{
    TestDb,
    services::{ADMIN_KEY, config, services},
};
use http::Request;
use serde_json::{Value, json};
use tempfile::TempDir;
use tower::ServiceExt;

use crate::support::{Answer, request};

/// A key that may read, and nothing else.
pub(crate) const VIEWER_KEY: &str = "test-viewer-key-0123456789";
/// When everything of a test happens.
pub(crate) const NOW: &str = "2026-06-01T00:00:00Z";

pub(crate) struct NounApi {
    app: App,
    pub(crate) services: Services,
    pub(crate) db: TestDb,
    _folder: TempDir,
}

impl NounApi {
    pub(crate) async fn new(db: TestDb) -> Self {
        Self::with(db, |_| {}).await
    }

    /// Configured in another way.
    pub(crate) async fn with(db: TestDb, change: impl FnOnce(&mut ServiceConfig)) -> Self {
        let settings = HttpSettings {
            rate_limits: None,
            ..HttpSettings::default()
        };
        Self::with_settings(db, settings, change).await
    }

    /// Configured and served in another way.
    pub(crate) async fn with_settings(
        db: TestDb,
        settings: HttpSettings,
        change: impl FnOnce(&mut ServiceConfig),
    ) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut config = config();
        config.api_keys.push(ConfiguredKey {
            name: "viewer".into(),
            key: Secret::new(VIEWER_KEY),
            admin: false,
        });
        config.acme = Some(AcmeConfig::default());
        change(&mut config);
        let services = services(db.db(), db.clock(), folder.path(), config);
        services.grant_configured_keys().await.unwrap();
        let health = Health::new();
        health.set_ready();
        let state = AppState::new(Capabilities {
            settings,
            authenticator: Arc::new(services.clone()),
            readiness: Arc::new(services.clone()),
            services: services.clone(),
            health,
            metrics: certctl_telemetry::install().expect("no other recorder"),
            info: BuildInfo {
                version: "1.2.3".into(),
                commit: "abc".into(),
                modified: false,
                build_time: "2026-11-21T00:00:00Z".into(),
                toolchain: "rustc 1.95.0".into(),
            },
            clock: Arc::new(db.clock().clone()),
            started_at: certctl_testkit::database::START,
        });
        Self {
            app: App::new(state),
            services,
            db,
            _folder: folder,
        }
    }

    pub(crate) async fn call(&self, method: &str, path: &str, key: &str, body: &Value) -> Answer {
        let body = if body.is_null() {
            Body::empty()
        } else {
            Body::from(body.to_string())
        };
        self.send(request(method, path, key).body(body).unwrap())
            .await
    }

    pub(crate) async fn send(&self, request: Request<Body>) -> Answer {
        Answer::of(self.app.router().oneshot(request).await.unwrap()).await
    }

    /// Runs the jobs that are due.
    pub(crate) async fn work(&self) {
        let stop = tokio_util::sync::CancellationToken::new();
        self.services.process_jobs(&stop).await.unwrap();
    }

    pub(crate) async fn get(&self, path: &str) -> Answer {
        self.call("GET", path, ADMIN_KEY, &Value::Null).await
    }

    pub(crate) async fn post(&self, path: &str, body: &Value) -> Answer {
        self.call("POST", path, ADMIN_KEY, body).await
    }

    pub(crate) async fn put(&self, path: &str, body: &Value) -> Answer {
        self.call("PUT", path, ADMIN_KEY, body).await
    }

    pub(crate) async fn delete(&self, path: &str) -> Answer {
        self.call("DELETE", path, ADMIN_KEY, &Value::Null).await
    }

    /// Checks that every writing route of a noun is closed to a viewer, and every reading one open.
    pub(crate) async fn reads_only_for_viewers(&self, path: &str, item: &str, body: &Value) {
        let item = format!("{path}/{item}");
        for (method, path, status) in [
            ("GET", path, 200),
            ("GET", &item, 200),
            ("POST", path, 403),
            ("PUT", &item, 403),
            ("DELETE", &item, 403),
        ] {
            let answer = self.call(method, path, VIEWER_KEY, body).await;
            assert_eq!(answer.status, status, "{method} {path}");
            if status == 403 {
                answer.is_gate(403, "Insufficient permissions");
            }
            assert_eq!(self.call(method, path, "", body).await.status, 401);
        }
    }

    /// Checks the answers that every noun gives to an id that nothing has, and to a body that is none.
    pub(crate) async fn refuses_the_unknown(&self, path: &str, body: &Value) {
        for item in ["none", "not%20an%20id"] {
            let item = format!("{path}/{item}");
            assert_eq!(self.get(&item).await.status, 404, "{item}");
            assert_eq!(self.put(&item, body).await.status, 404, "{item}");
            assert_eq!(self.delete(&item).await.status, 404, "{item}");
        }
        let not_an_object = self.post(path, &json!([1])).await;
        assert_eq!(not_an_object.status, 400, "{not_an_object:?}");
        let empty = self.post(path, &Value::Null).await;
        empty.is_main(
            400,
            "Bad Request",
            "the body is empty; a JSON object is expected",
        );
    }
}

impl Answer {
    /// Checks the status and the JSON.
    #[track_caller]
    pub(crate) fn is(&self, status: u16, json: &Value) {
        assert_eq!(self.status, status, "{self:?}");
        assert_eq!(&self.json(), json);
    }

    /// Checks that nothing is said but that it is done.
    #[track_caller]
    pub(crate) fn is_done(&self) {
        assert_eq!((self.status, self.body.len()), (204, 0), "{self:?}");
    }
}
