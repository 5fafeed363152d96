//! A BIG-IP for tests: as much of iControl REST as certctl's connector speaks (targets §3.13), and behind it a virtual server
//! that really presents the certificate of a client-ssl profile, so that a handshake shows what a deployment came to.
//!
//! Three listeners: the API over TLS, the virtual server over TLS, and plain HTTP for `/healthz` and the hooks of tests.
//! Everything is in memory. Every change is made to a draft of the configuration and takes the place of the whole only when
//! the draft holds together, which is what a transaction of the real device comes to.

mod admin;
mod api;
mod device;
mod error;
mod listen;
mod reply;
mod tls;

use std::{
    net::{Ipv4Addr, SocketAddr},
    sync::Arc,
};

use certctl_domain::{
    secret::Secret,
    time::{Clock, SystemClock},
};
use tokio::task::JoinSet;

pub use crate::{
    device::{
        Device,
        faults::{Effect, Fault},
        objects::FullPath,
    },
    error::Error,
};

/// What a mock is started with.
pub struct Options {
    /// Where iControl REST listens.
    pub api: SocketAddr,
    /// Where the virtual server listens.
    pub virtual_server: SocketAddr,
    /// Where `/healthz` and the hooks of tests listen.
    pub health: SocketAddr,
    /// The one user.
    pub user: String,
    /// The user's password.
    pub password: Secret,
    /// The certificate of the API and the first one of the profile; one is made when there is none.
    pub pair: Option<PairPem>,
    /// The partition of the profile.
    pub partition: String,
    /// The client-ssl profile of the virtual server.
    pub profile: String,
    /// By which tokens and transactions end.
    pub clock: Arc<dyn Clock>,
}

/// A certificate with its key, PEM.
pub struct PairPem {
    /// The leaf, and what follows it.
    pub certificates: String,
    /// The key of the leaf.
    pub key: Secret,
}

impl Options {
    /// Free ports of the loopback, user and password `admin`, and a profile `/Common/certctl` with a certificate of its own.
    #[must_use]
    pub fn on_loopback() -> Self {
        let anywhere = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        Self {
            api: anywhere,
            virtual_server: anywhere,
            health: anywhere,
            user: "admin".to_owned(),
            password: Secret::new("admin"),
            pair: None,
            partition: "Common".to_owned(),
            profile: "certctl".to_owned(),
            clock: Arc::new(SystemClock),
        }
    }
}

/// A running mock; its sockets close when it is dropped.
pub struct Mock {
    device: Arc<Device>,
    addresses: [SocketAddr; 3],
    _listeners: JoinSet<()>,
}

impl Mock {
    /// Binds the three sockets and serves them.
    ///
    /// # Errors
    /// [`Error`] when a socket cannot be bound or the certificate cannot be used.
    pub async fn start(options: Options) -> Result<Self, Error> {
        let pair = match options.pair {
            Some(pair) => pair,
            None => tls::self_signed(options.clock.now())?,
        };
        let profile = FullPath::new(options.partition, options.profile);
        let device = Device::new(
            options.clock,
            (options.user, options.password),
            &profile,
            &pair,
        )?;
        let device = Arc::new(device);
        let management = tls::certified(&pair.certificates, &pair.key)?;

        let mut listeners = JoinSet::new();
        let api = listen::bind(options.api).await?;
        let virtual_server = listen::bind(options.virtual_server).await?;
        let health = listen::bind(options.health).await?;
        let addresses = [&api, &virtual_server, &health].map(|listener| listener.1);
        let acceptor = tls::management(management);
        listeners.spawn(listen::serve(
            api.0,
            Some(acceptor),
            Arc::clone(&device),
            api::answer,
        ));
        let acceptor = tls::virtual_server(&device);
        listeners.spawn(listen::serve(
            virtual_server.0,
            Some(acceptor),
            Arc::clone(&device),
            admin::of_the_virtual_server,
        ));
        listeners.spawn(listen::serve(
            health.0,
            None,
            Arc::clone(&device),
            admin::answer,
        ));
        Ok(Self {
            device,
            addresses,
            _listeners: listeners,
        })
    }

    /// Where iControl REST is.
    #[must_use]
    pub fn api(&self) -> SocketAddr {
        self.addresses[0]
    }

    /// Where the virtual server is.
    #[must_use]
    pub fn virtual_server(&self) -> SocketAddr {
        self.addresses[1]
    }

    /// Where `/healthz` and the hooks of tests are.
    #[must_use]
    pub fn health(&self) -> SocketAddr {
        self.addresses[2]
    }

    /// What the mock holds.
    #[must_use]
    pub fn device(&self) -> &Device {
        &self.device
    }
}
