//! A server that runs, and how it ends.

use std::{sync::Arc, time::Duration};

use certctl_http::tls::{self, CertResolver, Drained};
use certctl_pki::cert::ParsedCertificate;
use certctl_service::{Services, acme::Acme};
use certctl_telemetry::{ErrorChain, Health, metrics_names};
use tokio::{
    task::JoinHandle,
    time::{Instant, interval, sleep, timeout_at},
};
use tokio_util::sync::CancellationToken;

use crate::{Server, identity::Identity, wiring};

/// A running server.
pub struct Running {
    services: Services,
    loops: certctl_scheduler::Running,
    listener: JoinHandle<Drained>,
    challenges: Option<JoinHandle<()>>,
    stop_challenges: CancellationToken,
    stop_listening: CancellationToken,
    stop_upkeep: CancellationToken,
    certificate: Arc<CertResolver>,
    identity: Identity,
    health: Health,
    budget: Duration,
}

/// How often the server looks after its own certificate.
const CERTIFICATE_CHECK: Duration = Duration::from_secs(6 * 3600);
/// How often histogram samples are folded, so that they do not pile up while nobody scrapes.
const METRICS_UPKEEP: Duration = Duration::from_secs(5);
/// How long the listener for other replicas waits before it connects again.
const LISTEN_AGAIN: Duration = Duration::from_secs(5);

impl Running {
    pub(crate) fn start(server: Server) -> Self {
        let Server {
            settings,
            services,
            app,
            listener,
            certificate,
            identity,
            health,
            metrics,
            ..
        } = server;
        let (stop_loops, stop_listening, stop_upkeep) = (
            CancellationToken::new(),
            CancellationToken::new(),
            CancellationToken::new(),
        );
        let table = certctl_scheduler::table(&services, wiring::intervals(&settings));
        let loops = certctl_scheduler::spawn(table, services.clock(), &stop_loops);
        let serving = tls::serve(
            listener,
            app,
            Arc::clone(&certificate),
            wiring::serve_limits(&settings),
            stop_listening.clone(),
        );
        let listener = tokio::spawn(serving);
        let stop_challenges = CancellationToken::new();
        let challenges = services
            .acme()
            .map(|acme| tokio::spawn(look_at_challenges(acme, stop_challenges.clone())));
        tokio::spawn(
            stop_upkeep
                .clone()
                .run_until_cancelled_owned(hear_other_replicas(services.clone())),
        );
        tokio::spawn(
            stop_upkeep
                .clone()
                .run_until_cancelled_owned(hear_recalls(services.clone())),
        );
        tokio::spawn(stop_upkeep.clone().run_until_cancelled_owned(async move {
            let mut tick = interval(METRICS_UPKEEP);
            loop {
                tick.tick().await;
                metrics.run_upkeep();
            }
        }));
        tokio::spawn(
            stop_upkeep
                .clone()
                .run_until_cancelled_owned(keep_certificate(
                    identity.clone(),
                    Arc::clone(&certificate),
                )),
        );
        show_expiry(&certificate);
        health.set_ready();
        Self {
            services,
            loops,
            listener,
            challenges,
            stop_challenges,
            stop_listening,
            stop_upkeep,
            certificate,
            identity,
            health,
            budget: settings.server.shutdown_timeout,
        }
    }

    /// Reads the server's certificate anew; the old one stays when the new one cannot be used. For SIGHUP.
    pub async fn reload_certificate(&self) {
        match self.identity.reload(&self.certificate).await {
            Ok(()) => {
                show_expiry(&self.certificate);
                tracing::info!("the server certificate was read anew");
            }
            Err(error) => {
                tracing::error!(error = %ErrorChain(&error), "the server certificate could not be read anew; the old one stays in use");
            }
        }
    }

    /// Ends the server, in this order: readiness says no, the loops take no more ticks and end what they run, ACME challenges under way are looked at to
    /// their end, the listener closes
    /// and answers what is in flight, the audit trail and heartbeats are written, jobs still held are given back, what was written
    /// is sealed, the database is closed. All of it
    /// within the configured budget; true when nothing had to be cut.
    pub async fn drain(self) -> bool {
        self.health.set_draining();
        tracing::info!(budget_s = self.budget.as_secs(), "shutting down");
        let end = Instant::now() + self.budget;
        let challenges_end = Instant::now() + self.budget.mul_f64(wiring::CHALLENGES_END);
        let loops_ended = self
            .loops
            .drain(self.budget.mul_f64(wiring::LOOPS_SHARE))
            .await;
        // Before the listener, so that clients are still told what came of their challenges; whatever is not looked at by then is
        // taken up by another replica, or after the next start.
        self.stop_challenges.cancel();
        let looked = match self.challenges {
            Some(mut challenges) => {
                let ended = timeout_at(challenges_end, &mut challenges).await;
                challenges.abort();
                matches!(ended, Ok(Ok(())))
            }
            None => true,
        };
        self.stop_listening.cancel();
        let mut listener = self.listener;
        let answered = match timeout_at(end, &mut listener).await {
            Ok(Ok(drained)) => drained.is_complete(),
            _ => {
                // Nothing may be answered from a database that is closed.
                listener.abort();
                false
            }
        };
        self.stop_upkeep.cancel();
        let tidied = timeout_at(end, tidy_up(&self.services)).await.is_ok();
        self.services.db().close();
        let clean = loops_ended && looked && answered && tidied;
        tracing::info!(clean, "shut down");
        clean
    }
}

/// What is written last: calls of the API that wait, which is why it comes after the last answer; heartbeats; the jobs that are
/// still held; and the seal over all that.
async fn tidy_up(services: &Services) {
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

async fn keep_certificate(identity: Identity, certificate: Arc<CertResolver>) {
    let Identity::Own(_) = &identity else { return };
    loop {
        sleep(CERTIFICATE_CHECK).await;
        if let Err(error) = identity.reload(&certificate).await {
            tracing::error!(error = %ErrorChain(&error), "the server's own certificate could not be kept in date");
        }
        show_expiry(&certificate);
    }
}

fn show_expiry(certificate: &CertResolver) {
    if let Ok(leaf) = ParsedCertificate::from_der(&certificate.certificate_der()) {
        metrics::gauge!(metrics_names::TLS_CERT_NOT_AFTER_TIMESTAMP_SECONDS.name)
            .set(leaf.not_after().as_seconds() as f64);
    }
}
