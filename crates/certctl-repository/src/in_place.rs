//! Where statements to SQLite run.
//!
//! They block, so they must not run on a thread that serves requests. A read goes to a thread for such work and back. A transaction
//! would do so for every statement, some twenty times, while all other writers wait for it; so it stays on its thread from its
//! first statement to its commit, once it has begun, and the runtime moves what else that thread served to another.

use std::{
    cell::Cell,
    error::Error as StdError,
    future::{poll_fn, ready},
    pin::Pin,
    task::Poll,
};

use diesel_async::sync_connection_wrapper::SpawnBlocking;
use futures_util::future::BoxFuture;
use tokio::{
    runtime::{Handle, RuntimeFlavor},
    task::{JoinError, JoinHandle, block_in_place},
};

thread_local! {
    /// Whether this thread may block.
    static MAY_BLOCK: Cell<bool> = const { Cell::new(false) };
}

/// Marks its thread for as long as it lives.
struct Marked;

impl Marked {
    fn new() -> Self {
        MAY_BLOCK.set(true);
        Self
    }
}

impl Drop for Marked {
    fn drop(&mut self) {
        MAY_BLOCK.set(false);
    }
}

/// Carries something out on the thread at hand, statements included, where the database is SQLite. Whenever it waits for anything
/// but a statement, its thread is free again. A runtime of one thread has no other to serve requests meanwhile, so there the
/// statements hop.
#[doc(hidden)]
pub async fn in_place<F: Future>(is_sqlite: bool, mut work: Pin<&mut F>) -> F::Output {
    let hops = !is_sqlite || Handle::current().runtime_flavor() == RuntimeFlavor::CurrentThread;
    poll_fn(|cx| {
        if hops || MAY_BLOCK.get() {
            return work.as_mut().poll(cx);
        }
        block_in_place(|| {
            let _marked = Marked::new();
            work.as_mut().poll(cx)
        })
    })
    .await
}

/// Has something carried out in the background that does little but write. Where the database is SQLite it has a thread to itself,
/// with all its statements: nothing hops, and no other work has to be moved from a thread that is about to block.
#[doc(hidden)]
pub fn spawn_writer<F>(is_sqlite: bool, work: F)
where
    F: Future<Output = ()> + Send + 'static,
{
    let runtime = Handle::current();
    // The one thread of a runtime is also who drives everything else, and whoever watches it expects to see all.
    if !is_sqlite || runtime.runtime_flavor() == RuntimeFlavor::CurrentThread {
        tokio::spawn(work);
        return;
    }
    tokio::task::spawn_blocking(move || {
        let _marked = Marked::new();
        runtime.block_on(work);
    });
}

/// Runs statements at once where the thread may block, and on a thread for such work otherwise.
#[derive(Debug, Clone, Copy)]
pub struct Threads;

impl SpawnBlocking for Threads {
    fn spawn_blocking<'a, R>(
        &mut self,
        task: impl FnOnce() -> R + Send + 'static,
    ) -> BoxFuture<'a, Result<R, Box<dyn StdError + Send + Sync>>>
    where
        R: Send + 'static,
    {
        if MAY_BLOCK.get() {
            return Box::pin(ready(Ok(task())));
        }
        let hop = Hop(tokio::task::spawn_blocking(task));
        Box::pin(async move { hop.await.map_err(Into::into) })
    }

    fn get_runtime() -> Self {
        Self
    }
}

/// A statement on another thread. Dropped, it waits for the statement to end: the connection is not to be used by two.
struct Hop<R>(JoinHandle<R>);

impl<R> Future for Hop<R> {
    type Output = Result<R, JoinError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut std::task::Context<'_>) -> Poll<Self::Output> {
        Pin::new(&mut self.0).poll(cx)
    }
}

impl<R> Drop for Hop<R> {
    fn drop(&mut self) {
        if !self.0.is_finished() {
            // What became of it nobody waits for.
            let _ended = block_in_place(|| Handle::current().block_on(&mut self.0));
        }
    }
}
