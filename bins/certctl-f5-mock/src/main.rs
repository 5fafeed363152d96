//! The mock as a program.

mod args;

use anyhow::Context as _;
use certctl_f5_mock::Mock;
use clap::Parser as _;
use tokio::signal::unix::{SignalKind, signal};

use crate::args::Args;

fn main() -> anyhow::Result<()> {
    let options = Args::parse().options()?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .context("cannot start the runtime")?;
    runtime.block_on(async {
        let mock = Mock::start(options).await?;
        // Whoever asked for port 0 reads here what it became.
        println!("api https://{}", mock.api());
        println!("virtual https://{}", mock.virtual_server());
        println!("health http://{}", mock.health());
        let (mut interrupt, mut terminate) = (
            signal(SignalKind::interrupt())?,
            signal(SignalKind::terminate())?,
        );
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
        Ok(())
    })
}
