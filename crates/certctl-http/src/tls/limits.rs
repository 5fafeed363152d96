//! How much a peer may ask of the listener.

use std::time::Duration;

use hyper_util::{
    rt::{TokioExecutor, TokioTimer},
    server::conn::auto::Builder,
};

/// The bounds of the listener. `Default` is the contract's where it says one (api §1).
#[derive(Debug, Clone, Copy)]
pub struct ServeLimits {
    /// Connections at most; more wait in the backlog.
    pub max_connections: usize,
    /// How long a TLS handshake may take.
    pub handshake_within: Duration,
    /// How long the head of a request may take from its first byte; for the first request, from the handshake.
    pub head_within: Duration,
    /// How long a connection is kept without a request.
    pub idle_for: Duration,
    /// How long a connection may go without a request beginning or ending while some are in flight: the deadline of a
    /// request and the time its answer may take to be written.
    pub stalled_for: Duration,
    /// How long requests in flight get when the listener is shut down.
    pub drain_within: Duration,
}

impl Default for ServeLimits {
    fn default() -> Self {
        Self {
            max_connections: 10_000,
            handshake_within: Duration::from_secs(10),
            head_within: Duration::from_secs(5),
            idle_for: Duration::from_secs(60),
            stalled_for: Duration::from_secs(240),
            drain_within: Duration::from_secs(30),
        }
    }
}

/// The protocols, each with its bounds. The one to speak is known from ALPN (RFC 7301), so that nobody waits for a client to
/// show by its first bytes which it means.
#[derive(Debug)]
pub(super) struct Protocols {
    pub(super) http1: Builder<TokioExecutor>,
    pub(super) http2: Builder<TokioExecutor>,
}

/// Largest head of an HTTP/1.1 request, and largest list of headers of an HTTP/2 request, in bytes.
const MAX_HEAD: usize = 32 * 1024;
/// Requests at once on an HTTP/2 connection.
const MAX_STREAMS: u32 = 128;
/// Streams a client may reset before they were looked at until the connection is closed (CVE-2023-44487).
const MAX_PENDING_RESETS: usize = 20;
/// Streams that we may have to reset for the client's errors until the connection is closed.
const MAX_ERROR_RESETS: usize = 128;
/// Bytes of answers that wait for a slow reader, for each stream.
const MAX_SEND_BUFFER: usize = 64 * 1024;
/// Bytes a client may send ahead of the reading of a body, for each stream and for each connection.
const STREAM_WINDOW: u32 = 256 * 1024;
const CONNECTION_WINDOW: u32 = 1024 * 1024;
/// How often an HTTP/2 peer is asked for a sign of life, and how long it may take.
const PING_EVERY: Duration = Duration::from_secs(20);

impl ServeLimits {
    pub(super) fn protocols(&self) -> Protocols {
        let mut builder = Builder::new(TokioExecutor::new());
        // The time for heads is kept by `activity`: hyper's own would end idle connections after the same time.
        builder
            .http1()
            .timer(TokioTimer::new())
            .header_read_timeout(None)
            .max_buf_size(MAX_HEAD);
        builder
            .http2()
            .timer(TokioTimer::new())
            .max_concurrent_streams(MAX_STREAMS)
            .max_pending_accept_reset_streams(MAX_PENDING_RESETS)
            .max_local_error_reset_streams(MAX_ERROR_RESETS)
            .max_header_list_size(MAX_HEAD as u32)
            .max_send_buf_size(MAX_SEND_BUFFER)
            .initial_stream_window_size(STREAM_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW)
            .keep_alive_interval(PING_EVERY)
            .keep_alive_timeout(PING_EVERY);
        Protocols {
            http1: builder.clone().http1_only(),
            http2: builder.http2_only(),
        }
    }
}
