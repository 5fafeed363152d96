//! The rows every installation starts with (model §7.1), as SQL that both databases read and that may run at every start.

#[macro_use]
mod sql;
pub mod demo;

use std::fmt::Write as _;

use certctl_domain::{
    access::{Permission, SeededRole},
    agent::SENTINELS,
};

/// What every installation starts with, where it is absent, and the demo data of [`demo::sql`] in between: its local CA comes
/// before the one that a database without any issuer gets.
pub(crate) fn all(demo: Option<&str>) -> String {
    [&foundation(), demo.unwrap_or_default(), FIRST_ISSUER].concat()
}

const FIRST_ISSUER: &str = "INSERT INTO issuers (id, name, type, source) SELECT 'iss-local', 'Local CA', 'GenericCA', 'env' \
     WHERE NOT EXISTS (SELECT 1 FROM issuers) ON CONFLICT DO NOTHING;\n";

/// The tenant, roles, permissions and their grants, the default policy and rules, and the sentinel agents.
fn foundation() -> String {
    let mut sql = String::from(
        "INSERT INTO access_version (id, version) VALUES ('access', 0) ON CONFLICT DO NOTHING;\n\
         INSERT INTO tenants (id, name) VALUES ('t-default', 'default') ON CONFLICT DO NOTHING;\n",
    );
    insert(
        &mut sql,
        "permissions (id, name, namespace)",
        Permission::ALL.iter().map(|permission| {
            [
                permission.id(),
                permission.as_str().to_owned(),
                permission.namespace().to_owned(),
            ]
        }),
    );
    insert(
        &mut sql,
        "roles (id, tenant_id, name)",
        SeededRole::ALL
            .iter()
            .map(|role| [role.id(), "t-default".to_owned(), role.as_str().to_owned()]),
    );
    insert(
        &mut sql,
        "role_permissions (role_id, permission_id, scope_type)",
        SeededRole::ALL.iter().flat_map(|role| {
            Permission::ALL
                .iter()
                .filter(|permission| role.holds(**permission))
                .map(|permission| [role.id(), permission.id(), "global".to_owned()])
        }),
    );
    sql.push_str(
        "INSERT INTO actor_roles (id, actor_id, actor_type, role_id) \
         SELECT 'ar-demo-anon-admin', 'actor-demo-anon', 'Anonymous', 'r-admin' \
         WHERE NOT EXISTS (SELECT 1 FROM installation WHERE key = 'demo_grants_removed') ON CONFLICT DO NOTHING;\n\
         INSERT INTO renewal_policies (id, name, renewal_window_days, max_retries, retry_interval_seconds) \
         VALUES ('rp-default', 'default', 30, 3, 60) ON CONFLICT DO NOTHING;\n",
    );
    insert(
        &mut sql,
        "policy_rules (id, name, type, config, severity)",
        RULES.iter().map(|row| row.map(str::to_owned)),
    );
    insert(
        &mut sql,
        "agents (id, name, hostname, status, api_key_hash, os, architecture, ip_address)",
        SENTINELS.iter().map(|id| {
            let host = ["linux", "amd64", "127.0.0.1"];
            let [os, architecture, address] = host;
            [
                id,
                id,
                "localhost",
                "Online",
                "sentinel_no_auth",
                os,
                architecture,
                address,
            ]
            .map(ToString::to_string)
        }),
    );
    sql
}

const RULES: [[&str; 5]; 4] = [
    [
        "pr-require-owner",
        "require-owner",
        "RequiredMetadata",
        r#"{"required_keys":["owner"]}"#,
        "Warning",
    ],
    [
        "pr-allowed-environments",
        "allowed-environments",
        "AllowedEnvironments",
        r#"{"allowed":["production","staging","development"]}"#,
        "Error",
    ],
    [
        "pr-max-certificate-lifetime",
        "max-certificate-lifetime",
        "CertificateLifetime",
        r#"{"max_days":90}"#,
        "Critical",
    ],
    [
        "pr-min-renewal-window",
        "min-renewal-window",
        "RenewalLeadTime",
        r#"{"lead_time_days":14}"#,
        "Warning",
    ],
];

/// One statement with all rows. The values are constants of this program; quotes are doubled all the same.
fn insert<const N: usize>(sql: &mut String, into: &str, rows: impl Iterator<Item = [String; N]>) {
    let rows: Vec<String> = rows
        .map(|row| {
            format!(
                "({})",
                row.map(|value| format!("'{}'", value.replace('\'', "''")))
                    .join(", ")
            )
        })
        .collect();
    // Writing to a String cannot fail.
    let _ = writeln!(
        sql,
        "INSERT INTO {into} VALUES {} ON CONFLICT DO NOTHING;",
        rows.join(", ")
    );
}
