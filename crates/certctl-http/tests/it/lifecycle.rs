//! Requests that outlive their client, and requests that take too long.

use std::sync::LazyLock;

use axum::body::Body;
use certctl_http::Route;
use tokio::sync::Semaphore;

use crate::support::{TestApi, request};

/// Steps that the slow use case has been allowed, and those it has taken.
pub(crate) struct Steps {
    pub(crate) begun: Semaphore,
    pub(crate) allowed: Semaphore,
    pub(crate) done: Semaphore,
}

impl Steps {
    const fn new() -> Self {
        Self {
            begun: Semaphore::const_new(0),
            allowed: Semaphore::const_new(0),
            done: Semaphore::const_new(0),
        }
    }
}

static DETACHED: LazyLock<Steps> = LazyLock::new(Steps::new);
static READING: LazyLock<Steps> = LazyLock::new(Steps::new);
static CLAIMING: LazyLock<Steps> = LazyLock::new(Steps::new);
/// Never allowed.
pub(crate) static ABANDONED: LazyLock<Steps> = LazyLock::new(Steps::new);
/// Never allowed.
pub(crate) static STUCK: LazyLock<Steps> = LazyLock::new(Steps::new);
pub(crate) static DRAINED: LazyLock<Steps> = LazyLock::new(Steps::new);

pub(crate) fn routes() -> Vec<Route> {
    vec![
        Route::post("/slow", "slow")
            .public()
            .returns::<String>()
            .handler(async || take(&DETACHED).await),
        Route::get("/slow", "slow_reading")
            .public()
            .returns::<String>()
            .handler(async || take(&READING).await),
        Route::get("/claim", "claiming")
            .public()
            .detached()
            .returns::<String>()
            .handler(async || take(&CLAIMING).await),
        Route::post("/abandoned", "abandoned")
            .public()
            .returns::<String>()
            .handler(async || take(&ABANDONED).await),
        Route::get("/stuck", "stuck")
            .public()
            .returns::<String>()
            .handler(async || take(&STUCK).await),
        Route::get("/drained", "drained")
            .public()
            .returns::<String>()
            .handler(async || take(&DRAINED).await),
    ]
}

async fn take(steps: &Steps) -> &'static str {
    steps.begun.add_permits(1);
    steps.allowed.acquire().await.unwrap().forget();
    steps.done.add_permits(1);
    "done"
}

#[tokio::test]
async fn a_client_that_hangs_up_does_not_cancel_what_it_began() {
    let api = TestApi::new();
    let call = tokio::spawn(
        api.app
            .router()
            .into_call(request("POST", "/slow", "").body(Body::empty()).unwrap()),
    );
    DETACHED.begun.acquire().await.unwrap().forget();
    call.abort();
    assert!(call.await.unwrap_err().is_cancelled());
    assert_eq!(api.app.detached().len(), 1, "the use case goes on");
    DETACHED.allowed.add_permits(1);
    DETACHED.done.acquire().await.unwrap().forget();
    api.app.detached().close();
    api.app.detached().wait().await;
}

#[tokio::test]
async fn what_claims_by_reading_is_not_cancelled_either() {
    let api = TestApi::new();
    let call = tokio::spawn(
        api.app
            .router()
            .into_call(request("GET", "/claim", "").body(Body::empty()).unwrap()),
    );
    CLAIMING.begun.acquire().await.unwrap().forget();
    call.abort();
    assert!(call.await.unwrap_err().is_cancelled());
    CLAIMING.allowed.add_permits(1);
    CLAIMING.done.acquire().await.unwrap().forget();
    let head = api.call("HEAD", "/claim", "", "").await;
    assert_eq!((head.status, head.header("allow")), (405, Some("GET")));
    assert_eq!(CLAIMING.begun.available_permits(), 0);
}

#[tokio::test]
async fn a_client_that_hangs_up_cancels_what_only_reads() {
    let api = TestApi::new();
    let call = tokio::spawn(
        api.app
            .router()
            .into_call(request("GET", "/slow", "").body(Body::empty()).unwrap()),
    );
    READING.begun.acquire().await.unwrap().forget();
    call.abort();
    assert!(call.await.unwrap_err().is_cancelled());
    READING.allowed.add_permits(1);
    tokio::task::yield_now().await;
    assert_eq!(
        (
            READING.allowed.available_permits(),
            READING.done.available_permits()
        ),
        (1, 0)
    );
}

#[tokio::test(start_paused = true)]
async fn a_request_that_takes_too_long_is_answered_and_still_has_its_headers() {
    let api = TestApi::new();
    let answer = api.get("/never", "").await;
    answer.is_main(
        503,
        "Service Unavailable",
        "the request took too long; what it began may still be finished",
    );
    assert_eq!(answer.header("x-frame-options"), Some("DENY"));
}

/// Calls a router without borrowing it.
trait IntoCall {
    fn into_call(self, request: http::Request<Body>) -> impl Future<Output = u16> + Send + 'static;
}

impl IntoCall for axum::Router {
    fn into_call(self, request: http::Request<Body>) -> impl Future<Output = u16> + Send + 'static {
        use tower::ServiceExt;
        async move {
            self.oneshot(request)
                .await
                .expect("the router is infallible")
                .status()
                .as_u16()
        }
    }
}
