//! The calls of targets §3.13, each a method.

use reqwest::Method;
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::time::{Instant, sleep};

use super::{
    error::Error,
    session::{BETWEEN_LOOKS, Call, Content, Session},
};

/// Where the appliance puts what is uploaded.
const UPLOADS: &str = "/var/config/rest/downloads/";

/// The largest piece that an upload may be cut into, in bytes (targets §3.13).
pub(super) const CHUNK: usize = 1024 * 1024;

const CLIENT_SSL: [&str; 5] = ["mgmt", "tm", "ltm", "profile", "client-ssl"];

/// What lies in a file of its own on the appliance.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Certificate,
    Key,
}

impl Kind {
    fn word(self) -> &'static str {
        match self {
            Self::Certificate => "cert",
            Self::Key => "key",
        }
    }
}

/// What a profile names. Absent ones are `none` on the appliance.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct References {
    pub(super) cert: Option<String>,
    pub(super) key: Option<String>,
    pub(super) chain: Option<String>,
}

impl References {
    /// As a profile is given them.
    pub(super) fn as_json(&self) -> Value {
        let or_none =
            |reference: &Option<String>| reference.clone().unwrap_or_else(|| "none".to_owned());
        json!({"cert": or_none(&self.cert), "key": or_none(&self.key), "chain": or_none(&self.chain)})
    }

    /// Which files they are, of which kind.
    pub(super) fn files(&self) -> impl Iterator<Item = (Kind, &str)> {
        let certificates = [&self.cert, &self.chain].into_iter().flatten();
        certificates
            .map(|name| (Kind::Certificate, name.as_str()))
            .chain(self.key.iter().map(|name| (Kind::Key, name.as_str())))
    }
}

/// A profile as the appliance shows it.
#[derive(Debug, Deserialize)]
pub(super) struct Profile {
    cert: Option<String>,
    key: Option<String>,
    chain: Option<String>,
    /// Since version 14: all pairs, of which the fields above are the first.
    #[serde(default, rename = "certKeyChain")]
    pairs: Vec<Pair>,
}

#[derive(Debug, Deserialize)]
struct Pair {
    cert: Option<String>,
    key: Option<String>,
    chain: Option<String>,
}

impl Profile {
    /// How many pairs it has; a profile of an old version has one and does not say so.
    pub(super) fn pairs(&self) -> usize {
        self.pairs.len().max(1)
    }

    /// What it names, of the only pair.
    pub(super) fn references(&self) -> References {
        let first = self.pairs.first();
        let or_first = |own: &Option<String>, pair: fn(&Pair) -> &Option<String>| {
            named(own).or_else(|| first.and_then(|first| named(pair(first))))
        };
        References {
            cert: or_first(&self.cert, |pair| &pair.cert),
            key: or_first(&self.key, |pair| &pair.key),
            chain: or_first(&self.chain, |pair| &pair.chain),
        }
    }

    /// Everything it names, of all pairs.
    fn all(&self) -> impl Iterator<Item = String> {
        let own = [&self.cert, &self.key, &self.chain];
        let pairs = self
            .pairs
            .iter()
            .flat_map(|pair| [&pair.cert, &pair.key, &pair.chain]);
        own.into_iter().chain(pairs).filter_map(named)
    }
}

/// `none` and nothing are the same.
fn named(reference: &Option<String>) -> Option<String> {
    reference
        .clone()
        .filter(|name| !name.is_empty() && name != "none")
}

/// What the appliance says of a certificate; older versions do not say everything.
#[derive(Debug, Deserialize)]
pub(super) struct CertificateFile {
    fingerprint: Option<String>,
    #[serde(rename = "serialNumber")]
    serial: Option<String>,
}

impl CertificateFile {
    /// SHA-256 in lowercase hex; the appliance writes `SHA256/AA:BB:…`.
    pub(super) fn fingerprint_sha256(&self) -> Option<String> {
        let digest = self.fingerprint.as_ref()?.strip_prefix("SHA256/")?;
        Some(digest.replace(':', "").to_ascii_lowercase())
    }

    /// The serial number in lowercase hex without leading zeros: the appliance writes long ones as pairs of hex digits, and
    /// short ones as a decimal number, as openssl does.
    pub(super) fn serial(&self) -> Option<String> {
        let text = self.serial.as_ref()?;
        let hex = match text.parse::<u64>() {
            Ok(number) => format!("{number:x}"),
            Err(_) => text.replace(':', "").to_ascii_lowercase(),
        };
        Some(hex.trim_start_matches('0').to_owned())
    }
}

#[derive(Deserialize)]
struct Items<T> {
    // An empty list is left out.
    #[serde(default = "Vec::new")]
    items: Vec<T>,
}

#[derive(Deserialize)]
struct Named {
    #[serde(rename = "fullPath")]
    full_path: String,
}

#[derive(Deserialize)]
struct Transaction {
    #[serde(rename = "transId")]
    id: u64,
}

impl Session<'_> {
    /// Reads a profile.
    pub(super) async fn profile(&mut self, full_path: &str) -> Result<Profile, Error> {
        let name = segment(full_path);
        let path = [&CLIENT_SSL[..], &[name.as_str()]].concat();
        self.read(Call {
            name: "reading the profile",
            method: Method::GET,
            path: &path,
            content: Content::Nothing,
        })
        .await
    }

    /// Everything that any profile names.
    pub(super) async fn in_use(&mut self) -> Result<Vec<String>, Error> {
        let profiles: Items<Profile> = self
            .read(Call {
                name: "listing the profiles",
                method: Method::GET,
                path: &CLIENT_SSL,
                content: Content::Select("fullPath,cert,key,chain,certKeyChain"),
            })
            .await?;
        Ok(profiles.items.iter().flat_map(Profile::all).collect())
    }

    /// The names of all files of a kind.
    pub(super) async fn files(&mut self, kind: Kind) -> Result<Vec<String>, Error> {
        let files: Items<Named> = self
            .read(Call {
                name: "listing the files",
                method: Method::GET,
                path: &["mgmt", "tm", "sys", "crypto", kind.word()],
                content: Content::Select("fullPath"),
            })
            .await?;
        Ok(files.items.into_iter().map(|item| item.full_path).collect())
    }

    /// What the appliance says of a certificate file; nothing when there is no such file.
    pub(super) async fn certificate(
        &mut self,
        full_path: &str,
    ) -> Result<Option<CertificateFile>, Error> {
        let name = segment(full_path);
        let found = self
            .read(Call {
                name: "reading the certificate",
                method: Method::GET,
                path: &["mgmt", "tm", "sys", "file", "ssl-cert", &name],
                content: Content::Nothing,
            })
            .await;
        match found {
            Ok(found) => Ok(Some(found)),
            Err(refused) if refused.status() == Some(404) => Ok(None),
            Err(failure) => Err(failure),
        }
    }

    /// Uploads a file in pieces.
    pub(super) async fn upload(
        &mut self,
        name: &str,
        bytes: &[u8],
        chunk: usize,
    ) -> Result<(), Error> {
        for (index, piece) in bytes.chunks(chunk).enumerate() {
            self.call(Call {
                name: "the upload",
                method: Method::POST,
                path: &["mgmt", "shared", "file-transfer", "uploads", name],
                content: Content::Piece(index * chunk, piece, bytes.len()),
            })
            .await?;
        }
        Ok(())
    }

    /// Makes an object of an uploaded file.
    pub(super) async fn install(
        &mut self,
        kind: Kind,
        full_path: &str,
        file: &str,
    ) -> Result<(), Error> {
        let body = json!({"command": "install", "name": full_path, "from-local-file": format!("{UPLOADS}{file}")});
        self.call(Call {
            name: match kind {
                Kind::Certificate => "installing the certificate",
                Kind::Key => "installing the key",
            },
            method: Method::POST,
            path: &["mgmt", "tm", "sys", "crypto", kind.word()],
            content: Content::Json(&body),
        })
        .await
        .map(drop)
    }

    /// Removes an uploaded file: installing copies it, and a key must not lie about on the appliance's disk.
    pub(super) async fn remove_upload(&mut self, file: &str) -> Result<(), Error> {
        let body = json!({"command": "run", "utilCmdArgs": format!("{UPLOADS}{file}")});
        self.call(Call {
            name: "removing the upload",
            method: Method::POST,
            path: &["mgmt", "tm", "util", "unix-rm"],
            content: Content::Json(&body),
        })
        .await
        .map(drop)
    }

    /// Removes an object; one that is not there is as good.
    pub(super) async fn delete(&mut self, kind: Kind, full_path: &str) -> Result<(), Error> {
        let name = segment(full_path);
        let deleted = self
            .call(Call {
                name: "removing an object",
                method: Method::DELETE,
                path: &["mgmt", "tm", "sys", "crypto", kind.word(), &name],
                content: Content::Nothing,
            })
            .await;
        match deleted {
            Err(refused) if refused.status() == Some(404) => Ok(()),
            done => done.map(drop),
        }
    }

    /// Begins a transaction and returns its number.
    pub(super) async fn begin(&mut self) -> Result<u64, Error> {
        let transaction: Transaction = self
            .read(Call {
                name: "beginning the transaction",
                method: Method::POST,
                path: &["mgmt", "tm", "transaction"],
                content: Content::Json(&json!({})),
            })
            .await?;
        Ok(transaction.id)
    }

    /// Changes what a profile names: within a transaction, at its commit; without, at once.
    pub(super) async fn patch(
        &mut self,
        full_path: &str,
        references: &References,
        transaction: Option<u64>,
    ) -> Result<(), Error> {
        let (name, body) = (segment(full_path), references.as_json());
        let path = [&CLIENT_SSL[..], &[name.as_str()]].concat();
        self.call(Call {
            name: "changing the profile",
            method: Method::PATCH,
            path: &path,
            content: match transaction {
                Some(transaction) => Content::Within(transaction, &body),
                None => Content::Json(&body),
            },
        })
        .await
        .map(drop)
    }

    /// Commits, and waits until the appliance has done so. It mostly has when it answers; a busy one may say that it is at it.
    pub(super) async fn commit(&mut self, transaction: u64) -> Result<(), Error> {
        const NAME: &str = "committing the transaction";
        let started = Instant::now();
        let id = transaction.to_string();
        let path = ["mgmt", "tm", "transaction", id.as_str()];
        let validating = json!({"state": "VALIDATING"});
        let (mut method, mut content) = (Method::PATCH, Content::Json(&validating));
        loop {
            let shown = self
                .call(Call {
                    name: NAME,
                    method,
                    path: &path,
                    content,
                })
                .await?;
            match shown["state"].as_str().unwrap_or_default() {
                "COMPLETED" => return Ok(()),
                "FAILED" => {
                    return Err(Error::Refused {
                        call: NAME,
                        status: 400,
                        message: shown["failureReason"]
                            .as_str()
                            .unwrap_or_default()
                            .to_owned(),
                    });
                }
                _ if started.elapsed() < self.timeout() => sleep(BETWEEN_LOOKS).await,
                state => {
                    return Err(Error::BadAnswer {
                        call: NAME,
                        problem: format!("it stays {state:?}"),
                    });
                }
            }
            (method, content) = (Method::GET, Content::Nothing);
        }
    }

    /// Gives a transaction up.
    pub(super) async fn discard(&mut self, transaction: u64) -> Result<(), Error> {
        let id = transaction.to_string();
        self.call(Call {
            name: "discarding the transaction",
            method: Method::DELETE,
            path: &["mgmt", "tm", "transaction", &id],
            content: Content::Nothing,
        })
        .await
        .map(drop)
    }
}

/// `/Common/name` as it stands in a URL: `~Common~name`.
fn segment(full_path: &str) -> String {
    full_path.replace('/', "~")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::{CertificateFile, Profile, References, segment};

    #[test]
    fn profiles_of_old_and_new_versions_are_read() {
        let read = |value| serde_json::from_value::<Profile>(value).unwrap();
        let expected = References {
            cert: Some("/Common/a".to_owned()),
            key: Some("/Common/b".to_owned()),
            chain: None,
        };
        let old = read(json!({"cert": "/Common/a", "key": "/Common/b", "chain": "none"}));
        assert_eq!((old.pairs(), old.references()), (1, expected.clone()));
        let new =
            read(json!({"certKeyChain": [{"name": "x", "cert": "/Common/a", "key": "/Common/b"}]}));
        assert_eq!((new.pairs(), new.references()), (1, expected));
        let two = read(
            json!({"cert": "/Common/a", "key": "/Common/b", "certKeyChain": [
            {"cert": "/Common/a", "key": "/Common/b"}, {"cert": "/Common/c", "key": "/Common/d", "chain": "/Common/e"}]}),
        );
        assert_eq!(two.pairs(), 2);
        let all: Vec<String> = two.all().collect();
        assert!(all.contains(&"/Common/e".to_owned()) && all.contains(&"/Common/a".to_owned()));
        assert_eq!(
            References::default().as_json(),
            json!({"cert": "none", "key": "none", "chain": "none"})
        );
    }

    #[test]
    fn certificates_are_known_by_fingerprint_and_serial() {
        let of = |fingerprint, serial| {
            serde_json::from_value::<CertificateFile>(
                json!({"fingerprint": fingerprint, "serialNumber": serial}),
            )
            .unwrap()
        };
        let long = of(Some("SHA256/AA:0B"), Some("00:AB:cd"));
        assert_eq!(long.fingerprint_sha256().as_deref(), Some("aa0b"));
        assert_eq!(long.serial().as_deref(), Some("abcd"));
        assert_eq!(
            of(Some("SHA1/AA"), Some("255")).serial().as_deref(),
            Some("ff")
        );
        assert_eq!(of(Some("SHA1/AA"), None).fingerprint_sha256(), None);
        assert_eq!(segment("/Common/a.crt"), "~Common~a.crt");
    }
}
