//! Debian's `pebble-challtestsrv`: answers ACME challenges of all types, and is the resolver of all names, on 127.0.0.1.

use std::io::{self, Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use crate::Error;
use crate::child::{self, Guard, Guarded};
use crate::install::Program;
use crate::ports::free_port;

/// Far more than a start takes; only bounds a hang.
const START_LIMIT: Duration = Duration::from_secs(20);

/// How often other ports are tried when somebody else took one of them first.
const ATTEMPTS: usize = 5;

/// A running server; stopped on drop.
///
/// It resolves every name it was not told of to 127.0.0.1.
#[derive(Debug)]
pub struct ChallengeServer {
    _server: Guarded,
    ports: Ports,
}

/// Where it listens, all on 127.0.0.1.
#[derive(Debug, Clone, Copy)]
struct Ports {
    management: u16,
    dns: u16,
    http: u16,
    https: u16,
    tls_alpn: u16,
}

impl ChallengeServer {
    /// Starts one with a log in `folder`, and waits until all of its ports are bound.
    ///
    /// # Errors
    /// [`Error::Missing`] when it is not installed, [`Error::Ended`] or [`Error::NotReady`] with its log.
    pub fn start(folder: &Path) -> Result<Self, Error> {
        let program = Program::ChallengeServer.require()?;
        let log = folder.join("challtestsrv.log");
        let mut attempt = 1;
        loop {
            match Self::start_on(Ports::free()?, &program, &log) {
                Err(Error::Ended { .. }) if attempt < ATTEMPTS => attempt += 1,
                result => return result,
            }
        }
    }

    fn start_on(ports: Ports, program: &Path, log: &Path) -> Result<Self, Error> {
        let mut command = Command::new(program);
        for (flag, port) in [
            ("-management", ports.management),
            ("-dns01", ports.dns),
            ("-http01", ports.http),
            ("-https01", ports.https),
            ("-tlsalpn01", ports.tls_alpn),
        ] {
            command.args([flag, &format!("127.0.0.1:{port}")]);
        }
        // Its answer to questions for IPv6 would be ::1, where it does not listen.
        command.args(["-defaultIPv6", ""]);
        child::log_to(&mut command, log)?;
        let mut server = Guard::default().spawn(command)?;
        let tcp = [
            ports.management,
            ports.dns,
            ports.http,
            ports.https,
            ports.tls_alpn,
        ];
        server.wait_until(log, START_LIMIT, || {
            tcp.iter()
                .all(|port| TcpStream::connect((Ipv4Addr::LOCALHOST, *port)).is_ok())
                && is_bound_for_datagrams(ports.dns)
        })?;
        Ok(Self {
            _server: server,
            ports,
        })
    }

    /// Where it answers questions of DNS, by UDP and TCP.
    pub fn resolver(&self) -> SocketAddr {
        (Ipv4Addr::LOCALHOST, self.ports.dns).into()
    }

    /// The port of `http-01`.
    pub fn http_port(&self) -> u16 {
        self.ports.http
    }

    /// The port where files of `http-01` are served by HTTPS, for redirects.
    pub fn https_port(&self) -> u16 {
        self.ports.https
    }

    /// The port of `tls-alpn-01`.
    pub fn tls_alpn_port(&self) -> u16 {
        self.ports.tls_alpn
    }

    /// The URL of its management interface, without a path, for programs that tell it by themselves.
    pub fn management_url(&self) -> String {
        format!("http://127.0.0.1:{}", self.ports.management)
    }

    /// Tells it something: a command like `set-txt`, and its JSON.
    ///
    /// # Errors
    /// [`Error::Io`] when it cannot be reached or refuses.
    pub fn tell(&self, command: &str, json: &str) -> Result<(), Error> {
        let post = || -> io::Result<()> {
            let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, self.ports.management))?;
            write!(
                stream,
                "POST /{command} HTTP/1.0\r\nContent-Length: {}\r\n\r\n{json}",
                json.len()
            )?;
            let mut answer = String::new();
            stream.read_to_string(&mut answer)?;
            match answer.split(' ').nth(1) {
                Some("200") => Ok(()),
                _ => Err(io::Error::other(answer)),
            }
        };
        post().map_err(Error::io("tell pebble-challtestsrv to", command))
    }
}

impl Ports {
    fn free() -> Result<Self, Error> {
        let port = || free_port().map_err(Error::io("bind a port of", "127.0.0.1"));
        Ok(Self {
            management: port()?,
            dns: loop {
                // Both protocols are served on one number.
                let port = port()?;
                if UdpSocket::bind((Ipv4Addr::LOCALHOST, port)).is_ok()
                    && TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok()
                {
                    break port;
                }
            },
            http: port()?,
            https: port()?,
            tls_alpn: port()?,
        })
    }
}

fn is_bound_for_datagrams(port: u16) -> bool {
    UdpSocket::bind((Ipv4Addr::LOCALHOST, port)).is_err()
}
