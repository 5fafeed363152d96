//! What a renewal scan costs as the fleet grows while what is due stays the same. The scan is the server's own, at its start; there is
//! nothing for a driver to do.

use anyhow::{Context as _, Result};
use serde_json::{Value, json};

use super::checks::{Checked, real};
use super::machine;
use super::report::Report;
use super::suite::{PLAIN, Shape, Suite};
use super::world::{Tools, World, sum};
use crate::stack::database::Backend;

pub(super) const SUITE: Suite = Suite {
    name: "renewal-scan",
    own: Some(run),
    ..PLAIN
};

/// Certificates that are due, whatever the size of the fleet.
const DUE: i64 = 1000;
/// The transactions of a scan.
const SCAN: [&str; 4] = [
    "plan renewals",
    "enqueue due renewals",
    "apply expiry",
    "write expiry alerts",
];
/// The time a scan of the middle size may take, in seconds.
const TICK: f64 = 10.0;
/// What each certificate may add to the memory of the server, in bytes.
const BYTES_EACH: f64 = 1024.0;

/// What one size showed.
struct Size {
    certificates: i64,
    seconds: f64,
    statements: Option<f64>,
    transactions: f64,
    resident_kib: u64,
    enqueued: i64,
}

/// Measures each size on a database of its own.
pub(super) fn run(tools: &Tools, backend: Backend, shape: &Shape) -> Result<Report> {
    let sizes: [i64; 3] = if shape.is_smoke {
        [2_000, 5_000, 10_000]
    } else {
        [10_000, 50_000, 100_000]
    };
    let mut seen = Vec::new();
    let mut description = Value::Null;
    for certificates in sizes {
        let mut world = World::start(tools, backend, &SUITE)?;
        description = machine::describe(tools, &world, shape)?;
        let size = measure(&mut world, certificates)?;
        eprintln!(
            "    {certificates} certificates: {:.3} s, {} transactions",
            size.seconds, size.transactions
        );
        seen.push(size);
    }
    let summary = json!({
        "name": SUITE.name, "metrics": {}, "scenarios": [], "connector_tier": {}, "thresholds": [], "timeline": {},
        "sizes": seen.iter().map(Size::to_json).collect::<Vec<_>>(),
    });
    Ok(Report::new(summary, description, &[], check(&seen)))
}

fn measure(world: &mut World, certificates: i64) -> Result<Size> {
    world.server.stop()?;
    let store = world.store()?;
    store.query(&fleet(world.backend, certificates))?;
    if let Some(cluster) = world.database.cluster() {
        cluster.query("certctl", "VACUUM ANALYZE")?;
        cluster.query("certctl", "SELECT pg_stat_statements_reset()")?;
    }
    world.server.start()?;
    world.first_scan()?;
    let metrics = world.metrics()?;
    let commits = world.commits()?;
    let mut transactions = 0.0;
    for name in SCAN {
        transactions += commits
            .get(name)
            .with_context(|| format!("the scan made no transaction \"{name}\""))?;
    }
    // Those of the scan; of the loops that go round by the clock next to none.
    let statements = world.database.cluster().map(|cluster| {
        let said = cluster.query(
            "certctl",
            "SELECT COALESCE(sum(calls), 0) FROM pg_stat_statements s JOIN pg_database d ON d.oid = s.dbid \
             WHERE d.datname = 'certctl' AND (query LIKE '%renew_at%' OR query LIKE 'INSERT INTO \"jobs\"%' OR query LIKE 'UPDATE \"managed_certificates\"%')",
        )?;
        anyhow::Ok(said.parse::<f64>()?)
    });
    let resident_kib = world.server.resident_kib()?;
    let enqueued = world
        .store()?
        .number("SELECT count(*) FROM jobs WHERE certificate_id LIKE 'cert-loadtest-scan-%'")?;
    world.server.stop()?;
    Ok(Size {
        certificates,
        seconds: sum(
            &metrics,
            "certctl_scheduler_run_seconds_sum",
            &["loop=\"renewalCheck\""],
        ),
        statements: statements.transpose()?,
        transactions,
        resident_kib,
        enqueued,
    })
}

/// The statement that makes a fleet of which so many are due.
fn fleet(backend: Backend, certificates: i64) -> String {
    let columns = "id, name, common_name, sans, environment, owner_id, team_id, issuer_id, renewal_policy_id, status, expires_at, renew_at, \
                   created_at, updated_at";
    let fixed = "'loadtest', 'o-eve', 't-data', 'iss-local', 'rp-standard', 'Active'";
    match backend {
        Backend::Postgres => format!(
            "INSERT INTO managed_certificates ({columns}) \
             SELECT 'cert-loadtest-scan-' || lpad(g::text, 6, '0'), n, n, ARRAY[n], {fixed}, now() + interval '29 days' + (later * interval '1 day'), \
                now() - interval '1 hour' + (later * interval '1 day'), now(), now() \
             FROM (SELECT g, 'loadtest-scan-' || lpad(g::text, 6, '0') || '.example.test' AS n, \
                CASE WHEN g <= {DUE} THEN 0 ELSE 5 + g % 50 END AS later FROM generate_series(1, {certificates}) AS g) AS fleet"
        ),
        Backend::Sqlite => format!(
            "INSERT INTO managed_certificates ({columns}) WITH RECURSIVE numbers(g) AS (SELECT 1 UNION ALL SELECT g + 1 FROM numbers WHERE g < {certificates}), \
             fleet AS (SELECT g, 'loadtest-scan-' || printf('%06d', g) || '.example.test' AS n, \
                CASE WHEN g <= {DUE} THEN 0 ELSE 5 + g % 50 END AS later FROM numbers) \
             SELECT 'cert-loadtest-scan-' || printf('%06d', g), n, n, json_array(n), {fixed}, (unixepoch() + (29 + later) * 86400) * 1000000, \
                (unixepoch() - 3600 + later * 86400) * 1000000, unixepoch() * 1000000, unixepoch() * 1000000 FROM fleet"
        ),
    }
}

impl Size {
    fn to_json(&self) -> Value {
        json!({
            "certificates": self.certificates, "seconds": self.seconds, "statements": self.statements,
            "transactions": self.transactions, "resident_kib": self.resident_kib, "enqueued": self.enqueued,
        })
    }
}

/// What must not grow with the fleet does not.
fn check(seen: &[Size]) -> Vec<Checked> {
    let (Some(least), Some(most)) = (seen.first(), seen.last()) else {
        return Vec::new();
    };
    let mut checked = Vec::new();
    for size in seen {
        let named = |what: &str| format!("{what} at {} certificates", size.certificates);
        checked.push(Checked::equal(
            &named("rows changed: renewals enqueued"),
            real(size.enqueued),
            real(DUE),
        ));
        checked.push(Checked::at_most(
            &named("seconds of the scan"),
            size.seconds,
            TICK,
        ));
        checked.push(Checked::equal(
            &named("transactions"),
            size.transactions,
            least.transactions,
        ));
        if let (Some(statements), Some(before)) = (size.statements, least.statements) {
            // Whoever takes up what the scan enqueued may have begun.
            let limit = before + 10.0;
            checked.push(Checked::at_most(&named("statements"), statements, limit));
            checked.push(Checked::at_least(&named("statements"), statements, 1.0));
        }
    }
    let grown = real(most.certificates - least.certificates);
    let bytes = 1024.0 * (most.resident_kib.saturating_sub(least.resident_kib) as f64) / grown;
    checked.push(Checked::at_most(
        "bytes of memory for each further certificate",
        bytes,
        BYTES_EACH,
    ));
    checked
}

#[cfg(test)]
mod tests {
    use super::*;

    fn size(certificates: i64, statements: f64, resident_kib: u64) -> Size {
        Size {
            certificates,
            seconds: 1.0,
            statements: Some(statements),
            transactions: 3.0,
            resident_kib,
            enqueued: DUE,
        }
    }

    #[test]
    fn a_scan_that_sends_nothing_was_not_looked_at() {
        let none = check(&[size(10_000, 0.0, 50_000), size(100_000, 0.0, 60_000)]);
        assert_eq!(none.iter().filter(|one| !one.ok).count(), 2, "{none:?}");
    }

    #[test]
    fn statements_that_grow_with_the_fleet_are_found() {
        let fine = check(&[size(10_000, 100.0, 50_000), size(100_000, 110.0, 60_000)]);
        assert!(fine.iter().all(|one| one.ok), "{fine:?}");
        let grown = check(&[size(10_000, 100.0, 50_000), size(100_000, 111.0, 60_000)]);
        assert_eq!(grown.iter().filter(|one| !one.ok).count(), 1, "{grown:?}");
        let fat = check(&[size(10_000, 100.0, 50_000), size(100_000, 100.0, 150_000)]);
        assert_eq!(fat.iter().filter(|one| !one.ok).count(), 1, "{fat:?}");
    }
}
