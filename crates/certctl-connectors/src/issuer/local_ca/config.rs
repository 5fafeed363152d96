//! The configuration of a local CA.

use std::path::{Component, Path, PathBuf};

use certctl_domain::{name::check_safe, ports::issuer::IssuerError, revocation::Shard};
use serde_json::{Map, Value};

use crate::issuer::invalid;

/// The configuration of a local CA, checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// Where the CA comes from.
    pub mode: Mode,
    /// The life of a leaf in days, before the bounds of the request and of the CA.
    pub validity_days: u32,
    /// Where the CRL is, for leaves to point at.
    pub crl_urls: Vec<String>,
    /// Into how many parts the CRL is split; 0 when it is not. A leaf then points at its part, below each of the URLs.
    pub crl_shards: u16,
    /// Where OCSP is answered, for leaves to point at.
    pub ocsp_urls: Vec<String>,
}

/// Where a CA comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Mode {
    /// A root that certctl makes itself.
    SelfSigned {
        /// Its name; a root that exists already keeps the one it was made with.
        common_name: String,
    },
    /// Files that someone else made.
    SubCa {
        /// The issuing CA, then what is above it.
        certificate_path: PathBuf,
        /// Its key.
        key_path: PathBuf,
    },
}

const FIELDS: [&str; 7] = [
    "ca_common_name",
    "validity_days",
    "ca_cert_path",
    "ca_key_path",
    "crl_distribution_point_urls",
    "crl_shards",
    "ocsp_url",
];
const DEFAULT_COMMON_NAME: &str = "CertCtl Local CA";
const DEFAULT_VALIDITY_DAYS: u32 = 90;
/// A hundred years; a CA bounds its leaves long before.
const MAX_VALIDITY_DAYS: u64 = 36_500;

impl Config {
    /// Reads a configuration; an absent, null or empty field means its default.
    ///
    /// # Errors
    /// [`IssuerError::Validation`] naming the field that is wrong or unknown.
    pub fn parse(config: &Value) -> Result<Self, IssuerError> {
        let empty = Map::new();
        let fields = match config {
            Value::Null => &empty,
            Value::Object(fields) => fields,
            _ => return Err(invalid("config", "must be an object")),
        };
        // A misspelt field would otherwise leave a default in force that nobody asked for.
        if let Some(unknown) = fields.keys().find(|name| !FIELDS.contains(&name.as_str())) {
            let known = FIELDS.join(", ");
            return Err(invalid(
                unknown,
                format!("is not a field of GenericCA ({known})"),
            ));
        }
        Ok(Self {
            mode: mode(fields)?,
            validity_days: validity_days(fields)?,
            crl_urls: urls(fields, "crl_distribution_point_urls")?,
            crl_shards: crl_shards(fields)?,
            ocsp_urls: text(fields, "ocsp_url")?
                .map(|url| checked_url("ocsp_url", url))
                .transpose()?
                .into_iter()
                .collect(),
        })
    }
}

fn mode(fields: &Map<String, Value>) -> Result<Mode, IssuerError> {
    let certificate = path(fields, "ca_cert_path")?;
    let key = path(fields, "ca_key_path")?;
    match (certificate, key) {
        (Some(certificate_path), Some(key_path)) => Ok(Mode::SubCa {
            certificate_path,
            key_path,
        }),
        (Some(_), None) => Err(invalid("ca_key_path", "is required with ca_cert_path")),
        (None, Some(_)) => Err(invalid("ca_cert_path", "is required with ca_key_path")),
        (None, None) => {
            let name = text(fields, "ca_common_name")?.unwrap_or(DEFAULT_COMMON_NAME);
            // RFC 5280 appendix A, ub-common-name: there is no room for more.
            if name.chars().count() > 64 {
                return Err(invalid("ca_common_name", "is longer than 64 characters"));
            }
            check_safe(name).map_err(|problem| invalid("ca_common_name", problem))?;
            Ok(Mode::SelfSigned {
                common_name: name.to_owned(),
            })
        }
    }
}

fn validity_days(fields: &Map<String, Value>) -> Result<u32, IssuerError> {
    match fields.get("validity_days") {
        None | Some(Value::Null) => Ok(DEFAULT_VALIDITY_DAYS),
        Some(value) => value
            .as_u64()
            .filter(|days| (1..=MAX_VALIDITY_DAYS).contains(days))
            .and_then(|days| u32::try_from(days).ok())
            .ok_or_else(|| {
                invalid(
                    "validity_days",
                    format!("must be a whole number from 1 to {MAX_VALIDITY_DAYS}"),
                )
            }),
    }
}

fn crl_shards(fields: &Map<String, Value>) -> Result<u16, IssuerError> {
    match fields.get("crl_shards") {
        None | Some(Value::Null) => Ok(0),
        Some(value) => value
            .as_u64()
            .and_then(|shards| u16::try_from(shards).ok())
            .filter(|shards| *shards == 0 || (2..=Shard::MAX).contains(shards))
            .ok_or_else(|| {
                invalid(
                    "crl_shards",
                    format!("must be 0 or a whole number from 2 to {}", Shard::MAX),
                )
            }),
    }
}

/// Absolute and without `..`, so that what is read does not depend on where the server was started (issuers §4, file driver).
fn path(fields: &Map<String, Value>, field: &'static str) -> Result<Option<PathBuf>, IssuerError> {
    let Some(text) = text(fields, field)? else {
        return Ok(None);
    };
    let path = Path::new(text);
    let climbs = path.components().any(|part| part == Component::ParentDir);
    if !path.is_absolute() || climbs || text.contains('\0') {
        return Err(invalid(field, "must be an absolute path without `..`"));
    }
    Ok(Some(path.to_owned()))
}

fn urls(fields: &Map<String, Value>, field: &'static str) -> Result<Vec<String>, IssuerError> {
    match fields.get(field) {
        None | Some(Value::Null) => Ok(Vec::new()),
        Some(Value::Array(urls)) if urls.len() <= 10 => urls
            .iter()
            .map(|url| match url {
                Value::String(url) => checked_url(field, url),
                _ => Err(invalid(field, "must be a list of URLs")),
            })
            .collect(),
        Some(_) => Err(invalid(field, "must be a list of at most 10 URLs")),
    }
}

fn checked_url(field: &'static str, url: &str) -> Result<String, IssuerError> {
    let host = url
        .strip_prefix("http://")
        .or_else(|| url.strip_prefix("https://"))
        .filter(|rest| !rest.is_empty() && !rest.starts_with('/'));
    let is_clean = url.len() <= 2048 && url.bytes().all(|byte| byte.is_ascii_graphic());
    if host.is_none() || !is_clean {
        return Err(invalid(field, "must be an http or https URL"));
    }
    Ok(url.to_owned())
}

fn text<'a>(
    fields: &'a Map<String, Value>,
    field: &'static str,
) -> Result<Option<&'a str>, IssuerError> {
    match fields.get(field) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) if text.trim().is_empty() => Ok(None),
        Some(Value::String(text)) => Ok(Some(text)),
        Some(_) => Err(invalid(field, "must be a text")),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::{Config, IssuerError, Mode, Value};

    fn field_refused(config: &Value) -> String {
        match Config::parse(config) {
            Err(IssuerError::Validation(text)) => {
                text.split(':').next().unwrap_or_default().to_owned()
            }
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn absent_null_and_empty_fields_mean_the_defaults() {
        for config in [
            json!(null),
            json!({}),
            json!({"ca_common_name": "", "ca_cert_path": "", "ca_key_path": null, "validity_days": null}),
        ] {
            let config = Config::parse(&config).unwrap();
            assert_eq!(config.validity_days, 90);
            assert_eq!(
                config.mode,
                Mode::SelfSigned {
                    common_name: "CertCtl Local CA".to_owned()
                }
            );
            assert!(config.crl_urls.is_empty() && config.ocsp_urls.is_empty());
        }
    }

    #[test]
    fn every_field_is_read() {
        let config = Config::parse(&json!({
            "ca_cert_path": "/etc/ca/ca.pem", "ca_key_path": "/etc/ca/ca.key", "validity_days": 47,
            "crl_distribution_point_urls": ["http://crl.example.com/a.crl"], "ocsp_url": "http://ocsp.example.com",
        }))
        .unwrap();
        assert_eq!(
            config.mode,
            Mode::SubCa {
                certificate_path: "/etc/ca/ca.pem".into(),
                key_path: "/etc/ca/ca.key".into()
            }
        );
        assert_eq!(config.validity_days, 47);
        assert_eq!(config.crl_urls, ["http://crl.example.com/a.crl"]);
        assert_eq!(config.ocsp_urls, ["http://ocsp.example.com"]);
    }

    #[test]
    fn what_is_wrong_is_refused_by_the_name_of_its_field() {
        for (config, field) in [
            (json!([]), "config"),
            (json!({"validity_day": 1}), "validity_day"),
            (json!({"validity_days": 0}), "validity_days"),
            (json!({"validity_days": -1}), "validity_days"),
            (json!({"validity_days": 1.5}), "validity_days"),
            (json!({"validity_days": "90"}), "validity_days"),
            (json!({"validity_days": 36_501}), "validity_days"),
            (json!({"ca_common_name": "x".repeat(65)}), "ca_common_name"),
            (json!({"ca_common_name": "a\u{202e}b"}), "ca_common_name"),
            (json!({"ca_common_name": 7}), "ca_common_name"),
            (json!({"ca_cert_path": "/a"}), "ca_key_path"),
            (json!({"ca_key_path": "/a"}), "ca_cert_path"),
            (
                json!({"ca_cert_path": "a", "ca_key_path": "/a"}),
                "ca_cert_path",
            ),
            (
                json!({"ca_cert_path": "/a", "ca_key_path": "/a/../b"}),
                "ca_key_path",
            ),
            (
                json!({"crl_distribution_point_urls": "http://a"}),
                "crl_distribution_point_urls",
            ),
            (
                json!({"crl_distribution_point_urls": ["ftp://a"]}),
                "crl_distribution_point_urls",
            ),
            (
                json!({"crl_distribution_point_urls": [1]}),
                "crl_distribution_point_urls",
            ),
            (json!({"ocsp_url": "http://a b"}), "ocsp_url"),
        ] {
            assert_eq!(field_refused(&config), field, "{config}");
        }
    }
}
