//! What is given on the command line: every setting as a flag, and what to do instead of serving.

use std::path::PathBuf;

use certctl_settings::{Programs, entries};
use clap::{Arg, ArgAction, ArgMatches, Command};

/// What to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Task {
    /// Serve until a signal ends it.
    Serve,
    /// Print the settings in force, secrets redacted.
    CheckConfig,
    /// Bring the database up to date.
    Migrate,
    /// Seal what is stored anew, under the present key.
    Reencrypt,
}

/// The command line.
#[derive(Debug)]
pub(crate) struct Args {
    pub(crate) task: Task,
    pub(crate) config: Option<PathBuf>,
    pub(crate) flags: Vec<(String, String)>,
}

impl Args {
    /// Reads the command line; on a wrong one, or for help, it prints and ends the process.
    pub(crate) fn from_process() -> Self {
        Self::from_matches(&command().get_matches())
    }

    fn from_matches(matches: &ArgMatches) -> Self {
        let task = if matches.get_flag("check-config") {
            Task::CheckConfig
        } else if matches.get_flag("migrate-only") {
            Task::Migrate
        } else if matches.get_flag("reencrypt") {
            Task::Reencrypt
        } else {
            Task::Serve
        };
        let flags = server_flags()
            .filter_map(|(flag, _)| {
                matches
                    .get_one::<String>(&flag)
                    .map(|value| (flag, value.clone()))
            })
            .collect();
        Self {
            task,
            config: matches.get_one::<PathBuf>("config").cloned(),
            flags,
        }
    }
}

/// Each setting of the server as a flag, with what it means; secrets are none, because everybody on a host sees arguments.
fn server_flags() -> impl Iterator<Item = (String, &'static str)> {
    entries()
        .filter(|entry| entry.programs().include(Programs::SERVER) && !entry.is_secret())
        .map(|entry| (entry.flag(), entry.doc()))
}

fn command() -> Command {
    let switch = |name: &'static str, help: &'static str| {
        Arg::new(name)
            .long(name)
            .help(help)
            .action(ArgAction::SetTrue)
    };
    let config = Arg::new("config")
        .long("config")
        .value_name("FILE")
        .value_parser(clap::value_parser!(PathBuf))
        .help("Settings in TOML; the environment and flags beat it");
    let settings = server_flags().map(|(flag, doc)| {
        Arg::new(flag.clone())
            .long(flag)
            .value_name("VALUE")
            .help(doc)
            .help_heading("Settings")
    });
    Command::new("certctl-server")
        .version(env!("CARGO_PKG_VERSION"))
        .about("The certctl server: a control plane for the whole life of TLS certificates")
        .after_help("Without any setting it serves https://127.0.0.1:8443 on a database of its own in ./certctl-data.\nEvery flag is also a variable: --server-port is CERTCTL_SERVER_PORT.\nSecrets are given as variables, or as files named by <NAME>_FILE.")
        .arg(config)
        .arg(switch("check-config", "Print the settings in force, secrets redacted, and end"))
        .arg(switch("migrate-only", "Bring the database up to date and end"))
        .arg(switch("reencrypt", "Seal everything stored anew under CERTCTL_CONFIG_ENCRYPTION_KEY, also what older programs sealed, and end; may be interrupted and run again"))
        .args(settings)
}

#[cfg(test)]
mod tests {
    use super::{Args, Task, command};

    #[test]
    fn every_setting_is_a_flag_and_the_tasks_are_told_apart() {
        command().debug_assert();
        let matches = command().get_matches_from([
            "certctl-server",
            "--server-port",
            "9443",
            "--check-config",
        ]);
        let args = Args::from_matches(&matches);
        assert_eq!(args.task, Task::CheckConfig);
        assert_eq!(args.flags, [("server-port".to_owned(), "9443".to_owned())]);
        let refused =
            command().try_get_matches_from(["certctl-server", "--config-encryption-key", "x"]);
        assert!(refused.is_err(), "a secret is no argument");
    }
}
