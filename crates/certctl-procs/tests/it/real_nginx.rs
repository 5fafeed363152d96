use std::net::{Ipv4Addr, TcpStream};
use std::process::Command;

use certctl_procs::Error;
use certctl_procs::install::{Program, ensure};
use certctl_procs::nginx::{self, Nginx};
use certctl_procs::ports::free_port;

use crate::{eventually, get, runs};

fn serving(port: u16, body: &str) -> String {
    nginx::conf(&format!(
        "    server {{ listen 127.0.0.1:{port}; location / {{ return 200 '{body}'; }} }}"
    ))
}

fn sh(command: &str) -> bool {
    Command::new("sh")
        .args(["-c", command])
        .status()
        .unwrap()
        .success()
}

#[test]
fn nginx_serves_reloads_and_stops() {
    ensure(&[Program::Nginx]).unwrap();
    let prefix = tempfile::tempdir().unwrap();
    let port = free_port().unwrap();
    let server = Nginx::start(prefix.path().join("it's nginx"), &serving(port, "first")).unwrap();
    assert!(get(port).ends_with("first"));

    std::fs::write(server.conf_path(), serving(port, "second")).unwrap();
    assert!(sh(&server.validate_command()));
    assert!(sh(&server.reload_command()));
    eventually("the new text is served", || get(port).ends_with("second"));

    std::fs::write(server.conf_path(), "nonsense").unwrap();
    assert!(!sh(&server.validate_command()));
    // A worker of before the reload may still answer, so which text it is does not matter here.
    assert!(get(port).starts_with("HTTP/1.1 200"));

    let pid = server.pid();
    server.stop().unwrap();
    assert!(!runs(pid));
    assert!(TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_err());
}

#[test]
fn a_refused_configuration_says_why() {
    ensure(&[Program::Nginx]).unwrap();
    let prefix = tempfile::tempdir().unwrap();
    match Nginx::start(prefix.path(), &nginx::conf("    nonsense on;")) {
        Err(Error::Ended { output, .. }) => assert!(
            output.contains("unknown directive \"nonsense\""),
            "{output}"
        ),
        other => panic!("{other:?}"),
    }
}
