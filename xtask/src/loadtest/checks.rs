//! What must have changed in the database when a scenario is over: status codes alone would be kept by a server that does nothing.

use anyhow::{Context as _, Result};
use serde_json::{Value, json};

use super::world::World;

/// How a run went.
pub(super) struct Outcome<'a> {
    /// The summary as k6 wrote it.
    pub(super) summary: &'a Value,
    /// When k6 was started, in microseconds since 1970.
    pub(super) began: i64,
    /// Committed transactions of the server meanwhile.
    pub(super) commits: f64,
    /// How often the server was asked for its metrics meanwhile.
    pub(super) looks: f64,
    /// Whether the programs are.
    pub(super) is_optimised: bool,
}

impl Outcome<'_> {
    /// A value of a metric of k6.
    pub(super) fn metric(&self, name: &str, field: &str) -> Result<f64> {
        self.summary["metrics"][name][field]
            .as_f64()
            .with_context(|| format!("the summary has no {field} of {name}"))
    }

    /// A counter, zero when nothing was counted.
    pub(super) fn counted(&self, name: &str) -> f64 {
        self.summary["metrics"][name]["count"]
            .as_f64()
            .unwrap_or_default()
    }
}

/// Something that was looked at after a run.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Checked {
    pub(super) what: String,
    pub(super) limit: String,
    pub(super) value: f64,
    pub(super) ok: bool,
}

impl Checked {
    /// Exactly so many.
    pub(super) fn equal(what: &str, value: f64, wanted: f64) -> Self {
        Self::new(
            what,
            format!("=={wanted}"),
            value,
            (value - wanted).abs() < 0.5,
        )
    }

    pub(super) fn at_least(what: &str, value: f64, least: f64) -> Self {
        Self::new(what, format!(">={least}"), value, value >= least)
    }

    pub(super) fn at_most(what: &str, value: f64, most: f64) -> Self {
        Self::new(what, format!("<={most}"), value, value <= most)
    }

    /// Only told, not judged.
    pub(super) fn told(what: &str, value: f64) -> Self {
        Self::new(what, String::new(), value, true)
    }

    fn new(what: &str, limit: String, value: f64, ok: bool) -> Self {
        Self {
            what: what.to_owned(),
            limit,
            value,
            ok,
        }
    }

    /// As an entry of the list of thresholds.
    pub(super) fn to_json(&self) -> Value {
        json!({"metric": self.what, "limit": self.limit, "value": self.value, "ok": self.ok})
    }
}

/// Counts in the database are far below 2^52, beyond which a float would not be exact.
pub(super) fn real(number: i64) -> f64 {
    number as f64
}

pub(super) fn rows(world: &World, sql: &str) -> Result<f64> {
    Ok(real(world.store()?.number(sql)?))
}

/// Each 201 is a row, and nothing else is.
pub(super) fn issued(world: &World, outcome: &Outcome<'_>) -> Result<Vec<Checked>> {
    let stored = rows(
        world,
        "SELECT count(*) FROM managed_certificates WHERE name LIKE 'loadtest-%.example.test' AND environment = 'production'",
    )?;
    Ok(vec![
        Checked::equal(
            "rows changed: certificates stored for the 201 answers",
            stored,
            outcome.counted("certificates_created"),
        ),
        Checked::at_least("rows changed: certificates stored", stored, 1.0),
    ])
}

/// Directory, nonces and ids that are nobody's write nothing.
pub(super) fn unauthenticated_acme(world: &World, outcome: &Outcome<'_>) -> Result<Vec<Checked>> {
    let accounts = rows(world, "SELECT count(*) FROM acme_accounts")?;
    let orders = rows(world, "SELECT count(*) FROM acme_orders")?;
    let nonces = outcome.counted("acme_nonces");
    let stored = match world.database.cluster() {
        Some(_) => rows(world, "SELECT count(*) FROM acme_redeemed_nonces")?,
        None => 0.0,
    };
    Ok(vec![
        Checked::at_least("nonces handed out", nonces, 1.0),
        Checked::equal(
            "rows changed: nonces, accounts and orders",
            accounts + orders + stored,
            0.0,
        ),
        // The server goes on with what it does by itself.
        Checked::told(
            "commits for each 1,000 nonces",
            1000.0 * outcome.commits / nonces.max(1.0),
        ),
    ])
}

/// Every certificate of the fixture is renewed exactly once, and all that were enqueued are jobs.
pub(super) fn bulk(world: &World, outcome: &Outcome<'_>) -> Result<Vec<Checked>> {
    const FIXTURE: f64 = 10_000.0;
    let of_fixture = rows(
        world,
        "SELECT count(*) FROM jobs WHERE type = 'Renewal' AND certificate_id LIKE 'cert-loadtest-bulk-%'",
    )?;
    let under_way = rows(
        world,
        "SELECT count(*) FROM managed_certificates WHERE status = 'RenewalInProgress' AND id LIKE 'cert-loadtest-bulk-%'",
    )?;
    // Certificates of the demo data match the same criteria.
    let of_demo = rows(
        world,
        &format!(
            "SELECT count(*) FROM jobs j JOIN managed_certificates c ON c.id = j.certificate_id WHERE j.type = 'Renewal' \
             AND c.team_id = 't-platform' AND c.issuer_id = 'iss-local' AND c.environment <> 'loadtest' AND {} >= {}",
            world.store()?.micros("j.created_at"),
            outcome.began
        ),
    )?;
    let enqueued = outcome.counted("bulk_enqueued");
    Ok(vec![
        Checked::equal("rows changed: renewals of the fixture", of_fixture, FIXTURE),
        Checked::equal(
            "rows changed: certificates under renewal",
            under_way,
            FIXTURE,
        ),
        Checked::equal(
            "enqueued by the answers, net of demo data",
            enqueued - of_demo,
            FIXTURE,
        ),
    ])
}

/// Nearly every agent that called is newer than the run. What a flush has not written yet is allowed for.
pub(super) fn heartbeats(world: &World, outcome: &Outcome<'_>) -> Result<Vec<Checked>> {
    const FLEET: f64 = 5000.0;
    const ALLOWANCE: f64 = 10.0;
    let column = world.store()?.micros("last_heartbeat_at");
    let newer = rows(
        world,
        &format!(
            "SELECT count(*) FROM agents WHERE id LIKE 'ag-loadtest-%' AND {column} >= {}",
            outcome.began
        ),
    )?;
    let sent = outcome.metric("iterations{scenario:agent_storm}", "count")?;
    let reached = sent.min(FLEET);
    Ok(vec![
        Checked::at_least(
            "rows changed: agents heard of since the start",
            newer,
            reached - ALLOWANCE,
        ),
        Checked::told(
            "commits for each 1,000 heartbeats",
            1000.0 * outcome.commits / sent.max(1.0),
        ),
    ])
}
