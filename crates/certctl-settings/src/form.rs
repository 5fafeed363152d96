//! Forms: how the text of a setting becomes a typed value, and what is said when it does not.

use std::{fs::File, path::PathBuf};

use certctl_domain::{secret::Secret, time::Timestamp};

/// What is printed in place of a secret.
pub(crate) const REDACTED: &str = "<redacted>";

/// How the text of a setting is read.
pub(crate) trait Form: Sync {
    /// What the text means.
    type Value;

    /// Whether the text must never be printed.
    const SECRET: bool = false;

    /// What a text must be, as it reads after "is not": `a port (1 to 65535)`.
    fn expected(&self) -> String;

    /// Reads a text.
    ///
    /// # Errors
    /// A [`Fault`] that says why the text is refused and holds nothing of a secret.
    fn parse(&self, text: &str) -> Result<Self::Value, Fault>;

    /// The text as it may be printed.
    fn shown(&self, text: &str) -> String {
        if Self::SECRET {
            REDACTED.to_owned()
        } else {
            text.to_owned()
        }
    }
}

/// Why a text was refused.
#[derive(Debug, thiserror::Error)]
pub enum Fault {
    /// The text as a whole is not of the form.
    #[error("is not {expected}")]
    NotOfForm {
        /// The form, in words.
        expected: String,
    },
    /// One entry of a list is wrong.
    #[error("has a wrong entry {position}: {why}")]
    Entry {
        /// Its place in the list, from 1.
        position: usize,
        /// What is wrong with it.
        why: &'static str,
    },
    /// The file that the text names cannot be read.
    #[error("cannot be read")]
    Unreadable {
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
}

impl Fault {
    /// The refusal of a text as a whole.
    pub(crate) fn not(form: &impl Form) -> Self {
        Self::NotOfForm {
            expected: form.expected(),
        }
    }
}

/// Splits a comma separated list, trims its items and drops the empty ones.
pub(crate) fn split_list(text: &str) -> impl Iterator<Item = &str> {
    text.split(',')
        .map(str::trim)
        .filter(|item| !item.is_empty())
}

/// Text of at least one character, without control characters.
#[derive(Debug)]
pub(crate) struct Text;

impl Form for Text {
    type Value = String;

    fn expected(&self) -> String {
        "text of at least one printable character".to_owned()
    }

    fn parse(&self, text: &str) -> Result<String, Fault> {
        let text = text.trim();
        if text.is_empty() || text.chars().any(char::is_control) {
            Err(Fault::not(self))
        } else {
            Ok(text.to_owned())
        }
    }
}

/// `true|1|yes` or `false|0|no`, in any case.
#[derive(Debug)]
pub(crate) struct Bool;

impl Form for Bool {
    type Value = bool;

    fn expected(&self) -> String {
        "a truth value (true, 1, yes, false, 0 or no)".to_owned()
    }

    fn parse(&self, text: &str) -> Result<bool, Fault> {
        match text.trim().to_ascii_lowercase().as_str() {
            "true" | "1" | "yes" => Ok(true),
            "false" | "0" | "no" => Ok(false),
            _ => Err(Fault::not(self)),
        }
    }
}

/// A whole number within bounds, both included.
#[derive(Debug)]
pub(crate) struct Integer {
    /// The least number accepted.
    pub min: i64,
    /// The greatest number accepted.
    pub max: i64,
}

impl Form for Integer {
    type Value = i64;

    fn expected(&self) -> String {
        match (self.min, self.max) {
            (i64::MIN, i64::MAX) => "a whole number".to_owned(),
            (i64::MIN, max) => format!("a whole number of at most {max}"),
            (min, i64::MAX) => format!("a whole number of at least {min}"),
            (min, max) => format!("a whole number ({min} to {max})"),
        }
    }

    fn parse(&self, text: &str) -> Result<i64, Fault> {
        let number = text.trim().parse().map_err(|_| Fault::not(self))?;
        if (self.min..=self.max).contains(&number) {
            Ok(number)
        } else {
            Err(Fault::not(self))
        }
    }
}

/// A count within bounds, both included.
#[derive(Debug)]
pub(crate) struct Count {
    /// The least number accepted.
    pub min: u32,
    /// The greatest number accepted.
    pub max: u32,
}

impl Form for Count {
    type Value = u32;

    fn expected(&self) -> String {
        Integer {
            min: self.min.into(),
            max: self.max.into(),
        }
        .expected()
    }

    fn parse(&self, text: &str) -> Result<u32, Fault> {
        let number = text.trim().parse().map_err(|_| Fault::not(self))?;
        if (self.min..=self.max).contains(&number) {
            Ok(number)
        } else {
            Err(Fault::not(self))
        }
    }
}

/// A TCP port that can be listened on by name; 0 is refused, for nobody could then be told where to connect.
#[derive(Debug)]
pub(crate) struct Port;

impl Form for Port {
    type Value = u16;

    fn expected(&self) -> String {
        "a port (1 to 65535)".to_owned()
    }

    fn parse(&self, text: &str) -> Result<u16, Fault> {
        text.trim()
            .parse()
            .ok()
            .filter(|port| *port > 0)
            .ok_or_else(|| Fault::not(self))
    }
}

/// One of a few words, in any case, each standing for a value.
#[derive(Debug)]
pub(crate) struct Choice<T: 'static>(pub &'static [(&'static str, T)]);

impl<T: Copy + Sync> Form for Choice<T> {
    type Value = T;

    fn expected(&self) -> String {
        let words: Vec<_> = self.0.iter().map(|(word, _)| *word).collect();
        format!("one of {}", words.join(", "))
    }

    fn parse(&self, text: &str) -> Result<T, Fault> {
        let text = text.trim();
        let found = self
            .0
            .iter()
            .find(|(word, _)| word.eq_ignore_ascii_case(text));
        found
            .map(|(_, value)| *value)
            .ok_or_else(|| Fault::not(self))
    }
}

/// A path of the file system that need not exist yet.
#[derive(Debug)]
pub(crate) struct Path;

impl Form for Path {
    type Value = PathBuf;

    fn expected(&self) -> String {
        "a path".to_owned()
    }

    fn parse(&self, text: &str) -> Result<PathBuf, Fault> {
        if text.is_empty() || text.contains('\0') {
            Err(Fault::not(self))
        } else {
            Ok(PathBuf::from(text))
        }
    }
}

/// A comma separated list of paths.
#[derive(Debug)]
pub(crate) struct Paths;

impl Form for Paths {
    type Value = Vec<PathBuf>;

    fn expected(&self) -> String {
        "a comma separated list of paths".to_owned()
    }

    fn parse(&self, text: &str) -> Result<Vec<PathBuf>, Fault> {
        Ok(split_list(text).map(PathBuf::from).collect())
    }
}

/// A comma separated list of words without blanks in them.
#[derive(Debug)]
pub(crate) struct Words;

impl Form for Words {
    type Value = Vec<String>;

    fn expected(&self) -> String {
        "a comma separated list of words".to_owned()
    }

    fn parse(&self, text: &str) -> Result<Vec<String>, Fault> {
        split_list(text)
            .enumerate()
            .map(|(index, item)| {
                if item.bytes().all(|b| b.is_ascii_graphic()) {
                    Ok(item.to_owned())
                } else {
                    Err(Fault::Entry {
                        position: index + 1,
                        why: "is not a word of printable ASCII",
                    })
                }
            })
            .collect()
    }
}

/// The path of a file that exists, can be opened and is not empty.
///
/// It is opened when settings are read, so a start with a wrong path ends before anything else has happened.
#[derive(Debug)]
pub(crate) struct ReadableFile;

impl Form for ReadableFile {
    type Value = PathBuf;

    fn expected(&self) -> String {
        "the path of a readable file that is not empty".to_owned()
    }

    fn parse(&self, text: &str) -> Result<PathBuf, Fault> {
        let metadata = File::open(text)
            .and_then(|file| file.metadata())
            .map_err(|source| Fault::Unreadable { source })?;
        if metadata.is_file() && metadata.len() > 0 {
            Ok(PathBuf::from(text))
        } else {
            Err(Fault::not(self))
        }
    }
}

/// An `https` URL with a host and without credentials. `http` is refused: what goes there carries credentials.
#[derive(Debug)]
pub(crate) struct HttpsUrl;

impl Form for HttpsUrl {
    type Value = String;

    fn expected(&self) -> String {
        "an https:// URL with a host and without user information, query or fragment".to_owned()
    }

    fn parse(&self, text: &str) -> Result<String, Fault> {
        let text = text.trim();
        let rest = strip_scheme(text, "https://").ok_or_else(|| Fault::not(self))?;
        let authority = rest.split('/').next().unwrap_or_default();
        if rest.contains(['@', '?', '#', ' ']) || !is_authority(authority) {
            return Err(Fault::not(self));
        }
        Ok(text.trim_end_matches('/').to_owned())
    }

    fn shown(&self, text: &str) -> String {
        // A refused URL is printed too, and it may be refused for the password in it.
        if text.contains('@') {
            REDACTED.to_owned()
        } else {
            text.to_owned()
        }
    }
}

/// A comma separated list of web origins (RFC 6454 §6.2), or `*`.
#[derive(Debug)]
pub(crate) struct Origins;

impl Form for Origins {
    type Value = Vec<String>;

    fn expected(&self) -> String {
        "a comma separated list of origins (scheme://host[:port]), or *".to_owned()
    }

    fn parse(&self, text: &str) -> Result<Vec<String>, Fault> {
        let origins: Vec<String> = split_list(text).map(str::to_owned).collect();
        for (index, origin) in origins.iter().enumerate() {
            let authority =
                strip_scheme(origin, "https://").or_else(|| strip_scheme(origin, "http://"));
            if origin != "*" && !authority.is_some_and(is_authority) {
                return Err(Fault::Entry {
                    position: index + 1,
                    why: "is not scheme://host[:port]",
                });
            }
        }
        Ok(origins)
    }
}

/// Seconds since the Unix epoch.
#[derive(Debug)]
pub(crate) struct UnixTime;

impl Form for UnixTime {
    type Value = Timestamp;

    fn expected(&self) -> String {
        "a time in seconds since 1970".to_owned()
    }

    fn parse(&self, text: &str) -> Result<Timestamp, Fault> {
        let seconds: u32 = text.trim().parse().map_err(|_| Fault::not(self))?;
        Ok(Timestamp::from_seconds(seconds.into()))
    }
}

/// A secret of at least so many bytes.
#[derive(Debug)]
pub(crate) struct SecretText {
    /// The least number of bytes accepted.
    pub min_bytes: usize,
}

impl Form for SecretText {
    type Value = Secret;

    const SECRET: bool = true;

    fn expected(&self) -> String {
        if self.min_bytes > 1 {
            format!("a secret of at least {} bytes", self.min_bytes)
        } else {
            "a secret".to_owned()
        }
    }

    fn parse(&self, text: &str) -> Result<Secret, Fault> {
        if text.is_empty() || text.len() < self.min_bytes {
            Err(Fault::not(self))
        } else {
            Ok(Secret::new(text))
        }
    }
}

/// A comma separated list of secrets.
#[derive(Debug)]
pub(crate) struct Secrets;

impl Form for Secrets {
    type Value = Vec<Secret>;

    const SECRET: bool = true;

    fn expected(&self) -> String {
        "a comma separated list of secrets".to_owned()
    }

    fn parse(&self, text: &str) -> Result<Vec<Secret>, Fault> {
        Ok(split_list(text).map(Secret::new).collect())
    }
}

/// The rest of a URL after its scheme, which is compared in any case (RFC 3986 §3.1).
pub(crate) fn strip_scheme<'a>(url: &'a str, scheme: &str) -> Option<&'a str> {
    let (head, rest) = url.split_at_checked(scheme.len())?;
    head.eq_ignore_ascii_case(scheme).then_some(rest)
}

/// Whether a text is `host` or `host:port` with a host that could exist.
fn is_authority(text: &str) -> bool {
    let (host, port) = match text.rsplit_once(':') {
        // The last colon of a bare IPv6 literal is inside its brackets.
        Some((host, port)) if !port.ends_with(']') => (host, Some(port)),
        _ => (text, None),
    };
    let port_is_good = port.is_none_or(|port| Port.parse(port).is_ok());
    let literal = host
        .strip_prefix('[')
        .and_then(|host| host.strip_suffix(']'));
    let host_is_good = match literal {
        Some(literal) => literal.parse::<std::net::Ipv6Addr>().is_ok(),
        None => is_host_name(host),
    };
    port_is_good && host_is_good
}

/// Whether a text consists of labels of letters, digits, hyphens and underscores (RFC 1123 §2.1, and what is met in
/// container networks). IPv4 addresses are of that form, too.
pub(crate) fn is_host_name(text: &str) -> bool {
    let label_is_good = |label: &str| {
        (1..=63).contains(&label.len())
            && label
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
    };
    text.len() <= 253
        && text
            .strip_suffix('.')
            .unwrap_or(text)
            .split('.')
            .all(label_is_good)
}

#[cfg(test)]
mod tests;
