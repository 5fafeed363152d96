//! The capabilities that handlers use.

use std::{error::Error, ops::Deref, sync::Arc};

use certctl_domain::{
    ports::BoxFuture,
    time::{Clock, Timestamp},
};
use certctl_service::Services;
use certctl_telemetry::{Health, MetricsHandle};
use serde::Serialize;

use crate::{auth::Authenticator, settings::HttpSettings};

/// Everything the API is built on, behind one `Arc`, because the router clones it for every request.
///
/// A handler takes `State<AppState>` and uses the one field it needs.
#[derive(Clone)]
pub struct AppState(Arc<Capabilities>);

/// What `certctl-boot` plugs in.
pub struct Capabilities {
    /// How the API behaves.
    pub settings: HttpSettings,
    /// The use cases.
    pub services: Services,
    /// Who asks.
    pub authenticator: Arc<dyn Authenticator>,
    /// Whether the database answers.
    pub readiness: Arc<dyn Readiness>,
    /// Whether this process takes requests.
    pub health: Health,
    /// What was counted.
    pub metrics: MetricsHandle,
    /// What program this is.
    pub info: BuildInfo,
    /// Since when this process runs.
    pub started_at: Timestamp,
    /// What time it is.
    pub clock: Arc<dyn Clock>,
}

impl AppState {
    /// Puts the capabilities together.
    #[must_use]
    pub fn new(capabilities: Capabilities) -> Self {
        Self(Arc::new(capabilities))
    }
}

impl Deref for AppState {
    type Target = Capabilities;

    fn deref(&self) -> &Capabilities {
        &self.0
    }
}

/// Tells whether the database answers.
pub trait Readiness: Send + Sync + 'static {
    /// Asks the database for a sign of life. The caller limits how long it waits.
    ///
    /// # Errors
    /// Whatever kept the database from answering; it is logged and not shown.
    fn ping(&self) -> BoxFuture<'_, Result<Database, Box<dyn Error + Send + Sync>>>;
}

/// What became of the database.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Database {
    /// It answers.
    Reachable,
    /// There is none.
    NotConfigured,
}

/// What program this is, as `GET /api/v1/version` shows it.
#[derive(Debug, Clone, Serialize, schemars::JsonSchema)]
pub struct BuildInfo {
    /// The version of certctl.
    pub version: String,
    /// The commit it was built from.
    pub commit: String,
    /// Whether the work tree held changes that are in no commit.
    pub modified: bool,
    /// When it was built, RFC 3339.
    pub build_time: String,
    /// The toolchain it was built with; existing clients read it under this name.
    #[serde(rename = "go_version")]
    pub toolchain: String,
}

impl Readiness for Services {
    fn ping(&self) -> BoxFuture<'_, Result<Database, Box<dyn Error + Send + Sync>>> {
        Box::pin(async move {
            self.db().ping().await?;
            Ok(Database::Reachable)
        })
    }
}
