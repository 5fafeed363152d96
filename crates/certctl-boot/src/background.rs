//! What goes on beside the requests: loops, challenges, and hearing other replicas.

use std::{pin::Pin, time::Duration};

use certctl_service::{Services, acme::Acme};
use certctl_settings::Settings;
use certctl_telemetry::{ErrorChain, MetricsHandle};
use tokio::{
    task::JoinHandle,
    time::{Instant, interval, sleep, timeout_at},
};
use tokio_util::sync::CancellationToken;

use crate::wiring;

/// How often histogram samples are folded, so that they do not pile up while nobody scrapes.
const METRICS_UPKEEP: Duration = Duration::from_secs(5);
/// How long the listener for other replicas waits before it connects again.
const LISTEN_AGAIN: Duration = Duration::from_secs(5);

/// All that runs beside the requests.
pub(crate) struct Background {
    loops: Option<certctl_scheduler::Running>,
    challenges: Option<JoinHandle<()>>,
    stop_challenges: CancellationToken,
    stop_upkeep: CancellationToken,
}

impl Background {
    pub(crate) fn start(settings: &Settings, services: &Services, metrics: MetricsHandle) -> Self {
        let (stop_loops, stop_challenges, stop_upkeep) = (
            CancellationToken::new(),
            CancellationToken::new(),
            CancellationToken::new(),
        );
        let table = certctl_scheduler::table(services, wiring::intervals(settings));
        let loops = certctl_scheduler::spawn(table, services.clock(), &stop_loops);
        let challenges = services
            .acme()
            .map(|acme| tokio::spawn(look_at_challenges(acme, stop_challenges.clone())));
        let upkeep =
            |work: Upkeep| tokio::spawn(stop_upkeep.clone().run_until_cancelled_owned(work));
        upkeep(Box::pin(hear_other_replicas(services.clone())));
        upkeep(Box::pin(hear_recalls(services.clone())));
        upkeep(Box::pin(async move {
            let mut tick = interval(METRICS_UPKEEP);
            loop {
                tick.tick().await;
                metrics.run_upkeep();
            }
        }));
        Self {
            loops: Some(loops),
            challenges,
            stop_challenges,
            stop_upkeep,
        }
    }

    /// Has the loops take no more ticks and end what they run, and then challenges that are under way looked at to their end, which
    /// the jobs they lead to do not need. What is not looked at in its share of `budget` is taken up by another replica, or after the
    /// next start. True when nothing was cut.
    pub(crate) async fn drain(&mut self, budget: Duration) -> bool {
        let end = Instant::now() + budget.mul_f64(wiring::CHALLENGES_END);
        let share = budget.mul_f64(wiring::LOOPS_SHARE);
        let loops_ended = match self.loops.take() {
            Some(loops) => loops.drain(share).await,
            None => true,
        };
        self.stop_challenges.cancel();
        let Some(mut challenges) = self.challenges.take() else {
            return loops_ended;
        };
        let looked = timeout_at(end, &mut challenges).await;
        challenges.abort();
        loops_ended && matches!(looked, Ok(Ok(())))
    }

    /// Hears nobody any more.
    pub(crate) fn end(&self) {
        self.stop_upkeep.cancel();
    }
}

/// Work without an end.
type Upkeep = Pin<Box<dyn Future<Output = ()> + Send>>;

/// Hears what other replicas say of jobs, keys and grants. What is missed while the connection is down, the polls find.
async fn hear_other_replicas(services: Services) {
    loop {
        if let Err(error) = services.hear_wakes().await {
            tracing::warn!(error = %ErrorChain(&error), "other replicas cannot be heard; jobs wait for the next poll");
        }
        sleep(LISTEN_AGAIN).await;
    }
}

/// Gives back permits of shared limits that other replicas ask for.
async fn hear_recalls(services: Services) {
    loop {
        if let Err(error) = services.hear_recalls().await {
            tracing::warn!(error = %ErrorChain(&error), "other replicas cannot be heard; permits of limits go back when their lease ends");
        }
        sleep(LISTEN_AGAIN).await;
    }
}

/// Takes up what an earlier process left, and looks at challenges until it is told to stop.
async fn look_at_challenges(acme: Acme, stop: CancellationToken) {
    if let Err(error) = acme.recover_challenges().await {
        tracing::warn!(error = %ErrorChain(&error), "challenges of an earlier process wait for the next sweep");
    }
    acme.run_challenges(&stop).await;
}

/// What is written last: calls of the API that wait, which is why it comes after the last answer; heartbeats; the jobs that are
/// still held; and the seal over all that.
pub(crate) async fn tidy_up(services: &Services) {
    if let Err(error) = services.flush_api_trail().await {
        tracing::error!(error = %ErrorChain(&error), "the last calls of the API could not be written to the audit trail");
    }
    if let Err(error) = services.flush_heartbeats().await {
        tracing::warn!(error = %ErrorChain(&error), "the last heartbeats could not be written");
    }
    services.give_back_permits().await;
    if let Err(error) = services.flush_key_uses().await {
        tracing::warn!(error = %ErrorChain(&error), "the last uses of API keys could not be written");
    }
    match services.release_jobs().await {
        Ok(0) => {}
        Ok(jobs) => tracing::warn!(jobs, "jobs that did not end in time were given back"),
        Err(error) => {
            tracing::warn!(error = %ErrorChain(&error), "jobs could not be given back; their leases will run out");
        }
    }
    let sealed = async {
        services.seal_audit_log().await?;
        services.stop_sealing().await
    };
    if let Err(error) = sealed.await {
        tracing::warn!(error = %ErrorChain(&error), "the end of the audit trail is not sealed; the next start does it");
    }
}
