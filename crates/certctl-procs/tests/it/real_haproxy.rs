use std::net::{Ipv4Addr, TcpStream};

use certctl_procs::Error;
use certctl_procs::haproxy::{self, HaProxy};
use certctl_procs::install::{Program, ensure};
use certctl_procs::ports::free_port;

use crate::{eventually, get, run, runs};

fn serving(port: u16, body: &str) -> String {
    haproxy::conf(&format!(
        "frontend web\n    bind 127.0.0.1:{port}\n    http-request return status 200 content-type text/plain string {body}"
    ))
}

#[test]
fn haproxy_serves_reloads_and_stops() {
    ensure(&[Program::HaProxy]).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let port = free_port().unwrap();
    let server = HaProxy::start(folder.path(), &serving(port, "first"), port).unwrap();
    assert!(get(port).ends_with("first"));

    std::fs::write(server.conf_path(), serving(port, "second")).unwrap();
    assert!(run(&server.validate_command()));
    assert!(run(&server.reload_command()));
    eventually("the new text is served", || get(port).ends_with("second"));

    std::fs::write(server.conf_path(), "nonsense").unwrap();
    assert!(!run(&server.validate_command()));

    let pid = server.pid();
    server.stop().unwrap();
    assert!(!runs(pid));
    assert!(TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_err());
}

#[test]
fn a_refused_configuration_says_why() {
    ensure(&[Program::HaProxy]).unwrap();
    let folder = tempfile::tempdir().unwrap();
    match HaProxy::start(folder.path(), &haproxy::conf("nonsense on"), 1) {
        Err(Error::Ended { output, .. }) => assert!(output.contains("nonsense"), "{output}"),
        other => panic!("{other:?}"),
    }
}
