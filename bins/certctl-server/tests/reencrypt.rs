//! `certctl-server --reencrypt` as a program that is killed.

#![expect(clippy::unwrap_used, reason = "in a test a panic is the report")]

use std::{
    io::{BufRead as _, BufReader},
    process::{Command, Output, Stdio},
};

use certctl_testkit::{TestDb, db_tests, domain::secret::Secret, pki::seal::Sealer};

const OLD: &str = "the key before, of 32 bytes and more";
const NEW: &str = "the present key, of 32 bytes and more";
const TARGETS: usize = 6000;
const PLAIN: &[u8] = br#"{"password":"canary-7342"}"#;

fn place(id: &str) -> String {
    format!("deployment_targets:encrypted_config:{id}")
}

fn server(db: &TestDb, data: &std::path::Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_certctl-server"));
    command
        .env_clear()
        .env("CERTCTL_DATA_DIR", data)
        .env("CERTCTL_DATABASE_URL", db.url())
        .env("CERTCTL_SERVER_TLS_BOOTSTRAP", "true")
        .env(
            "CERTCTL_AGENT_BOOTSTRAP_TOKEN",
            "test-bootstrap-token-0123456789",
        )
        .arg("--reencrypt");
    command
}

fn rotate(command: &mut Command) -> &mut Command {
    command
        .env("CERTCTL_CONFIG_ENCRYPTION_KEY", NEW)
        .env("CERTCTL_CONFIG_ENCRYPTION_KEY_PREVIOUS", OLD)
}

fn text(output: &Output) -> String {
    let both = [&output.stdout[..], &output.stderr].concat();
    String::from_utf8(both).unwrap()
}

/// How many configurations open with a key alone.
async fn opened(db: &TestDb, sealer: &Sealer) -> usize {
    let hex = match db.backend().to_string().as_str() {
        "postgres" => "encode(encrypted_config, 'hex')",
        _ => "hex(encrypted_config)",
    };
    let rows = format!(
        "SELECT id || ' ' || {hex} AS value FROM deployment_targets WHERE encrypted_config IS NOT NULL"
    );
    let rows = db.texts(&rows).await;
    let opens = |row: &&String| {
        let (id, hex) = row.split_once(' ').unwrap();
        let digits = |at: usize| u8::from_str_radix(&hex[at..at + 2], 16).unwrap();
        let blob: Vec<u8> = (0..hex.len()).step_by(2).map(digits).collect();
        sealer
            .open(&place(id), &blob)
            .is_ok_and(|plain| plain[..] == *PLAIN)
    };
    rows.iter().filter(opens).count()
}

db_tests! {
    async fn a_change_of_keys_that_is_killed_is_finished_by_the_next_run(db: TestDb) {
        db.seed_basics().await;
        let (old, new) = (Sealer::new(&Secret::new(OLD)), Sealer::new(&Secret::new(NEW)));
        let ids: Vec<String> = (0..TARGETS).map(|number| format!("tgt-{number:05}")).collect();
        for part in ids.chunks(500) {
            let row = |id: &String| {
                let blob = db.blob(&old.seal(&place(id), PLAIN).unwrap());
                format!("('{id}', '{id}', 'F5', 'ag-web', {blob})")
            };
            let rows: Vec<String> = part.iter().map(row).collect();
            let sql = "INSERT INTO deployment_targets (id, name, type, agent_id, encrypted_config) VALUES ";
            db.execute(&format!("{sql}{}", rows.join(", "))).await.unwrap();
        }
        let data = tempfile::tempdir().unwrap();
        let mut child = rotate(&mut server(&db, data.path())).stdout(Stdio::piped()).spawn().unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines().map(Result::unwrap);
        assert!(lines.any(|line| line.starts_with("deployment_targets:encrypted_config: ")), "it tells how far it is");
        child.kill().unwrap();
        child.wait().unwrap();
        let (done, left) = (opened(&db, &new).await, opened(&db, &old).await);
        assert!(done > 0 && left > 0 && done + left == TARGETS, "killed in the middle: {done} are done and {left} are left");

        let ended = rotate(&mut server(&db, data.path())).output().unwrap();
        assert_eq!(ended.status.code(), Some(0), "{}", text(&ended));
        assert!(text(&ended).contains(&format!("{TARGETS} checked, {left} sealed anew")), "{}", text(&ended));
        assert!(text(&ended).contains("everything is sealed with the present key") && !text(&ended).contains("canary-7342"));
        assert_eq!(opened(&db, &new).await, TARGETS);
        // The present key is enough now; with another one nothing is touched, and without one there is nothing to do.
        let again = server(&db, data.path()).env("CERTCTL_CONFIG_ENCRYPTION_KEY", NEW).output().unwrap();
        assert_eq!(again.status.code(), Some(0), "{}", text(&again));
        for (key, refusal) in [(Some(OLD), "sealed with another key"), (None, "CERTCTL_CONFIG_ENCRYPTION_KEY is not set")] {
            let mut command = server(&db, data.path());
            if let Some(key) = key {
                command.env("CERTCTL_CONFIG_ENCRYPTION_KEY", key);
            }
            let refused = command.output().unwrap();
            assert_eq!(refused.status.code(), Some(1));
            assert!(text(&refused).contains(refusal), "{}", text(&refused));
        }
        assert_eq!(opened(&db, &new).await, TARGETS);
    }
}
