//! Deployment targets: where a certificate is served.

use crate::{
    id::{AgentId, TargetId},
    issuer::{ConfigSource, TestStatus},
    text_enum,
    time::Timestamp,
    validation::InvalidField,
};

text_enum! {
    /// A kind of target (model §2).
    pub enum TargetType ("target type") {
        /// nginx.
        Nginx = "NGINX",
        /// Apache httpd.
        Apache = "Apache",
        /// HAProxy.
        HaProxy = "HAProxy",
        /// F5 BIG-IP.
        F5 = "F5",
        /// Internet Information Services.
        Iis = "IIS",
        /// Traefik.
        Traefik = "Traefik",
        /// Caddy.
        Caddy = "Caddy",
        /// Envoy.
        Envoy = "Envoy",
        /// Postfix.
        Postfix = "Postfix",
        /// Dovecot.
        Dovecot = "Dovecot",
        /// Files over SSH.
        Ssh = "SSH",
        /// The Windows certificate store.
        WinCertStore = "WinCertStore",
        /// A Java keystore.
        JavaKeystore = "JavaKeystore",
        /// A Kubernetes secret.
        KubernetesSecrets = "KubernetesSecrets",
        /// AWS Certificate Manager.
        AwsAcm = "AWSACM",
        /// Azure Key Vault.
        AzureKeyVault = "AzureKeyVault",
    }
}

/// A deployment target. The configuration is JSON with declared secrets masked; the full one is sealed beside it.
#[derive(Debug, Clone, PartialEq)]
pub struct Target {
    /// The id.
    pub id: TargetId,
    /// The name, unique per agent.
    pub name: String,
    /// The kind.
    pub target_type: TargetType,
    /// The agent that deploys here.
    pub agent_id: AgentId,
    /// The configuration as it may be shown.
    pub config: serde_json::Value,
    /// The full configuration, sealed; absent where it holds no secret.
    pub encrypted_config: Option<Vec<u8>>,
    /// Whether it is deployed to.
    pub enabled: bool,
    /// When it was last tested.
    pub last_tested_at: Option<Timestamp>,
    /// What that test said.
    pub test_status: TestStatus,
    /// Where it comes from.
    pub source: ConfigSource,
    /// When its agent was retired with force.
    pub retired_at: Option<Timestamp>,
    /// Why.
    pub retired_reason: Option<String>,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it was last changed.
    pub updated_at: Timestamp,
}

/// Longest command of a target, in characters.
pub const MAX_COMMAND: usize = 1024;

/// The fields of a target's configuration that are run as a program.
pub const COMMAND_FIELDS: [&str; 3] = ["reload_command", "validate_command", "restart_command"];

/// Splits a command into a program and its arguments, which are run without a shell.
///
/// Every character by which a shell would do more than that is refused, at the API and again on the agent (targets §1): a
/// target's configuration must not be a way to run something else on the host.
///
/// # Errors
/// [`InvalidField`] for `field` when the command is empty, too long or holds a refused character.
pub fn parse_command(field: &'static str, command: &str) -> Result<Vec<String>, InvalidField> {
    if command.chars().count() > MAX_COMMAND {
        return Err(InvalidField::new(
            field,
            format!("is longer than {MAX_COMMAND} characters"),
        ));
    }
    if let Some(c) = command.chars().find(|c| REFUSED.contains(c)) {
        return Err(InvalidField::new(
            field,
            format!("holds the refused character {c:?}"),
        ));
    }
    let words: Vec<String> = command.split_whitespace().map(str::to_owned).collect();
    if words.is_empty() {
        Err(InvalidField::required(field))
    } else {
        Ok(words)
    }
}

const REFUSED: [char; 18] = [
    ';', '|', '&', '$', '`', '(', ')', '{', '}', '<', '>', '\\', '"', '\'', '\r', '\n', '\0',
    '\u{2028}',
];

/// Whether a text can be the name of a partition or an object of an F5 appliance (targets §3.13): 1 to 255 of letters,
/// digits, dots, underscores and dashes.
#[must_use]
pub fn is_appliance_name(text: &str) -> bool {
    let fits = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-');
    (1..=255).contains(&text.len()) && text.bytes().all(fits)
}

#[cfg(test)]
mod tests {
    use super::{is_appliance_name, parse_command};

    #[test]
    fn names_of_an_appliance_lead_nowhere_else() {
        assert!(is_appliance_name("web_1.example-com"));
        for bad in ["", "a/b", "~a", "a b", "ä", "a%2f", &"a".repeat(256)] {
            assert!(!is_appliance_name(bad), "{bad}");
        }
    }

    #[test]
    fn a_command_is_words_and_nothing_a_shell_would_read() {
        assert_eq!(
            parse_command("reload_command", "nginx -s  reload").unwrap(),
            ["nginx", "-s", "reload"]
        );
        for bad in [
            "", "  ", "a;b", "a|b", "a&b", "$x", "`x`", "(x)", "{x}", "a<b", "a>b", "a\\b",
            "\"a\"", "'a'", "a\nb", "a\0",
        ] {
            assert!(parse_command("reload_command", bad).is_err(), "{bad:?}");
        }
        assert!(parse_command("reload_command", &"a".repeat(1025)).is_err());
    }
}
