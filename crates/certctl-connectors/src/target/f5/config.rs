//! The configuration of an F5 target (targets §3.13).

use std::{fmt, net::IpAddr, path::PathBuf, time::Duration};

use certctl_domain::{
    name::is_dns_name, secret::Secret, target::is_appliance_name, validation::InvalidField,
};
use serde::{Deserialize, Deserializer};
use serde_json::Value;

use crate::target::{
    Error,
    config::{self, Span},
    verify::Verification,
};

/// The limit of one call where none is configured.
const TIMEOUT: Duration = Duration::from_secs(30);
const LONGEST_TIMEOUT: Duration = Duration::from_secs(600);

/// The configuration as it is written.
#[derive(Deserialize)]
struct Fields {
    host: String,
    username: String,
    #[serde(deserialize_with = "secret")]
    password: Secret,
    ssl_profile: String,
    #[serde(default = "default_port")]
    port: u16,
    #[serde(default = "default_partition")]
    partition: String,
    #[serde(default)]
    insecure: bool,
    ca_bundle_path: Option<PathBuf>,
    timeout: Option<Span>,
}

fn secret<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Secret, D::Error> {
    String::deserialize(deserializer).map(Secret::new)
}

const fn default_port() -> u16 {
    443
}

fn default_partition() -> String {
    "Common".to_owned()
}

/// The configuration once it is known to make sense.
pub(super) struct Config {
    /// Where the management interface is, as in a URL.
    pub(super) authority: String,
    pub(super) username: String,
    pub(super) password: Secret,
    pub(super) partition: String,
    pub(super) profile: String,
    pub(super) trust: Trust,
    /// The limit of one call.
    pub(super) timeout: Duration,
    pub(super) verify: Option<Verification>,
}

/// How the appliance is known to be the right one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Trust {
    /// By the roots of the system.
    System,
    /// By the roots in a file.
    Bundle(PathBuf),
    /// Not at all.
    Anybody,
}

impl Config {
    pub(super) fn read(config: &Value) -> Result<Self, Error> {
        let fields: Fields = config::read(config).map_err(Error::Config)?;
        let verify = Verification::read(config).map_err(Error::Config)?;
        Self::check(fields, verify).map_err(Error::Config)
    }

    fn check(fields: Fields, verify: Option<Verification>) -> Result<Self, InvalidField> {
        for (name, value) in [
            ("ssl_profile", &fields.ssl_profile),
            ("partition", &fields.partition),
        ] {
            if !is_appliance_name(value) {
                return Err(InvalidField::new(
                    name,
                    "may hold letters, digits, `.`, `_` and `-`",
                ));
            }
        }
        for (name, is_empty) in [
            ("username", fields.username.is_empty()),
            ("password", fields.password.is_empty()),
        ] {
            if is_empty {
                return Err(InvalidField::required(name));
            }
        }
        let host = match fields.host.trim_matches(['[', ']']).parse::<IpAddr>() {
            Ok(IpAddr::V6(v6)) => format!("[{v6}]"),
            Ok(IpAddr::V4(v4)) => v4.to_string(),
            Err(_) if is_dns_name(&fields.host) => fields.host,
            Err(_) => {
                return Err(InvalidField::new(
                    "host",
                    "is neither a host name nor an address",
                ));
            }
        };
        if fields.port == 0 {
            return Err(InvalidField::new("port", "must be from 1 to 65535"));
        }
        let timeout = fields.timeout.map_or(TIMEOUT, |span| span.0);
        if timeout.is_zero() || timeout > LONGEST_TIMEOUT {
            return Err(InvalidField::new(
                "timeout",
                "must be more than nothing and at most 10m",
            ));
        }
        Ok(Self {
            authority: format!("{host}:{}", fields.port),
            username: fields.username,
            password: fields.password,
            partition: fields.partition,
            profile: fields.ssl_profile,
            trust: match fields.ca_bundle_path {
                _ if fields.insecure => Trust::Anybody,
                Some(path) => Trust::Bundle(path),
                None => Trust::System,
            },
            timeout,
            verify,
        })
    }

    /// The profile with its appliance, for people.
    pub(super) fn address(&self) -> String {
        format!("{} /{}/{}", self.authority, self.partition, self.profile)
    }
}

impl fmt::Debug for Config {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Config")
            .field("address", &self.address())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::{path::PathBuf, time::Duration};

    use serde_json::{Value, json};

    use super::{Config, Trust};

    fn with(over: &Value) -> Value {
        let mut config = json!({"host": "f5.example", "username": "admin", "password": "canary-11", "ssl_profile": "web"});
        for (name, value) in over.as_object().unwrap() {
            config[name] = value.clone();
        }
        config
    }

    #[test]
    fn what_is_left_open_has_the_defaults_of_the_type() {
        let config = Config::read(&with(&json!({}))).unwrap();
        assert_eq!(config.address(), "f5.example:443 /Common/web");
        assert_eq!(config.timeout, Duration::from_secs(30));
        assert_eq!(config.trust, Trust::System);
        assert!(config.verify.is_none());
        assert!(!format!("{config:?}").contains("canary"));
        let all = json!({"host": "2001:db8::1", "port": 8443, "partition": "Edge", "timeout": "5s", "ca_bundle_path": "/f5.pem",
            "post_deploy_verify": {"endpoint": "www.example:443"}});
        let config = Config::read(&with(&all)).unwrap();
        assert_eq!(config.address(), "[2001:db8::1]:8443 /Edge/web");
        assert_eq!(config.trust, Trust::Bundle(PathBuf::from("/f5.pem")));
        assert!(config.verify.is_some() && config.timeout == Duration::from_secs(5));
        let insecure = Config::read(&with(
            &json!({"insecure": true, "ca_bundle_path": "/f5.pem"}),
        ));
        assert_eq!(insecure.unwrap().trust, Trust::Anybody);
    }

    #[test]
    fn what_is_wrong_is_named_and_the_password_is_not() {
        for (over, said) in [
            (json!({"host": null}), "host"),
            (json!({"host": "https://f5.example"}), "host: is neither"),
            (json!({"username": ""}), "username: is required"),
            (json!({"password": ""}), "password: is required"),
            (json!({"password": null}), "password"),
            (json!({"ssl_profile": "a/b"}), "ssl_profile: may hold"),
            (json!({"ssl_profile": "../x"}), "ssl_profile: may hold"),
            (json!({"partition": "a~b"}), "partition: may hold"),
            (json!({"partition": ""}), "partition: may hold"),
            (json!({"port": 0}), "port: must be"),
            (json!({"port": 70_000}), "port"),
            (json!({"timeout": 0}), "timeout: must be"),
            (json!({"timeout": "1h"}), "timeout: must be"),
            (
                json!({"post_deploy_verify": {"endpoint": "nowhere"}}),
                "is not host:port",
            ),
        ] {
            let refused = Config::read(&with(&over)).unwrap_err().to_string();
            assert!(refused.contains(said), "{refused}");
            assert!(!refused.contains("canary"), "{refused}");
        }
    }
}
