//! The program itself: it says where it listens, is well, takes the hooks of tests, and ends when it is told to.

#![expect(clippy::unwrap_used, reason = "in a test a panic is the report")]

use std::{
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::TcpStream,
    process::{Child, Command, Stdio},
};

struct Running {
    child: Child,
    health: String,
}

impl Drop for Running {
    fn drop(&mut self) {
        // It may have ended already.
        let _: std::io::Result<()> = self.child.kill();
        let _: std::io::Result<std::process::ExitStatus> = self.child.wait();
    }
}

fn start() -> Running {
    let mut child = Command::new(env!("CARGO_BIN_EXE_certctl-f5-mock"))
        .args([
            "--api-listen",
            "127.0.0.1:0",
            "--https-listen",
            "127.0.0.1:0",
        ])
        .args(["--health-listen", "127.0.0.1:0"])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let lines: Vec<String> = lines.take(3).map(Result::unwrap).collect();
    assert!(lines[0].starts_with("api https://127.0.0.1:"), "{lines:?}");
    assert!(
        lines[1].starts_with("virtual https://127.0.0.1:"),
        "{lines:?}"
    );
    let health = lines[2].strip_prefix("health http://").unwrap().to_owned();
    Running { child, health }
}

fn ask(address: &str, head: &str, body: &str) -> String {
    let mut stream = TcpStream::connect(address).unwrap();
    let length = body.len();
    write!(stream, "{head} HTTP/1.1\r\nHost: mock\r\nConnection: close\r\nContent-Length: {length}\r\n\r\n{body}").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

#[test]
fn it_is_well_and_takes_hooks() {
    let mock = start();
    let healthy = ask(&mock.health, "GET /healthz", "");
    assert!(
        healthy.starts_with("HTTP/1.1 200") && healthy.ends_with("ok\n"),
        "{healthy}"
    );
    let state = ask(&mock.health, "GET /admin/state", "");
    assert!(
        state.contains("/Common/default.crt") && !state.contains("PRIVATE KEY"),
        "{state}"
    );
    let good = ask(
        &mock.health,
        "POST /admin/faults",
        r#"{"after": 3, "status": 503}"#,
    );
    assert!(good.starts_with("HTTP/1.1 200"), "{good}");
    let bad = ask(
        &mock.health,
        "POST /admin/faults",
        r#"{"status": 503, "lose_answer": true}"#,
    );
    assert!(bad.starts_with("HTTP/1.1 400"), "{bad}");
    // The API is not to be had without TLS.
    let refused = ask(&mock.health, "GET /mgmt/tm/transaction", "");
    assert!(refused.starts_with("HTTP/1.1 404"), "{refused}");
}

#[test]
fn half_a_pair_is_refused() {
    let output = Command::new(env!("CARGO_BIN_EXE_certctl-f5-mock"))
        .args(["--cert", "/no/such/file"])
        .output()
        .unwrap();
    assert!(!output.status.success());
    assert!(String::from_utf8_lossy(&output.stderr).contains("--key"));
}
