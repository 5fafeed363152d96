//! What stands before several servers and hands each new connection to the next of them, on loopback.
//!
//! It knows nothing of what it carries: TLS goes through it to the servers. One that does not answer is passed over.

use std::io;
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;

use anyhow::Result;

/// Listens until it is dropped; connections that were handed out last as long as their ends.
pub(crate) struct RoundRobin {
    port: u16,
    shared: Arc<Shared>,
}

struct Shared {
    servers: Vec<(SocketAddr, AtomicUsize)>,
    next: AtomicUsize,
    is_over: AtomicBool,
}

impl RoundRobin {
    /// Begins to listen for the servers at these ports of this machine.
    pub(crate) fn start(servers: &[u16]) -> Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        let port = listener.local_addr()?.port();
        let shared = Arc::new(Shared {
            servers: servers
                .iter()
                .map(|port| (address(*port), AtomicUsize::new(0)))
                .collect(),
            next: AtomicUsize::new(0),
            is_over: AtomicBool::new(false),
        });
        let for_thread = Arc::clone(&shared);
        thread::spawn(move || {
            for client in listener.incoming() {
                if for_thread.is_over.load(Ordering::Relaxed) {
                    return;
                }
                // A client that went away, or none of the servers there: its connection ends, as it would before them.
                if let Ok(client) = client
                    && let Some(server) = for_thread.connect()
                {
                    // Not enough file descriptors ends the connection, too.
                    let _: io::Result<()> = join(client, server);
                }
            }
        });
        Ok(Self { port, shared })
    }

    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    /// How many connections each server was given, in their order.
    pub(crate) fn given(&self) -> Vec<usize> {
        let servers = self.shared.servers.iter();
        servers
            .map(|(_, given)| given.load(Ordering::Relaxed))
            .collect()
    }
}

impl Drop for RoundRobin {
    fn drop(&mut self) {
        self.shared.is_over.store(true, Ordering::Relaxed);
        // Its thread looks when somebody comes.
        drop(TcpStream::connect(address(self.port)));
    }
}

fn address(port: u16) -> SocketAddr {
    SocketAddr::from((Ipv4Addr::LOCALHOST, port))
}

impl Shared {
    /// A connection to the server whose turn it is, or to the next after it that takes one.
    fn connect(&self) -> Option<TcpStream> {
        let turn = self.next.fetch_add(1, Ordering::Relaxed);
        (0..self.servers.len()).find_map(|offset| {
            let (server, given) = &self.servers[(turn + offset) % self.servers.len()];
            let stream = TcpStream::connect(server).ok()?;
            given.fetch_add(1, Ordering::Relaxed);
            Some(stream)
        })
    }
}

/// Carries what either end says to the other, until one of them ends.
fn join(client: TcpStream, server: TcpStream) -> io::Result<()> {
    for stream in [&client, &server] {
        stream.set_nodelay(true)?;
    }
    carry(client.try_clone()?, server.try_clone()?);
    carry(server, client);
    Ok(())
}

fn carry(mut from: TcpStream, mut to: TcpStream) {
    thread::spawn(move || {
        // Whatever ends it, both ends are to know.
        let _: io::Result<u64> = io::copy(&mut from, &mut to);
        let _: io::Result<()> = from.shutdown(Shutdown::Both);
        let _: io::Result<()> = to.shutdown(Shutdown::Both);
    });
}

#[cfg(test)]
mod tests {
    use std::io::{Read as _, Write as _};

    use super::*;

    /// Says its name to whoever comes, as often as asked.
    fn server(name: &'static str, times: usize) -> u16 {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        thread::spawn(move || {
            for _ in 0..times {
                let (mut client, _) = listener.accept().unwrap();
                client.write_all(name.as_bytes()).unwrap();
            }
        });
        port
    }

    fn visit(port: u16) -> String {
        let mut text = String::new();
        let mut stream = TcpStream::connect(address(port)).unwrap();
        stream.read_to_string(&mut text).unwrap();
        text
    }

    #[test]
    fn connections_go_to_the_servers_by_turns() {
        let balancer = RoundRobin::start(&[server("a", 2), server("b", 2)]).unwrap();
        let met: Vec<String> = (0..4).map(|_| visit(balancer.port())).collect();
        assert_eq!(met, ["a", "b", "a", "b"]);
        assert_eq!(balancer.given(), [2, 2]);
    }

    #[test]
    fn a_server_that_is_gone_is_passed_over() {
        let gone = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let port = gone.local_addr().unwrap().port();
        drop(gone);
        let balancer = RoundRobin::start(&[port, server("b", 3)]).unwrap();
        let met: Vec<String> = (0..3).map(|_| visit(balancer.port())).collect();
        assert_eq!(met, ["b", "b", "b"]);
        assert_eq!(balancer.given(), [0, 3]);
    }
}
