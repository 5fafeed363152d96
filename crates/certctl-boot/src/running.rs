//! A server that runs, and how it ends.

use std::{sync::Arc, time::Duration};

use certctl_http::tls::{self, CertResolver, Drained};
use certctl_pki::cert::ParsedCertificate;
use certctl_service::Services;
use certctl_telemetry::{ErrorChain, Health, metrics_names};
use tokio::{
    task::JoinHandle,
    time::{Instant, sleep, timeout_at},
};
use tokio_util::sync::CancellationToken;

use crate::{
    Server,
    background::{Background, tidy_up},
    identity::Identity,
    wiring,
};

/// A running server.
pub struct Running {
    services: Services,
    background: Background,
    listener: JoinHandle<Drained>,
    stop_listening: CancellationToken,
    stop_upkeep: CancellationToken,
    certificate: Arc<CertResolver>,
    identity: Identity,
    health: Health,
    budget: Duration,
}

/// How often the server looks after its own certificate.
const CERTIFICATE_CHECK: Duration = Duration::from_secs(6 * 3600);

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
        let background = Background::start(&settings, &services, metrics);
        let (stop_listening, stop_upkeep) = (CancellationToken::new(), CancellationToken::new());
        let serving = tls::serve(
            listener,
            app,
            Arc::clone(&certificate),
            wiring::serve_limits(&settings),
            stop_listening.clone(),
        );
        let listener = tokio::spawn(serving);
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
            background,
            listener,
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

    /// Ends the server, in this order: readiness says no, the loops take no more ticks and end what they run, ACME challenges under
    /// way are looked at to their end, the listener closes and answers what is in flight, the audit trail and heartbeats are
    /// written, jobs still held are given back, what was written is sealed, the database is closed. All of it within the configured
    /// budget; true when nothing had to be cut.
    pub async fn drain(mut self) -> bool {
        self.health.set_draining();
        tracing::info!(budget_s = self.budget.as_secs(), "shutting down");
        let end = Instant::now() + self.budget;
        // Before the listener, so that clients are still told what came of their challenges.
        let ended = self.background.drain(self.budget).await;
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
        self.background.end();
        let tidied = timeout_at(end, tidy_up(&self.services)).await.is_ok();
        self.services.db().close();
        let clean = ended && answered && tidied;
        tracing::info!(clean, "shut down");
        clean
    }
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
