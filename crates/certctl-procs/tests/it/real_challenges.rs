use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, TcpStream};

use certctl_procs::challenges::ChallengeServer;
use certctl_procs::install::{Program, ensure};

#[test]
fn the_challenge_server_serves_what_it_is_told() {
    ensure(&[Program::ChallengeServer]).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let server = ChallengeServer::start(folder.path()).unwrap();
    server
        .tell("add-http01", r#"{"token":"abc","content":"abc.def"}"#)
        .unwrap();
    let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, server.http_port())).unwrap();
    stream
        .write_all(b"GET /.well-known/acme-challenge/abc HTTP/1.0\r\n\r\n")
        .unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert!(answer.ends_with("abc.def"), "{answer}");
    assert!(server.tell("nonsense", "{}").is_err());
}
