//! Looks whether a name is under the control of whoever orders a certificate for it (RFC 8555 §8, RFC 8737, RFC 8738), and
//! whom its owner lets issue (RFC 8659, RFC 8657).
//!
//! The names are an attacker's to choose, so this is a client that is aimed by strangers. A name is resolved once by the one
//! configured resolver; every address that comes back is checked, and one of those very addresses is connected to, so that an
//! answer that changes between check and connection changes nothing. Redirects go through the same again.
//! Nothing of what a server answered is ever told to whoever asked, beyond what was wrong with it.

mod caa;
mod dial;
mod dns;
mod dns01;
mod error;
pub mod guard;
mod http01;
mod tls;
mod tls_alpn01;

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    time::Duration,
};

use certctl_domain::{
    acme::{ChallengeType, Problem},
    network::Network,
    ports::{
        BoxFuture,
        challenge::{ChallengeValidator, ProofRequest},
    },
};
use tokio::time::timeout;

pub use self::caa::Caa;
use self::{
    dial::Dialler, dns::Resolver, dns01::Dns01, error::Error, guard::Guard, http01::Http01,
    tls_alpn01::TlsAlpn01,
};

/// How proofs are looked for.
#[derive(Debug, Clone)]
pub struct Config {
    /// The one resolver that is asked, for records and for addresses; it is trusted, and may be anywhere.
    pub resolver: SocketAddr,
    /// Whether private networks are refused as well.
    pub block_private: bool,
    /// Networks that are connected to although they are reserved: for tests, and for closed networks that use such addresses.
    pub allowed_networks: Vec<Network>,
    /// The port of `http-01`, where a redirect may lead as well. Anything but 80 is for tests and closed networks: RFC 8555
    /// §8.3 fixes it, because whoever may bind it controls the host.
    pub http_port: u16,
    /// The port of `tls-alpn-01`, where a redirect may lead as well. Anything but 443 is for tests and closed networks
    /// (RFC 8737 §3).
    pub tls_port: u16,
    /// How long each step may take.
    pub limits: Limits,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            resolver: SocketAddr::new(IpAddr::V4(Ipv4Addr::new(8, 8, 8, 8)), 53),
            block_private: false,
            allowed_networks: Vec::new(),
            http_port: 80,
            tls_port: 443,
            limits: Limits::default(),
        }
    }
}

/// How long the steps of a look may take.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// One attempt to ask the resolver; there are three.
    pub query: Duration,
    /// Connecting to one address.
    pub dial: Duration,
    /// A handshake, and from a request to the end of the answer's headers.
    pub headers: Duration,
    /// The whole look.
    pub total: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            query: Duration::from_secs(4),
            dial: Duration::from_secs(5),
            headers: Duration::from_secs(10),
            total: Duration::from_secs(30),
        }
    }
}

/// The validators of all types of challenges.
#[derive(Debug)]
pub struct Validators {
    http01: Http01,
    dns01: Dns01,
    tls_alpn01: TlsAlpn01,
    total: Duration,
}

impl Validators {
    /// Makes them; nothing is connected to.
    #[must_use]
    pub fn new(config: &Config) -> Self {
        let resolver = Resolver::new(config);
        let dialler = Dialler::new(
            resolver.clone(),
            Guard {
                allowed: config.allowed_networks.clone(),
                block_private: config.block_private,
            },
            config.limits.dial,
        );
        Self {
            http01: Http01::new(dialler.clone(), config),
            dns01: Dns01::new(resolver),
            tls_alpn01: TlsAlpn01::new(dialler, config),
            total: config.limits.total,
        }
    }

    async fn look(&self, request: &ProofRequest) -> Result<(), Error> {
        match request.challenge_type {
            ChallengeType::Http01 => self.http01.prove(request).await,
            ChallengeType::Dns01 => self.dns01.prove(request).await,
            ChallengeType::TlsAlpn01 => self.tls_alpn01.prove(request).await,
        }
    }
}

impl ChallengeValidator for Validators {
    fn prove<'a>(&'a self, request: &'a ProofRequest) -> BoxFuture<'a, Result<(), Problem>> {
        Box::pin(async move {
            let result = timeout(self.total, self.look(request))
                .await
                .unwrap_or_else(|_| Err(Error::late(request.challenge_type)));
            result.map_err(|error| {
                tracing::debug!(
                    identifier = %request.identifier,
                    challenge = request.challenge_type.as_str(),
                    error = &error as &dyn std::error::Error,
                    "no proof was found"
                );
                error.problem()
            })
        })
    }
}
