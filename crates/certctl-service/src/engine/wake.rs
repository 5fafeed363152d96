//! Wakes whoever waits for something to do.

use tokio::sync::Notify;

/// A bell that remembers one ring.
#[derive(Default)]
pub(crate) struct Wake(Notify);

impl Wake {
    /// There is something to do.
    pub(crate) fn ring(&self) {
        self.0.notify_one();
    }

    /// Waits for the bell; returns at once when it rang since the last wait.
    pub(crate) async fn rung(&self) {
        self.0.notified().await;
    }
}
