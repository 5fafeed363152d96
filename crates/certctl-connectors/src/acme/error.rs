//! Why no proof was found, and which problem that is to whoever asked.

use std::{io, net::IpAddr};

use certctl_domain::acme::{ChallengeType, Problem, ProblemType};

use super::dns;

/// Why no proof was found. What is displayed is told to the client; what is a source is not.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// The resolver did not say what was needed.
    #[error(transparent)]
    Dns(#[from] dns::Error),
    /// The name has no address.
    #[error("there is no A or AAAA record of {0}")]
    NoAddress(String),
    /// There is no record of the proof.
    #[error("there is no TXT record at {0}")]
    NoText(String),
    /// An address is none that is connected to.
    #[error("{0} is in a network that this server does not connect to")]
    Reserved(IpAddr),
    /// Nobody could be connected to.
    #[error("cannot connect to {address} on port {port}")]
    Unreachable {
        /// The last address that was tried.
        address: IpAddr,
        /// On which port.
        port: u16,
        /// What the system said, or that it took too long.
        source: io::Error,
    },
    /// The connection leads elsewhere than it was made to.
    #[error("the connection to {0} leads to another address")]
    OtherPeer(IpAddr),
    /// The whole look, or a part of it, took too long.
    #[error("{0} took too long")]
    Late(&'static str),
    /// The same for records.
    #[error("looking the record up took too long")]
    LateRecord,
    /// What was answered is not HTTP.
    #[error("the answer is not HTTP/1.1")]
    NotHttp(#[source] hyper::Error),
    /// A redirect leads where none may.
    #[error("a redirect leads to {problem}")]
    Redirect {
        /// Where it leads.
        problem: &'static str,
    },
    /// There is no end of redirects.
    #[error("there are more than {0} redirects")]
    TooManyRedirects(usize),
    /// The file is not there.
    #[error("the file was answered with status {0} instead of 200")]
    Status(u16),
    /// The file is too long to be the proof.
    #[error("the file is longer than {0} bytes")]
    TooLong(usize),
    /// The file, the record or the digest is another.
    #[error("{0}")]
    Wrong(&'static str),
    /// There was no handshake.
    #[error("the TLS handshake failed")]
    Handshake(#[source] io::Error),
    /// The other side does not speak the protocol of the challenge.
    #[error("{0}")]
    NotTheProtocol(&'static str),
    /// The certificate was presented and is not as the protocol wants it.
    #[error("{0}")]
    BadCertificate(&'static str),
    /// No question can be made of the identifier.
    #[error("{0} cannot be proved in this way")]
    Unfit(String),
}

impl Error {
    /// That the whole look took too long.
    pub(crate) const fn late(challenge: ChallengeType) -> Self {
        match challenge {
            ChallengeType::Http01 => Self::Late("looking for the file"),
            ChallengeType::Dns01 => Self::LateRecord,
            ChallengeType::TlsAlpn01 => Self::Late("looking for the certificate"),
        }
    }

    const fn kind(&self) -> ProblemType {
        match self {
            Self::Dns(_) | Self::NoAddress(_) | Self::NoText(_) | Self::LateRecord => {
                ProblemType::Dns
            }
            Self::Reserved(_)
            | Self::Unreachable { .. }
            | Self::OtherPeer(_)
            | Self::Late(_)
            | Self::NotHttp(_)
            | Self::Redirect { .. }
            | Self::TooManyRedirects(_)
            | Self::Unfit(_) => ProblemType::Connection,
            Self::Handshake(_) | Self::NotTheProtocol(_) => ProblemType::Tls,
            Self::Status(_) | Self::TooLong(_) | Self::Wrong(_) | Self::BadCertificate(_) => {
                ProblemType::IncorrectResponse
            }
        }
    }

    /// The problem that the challenge carries.
    pub(crate) fn problem(&self) -> Problem {
        Problem::new(self.kind(), self.to_string())
    }
}
