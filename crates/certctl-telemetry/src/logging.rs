//! Logs: one line for each event, on standard output.
//!
//! A line of JSON has `time`, `level`, `msg` and `target`, then the fields of the spans around the event, the outermost
//! first, and the fields of the event itself; the innermost value of a name wins. A span that is opened for each request
//! and each job thereby puts `request_id` or `job_id` on every line below it.
//!
//! The layer is our own because those of `tracing-subscriber` nest the fields of spans and name the message otherwise.

use std::{
    fmt,
    io::{self, Write as _},
    str::FromStr,
    sync::Arc,
};

use certctl_domain::time::{Clock, SystemClock};
use tracing::{Level, Metadata, Subscriber, level_filters::LevelFilter, subscriber::Interest};
use tracing_subscriber::{
    Layer, Registry,
    filter::Targets,
    fmt::MakeWriter,
    layer::{Context, Filter, SubscriberExt as _},
    reload,
};

use crate::error::Error;

mod fields;
mod layer;
mod line;

/// How log lines look.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    /// One JSON object for each line.
    Json,
    /// Lines for people.
    Text,
}

/// The least level that is logged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogLevel {
    /// What helps to find a fault.
    Debug,
    /// What happened.
    Info,
    /// What should be looked at.
    Warn,
    /// What failed.
    Error,
}

impl LogLevel {
    fn filter(self) -> LevelFilter {
        match self {
            Self::Debug => LevelFilter::DEBUG,
            Self::Info => LevelFilter::INFO,
            Self::Warn => LevelFilter::WARN,
            Self::Error => LevelFilter::ERROR,
        }
    }
}

/// Logs until it is dropped. Keep it until the end of `main`: dropping it flushes what is still buffered.
#[derive(Debug)]
pub struct LogGuard {
    filter: FilterHandle,
}

impl LogGuard {
    /// What changes the level while the process runs.
    #[must_use]
    pub fn filter(&self) -> FilterHandle {
        self.filter.clone()
    }
}

impl Drop for LogGuard {
    fn drop(&mut self) {
        // Nobody is left to be told that standard output is gone.
        let _ = io::stdout().flush();
    }
}

/// Starts logging to standard output for the whole process.
///
/// # Errors
/// [`Error::LoggingInstalled`] when the process logs already.
pub fn init(format: LogFormat, level: LogLevel) -> Result<LogGuard, Error> {
    let (subscriber, filter) = subscriber(format, level, Arc::new(SystemClock), io::stdout);
    tracing::subscriber::set_global_default(subscriber).map_err(Error::LoggingInstalled)?;
    Ok(LogGuard { filter })
}

/// Makes what logs, for a part of a process: a test, or a service that embeds certctl.
pub fn subscriber<W>(
    format: LogFormat,
    level: LogLevel,
    clock: Arc<dyn Clock>,
    writer: W,
) -> (impl Subscriber + Send + Sync, FilterHandle)
where
    W: for<'w> MakeWriter<'w> + Send + Sync + 'static,
{
    let (filter, handle) = reload::Layer::new(EventFilter::of_level(level.filter()));
    let subscriber =
        Registry::default().with(layer::LogLayer::new(format, clock, writer).with_filter(filter));
    (subscriber, FilterHandle(handle))
}

/// Changes what is logged while the process runs.
#[derive(Clone)]
pub struct FilterHandle(reload::Handle<EventFilter, Registry>);

impl FilterHandle {
    /// Sets the least level that is logged.
    ///
    /// # Errors
    /// [`Error::LoggingEnded`] when nothing logs any more.
    pub fn set_level(&self, level: LogLevel) -> Result<(), Error> {
        self.0
            .reload(EventFilter::of_level(level.filter()))
            .map_err(Error::LoggingEnded)
    }

    /// Sets levels one by one: a comma separated list of `LEVEL` and `TARGET=LEVEL`, such as
    /// `warn,certctl_acme=trace`.
    ///
    /// Targets are ours only. What libraries say below the level INFO holds headers, statements and records, and with them
    /// credentials (operations contract §6).
    ///
    /// # Errors
    /// [`Error::Filter`] with the first directive that cannot be read, [`Error::LoggingEnded`] when nothing logs any more.
    pub fn set_filter(&self, directives: &str) -> Result<(), Error> {
        self.0
            .reload(directives.parse::<EventFilter>()?)
            .map_err(Error::LoggingEnded)
    }

    /// The filter in force, in the words of [`Self::set_filter`].
    #[must_use]
    pub fn current(&self) -> String {
        self.0.with_current(ToString::to_string).unwrap_or_default()
    }
}

impl fmt::Debug for FilterHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("FilterHandle")
            .field(&self.current())
            .finish()
    }
}

/// The prefix of the targets of all our crates.
const OWN: &str = "certctl";

/// Decides which events are logged. Our spans down to INFO are on whatever the level: a warning must still carry the
/// `request_id` of the span that it happened in.
#[derive(Debug)]
struct EventFilter {
    own: LevelFilter,
    targets: Vec<(String, LevelFilter)>,
    compiled: Targets,
}

impl EventFilter {
    fn of_level(own: LevelFilter) -> Self {
        Self::new(own, Vec::new())
    }

    fn new(own: LevelFilter, targets: Vec<(String, LevelFilter)>) -> Self {
        // Libraries follow the level upwards, never below INFO.
        let foreign = own.min(LevelFilter::INFO);
        let compiled = Targets::new()
            .with_default(foreign)
            .with_target(OWN, own)
            .with_targets(targets.clone());
        Self {
            own,
            targets,
            compiled,
        }
    }

    fn admits(&self, metadata: &Metadata<'_>) -> bool {
        let is_own_span = metadata.is_span()
            && *metadata.level() <= Level::INFO
            && metadata.target().starts_with(OWN);
        is_own_span
            || self
                .compiled
                .would_enable(metadata.target(), metadata.level())
    }
}

impl FromStr for EventFilter {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let mut own = LevelFilter::INFO;
        let mut targets = Vec::new();
        for directive in text
            .split(',')
            .map(str::trim)
            .filter(|directive| !directive.is_empty())
        {
            let refused = || Error::Filter {
                directive: directive.to_owned(),
            };
            match directive.split_once('=') {
                None => own = level_named(directive).ok_or_else(refused)?,
                Some((target, level)) if target.starts_with(OWN) => {
                    targets.push((target.to_owned(), level_named(level).ok_or_else(refused)?));
                }
                Some(_) => return Err(refused()),
            }
        }
        Ok(Self::new(own, targets))
    }
}

/// The level that a word names. The parser of `tracing` also takes numbers, and nothing at all for ERROR.
fn level_named(word: &str) -> Option<LevelFilter> {
    word.bytes()
        .all(|b| b.is_ascii_alphabetic())
        .then(|| word.parse().ok())
        .flatten()
        .filter(|_| !word.is_empty())
}

impl fmt::Display for EventFilter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.own)?;
        self.targets
            .iter()
            .try_for_each(|(target, level)| write!(f, ",{target}={level}"))
    }
}

impl<S> Filter<S> for EventFilter {
    fn enabled(&self, metadata: &Metadata<'_>, _: &Context<'_, S>) -> bool {
        self.admits(metadata)
    }

    fn callsite_enabled(&self, metadata: &'static Metadata<'static>) -> Interest {
        // The answer depends on nothing but the metadata, so it is asked once for each place in the code.
        if self.admits(metadata) {
            Interest::always()
        } else {
            Interest::never()
        }
    }

    fn max_level_hint(&self) -> Option<LevelFilter> {
        let finest = self
            .targets
            .iter()
            .map(|(_, level)| *level)
            .max()
            .unwrap_or(LevelFilter::OFF);
        Some(finest.max(self.own).max(LevelFilter::INFO))
    }
}

#[cfg(test)]
mod tests;
