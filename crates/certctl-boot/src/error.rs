//! Why a server does not start.

use std::{io, path::PathBuf};

/// What stands in the way of a start. Every variant is something the one who starts the server can act on.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The schema could not be brought up to date, or the database cannot be reached.
    #[error("the database is not ready")]
    Migrations(#[from] certctl_repository::migrations::Error),
    /// The database cannot be used.
    #[error("the database cannot be used")]
    Database(#[from] certctl_repository::Error),
    /// A use case of the start failed.
    #[error("the first steps of the server failed")]
    Service(#[from] certctl_service::Error),
    /// A file or folder cannot be read or made.
    #[error("{} cannot be used", .path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The address cannot be listened on.
    #[error("{address} cannot be listened on")]
    Bind {
        /// Host and port.
        address: String,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The server's certificate and key cannot be served.
    #[error("the server's TLS certificate cannot be used")]
    Tls(#[from] certctl_http::tls::Error),
    /// The local CA gave the server no certificate.
    #[error("the local CA gave the server no certificate")]
    Identity(#[from] certctl_domain::ports::issuer::IssuerError),
    /// What is stored cannot be opened with the configured encryption key.
    #[error(transparent)]
    Encryption(#[from] certctl_service::encryption::Error),
    /// There is nothing to seal with.
    #[error("CERTCTL_CONFIG_ENCRYPTION_KEY is not set, so there is no key to seal with")]
    NoEncryptionKey,
    /// The files of a local CA cannot be used.
    #[error("the files of a local CA cannot be used")]
    CaKey(#[source] certctl_domain::ports::issuer::IssuerError),
    /// A certificate or key that exists already cannot be read.
    #[error("the server's TLS certificate cannot be read")]
    Pki(#[from] certctl_pki::Error),
    /// The process logs or counts already, elsewhere.
    #[error("logs and metrics cannot be started")]
    Telemetry(#[from] certctl_telemetry::Error),
    /// Grants of the demo actor are left, and that is not to be.
    #[error(
        "CERTCTL_DEMO_MODE_RESIDUAL_STRICT: {grants} grants of the demo actor are left from a time without authentication; \
         start once without it and remove them: POST /api/v1/auth/demo-residual/cleanup"
    )]
    DemoGrants {
        /// How many.
        grants: usize,
    },
    /// The machine gave no random bytes.
    #[error("the system gave no random bytes")]
    Random,
}
