//! What can go wrong before anything can be seen.

/// Telemetry could not be set up or changed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The process has a subscriber for logs already.
    #[error("logging is set up already")]
    LoggingInstalled(#[source] tracing::subscriber::SetGlobalDefaultError),
    /// The process has a recorder for metrics that is not ours.
    #[error("another recorder of metrics is installed already")]
    RecorderInstalled,
    /// A directive of a log filter cannot be read, or would let a library log what may hold secrets.
    #[error("{directive:?} is not a level, or TARGET=LEVEL with a target that starts with certctl")]
    Filter {
        /// The directive.
        directive: String,
    },
    /// The log filter has outlived the subscriber that it belonged to.
    #[error("logging has ended")]
    LoggingEnded(#[source] tracing_subscriber::reload::Error),
}
