//! A small DNS server: authoritative for what it is told, by UDP and TCP on one port of 127.0.0.1.

use std::{
    collections::{HashMap, VecDeque},
    net::{IpAddr, Ipv4Addr, SocketAddr},
    sync::{Arc, Mutex},
};

use hickory_proto::{
    op::{Message, OpCode, ResponseCode},
    rr::{
        Name, RData, Record, RecordType,
        rdata::{A, AAAA, CAA, CNAME, TXT},
    },
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream, UdpSocket},
    task::JoinSet,
};

/// What is said to one question.
#[derive(Debug, Clone)]
pub(crate) enum Reply {
    /// Records, each with its owner.
    Records(Vec<(String, RData)>),
    /// A code and nothing else.
    Code(ResponseCode),
    /// Nothing at all.
    Silence,
    /// First the answers to other questions, then the right one.
    AfterStrangers(Vec<(String, RData)>),
}

/// How a question came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum By {
    Udp,
    Tcp,
}

type Question = (String, RecordType);

#[derive(Debug, Default)]
struct Zone {
    replies: HashMap<Question, VecDeque<Reply>>,
    asked: Vec<(Question, By)>,
}

/// A running server; stopped on drop.
pub(crate) struct DnsServer {
    address: SocketAddr,
    zone: Arc<Mutex<Zone>>,
    _tasks: JoinSet<()>,
}

impl DnsServer {
    pub(crate) async fn start() -> Self {
        let (udp, tcp) = loop {
            let tcp = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
            // Somebody else may have that number for datagrams.
            if let Ok(udp) = UdpSocket::bind(tcp.local_addr().unwrap()).await {
                break (udp, tcp);
            }
        };
        let address = tcp.local_addr().unwrap();
        let zone = Arc::new(Mutex::new(Zone::default()));
        let mut tasks = JoinSet::new();
        tasks.spawn(serve_udp(udp, Arc::clone(&zone)));
        tasks.spawn(serve_tcp(tcp, Arc::clone(&zone)));
        Self {
            address,
            zone,
            _tasks: tasks,
        }
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// One reply after the other to a question; the last stays.
    pub(crate) fn script(&self, name: &str, kind: RecordType, replies: Vec<Reply>) {
        let mut zone = self.zone.lock().unwrap();
        zone.replies.insert((name.to_owned(), kind), replies.into());
    }

    /// Records of one type that a name has.
    pub(crate) fn set(&self, name: &str, kind: RecordType, records: Vec<RData>) {
        let records = records
            .into_iter()
            .map(|data| (name.to_owned(), data))
            .collect();
        self.script(name, kind, vec![Reply::Records(records)]);
    }

    pub(crate) fn set_addresses(&self, name: &str, addresses: &[&str]) {
        for (kind, data) in
            [RecordType::A, RecordType::AAAA].map(|kind| (kind, of(kind, addresses)))
        {
            self.set(name, kind, data);
        }
    }

    pub(crate) fn set_texts(&self, name: &str, texts: &[&str]) {
        let records = texts.iter().map(|text| text_record(&[text])).collect();
        self.set(name, RecordType::TXT, records);
    }

    pub(crate) fn set_caa(&self, name: &str, records: &[(u8, &str, &str)]) {
        let record = |(flags, tag, value): &(u8, &str, &str)| {
            let mut record = CAA::new_issue(flags & 128 != 0, None, Vec::new());
            record.tag = (*tag).to_owned();
            record.value = value.as_bytes().to_vec();
            RData::CAA(record)
        };
        self.set(name, RecordType::CAA, records.iter().map(record).collect());
    }

    /// How often a question was asked by all ways.
    pub(crate) fn asked(&self, name: &str, kind: RecordType) -> usize {
        self.ways(name, kind).len()
    }

    /// The ways in which a question was asked, in order.
    pub(crate) fn ways(&self, name: &str, kind: RecordType) -> Vec<By> {
        let zone = self.zone.lock().unwrap();
        let question = (name.to_owned(), kind);
        zone.asked
            .iter()
            .filter(|(asked, _)| *asked == question)
            .map(|(_, by)| *by)
            .collect()
    }

    /// How many questions there were in all.
    pub(crate) fn questions(&self) -> usize {
        self.zone.lock().unwrap().asked.len()
    }
}

/// Those of the addresses that a type of record holds.
fn of(kind: RecordType, addresses: &[&str]) -> Vec<RData> {
    let all = addresses.iter().map(|text| match text.parse().unwrap() {
        IpAddr::V4(v4) => RData::A(A(v4)),
        IpAddr::V6(v6) => RData::AAAA(AAAA(v6)),
    });
    all.filter(|data| data.record_type() == kind).collect()
}

pub(crate) fn address_record(text: &str) -> RData {
    RData::A(A(text.parse().unwrap()))
}

pub(crate) fn text_record(strings: &[&str]) -> RData {
    let strings = strings.iter().map(|text| (*text).to_owned()).collect();
    RData::TXT(TXT::new(strings))
}

pub(crate) fn alias_record(target: &str) -> RData {
    RData::CNAME(CNAME(absolute(target)))
}

fn absolute(name: &str) -> Name {
    Name::from_ascii(format!("{name}.")).unwrap()
}

impl Zone {
    fn reply(&mut self, asked: &Message, by: By) -> Reply {
        let query = &asked.queries[0];
        let name = query.name().to_ascii().trim_end_matches('.').to_lowercase();
        let question: Question = (name.clone(), query.query_type());
        self.asked.push((question.clone(), by));
        // A name that has other records is there (RFC 8020).
        let is_known = self.replies.keys().any(|(known, _)| *known == name);
        match self.replies.get_mut(&question) {
            Some(replies) if replies.len() > 1 => replies.pop_front().unwrap(),
            Some(replies) => replies[0].clone(),
            None if is_known => Reply::Records(Vec::new()),
            None => Reply::Code(ResponseCode::NXDomain),
        }
    }
}

/// The datagrams or frames that answer a question.
fn answers(zone: &Mutex<Zone>, bytes: &[u8], by: By) -> Vec<Vec<u8>> {
    let asked = Message::from_vec(bytes).unwrap();
    assert!(asked.metadata.recursion_desired);
    let limit = match by {
        By::Udp => usize::from(asked.max_payload()),
        By::Tcp => usize::from(u16::MAX),
    };
    let mut sent = Vec::new();
    let reply = zone.lock().unwrap().reply(&asked, by);
    let (code, records) = match reply {
        Reply::Silence => return sent,
        Reply::Code(code) => (code, Vec::new()),
        Reply::Records(records) => (ResponseCode::NoError, records),
        Reply::AfterStrangers(records) => {
            let mut other_id = response(&asked, ResponseCode::NXDomain, &[]);
            other_id.metadata.id = asked.metadata.id.wrapping_add(1);
            let mut other_name = response(&asked, ResponseCode::NXDomain, &[]);
            other_name.queries[0].set_name(absolute("stranger.example"));
            sent.extend([other_id, other_name].map(|message| message.to_vec().unwrap()));
            sent.push(b"no DNS at all".to_vec());
            (ResponseCode::NoError, records)
        }
    };
    let whole = response(&asked, code, &records);
    let bytes = whole.to_vec().unwrap();
    sent.push(if bytes.len() > limit {
        whole.truncate().to_vec().unwrap()
    } else {
        bytes
    });
    sent
}

fn response(asked: &Message, code: ResponseCode, records: &[(String, RData)]) -> Message {
    let mut message = Message::response(asked.metadata.id, OpCode::Query);
    message.metadata.response_code = code;
    message.add_queries(asked.queries.clone());
    for (owner, data) in records {
        message.add_answer(Record::from_rdata(absolute(owner), 60, data.clone()));
    }
    message
}

async fn serve_udp(socket: UdpSocket, zone: Arc<Mutex<Zone>>) {
    let mut buffer = [0; 4096];
    loop {
        let (length, peer) = socket.recv_from(&mut buffer).await.unwrap();
        for answer in answers(&zone, &buffer[..length], By::Udp) {
            socket.send_to(&answer, peer).await.unwrap();
        }
    }
}

async fn serve_tcp(listener: TcpListener, zone: Arc<Mutex<Zone>>) {
    let mut connections = JoinSet::new();
    loop {
        let (stream, _) = listener.accept().await.unwrap();
        connections.spawn(serve_stream(stream, Arc::clone(&zone)));
    }
}

async fn serve_stream(mut stream: TcpStream, zone: Arc<Mutex<Zone>>) {
    while let Ok(length) = stream.read_u16().await {
        let mut bytes = vec![0; usize::from(length)];
        stream.read_exact(&mut bytes).await.unwrap();
        let answers = answers(&zone, &bytes, By::Tcp);
        if answers.is_empty() {
            std::future::pending::<()>().await;
        }
        for answer in answers {
            let length = u16::try_from(answer.len()).unwrap();
            stream.write_u16(length).await.unwrap();
            stream.write_all(&answer).await.unwrap();
        }
    }
}
