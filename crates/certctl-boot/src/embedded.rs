//! certctl within a program that has a listener of its own.

use certctl_http::App;
use certctl_service::Services;
use certctl_settings::Settings;
use certctl_telemetry::MetricsHandle;
use tokio::time::{Instant, timeout_at};
use tokio_util::sync::CancellationToken;

use crate::{
    Error,
    background::{Background, tidy_up},
    server::Assembled,
};

/// Everything of a server but its listener. The program that has it serves the routes, and runs what goes on in the background
/// beside them.
pub struct Embedded(Assembled);

impl Embedded {
    /// Brings the database up to date and puts everything together; nothing runs yet.
    ///
    /// # Errors
    /// [`Error`], each variant something the one who starts the program can act on.
    pub async fn build(settings: Settings, metrics: MetricsHandle) -> Result<Self, Error> {
        Ok(Self(Assembled::new(settings, metrics).await?))
    }

    /// The use cases.
    #[must_use]
    pub fn services(&self) -> &Services {
        &self.0.services
    }

    /// The whole API, and the ACME server where it is on.
    #[must_use]
    pub fn api(&self) -> App {
        App::new(self.0.state.clone())
    }

    /// The ACME server alone, below `/acme`. Whoever serves it puts [`certctl_http::Peer`] into each request, because limits and
    /// networks go by it, and serves it as HTTPS, here or through a proxy (RFC 8555 §6.1).
    #[must_use]
    pub fn acme(&self) -> App {
        App::with_routes(self.0.state.clone(), App::acme_routes())
    }

    /// Signs, looks at challenges and sweeps until `stop`; then ends what is under way, within the configured time. True when
    /// nothing had to be cut. Requests should have been answered before.
    pub async fn run(self, stop: CancellationToken) -> bool {
        let Assembled {
            settings,
            services,
            health,
            metrics,
            ..
        } = self.0;
        let mut background = Background::start(&settings, &services, metrics);
        health.set_ready();
        stop.cancelled().await;
        health.set_draining();
        let budget = settings.server.shutdown_timeout;
        let end = Instant::now() + budget;
        let ended = background.drain(budget).await;
        background.end();
        let tidied = timeout_at(end, tidy_up(&services)).await.is_ok();
        services.db().close();
        ended && tidied
    }
}
