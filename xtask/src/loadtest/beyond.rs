//! What is made before, and looked at after, the scenarios beyond the usual ones.

use std::fs;

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};
use ureq::http::Method;

use super::checks::{Checked, Outcome, rows};
use super::driver::Variables;
use super::requests;
use super::suite::Shape;
use super::world::World;
use crate::stack::api::{Api, text};
use crate::stack::random;

/// Orders of [`acme_signed`], a second.
const ORDERS_PER_SECOND: f64 = 50.0;
/// The orders of the scenario that runs into the limit.
const LIMITED_ORDERS: usize = 150;
/// Renewals that are offered to the agents, a second.
const RENEWALS_PER_SECOND: f64 = 20.0;
const AGENTS: f64 = 500.0;
/// The key of an agent is this and its number.
pub(super) const TOKEN_PREFIX: &str = "loadtest-agent-token-";

/// How many a rate makes in a run, with some to spare: the last iteration may begin right at the end.
fn in_all(per_second: f64, shape: &Shape) -> usize {
    (per_second * shape.scale * (shape.seconds as f64)).ceil() as usize + 5
}

fn hand_over(world: &World, variables: &mut Variables, variable: &str, what: &Value) -> Result<()> {
    let file = world
        .home
        .private_folder("prepared")?
        .join(format!("{variable}.json"));
    fs::write(&file, what.to_string())
        .with_context(|| format!("cannot write {}", file.display()))?;
    variables.insert(variable.to_owned(), file.display().to_string());
    Ok(())
}

/// A signing request for each order.
pub(super) fn prepare_orders(
    world: &World,
    variables: &mut Variables,
    shape: &Shape,
) -> Result<()> {
    let number = in_all(ORDERS_PER_SECOND, shape).max(LIMITED_ORDERS);
    let names = (0..number).map(|number| format!("load-{number:06}.acme.example.test"));
    hand_over(
        world,
        variables,
        "LOADTEST_REQUESTS",
        &requests::make(names)?,
    )
}

const OF_ACME: &str = "certificate_id IN (SELECT id FROM managed_certificates WHERE common_name LIKE 'load-%.acme.example.test')";

/// What was issued is stored, each with a serial number of its own.
pub(super) fn acme_signed(world: &World, outcome: &Outcome<'_>) -> Result<Vec<Checked>> {
    let issued = outcome.counted("acme_issued");
    let stored = rows(
        world,
        &format!("SELECT count(*) FROM certificate_versions WHERE {OF_ACME}"),
    )?;
    let serials = rows(
        world,
        &format!("SELECT count(DISTINCT serial_number) FROM certificate_versions WHERE {OF_ACME}"),
    )?;
    let orders = rows(
        world,
        "SELECT count(*) FROM acme_orders WHERE status = 'valid'",
    )?;
    Ok(vec![
        Checked::equal(
            "rows changed: versions stored for the certificates issued",
            stored,
            issued,
        ),
        Checked::equal("rows changed: serial numbers", serials, issued),
        Checked::equal("rows changed: orders that are valid", orders, issued),
        Checked::told("commits for each order", outcome.commits / issued.max(1.0)),
    ])
}

/// Orders that were refused are not stored.
pub(super) fn acme_ratelimit(world: &World, outcome: &Outcome<'_>) -> Result<Vec<Checked>> {
    let orders = rows(world, "SELECT count(*) FROM acme_orders")?;
    Ok(vec![Checked::equal(
        "rows changed: orders",
        orders,
        outcome.counted("acme_orders_accepted"),
    )])
}

/// Each renewal was done exactly once.
pub(super) fn drain(world: &World, outcome: &Outcome<'_>) -> Result<Vec<Checked>> {
    const FIXTURE: f64 = 10_000.0;
    /// The aim for a server that is optimised, on two processors.
    const AIM: f64 = 2000.0;
    let of = "type = 'Renewal' AND certificate_id LIKE 'cert-loadtest-bulk-%'";
    let versions = "FROM certificate_versions WHERE certificate_id LIKE 'cert-loadtest-bulk-%'";
    let store = world.store()?;
    let (started, completed) = (store.micros("started_at"), store.micros("completed_at"));
    let micros = rows(
        world,
        &format!("SELECT COALESCE(max({completed}) - min({started}), 0) FROM jobs WHERE {of}"),
    )?;
    let done = rows(
        world,
        &format!("SELECT count(*) FROM jobs WHERE {of} AND status = 'Completed'"),
    )?;
    let rate = done / (micros / 1_000_000.0).max(0.001);
    let mut checked = vec![
        Checked::equal("rows changed: renewals completed", done, FIXTURE),
        Checked::equal(
            "renewals taken up twice",
            rows(
                world,
                &format!("SELECT count(*) FROM jobs WHERE {of} AND attempts > 1"),
            )?,
            0.0,
        ),
        Checked::equal(
            "rows changed: versions stored",
            rows(world, &format!("SELECT count(*) {versions}"))?,
            FIXTURE,
        ),
        Checked::equal(
            "serial numbers",
            rows(
                world,
                &format!("SELECT count(DISTINCT serial_number) {versions}"),
            )?,
            FIXTURE,
        ),
        Checked::told(
            "seconds from the first claim to the last completion",
            micros / 1_000_000.0,
        ),
        Checked::told("commits for each job", outcome.commits / done.max(1.0)),
    ];
    checked.push(if outcome.is_optimised {
        Checked::at_least("jobs per second", rate, AIM)
    } else {
        Checked::told("jobs per second (not optimised)", rate)
    });
    Ok(checked)
}

/// Every slice made its jobs.
pub(super) fn sustained(world: &World, outcome: &Outcome<'_>) -> Result<Vec<Checked>> {
    let jobs = rows(
        world,
        "SELECT count(*) FROM jobs WHERE certificate_id LIKE 'cert-loadtest-large-%'",
    )?;
    let whole = rows(
        world,
        "SELECT count(*) FROM jobs WHERE certificate_id LIKE 'cert-loadtest-bulk-%'",
    )?;
    Ok(vec![
        Checked::equal(
            "rows changed: renewals of the slices",
            jobs,
            outcome.counted("bulk_sliced"),
        ),
        Checked::equal("rows changed: renewals of the last call", whole, 10_000.0),
    ])
}

/// Gives the agents of the fixture keys of their own.
pub(super) fn prepare_tokens(
    world: &World,
    variables: &mut Variables,
    shape: &Shape,
) -> Result<()> {
    const FLEET: usize = 5000;
    let values: Vec<String> = (1..=FLEET)
        .map(|number| {
            format!(
                "('ag-loadtest-{number:05}', '{}')",
                hash(&format!("{TOKEN_PREFIX}{number:05}"))
            )
        })
        .collect();
    let store = world.store()?;
    store.query(&format!(
        "WITH keys(id, hash) AS (VALUES {}) UPDATE agents SET api_key_hash = (SELECT hash FROM keys WHERE keys.id = agents.id) \
         WHERE id IN (SELECT id FROM keys)",
        values.join(", ")
    ))?;
    // A registration would have given it to them.
    store.query(&format!(
        "INSERT INTO actor_roles (id, actor_id, actor_type, role_id, granted_at) \
         SELECT 'grant-' || id, id, 'Agent', 'r-agent', {} FROM agents WHERE id LIKE 'ag-loadtest-%'",
        store.present()
    ))?;
    for (name, value) in [
        (
            "K6_AGENT_RATE",
            if shape.is_optimised { "2000" } else { "500" },
        ),
        ("K6_AGENT_VUS", "800"),
        ("K6_AGENT_WARM_VUS", "800"),
        ("K6_AGENT_MAX_VUS", "1000"),
        ("K6_AGENT_TOKEN_PREFIX", TOKEN_PREFIX),
        ("LOADTEST_SUMMARY", "agent-flood"),
    ] {
        variables.insert(name.to_owned(), value.to_owned());
    }
    Ok(())
}

fn hash(token: &str) -> String {
    random::hex(ring::digest::digest(&ring::digest::SHA256, token.as_bytes()).as_ref())
}

/// Fewer clients where the server is not optimised.
pub(super) fn prepare_burst(_: &World, variables: &mut Variables, shape: &Shape) -> Result<()> {
    if !shape.is_optimised {
        variables.insert("K6_ACME_VUS".to_owned(), "50".to_owned());
    }
    Ok(())
}

/// A rush that is more than the limit also where the server is not optimised, and not more than its handshakes.
pub(super) fn prepare_rush(_: &World, variables: &mut Variables, shape: &Shape) -> Result<()> {
    if !shape.is_optimised {
        variables.insert("K6_RUSH_RATE".to_owned(), "200".to_owned());
    }
    Ok(())
}

/// As the storm, and what it costs.
pub(super) fn flood(world: &World, outcome: &Outcome<'_>) -> Result<Vec<Checked>> {
    let mut checked = super::checks::heartbeats(world, outcome)?;
    let sent = outcome.metric("iterations{scenario:agent_storm}", "count")?;
    // Unoptimised programs are asked for fewer, and flushes go by the clock.
    if outcome.is_optimised {
        checked.push(Checked::at_most(
            "commits for each 1,000 heartbeats at this rate",
            1000.0 * outcome.commits / sent.max(1.0),
            5.0,
        ));
    }
    Ok(checked)
}

/// Agents, a target for each, certificates for all targets, and a signing request for each certificate.
pub(super) fn prepare_loop(world: &World, variables: &mut Variables, shape: &Shape) -> Result<()> {
    let agents =
        ((AGENTS * shape.scale * (shape.seconds as f64 / 300.0).min(1.0)).round() as usize).max(20);
    let registered = register(world, agents)?;
    let certificates = in_all(RENEWALS_PER_SECOND, shape);
    let id = |number: usize| format!("cert-loadtest-loop-{number:06}");
    let name = |number: usize| format!("loadtest-loop-{number:06}.example.test");
    let sans = |number: usize| match world.database.cluster() {
        Some(_) => format!("ARRAY['{}']", name(number)),
        None => format!("'[\"{}\"]'", name(number)),
    };
    let store = world.store()?;
    let now = store.present();
    let rows: Vec<String> = (0..certificates)
        .map(|number| {
            let (id, name, sans) = (id(number), name(number), sans(number));
            format!(
                "('{id}', '{name}', '{name}', {sans}, 'loadtest', 'o-alice', 't-platform', 'iss-local', 'rp-standard', {now}, {now})"
            )
        })
        .collect();
    let mapped: Vec<String> = (0..certificates)
        .map(|number| {
            format!(
                "('{}', 'tgt-loadtest-loop-{:04}')",
                id(number),
                number % agents
            )
        })
        .collect();
    store.query(&format!(
        "INSERT INTO managed_certificates (id, name, common_name, sans, environment, owner_id, team_id, issuer_id, renewal_policy_id, \
            created_at, updated_at) VALUES {}; \
         INSERT INTO certificate_target_mappings (certificate_id, target_id) VALUES {};",
        rows.join(", "),
        mapped.join(", ")
    ))?;
    hand_over(
        world,
        variables,
        "LOADTEST_AGENTS",
        &Value::Array(registered),
    )?;
    hand_over(
        world,
        variables,
        "LOADTEST_REQUESTS",
        &requests::make((0..certificates).map(name))?,
    )?;
    let poll = (shape.seconds / 10).clamp(1, 30);
    variables.insert("K6_POLL_SECONDS".to_owned(), poll.to_string());
    Ok(())
}

/// Registers agents as agents do, and gives each a target.
fn register(world: &World, number: usize) -> Result<Vec<Value>> {
    let registrar = Api::new(
        &world.server.url(),
        &world.server.root(),
        world.server.bootstrap_token(),
    )?;
    let api = world.api()?;
    (0..number)
        .map(|number| {
            let body = json!({
                "name": format!("loadtest-loop-{number:04}"), "hostname": format!("loop-{number:04}.example.test"),
                "os": "linux", "architecture": "amd64", "version": "2.1.0",
            });
            let answer = registrar.send(Method::POST, "/api/v1/agents", Some(&body))?;
            ensure!(answer.status == 201, "an agent is refused with {}: {}", answer.status, answer.text);
            let agent: Value = serde_json::from_str(&answer.text)?;
            let id = text(&agent, "id")?;
            let target = json!({
                "id": format!("tgt-loadtest-loop-{number:04}"), "name": format!("loop-{number:04}"), "type": "NGINX", "agent_id": id,
                "config": {
                    "cert_path": "/srv/tls/site.pem", "key_path": "/srv/tls/site.key",
                    "validate_command": "nginx -t", "reload_command": "nginx -s reload",
                },
            });
            api.post("/api/v1/targets", &target)?;
            Ok(json!({"id": id, "key": text(&agent, "api_key")?}))
        })
        .collect()
}

/// Every renewal that was asked for ended as exactly one deployment, within the time that polling takes.
pub(super) fn agent_loop(world: &World, outcome: &Outcome<'_>) -> Result<Vec<Checked>> {
    let asked = outcome.metric("iterations{scenario:renewals}", "count")?;
    let of = "certificate_id LIKE 'cert-loadtest-loop-%'";
    let count = |what: &str| {
        rows(
            world,
            &format!("SELECT count(*) FROM jobs WHERE {of} AND {what}"),
        )
    };
    let store = world.store()?;
    let (completed, created) = (store.micros("d.completed_at"), store.micros("r.created_at"));
    let times = store.query(&format!(
        "SELECT {completed} - {created} FROM jobs d JOIN jobs r ON r.certificate_id = d.certificate_id AND r.type IN ('Renewal', 'Issuance') \
         WHERE d.{of} AND d.type = 'Deployment' AND d.status = 'Completed' ORDER BY 1"
    ))?;
    let times: Vec<f64> = times
        .lines()
        .filter_map(|line| line.trim().parse::<f64>().ok())
        .collect();
    let at = |share: f64| {
        times
            .get(((times.len().max(1) - 1) as f64 * share) as usize)
            .map_or(f64::NAN, |micros| micros / 1_000_000.0)
    };
    Ok(vec![
        Checked::equal(
            "rows changed: deployments completed",
            count("type = 'Deployment' AND status = 'Completed'")?,
            asked,
        ),
        Checked::equal(
            "deployments reported",
            outcome.counted("deployments_reported"),
            asked,
        ),
        Checked::equal(
            "renewals completed",
            count("type IN ('Renewal', 'Issuance') AND status = 'Completed'")?,
            asked,
        ),
        Checked::equal("jobs taken up twice", count("attempts > 1")?, 0.0),
        Checked::told("seconds from asked to deployed, p50", at(0.5)),
        Checked::at_most("seconds from asked to deployed, p95", at(0.95), 35.0),
    ])
}

/// No target is visited: what is measured is the database.
pub(super) fn prepare_large(world: &World, variables: &mut Variables, _: &Shape) -> Result<()> {
    for target in ["NGINX", "APACHE", "HAPROXY", "F5"] {
        variables.insert(format!("{target}_TARGET_URL"), "none".to_owned());
    }
    variables.insert("LOADTEST_SUMMARY".to_owned(), "db-scale".to_owned());
    let Some(cluster) = world.database.cluster() else {
        return Ok(());
    };
    // As a database is that has been up for a while: its tables are analysed.
    cluster.query("certctl", "VACUUM ANALYZE")?;
    cluster.query("certctl", "SELECT pg_stat_reset()")?;
    cluster.query("certctl", "SELECT pg_stat_statements_reset()")?;
    Ok(())
}

/// No table that grows is read from end to end, and no statement is slow.
pub(super) fn db_scale(world: &World, outcome: &Outcome<'_>) -> Result<Vec<Checked>> {
    let mut checked = super::checks::issued(world, outcome)?;
    let Some(cluster) = world.database.cluster() else {
        return Ok(checked);
    };
    // Tables that are large from the start. One that grows from nothing is rightly read whole while it is small.
    let scans = |tables: &str| -> Result<f64> {
        let sql = format!(
            "SELECT COALESCE(sum(seq_scan), 0) FROM pg_stat_user_tables WHERE relname IN ({tables})"
        );
        Ok(cluster.query("certctl", &sql)?.parse()?)
    };
    for table in ["managed_certificates", "agents"] {
        let what = format!("times {table} was read whole");
        // Each look at the metrics counts once over what there is.
        checked.push(Checked::at_most(
            &what,
            scans(&format!("'{table}'"))?,
            outcome.looks + 2.0,
        ));
    }
    let growing = scans("'certificate_versions', 'jobs', 'audit_events'")?;
    // Percentiles are not kept: mean and spread say where the 99th of a normal distribution would be.
    let slow = cluster.query(
        "certctl",
        "SELECT COALESCE(max(mean_exec_time + 2.33 * stddev_exec_time), 0) FROM pg_stat_statements s JOIN pg_database d ON d.oid = s.dbid \
         WHERE d.datname = 'certctl' AND calls >= 20 AND query !~* '^(begin|commit|rollback|start transaction|vacuum|listen)'",
    )?;
    checked.push(Checked::told(
        "times a growing table was read whole",
        growing,
    ));
    checked.push(Checked::at_most(
        "ms of the slowest statement, p99 by mean and spread",
        slow.parse()?,
        50.0,
    ));
    Ok(checked)
}
