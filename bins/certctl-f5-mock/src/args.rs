//! What the program is started with.

use std::{fs, net::SocketAddr, path::PathBuf, sync::Arc};

use anyhow::Context as _;
use certctl_domain::{secret::Secret, time::SystemClock};
use certctl_f5_mock::{Options, PairPem};
use clap::Parser;

/// A BIG-IP for tests: iControl REST, and a server that presents the certificate of a client-ssl profile.
#[derive(Parser)]
#[command(version)]
pub(crate) struct Args {
    /// Where iControl REST is served, over TLS.
    #[arg(
        long,
        env = "CERTCTL_F5_MOCK_API_LISTEN",
        default_value = "127.0.0.1:10443"
    )]
    api_listen: SocketAddr,
    /// Where the virtual server is, which presents the profile's certificate.
    #[arg(
        long,
        env = "CERTCTL_F5_MOCK_HTTPS_LISTEN",
        default_value = "127.0.0.1:10444"
    )]
    https_listen: SocketAddr,
    /// Where `/healthz` and the hooks for tests are, in plain HTTP.
    #[arg(
        long,
        env = "CERTCTL_F5_MOCK_HEALTH_LISTEN",
        default_value = "127.0.0.1:10080"
    )]
    health_listen: SocketAddr,
    /// The one user.
    #[arg(long, env = "CERTCTL_F5_MOCK_USER", default_value = "admin")]
    user: String,
    /// The user's password.
    #[arg(
        long,
        env = "CERTCTL_F5_MOCK_PASSWORD",
        default_value = "admin",
        hide_env_values = true
    )]
    password: String,
    /// A certificate, PEM, leaf first: that of the API, and the profile's first one. One is made when it is left out.
    #[arg(long, env = "CERTCTL_F5_MOCK_CERT", requires = "key")]
    cert: Option<PathBuf>,
    /// Its private key, PEM.
    #[arg(long, env = "CERTCTL_F5_MOCK_KEY", requires = "cert")]
    key: Option<PathBuf>,
    /// The client-ssl profile of the virtual server.
    #[arg(long, env = "CERTCTL_F5_MOCK_PROFILE", default_value = "certctl")]
    profile: String,
    /// The partition of the profile.
    #[arg(long, env = "CERTCTL_F5_MOCK_PARTITION", default_value = "Common")]
    partition: String,
}

impl Args {
    pub(crate) fn options(self) -> anyhow::Result<Options> {
        let read = |path: &PathBuf| {
            fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))
        };
        let pair = match (&self.cert, &self.key) {
            (Some(cert), Some(key)) => Some(PairPem {
                certificates: read(cert)?,
                key: Secret::new(read(key)?),
            }),
            _ => None,
        };
        Ok(Options {
            api: self.api_listen,
            virtual_server: self.https_listen,
            health: self.health_listen,
            user: self.user,
            password: Secret::new(self.password),
            pair,
            partition: self.partition,
            profile: self.profile,
            clock: Arc::new(SystemClock),
        })
    }
}
