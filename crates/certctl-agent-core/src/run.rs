//! The loops of the agent, from start to end (agent §2).

use std::{future::Future, sync::Arc, time::Duration};

use certctl_telemetry::ErrorChain;
use tokio::{
    task::JoinHandle,
    time::{Instant, sleep, timeout},
};

use crate::{
    Error,
    agent::{Agent, Inner},
    pace,
};

/// How long a deployment may take to finish or go back when the agent is to stop.
const DRAIN: Duration = Duration::from_secs(30);

/// Why the agent ended in order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// It was asked to.
    Stopped,
    /// The server has retired it; starting it again is of no use.
    Retired,
}

impl Agent {
    /// Runs until `shutdown` or until the server retires the agent. A deployment that is under way finishes or goes back
    /// first, for up to 30 s.
    ///
    /// # Errors
    /// [`Error::Panicked`] when a loop came down.
    pub async fn run(&self, shutdown: impl Future<Output = ()>) -> Result<End, Error> {
        let inner = &self.inner;
        tracing::info!(
            agent_id = %inner.config.identity.agent_id,
            name = inner.config.name,
            server = inner.config.server.url,
            "the agent runs"
        );
        let mut loops = [
            ("of heartbeats", tokio::spawn(self.clone().heartbeats())),
            ("of polls", tokio::spawn(self.clone().polls())),
            ("of reports", tokio::spawn(self.clone().reports())),
        ];
        let fallen = {
            let [heartbeats, polls, reports] = &mut loops;
            tokio::select! {
                () = shutdown => None,
                () = inner.retired.cancelled() => None,
                _ = &mut heartbeats.1 => Some(heartbeats.0),
                _ = &mut polls.1 => Some(polls.0),
                _ = &mut reports.1 => Some(reports.0),
            }
        };
        let was_retired = inner.retired.is_cancelled();
        inner.stop.cancel();
        // A loop only ends by itself when the agent is retired; otherwise it fell.
        if let Some(name) = fallen.filter(|_| !was_retired) {
            return Err(Error::Panicked(name));
        }
        self.drain(loops).await;
        Ok(if was_retired {
            End::Retired
        } else {
            End::Stopped
        })
    }

    /// Whether the agent was asked to end, or was retired, and takes up nothing more.
    #[must_use]
    pub fn is_stopping(&self) -> bool {
        self.inner.stop.is_cancelled()
    }

    async fn drain(&self, loops: [(&'static str, JoinHandle<()>); 3]) {
        let finish = async {
            for (_, handle) in loops {
                if !handle.is_finished() {
                    // How it ended no longer matters.
                    let _: Result<(), tokio::task::JoinError> = handle.await;
                }
            }
            if !self.inner.retired.is_cancelled() {
                self.inner.flush().await;
            }
        };
        if timeout(DRAIN, finish).await.is_err() {
            tracing::error!(
                "work was still under way after {DRAIN:?}; the next deployment puts it right"
            );
        }
        if !self.inner.outbox.is_empty() {
            tracing::warn!(
                "results could not be delivered; they will be when the agent starts again"
            );
        }
    }

    async fn heartbeats(self) {
        let inner = Arc::clone(&self.inner);
        let interval = inner.config.heartbeat_interval;
        if !inner.wait(inner.start_delay(interval)).await {
            return;
        }
        let mut refusals = 0_u32;
        loop {
            let beat = self.heartbeat().await;
            match &beat {
                Ok(()) => tracing::debug!("heartbeat"),
                Err(Error::Retired) => return,
                Err(failure) if failure.status() == Some(404) => {
                    tracing::error!(problem = %ErrorChain(failure), "the server does not know this agent");
                }
                Err(failure) => tracing::warn!(problem = %ErrorChain(failure), "no heartbeat"),
            }
            // Only a refused key is a reason to come less often: a server that is back must hear of the agent soon.
            refusals = match beat.as_ref().err().and_then(Error::status) {
                Some(401 | 403) => refusals.saturating_add(1),
                _ => 0,
            };
            if !inner.wait(next(interval, refusals)).await {
                return;
            }
        }
    }

    async fn polls(self) {
        let inner = Arc::clone(&self.inner);
        let interval = inner.config.poll_interval;
        if !inner.wait(inner.start_delay(interval)).await {
            return;
        }
        let mut failures = 0_u32;
        // How often a certificate that was asked for has been looked after; none when none is expected.
        let mut expecting = None;
        loop {
            let started = Instant::now();
            let pause = match self.poll_once().await {
                Err(Error::Retired) => return,
                Err(failure) => {
                    failures = failures.saturating_add(1);
                    tracing::warn!(failures, problem = %ErrorChain(&failure), "no work could be asked for");
                    next(interval, failures)
                }
                Ok(polled) => {
                    failures = 0;
                    let regular = next(interval, 0).saturating_sub(started.elapsed());
                    expecting = match expecting {
                        None if polled.accepted > 0 => Some(0),
                        // A server that hands out and accepts the same request for ever is not looked after for ever.
                        Some(looks) if polled.accepted > 0 || polled.deployments == 0 => {
                            Some(looks + 1)
                        }
                        _ => None,
                    };
                    let soon = expecting.and_then(pace::follow_up);
                    if soon.is_none() && polled.accepted == 0 {
                        expecting = None;
                    }
                    soon.map_or(regular, |soon| soon.min(regular))
                }
            };
            if !inner.wait(pause).await {
                return;
            }
        }
    }

    /// Delivers what a poll could not deliver itself.
    async fn reports(self) {
        let inner = Arc::clone(&self.inner);
        loop {
            tokio::select! {
                () = inner.outbox.arrival() => {}
                () = inner.stop.cancelled() => return,
            }
            let mut failures = 0_u32;
            loop {
                inner.flush().await;
                if inner.outbox.is_empty() {
                    break;
                }
                failures = failures.saturating_add(1);
                if !inner.wait(next(inner.config.poll_interval, failures)).await {
                    return;
                }
            }
        }
    }
}

/// The pause until the next round.
fn next(interval: Duration, failures: u32) -> Duration {
    pace::spread(pace::backoff(failures, interval), pace::random())
}

impl Inner {
    /// A random delay, so that a fleet started at once does not come at once.
    fn start_delay(&self, interval: Duration) -> Duration {
        let longest = self.config.start_delay.unwrap_or(interval);
        longest.mul_f64(pace::random())
    }

    /// Waits; says whether to go on.
    async fn wait(&self, time: Duration) -> bool {
        tokio::select! {
            () = self.stop.cancelled() => false,
            () = self.retired.cancelled() => false,
            () = sleep(time) => !self.stop.is_cancelled(),
        }
    }
}
