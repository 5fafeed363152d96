//! The forms that values of a target's configuration may have.

use std::{path::Path, time::Duration};

use certctl_domain::validation::InvalidField;
use serde::{
    Deserialize, Deserializer,
    de::{DeserializeOwned, Error as _},
};
use serde_json::Value;

use crate::{deploy::Access, probe};

/// Reads a whole configuration, naming the field that is wrong.
///
/// # Errors
/// [`InvalidField`] for `target_config`, with the name of the field in its words.
pub fn read<T: DeserializeOwned>(config: &Value) -> Result<T, InvalidField> {
    serde_path_to_error::deserialize(config).map_err(|problem| {
        let field = problem.path().to_string();
        let said = match field.as_str() {
            // The path of the whole, where a field is missing: serde names it.
            "." => problem.inner().to_string(),
            field => format!("{field}: {}", problem.inner()),
        };
        InvalidField::new("target_config", said)
    })
}

/// A length of time: a text such as `10s`, `500ms`, `1m30s`, or a whole number of nanoseconds (targets §1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Span(pub Duration);

impl<'de> Deserialize<'de> for Span {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Form {
            Nanos(u64),
            Text(String),
        }
        match Form::deserialize(deserializer).map_err(|_| D::Error::custom(NOT_A_SPAN))? {
            Form::Nanos(nanos) => Ok(Self(Duration::from_nanos(nanos))),
            Form::Text(text) => parse_span(&text)
                .map(Self)
                .ok_or_else(|| D::Error::custom(NOT_A_SPAN)),
        }
    }
}

const NOT_A_SPAN: &str = "expected a duration such as \"10s\" or a whole number of nanoseconds";

/// Reads `10s`, `1.5h`, `1m30s`; nothing negative, nothing beyond a century.
#[must_use]
pub fn parse_span(text: &str) -> Option<Duration> {
    const LONGEST: f64 = 100.0 * 366.0 * 86_400.0;
    let mut rest = text.trim();
    if rest == "0" {
        return Some(Duration::ZERO);
    }
    let mut seconds = 0.0;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let (number, after) = rest.split_at(digits);
        let unit_end = after
            .find(|c: char| c.is_ascii_digit() || c == '.')
            .unwrap_or(after.len());
        let (unit, after) = after.split_at(unit_end);
        let unit = match unit {
            "ns" => 1e-9,
            "us" | "µs" => 1e-6,
            "ms" => 1e-3,
            "s" => 1.0,
            "m" => 60.0,
            "h" => 3600.0,
            "d" => 86_400.0,
            _ => return None,
        };
        seconds += number.parse::<f64>().ok()? * unit;
        rest = after;
    }
    (!text.trim().is_empty() && seconds <= LONGEST).then(|| Duration::from_secs_f64(seconds))
}

/// Permission bits: an octal text such as `0640`, or a whole number (416 is 0640) (targets §1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Mode(pub u32);

impl<'de> Deserialize<'de> for Mode {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Form {
            Number(u32),
            Text(String),
        }
        let bad = || D::Error::custom("expected file permissions such as \"0640\"");
        let bits = match Form::deserialize(deserializer).map_err(|_| bad())? {
            Form::Number(number) => number,
            Form::Text(text) => {
                u32::from_str_radix(text.trim_start_matches("0o"), 8).map_err(|_| bad())?
            }
        };
        // A set-id bit has no place on a certificate, and a decimal 640 meant as octal is caught here.
        if bits > 0o777 {
            return Err(bad());
        }
        Ok(Self(bits))
    }
}

/// A user or group: a name or a number.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Account(pub String);

impl<'de> Deserialize<'de> for Account {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Form {
            Number(u32),
            Text(String),
        }
        match Form::deserialize(deserializer)
            .map_err(|_| D::Error::custom("expected a name or a number"))?
        {
            Form::Number(number) => Ok(Self(number.to_string())),
            Form::Text(text) if text.trim().is_empty() => {
                Err(D::Error::custom("expected a name or a number"))
            }
            Form::Text(text) => Ok(Self(text)),
        }
    }
}

/// Mode and owner of one file, from the fields `<file>_mode`, `<file>_owner`, `<file>_group`.
#[must_use]
pub fn access(mode: Option<Mode>, owner: Option<&Account>, group: Option<&Account>) -> Access {
    Access {
        mode: mode.map(|mode| mode.0),
        owner: owner.map(|owner| owner.0.clone()),
        group: group.map(|group| group.0.clone()),
    }
}

/// How a target's own verification is done (targets §2, post-deploy verify).
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct PostDeployVerify {
    /// Whether it is done; when left open, whether there is an endpoint.
    pub enabled: Option<bool>,
    /// `host:port`.
    pub endpoint: Option<String>,
    /// The name for SNI; when left open, the host of the endpoint.
    pub server_name: Option<String>,
    /// The plain protocol to switch from; `none` when left open.
    pub starttls: Option<String>,
    /// The limit of one attempt; 10 s when left open.
    pub timeout: Option<Span>,
}

/// The limit of one handshake where none is configured.
pub const VERIFY_TIMEOUT: Duration = Duration::from_secs(10);

impl PostDeployVerify {
    /// The verification settings of any target's configuration; the rest of it is not looked at.
    ///
    /// # Errors
    /// [`InvalidField`] naming `post_deploy_verify`.
    pub fn of(config: &Value) -> Result<Self, InvalidField> {
        let Some(value) = config.get("post_deploy_verify").filter(|v| !v.is_null()) else {
            return Ok(Self::default());
        };
        Self::deserialize(value)
            .map_err(|problem| InvalidField::new("post_deploy_verify", problem.to_string()))
    }

    /// Whether the connector is to verify.
    #[must_use]
    pub fn is_enabled(&self) -> bool {
        self.endpoint.is_some() && self.enabled.unwrap_or(true)
    }

    /// Where to look; nothing when no endpoint is configured.
    ///
    /// # Errors
    /// [`probe::Error::BadEndpoint`], and [`probe::Error::StartTlsUnsupported`] for the protocols that are not spoken yet.
    pub fn endpoint(&self) -> Result<Option<probe::Endpoint>, probe::Error> {
        let Some(text) = &self.endpoint else {
            return Ok(None);
        };
        match self.starttls.as_deref().unwrap_or("none") {
            "" | "none" => {}
            protocol => {
                let protocol = protocol.chars().take(32).collect();
                return Err(probe::Error::StartTlsUnsupported(protocol));
            }
        }
        let endpoint = probe::Endpoint::parse(text)?;
        Ok(Some(match &self.server_name {
            Some(name) => endpoint.with_server_name(name),
            None => endpoint,
        }))
    }

    /// The limit of one attempt.
    #[must_use]
    pub fn timeout(&self) -> Duration {
        self.timeout.map_or(VERIFY_TIMEOUT, |span| span.0)
    }
}

/// A path of the configuration: absolute, in a folder that exists.
///
/// # Errors
/// [`InvalidField`] naming `field`.
pub fn check_path(field: &'static str, path: &Path) -> Result<(), InvalidField> {
    if !path.is_absolute() {
        return Err(InvalidField::new(field, "is not an absolute path"));
    }
    match path.parent() {
        Some(folder) if folder.is_dir() => Ok(()),
        Some(folder) => Err(InvalidField::new(
            field,
            format!("the folder {} does not exist", folder.display()),
        )),
        None => Err(InvalidField::new(field, "is not the path of a file")),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use serde::Deserialize;
    use serde_json::json;

    use super::{Account, Mode, PostDeployVerify, Span};

    #[test]
    fn durations_are_texts_or_nanoseconds() {
        for (form, millis) in [
            (json!("10s"), 10_000),
            (json!("1m30s"), 90_000),
            (json!("500ms"), 500),
            (json!("1.5s"), 1500),
            (json!(2_000_000_000_u64), 2000),
            (json!("0"), 0),
        ] {
            assert_eq!(
                Span::deserialize(&form).unwrap(),
                Span(Duration::from_millis(millis)),
                "{form}"
            );
        }
        for bad in [
            json!("10"),
            json!("s"),
            json!(""),
            json!("-1s"),
            json!(-5),
            json!("1e9h"),
            json!("99999999h"),
            json!(null),
        ] {
            assert!(Span::deserialize(&bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn modes_are_octal_texts_or_numbers() {
        assert_eq!(Mode::deserialize(json!("0640")).unwrap(), Mode(0o640));
        assert_eq!(Mode::deserialize(json!("600")).unwrap(), Mode(0o600));
        assert_eq!(Mode::deserialize(json!(416)).unwrap(), Mode(0o640));
        for bad in [
            json!("0999"),
            json!("04755"),
            json!(640),
            json!(-1),
            json!("rw"),
            json!(true),
        ] {
            assert!(Mode::deserialize(&bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn accounts_are_names_or_numbers() {
        assert_eq!(Account::deserialize(json!("nginx")).unwrap().0, "nginx");
        assert_eq!(Account::deserialize(json!(33)).unwrap().0, "33");
        assert!(Account::deserialize(json!(" ")).is_err());
    }

    #[test]
    fn verification_is_on_when_there_is_an_endpoint_and_says_what_it_cannot_do() {
        let of = |config| PostDeployVerify::of(&config).unwrap();
        assert!(!of(json!({})).is_enabled());
        assert!(of(json!({"post_deploy_verify": {"endpoint": "a:1"}})).is_enabled());
        assert!(
            !of(json!({"post_deploy_verify": {"endpoint": "a:1", "enabled": false}})).is_enabled()
        );
        let smtp = of(json!({"post_deploy_verify": {"endpoint": "a:25", "starttls": "smtp"}}));
        assert_eq!(
            smtp.endpoint().unwrap_err().to_string(),
            "STARTTLS for smtp is not supported yet"
        );
        assert!(PostDeployVerify::of(&json!({"post_deploy_verify": 3})).is_err());
    }
}
