use std::net::{Ipv4Addr, TcpStream};
use std::path::Path;

use certctl_procs::Error;
use certctl_procs::apache::{self, Apache};
use certctl_procs::install::{Program, ensure};
use certctl_procs::ports::free_port;

use crate::{eventually, get, run, runs};

/// Without a module that serves files, whatever is asked for is answered with an error, which names the server.
fn serving(prefix: &Path, port: u16, tokens: &str) -> String {
    apache::conf(
        prefix,
        &format!("Listen 127.0.0.1:{port}\nServerTokens {tokens}"),
    )
}

#[test]
fn apache_serves_reloads_and_stops() {
    ensure(&[Program::Apache]).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let prefix = folder.path().join("apache");
    let port = free_port().unwrap();
    let server = Apache::start(&prefix, &serving(&prefix, port, "Prod")).unwrap();
    assert!(get(port).contains("Server: Apache\r\n"), "{}", get(port));

    std::fs::write(server.conf_path(), serving(&prefix, port, "Major")).unwrap();
    assert!(run(&server.validate_command()));
    assert!(run(&server.reload_command()));
    eventually("the new text is served", || {
        get(port).contains("Server: Apache/2\r\n")
    });

    std::fs::write(server.conf_path(), "nonsense").unwrap();
    assert!(!run(&server.validate_command()));

    let pid = server.pid();
    server.stop().unwrap();
    assert!(!runs(pid));
    assert!(TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_err());
}

#[test]
fn a_refused_configuration_says_why() {
    ensure(&[Program::Apache]).unwrap();
    let prefix = tempfile::tempdir().unwrap();
    match Apache::start(prefix.path(), &apache::conf(prefix.path(), "nonsense on")) {
        Err(Error::Ended { output, .. }) => {
            assert!(output.contains("Invalid command 'nonsense'"), "{output}");
        }
        other => panic!("{other:?}"),
    }
}
