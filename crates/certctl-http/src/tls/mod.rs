//! The listener: TLS 1.3, HTTP/2 and HTTP/1.1, bounded in every direction, drained before it ends.

mod activity;
mod certificate;
mod connection;
mod limits;

use std::{io, sync::Arc, time::Duration};

use tokio::{
    net::{TcpListener, TcpStream},
    sync::Semaphore,
    time::timeout,
};
use tokio_rustls::TlsAcceptor;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use self::connection::Endpoint;
pub use self::{
    certificate::{CertResolver, Error},
    limits::ServeLimits,
};
use crate::app::App;

/// How long to wait before accepting again when the system is out of descriptors or memory.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// How a listener ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Drained {
    /// Connections that had a request in flight when the time was up, and were cut.
    pub cut_connections: usize,
    /// Use cases that were still running when the time was up; they go on until the runtime ends.
    pub unfinished_requests: usize,
}

impl Drained {
    /// Whether every request was answered.
    #[must_use]
    pub const fn is_complete(self) -> bool {
        self.cut_connections == 0 && self.unfinished_requests == 0
    }
}

/// Serves an API until `shutdown` is cancelled: then the listener is closed, requests in flight are finished within
/// `limits.drain_within`, idle connections are closed at once, and what is left is cut.
pub async fn serve(
    listener: TcpListener,
    app: App,
    certificate: Arc<CertResolver>,
    limits: ServeLimits,
    shutdown: CancellationToken,
) -> Drained {
    let connections = TaskTracker::new();
    let cut = CancellationToken::new();
    let endpoint = Arc::new(Endpoint {
        router: app.router(),
        acceptor: TlsAcceptor::from(certificate::server_config(certificate)),
        protocols: limits.protocols(),
        limits,
        shutdown: shutdown.clone(),
        cut: cut.clone(),
    });
    tokio::select! {
        biased;
        () = shutdown.cancelled() => {}
        () = accept(&listener, &endpoint, &connections) => {}
    }
    // Closes the socket: a balancer that does not ask for readiness learns it from the refused connection.
    drop(listener);
    drain(&app, &connections, &cut, endpoint.limits.drain_within).await
}

/// Accepts for as long as it is polled.
async fn accept(listener: &TcpListener, endpoint: &Arc<Endpoint>, connections: &TaskTracker) {
    let slots = Arc::new(Semaphore::new(endpoint.limits.max_connections));
    loop {
        // Before accepting: beyond the limit, connections wait in the backlog of the kernel, which costs us nothing.
        let slot = slots
            .clone()
            .acquire_owned()
            .await
            .expect("nobody closes the semaphore");
        let (stream, peer) = next(listener).await;
        let endpoint = endpoint.clone();
        connections.spawn(async move {
            connection::serve(stream, peer, &endpoint).await;
            drop(slot);
        });
    }
}

async fn next(listener: &TcpListener) -> (TcpStream, std::net::SocketAddr) {
    loop {
        match listener.accept().await {
            Ok(accepted) => return accepted,
            // The client was gone before we came to it.
            Err(error) if is_of_the_client(&error) => {}
            Err(error) => {
                tracing::warn!(%error, "cannot accept connections; trying again");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

fn is_of_the_client(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::ConnectionRefused
    )
}

async fn drain(
    app: &App,
    connections: &TaskTracker,
    cut: &CancellationToken,
    within: Duration,
) -> Drained {
    connections.close();
    app.detached().close();
    let finished = async {
        connections.wait().await;
        app.detached().wait().await;
    };
    let drained = match timeout(within, finished).await {
        Ok(()) => Drained {
            cut_connections: 0,
            unfinished_requests: 0,
        },
        Err(_) => Drained {
            cut_connections: connections.len(),
            unfinished_requests: app.detached().len(),
        },
    };
    cut.cancel();
    connections.wait().await;
    drained
}
