//! The configuration: certificates, keys and client-ssl profiles, which change together or not at all.

use std::{collections::BTreeMap, fmt, sync::Arc};

use certctl_domain::secret::Secret;
use certctl_pki::{cert::ParsedCertificate, key::PrivateKey};
use rustls::sign::CertifiedKey;
use serde_json::{Map, Value, json};

use crate::{
    reply::{Answer, Refusal},
    tls,
};

/// The name of an object with its partition.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct FullPath {
    partition: String,
    name: String,
}

impl FullPath {
    /// An object of a partition.
    #[must_use]
    pub fn new(partition: impl Into<String>, name: impl Into<String>) -> Self {
        Self {
            partition: partition.into(),
            name: name.into(),
        }
    }

    /// Reads `/Common/name`, or a name of the partition `Common`.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        Self::split(text, '/')
    }

    /// Reads `~Common~name`, as it stands in a URL.
    #[must_use]
    pub fn from_segment(text: &str) -> Option<Self> {
        Self::split(text, '~')
    }

    fn split(text: &str, by: char) -> Option<Self> {
        let path = match text.strip_prefix(by) {
            Some(rest) => {
                let (partition, name) = rest.split_once(by)?;
                Self::new(partition, name)
            }
            None => Self::new("Common", text),
        };
        let good = |part: &str| !part.is_empty() && !part.contains(['/', '~']);
        (good(&path.partition) && good(&path.name)).then_some(path)
    }

    /// As it stands in a URL.
    #[must_use]
    pub fn segment(&self) -> String {
        format!("~{}~{}", self.partition, self.name)
    }
}

impl fmt::Display for FullPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "/{}/{}", self.partition, self.name)
    }
}

/// Everything a transaction can change. Cloning it is cheap, so a draft is a clone.
#[derive(Clone, Default)]
pub(crate) struct Config {
    certificates: BTreeMap<FullPath, Arc<Certificate>>,
    keys: BTreeMap<FullPath, Arc<Secret>>,
    profiles: BTreeMap<FullPath, Profile>,
}

/// The content of a certificate file.
pub(crate) struct Certificate {
    chain: Vec<ParsedCertificate>,
    pem: String,
}

/// A client-ssl profile.
#[derive(Debug, Clone)]
pub(crate) struct Profile {
    cert: FullPath,
    key: FullPath,
    chain: Option<FullPath>,
    /// Pairs beyond the first, for keys of another kind; they are kept and not served.
    more: Vec<Value>,
    /// What else was given, which means nothing here.
    others: Map<String, Value>,
    /// How often it was changed.
    generation: u64,
}

/// What is kept in files that profiles refer to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Certificate,
    Key,
}

impl Kind {
    fn word(self) -> &'static str {
        match self {
            Self::Certificate => "Certificate File",
            Self::Key => "Certificate Key File",
        }
    }

    fn segment(self) -> &'static str {
        match self {
            Self::Certificate => "cert",
            Self::Key => "key",
        }
    }
}

impl Config {
    /// Installs a file under a name that is not taken.
    pub(crate) fn install(&mut self, kind: Kind, path: &FullPath, pem: &str) -> Answer {
        let taken = match kind {
            Kind::Certificate => self.certificates.contains_key(path),
            Kind::Key => self.keys.contains_key(path),
        };
        if taken {
            return Err(Refusal::new(
                hyper::StatusCode::CONFLICT,
                format!(
                    "01020066:3: The requested {} ({path}) already exists in partition {}.",
                    kind.word(),
                    path.partition
                ),
            ));
        }
        let unreadable = || {
            Refusal::bad(format!(
                "Unable to extract the {} from the file.",
                kind.segment()
            ))
        };
        match kind {
            Kind::Certificate => {
                let chain = ParsedCertificate::chain_from_pem(pem).map_err(|_| unreadable())?;
                if chain.is_empty() {
                    return Err(unreadable());
                }
                let pem = pem.to_owned();
                self.certificates
                    .insert(path.clone(), Arc::new(Certificate { chain, pem }));
            }
            Kind::Key => {
                PrivateKey::from_pem(pem).map_err(|_| unreadable())?;
                self.keys.insert(path.clone(), Arc::new(Secret::new(pem)));
            }
        }
        Ok(json!({
            "kind": format!("tm:sys:crypto:{}:installstate", kind.segment()),
            "command": "install",
            "name": path.to_string(),
        }))
    }

    /// Removes a file that no profile refers to.
    pub(crate) fn remove(&mut self, kind: Kind, path: &FullPath) -> Answer {
        if let Some((profile, _)) = self.profiles.iter().find(|(_, p)| p.refers_to(kind, path)) {
            return Err(Refusal::bad(format!(
                "01071349:3: File object by name ({path}) is in use by profile {profile}."
            )));
        }
        let removed = match kind {
            Kind::Certificate => self.certificates.remove(path).is_some(),
            Kind::Key => self.keys.remove(path).is_some(),
        };
        if removed {
            Ok(Value::Null)
        } else {
            Err(missing(kind.word(), path))
        }
    }

    /// Makes a profile or replaces one; what it refers to must hold together.
    pub(crate) fn put_profile(
        &mut self,
        path: FullPath,
        cert: FullPath,
        key: FullPath,
        chain: Option<FullPath>,
    ) -> Answer {
        let profile = Profile {
            cert,
            key,
            chain,
            more: Vec::new(),
            others: Map::new(),
            generation: 1,
        };
        self.certified(&path, &profile)?;
        let shown = profile.shown(&path);
        self.profiles.insert(path, profile);
        Ok(shown)
    }

    /// Changes what is named in a profile and leaves the rest.
    pub(crate) fn patch_profile(&mut self, path: &FullPath, changes: &Value) -> Answer {
        let Value::Object(changes) = changes else {
            return Err(Refusal::bad(
                "Found invalid content-type. The content must be an object.",
            ));
        };
        let mut profile = self.profile(path)?.clone();
        for (field, value) in changes {
            let reference = || {
                value.as_str().and_then(FullPath::parse).ok_or_else(|| {
                    Refusal::bad(format!("one or more properties must be specified: {field}"))
                })
            };
            match field.as_str() {
                "cert" => profile.cert = reference()?,
                "key" => profile.key = reference()?,
                "chain" if matches!(value.as_str(), Some("none" | "")) => profile.chain = None,
                "chain" => profile.chain = Some(reference()?),
                "certKeyChain" => profile.take_pairs(value)?,
                _ => {
                    profile.others.insert(field.clone(), value.clone());
                }
            }
        }
        profile.generation += 1;
        self.certified(path, &profile)?;
        let shown = profile.shown(path);
        self.profiles.insert(path.clone(), profile);
        Ok(shown)
    }

    pub(crate) fn show_profile(&self, path: &FullPath) -> Answer {
        Ok(self.profile(path)?.shown(path))
    }

    pub(crate) fn show_profiles(&self) -> Value {
        let items: Vec<Value> = self
            .profiles
            .iter()
            .map(|(path, profile)| profile.shown(path))
            .collect();
        json!({"kind": "tm:ltm:profile:client-ssl:client-sslcollectionstate", "items": items})
    }

    /// The names of the files of a kind, as `sys crypto` lists them.
    pub(crate) fn list(&self, kind: Kind) -> Value {
        let paths: Vec<&FullPath> = match kind {
            Kind::Certificate => self.certificates.keys().collect(),
            Kind::Key => self.keys.keys().collect(),
        };
        let word = kind.segment();
        let items: Vec<Value> = paths
            .into_iter()
            .map(|path| named(&format!("tm:sys:crypto:{word}:{word}state"), path))
            .collect();
        json!({"kind": format!("tm:sys:crypto:{word}:{word}collectionstate"), "items": items})
    }

    /// What the device says of a certificate file: that of its first certificate.
    pub(crate) fn show_certificate(&self, path: &FullPath) -> Answer {
        let certificate = self
            .certificates
            .get(path)
            .ok_or_else(|| missing(Kind::Certificate.word(), path))?;
        let leaf = &certificate.chain[0];
        let mut shown = named("tm:sys:file:ssl-cert:ssl-certstate", path);
        shown["fingerprint"] = json!(format!("SHA256/{}", in_pairs(&leaf.fingerprint_sha256())));
        shown["isBundle"] = json!((certificate.chain.len() > 1).to_string());
        shown["issuer"] = json!(leaf.issuer());
        shown["serialNumber"] = json!(in_pairs(leaf.serial().as_str()).to_ascii_lowercase());
        shown["size"] = json!(certificate.pem.len());
        shown["subject"] = json!(leaf.subject());
        Ok(shown)
    }

    /// Certificate, chain and key of a profile, as they are served.
    pub(crate) fn served(&self, path: &FullPath) -> Result<Arc<CertifiedKey>, Refusal> {
        self.certified(path, self.profile(path)?)
    }

    /// Checks what the device checks: every file is there, and the key is that of the certificate.
    fn certified(&self, path: &FullPath, profile: &Profile) -> Result<Arc<CertifiedKey>, Refusal> {
        let file = |file: &FullPath| {
            self.certificates.get(file).ok_or_else(|| {
                Refusal::bad(format!("01070712:3: Values ({file}) specified for Client SSL profile {path}: the certificate file object is not found."))
            })
        };
        let key = self.keys.get(&profile.key).ok_or_else(|| {
            Refusal::bad(format!("01070712:3: Values ({}) specified for Client SSL profile {path}: the key file object is not found.", profile.key))
        })?;
        let mut chain = file(&profile.cert)?.pem.clone();
        if let Some(issuers) = &profile.chain {
            chain.push_str(&file(issuers)?.pem);
        }
        tls::certified(&chain, key).map_err(|_| {
            Refusal::bad(format!(
                "01070317:3: profile {path}'s key ({}) and certificate ({}) do not match",
                profile.key, profile.cert
            ))
        })
    }

    fn profile(&self, path: &FullPath) -> Result<&Profile, Refusal> {
        self.profiles
            .get(path)
            .ok_or_else(|| missing("Client SSL Profile", path))
    }

    /// All there is, without keys.
    pub(crate) fn dump(&self) -> Value {
        let names = |paths: Vec<&FullPath>| {
            paths
                .into_iter()
                .map(ToString::to_string)
                .collect::<Vec<_>>()
        };
        json!({
            "certificates": names(self.certificates.keys().collect()),
            "keys": names(self.keys.keys().collect()),
            "profiles": self.show_profiles()["items"],
        })
    }
}

impl Profile {
    fn refers_to(&self, kind: Kind, path: &FullPath) -> bool {
        match kind {
            Kind::Certificate => self.cert == *path || self.chain.as_ref() == Some(path),
            Kind::Key => self.key == *path,
        }
    }

    /// Since version 14 the pairs are a list of their own, of which the first is also shown beside it.
    fn take_pairs(&mut self, pairs: &Value) -> Result<(), Refusal> {
        let Some([pair, more @ ..]) = pairs.as_array().map(Vec::as_slice) else {
            return Err(Refusal::bad("certKeyChain: there is no pair"));
        };
        let reference = |field: &str| {
            pair[field]
                .as_str()
                .and_then(FullPath::parse)
                .ok_or_else(|| Refusal::bad(format!("certKeyChain: {field} is missing")))
        };
        self.cert = reference("cert")?;
        self.key = reference("key")?;
        self.chain = match pair["chain"].as_str() {
            None | Some("none" | "") => None,
            Some(_) => Some(reference("chain")?),
        };
        self.more = more.to_vec();
        Ok(())
    }

    fn shown(&self, path: &FullPath) -> Value {
        let chain = self
            .chain
            .as_ref()
            .map_or_else(|| "none".to_owned(), ToString::to_string);
        let mut shown = named("tm:ltm:profile:client-ssl:client-sslstate", path);
        for (field, value) in &self.others {
            shown[field] = value.clone();
        }
        shown["generation"] = json!(self.generation);
        shown["cert"] = json!(self.cert.to_string());
        shown["key"] = json!(self.key.to_string());
        shown["chain"] = json!(chain);
        let first = json!({
            "name": self.cert.name, "cert": self.cert.to_string(), "key": self.key.to_string(), "chain": chain,
        });
        let pairs = std::iter::once(first).chain(self.more.iter().cloned());
        shown["certKeyChain"] = pairs.collect();
        shown
    }
}

fn named(kind: &str, path: &FullPath) -> Value {
    json!({"kind": kind, "name": path.name, "partition": path.partition, "fullPath": path.to_string()})
}

fn missing(what: &str, path: &FullPath) -> Refusal {
    Refusal::not_found(format!(
        "01020036:3: The requested {what} ({path}) was not found."
    ))
}

/// Hex as the device writes it: `AA:BB:CC`.
fn in_pairs(hex: &str) -> String {
    let even = if hex.len().is_multiple_of(2) {
        hex.to_owned()
    } else {
        format!("0{hex}")
    };
    let pairs: Vec<&str> = even
        .as_bytes()
        .chunks(2)
        .filter_map(|pair| std::str::from_utf8(pair).ok())
        .collect();
    pairs.join(":").to_ascii_uppercase()
}

#[cfg(test)]
mod tests {
    use super::{FullPath, in_pairs};

    #[test]
    fn names_have_partitions() {
        let path = FullPath::new("Common", "a");
        assert_eq!(FullPath::parse("/Common/a"), Some(path.clone()));
        assert_eq!(FullPath::parse("a"), Some(path.clone()));
        assert_eq!(FullPath::from_segment("~Common~a"), Some(path.clone()));
        assert_eq!(
            (path.to_string(), path.segment()),
            ("/Common/a".to_owned(), "~Common~a".to_owned())
        );
        for bad in ["", "/", "/Common", "/Common/", "//a", "/Common/a/b", "~"] {
            assert_eq!(FullPath::parse(bad), None, "{bad}");
        }
    }

    #[test]
    fn hex_is_written_in_pairs() {
        assert_eq!(in_pairs("0abc"), "0A:BC");
        assert_eq!(in_pairs("abc"), "0A:BC");
    }
}
