//! Servers of HTTP on 127.0.0.1: one that speaks it well, by hyper, and one that says what it is told.

use std::{
    convert::Infallible,
    net::{Ipv4Addr, SocketAddr},
    sync::{Arc, Mutex},
};

use http_body_util::Full;
use hyper::{
    HeaderMap, Method, Request, Response, Version,
    body::{Bytes, Incoming},
    header,
    server::conn::http1,
    service::service_fn,
};
use hyper_util::rt::TokioIo;
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    task::JoinSet,
};
use tokio_rustls::TlsAcceptor;

/// A request as it came.
#[derive(Debug, Clone)]
pub(crate) struct Seen {
    pub(crate) method: Method,
    pub(crate) target: String,
    pub(crate) version: Version,
    pub(crate) headers: HeaderMap,
}

impl Seen {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(|value| value.to_str().unwrap())
    }
}

pub(crate) type Answer = Response<Full<Bytes>>;

/// A running server; stopped on drop.
pub(crate) struct HttpServer {
    address: SocketAddr,
    seen: Arc<Mutex<Vec<Seen>>>,
    _tasks: JoinSet<()>,
}

/// 200 with a body.
pub(crate) fn file(body: impl Into<Bytes>) -> Answer {
    Response::new(Full::new(body.into()))
}

/// A redirect with a status.
pub(crate) fn moved(status: u16, location: &str) -> Answer {
    Response::builder()
        .status(status)
        .header(header::LOCATION, location)
        .body(Full::default())
        .unwrap()
}

impl HttpServer {
    /// Answers by the host and target of a request.
    pub(crate) async fn start(
        answer: impl Fn(&Seen) -> Answer + Clone + Send + Sync + 'static,
    ) -> Self {
        Self::on((Ipv4Addr::LOCALHOST, 0).into(), None, answer).await
    }

    /// The same, at a certain address or behind TLS.
    pub(crate) async fn on(
        address: SocketAddr,
        tls: Option<TlsAcceptor>,
        answer: impl Fn(&Seen) -> Answer + Clone + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind(address).await.unwrap();
        let address = listener.local_addr().unwrap();
        let seen = Arc::new(Mutex::new(Vec::new()));
        let mut tasks = JoinSet::new();
        let log = Arc::clone(&seen);
        tasks.spawn(async move {
            let mut connections = JoinSet::new();
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let (tls, log, answer) = (tls.clone(), Arc::clone(&log), answer.clone());
                connections.spawn(async move {
                    match tls {
                        None => serve(stream, &log, answer).await,
                        Some(tls) => {
                            if let Ok(stream) = tls.accept(stream).await {
                                serve(stream, &log, answer).await;
                            }
                        }
                    }
                });
            }
        });
        Self {
            address,
            seen,
            _tasks: tasks,
        }
    }

    pub(crate) fn port(&self) -> u16 {
        self.address.port()
    }

    /// The requests so far.
    pub(crate) fn seen(&self) -> Vec<Seen> {
        self.seen.lock().unwrap().clone()
    }
}

async fn serve<S>(stream: S, log: &Mutex<Vec<Seen>>, answer: impl Fn(&Seen) -> Answer)
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let respond = |request: Request<Incoming>| {
        let seen = Seen {
            method: request.method().clone(),
            target: request.uri().to_string(),
            version: request.version(),
            headers: request.headers().clone(),
        };
        let response = answer(&seen);
        log.lock().unwrap().push(seen);
        async move { Ok::<_, Infallible>(response) }
    };
    // A client that hangs up early is no concern here.
    let _: Result<(), hyper::Error> = http1::Builder::new()
        .serve_connection(TokioIo::new(stream), service_fn(respond))
        .await;
}

/// Reads the head of a request, says `text`, and then closes or goes on saying nothing.
pub(crate) struct RawServer {
    port: u16,
    _tasks: JoinSet<()>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Then {
    Close,
    Hold,
}

impl RawServer {
    pub(crate) async fn start(text: Vec<u8>, then: Then) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let mut tasks = JoinSet::new();
        tasks.spawn(async move {
            let mut connections = JoinSet::new();
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                connections.spawn(say(stream, text.clone(), then));
            }
        });
        Self {
            port,
            _tasks: tasks,
        }
    }

    pub(crate) fn port(&self) -> u16 {
        self.port
    }
}

async fn say(mut stream: TcpStream, text: Vec<u8>, then: Then) {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        match stream.read_u8().await {
            Ok(byte) => head.push(byte),
            Err(_) => return,
        }
    }
    // Whoever has read enough hangs up.
    if stream.write_all(&text).await.is_ok() && then == Then::Hold {
        std::future::pending::<()>().await;
    }
}
