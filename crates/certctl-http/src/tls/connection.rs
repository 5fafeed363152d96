//! One connection, from its handshake to its end.

use std::{convert::Infallible, net::SocketAddr, pin::pin};

use axum::Router;
use hyper::{Request, body::Incoming, service::service_fn};
use hyper_util::rt::TokioIo;
use tokio::{net::TcpStream, time::timeout};
use tokio_rustls::{TlsAcceptor, server::TlsStream};
use tokio_util::sync::CancellationToken;
use tower::Service;

use super::{
    activity::{Activity, Answer, Phase, Watched},
    limits::{Protocols, ServeLimits},
};
use crate::middleware::context::Peer;

/// What all connections of a listener share.
pub(super) struct Endpoint {
    pub(super) router: Router,
    pub(super) acceptor: TlsAcceptor,
    pub(super) protocols: Protocols,
    pub(super) limits: ServeLimits,
    /// Finish what is in flight, begin nothing.
    pub(super) shutdown: CancellationToken,
    /// End now.
    pub(super) cut: CancellationToken,
}

/// Serves a connection until its client, a time-out or the listener ends it.
pub(super) async fn serve(stream: TcpStream, peer: SocketAddr, endpoint: &Endpoint) {
    let Some(stream) = handshake(stream, peer, endpoint).await else {
        return;
    };
    let is_http2 = stream.get_ref().1.alpn_protocol() == Some(b"h2");
    let builder = if is_http2 {
        &endpoint.protocols.http2
    } else {
        &endpoint.protocols.http1
    };
    // The first head of HTTP/1.1 is due at once; HTTP/2 begins with frames that are no request.
    let activity = Activity::begin_with(if is_http2 { Phase::Idle } else { Phase::Head });
    let watched = Watched {
        stream,
        activity: (!is_http2).then(|| activity.clone()),
    };
    let service =
        service_fn(|request| answer(endpoint.router.clone(), activity.clone(), peer, request));
    let mut connection = pin!(builder.serve_connection(TokioIo::new(watched), service));

    let ended = tokio::select! {
        biased;
        ended = connection.as_mut() => ended,
        () = endpoint.cut.cancelled() => return,
        () = endpoint.shutdown.cancelled() => {
            connection.as_mut().graceful_shutdown();
            finish(connection, &activity, endpoint).await
        }
        phase = activity.stale(&endpoint.limits) => match phase {
            Phase::Idle => {
                connection.as_mut().graceful_shutdown();
                finish(connection, &activity, endpoint).await
            }
            // Whoever is slow on purpose gets no farewell either.
            Phase::Head | Phase::Busy(_) => return,
        },
    };
    if let Err(error) = ended {
        tracing::debug!(%peer, error = &*error, "connection ended");
    }
}

/// Drives a connection that was told to end, for as long as what is in flight may take.
async fn finish<C, E>(connection: C, activity: &Activity, endpoint: &Endpoint) -> Result<(), E>
where
    C: Future<Output = Result<(), E>>,
{
    // A peer that does not take its leave is idle for as long as the head of a request may take, not longer.
    let limits = ServeLimits {
        idle_for: endpoint.limits.head_within,
        ..endpoint.limits
    };
    tokio::select! {
        biased;
        ended = connection => ended,
        () = endpoint.cut.cancelled() => Ok(()),
        _ = activity.stale(&limits) => Ok(()),
    }
}

async fn handshake(
    stream: TcpStream,
    peer: SocketAddr,
    endpoint: &Endpoint,
) -> Option<TlsStream<TcpStream>> {
    // Answers are small and written whole; waiting to fill a segment only delays them.
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%peer, %error, "connection lost before its handshake");
        return None;
    }
    let accepted = tokio::select! {
        biased;
        () = endpoint.shutdown.cancelled() => return None,
        accepted = timeout(endpoint.limits.handshake_within, endpoint.acceptor.accept(stream)) => accepted,
    };
    match accepted {
        Ok(Ok(stream)) => Some(stream),
        Ok(Err(error)) => {
            tracing::debug!(%peer, %error, "handshake failed");
            None
        }
        Err(_) => {
            tracing::debug!(%peer, "handshake took too long");
            None
        }
    }
}

async fn answer(
    mut router: Router,
    activity: Activity,
    peer: SocketAddr,
    mut request: Request<Incoming>,
) -> Result<hyper::Response<Answer>, Infallible> {
    let in_flight = activity.request();
    request.extensions_mut().insert(Peer(peer));
    let response = router.call(request).await?;
    Ok(response.map(|body| Answer {
        body,
        _in_flight: in_flight,
    }))
}
