//! What is given on the command line. A flag beats the environment, which beats the default (agent §1).

use std::{ffi::OsString, path::PathBuf, time::Duration};

use clap::{Parser, Subcommand};

/// Puts certificates where they are served, with keys that never leave this host.
#[derive(Debug, Parser)]
#[command(name = "certctl-agent", version)]
pub(crate) struct Args {
    #[command(subcommand)]
    pub(crate) command: Option<Command>,
    /// The URL of the server; https only.
    #[arg(long, global = true, value_name = "URL")]
    server: Option<String>,
    /// The key that the registration answered with. Better given by CERTCTL_API_KEY: others on this host see arguments.
    #[arg(long, value_name = "KEY")]
    api_key: Option<String>,
    /// The id that the registration answered with.
    #[arg(long, value_name = "ID")]
    agent_id: Option<String>,
    /// The name by which people know the agent.
    #[arg(long, global = true)]
    name: Option<String>,
    /// Where private keys lie.
    #[arg(long, value_name = "FOLDER")]
    key_dir: Option<String>,
    /// Where certificates are looked for, comma separated.
    #[arg(long, value_name = "FOLDERS")]
    discovery_dirs: Option<String>,
    /// Roots in PEM that the server's certificate is checked against.
    #[arg(long, global = true, value_name = "FILE")]
    ca_bundle: Option<String>,
    /// Talks to anybody who answers in the server's place.
    #[arg(long, global = true)]
    insecure_skip_verify: bool,
    /// debug, info, warn or error.
    #[arg(long, global = true, value_name = "LEVEL")]
    log_level: Option<String>,
    /// Tries every pending deployment once without changing anything, and ends.
    #[arg(long)]
    dry_run: bool,
    /// Settings in TOML.
    #[arg(long, global = true, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
    /// Prints the settings in force, secrets redacted, and ends.
    #[arg(long)]
    pub(crate) check_config: bool,
    /// How often the agent says that it is there, as in 60s.
    #[arg(long, env = "CERTCTL_AGENT_HEARTBEAT_INTERVAL", value_parser = interval, value_name = "TIME")]
    pub(crate) heartbeat_interval: Option<Duration>,
    /// How often it asks for work, as in 30s.
    #[arg(long, env = "CERTCTL_AGENT_POLL_INTERVAL", value_parser = interval, value_name = "TIME")]
    pub(crate) poll_interval: Option<Duration>,
    /// The longest random delay before it begins; an interval when not given, none with 0s.
    #[arg(long, env = "CERTCTL_AGENT_START_DELAY", value_parser = span, value_name = "TIME")]
    pub(crate) start_delay: Option<Duration>,
    /// Exchanged for an id and a key. Better given by CERTCTL_AGENT_BOOTSTRAP_TOKEN.
    #[arg(long, global = true, value_name = "TOKEN")]
    bootstrap_token: Option<String>,
}

/// Variables that are read here and not by the settings.
pub(crate) const OWN_VARIABLES: [&str; 3] = [
    "CERTCTL_AGENT_HEARTBEAT_INTERVAL",
    "CERTCTL_AGENT_POLL_INTERVAL",
    "CERTCTL_AGENT_START_DELAY",
];

/// Something else than running.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Registers this host by a bootstrap token and says what to start the agent with.
    Register {
        /// A new file for the lines, readable by its owner only; without it they are printed, the key among them.
        #[arg(long, value_name = "FILE")]
        out: Option<PathBuf>,
    },
}

impl Args {
    pub(crate) fn from_process() -> Result<Self, clap::Error> {
        Self::try_parse_from(std::env::args_os().map(two_dashes))
    }

    /// The flags that are settings, by the names of the settings.
    pub(crate) fn flags(&self) -> Vec<(String, String)> {
        let switch = |on: bool| on.then(|| "true".to_owned());
        [
            ("SERVER_URL", self.server.clone()),
            ("API_KEY", self.api_key.clone()),
            ("AGENT_ID", self.agent_id.clone()),
            ("AGENT_NAME", self.name.clone()),
            ("KEY_DIR", self.key_dir.clone()),
            ("DISCOVERY_DIRS", self.discovery_dirs.clone()),
            ("SERVER_CA_BUNDLE_PATH", self.ca_bundle.clone()),
            (
                "SERVER_TLS_INSECURE_SKIP_VERIFY",
                switch(self.insecure_skip_verify),
            ),
            ("LOG_LEVEL", self.log_level.clone()),
            ("DRY_RUN", switch(self.dry_run)),
            ("AGENT_BOOTSTRAP_TOKEN", self.bootstrap_token.clone()),
        ]
        .into_iter()
        .filter_map(|(name, value)| Some((name.to_owned(), value?)))
        .collect()
    }
}

/// Existing unit files write `-server`; both spellings mean the same.
fn two_dashes(argument: OsString) -> OsString {
    match argument.to_str() {
        Some(text)
            if text.len() > 2
                && text.starts_with('-')
                && text[1..].starts_with(|c: char| c.is_ascii_lowercase()) =>
        {
            format!("-{text}").into()
        }
        _ => argument,
    }
}

fn span(text: &str) -> Result<Duration, String> {
    certctl_agent_core::parse_span(text)
        .ok_or_else(|| "expected a time such as 30s or 5m".to_owned())
}

fn interval(text: &str) -> Result<Duration, String> {
    // Less would be a loop without pause.
    const SHORTEST: Duration = Duration::from_millis(100);
    let interval = span(text)?;
    if interval < SHORTEST {
        return Err("must be at least 100ms".to_owned());
    }
    Ok(interval)
}

#[cfg(test)]
mod tests {
    use clap::{CommandFactory as _, Parser as _};

    use super::{Args, two_dashes};

    #[test]
    fn the_description_of_the_command_line_is_sound() {
        Args::command().debug_assert();
    }

    #[test]
    fn one_dash_does_as_well_as_two() {
        let args = [
            "certctl-agent",
            "-server",
            "https://a",
            "--dry-run",
            "-key-dir=/k",
        ];
        let args = Args::try_parse_from(args.map(|a| two_dashes(a.into()))).unwrap();
        let flags = args.flags();
        for wanted in [
            ("SERVER_URL", "https://a"),
            ("DRY_RUN", "true"),
            ("KEY_DIR", "/k"),
        ] {
            assert!(
                flags.contains(&(wanted.0.into(), wanted.1.into())),
                "{flags:?}"
            );
        }
        assert_eq!(flags.len(), 3);
        assert_eq!(two_dashes("-1".into()), "-1");
        assert_eq!(two_dashes("-h".into()), "-h");
    }

    #[test]
    fn intervals_have_a_floor() {
        let parse = |value| Args::try_parse_from(["certctl-agent", "--poll-interval", value]);
        assert!(parse("100ms").is_ok());
        for bad in ["0s", "10ms", "soon", "5"] {
            assert!(parse(bad).is_err(), "{bad}");
        }
    }
}
