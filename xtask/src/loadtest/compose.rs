//! The same scripts against containers: what `docker compose` is told, and that it is always torn down.

use std::process::{Command, Stdio};

use anyhow::{Result, bail};

use super::suite::{Shape, Suite};
use crate::step::{root, run, step};

const FILE: &str = "loadtest/docker-compose.yml";

/// The service that drives a suite, and the profile that starts it; the API tier has none.
fn driver(suite: &Suite) -> Option<(&'static str, Option<&'static str>)> {
    match suite.name {
        "" => Some(("k6", None)),
        "bulk-renewal" => Some(("k6-scale-bulk", Some("scale-bulk"))),
        "acme-burst" => Some(("k6-scale-acme", Some("scale-acme"))),
        "agent-storm" => Some(("k6-scale-agent", Some("scale-agent"))),
        "acme-flow" => Some(("k6-acme-flow", Some("acme-flow"))),
        _ => None,
    }
}

/// Runs a suite; what it wrote lies in `loadtest/results`. A breach is the exit status of the driver.
pub(super) fn run_one(suite: &Suite, shape: &Shape) -> Result<Vec<String>> {
    let Some((service, profile)) = driver(suite) else {
        bail!("{} runs with --stack local only", suite.name);
    };
    if Command::new("docker")
        .arg("version")
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .is_err()
    {
        bail!("docker is not installed; --stack local needs none");
    }
    let compose = |arguments: &[&str]| {
        let mut command = Command::new("docker");
        command.args(["compose", "-f", FILE]).current_dir(root());
        if let Some(profile) = profile {
            command.args(["--profile", profile]);
        }
        command
            .args(arguments)
            .env("LOADTEST_DURATION", format!("{}s", shape.seconds))
            .env("LOADTEST_RATE_SCALE", shape.scale.to_string());
        command
    };
    let outcome = step("compose", || {
        run(compose(&[
            "up",
            "--build",
            "--abort-on-container-exit",
            "--exit-code-from",
            service,
            service,
        ]))
    });
    // Whatever became of it; volumes go, too, so that the next one starts with an empty database.
    let torn_down = step("tear down", || {
        run(compose(&["down", "--volumes", "--remove-orphans"]))
    });
    outcome?;
    torn_down?;
    Ok(Vec::new())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::fs;

    use super::*;
    use crate::loadtest::suite;

    /// The scalars of the part of YAML that the file is written in: maps by indentation, lists and braces as text.
    fn scalars(text: &str) -> BTreeMap<String, String> {
        let mut all = BTreeMap::new();
        let mut path: Vec<(usize, String)> = Vec::new();
        let mut literal: Option<usize> = None;
        for line in text
            .lines()
            .filter(|line| !line.trim().is_empty() && !line.trim_start().starts_with('#'))
        {
            let indent = line.len() - line.trim_start().len();
            if literal.is_some_and(|outside| indent > outside) {
                continue;
            }
            literal = None;
            let line = line.trim();
            assert!(!line.contains('\t'), "{line}");
            if line.starts_with("- ") {
                literal = line.ends_with('|').then_some(indent);
                let parent: Vec<&str> = path
                    .iter()
                    .filter(|(at, _)| *at < indent)
                    .map(|(_, key)| key.as_str())
                    .collect();
                all.entry(parent.join("."))
                    .or_insert_with(String::new)
                    .push_str(&format!("{line}\n"));
                continue;
            }
            let Some((key, value)) = line.split_once(':') else {
                continue;
            };
            path.retain(|(at, _)| *at < indent);
            path.push((indent, key.to_owned()));
            let whole: Vec<&str> = path.iter().map(|(_, key)| key.as_str()).collect();
            let known = all.insert(whole.join("."), value.trim().to_owned());
            assert!(known.is_none(), "{} twice", whole.join("."));
        }
        all
    }

    fn compose_file() -> BTreeMap<String, String> {
        scalars(&fs::read_to_string(root().join(FILE)).unwrap())
    }

    #[test]
    fn every_driver_is_a_service_with_its_profile() {
        let file = compose_file();
        for suite in [
            &suite::API,
            &suite::BULK,
            &suite::ACME_BURST,
            &suite::AGENT_STORM,
            &suite::ACME_FLOW,
        ] {
            let (service, profile) = driver(suite).unwrap();
            let command = &file[&format!("services.{service}.command")];
            assert_eq!(
                command,
                &format!("[\"run\", \"{}\"]", suite.script),
                "{service}"
            );
            let profiles = file.get(&format!("services.{service}.profiles"));
            assert_eq!(
                profiles.is_some_and(|list| list.contains(profile.unwrap_or("none"))),
                profile.is_some(),
                "{service}"
            );
        }
        assert!(driver(&suite::OVERLOAD).is_none());
    }

    #[test]
    fn the_services_are_those_of_the_contract() {
        let file = compose_file();
        for (service, image) in [
            ("postgres", "postgres:16-alpine"),
            ("nginx-target", "nginx:1.27-alpine"),
            ("apache-target", "httpd:2.4-alpine"),
            ("haproxy-target", "haproxy:2.9-alpine"),
            ("scale-seed", "postgres:16-alpine"),
        ] {
            assert_eq!(file[&format!("services.{service}.image")], image);
        }
        for (service, interval, timeout, retries, start) in [
            ("postgres", "5s", "3s", "10", "30s"),
            ("certctl-server", "5s", "3s", "30", "60s"),
        ] {
            let of = |key: &str| file[&format!("services.{service}.healthcheck.{key}")].clone();
            assert_eq!(
                [
                    of("interval"),
                    of("timeout"),
                    of("retries"),
                    of("start_period")
                ],
                [interval, timeout, retries, start]
            );
        }
        assert!(file["services.certctl-server.healthcheck.test"].contains("/ready"));
    }

    #[test]
    fn the_server_has_the_settings_of_the_local_one() {
        let file = compose_file();
        for (name, value) in crate::loadtest::world::SETTINGS {
            let written = file[&format!("services.certctl-server.environment.{name}")]
                .trim_matches('"')
                .to_owned();
            assert!(
                written == value || written.contains(&format!(":-{value}")),
                "{name}: {written}"
            );
        }
    }

    #[test]
    fn images_run_as_nobody_in_particular_and_hold_one_program() {
        let text = fs::read_to_string(root().join("Dockerfile")).unwrap();
        let stages: Vec<&str> = text.split("\nFROM ").skip(1).collect();
        let programs = [
            "certctl-server",
            "certctl-migrate",
            "certctl-agent",
            "certctl-f5-mock",
        ];
        for program in programs {
            let stage = stages
                .iter()
                .find(|stage| stage.contains(&format!("ENTRYPOINT [\"{program}\"]")))
                .unwrap();
            assert!(stage.starts_with("base AS "), "{program}");
            assert_eq!(stage.matches("COPY --from=build").count(), 1, "{program}");
            let user = stage.lines().rfind(|line| line.starts_with("USER "));
            assert!(
                user.is_none_or(|line| line == "USER 10001:10001"),
                "{program}: {user:?}"
            );
        }
        let base = stages
            .iter()
            .find(|stage| stage.contains(" AS base"))
            .unwrap();
        assert!(base.contains("\nUSER 10001:10001\n"));
        let channel = fs::read_to_string(root().join("rust-toolchain.toml")).unwrap();
        let rust = text
            .split("FROM rust:")
            .nth(1)
            .and_then(|rest| rest.split('-').next())
            .unwrap();
        assert!(
            channel.contains(&format!("channel = \"{rust}.")),
            "the image has Rust {rust}"
        );
    }

    #[test]
    fn the_workflow_runs_commands_that_there_are() {
        use clap::CommandFactory as _;
        #[derive(clap::Parser)]
        struct All {
            #[command(subcommand)]
            _command: crate::loadtest::Command,
        }
        let known: Vec<String> = All::command()
            .get_subcommands()
            .map(|one| one.get_name().to_owned())
            .collect();
        let text = fs::read_to_string(root().join(".github/workflows/loadtest.yml")).unwrap();
        let after = |word: &str| {
            text.lines()
                .filter_map(|line| line.trim().strip_prefix(word).map(str::to_owned))
                .collect::<Vec<_>>()
        };
        let mut used = after("command: ");
        let beyond = text
            .split("scenario:\n")
            .nth(1)
            .unwrap()
            .lines()
            .map_while(|line| line.trim().strip_prefix("- "));
        used.extend(beyond.map(|name| format!("loadtest-{name}")));
        assert!(used.len() >= 13, "{used:?}");
        for command in used {
            assert!(known.contains(&command), "{command}");
        }
        assert!(text.contains("cron: \"0 6 * * 1\"") && text.contains("retention-days: 90"));
    }
}
