//! Sockets: each connection is a task, and none outlives the mock.

use std::{io, net::SocketAddr, sync::Arc, time::Duration};

use http_body_util::{BodyExt as _, Full, Limited};
use hyper::{
    Request, Response, StatusCode,
    body::{Bytes, Incoming},
    header::{self, HeaderValue},
    service::service_fn,
};
use hyper_util::{
    rt::{TokioExecutor, TokioIo},
    server::conn::auto,
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, TcpStream},
    task::JoinSet,
    time::{sleep, timeout},
};
use tokio_rustls::TlsAcceptor;

use crate::{
    device::{Device, faults::Effect},
    error::Error,
    reply::{Call, Refusal, Reply},
};

/// More than the largest chunk of an upload.
const MAX_BODY: usize = 2 * 1024 * 1024;
const HANDSHAKE_LIMIT: Duration = Duration::from_secs(10);

/// What answers the calls of one listener.
pub(crate) type Answerer = fn(&Device, &Call) -> Reply;

pub(crate) async fn bind(address: SocketAddr) -> Result<(TcpListener, SocketAddr), Error> {
    let failed = |source| Error::Listen { address, source };
    let listener = TcpListener::bind(address).await.map_err(failed)?;
    let bound = listener.local_addr().map_err(failed)?;
    Ok((listener, bound))
}

/// Accepts until it is dropped, which ends its connections, too.
pub(crate) async fn serve(
    listener: TcpListener,
    acceptor: Option<TlsAcceptor>,
    device: Arc<Device>,
    answerer: Answerer,
) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => {
                    connections.spawn(connection(stream, acceptor.clone(), Arc::clone(&device), answerer));
                }
                // Out of descriptors: some come back when a connection ends.
                Err(_) => sleep(Duration::from_millis(50)).await,
            },
            Some(_) = connections.join_next() => {}
        }
    }
}

async fn connection(
    stream: TcpStream,
    acceptor: Option<TlsAcceptor>,
    device: Arc<Device>,
    answerer: Answerer,
) {
    // Small answers must not wait for an acknowledgement of the one before. Without it they are only slower.
    let _: io::Result<()> = stream.set_nodelay(true);
    match acceptor {
        None => exchange(stream, device, answerer).await,
        Some(acceptor) => {
            // A client that gives up during the handshake is its own affair.
            if let Ok(Ok(stream)) = timeout(HANDSHAKE_LIMIT, acceptor.accept(stream)).await {
                exchange(stream, device, answerer).await;
            }
        }
    }
}

async fn exchange<S>(stream: S, device: Arc<Device>, answerer: Answerer)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let service = service_fn(move |request| {
        let device = Arc::clone(&device);
        async move { respond(&device, answerer, request).await }
    });
    // What ends a connection is seen by its client.
    let _: Result<(), Box<dyn std::error::Error + Send + Sync>> =
        auto::Builder::new(TokioExecutor::new())
            .serve_connection(TokioIo::new(stream), service)
            .await;
}

/// The connection is to end without an answer, as when a device restarts.
#[derive(Debug, thiserror::Error)]
#[error("the answer is lost on purpose")]
struct Lost;

async fn respond(
    device: &Device,
    answerer: Answerer,
    request: Request<Incoming>,
) -> Result<Response<Full<Bytes>>, Lost> {
    let (head, body) = request.into_parts();
    let Ok(body) = Limited::new(body, MAX_BODY).collect().await else {
        let refusal = Refusal::new(StatusCode::PAYLOAD_TOO_LARGE, "the body is too large");
        return Ok(rendered(Err(refusal).into()));
    };
    let call = Call {
        method: head.method,
        path: head.uri.path().to_owned(),
        headers: head.headers,
        body: body.to_bytes(),
    };
    match device.effect_on(&call) {
        None => Ok(rendered(answerer(device, &call))),
        Some(Effect::Status(code)) => {
            let status = StatusCode::from_u16(code).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
            let refusal = Refusal::new(status, "the mock was told to refuse this call");
            Ok(rendered(Err(refusal).into()))
        }
        Some(Effect::Delay(time)) => {
            sleep(time).await;
            Ok(rendered(answerer(device, &call)))
        }
        Some(Effect::LoseAnswer) => {
            drop(answerer(device, &call));
            Err(Lost)
        }
    }
}

fn rendered(reply: Reply) -> Response<Full<Bytes>> {
    let (status, kind, bytes) = match reply {
        Reply::Text(text) => (
            StatusCode::OK,
            "text/plain",
            Bytes::from_static(text.as_bytes()),
        ),
        Reply::Json(status, value) => (
            status,
            "application/json; charset=UTF-8",
            Bytes::from(value.to_string()),
        ),
    };
    let mut response = Response::new(Full::new(bytes));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
    response
}
