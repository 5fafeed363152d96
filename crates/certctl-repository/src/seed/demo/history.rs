//! What happened: jobs, violations, notifications, and the audit rows of all of it.

use certctl_domain::time::Timestamp;
use serde_json::{Value, json};

use super::{super::sql::Cell, HOUR, Sql, certificates, days_from, lines};

/// Id, type, certificate, target, agent, state, days from now. Those of agents are deployments.
const JOBS: &str = "
    job-iss-001 | Issuance   | mc-api-prod      |  |  | Completed | -75
    job-iss-002 | Issuance   | mc-dash-prod     |  |  | Completed | -8
    job-iss-003 | Issuance   | mc-docs-prod     |  |  | Completed | -43
    job-iss-004 | Issuance   | mc-status-prod   |  |  | Completed | -19
    job-iss-005 | Issuance   | mc-edge-eu       |  |  | Completed | -29
    job-ren-001 | Renewal    | mc-api-prod      |  |  | Completed | -15
    job-ren-002 | Renewal    | mc-web-prod      |  |  | Completed | -30
    job-ren-003 | Renewal    | mc-pay-prod      |  |  | Completed | -50
    job-ren-004 | Renewal    | mc-auth-prod     |  |  | Completed | -58
    job-ren-005 | Renewal    | mc-data-prod     |  |  | Completed | -35
    job-ren-006 | Renewal    | mc-cdn-prod      |  |  | Completed | -56
    job-ren-007 | Renewal    | mc-mail-prod     |  |  | Completed | -57
    job-ren-008 | Renewal    | mc-blog-prod     |  |  | Completed | -38
    job-ren-009 | Renewal    | mc-wildcard-prod |  |  | Completed | -40
    job-ren-010 | Renewal    | mc-k8s-ingress   |  |  | Completed | -34
    job-ren-011 | Renewal    | mc-search-prod   |  |  | Completed | -22
    job-ren-012 | Renewal    | mc-grpc-prod     |  |  | Completed | -32
    job-ren-013 | Renewal    | mc-shop-prod     |  |  | Completed | -46
    job-ren-014 | Renewal    | mc-vault-prod    |  |  | Completed | -55
    job-ren-140 | Renewal    | mc-vpn-prod      |  |  | Failed    | -1
    job-ren-150 | Renewal    | mc-grafana-prod  |  |  | Running   | -0.02
    job-dep-001 | Deployment | mc-api-prod      | tgt-nginx-prod    | ag-web-prod    | Completed | -15
    job-dep-002 | Deployment | mc-api-prod      | tgt-haproxy-prod  | ag-lb-prod     | Completed | -15
    job-dep-003 | Deployment | mc-web-prod      | tgt-nginx-prod    | ag-web-prod    | Completed | -30
    job-dep-004 | Deployment | mc-web-prod      | tgt-haproxy-prod  | ag-lb-prod     | Completed | -30
    job-dep-005 | Deployment | mc-pay-prod      | tgt-nginx-prod    | ag-web-prod    | Completed | -50
    job-dep-006 | Deployment | mc-pay-prod      | tgt-haproxy-prod  | ag-lb-prod     | Completed | -50
    job-dep-007 | Deployment | mc-auth-prod     | tgt-nginx-prod    | ag-web-prod    | Completed | -58
    job-dep-008 | Deployment | mc-data-prod     | tgt-nginx-data    | ag-data-prod   | Completed | -35
    job-dep-009 | Deployment | mc-cdn-prod      | tgt-haproxy-prod  | ag-lb-prod     | Completed | -56
    job-dep-010 | Deployment | mc-mail-prod     | tgt-nginx-prod    | ag-web-prod    | Completed | -57
    job-dep-011 | Deployment | mc-blog-prod     | tgt-nginx-prod    | ag-web-prod    | Completed | -38
    job-dep-012 | Deployment | mc-wildcard-prod | tgt-nginx-prod    | ag-web-prod    | Completed | -40
    job-dep-013 | Deployment | mc-wildcard-prod | tgt-nginx-staging | ag-web-staging | Completed | -40
    job-dep-014 | Deployment | mc-k8s-ingress   | tgt-traefik-prod  | ag-k8s-prod    | Completed | -34
    job-dep-015 | Deployment | mc-search-prod   | tgt-nginx-data    | ag-data-prod   | Completed | -22
    job-dep-016 | Deployment | mc-edge-eu       | tgt-caddy-prod    | ag-edge-01     | Completed | -29
    job-dep-017 | Deployment | mc-shop-prod     | tgt-haproxy-prod  | ag-lb-prod     | Completed | -46
    job-dep-018 | Deployment | mc-dash-prod     | tgt-nginx-prod    | ag-web-prod    | Completed | -8
    job-dep-019 | Deployment | mc-web-stg       | tgt-nginx-staging | ag-web-staging | Completed | -20
    job-dep-020 | Deployment | mc-legacy-prod   | tgt-iis-prod      | ag-iis-prod    | Failed    | -2
    job-val-001 | Validation | mc-api-prod      | tgt-nginx-prod    |                | Completed | -14.9
    job-approval-01 | Renewal | mc-auth-prod    |  |  | AwaitingApproval | -0.1
    job-approval-02 | Renewal | mc-pay-prod     |  |  | AwaitingApproval | -0.2
";

/// Id, certificate, rule, severity, days from now, what is wrong.
const VIOLATIONS: &str = "
    pv-001 | mc-smime-bob   | pr-max-certificate-lifetime | Critical | -60 | ends in more than 90 days
    pv-002 | mc-legacy-prod | pr-min-renewal-window       | Warning  | -17 | ends within 14 days and is not renewed by itself
    pv-003 | mc-old-api     | pr-min-renewal-window       | Warning  | -29 | ends within 14 days and is not renewed by itself
    pv-004 | mc-wiki-prod   | pr-min-renewal-window       | Warning  | -21 | ends within 14 days and is not renewed by itself
    pv-005 | mc-api-dev     | pr-require-owner            | Warning  | -5  | was made without an owner, who was named later
    pv-006 | mc-web-stg     | pr-allowed-environments     | Error    | -20 | was asked for with the environment stage
";

/// Id, type, certificate, recipient, days from now, what is said after the name, what it is told once for.
const NOTIFICATIONS: &str = "
    ne-001 | ExpirationWarning | mc-legacy-prod   | alice@example.com | -3  | has expired [threshold:0] | expiry:mc-legacy-prod:0:Email
    ne-002 | ExpirationWarning | mc-old-api       | alice@example.com | -15 | has expired [threshold:0] | expiry:mc-old-api:0:Email
    ne-003 | ExpirationWarning | mc-wiki-prod     | dave@example.com  | -7  | has expired [threshold:0] | expiry:mc-wiki-prod:0:Email
    ne-004 | RenewalSuccess    | mc-api-prod      | alice@example.com | -15 | was issued anew | renewed:cv-api-v3
    ne-005 | RenewalSuccess    | mc-web-prod      | dave@example.com  | -30 | was issued anew | renewed:cv-web-v2
    ne-006 | RenewalSuccess    | mc-pay-prod      | carol@example.com | -50 | was issued anew | renewed:cv-pay-v4
    ne-007 | RenewalSuccess    | mc-auth-prod     | bob@example.com   | -58 | was issued anew | renewed:cv-auth-v5
    ne-008 | RenewalSuccess    | mc-wildcard-prod | alice@example.com | -40 | was issued anew | renewed:cv-wildcard-v3
    ne-009 | RenewalFailure    | mc-vpn-prod      | bob@example.com   | -1  | could not be renewed: the challenge was not answered | renewal-failed:job-ren-140
    ne-010 | DeploymentSuccess | mc-api-prod      | alice@example.com | -15 | was deployed to tgt-nginx-prod | deployed:job-dep-001
    ne-011 | DeploymentSuccess | mc-edge-eu       | alice@example.com | -29 | was deployed to tgt-caddy-prod | deployed:job-dep-016
    ne-012 | DeploymentFailure | mc-legacy-prod   | alice@example.com | -2  | could not be deployed to tgt-iis-prod: the agent fell silent | deployment-failed:job-dep-020
    ne-013 | Revocation        | mc-compromised   | bob@example.com   | -14 | was revoked (keyCompromise) | revoked:mc-compromised
    ne-014 | PolicyViolation   | mc-smime-bob     | bob@example.com   | -60 | ends in more than 90 days | violation:pv-001
    ne-041 | PolicyViolation   | mc-web-stg       | dave@example.com  | -20 | was asked for with the environment stage | violation:pv-006
";

/// The last audit row's number: what came between was not kept for the demo.
const LAST_AUDIT: &str = "audit-102";

pub(super) fn write(sql: &mut Sql, now: Timestamp) {
    let rows: Vec<_> = lines(JOBS).map(|line| job(line, now)).collect();
    sql.insert(
        "jobs (id, type, certificate_id, target_id, agent_id, status, attempts, max_attempts, last_error, scheduled_at, started_at, \
         completed_at, created_at, status_changed_at, verification_status)",
        &rows,
    );
    let rows: Vec<_> = lines(VIOLATIONS)
        .map(|[id, certificate, rule, severity, days, message]| {
            row![
                id,
                certificate,
                rule,
                format!("{certificate} {message}"),
                severity,
                days_from(now, days)
            ]
        })
        .collect();
    sql.insert(
        "policy_violations (id, certificate_id, rule_id, message, severity, created_at)",
        &rows,
    );
    let rows: Vec<_> = lines(NOTIFICATIONS)
        .map(|[id, kind, certificate, recipient, days, message, key]| {
            let at = days_from(now, days);
            let message = format!("Certificate {certificate} {message}");
            row![
                id,
                kind,
                certificate,
                "Email",
                recipient,
                message,
                at,
                "sent",
                key,
                at
            ]
        })
        .collect();
    sql.insert(
        "notification_events (id, type, certificate_id, channel, recipient, message, sent_at, status, dedupe_key, created_at)",
        &rows,
    );
    let columns = "id, actor, actor_type, action, resource_type, resource_id, details, timestamp, event_category";
    sql.insert_unseen("audit_events", columns, &audit(now));
}

fn job(
    [id, kind, certificate, target, agent, status, days]: [&'static str; 7],
    now: Timestamp,
) -> Vec<Cell> {
    let at = days_from(now, days);
    let given = |text: &'static str| (!text.is_empty()).then_some(text);
    let (attempts, last_error) = match status {
        "Failed" if agent.is_empty() => (5, Some("the challenge was not answered")),
        "Failed" => (3, Some("the agent fell silent")),
        "AwaitingApproval" => (0, None),
        _ => (1, None),
    };
    let ended = matches!(status, "Completed" | "Failed").then_some(at);
    let started = (status != "AwaitingApproval").then_some(at);
    let verified = if kind == "Deployment" && status == "Completed" {
        "success"
    } else {
        "pending"
    };
    // As many as it took, or as a job has by default: a failed one has none left, and is not tried again.
    let max_attempts = attempts.max(if status == "Failed" { 1 } else { 3 });
    row![
        id,
        kind,
        certificate,
        given(target),
        given(agent),
        status,
        attempts,
        max_attempts,
        last_error,
        at,
        started,
        ended,
        at,
        at,
        verified
    ]
}

/// Something that was recorded.
struct Recorded {
    at: Timestamp,
    actor: &'static str,
    kind: &'static str,
    action: &'static str,
    resource: (&'static str, &'static str),
    details: Value,
}

/// The audit rows of what the tables tell, oldest first.
fn audit(now: Timestamp) -> Vec<Vec<Cell>> {
    let mut all = of_jobs(now);
    all.extend(
        lines(VIOLATIONS).map(|[id, certificate, rule, severity, days, _]| Recorded {
            at: days_from(now, days),
            actor: "system",
            kind: "System",
            action: "policy_violation_detected",
            resource: ("certificate", certificate),
            details: json!({"violation_id": id, "rule_id": rule, "severity": severity}),
        }),
    );
    for (place, agent) in ["ag-web-prod", "ag-lb-prod", "ag-data-prod", "ag-edge-01"]
        .into_iter()
        .enumerate()
    {
        all.push(Recorded {
            at: days_from(now, "-150") + HOUR * u32::try_from(place).unwrap_or(0),
            actor: "system",
            kind: "System",
            action: "agent_registered",
            resource: ("agent", agent),
            details: json!({}),
        });
    }
    all.push(Recorded {
        at: now - certificates::REVOKED_AGO * super::DAY,
        actor: "o-bob",
        kind: "User",
        action: "certificate_revoked",
        resource: ("certificate", "mc-compromised"),
        details: json!({"reason": "keyCompromise", "issuer_id": "iss-local"}),
    });
    all.sort_by_key(|one| one.at);
    let last = all.len().saturating_sub(1);
    all.into_iter()
        .enumerate()
        .map(|(place, one)| {
            let id = if place == last {
                LAST_AUDIT.to_owned()
            } else {
                format!("audit-{:03}", place + 1)
            };
            row![
                id,
                one.actor,
                one.kind,
                one.action,
                one.resource.0,
                one.resource.1,
                one.details,
                one.at,
                "cert_lifecycle"
            ]
        })
        .collect()
}

/// One row for each job that ended or waits for a second person, none for what runs or was only looked at.
fn of_jobs(now: Timestamp) -> Vec<Recorded> {
    lines(JOBS)
        .filter_map(|[id, kind, certificate, _, agent, status, days]| {
            let (actor, actor_kind) = if agent.is_empty() {
                ("system", "System")
            } else {
                (agent, "Agent")
            };
            let action = match (kind, status) {
                ("Renewal", "Completed") => "renewal_job_completed",
                ("Renewal", "Failed") => "renewal_job_failed",
                ("Renewal", "AwaitingApproval") => "approval_requested",
                ("Issuance", _) => "certificate_created",
                ("Deployment", "Completed") => "deployment_job_completed",
                ("Deployment", _) => "deployment_job_failed",
                _ => return None,
            };
            Some(Recorded {
                at: days_from(now, days),
                actor,
                kind: actor_kind,
                action,
                resource: if kind == "Issuance" {
                    ("certificate", certificate)
                } else {
                    ("job", id)
                },
                details: json!({"certificate_id": certificate}),
            })
        })
        .collect()
}
