//! A certctl server inside another program: `cargo run -p certctl-boot --example embed_server`.

use std::error::Error;

use certctl_boot::{Clock as _, Server, SystemClock, Welcome, start_metrics};
use certctl_settings::{MapEnv, Settings, Sources};

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let own = [
        ("CERTCTL_DATA_DIR", "./certctl-embedded"),
        ("CERTCTL_SERVER_PORT", "8443"),
    ];
    // This program's own work, which decides when both end; here it is to show where the server is, and to wait for Ctrl-C.
    let clean = beside_certctl(&own, async |welcome| {
        println!("{welcome}");
        // Without a signal to wait for there is nothing to do but to end.
        let _: std::io::Result<()> = tokio::signal::ctrl_c().await;
    })
    .await?;
    println!("ended in order: {clean}");
    Ok(())
}

/// Runs a server for as long as `work` takes; true when nothing had to be cut at its end.
pub(crate) async fn beside_certctl(
    settings: &[(&str, &str)],
    work: impl AsyncFnOnce(&Welcome),
) -> Result<bool, Box<dyn Error>> {
    // Settings come from where the program keeps its own; nothing is read from the process's environment.
    let environment: MapEnv = settings.iter().copied().collect();
    let sources = Sources::from_env(&environment, SystemClock.now());
    let settings = Settings::load(&sources)?.settings;

    // Migrated, wired and bound; what is wrong is told here, and nothing serves yet.
    let server = Server::build(settings, start_metrics()?).await?;
    let welcome = server.welcome().clone();

    // The loops and the listener run on this runtime, beside everything else.
    let running = server.spawn();
    work(&welcome).await;

    // In order: no new work, what is under way is finished, the database is closed.
    Ok(running.drain().await)
}
