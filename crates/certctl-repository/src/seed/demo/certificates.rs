//! The certificates, where they are deployed, and what was issued of them.

use certctl_domain::{serial::SerialNumber, time::Timestamp};

use super::{DAY, PlannedVersion, SignedVersion, Sql, days_from, lines, list};

/// A certificate of the demo.
pub(super) struct Line {
    pub(super) id: &'static str,
    name: &'static str,
    sans: Vec<String>,
    owner: &'static str,
    team: &'static str,
    pub(super) issuer: &'static str,
    policy: &'static str,
    status: &'static str,
    days: &'static str,
    targets: Vec<String>,
}

/// Id, name, names (the first is the common name), owner, team, issuer, policy, state, days to the end, targets.
const CERTIFICATES: &str = "
    mc-api-prod      | api-production       | api.example.com, api-v2.example.com | o-alice | t-platform | iss-local | rp-standard | Active | 75 | nginx-prod, haproxy-prod
    mc-web-prod      | web-production       | www.example.com, example.com | o-dave | t-frontend | iss-local | rp-standard | Active | 60 | nginx-prod, haproxy-prod
    mc-pay-prod      | payments-production  | pay.example.com, checkout.example.com | o-carol | t-payments | iss-local | rp-urgent | Active | 40 | nginx-prod, haproxy-prod
    mc-dash-prod     | dashboard-production | dashboard.example.com | o-dave | t-frontend | iss-local | rp-standard | Active | 82 | nginx-prod
    mc-data-prod     | data-api-production  | data.example.com, analytics.example.com | o-eve | t-data | iss-local | rp-standard | Active | 55 | nginx-data
    mc-search-prod   | search-production    | search.example.com, es.example.com | o-eve | t-data | iss-local | rp-standard | Active | 68 | nginx-data
    mc-admin-prod    | admin-production     | admin.example.com | o-bob | t-security | iss-local | rp-urgent | Active | 35 | nginx-prod
    mc-blog-prod     | blog-production      | blog.example.com | o-dave | t-frontend | iss-acme-le | rp-standard | Active | 52 | nginx-prod
    mc-docs-prod     | docs-production      | docs.example.com, help.example.com | o-dave | t-frontend | iss-acme-le | rp-standard | Active | 47 | nginx-prod
    mc-status-prod   | status-production    | status.example.com | o-frank | t-devops | iss-acme-le | rp-standard | Active | 71 | nginx-prod
    mc-grpc-prod     | grpc-internal        | grpc.internal.example.com | o-alice | t-platform | iss-stepca | rp-standard | Active | 58 | nginx-prod
    mc-vault-prod    | vault-internal       | vault.internal.example.com | o-bob | t-security | iss-stepca | rp-urgent | Active | 35 | nginx-prod
    mc-consul-prod   | consul-internal      | consul.internal.example.com | o-alice | t-platform | iss-stepca | rp-standard | Active | 63 |
    mc-shop-prod     | shop-production      | shop.example.com, store.example.com | o-carol | t-payments | iss-acme-zs | rp-urgent | Active | 44 | nginx-prod, haproxy-prod
    mc-auth-prod     | auth-production      | auth.example.com, login.example.com, sso.example.com | o-bob | t-security | iss-local | rp-urgent | Expiring | 32 | nginx-prod, haproxy-prod
    mc-cdn-prod      | cdn-production       | cdn.example.com, static.example.com | o-alice | t-platform | iss-local | rp-standard | Expiring | 34 | haproxy-prod
    mc-mail-prod     | mail-production      | mail.example.com, smtp.example.com | o-bob | t-security | iss-local | rp-standard | Expiring | 33 | nginx-prod
    mc-ci-prod       | ci-production        | ci.example.com, jenkins.example.com | o-frank | t-devops | iss-acme-le | rp-standard | Expiring | 38 | nginx-prod
    mc-legacy-prod   | legacy-app           | legacy.example.com | o-alice | t-platform | iss-local | rp-manual | Expired | -3 | iis-prod
    mc-old-api       | old-api-v1           | api-v1.example.com | o-alice | t-platform | iss-local | rp-manual | Expired | -15 |
    mc-wiki-prod     | wiki-production      | wiki.example.com | o-dave | t-frontend | iss-acme-le | rp-manual | Expired | -7 |
    mc-api-stg       | api-staging          | api.staging.example.com | o-alice | t-platform | iss-local | rp-standard | Active | 65 | nginx-staging
    mc-web-stg       | web-staging          | www.staging.example.com, staging.example.com | o-dave | t-frontend | iss-local | rp-standard | Active | 70 | nginx-staging
    mc-pay-stg       | payments-staging     | pay.staging.example.com | o-carol | t-payments | iss-local | rp-standard | Active | 72 | nginx-staging
    mc-api-dev       | api-development      | api.dev.example.com | o-alice | t-platform | iss-local | rp-standard | Active | 85 |
    mc-grafana-prod  | grafana-production   | grafana.example.com, metrics.example.com | o-eve | t-data | iss-local | rp-standard | RenewalInProgress | 33 | nginx-data
    mc-vpn-prod      | vpn-production       | vpn.example.com | o-bob | t-security | iss-acme-le | rp-urgent | Failed | 32 | haproxy-prod
    mc-wildcard-prod | wildcard-production  | *.example.com, example.com | o-alice | t-platform | iss-acme-le | rp-standard | Active | 50 | nginx-prod, haproxy-prod, nginx-staging
    mc-compromised   | compromised-cert     | old-service.example.com | o-bob | t-security | iss-local | rp-standard | Revoked | 45 | nginx-prod
    mc-edge-eu       | edge-eu-production   | eu.cdn.example.com, eu-assets.example.com | o-alice | t-platform | iss-acme-le | rp-standard | Active | 61 | caddy-prod
    mc-k8s-ingress   | k8s-ingress          | ingress.example.com, app.example.com | o-frank | t-devops | iss-acme-le | rp-standard | Active | 56 | traefik-prod
    mc-smime-bob     | bob-email-signing    | bob@example.com | o-bob | t-security | iss-local | rp-standard | Active | 300 |
";

/// Id, certificate, how many days it ends before the latest one. The last two digits of its serial number are its place.
const VERSIONS: &str = "
    cv-api-v3         | mc-api-prod      | 0
    cv-api-v2         | mc-api-prod      | 60
    cv-web-v2         | mc-web-prod      | 0
    cv-pay-v4         | mc-pay-prod      | 0
    cv-auth-v5        | mc-auth-prod     | 0
    cv-dash-v1        | mc-dash-prod     | 0
    cv-data-v2        | mc-data-prod     | 0
    cv-cdn-v3         | mc-cdn-prod      | 0
    cv-mail-v2        | mc-mail-prod     | 0
    cv-blog-v2        | mc-blog-prod     | 0
    cv-docs-v1        | mc-docs-prod     | 0
    cv-status-v1      | mc-status-prod   | 0
    cv-wildcard-v3    | mc-wildcard-prod | 0
    cv-edge-v1        | mc-edge-eu       | 0
    cv-k8s-v2         | mc-k8s-ingress   | 0
    cv-compromised-v1 | mc-compromised   | 0
";

/// The life of every version in days.
const LIFE: u32 = 90;
/// How long ago the compromised one was revoked, in days.
pub(super) const REVOKED_AGO: u32 = 14;
const COMPROMISED: &str = "mc-compromised";
/// What the windows of the policies are; the one that renews nothing has one, too.
const WINDOW_OF_URGENT: u32 = 14;
const WINDOW: u32 = 30;

pub(super) fn all() -> Vec<Line> {
    lines(CERTIFICATES)
        .map(
            |[
                id,
                name,
                sans,
                owner,
                team,
                issuer,
                policy,
                status,
                days,
                targets,
            ]| Line {
                id,
                name,
                sans: list(sans),
                owner,
                team,
                issuer,
                policy,
                status,
                days,
                targets: list(targets)
                    .iter()
                    .map(|name| format!("tgt-{name}"))
                    .collect(),
            },
        )
        .collect()
}

impl Line {
    fn ends(&self, now: Timestamp) -> Timestamp {
        days_from(now, self.days)
    }

    fn environment(&self) -> &'static str {
        if self.id.ends_with("-stg") {
            "staging"
        } else if self.id.ends_with("-dev") {
            "development"
        } else {
            "production"
        }
    }

    fn renew_at(&self, now: Timestamp) -> Timestamp {
        let window = if self.policy == "rp-urgent" {
            WINDOW_OF_URGENT
        } else {
            WINDOW
        };
        self.ends(now) - window * DAY
    }
}

pub(super) fn planned(now: Timestamp) -> Vec<PlannedVersion> {
    let certificates = all();
    lines(VERSIONS)
        .enumerate()
        .map(|(place, [id, certificate, days_before])| {
            let of = certificates
                .iter()
                .find(|one| one.id == certificate)
                .expect("a version of the table is of a certificate of the table");
            let not_after = of.ends(now) - days_before.parse::<u32>().unwrap_or(0) * DAY;
            let serial = format!("0A:1B:2C:3D:4E:5F:00:{:02X}", place + 1);
            PlannedVersion {
                id: id.to_owned(),
                common_name: of.sans.first().cloned().unwrap_or_default(),
                sans: of.sans.clone(),
                serial_number: SerialNumber::parse(&serial).expect("eight octets of hex"),
                not_before: not_after - LIFE * DAY,
                not_after,
            }
        })
        .collect()
}

pub(super) fn write(sql: &mut Sql, now: Timestamp, versions: &[SignedVersion]) {
    let certificates = all();
    let rows: Vec<_> = certificates
        .iter()
        .map(|one| certificate(one, now))
        .collect();
    sql.insert(
        "managed_certificates (id, name, common_name, sans, environment, owner_id, team_id, issuer_id, renewal_policy_id, status, \
         expires_at, renew_at, last_renewal_at, last_deployment_at, revoked_at, revocation_reason, created_at, updated_at)",
        &rows,
    );
    let mappings: Vec<_> = certificates
        .iter()
        .flat_map(|one| {
            one.targets
                .iter()
                .map(|target| row![one.id, target.as_str()])
        })
        .collect();
    sql.insert(
        "certificate_target_mappings (certificate_id, target_id)",
        &mappings,
    );
    let rows: Vec<_> = lines(VERSIONS)
        .filter_map(|[id, certificate, _]| {
            let signed = versions.iter().find(|one| one.planned.id == id)?;
            let issuer = certificates
                .iter()
                .find(|one| one.id == certificate)?
                .issuer;
            let planned = &signed.planned;
            Some(row![
                id,
                certificate,
                issuer,
                planned.serial_number.as_str(),
                planned.not_before,
                planned.not_after,
                signed.fingerprint_sha256.as_str(),
                signed.pem_chain.as_str(),
                "ECDSA",
                256,
                planned.not_before
            ])
        })
        .collect();
    sql.insert(
        "certificate_versions (id, certificate_id, issuer_id, serial_number, not_before, not_after, fingerprint_sha256, pem_chain, \
         key_algorithm, key_size, created_at)",
        &rows,
    );
    revocation(sql, now, versions);
}

fn certificate(one: &Line, now: Timestamp) -> Vec<super::super::sql::Cell> {
    let issued = one.ends(now) - LIFE * DAY;
    let revoked = (one.id == COMPROMISED).then(|| now - REVOKED_AGO * DAY);
    // The mailbox is issued for longer than anything else; it was not issued in time to come.
    let issued = issued.min(now - DAY);
    row![
        one.id,
        one.name,
        one.sans.first().cloned(),
        one.sans.clone(),
        one.environment(),
        one.owner,
        one.team,
        one.issuer,
        one.policy,
        one.status,
        one.ends(now),
        one.renew_at(now),
        issued,
        (!one.targets.is_empty()).then_some(issued),
        revoked,
        revoked.map(|_| "keyCompromise"),
        issued.min(now - 120 * DAY),
        revoked.unwrap_or(issued)
    ]
}

fn revocation(sql: &mut Sql, now: Timestamp, versions: &[SignedVersion]) {
    let serial = versions
        .iter()
        .find(|one| one.planned.id == "cv-compromised-v1")
        .map(|one| one.planned.serial_number.as_str().to_owned());
    let Some(serial) = serial else { return };
    let at = now - REVOKED_AGO * DAY;
    sql.insert(
        "certificate_revocations (id, certificate_id, issuer_id, serial_number, reason, revoked_by, revoked_at, issuer_notified, created_at)",
        &[row!["cr-compro-01", COMPROMISED, "iss-local", serial, "keyCompromise", "o-bob", at, true, at]],
    );
}
