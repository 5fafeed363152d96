//! The certctl server.

mod args;

use std::process::ExitCode;

use anyhow::Context as _;
use certctl_boot::{Clock as _, Server, SystemClock};
use certctl_settings::{ProcessEnv, Settings, Sources};
use tokio::signal::unix::{SignalKind, signal};

use crate::args::{Args, Task};

/// 0 for an end in order, 1 when the server did not start or had to cut something at its end.
fn main() -> ExitCode {
    match run(Args::from_process()) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(problem) => {
            eprintln!("certctl-server: {problem:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(args: Args) -> anyhow::Result<bool> {
    let sources = Sources {
        config: args.config,
        flags: args.flags,
        ..Sources::from_env(&ProcessEnv, SystemClock.now())
    };
    let loaded = Settings::load(&sources)?;
    if args.task == Task::CheckConfig {
        print!("{}", loaded.effective);
        return Ok(true);
    }
    let logs = certctl_boot::start_logging(&loaded)?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .context("the runtime cannot be made")?;
    if args.task == Task::Migrate {
        return runtime.block_on(async {
            certctl_boot::migrate(&loaded.settings)
                .await
                .map(|()| true)
                .map_err(Into::into)
        });
    }
    runtime.block_on(async {
        let (mut end, mut interrupt, mut hangup) = (
            signal(SignalKind::terminate())?,
            signal(SignalKind::interrupt())?,
            signal(SignalKind::hangup())?,
        );
        let server = Server::build(loaded.settings, certctl_boot::start_metrics()?).await?;
        server.announce(&logs);
        let running = server.spawn();
        loop {
            tokio::select! {
                _ = end.recv() => break,
                _ = interrupt.recv() => break,
                _ = hangup.recv() => running.reload_certificate().await,
            }
        }
        Ok(running.drain().await)
    })
}
