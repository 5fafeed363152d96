//! Configurations of third parties: what is shown, what is sealed (issuers §2), and how both are changed.

use certctl_domain::{issuer::Issuer, target::Target, validation::InvalidField};
use certctl_pki::seal::Sealer;
use certctl_repository::sealed::SealedColumn;
use serde_json::{Map, Value};

use crate::Error;

/// What stands where a secret is.
pub(crate) const MASK: &str = "********";

/// A thing with a configuration that may hold secrets.
pub(crate) trait Configured {
    /// Where its configuration is sealed for.
    fn place(&self) -> String;
    /// Its configuration as it may be shown, and all of it, sealed.
    fn config(&self) -> (&Value, Option<&[u8]>);
    /// Gives it another configuration.
    fn set_config(&mut self, config: StoredConfig);
}

macro_rules! configured {
    ($thing:ty, $column:expr) => {
        impl Configured for $thing {
            fn place(&self) -> String {
                $column.place(self.id.as_str())
            }

            fn config(&self) -> (&Value, Option<&[u8]>) {
                (&self.config, self.encrypted_config.as_deref())
            }

            fn set_config(&mut self, config: StoredConfig) {
                self.config = config.shown;
                self.encrypted_config = config.sealed;
            }
        }
    };
}

configured!(Issuer, SealedColumn::IssuerConfigs);
configured!(Target, SealedColumn::TargetConfigs);

/// A thing as it may leave: rows that others wrote may hold secrets in the clear.
pub(crate) fn shown<T: Configured>(mut thing: T, secret_fields: &[&str]) -> T {
    let mut config = thing.config().0.clone();
    mask(&mut config, secret_fields);
    thing.set_config(StoredConfig {
        shown: config,
        sealed: None,
    });
    thing
}

/// The whole configuration of a thing.
///
/// # Errors
/// [`Error::Internal`] when it is sealed and cannot be opened.
pub(crate) fn full(thing: &impl Configured, sealer: Option<&Sealer>) -> Result<Value, Error> {
    let (shown, sealed) = thing.config();
    open(shown, sealed, sealer, &thing.place())
}

/// A new configuration with what is stored where it says to keep that; only where nothing is `kept` of the thing as it was,
/// because it becomes one of another kind, which may not know a secret for one, nothing is carried over.
///
/// # Errors
/// As [`full`].
pub(crate) fn merged(
    mut new: Value,
    thing: &impl Configured,
    kept: bool,
    sealer: Option<&Sealer>,
) -> Result<Value, Error> {
    if mentions_mask(&new) {
        let stored = if kept {
            full(thing, sealer)?
        } else {
            Value::Null
        };
        keep_masked(&mut new, &stored);
    }
    Ok(new)
}

/// Gives a thing a configuration, with its secrets sealed and masked.
///
/// # Errors
/// [`Error::BadRequest`] when there is a secret and no key to seal it with.
pub(crate) fn put(
    thing: &mut impl Configured,
    config: &Value,
    secret_fields: &[&str],
    sealer: Option<&Sealer>,
) -> Result<(), Error> {
    let stored = store(config, secret_fields, sealer, &thing.place())?;
    thing.set_config(stored);
    Ok(())
}

/// A configuration in its two forms.
#[derive(Debug)]
pub(crate) struct StoredConfig {
    /// As it may be shown.
    pub(crate) shown: Value,
    /// All of it, sealed; none where nothing is masked.
    pub(crate) sealed: Option<Vec<u8>>,
}

/// Masks declared secret fields; a dot in a field leads into an object. Tells whether there was a secret.
fn mask(config: &mut Value, secret_fields: &[&str]) -> bool {
    let mut masked = false;
    for field in secret_fields {
        let (parents, name) = field.rsplit_once('.').unwrap_or(("", field));
        let mut at = Some(&mut *config);
        for parent in parents.split('.').filter(|parent| !parent.is_empty()) {
            at = at.and_then(|value| value.get_mut(parent));
        }
        if let Some(value) = at.and_then(|value| value.get_mut(name))
            && !value.is_null()
            && *value != ""
        {
            *value = Value::from(MASK);
            masked = true;
        }
    }
    masked
}

/// Splits a configuration: declared secret fields are masked in what is shown, and all of it is sealed when there is one.
///
/// # Errors
/// [`Error::BadRequest`] when there is a secret and no key to seal it with: it is never stored in the clear.
fn store(
    full: &Value,
    secret_fields: &[&str],
    sealer: Option<&Sealer>,
    place: &str,
) -> Result<StoredConfig, Error> {
    let mut shown = full.clone();
    if !mask(&mut shown, secret_fields) {
        return Ok(StoredConfig {
            shown,
            sealed: None,
        });
    }
    let sealer = sealer.ok_or_else(|| {
        Error::BadRequest("this configuration holds a secret, which cannot be stored without CERTCTL_CONFIG_ENCRYPTION_KEY".to_owned())
    })?;
    let sealed = sealer.seal(place, full.to_string().as_bytes())?;
    Ok(StoredConfig {
        shown,
        sealed: Some(sealed),
    })
}

/// The whole configuration again.
///
/// # Errors
/// [`Error::Internal`] when it is sealed and cannot be opened.
fn open(
    shown: &Value,
    sealed: Option<&[u8]>,
    sealer: Option<&Sealer>,
    place: &str,
) -> Result<Value, Error> {
    let Some(sealed) = sealed else {
        return Ok(shown.clone());
    };
    let sealer = sealer.ok_or_else(|| {
        Error::internal("a sealed configuration needs CERTCTL_CONFIG_ENCRYPTION_KEY")
    })?;
    let plain = sealer.open(place, sealed)?;
    serde_json::from_slice(&plain).map_err(Error::internal)
}

/// Whether a configuration asks for stored values by sending the mask.
fn mentions_mask(config: &Value) -> bool {
    match config {
        Value::String(text) => text == MASK,
        Value::Object(fields) => fields.values().any(mentions_mask),
        _ => false,
    }
}

/// Puts stored values where the new configuration says "keep what is stored" by sending the mask; where nothing is stored,
/// nothing stays.
fn keep_masked(new: &mut Value, stored: &Value) {
    let Value::Object(new) = new else {
        return;
    };
    for (name, value) in new.iter_mut() {
        let stored = stored.get(name).unwrap_or(&Value::Null);
        if *value == MASK {
            *value = stored.clone();
        } else {
            keep_masked(value, stored);
        }
    }
}

/// Whether a NUL stands in a text or in a name anywhere inside: `jsonb` has none, so PostgreSQL would refuse the row.
fn holds_nul(value: &Value) -> bool {
    match value {
        Value::String(text) => text.contains('\0'),
        Value::Array(items) => items.iter().any(holds_nul),
        Value::Object(fields) => fields
            .iter()
            .any(|(name, value)| name.contains('\0') || holds_nul(value)),
        _ => false,
    }
}

/// A configuration is an object; none at all means an empty one.
///
/// # Errors
/// [`Error::Invalid`] for anything else, for one larger than 64 KiB, and for one with a NUL anywhere.
pub(crate) fn object(config: Option<Value>) -> Result<Value, Error> {
    let config = config
        .filter(|config| !config.is_null())
        .unwrap_or_else(|| Value::Object(Map::new()));
    if !config.is_object() {
        return Err(InvalidField::new("config", "must be an object").into());
    }
    if holds_nul(&config) {
        return Err(InvalidField::new("config", "holds a NUL character").into());
    }
    if config.to_string().len() > 65_536 {
        return Err(InvalidField::new("config", "is larger than 64 KiB").into());
    }
    Ok(config)
}

#[cfg(test)]
mod tests {
    use certctl_domain::secret::Secret;
    use certctl_pki::seal::Sealer;
    use serde_json::json;

    use super::{MASK, keep_masked, mask, object, open, store};

    #[test]
    fn a_nul_is_refused_wherever_it_stands() {
        for nul in [
            json!({"a": "\0"}),
            json!({"a\0": 1}),
            json!({"a": [{"b": ["x\0"]}]}),
        ] {
            assert!(object(Some(nul.clone())).is_err(), "{nul}");
        }
        assert!(object(Some(json!({"a": ["\\0", 0, null]}))).is_ok());
    }

    #[test]
    fn only_declared_fields_are_masked_and_all_is_sealed() {
        let sealer = Sealer::new(&Secret::new("0123456789abcdef0123456789abcdef"));
        let full = json!({"api_key": "s3cret", "key_path": "/etc/key.pem"});
        let stored = store(&full, &["api_key"], Some(&sealer), "issuers:config:i").unwrap();
        assert_eq!(
            stored.shown,
            json!({"api_key": MASK, "key_path": "/etc/key.pem"})
        );
        let sealed = stored.sealed.unwrap();
        assert_eq!(
            open(
                &stored.shown,
                Some(&sealed),
                Some(&sealer),
                "issuers:config:i"
            )
            .unwrap(),
            full
        );
        assert!(
            open(
                &stored.shown,
                Some(&sealed),
                Some(&sealer),
                "issuers:config:other"
            )
            .is_err()
        );
        assert!(store(&full, &["api_key"], None, "x").is_err());
        assert!(
            store(&json!({"key_path": "x"}), &["api_key"], None, "x")
                .unwrap()
                .sealed
                .is_none()
        );
    }

    #[test]
    fn the_mask_keeps_what_is_stored() {
        let mut new = json!({"api_key": MASK, "url": "https://new.example"});
        keep_masked(
            &mut new,
            &json!({"api_key": "old", "url": "https://old.example"}),
        );
        assert_eq!(new, json!({"api_key": "old", "url": "https://new.example"}));
        let mut nested =
            json!({"winrm": {"winrm_password": MASK, "winrm_host": "w"}, "token": MASK});
        keep_masked(&mut nested, &json!({"winrm": {"winrm_password": "old"}}));
        assert_eq!(
            nested,
            json!({"winrm": {"winrm_password": "old", "winrm_host": "w"}, "token": null})
        );
    }

    #[test]
    fn a_dotted_field_is_masked_inside_of_its_object() {
        let fields = ["winrm.winrm_password", "password"];
        let mut config = json!({"winrm": {"winrm_password": "s3cret", "winrm_host": "w"}});
        assert!(mask(&mut config, &fields));
        assert_eq!(
            config,
            json!({"winrm": {"winrm_password": MASK, "winrm_host": "w"}})
        );
        for without in [json!({"winrm": "text"}), json!({"password": ""}), json!({})] {
            assert!(!mask(&mut without.clone(), &fields), "{without}");
        }
    }
}
