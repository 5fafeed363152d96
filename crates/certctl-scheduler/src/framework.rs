//! Runs loops.

use std::{error::Error, sync::Arc, time::Duration};

use certctl_domain::{ports::BoxFuture, time::Clock};
use certctl_telemetry::{ErrorChain, metrics_names as names};
use futures_util::FutureExt as _;
use metrics::{counter, gauge, histogram};
use tokio::{
    task::JoinSet,
    time::{Instant, sleep},
};
use tokio_util::sync::CancellationToken;
use tracing::Instrument as _;

/// The work of a loop. It is given a token that is cancelled when the run should end: at its deadline or when the server stops.
/// It answers what it did, for the log, or nothing when there was nothing to do.
pub type Body = Arc<
    dyn Fn(
            CancellationToken,
        ) -> BoxFuture<'static, Result<Option<String>, Box<dyn Error + Send + Sync>>>
        + Send
        + Sync,
>;

/// Waits until the loop should run before its time.
pub type Bell = Arc<dyn Fn() -> BoxFuture<'static, ()> + Send + Sync>;

/// A loop.
#[derive(Clone)]
pub struct Loop {
    /// Its name, as metrics and logs show it.
    pub name: &'static str,
    /// The mean time between two runs; each is spread by a tenth either way.
    pub interval: Duration,
    /// How long a run may take before it is told to end.
    pub deadline: Duration,
    /// The longest time the first run is put off; none to wait an interval first.
    pub at_start: Option<Duration>,
    /// What wakes it between ticks.
    pub bell: Option<Bell>,
    /// Its work.
    pub body: Body,
}

/// Time given to a run after it was told to end, before it is dropped.
const GRACE: Duration = Duration::from_secs(30);

/// The loops that run.
pub struct Running {
    tasks: JoinSet<()>,
    stop: CancellationToken,
}

/// Starts the loops; they run until `stop` is cancelled.
#[must_use]
pub fn spawn(loops: Vec<Loop>, clock: &Arc<dyn Clock>, stop: &CancellationToken) -> Running {
    let mut tasks = JoinSet::new();
    for one in loops {
        tasks.spawn(drive(one, Arc::clone(clock), stop.clone()));
    }
    Running {
        tasks,
        stop: stop.clone(),
    }
}

impl Running {
    /// Stops taking ticks and waits for the runs under way; false when some did not end in time and were dropped.
    pub async fn drain(mut self, within: Duration) -> bool {
        self.stop.cancel();
        let all = async { while self.tasks.join_next().await.is_some() {} };
        tokio::time::timeout(within, all).await.is_ok()
    }
}

async fn drive(one: Loop, clock: Arc<dyn Clock>, stop: CancellationToken) {
    let mut wait = match one.at_start {
        Some(spread) => spread.mul_f64(random()),
        None => jittered(one.interval),
    };
    loop {
        let rung = async {
            match &one.bell {
                Some(bell) => bell().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            biased;
            () = stop.cancelled() => return,
            () = sleep(wait) => {}
            () = rung => {}
        }
        let started = Instant::now();
        run(&one, &*clock, &stop).await;
        let missed = started.elapsed().as_secs_f64() / one.interval.as_secs_f64().max(0.001);
        if missed >= 1.0 {
            tracing::warn!(
                r#loop = one.name,
                "a loop ran longer than its interval; the ticks in between are dropped"
            );
            #[expect(
                clippy::cast_possible_truncation,
                clippy::cast_sign_loss,
                reason = "a small positive count"
            )]
            counter!(names::SCHEDULER_SKIPPED_TICKS_TOTAL.name, "loop" => one.name)
                .increment(missed as u64);
        }
        wait = jittered(one.interval);
    }
}

async fn run(one: &Loop, clock: &dyn Clock, stop: &CancellationToken) {
    let span = tracing::info_span!("loop", r#loop = one.name);
    let started = Instant::now();
    let token = stop.child_token();
    let body = std::panic::AssertUnwindSafe((one.body)(token.clone()))
        .catch_unwind()
        .instrument(span.clone());
    let timed = async {
        tokio::pin!(body);
        tokio::select! {
            outcome = &mut body => return Some(outcome),
            () = sleep(one.deadline) => token.cancel(),
        }
        tokio::time::timeout(GRACE, body).await.ok()
    };
    let result = match timed.await {
        Some(Ok(Ok(summary))) => {
            if let Some(summary) = summary {
                span.in_scope(|| tracing::info!("{summary}"));
            }
            gauge!(names::SCHEDULER_LAST_SUCCESS_TIMESTAMP_SECONDS.name, "loop" => one.name)
                .set(clock.now().as_seconds() as f64);
            "success"
        }
        Some(Ok(Err(error))) => {
            span.in_scope(|| tracing::error!(error = %ErrorChain(&*error), "a loop failed; it runs again at its next tick"));
            "error"
        }
        Some(Err(_)) => {
            span.in_scope(|| tracing::error!("a loop panicked; it runs again at its next tick"));
            "panic"
        }
        None => {
            span.in_scope(|| {
                tracing::error!(
                    deadline_s = one.deadline.as_secs(),
                    "a loop did not end at its deadline and was dropped"
                );
            });
            "timeout"
        }
    };
    counter!(names::SCHEDULER_RUNS_TOTAL.name, "loop" => one.name, "result" => result).increment(1);
    histogram!(names::SCHEDULER_RUN_SECONDS.name, "loop" => one.name)
        .record(started.elapsed().as_secs_f64());
}

/// An interval spread by a tenth either way, drawn anew each time.
fn jittered(interval: Duration) -> Duration {
    interval.mul_f64(0.9 + 0.2 * random())
}

/// 0 to 1; it only spreads load.
fn random() -> f64 {
    use std::hash::{BuildHasher as _, RandomState};
    f64::from(u32::try_from(RandomState::new().hash_one(0_u8) >> 32).unwrap_or(0))
        / f64::from(u32::MAX)
}

#[cfg(test)]
mod tests;
