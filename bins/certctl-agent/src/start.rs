//! From settings to a running agent.

use std::{io::Write as _, path::Path, process::ExitCode, sync::Arc, time::Duration};

use anyhow::{Context as _, bail};
use certctl_agent_core::{
    Agent, AgentConfig, AgentId, Clock as _, End, HEARTBEAT_INTERVAL, Identity, Overrides,
    POLL_INTERVAL, Secret, ServerConfig, SystemClock, environment, register, register_into,
    remembered_or_registered,
};
use certctl_settings::{
    AgentIdentity, AgentSettings, BackupRetention, LogFormat, LogLevel, LogSettings, ProcessEnv,
    Sources, Warning,
};
use certctl_telemetry::logging::{self, LogGuard};
use tokio::signal::unix::{SignalKind, signal};

use crate::args::{Args, Command, OWN_VARIABLES};

/// How long file work that nobody waits for any more may hold up the end.
const LAST_FILE_WORK: Duration = Duration::from_secs(2);

pub(crate) fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let sources = Sources {
        env: &ProcessEnv,
        config: args.config.clone(),
        flags: args.flags(),
        now: SystemClock.now(),
    };
    let loaded = AgentSettings::load(&sources)?;
    if args.check_config {
        print!("{}", loaded.effective);
        return Ok(ExitCode::SUCCESS);
    }
    let settings = loaded.settings;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .context("cannot start the runtime")?;
    let ended = if let Some(Command::Register { out }) = &args.command {
        runtime.block_on(enrol(&settings, out.as_deref()))
    } else {
        let _log = start_logging(settings.log)?;
        for warning in loaded.warnings.iter().filter(|warning| !is_ours(warning)) {
            tracing::warn!("{warning}");
        }
        runtime.block_on(work(args, settings))
    };
    runtime.shutdown_timeout(LAST_FILE_WORK);
    ended
}

/// Registers, and says what to start the agent with.
async fn enrol(settings: &AgentSettings, out: Option<&Path>) -> anyhow::Result<ExitCode> {
    let AgentIdentity::Bootstrap { token } = &settings.identity else {
        bail!("this host has an agent's id and key; registering needs a bootstrap token instead");
    };
    let server = server(settings);
    if let Some(file) = out {
        let identity = register_into(file, &server, token, &settings.name).await?;
        println!(
            "registered as {}; start it with the environment in {}",
            identity.agent_id,
            file.display()
        );
    } else {
        let identity = register(&server, token, &settings.name).await?;
        let lines = Secret::new(environment(&server, &settings.name, &identity));
        std::io::stdout()
            .write_all(lines.expose().as_bytes())
            .context("the key could not be printed")?;
    }
    Ok(ExitCode::SUCCESS)
}

async fn work(args: &Args, settings: AgentSettings) -> anyhow::Result<ExitCode> {
    let server = server(&settings);
    let identity = match &settings.identity {
        AgentIdentity::Registered { agent_id, api_key } => Identity {
            agent_id: AgentId::parse(agent_id).context("CERTCTL_AGENT_ID")?,
            api_key: api_key.clone(),
        },
        AgentIdentity::Bootstrap { token } => {
            remembered_or_registered(&settings.key_dir, &server, token, &settings.name).await?
        }
    };
    if !settings.discovery_dirs.is_empty() {
        tracing::warn!(
            "CERTCTL_DISCOVERY_DIRS has no effect yet: this version does not look for certificates"
        );
    }
    let config = AgentConfig {
        server,
        identity,
        name: settings.name,
        key_dir: settings.key_dir,
        heartbeat_interval: args.heartbeat_interval.unwrap_or(HEARTBEAT_INTERVAL),
        poll_interval: args.poll_interval.unwrap_or(POLL_INTERVAL),
        start_delay: args.start_delay,
        overrides: Overrides {
            verify: settings.overrides.verify,
            verify_timeout: settings.overrides.verify_timeout,
            verify_delay: settings.overrides.verify_delay,
            backup_retention: settings
                .overrides
                .backup_retention
                .map(|kept: BackupRetention| kept.as_number().into()),
        },
    };
    let agent = Agent::new(config, Arc::new(SystemClock))?;
    if settings.dry_run {
        return try_out(&agent).await;
    }
    let (mut interrupt, mut terminate) = (
        signal(SignalKind::interrupt()).context("cannot listen for SIGINT")?,
        signal(SignalKind::terminate()).context("cannot listen for SIGTERM")?,
    );
    let shutdown = async move {
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
        tracing::info!("stopping; a deployment that is under way is finished first");
    };
    match agent.run(shutdown).await? {
        End::Stopped => tracing::info!("stopped"),
        End::Retired => tracing::info!("retired"),
    }
    Ok(ExitCode::SUCCESS)
}

async fn try_out(agent: &Agent) -> anyhow::Result<ExitCode> {
    let trials = agent.dry_run().await?;
    for trial in &trials {
        let job = trial.job.as_ref().map_or("?", AsRef::as_ref);
        let target = trial.target.as_ref().map_or("?", AsRef::as_ref);
        match &trial.problem {
            None => println!("{job} to {target}: would be deployed"),
            Some(problem) => println!("{job} to {target}: {problem}"),
        }
    }
    println!("{} deployments tried, nothing changed", trials.len());
    let failed = trials.iter().any(|trial| trial.problem.is_some());
    Ok(ExitCode::from(u8::from(failed)))
}

fn server(settings: &AgentSettings) -> ServerConfig {
    ServerConfig {
        url: settings.server_url.clone(),
        ca_bundle: settings.ca_bundle.clone(),
        insecure_skip_verify: settings.insecure_skip_verify,
        version: env!("CARGO_PKG_VERSION").to_owned(),
    }
}

fn start_logging(settings: LogSettings) -> anyhow::Result<LogGuard> {
    let format = match settings.format {
        LogFormat::Json => logging::LogFormat::Json,
        LogFormat::Text => logging::LogFormat::Text,
    };
    let level = match settings.level {
        LogLevel::Debug => logging::LogLevel::Debug,
        LogLevel::Info => logging::LogLevel::Info,
        LogLevel::Warn => logging::LogLevel::Warn,
        LogLevel::Error => logging::LogLevel::Error,
    };
    logging::init(format, level).context("cannot log")
}

fn is_ours(warning: &Warning) -> bool {
    matches!(warning, Warning::UnknownName { name, .. } if OWN_VARIABLES.contains(&name.as_str()))
}
