//! Does what the command line asks.

use std::io::Write as _;

use anyhow::Context as _;
use certctl_boot::{Clock as _, Server, SystemClock};
use certctl_settings::{Loaded, ProcessEnv, Settings, Sources};
use tokio::signal::unix::{SignalKind, signal};

use crate::args::{Args, Task};

/// True when everything ended in order.
pub(crate) fn run(args: Args) -> anyhow::Result<bool> {
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
        runtime.block_on(certctl_boot::migrate(&loaded.settings))?;
        return Ok(true);
    }
    if args.task == Task::Reencrypt {
        return Ok(runtime.block_on(reencrypt(&loaded.settings))?);
    }
    runtime.block_on(serve(loaded, &logs))
}

/// One line for each part that is done; what was printed is stored.
async fn reencrypt(settings: &Settings) -> Result<bool, certctl_boot::Error> {
    // Whether somebody still reads what is printed makes no difference to what is stored.
    let print = |line: &dyn std::fmt::Display| drop(writeln!(std::io::stdout(), "{line}"));
    let whole = certctl_boot::reencrypt(settings, &mut |step| print(&step)).await?;
    print(if whole {
        &"everything is sealed with the present key; CERTCTL_CONFIG_ENCRYPTION_KEY_PREVIOUS is no longer needed"
    } else {
        &"some values cannot be opened and stay as they are; keep CERTCTL_CONFIG_ENCRYPTION_KEY_PREVIOUS"
    });
    Ok(whole)
}

/// Serves until a signal ends it; SIGHUP reads the server's certificate anew.
async fn serve(loaded: Loaded<Settings>, logs: &certctl_boot::Logs) -> anyhow::Result<bool> {
    // Before the build, so that a signal that comes while migrations run is not lost.
    let mut end = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut hangup = signal(SignalKind::hangup())?;
    let server = Server::build(loaded.settings, certctl_boot::start_metrics()?).await?;
    server.announce(logs);
    let running = server.spawn();
    loop {
        tokio::select! {
            _ = end.recv() => break,
            _ = interrupt.recv() => break,
            _ = hangup.recv() => running.reload_certificate().await,
        }
    }
    Ok(running.drain().await)
}
