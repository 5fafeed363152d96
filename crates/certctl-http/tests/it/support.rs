//! The routes, actors and helpers of the tests.

use std::{
    cell::RefCell,
    error::Error as StdError,
    io,
    sync::{Arc, Mutex, Once},
};

use axum::{
    Json,
    body::{Body, Bytes},
    extract::State,
};
use certctl_domain::{
    access::{Actor, ActorType, EffectivePermission, Permission, Scope},
    id::{IssuerId, RoleId, TeamId},
    page::Page,
    ports::BoxFuture,
    time::{ManualClock, Timestamp},
};
use certctl_http::{
    ApiError, ApiJson, App, AppState, AuthenticationError, Authenticator, Bearer, BuildInfo,
    Caller, Capabilities, Database, HttpSettings, LenientJson, MaybeCaller, OptionalJson, Paged,
    Paging, PathId, RateClass, Readiness, Route,
};
use certctl_telemetry::Health;
use http::{Request, Response, StatusCode, request};
use http_body_util::BodyExt;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tower::ServiceExt;

/// An API of test routes beside those of certctl.
pub(crate) struct TestApi {
    pub(crate) app: App,
    pub(crate) clock: ManualClock,
    pub(crate) health: Health,
    pub(crate) database: Arc<FakeDatabase>,
}

impl TestApi {
    pub(crate) fn new() -> Self {
        Self::with(HttpSettings {
            rate_limits: None,
            ..HttpSettings::default()
        })
    }

    pub(crate) fn with(settings: HttpSettings) -> Self {
        let clock = ManualClock::starting_at(Timestamp::from_seconds(1_800_000_000));
        let (health, database) = (Health::new(), Arc::new(FakeDatabase::default()));
        health.set_ready();
        // The test routes ask no use case; the database is never opened.
        let folder = std::env::temp_dir();
        let db = certctl_testkit::services::unopened_database();
        let services = certctl_testkit::services::services(
            db,
            &clock,
            &folder,
            certctl_testkit::services::config(),
        );
        let state = AppState::new(Capabilities {
            settings,
            services,
            authenticator: Arc::new(FakeAuthenticator),
            readiness: database.clone(),
            health: health.clone(),
            metrics: certctl_telemetry::install().expect("no other recorder"),
            info: BuildInfo {
                version: "1.2.3".into(),
                commit: "abc".into(),
                modified: true,
                build_time: "2026-11-21T00:00:00Z".into(),
                toolchain: "rustc 1.95.0".into(),
            },
            started_at: Timestamp::from_seconds(1_800_000_000),
            clock: Arc::new(clock.clone()),
        });
        let app = App::with_routes(state, routes());
        Self {
            app,
            clock,
            health,
            database,
        }
    }

    pub(crate) async fn send(&self, request: Request<Body>) -> Response<Body> {
        self.app
            .router()
            .oneshot(request)
            .await
            .expect("the router is infallible")
    }

    /// A request with the key of an actor and, where it is not empty, a body.
    pub(crate) async fn call(
        &self,
        method: &str,
        path: &str,
        key: &str,
        body: &'static str,
    ) -> Answer {
        Answer::of(
            self.send(request(method, path, key).body(Body::from(body)).unwrap())
                .await,
        )
        .await
    }

    pub(crate) async fn get(&self, path: &str, key: &str) -> Answer {
        self.call("GET", path, key, "").await
    }
}

pub(crate) fn request(method: &str, path: &str, key: &str) -> request::Builder {
    let builder = Request::builder().method(method).uri(path);
    if key.is_empty() {
        builder
    } else {
        builder.header("authorization", format!("Bearer {key}"))
    }
}

/// An answer with its body read.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: http::HeaderMap,
    pub(crate) body: Bytes,
}

impl Answer {
    pub(crate) async fn of(response: Response<Body>) -> Self {
        let (parts, body) = response.into_parts();
        let body = body
            .collect()
            .await
            .expect("bodies in memory can be read")
            .to_bytes();
        Self {
            status: parts.status.as_u16(),
            headers: parts.headers,
            body,
        }
    }

    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|_| panic!("not JSON: {self:?}"))
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers
            .get(name)
            .map(|value| value.to_str().expect("headers are ASCII"))
    }

    /// Checks for `{"error"}`.
    #[track_caller]
    pub(crate) fn is_gate(&self, status: u16, error: &str) {
        assert_eq!(self.status, status, "{self:?}");
        assert_eq!(self.json(), serde_json::json!({ "error": error }));
        assert_eq!(self.header("content-type"), Some("application/json"));
    }

    /// Checks for `{"error","message","request_id"}`, and that the id is that of the header.
    #[track_caller]
    pub(crate) fn is_main(&self, status: u16, error: &str, message: &str) {
        assert_eq!(self.status, status, "{self:?}");
        let id = self
            .header("x-request-id")
            .expect("every response has an id");
        assert_eq!(
            self.json(),
            serde_json::json!({ "error": error, "message": message, "request_id": id })
        );
        assert_eq!(self.header("content-type"), Some("application/json"));
    }
}

/// Knows four keys.
struct FakeAuthenticator;

impl Authenticator for FakeAuthenticator {
    fn authenticate<'a>(
        &'a self,
        bearer: &'a str,
    ) -> BoxFuture<'a, Result<Actor, AuthenticationError>> {
        let global = |permission| EffectivePermission {
            permission,
            scope: Scope::Global,
        };
        let key = |id: &str, permissions| {
            Actor::new(id, ActorType::ApiKey, false, Vec::new(), permissions)
        };
        let answer = match bearer {
            // Mode `none` asks with an empty key.
            "" => Ok(Actor::new(
                "actor-demo-anon",
                ActorType::Anonymous,
                false,
                vec![role("r-admin")],
                vec![],
            )),
            "admin-key" => Ok(Actor::new(
                "admin",
                ActorType::ApiKey,
                true,
                vec![role("r-admin")],
                vec![
                    global(Permission::TeamRead),
                    global(Permission::TeamEdit),
                    global(Permission::IssuerEdit),
                    global(Permission::MetricsRead),
                ],
            )),
            "viewer-key" => Ok(key("viewer", vec![global(Permission::TeamRead)])),
            "scoped-key" => Ok(key(
                "scoped",
                vec![EffectivePermission {
                    permission: Permission::IssuerEdit,
                    scope: Scope::Issuer("iss-1".into()),
                }],
            )),
            "down-key" => Err(AuthenticationError::Unavailable(
                "connection refused by 10.9.8.7".into(),
            )),
            _ => Err(AuthenticationError::UnknownKey),
        };
        Box::pin(std::future::ready(answer))
    }
}

fn role(id: &str) -> RoleId {
    RoleId::parse(id).unwrap()
}

/// Answers what it is told to.
#[derive(Default)]
pub(crate) struct FakeDatabase(Mutex<FakeState>);

#[derive(Default, Clone, Copy)]
pub(crate) enum FakeState {
    #[default]
    Up,
    Absent,
    Refusing,
    Silent,
}

impl FakeDatabase {
    pub(crate) fn is_now(&self, state: FakeState) {
        *self.0.lock().unwrap() = state;
    }
}

impl Readiness for FakeDatabase {
    fn ping(&self) -> BoxFuture<'_, Result<Database, Box<dyn StdError + Send + Sync>>> {
        match *self.0.lock().unwrap() {
            FakeState::Up => Box::pin(async { Ok(Database::Reachable) }),
            FakeState::Absent => Box::pin(async { Ok(Database::NotConfigured) }),
            FakeState::Refusing => {
                Box::pin(async { Err("password authentication failed for certctl".into()) })
            }
            FakeState::Silent => Box::pin(std::future::pending()),
        }
    }
}

// === routes ===

#[derive(Debug, Serialize, Deserialize, JsonSchema)]
pub(crate) struct Thing {
    name: String,
    #[serde(default)]
    size: u32,
}

#[derive(Debug, Default, Deserialize, JsonSchema)]
struct Beat {
    #[serde(default)]
    version: String,
}

fn routes() -> Vec<Route> {
    let open = |path, id| Route::get(path, id).public();
    let own = App::routes();
    let test = vec![
        Route::get("/api/v1/things", "list_things")
            .permission(Permission::TeamRead)
            .etag()
            .lists::<Thing>()
            .handler(list_things),
        Route::post("/api/v1/things", "create_thing")
            .permission(Permission::TeamEdit)
            .accepts::<Thing>()
            .returns_with::<Thing>(StatusCode::CREATED)
            .handler(async |ApiJson(thing): ApiJson<Thing>| (StatusCode::CREATED, Json(thing))),
        Route::delete("/api/v1/things/{id}", "delete_thing")
            .permission(Permission::TeamEdit)
            .returns_nothing()
            .handler(async |PathId(_): PathId<TeamId>| StatusCode::NO_CONTENT),
        Route::put("/api/v1/test-issuers/{id}", "update_test_issuer")
            .permission_at_issuer(Permission::IssuerEdit)
            .returns::<Thing>()
            .handler(async |PathId(id): PathId<IssuerId>| {
                Json(Thing {
                    name: id.into_string(),
                    size: 0,
                })
            }),
        Route::post("/api/v1/small", "create_small")
            .authenticated()
            .body_limit(64)
            .accepts_optional::<Thing>()
            .returns::<Option<Thing>>()
            .handler(async |OptionalJson(thing): OptionalJson<Thing>| Json(thing)),
        Route::post("/api/v1/beat", "beat")
            .authenticated()
            .accepts_optional::<Beat>()
            .returns::<String>()
            .handler(async |LenientJson(beat): LenientJson<Beat>| Json(beat.version)),
        Route::post("/api/v1/enrol", "enrol")
            .optionally_authenticated()
            .returns::<Vec<Option<String>>>()
            .handler(enrol),
        Route::get("/api/v1/whoami", "whoami")
            .authenticated()
            .returns::<String>()
            .handler(async |Caller(actor): Caller| Json(actor.id().to_owned())),
        open("/api/v1/public-caller", "public_caller")
            .returns::<String>()
            .handler(async |Caller(actor): Caller| Json(actor.id().to_owned())),
        Route::get("/api/v1/scrape", "scrape")
            .permission(Permission::MetricsRead)
            .rate_class(RateClass::Scrape)
            .returns::<String>()
            .handler(async || "scraped"),
        open("/panic", "panic").returns::<String>().handler(panic),
        Route::post("/panic", "panic_detached")
            .public()
            .returns::<String>()
            .handler(panic),
        open("/never", "never")
            .returns::<String>()
            .handler(async || std::future::pending::<()>().await),
        open("/big", "big")
            .etag()
            .returns::<String>()
            .handler(async || "x".repeat(65_537)),
        open("/refused", "refused")
            .etag()
            .returns::<String>()
            .handler(async || StatusCode::BAD_REQUEST),
    ];
    own.into_iter()
        .chain(test)
        .chain(super::errors::routes())
        .chain(super::lifecycle::routes())
        .collect()
}

async fn list_things(State(_): State<AppState>, Paging(request): Paging) -> Paged<Thing> {
    let rows = (1..=3).map(|size| Thing {
        name: format!("thing-{size}"),
        size,
    });
    let page = Page {
        rows: rows
            .skip(request.offset() as usize)
            .take(request.limit() as usize)
            .collect(),
        total: 3,
    };
    Paged::new(page, request, |thing| thing)
}

async fn enrol(
    MaybeCaller(actor): MaybeCaller,
    Bearer(token): Bearer,
) -> Json<Vec<Option<String>>> {
    Json(vec![
        actor.map(|actor| actor.id().to_owned()),
        token.map(|token| token.expose().to_owned()),
    ])
}

async fn panic() -> Result<String, ApiError> {
    panic!("the canary sings")
}

// === logs ===

thread_local! {
    /// What was logged on this thread: each test has one, and all its tasks run there.
    static LOGGED: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// The JSON lines that a test has logged.
///
/// One subscriber serves all tests: with one for each, `tracing` would remember for all threads what the subscriber of
/// whichever thread comes first thinks of an event.
pub(crate) struct Logs(());

impl Logs {
    /// Forgets what this thread has logged so far.
    pub(crate) fn catch() -> Self {
        use certctl_telemetry::logging::{LogFormat, LogLevel, subscriber};
        static INSTALLED: Once = Once::new();
        INSTALLED.call_once(|| {
            let clock = Arc::new(ManualClock::starting_at(Timestamp::UNIX_EPOCH));
            let (subscriber, _) = subscriber(LogFormat::Json, LogLevel::Debug, clock, || LogWriter);
            tracing::subscriber::set_global_default(subscriber).expect("nothing else logs");
        });
        LOGGED.take();
        Self(())
    }

    pub(crate) fn text(&self) -> String {
        LOGGED.with_borrow(|bytes| String::from_utf8(bytes.clone()).expect("logs are UTF-8"))
    }

    pub(crate) fn lines(&self) -> Vec<Value> {
        self.text()
            .lines()
            .map(|line| serde_json::from_str(line).expect("lines are JSON"))
            .collect()
    }
}

struct LogWriter;

impl io::Write for LogWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        LOGGED.with_borrow_mut(|logged| logged.extend_from_slice(bytes));
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
