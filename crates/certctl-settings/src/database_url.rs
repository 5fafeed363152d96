//! The URL that chooses the database: `sqlite://PATH` or `postgres://…`.

use std::path::PathBuf;

use certctl_domain::secret::Secret;

use crate::form::{Fault, Form, REDACTED, is_host_name, strip_scheme};

/// The placeholder that stands for the password in a database URL.
pub(crate) const PASSWORD_PLACEHOLDER: &str = "$(POSTGRES_PASSWORD)";

/// Which database is used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DatabaseUrl {
    /// The embedded database.
    Sqlite {
        /// Its file, which need not exist yet.
        path: PathBuf,
    },
    /// A PostgreSQL server.
    Postgres(PostgresUrl),
}

/// Where a PostgreSQL server is and how to come in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PostgresUrl {
    /// The whole URL, with the password.
    pub url: Secret,
    /// The URL without the password.
    pub redacted: String,
    /// The hosts, in the order in which they are tried; a host that starts with `/` is the directory of a socket.
    pub hosts: Vec<String>,
    /// What the URL asks of TLS.
    pub ssl_mode: SslMode,
}

/// How a connection to PostgreSQL is protected, in the words of `sslmode`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SslMode {
    /// Not at all.
    Disable,
    /// By TLS when the server insists.
    Allow,
    /// By TLS when the server can; the default.
    Prefer,
    /// By TLS, to whoever answers.
    Require,
    /// By TLS, to a server with a certificate of a known CA.
    VerifyCa,
    /// By TLS, to a server with a certificate of a known CA for the host's name.
    VerifyFull,
}

impl DatabaseUrl {
    /// The URL as it may be printed.
    #[must_use]
    pub fn redacted(&self) -> String {
        match self {
            Self::Sqlite { path } => format!("sqlite://{}", path.display()),
            Self::Postgres(url) => url.redacted.clone(),
        }
    }

    /// Whether this is the embedded database.
    #[must_use]
    pub const fn is_embedded(&self) -> bool {
        matches!(self, Self::Sqlite { .. })
    }
}

impl PostgresUrl {
    /// The first host that a connection without TLS would reach over a network that is not known to be private.
    ///
    /// Sockets, loopback, the names of the compose files and of services inside a Kubernetes cluster are taken to be
    /// private (operations contract §1).
    #[must_use]
    pub fn host_exposed_without_tls(&self) -> Option<&str> {
        const PRIVATE: [&str; 5] = [
            "localhost",
            "127.0.0.1",
            "::1",
            "postgres",
            "certctl-postgres",
        ];
        let is_private = |host: &str| {
            host.starts_with('/')
                || PRIVATE.contains(&host)
                || host.trim_end_matches('.').ends_with(".svc.cluster.local")
        };
        let exposed = self
            .hosts
            .iter()
            .map(String::as_str)
            .find(|host| !is_private(host));
        exposed.filter(|_| self.ssl_mode == SslMode::Disable)
    }
}

/// The form of `DATABASE_URL`.
#[derive(Debug)]
pub(crate) struct DatabaseUrlForm;

impl Form for DatabaseUrlForm {
    type Value = DatabaseUrl;

    // A URL holds a password more often than not, so it may come from a file and is never quoted in a refusal.
    const SECRET: bool = true;

    fn expected(&self) -> String {
        "sqlite://PATH or postgres://[USER[:PASSWORD]@]HOST[:PORT]/DATABASE[?sslmode=MODE]"
            .to_owned()
    }

    fn parse(&self, text: &str) -> Result<DatabaseUrl, Fault> {
        let text = text.trim();
        let parsed = match strip_scheme(text, "sqlite://") {
            Some(path) => parse_sqlite(path),
            None => strip_scheme(text, "postgres://")
                .or_else(|| strip_scheme(text, "postgresql://"))
                .and_then(|rest| parse_postgres(text, rest)),
        };
        parsed.ok_or_else(|| Fault::not(self))
    }

    fn shown(&self, text: &str) -> String {
        self.parse(text)
            .map_or_else(|_| REDACTED.to_owned(), |url| url.redacted())
    }
}

/// The path is taken as it is. A memory database (`:memory:`) is refused, for it would forget what was acknowledged; a
/// `?` is, because options of the connection are not the operator's to set.
fn parse_sqlite(path: &str) -> Option<DatabaseUrl> {
    let refused = path.is_empty()
        || path.ends_with('/')
        || path.starts_with(":memory:")
        || path.contains(['?', '\0']);
    (!refused).then(|| DatabaseUrl::Sqlite {
        path: PathBuf::from(path),
    })
}

fn parse_postgres(url: &str, rest: &str) -> Option<DatabaseUrl> {
    if rest.contains(|c: char| c.is_whitespace() || c.is_control() || c == '#') {
        return None;
    }
    let (before_query, query) = rest.split_once('?').unwrap_or((rest, ""));
    let (authority, database) = before_query.split_once('/')?;
    // An `@` inside a password must be written %40, but the last one is the separator in any case.
    let (user_info, hosts) = match authority.rsplit_once('@') {
        Some((user_info, hosts)) => (Some(user_info), hosts),
        None => (None, authority),
    };
    if database.is_empty() || database.contains('/') {
        return None;
    }
    let parameters: Vec<(&str, &str)> = query
        .split('&')
        .filter(|pair| !pair.is_empty())
        .map(|pair| pair.split_once('='))
        .collect::<Option<_>>()?;
    let ssl_mode = ssl_mode(&parameters)?;
    let hosts = parse_hosts(hosts, &parameters)?;
    let redacted = redact(user_info, authority_hosts(authority), database, &parameters);
    Some(DatabaseUrl::Postgres(PostgresUrl {
        url: Secret::new(url),
        redacted,
        hosts,
        ssl_mode,
    }))
}

fn authority_hosts(authority: &str) -> &str {
    authority
        .rsplit_once('@')
        .map_or(authority, |(_, hosts)| hosts)
}

/// The hosts of the authority, or, when there are none, those of the parameter `host` (how a socket's directory is
/// usually given). No host anywhere is refused: what a client then assumes differs between clients.
fn parse_hosts(authority: &str, parameters: &[(&str, &str)]) -> Option<Vec<String>> {
    let mut hosts: Vec<String> = Vec::new();
    for item in authority.split(',').filter(|item| !item.is_empty()) {
        hosts.push(parse_host(item)?);
    }
    for (_, value) in parameters.iter().filter(|(name, _)| *name == "host") {
        hosts.extend(
            value
                .split(',')
                .filter(|item| !item.is_empty())
                .map(percent_decode),
        );
    }
    (!hosts.is_empty()).then_some(hosts)
}

fn parse_host(item: &str) -> Option<String> {
    let (host, port) = match item.rsplit_once(':') {
        Some((host, port)) if !port.ends_with(']') => (host, Some(port)),
        _ => (item, None),
    };
    if port.is_some_and(|port| port.parse::<u16>().is_err()) {
        return None;
    }
    if let Some(literal) = host.strip_prefix('[') {
        let literal = literal.strip_suffix(']')?;
        return literal
            .parse::<std::net::Ipv6Addr>()
            .ok()
            .map(|address| address.to_string());
    }
    let host = percent_decode(host);
    (host.starts_with('/') || is_host_name(&host)).then_some(host)
}

fn ssl_mode(parameters: &[(&str, &str)]) -> Option<SslMode> {
    match parameters
        .iter()
        .rev()
        .find(|(name, _)| *name == "sslmode")
        .map(|(_, mode)| *mode)
    {
        None | Some("prefer") => Some(SslMode::Prefer),
        Some("disable") => Some(SslMode::Disable),
        Some("allow") => Some(SslMode::Allow),
        Some("require") => Some(SslMode::Require),
        Some("verify-ca") => Some(SslMode::VerifyCa),
        Some("verify-full") => Some(SslMode::VerifyFull),
        Some(_) => None,
    }
}

/// Writes the URL again without its password, which may stand before the host or among the parameters.
fn redact(
    user_info: Option<&str>,
    hosts: &str,
    database: &str,
    parameters: &[(&str, &str)],
) -> String {
    let mut text = "postgres://".to_owned();
    if let Some(user_info) = user_info {
        match user_info.split_once(':') {
            Some((user, _)) => text.push_str(&format!("{user}:{REDACTED}")),
            None => text.push_str(user_info),
        }
        text.push('@');
    }
    text.push_str(&format!("{hosts}/{database}"));
    for (index, (name, value)) in parameters.iter().enumerate() {
        // `password`, `sslpassword`, `passfile`: whatever names a password is taken for one.
        let value = if name.to_ascii_lowercase().contains("pass") {
            REDACTED
        } else {
            value
        };
        text.push_str(&format!(
            "{}{name}={value}",
            if index == 0 { '?' } else { '&' }
        ));
    }
    text
}

/// Percent-encodes everything but unreserved characters (RFC 3986 §2.3), so that any password can stand in a URL.
pub(crate) fn percent_encode(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            encoded.push(char::from(byte));
        } else {
            encoded.push_str(&format!("%{byte:02X}"));
        }
    }
    encoded
}

/// Undoes percent-encoding; what is no escape stays as it is.
fn percent_decode(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&byte, tail)) = rest.split_first() {
        let escaped = (byte == b'%')
            .then(|| tail.get(..2))
            .flatten()
            .filter(|digits| digits.iter().all(u8::is_ascii_hexdigit));
        let value = escaped
            .and_then(|digits| std::str::from_utf8(digits).ok())
            .and_then(|hex| u8::from_str_radix(hex, 16).ok());
        match value {
            Some(value) => {
                bytes.push(value);
                rest = &tail[2..];
            }
            None => {
                bytes.push(byte);
                rest = tail;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests;
