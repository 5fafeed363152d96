//! The listener, its limits, and the data directory.

use std::{path::PathBuf, time::Duration};

use crate::{
    form::{Bool, Count, Integer, Origins, Path, Port, ReadableFile},
    network::{BindHost, BindHostForm, Network, Networks},
    reader::Reader,
    setting::{
        DefaultValue::{Derived, Text, Unset},
        settings,
    },
};

/// The body limit when none, or none above zero, is given, in bytes.
const DEFAULT_MAX_BODY: u64 = 1_048_576;

settings!(SERVER, "Server" {
    SERVER_HOST: BindHostForm = BindHostForm, Text("127.0.0.1"), SERVER,
        "What the listener binds. Containers bind `0.0.0.0`.";
    SERVER_PORT: Port = Port, Text("8443"), SERVER, "The TCP port of the listener. It speaks TLS 1.3 only.";
    SERVER_TLS_CERT_PATH: ReadableFile = ReadableFile, Unset, SERVER,
        "The server's certificate chain in PEM. Unset on the embedded database: made in the data directory, under a root of its own.";
    SERVER_TLS_KEY_PATH: ReadableFile = ReadableFile, Unset, SERVER,
        "The private key of the server's certificate in PEM.";
    SERVER_TLS_BOOTSTRAP: Bool = Bool, Text("false"), SERVER,
        "Lets a server on PostgreSQL make its own TLS certificate when none is given.";
    DATA_DIR: Path = Path, Derived("`$STATE_DIRECTORY` when started as a service, else `./certctl-data`"), DATABASE,
        "Where the embedded database, the local CA and the TLS identity lie. Made with mode 0700.";
    MAX_BODY_SIZE: Integer = Integer { min: i64::MIN, max: 1 << 30 }, Text("1048576"), SERVER,
        "The greatest request body in bytes; more is answered with 413. Zero or less means the default.";
    AUDIT_FLUSH_TIMEOUT_SECONDS: Count = Count { min: 1, max: 3600 }, Text("30"), SERVER,
        "How many seconds a shutdown may take as a whole.";
    TRUSTED_PROXIES: Networks = Networks, Unset, SERVER,
        "Networks of proxies. Only from these is `X-Forwarded-For` believed; its rightmost address outside them is the client.";
    CORS_ORIGINS: Origins = Origins, Unset, SERVER,
        "Origins that browsers may call from. `*` is refused outside demo mode.";
    BLOCK_RFC1918_OUTBOUND: Bool = Bool, Text("false"), SERVER,
        "Refuses ACME challenges that lead to private networks, too. Loopback and link-local addresses are always refused.";
});

/// The listener, its limits, and the data directory.
#[derive(Debug, Clone)]
pub struct ServerSettings {
    /// What is bound.
    pub host: BindHost,
    /// The TCP port, never 0.
    pub port: u16,
    /// The certificate and key files; `None` means that the server makes its own.
    pub tls: Option<TlsFiles>,
    /// Whether a server on PostgreSQL may make its own certificate.
    pub tls_bootstrap: bool,
    /// Where everything lies that the server keeps in files; it need not exist yet.
    pub data_dir: PathBuf,
    /// The greatest request body, in bytes; at least 1.
    pub max_body_size: u64,
    /// How long a shutdown may take as a whole.
    pub shutdown_timeout: Duration,
    /// The networks whose `X-Forwarded-For` is believed.
    pub trusted_proxies: Vec<Network>,
    /// The origins that may call from a browser; `*` stands for all.
    pub cors_origins: Vec<String>,
    /// Whether outgoing requests to private networks are refused.
    pub block_private_outbound: bool,
}

/// The files of a certificate and its key, both readable when settings were read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TlsFiles {
    /// The chain in PEM, leaf first.
    pub certificate: PathBuf,
    /// The private key in PEM.
    pub key: PathBuf,
}

impl ServerSettings {
    pub(crate) fn read(reader: &mut Reader<'_>) -> Self {
        let (host, port) = (reader.get(&SERVER_HOST), reader.get(&SERVER_PORT));
        let tls = reader.pair(&SERVER_TLS_CERT_PATH, &SERVER_TLS_KEY_PATH);
        let seconds = reader.get(&AUDIT_FLUSH_TIMEOUT_SECONDS);
        Self {
            host,
            port,
            tls: tls.map(|(certificate, key)| TlsFiles { certificate, key }),
            tls_bootstrap: reader.get(&SERVER_TLS_BOOTSTRAP),
            data_dir: read_data_dir(reader),
            max_body_size: u64::try_from(reader.get(&MAX_BODY_SIZE))
                .ok()
                .filter(|size| *size > 0)
                .unwrap_or(DEFAULT_MAX_BODY),
            shutdown_timeout: Duration::from_secs(seconds.into()),
            trusted_proxies: reader.find(&TRUSTED_PROXIES).unwrap_or_default(),
            cors_origins: reader.find(&CORS_ORIGINS).unwrap_or_default(),
            block_private_outbound: reader.get(&BLOCK_RFC1918_OUTBOUND),
        }
    }
}

/// The data directory; systemd tells a service its own by `STATE_DIRECTORY`, a colon separated list.
pub(crate) fn read_data_dir(reader: &mut Reader<'_>) -> PathBuf {
    reader.derive(&DATA_DIR, |reader| {
        let state = reader.foreign("STATE_DIRECTORY").unwrap_or_default();
        let path = state
            .split(':')
            .find(|path| !path.is_empty())
            .unwrap_or("./certctl-data");
        (PathBuf::from(path), path.to_owned())
    })
}
