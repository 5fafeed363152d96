//! Connects to a host whose name somebody else chose.

use std::{
    io,
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use certctl_domain::acme::Identifier;
use tokio::{net::TcpStream, time::timeout};

use super::{dns::Resolver, error::Error, guard::Guard};

/// How many addresses of a name are tried; more would only make a name that has many take longer to fail.
const MAX_DIALLED: usize = 4;

/// Whom to connect to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Host {
    /// By name, without a trailing dot.
    Name(String),
    /// By address.
    Address(IpAddr),
}

impl From<&Identifier> for Host {
    fn from(identifier: &Identifier) -> Self {
        match identifier {
            Identifier::Dns(name) => Self::Name(name.clone()),
            Identifier::Ip(ip) => Self::Address(*ip),
        }
    }
}

/// Resolves once, checks every answer, connects to what was checked.
#[derive(Debug, Clone)]
pub(crate) struct Dialler {
    resolver: Resolver,
    guard: Guard,
    limit: Duration,
}

impl Dialler {
    pub(crate) fn new(resolver: Resolver, guard: Guard, limit: Duration) -> Self {
        Self {
            resolver,
            guard,
            limit,
        }
    }

    /// A connection to a port of the host.
    ///
    /// # Errors
    /// Of the resolver, [`Error::NoAddress`], [`Error::Reserved`], [`Error::Unreachable`] and [`Error::OtherPeer`].
    pub(crate) async fn connect(&self, host: &Host, port: u16) -> Result<TcpStream, Error> {
        let addresses = match host {
            Host::Name(name) => self.resolver.addresses(name).await?,
            Host::Address(address) => vec![*address],
        };
        // One address that is refused spoils the name: whoever mixes them hopes that another is taken when it counts.
        if let Some(refused) = addresses.iter().find(|one| !self.guard.admits(**one)) {
            return Err(Error::Reserved(*refused));
        }
        let mut last = match host {
            Host::Name(name) => Error::NoAddress(name.clone()),
            Host::Address(address) => Error::Reserved(*address),
        };
        for address in in_turns(addresses) {
            match self.dial(SocketAddr::new(address, port)).await {
                Ok(stream) => return Ok(stream),
                Err(error) => last = error,
            }
        }
        Err(last)
    }

    async fn dial(&self, target: SocketAddr) -> Result<TcpStream, Error> {
        let unreachable = |source| Error::Unreachable {
            address: target.ip(),
            port: target.port(),
            source,
        };
        let stream = timeout(self.limit, TcpStream::connect(target))
            .await
            .unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
            .map_err(unreachable)?;
        let peer = stream.peer_addr().map_err(unreachable)?;
        if self.is_expected(target, peer) {
            Ok(stream)
        } else {
            Err(Error::OtherPeer(target.ip()))
        }
    }

    /// Whether a connection leads to what was checked. The kernel does as it is told; a rule of the packet filter that sends
    /// connections elsewhere would show here.
    fn is_expected(&self, target: SocketAddr, peer: SocketAddr) -> bool {
        peer.port() == target.port()
            && peer.ip().to_canonical() == target.ip().to_canonical()
            && self.guard.admits(peer.ip())
    }
}

/// The addresses to try: IPv6 and IPv4 in turns, because a host that has both may be reachable by one only (RFC 8305 §4).
fn in_turns(addresses: Vec<IpAddr>) -> Vec<IpAddr> {
    let (v6, v4): (Vec<IpAddr>, Vec<IpAddr>) = addresses.into_iter().partition(IpAddr::is_ipv6);
    let (mut v6, mut v4) = (v6.into_iter(), v4.into_iter());
    let mut turns = Vec::with_capacity(MAX_DIALLED);
    while turns.len() < MAX_DIALLED {
        let before = turns.len();
        turns.extend(v6.next());
        turns.extend(v4.next());
        if turns.len() == before {
            break;
        }
    }
    turns
}

#[cfg(test)]
mod tests {
    use std::net::{IpAddr, SocketAddr};

    use super::{super::Config, Dialler, Guard, Resolver, in_turns};

    fn ips(texts: &[&str]) -> Vec<IpAddr> {
        texts.iter().map(|text| text.parse().unwrap()).collect()
    }

    #[test]
    fn both_families_get_their_turn_and_there_is_an_end() {
        assert_eq!(in_turns(Vec::new()), ips(&[]));
        assert_eq!(
            in_turns(ips(&["192.0.2.1", "192.0.2.2", "2001:db8::1"])),
            ips(&["2001:db8::1", "192.0.2.1", "192.0.2.2"])
        );
        let many: Vec<IpAddr> = (0..100).map(|last| [192, 0, 2, last].into()).collect();
        assert_eq!(in_turns(many.clone()), many[..4]);
    }

    #[test]
    fn a_connection_that_leads_elsewhere_is_noticed() {
        let config = Config::default();
        let dialler = Dialler::new(Resolver::new(&config), Guard::default(), config.limits.dial);
        let expected = |target: &str, peer: &str| {
            let (target, peer): (SocketAddr, SocketAddr) =
                (target.parse().unwrap(), peer.parse().unwrap());
            dialler.is_expected(target, peer)
        };
        assert!(expected("8.8.8.8:80", "8.8.8.8:80"));
        assert!(expected("[::ffff:8.8.8.8]:80", "8.8.8.8:80"));
        assert!(!expected("8.8.8.8:80", "8.8.4.4:80"));
        assert!(!expected("8.8.8.8:80", "8.8.8.8:8080"));
        assert!(!expected("8.8.8.8:80", "127.0.0.1:80"));
        assert!(
            !expected("127.0.0.1:80", "127.0.0.1:80"),
            "not admitted at all"
        );
    }
}
