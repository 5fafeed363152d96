#![doc = include_str!("../README.md")]

mod acme_server;
mod agent;
mod api_key;
mod auth;
mod database;
mod database_url;
mod effective;
mod encryption;
mod env;
mod feature;
mod form;
mod job;
mod local_ca;
mod log;
mod names;
mod network;
mod problem;
mod rate_limit;
mod reader;
mod reference;
mod scheduler;
mod server;
mod setting;
mod settings;
mod source;
mod span;
mod status;
mod table;

pub use crate::{
    acme_server::{AcmeLimits, AcmeServerSettings, AcmeValidation},
    agent::{AgentIdentity, AgentOverrides, AgentSettings},
    api_key::NamedKey,
    auth::{AuthSettings, AuthType},
    database::DatabaseSettings,
    database_url::{DatabaseUrl, PostgresUrl, SslMode},
    effective::{Effective, Row},
    encryption::EncryptionSettings,
    env::{Env, MapEnv, ProcessEnv},
    feature::{AuditHeartbeats, BackupRetention, FeatureSettings, KeygenMode, VerifySettings},
    form::Fault,
    job::JobSettings,
    local_ca::{CaFiles, LocalCaSettings},
    log::{LogFormat, LogLevel, LogSettings},
    network::{BindHost, Network},
    problem::{Error, Problem, Warning},
    rate_limit::{Rate, RateLimitBackend, RateLimitSettings},
    reader::Loaded,
    reference::reference_markdown,
    scheduler::SchedulerSettings,
    server::{ServerSettings, TlsFiles},
    setting::{DefaultValue, Entry, Programs},
    settings::{MigrateSettings, Settings},
    source::{CONFIG_VARIABLE, Origin, Sources},
    span::format_duration,
    status::StatusSettings,
    table::entries,
};
