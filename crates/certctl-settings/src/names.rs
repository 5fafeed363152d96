//! Which names are known: those of the table, and those that belong to parts which are not built yet.

use crate::{setting::Entry, table};

/// What a name, without prefix, turned out to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Judgement {
    /// A setting of one of the programs, or the file of a secret one.
    Setting,
    /// The name of a setting of a part that is not built yet.
    Reserved,
    /// Nothing we know.
    Unknown,
}

/// Judges a name, which may end in `_FILE` for a secret.
pub(crate) fn judge(name: &str) -> Judgement {
    let of_file = name.strip_suffix("_FILE");
    if find(name).is_some() || of_file.and_then(find).is_some_and(Entry::is_secret) {
        Judgement::Setting
    } else if is_reserved(name) || of_file.is_some_and(is_reserved) {
        Judgement::Reserved
    } else {
        Judgement::Unknown
    }
}

/// The setting with this name.
pub(crate) fn find(name: &str) -> Option<&'static dyn Entry> {
    table::entries().find(|entry| entry.name() == name)
}

/// The setting or reserved name that a mistyped one is likely to mean: at most two letters away, or three in a long name.
pub(crate) fn nearest(name: &str) -> Option<&'static str> {
    let allowed = if name.len() >= 16 { 3 } else { 2 };
    table::entries()
        .map(Entry::name)
        .chain(RESERVED.iter().copied())
        .map(|known| (distance(name, known), known))
        .filter(|(distance, _)| *distance <= allowed)
        .min()
        .map(|(_, known)| known)
}

fn is_reserved(name: &str) -> bool {
    RESERVED.contains(&name)
        || RESERVED_PREFIXES.iter().any(|prefix| {
            name.strip_prefix(prefix)
                .is_some_and(|rest| !rest.is_empty())
        })
}

/// The least number of letters to insert, remove or replace (Levenshtein).
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<u8> = b.bytes().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, left) in a.bytes().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, right) in b.iter().enumerate() {
            let replaced = diagonal + usize::from(left != *right);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}

/// Families whose names are made by the operator (`EST_PROFILE_<NAME>_…`).
pub(crate) const RESERVED_PREFIXES: &[&str] = &["EST_", "SCEP_"];

/// Names of parts that are not built yet. They are no typing errors, so they are not warned about; a name leaves this
/// list when its row enters the table.
pub(crate) const RESERVED: &[&str] = &[
    // Telemetry.
    "OTEL_ENABLED",
    // Sessions, OIDC, break-glass.
    "BOOTSTRAP_ADMIN_GROUPS",
    "BOOTSTRAP_OIDC_PROVIDER_ID",
    "SESSION_IDLE_TIMEOUT",
    "SESSION_ABSOLUTE_TIMEOUT",
    "SESSION_SIGNING_KEY_RETENTION",
    "SESSION_GC_INTERVAL",
    "SESSION_SAMESITE",
    "SESSION_BIND_IP",
    "SESSION_BIND_USER_AGENT",
    "OIDC_BCL_MAX_AGE_SECONDS",
    "OIDC_PRELOGIN_REQUIRE_UA",
    "OIDC_PRELOGIN_REQUIRE_IP",
    "BREAKGLASS_ENABLED",
    "BREAKGLASS_LOCKOUT_THRESHOLD",
    "BREAKGLASS_LOCKOUT_DURATION",
    "BREAKGLASS_LOCKOUT_RESET_INTERVAL",
    "USER_RETENTION_INTERVAL",
    "USER_RETENTION_WINDOW",
    "USER_RETENTION_BATCH_CAP",
    // Discovery, scans, health checks, digest.
    "NETWORK_SCAN_ENABLED",
    "NETWORK_SCAN_INTERVAL",
    "CLOUD_DISCOVERY_ENABLED",
    "CLOUD_DISCOVERY_INTERVAL",
    "AWS_SM_DISCOVERY_ENABLED",
    "AWS_SM_REGION",
    "AWS_SM_TAG_FILTER",
    "AWS_SM_NAME_PREFIX",
    "AZURE_KV_DISCOVERY_ENABLED",
    "AZURE_KV_VAULT_URL",
    "AZURE_KV_TENANT_ID",
    "AZURE_KV_CLIENT_ID",
    "AZURE_KV_CLIENT_SECRET",
    "GCP_SM_DISCOVERY_ENABLED",
    "GCP_SM_PROJECT",
    "GCP_SM_CREDENTIALS",
    "DIGEST_ENABLED",
    "DIGEST_INTERVAL",
    "DIGEST_RECIPIENTS",
    "HEALTH_CHECK_ENABLED",
    "HEALTH_CHECK_INTERVAL",
    "HEALTH_CHECK_DEFAULT_INTERVAL",
    "HEALTH_CHECK_DEFAULT_TIMEOUT",
    "HEALTH_CHECK_MAX_CONCURRENT",
    "HEALTH_CHECK_HISTORY_RETENTION",
    "HEALTH_CHECK_AUTO_CREATE",
    // Notifiers.
    "SCHEDULER_NOTIFICATION_PROCESS_INTERVAL",
    "NOTIFICATION_RETRY_INTERVAL",
    "SMTP_HOST",
    "SMTP_PORT",
    "SMTP_USERNAME",
    "SMTP_PASSWORD",
    "SMTP_FROM_ADDRESS",
    "SMTP_USE_TLS",
    "SLACK_WEBHOOK_URL",
    "SLACK_CHANNEL",
    "SLACK_USERNAME",
    "TEAMS_WEBHOOK_URL",
    "PAGERDUTY_ROUTING_KEY",
    "PAGERDUTY_SEVERITY",
    "OPSGENIE_API_KEY",
    "OPSGENIE_PRIORITY",
    "WEBHOOK_URL",
    "WEBHOOK_SECRET",
    // Issuers other than the local CA.
    "ASYNC_POLL_MAX_WAIT_SECONDS",
    "ACME_DIRECTORY_URL",
    "ACME_EMAIL",
    "ACME_CHALLENGE_TYPE",
    "ACME_DNS_PRESENT_SCRIPT",
    "ACME_DNS_CLEANUP_SCRIPT",
    "ACME_DNS_PERSIST_ISSUER_DOMAIN",
    "ACME_EAB_KID",
    "ACME_EAB_HMAC",
    "ACME_PROFILE",
    "ACME_ARI_ENABLED",
    "ACME_ARI_HTTP_TIMEOUT_SECONDS",
    "ACME_INSECURE",
    "ACME_INSECURE_ACK",
    "ZEROSSL_EAB_URL",
    "DNS_DOMAIN",
    "DNS_FQDN",
    "DNS_VALUE",
    "DNS_TOKEN",
    "STEPCA_URL",
    "STEPCA_ROOT_CERT",
    "STEPCA_PROVISIONER",
    "STEPCA_KEY_PATH",
    "STEPCA_PASSWORD",
    "OPENSSL_SIGN_SCRIPT",
    "OPENSSL_REVOKE_SCRIPT",
    "OPENSSL_CRL_SCRIPT",
    "OPENSSL_TIMEOUT_SECONDS",
    "VAULT_ADDR",
    "VAULT_TOKEN",
    "VAULT_MOUNT",
    "VAULT_ROLE",
    "VAULT_TTL",
    "DIGICERT_API_KEY",
    "DIGICERT_ORG_ID",
    "DIGICERT_PRODUCT_TYPE",
    "DIGICERT_BASE_URL",
    "DIGICERT_POLL_MAX_WAIT_SECONDS",
    "SECTIGO_CUSTOMER_URI",
    "SECTIGO_LOGIN",
    "SECTIGO_PASSWORD",
    "SECTIGO_ORG_ID",
    "SECTIGO_CERT_TYPE",
    "SECTIGO_TERM",
    "SECTIGO_BASE_URL",
    "SECTIGO_POLL_MAX_WAIT_SECONDS",
    "GOOGLE_CAS_PROJECT",
    "GOOGLE_CAS_LOCATION",
    "GOOGLE_CAS_CA_POOL",
    "GOOGLE_CAS_CREDENTIALS",
    "GOOGLE_CAS_TTL",
    "AWS_PCA_REGION",
    "AWS_PCA_CA_ARN",
    "AWS_PCA_SIGNING_ALGORITHM",
    "AWS_PCA_VALIDITY_DAYS",
    "AWS_PCA_TEMPLATE_ARN",
    "ENTRUST_API_URL",
    "ENTRUST_CLIENT_CERT_PATH",
    "ENTRUST_CLIENT_KEY_PATH",
    "ENTRUST_CA_ID",
    "ENTRUST_PROFILE_ID",
    "ENTRUST_POLL_MAX_WAIT_SECONDS",
    "GLOBALSIGN_API_URL",
    "GLOBALSIGN_API_KEY",
    "GLOBALSIGN_API_SECRET",
    "GLOBALSIGN_CLIENT_CERT_PATH",
    "GLOBALSIGN_CLIENT_KEY_PATH",
    "GLOBALSIGN_SERVER_CA_PATH",
    "GLOBALSIGN_POLL_MAX_WAIT_SECONDS",
    "EJBCA_API_URL",
    "EJBCA_AUTH_MODE",
    "EJBCA_CLIENT_CERT_PATH",
    "EJBCA_CLIENT_KEY_PATH",
    "EJBCA_TOKEN",
    "EJBCA_CA_NAME",
    "EJBCA_CERT_PROFILE",
    "EJBCA_EE_PROFILE",
    // Targets.
    "K8S_DEPLOY_KUBELET_SYNC_TIMEOUT",
    "K8SSECRET_PREVIEW_ACK",
];

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::{Judgement, RESERVED, distance, find, judge, nearest};
    use crate::table;

    #[test]
    fn no_name_is_known_twice() {
        let mut seen = BTreeSet::new();
        for name in table::entries()
            .map(crate::setting::Entry::name)
            .chain(RESERVED.iter().copied())
        {
            assert!(seen.insert(name), "{name} is declared twice");
            assert!(
                name.bytes()
                    .all(|b| b.is_ascii_uppercase() || b.is_ascii_digit() || b == b'_'),
                "{name}"
            );
            // Otherwise `X_FILE` could mean both a setting of that name and the file of the secret `X`.
            assert!(!name.ends_with("_FILE"), "{name}");
        }
    }

    #[test]
    fn names_are_judged() {
        assert_eq!(judge("SERVER_PORT"), Judgement::Setting);
        assert_eq!(judge("AUTH_SECRET_FILE"), Judgement::Setting);
        assert_eq!(judge("SERVER_PORT_FILE"), Judgement::Unknown);
        assert_eq!(judge("SMTP_PASSWORD_FILE"), Judgement::Reserved);
        assert_eq!(judge("EST_PROFILE_IOT_ISSUER_ID"), Judgement::Reserved);
        assert_eq!(judge("EST_"), Judgement::Unknown);
        assert_eq!(judge("SERVER_PROT"), Judgement::Unknown);
        assert!(find("SMTP_HOST").is_none());
    }

    #[test]
    fn typing_errors_are_recognised() {
        assert_eq!(nearest("SERVER_PROT"), Some("SERVER_PORT"));
        assert_eq!(nearest("LOG_LEVL"), Some("LOG_LEVEL"));
        assert_eq!(nearest("SMTP_HOTS"), Some("SMTP_HOST"));
        assert_eq!(nearest("NOTHING_LIKE_IT"), None);
        assert_eq!(distance("", "abc"), 3);
        assert_eq!(distance("kitten", "sitting"), 3);
    }
}
