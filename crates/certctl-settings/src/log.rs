//! What is logged, and how.

use crate::{
    form::Choice,
    reader::Reader,
    setting::{DefaultValue::Text, settings},
};

settings!(LOG, "Logging" {
    LOG_LEVEL: Choice<LogLevel> = Choice(LEVELS), Text("info"), ALL,
        "The least level that is logged.";
    LOG_FORMAT: Choice<LogFormat> = Choice(FORMATS), Text("json"), ALL,
        "JSON lines for machines, text for people.";
});

const LEVELS: &[(&str, LogLevel)] = &[
    ("debug", LogLevel::Debug),
    ("info", LogLevel::Info),
    ("warn", LogLevel::Warn),
    ("error", LogLevel::Error),
];

const FORMATS: &[(&str, LogFormat)] = &[("json", LogFormat::Json), ("text", LogFormat::Text)];

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

/// How log lines look.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    /// One JSON object for each line.
    Json,
    /// Lines for people.
    Text,
}

/// What is logged, and how.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LogSettings {
    /// The least level.
    pub level: LogLevel,
    /// The look of a line.
    pub format: LogFormat,
}

impl LogSettings {
    pub(crate) fn read(reader: &mut Reader<'_>) -> Self {
        Self {
            level: reader.get(&LOG_LEVEL),
            format: reader.get(&LOG_FORMAT),
        }
    }
}
