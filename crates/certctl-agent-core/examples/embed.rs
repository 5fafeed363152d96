//! An agent inside another service: `cargo run -p certctl-agent-core --example embed -- URL CA_BUNDLE TOKEN KEY_DIR`.

use std::{env, path::PathBuf, sync::Arc, time::Duration};

use certctl_agent_core::{
    Agent, AgentConfig, Error, HEARTBEAT_INTERVAL, Overrides, POLL_INTERVAL, Secret, ServerConfig,
    SystemClock, remembered_or_registered,
};

#[tokio::main]
async fn main() -> Result<(), Error> {
    let mut arguments = env::args().skip(1);
    let mut argument = |what: &str| arguments.next().unwrap_or_else(|| panic!("missing {what}"));
    let server = ServerConfig {
        url: argument("URL"),
        ca_bundle: Some(PathBuf::from(argument("CA_BUNDLE"))),
        insecure_skip_verify: false,
        version: "0.1.0".to_owned(),
    };
    let token = Secret::new(argument("TOKEN"));
    let key_dir = PathBuf::from(argument("KEY_DIR"));
    let name = "embedded".to_owned();
    let identity = remembered_or_registered(&key_dir, &server, &token, &name).await?;
    let config = AgentConfig {
        server,
        identity,
        name,
        key_dir,
        heartbeat_interval: HEARTBEAT_INTERVAL,
        poll_interval: POLL_INTERVAL,
        start_delay: Some(Duration::ZERO),
        overrides: Overrides::default(),
    };
    let agent = Agent::new(config, Arc::new(SystemClock))?;
    // The surrounding service decides when it ends; here that is after an hour.
    let end = agent
        .run(tokio::time::sleep(Duration::from_secs(3600)))
        .await?;
    println!("{end:?}");
    Ok(())
}
