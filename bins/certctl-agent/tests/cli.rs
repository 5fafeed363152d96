//! The program itself: what it answers to wrong settings, and how it ends.

#![expect(clippy::unwrap_used, reason = "in a test a panic is the report")]

use std::{
    io::{BufRead as _, BufReader},
    process::{Command, Output, Stdio},
};

/// The program with an empty environment and a folder of its own.
fn agent(folder: &std::path::Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_certctl-agent"));
    command
        .env_clear()
        .env("CERTCTL_KEY_DIR", folder.join("keys"))
        .args(arguments);
    command
}

fn run(arguments: &[&str]) -> Output {
    let folder = tempfile::tempdir().unwrap();
    agent(folder.path(), arguments).output().unwrap()
}

fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

const IDENTITY: [&str; 4] = ["--agent-id", "agent-1", "--api-key", "canary-key"];

#[test]
fn version_and_help_end_well() {
    for argument in ["--version", "-version", "-h", "--help"] {
        let output = run(&[argument]);
        assert_eq!(output.status.code(), Some(0), "{argument}");
        assert!(
            String::from_utf8(output.stdout)
                .unwrap()
                .contains("certctl-agent")
        );
    }
}

#[test]
fn wrong_settings_end_with_1_and_name_what_is_wrong() {
    let with = |more: &[&'static str]| [&IDENTITY[..], more].concat();
    for (arguments, said) in [
        (vec![], "CERTCTL_API_KEY"),
        (vec!["--api-key", "canary-key"], "CERTCTL_AGENT_ID"),
        (
            with(&["--server", "http://localhost"]),
            "CERTCTL_SERVER_URL",
        ),
        (with(&["-server", "localhost"]), "CERTCTL_SERVER_URL"),
        (
            with(&["--ca-bundle", "/no/such/file"]),
            "CERTCTL_SERVER_CA_BUNDLE_PATH",
        ),
        (with(&["--log-level", "loud"]), "CERTCTL_LOG_LEVEL"),
        (with(&["--poll-interval", "0s"]), "--poll-interval"),
        (
            with(&["--insecure-skip-verify", "--key-dir", "/proc/keys"]),
            "/proc/keys",
        ),
        (vec!["--no-such-flag"], "--no-such-flag"),
    ] {
        let output = run(&arguments);
        assert_eq!(output.status.code(), Some(1), "{arguments:?}");
        assert!(
            stderr(&output).contains(said),
            "{arguments:?}: {}",
            stderr(&output)
        );
        assert!(!stderr(&output).contains("canary"), "{arguments:?}");
    }
}

#[test]
fn the_settings_in_force_are_shown_without_secrets() {
    let output = run(&[&IDENTITY[..], &["--check-config"]].concat());
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(
        text.contains("agent-1") && !text.contains("canary"),
        "{text}"
    );
}

#[test]
fn registering_and_dry_runs_that_reach_nobody_end_with_1() {
    let nobody = ["--server", "https://127.0.0.1:1", "--insecure-skip-verify"];
    let register = ["register", "--bootstrap-token", "canary-token"];
    for arguments in [
        [&register[..], &nobody].concat(),
        [&IDENTITY[..], &nobody, &["--dry-run"]].concat(),
    ] {
        let output = run(&arguments);
        assert_eq!(output.status.code(), Some(1), "{arguments:?}");
        let said = stderr(&output);
        assert!(said.contains("did not reach the server"), "{said}");
        assert!(!said.contains("canary"));
    }
    let output = run(&[&IDENTITY[..], &["register"]].concat());
    assert!(
        stderr(&output).contains("bootstrap token"),
        "{}",
        stderr(&output)
    );
}

#[test]
fn a_signal_ends_it_in_order() {
    for signal in ["TERM", "INT"] {
        let folder = tempfile::tempdir().unwrap();
        let nobody = ["--server", "https://127.0.0.1:1", "--insecure-skip-verify"];
        let mut child = agent(folder.path(), &[&IDENTITY[..], &nobody].concat())
            .env("CERTCTL_AGENT_START_DELAY", "0s")
            .env("CERTCTL_AGENT_HEARTBEAT_INTERVAL", "1h")
            .env("CERTCTL_AGENT_POLL_INTERVAL", "1h")
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap())
            .lines()
            .map(Result::unwrap);
        // The first call has failed, so the signals are listened for since before.
        let met = lines.any(|line| line.contains("no heartbeat") || line.contains("no work"));
        assert!(met, "the agent said nothing of its first call");
        let pid = child.id().to_string();
        let sent = Command::new("kill")
            .args(["-s", signal, &pid])
            .status()
            .unwrap();
        assert!(sent.success());
        let rest: Vec<String> = lines.collect();
        assert_eq!(child.wait().unwrap().code(), Some(0));
        assert!(rest.iter().any(|line| line.contains("stopped")), "{rest:?}");
        assert!(!rest.iter().any(|line| line.contains("canary")));
    }
}
