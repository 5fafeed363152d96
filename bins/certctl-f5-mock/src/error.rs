//! Why a mock cannot be started.

use std::{io, net::SocketAddr};

/// Why a mock cannot be started.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A socket cannot be bound.
    #[error("cannot listen on {address}")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// The reason of the system.
        source: io::Error,
    },
    /// A certificate or key is no PEM, or cannot be made.
    #[error("the certificate cannot be used")]
    Certificate(#[source] certctl_pki::Error),
    /// Certificate and key cannot be served.
    #[error("the certificate cannot be served with its key")]
    Pair(#[source] rustls::Error),
    /// The file holds no certificate.
    #[error("there is no certificate in the file")]
    Empty,
    /// The file holds no private key.
    #[error("there is no private key in the file")]
    NoKey,
}
