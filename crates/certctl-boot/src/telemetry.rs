//! Logs and metrics, which start first and end last.

use certctl_settings::{Loaded, LogFormat, LogLevel, Settings};
use certctl_telemetry::{MetricsHandle, logging};

use crate::Error;

/// Keeps the logs going; dropped last.
pub struct Logs(#[expect(dead_code, reason = "held for its drop")] logging::LogGuard);

/// Starts the logs, and tells what is odd about the settings.
///
/// # Errors
/// [`Error::Telemetry`] when the process has a log already.
pub fn start_logging(loaded: &Loaded<Settings>) -> Result<Logs, Error> {
    let log = &loaded.settings.log;
    let format = match log.format {
        LogFormat::Json => logging::LogFormat::Json,
        LogFormat::Text => logging::LogFormat::Text,
    };
    let level = match log.level {
        LogLevel::Debug => logging::LogLevel::Debug,
        LogLevel::Info => logging::LogLevel::Info,
        LogLevel::Warn => logging::LogLevel::Warn,
        LogLevel::Error => logging::LogLevel::Error,
    };
    let guard = logging::init(format, level)?;
    for warning in &loaded.warnings {
        tracing::warn!("{warning}");
    }
    Ok(Logs(guard))
}

/// Starts counting.
///
/// # Errors
/// [`Error::Telemetry`] when the process counts already, elsewhere.
pub fn start_metrics() -> Result<MetricsHandle, Error> {
    Ok(certctl_telemetry::install()?)
}
