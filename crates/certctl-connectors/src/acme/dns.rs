//! Asks the one configured resolver, by UDP and then by TCP.
//!
//! This is a stub (RFC 1034 §5.3.1) without a cache and without the system's configuration: a challenge is about what the
//! records are now, and about no other resolver's opinion. A name is asked for as it is; no search list, no hosts file.

use std::{io, net::IpAddr, net::SocketAddr, time::Duration};

use hickory_proto::{
    op::{Edns, Message, MessageType, Query, ResponseCode},
    rr::{DNSClass, Name, RData, RecordType, rdata::CAA},
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpStream, UdpSocket},
    time::timeout,
};

use super::Config;

/// What is said to fit into a datagram: what passes every network in one piece (DNS Flag Day 2020).
const DATAGRAM: u16 = 1232;

/// How many aliases in a row are followed within one answer. Resolvers give up long before.
const MAX_ALIASES: usize = 16;

/// Why a resolver did not say what was asked. No error when there is the name and no record: that is an empty answer.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// No question can be made of the text.
    #[error("{0} is no name that can be looked up")]
    BadName(String),
    /// There is no such name.
    #[error("the name {0} does not exist")]
    NoSuchName(String),
    /// The resolver says that it cannot answer.
    #[error("the resolver answered {code} for {name}")]
    Refused {
        /// What was asked for.
        name: String,
        /// What it said.
        code: ResponseCode,
    },
    /// The resolver did not answer, or not to the question.
    #[error("the resolver did not answer for {name}")]
    Silent {
        /// What was asked for.
        name: String,
        /// What happened last.
        source: io::Error,
    },
}

/// The resolver.
#[derive(Debug, Clone)]
pub(crate) struct Resolver {
    server: SocketAddr,
    attempt: Duration,
}

impl Resolver {
    pub(crate) fn new(config: &Config) -> Self {
        Self {
            server: config.resolver,
            attempt: config.limits.query,
        }
    }

    /// All addresses of a host. When one of the two kinds cannot be had, those of the other are all there is.
    pub(crate) async fn addresses(&self, host: &str) -> Result<Vec<IpAddr>, Error> {
        let name = name(host)?;
        let (v6, v4) = futures_util::future::join(
            self.lookup(&name, RecordType::AAAA),
            self.lookup(&name, RecordType::A),
        )
        .await;
        let (v6, v4) = match (v6, v4) {
            (Err(error), Err(_)) => return Err(error),
            (v6, v4) => (v6.unwrap_or_default(), v4.unwrap_or_default()),
        };
        let address = |data| match data {
            RData::A(v4) => Some(IpAddr::V4(v4.0)),
            RData::AAAA(v6) => Some(IpAddr::V6(v6.0)),
            _ => None,
        };
        Ok(v6.into_iter().chain(v4).filter_map(address).collect())
    }

    /// The TXT records of a name, the strings of each put together (RFC 7208 §3.3 does the same).
    pub(crate) async fn texts(&self, host: &str) -> Result<Vec<Vec<u8>>, Error> {
        let records = self.lookup(&name(host)?, RecordType::TXT).await?;
        let text = |data| match data {
            RData::TXT(text) => Some(text.txt_data.concat()),
            _ => None,
        };
        Ok(records.into_iter().filter_map(text).collect())
    }

    /// The CAA records of a name itself.
    pub(crate) async fn caa(&self, host: &str) -> Result<Vec<CAA>, Error> {
        let records = self.lookup(&name(host)?, RecordType::CAA).await?;
        let record = |data| match data {
            RData::CAA(record) => Some(record),
            _ => None,
        };
        Ok(records.into_iter().filter_map(record).collect())
    }

    /// The records of one type that a name, or what it is an alias of, has; none is no error.
    async fn lookup(&self, name: &Name, kind: RecordType) -> Result<Vec<RData>, Error> {
        let text = || name.to_ascii().trim_end_matches('.').to_owned();
        let query = Query::query(name.clone(), kind);
        let message = self.ask(&query).await.map_err(|source| Error::Silent {
            name: text(),
            source,
        })?;
        match message.metadata.response_code {
            ResponseCode::NoError => Ok(answers(&message, name, kind)),
            ResponseCode::NXDomain => Err(Error::NoSuchName(text())),
            code => Err(Error::Refused { name: text(), code }),
        }
    }

    /// Asks by UDP, once more when nothing comes, and by TCP when that did not help or the answer does not fit (RFC 7766 §5).
    async fn ask(&self, query: &Query) -> io::Result<Message> {
        for _ in 0..2 {
            match timeout(self.attempt, self.by_udp(query)).await {
                Ok(Ok(Received::Whole(message))) => return Ok(message),
                Ok(Ok(Received::Cut)) => break,
                // Nobody there, or nothing heard: a lost datagram is worth another.
                Ok(Err(_)) | Err(_) => {}
            }
        }
        match timeout(self.attempt, self.by_tcp(query)).await {
            Ok(result) => result,
            Err(_) => Err(io::ErrorKind::TimedOut.into()),
        }
    }

    async fn by_udp(&self, query: &Query) -> io::Result<Received> {
        let any = if self.server.is_ipv4() {
            SocketAddr::from(([0; 4], 0))
        } else {
            SocketAddr::from(([0_u16; 8], 0))
        };
        // A port of the system's choice for every question, and only the resolver is heard (RFC 5452 §9.2).
        let socket = UdpSocket::bind(any).await?;
        socket.connect(self.server).await?;
        let (id, bytes) = question(query)?;
        socket.send(&bytes).await?;
        let mut buffer = vec![0; 65_535];
        loop {
            let length = socket.recv(&mut buffer).await?;
            // What answers another question was not sent to us, or comes late; the answer may still come.
            if let Some(received) = Received::read(&buffer[..length], id, query) {
                return Ok(received);
            }
        }
    }

    async fn by_tcp(&self, query: &Query) -> io::Result<Message> {
        let mut stream = TcpStream::connect(self.server).await?;
        let (id, bytes) = question(query)?;
        let length = u16::try_from(bytes.len()).map_err(|_| io::ErrorKind::InvalidInput)?;
        // One write, so that length and question go out together (RFC 7766 §8).
        let framed = [length.to_be_bytes().as_slice(), &bytes].concat();
        stream.write_all(&framed).await?;
        let mut answer = vec![0; usize::from(stream.read_u16().await?)];
        stream.read_exact(&mut answer).await?;
        match Received::read(&answer, id, query) {
            Some(Received::Whole(message)) => Ok(message),
            _ => Err(io::ErrorKind::InvalidData.into()),
        }
    }
}

/// A host name as a name of DNS, from the root on.
fn name(host: &str) -> Result<Name, Error> {
    // Host names and the underscore of `_acme-challenge` only: an escape would make two spellings of one name.
    let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.');
    let bad = || Error::BadName(host.chars().take(253).collect());
    if host.is_empty() || host.ends_with('.') || !host.bytes().all(plain) {
        return Err(bad());
    }
    Name::from_ascii(format!("{host}.")).map_err(|_| bad())
}

/// A question with an id of its own, and that id.
fn question(query: &Query) -> io::Result<(u16, Vec<u8>)> {
    let mut message = Message::query();
    message.metadata.recursion_desired = true;
    message.add_query(query.clone());
    let mut edns = Edns::new();
    edns.set_max_payload(DATAGRAM);
    message.set_edns(edns);
    let bytes = message.to_vec().map_err(io::Error::other)?;
    Ok((message.metadata.id, bytes))
}

/// What came back.
#[derive(Debug)]
enum Received {
    Whole(Message),
    /// It did not fit.
    Cut,
}

impl Received {
    /// Reads an answer to a question; none when it is the answer to another, or none at all.
    fn read(bytes: &[u8], id: u16, query: &Query) -> Option<Self> {
        let [high, low, flags, ..] = bytes else {
            return None;
        };
        let (is_response, is_cut) = (flags & 0x80 != 0, flags & 0x02 != 0);
        if u16::from_be_bytes([*high, *low]) != id || !is_response {
            return None;
        }
        // What is cut may end in the middle of a record, so it is not read (RFC 2181 §9).
        if is_cut {
            return Some(Self::Cut);
        }
        let message = Message::from_vec(bytes).ok()?;
        let is_ours = message.metadata.message_type == MessageType::Response
            && message.queries.as_slice() == std::slice::from_ref(query);
        is_ours.then_some(Self::Whole(message))
    }
}

/// The records of a type at the end of the aliases that begin at `name` (RFC 1034 §3.6.2). Whatever else an answer holds is not
/// an answer to the question.
fn answers(message: &Message, name: &Name, kind: RecordType) -> Vec<RData> {
    let mut owner = name;
    for _ in 0..=MAX_ALIASES {
        let of_owner = || {
            message
                .answers
                .iter()
                .filter(|record| record.dns_class == DNSClass::IN && &record.name == owner)
        };
        let found: Vec<RData> = of_owner()
            .filter(|record| record.record_type() == kind)
            .map(|record| record.data.clone())
            .collect();
        if !found.is_empty() {
            return found;
        }
        let alias = of_owner().find_map(|record| match &record.data {
            RData::CNAME(target) => Some(&target.0),
            _ => None,
        });
        match alias {
            Some(target) => owner = target,
            None => break,
        }
    }
    Vec::new()
}

#[cfg(test)]
mod tests;
