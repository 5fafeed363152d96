//! What the configuration of a target must hold (model §3.6, targets §3); the agent checks the rest where it is used.

use std::path::{Component, Path};

use certctl_domain::{
    target::{COMMAND_FIELDS, TargetType, is_appliance_name, parse_command},
    validation::InvalidField,
};
use serde_json::{Map, Value};

/// Checks a configuration and gives fields their canonical names.
///
/// # Errors
/// [`InvalidField`] for `config`, with the name of the field in its words.
pub(super) fn checked(kind: TargetType, config: Value) -> Result<Value, InvalidField> {
    let Value::Object(mut fields) = config else {
        return Err(InvalidField::new("config", "must be an object"));
    };
    rename(kind, &mut fields);
    for name in required(kind, &fields) {
        if text(&fields, name)?.is_none() {
            return Err(bad(name, "is required"));
        }
    }
    for name in absolute_paths(kind) {
        if let Some(path) = text(&fields, name)?
            && !is_absolute(path, kind)
        {
            return Err(bad(name, "must be an absolute path without `..`"));
        }
    }
    for name in file_names(kind) {
        if let Some(file) = text(&fields, name)?
            && (file.contains(['/', '\\', '\0']) || file == "." || file.contains(".."))
        {
            return Err(bad(name, "must be the name of a file, without a folder"));
        }
    }
    for name in appliance_names(kind) {
        if let Some(value) = text(&fields, name)?
            && !is_appliance_name(value)
        {
            return Err(bad(name, "may hold letters, digits, `.`, `_` and `-`"));
        }
    }
    if runs_commands(kind) {
        for name in COMMAND_FIELDS {
            if let Some(command) = text(&fields, name)? {
                parse_command(name, command).map_err(|error| bad(name, &error.problem))?;
            }
        }
    }
    Ok(Value::Object(fields))
}

/// The fields that hold secrets; a dot leads into an object.
pub(crate) fn secret_fields(kind: TargetType) -> &'static [&'static str] {
    match kind {
        TargetType::F5 => &["password"],
        TargetType::Ssh => &["private_key", "password", "passphrase"],
        TargetType::JavaKeystore => &["keystore_password"],
        TargetType::Iis | TargetType::WinCertStore => &["winrm_password", "winrm.winrm_password"],
        // The headers are there to carry the credentials of a proxied admin endpoint.
        TargetType::Caddy => &["admin_token", "admin_headers"],
        _ => &[],
    }
}

/// Names that other programs write (model §3.6); where both are given the canonical one counts.
fn rename(kind: TargetType, fields: &mut Map<String, Value>) {
    let (alias, canonical) = match kind {
        TargetType::HaProxy => ("combined_pem_path", "pem_path"),
        TargetType::Traefik => ("watch_dir", "cert_dir"),
        TargetType::Caddy => ("admin_url", "admin_api"),
        _ => return,
    };
    if let Some(value) = fields.remove(alias) {
        fields.entry(canonical).or_insert(value);
    }
}

fn required(kind: TargetType, fields: &Map<String, Value>) -> &'static [&'static str] {
    match kind {
        TargetType::Nginx => &["cert_path", "reload_command", "validate_command"],
        TargetType::Apache => &[
            "cert_path",
            "chain_path",
            "reload_command",
            "validate_command",
        ],
        TargetType::HaProxy => &["pem_path", "reload_command"],
        TargetType::Traefik | TargetType::Envoy => &["cert_dir"],
        TargetType::Caddy if fields.get("mode") == Some(&Value::from("file")) => &["cert_dir"],
        TargetType::Caddy | TargetType::Postfix | TargetType::Dovecot => &[],
        TargetType::F5 => &["host", "username", "password", "ssl_profile"],
        TargetType::Iis => &["site_name", "cert_store"],
        TargetType::Ssh => &["host", "user", "cert_path", "key_path"],
        TargetType::WinCertStore => &[],
        TargetType::JavaKeystore => &["keystore_path", "keystore_password"],
        TargetType::KubernetesSecrets => &["namespace", "secret_name"],
        TargetType::AwsAcm => &["region"],
        TargetType::AzureKeyVault => &["vault_url", "certificate_name"],
    }
}

fn absolute_paths(kind: TargetType) -> &'static [&'static str] {
    match kind {
        TargetType::Nginx
        | TargetType::Apache
        | TargetType::Postfix
        | TargetType::Dovecot
        | TargetType::Ssh => &["cert_path", "key_path", "chain_path"],
        TargetType::HaProxy => &["pem_path"],
        TargetType::Traefik | TargetType::Envoy => &["cert_dir"],
        TargetType::F5 => &["ca_bundle_path"],
        TargetType::JavaKeystore => &["keystore_path"],
        _ => &[],
    }
}

fn file_names(kind: TargetType) -> &'static [&'static str] {
    match kind {
        TargetType::Traefik | TargetType::Caddy => &["cert_file", "key_file"],
        TargetType::Envoy => &["cert_filename", "key_filename", "chain_filename"],
        _ => &[],
    }
}

/// Names that become parts of an appliance's URLs (targets §3.13).
fn appliance_names(kind: TargetType) -> &'static [&'static str] {
    match kind {
        TargetType::F5 => &["ssl_profile", "partition"],
        _ => &[],
    }
}

/// The kinds whose commands are run (api §2.4).
fn runs_commands(kind: TargetType) -> bool {
    matches!(
        kind,
        TargetType::Nginx
            | TargetType::Apache
            | TargetType::HaProxy
            | TargetType::Postfix
            | TargetType::Dovecot
            | TargetType::JavaKeystore
            | TargetType::Ssh
    )
}

/// The path is that of the agent's host, not of this one; only a Java keystore may be on a host with drive letters.
fn is_absolute(text: &str, kind: TargetType) -> bool {
    let drive = kind == TargetType::JavaKeystore
        && matches!(text.as_bytes(), [letter, b':', b'\\' | b'/', ..] if letter.is_ascii_alphabetic());
    let climbs = text.split('\\').any(|part| part == "..")
        || Path::new(text)
            .components()
            .any(|part| part == Component::ParentDir);
    (text.starts_with('/') || drive) && !climbs && !text.contains('\0')
}

/// A field that is text; absent, null and blank are the same.
fn text<'a>(fields: &'a Map<String, Value>, name: &str) -> Result<Option<&'a str>, InvalidField> {
    match fields.get(name) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) if text.trim().is_empty() => Ok(None),
        Some(Value::String(text)) => Ok(Some(text)),
        Some(_) => Err(bad(name, "must be text")),
    }
}

fn bad(field: &str, problem: &str) -> InvalidField {
    InvalidField::new("config", format!("{field}: {problem}"))
}
