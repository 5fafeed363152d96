//! Who and what there is: teams, owners, policies, CAs, agents, targets, profiles and groups.

use std::time::Duration;

use certctl_domain::time::Timestamp;
use serde_json::{Value, json};

use super::{DAY, NOBODY, Sql, lines, list};

/// Id, name, what it does.
const TEAMS: &str = "
    t-platform | Platform Engineering | Gateways, service mesh and shared infrastructure
    t-security | Security Operations  | Identity, secrets and perimeter
    t-payments | Payments             | Checkout and settlement
    t-frontend | Frontend             | Web sites and dashboards
    t-data     | Data Engineering     | Pipelines, search and analytics
    t-devops   | DevOps               | Build, delivery and clusters
";

/// Id, name, e-mail address, team.
const OWNERS: &str = "
    o-alice | Alice Chen     | alice@example.com | t-platform
    o-bob   | Bob Martinez   | bob@example.com   | t-security
    o-carol | Carol Williams | carol@example.com | t-payments
    o-dave  | Dave Kim       | dave@example.com  | t-frontend
    o-eve   | Eve Johnson    | eve@example.com   | t-data
    o-frank | Frank Torres   | frank@example.com | t-devops
";

/// Id, name, window in days, whether it renews by itself, attempts, seconds before the first retry, thresholds. Two intervals lie
/// below what the API takes; they are read all the same.
const POLICIES: &str = "
    rp-standard | Standard 30-day | 30 | yes | 3 | 60 | 30, 14, 7, 0
    rp-urgent   | Urgent 14-day   | 14 | yes | 5 | 30 | 14, 7, 3, 0
    rp-manual   | Manual Only     | 30 | no  | 0 | 0  | 30, 14, 7, 0
";

/// Id, name, type, whether it may issue. Only the local one has a configuration: the others lead to nobody.
const ISSUERS: &str = "
    iss-local      | Local Dev CA          | GenericCA  | yes
    iss-acme-le    | Let's Encrypt Staging | ACME       | yes
    iss-acme-zs    | ZeroSSL (EAB)         | ACME       | yes
    iss-stepca     | step-ca Internal      | StepCA     | yes
    iss-vault      | HashiCorp Vault PKI   | VaultPKI   | yes
    iss-digicert   | DigiCert CertCentral  | DigiCert   | yes
    iss-sectigo    | Sectigo SCM           | Sectigo    | yes
    iss-openssl    | OpenSSL Scripts       | OpenSSL    | no
    iss-googlecas  | Google CAS            | GoogleCAS  | no
    iss-awsacmpca  | AWS Private CA        | AWSACMPCA  | no
    iss-entrust    | Entrust               | Entrust    | no
    iss-globalsign | GlobalSign Atlas      | GlobalSign | no
    iss-ejbca      | EJBCA                 | EJBCA      | no
";

/// Id, name, operating system, architecture, address, state. The sentinels are of the baseline.
const AGENTS: &str = "
    ag-web-prod    | web-prod-agent    | linux   | amd64 | 10.0.1.10 | Online
    ag-web-staging | web-staging-agent | linux   | amd64 | 10.0.2.20 | Online
    ag-lb-prod     | lb-prod-agent     | linux   | amd64 | 10.0.1.50 | Online
    ag-iis-prod    | iis-prod-agent    | windows | amd64 | 10.0.3.15 | Offline
    ag-data-prod   | data-prod-agent   | linux   | arm64 | 10.0.4.30 | Online
    ag-edge-01     | edge-eu-agent     | linux   | arm64 | 10.0.5.10 | Online
    ag-k8s-prod    | k8s-prod-agent    | linux   | amd64 | 10.0.6.10 | Online
    ag-mac-dev     | mac-dev-agent     | darwin  | arm64 | 10.0.7.5  | Online
    agent-demo-1   | docker-agent      | linux   | amd64 | 127.0.0.1 | Online
";

/// Id, type, agent.
const TARGETS: &str = "
    tgt-nginx-prod    | NGINX         | ag-web-prod
    tgt-apache-prod   | Apache        | ag-web-prod
    tgt-nginx-staging | NGINX         | ag-web-staging
    tgt-haproxy-prod  | HAProxy       | ag-lb-prod
    tgt-iis-prod      | IIS           | ag-iis-prod
    tgt-traefik-prod  | Traefik       | ag-k8s-prod
    tgt-caddy-prod    | Caddy         | ag-edge-01
    tgt-nginx-data    | NGINX         | ag-data-prod
    tgt-aws-acm-prod  | AWSACM        | cloud-aws-sm
    tgt-azure-kv-prod | AzureKeyVault | cloud-azure-kv
";

/// Id, name, seconds of life, keys, uses, pattern of names.
const PROFILES: &str = r"
    prof-standard-tls  | Standard TLS  | 7776000  | ECDSA 256, RSA 2048 | serverAuth             |
    prof-internal-mtls | Internal mTLS | 2592000  | ECDSA 256           | serverAuth, clientAuth | .*\.internal\.example\.com$
    prof-short-lived   | Short-lived   | 300      | ECDSA 256           | serverAuth, clientAuth |
    prof-high-security | High security | 4060800  | ECDSA 384, RSA 4096 | serverAuth             | .*\.example\.com$
    prof-smime         | S/MIME        | 31536000 | ECDSA 256, RSA 2048 | emailProtection        |
    prof-test          | ACME test     | 7776000  | ECDSA 256, RSA 2048 | serverAuth             |
";

/// Id, name, operating system, architecture, network, whether the criteria count.
const GROUPS: &str = "
    ag-linux-prod   | Linux production | linux   |       |             | yes
    ag-linux-amd64  | Linux on amd64   | linux   | amd64 |             | yes
    ag-windows      | Windows          | windows |       |             | yes
    ag-datacenter-a | Datacenter A     |         |       | 10.0.1.0/24 | yes
    ag-arm64        | ARM64            |         | arm64 |             | yes
    ag-manual       | By hand          |         |       |             | no
";

/// Group, agent, whether it is in or out.
const MEMBERS: &str = "
    ag-manual | ag-web-prod    | include
    ag-manual | ag-web-staging | include
    ag-manual | ag-iis-prod    | exclude
";

/// When all of this was set up.
const SET_UP: u32 = 200;

pub(super) fn write(sql: &mut Sql, now: Timestamp) {
    let made = now - SET_UP * DAY;
    let teams: Vec<_> = lines(TEAMS)
        .map(|[id, name, what]| row![id, name, what, made, made])
        .collect();
    sql.insert(
        "teams (id, name, description, created_at, updated_at)",
        &teams,
    );
    let owners: Vec<_> = lines(OWNERS)
        .map(|[id, name, email, team]| row![id, name, email, team, made, made])
        .collect();
    sql.insert(
        "owners (id, name, email, team_id, created_at, updated_at)",
        &owners,
    );
    policies(sql, made);
    issuers(sql, made);
    agents(sql, now);
    targets(sql, made);
    profiles(sql, made);
    groups(sql, made);
}

fn policies(sql: &mut Sql, made: Timestamp) {
    let rows: Vec<_> = lines(POLICIES)
        .map(|[id, name, window, auto, attempts, interval, thresholds]| {
            let thresholds: Vec<i64> = list(thresholds).iter().map(|days| number(days)).collect();
            row![
                id,
                name,
                number(window),
                auto == "yes",
                number(attempts),
                number(interval),
                json!(thresholds),
                made,
                made
            ]
        })
        .collect();
    sql.insert(
        "renewal_policies (id, name, renewal_window_days, auto_renew, max_retries, retry_interval_seconds, alert_thresholds_days, \
         created_at, updated_at)",
        &rows,
    );
}

fn issuers(sql: &mut Sql, made: Timestamp) {
    let rows: Vec<_> = lines(ISSUERS)
        .map(|[id, name, kind, enabled]| {
            let config = if id == "iss-local" {
                json!({"ca_common_name": "CertCtl Demo CA", "validity_days": 90})
            } else {
                json!({})
            };
            row![id, name, kind, config, enabled == "yes", made, made]
        })
        .collect();
    sql.insert(
        "issuers (id, name, type, config, enabled, created_at, updated_at)",
        &rows,
    );
}

fn agents(sql: &mut Sql, now: Timestamp) {
    let rows: Vec<_> = lines(AGENTS)
        .map(|[id, name, os, architecture, address, status]| {
            let silent_for = if status == "Online" {
                Duration::from_secs(30)
            } else {
                2 * DAY
            };
            let host = format!("{}.example.com", name.trim_end_matches("-agent"));
            row![
                id,
                name,
                host,
                status,
                now - silent_for,
                now - 150 * DAY,
                NOBODY,
                os,
                architecture,
                address,
                "0.1.0"
            ]
        })
        .collect();
    sql.insert(
        "agents (id, name, hostname, status, last_heartbeat_at, registered_at, api_key_hash, os, architecture, ip_address, version)",
        &rows,
    );
}

fn targets(sql: &mut Sql, made: Timestamp) {
    let rows: Vec<_> = lines(TARGETS)
        .map(|[id, kind, agent]| {
            let name = id.trim_start_matches("tgt-");
            row![id, name, kind, agent, target_config(kind), made, made]
        })
        .collect();
    sql.insert(
        "deployment_targets (id, name, type, agent_id, config, created_at, updated_at)",
        &rows,
    );
}

/// What a target of a kind must have (model §3.6).
fn target_config(kind: &str) -> Value {
    match kind {
        "NGINX" => {
            json!({"cert_path": "/etc/nginx/tls/cert.pem", "key_path": "/etc/nginx/tls/key.pem",
            "reload_command": "nginx -s reload", "validate_command": "nginx -t"})
        }
        "Apache" => {
            json!({"cert_path": "/etc/apache2/tls/cert.pem", "chain_path": "/etc/apache2/tls/chain.pem",
            "key_path": "/etc/apache2/tls/key.pem", "reload_command": "apachectl graceful", "validate_command": "apachectl configtest"})
        }
        "HAProxy" => {
            json!({"pem_path": "/etc/haproxy/tls/site.pem", "reload_command": "systemctl reload haproxy"})
        }
        "IIS" => json!({"site_name": "Default Web Site", "cert_store": "My", "port": 443}),
        "Traefik" => json!({"cert_dir": "/etc/traefik/tls"}),
        "Caddy" => json!({"mode": "api", "admin_api": "http://localhost:2019"}),
        "AWSACM" => json!({"region": "eu-central-1"}),
        "AzureKeyVault" => {
            json!({"vault_url": "https://certs.vault.example.com", "certificate_name": "site"})
        }
        _ => json!({}),
    }
}

fn profiles(sql: &mut Sql, made: Timestamp) {
    let rows: Vec<_> = lines(PROFILES)
        .map(|[id, name, life, keys, uses, pattern]| {
            let keys: Vec<Value> = list(keys).iter().map(|key| allowed(key)).collect();
            let is_short = id == "prof-short-lived";
            let spiffe = if is_short {
                "spiffe://example.com/workload/*"
            } else {
                ""
            };
            let patterns = list(pattern);
            row![
                id,
                name,
                json!(keys),
                number(life),
                list(uses),
                patterns,
                spiffe,
                is_short,
                "trust_authenticated",
                made,
                made
            ]
        })
        .collect();
    sql.insert(
        "certificate_profiles (id, name, allowed_key_algorithms, max_ttl_seconds, allowed_ekus, required_san_patterns, \
         spiffe_uri_pattern, allow_short_lived, acme_auth_mode, created_at, updated_at)",
        &rows,
    );
}

fn allowed(key: &str) -> Value {
    let (algorithm, size) = key
        .split_once(' ')
        .expect("a key of the table is an algorithm and a size");
    json!({"algorithm": algorithm, "min_size": number(size)})
}

fn groups(sql: &mut Sql, made: Timestamp) {
    let rows: Vec<_> = lines(GROUPS)
        .map(|[id, name, os, architecture, network, enabled]| {
            row![
                id,
                name,
                os,
                architecture,
                network,
                enabled == "yes",
                made,
                made
            ]
        })
        .collect();
    sql.insert(
        "agent_groups (id, name, match_os, match_architecture, match_ip_cidr, enabled, created_at, updated_at)",
        &rows,
    );
    let members: Vec<_> = lines(MEMBERS)
        .map(|[group, agent, kind]| row![group, agent, kind, made])
        .collect();
    sql.insert(
        "agent_group_members (agent_group_id, agent_id, membership_type, created_at)",
        &members,
    );
}

fn number(cell: &str) -> i64 {
    cell.parse().expect("a number of the table is one")
}
