//! What happens on a connection, and when it has happened for too long.
//!
//! hyper has one time-out for the head of a request, and it runs while a kept-alive connection is idle too. The contract has
//! five seconds for the one and sixty for the other, so both are kept here, for HTTP/1.1 and for HTTP/2.

use std::{
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use axum::body::{Body, Bytes, HttpBody};
use hyper::body::{Frame, SizeHint};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    sync::watch,
    time::timeout,
};

use super::limits::ServeLimits;

/// What a connection is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Phase {
    /// No request is in flight and none has begun to arrive.
    Idle,
    /// The head of a request is arriving.
    Head,
    /// So many requests are in flight.
    Busy(usize),
}

/// Notes what happens on a connection.
#[derive(Debug, Clone)]
pub(super) struct Activity(Arc<watch::Sender<Phase>>);

impl Activity {
    pub(super) fn begin_with(phase: Phase) -> Self {
        Self(Arc::new(watch::Sender::new(phase)))
    }

    /// A request has arrived; it is in flight until what is returned is dropped.
    pub(super) fn request(&self) -> InFlight {
        self.0.send_modify(|phase| {
            *phase = match phase {
                Phase::Busy(count) => Phase::Busy(*count + 1),
                Phase::Idle | Phase::Head => Phase::Busy(1),
            };
        });
        InFlight(self.clone())
    }

    /// Bytes have arrived.
    fn bytes(&self) {
        self.0.send_if_modified(|phase| {
            let begins = *phase == Phase::Idle;
            if begins {
                *phase = Phase::Head;
            }
            begins
        });
    }

    /// Waits until nothing has changed for longer than the phase may take, and says which it is.
    pub(super) async fn stale(&self, limits: &ServeLimits) -> Phase {
        let mut phases = self.0.subscribe();
        loop {
            let phase = *phases.borrow_and_update();
            let limit = match phase {
                Phase::Idle => limits.idle_for,
                Phase::Head => limits.head_within,
                Phase::Busy(_) => limits.stalled_for,
            };
            // The sender lives as long as `self`, so an error cannot come, and would be the end as well.
            if !matches!(timeout(limit, phases.changed()).await, Ok(Ok(()))) {
                return phase;
            }
        }
    }
}

/// A request in flight.
#[derive(Debug)]
pub(super) struct InFlight(Activity);

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.0.send_modify(|phase| {
            *phase = match phase {
                Phase::Busy(count) if *count > 1 => Phase::Busy(*count - 1),
                Phase::Idle | Phase::Head | Phase::Busy(_) => Phase::Idle,
            };
        });
    }
}

/// The body of an answer, whose request is in flight until it is written.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) body: Body,
    pub(super) _in_flight: InFlight,
}

impl HttpBody for Answer {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        Pin::new(&mut self.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// A stream that notes when bytes arrive.
#[derive(Debug)]
pub(super) struct Watched<S> {
    pub(super) stream: S,
    /// None for HTTP/2, where bytes may be anything: pings must not pass for requests that arrive slowly.
    pub(super) activity: Option<Activity>,
}

impl<S: AsyncRead + Unpin> AsyncRead for Watched<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let polled = Pin::new(&mut self.stream).poll_read(cx, buf);
        if buf.filled().len() > before
            && let Some(activity) = &self.activity
        {
            activity.bytes();
        }
        polled
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Watched<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use futures_util::FutureExt;
    use tokio::time::{Instant, advance};

    use super::{Activity, Phase, ServeLimits};

    #[tokio::test(start_paused = true)]
    async fn each_phase_has_its_own_time() {
        let limits = ServeLimits::default();
        for (phase, seconds) in [(Phase::Idle, 60), (Phase::Head, 5), (Phase::Busy(1), 240)] {
            let begun = Instant::now();
            assert_eq!(Activity::begin_with(phase).stale(&limits).await, phase);
            assert_eq!(begun.elapsed().as_secs(), seconds, "{phase:?}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn bytes_that_dribble_in_do_not_prolong_a_head() {
        let limits = ServeLimits::default();
        let activity = Activity::begin_with(Phase::Idle);
        let mut stale = Box::pin(activity.stale(&limits));
        for _ in 0..5 {
            activity.bytes();
            assert!(stale.as_mut().now_or_never().is_none());
            advance(Duration::from_millis(999)).await;
        }
        activity.bytes();
        advance(Duration::from_millis(10)).await;
        assert_eq!(stale.now_or_never(), Some(Phase::Head));
    }

    #[tokio::test(start_paused = true)]
    async fn a_connection_is_idle_when_its_last_request_ends() {
        let activity = Activity::begin_with(Phase::Head);
        let (first, second) = (activity.request(), activity.request());
        activity.bytes();
        assert_eq!(
            *activity.0.borrow(),
            Phase::Busy(2),
            "a body arriving is no new head"
        );
        drop(first);
        assert_eq!(*activity.0.borrow(), Phase::Busy(1));
        drop(second);
        assert_eq!(*activity.0.borrow(), Phase::Idle);
    }
}
