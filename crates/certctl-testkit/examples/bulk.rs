//! What renewing, revoking and reassigning many certificates costs, beside the bare statements that change the same rows of a
//! group of the same size in the same database. `cargo xtask bench bulk` runs it on both databases, optimised.
//!
//! Arguments: the URL of an empty database, a folder for the CA, how many certificates a group has.

mod common;

use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use certctl_domain::access::{Actor, ActorType, EffectivePermission, Permission, Scope};
use certctl_repository::{Backend, Db, testing};
use certctl_service::{
    Services,
    bulk::{BulkCriteria, BulkOutcome, ReassignInput},
};
use common::{Api, at, numbered};
use serde_json::json;

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let mut arguments = std::env::args().skip(1);
    let (Some(url), Some(folder), Some(count)) =
        (arguments.next(), arguments.next(), arguments.next())
    else {
        anyhow::bail!("usage: bulk DATABASE_URL FOLDER CERTIFICATES");
    };
    let count: usize = count.parse().context("CERTIFICATES")?;
    testing::watch_statements()?;
    let db = common::open(&url).await?;
    let services = common::services(db.clone(), &folder).await?;
    for group in ["bare", "service", "http"] {
        seed(&db, group, count).await?;
    }
    common::settle(&db).await?;
    let bench = Bench {
        api: Api::new(&services)?,
        db,
        services,
        actor: administrator(),
        count: i64::try_from(count)?,
    };
    bench.renew().await?;
    bench.revoke().await?;
    bench.reassign().await?;
    bench.over_http().await
}

fn administrator() -> Actor {
    let permissions = Permission::ALL
        .iter()
        .map(|permission| EffectivePermission {
            permission: *permission,
            scope: Scope::Global,
        });
    Actor::new(
        "bench",
        ActorType::User,
        false,
        Vec::new(),
        permissions.collect(),
    )
}

/// A team, an owner to give to and a group of active certificates with an issued version each.
async fn seed(db: &Db, group: &str, count: usize) -> anyhow::Result<()> {
    let backend = db.backend();
    // The first hex digit of the group's serials, so that no two groups share one.
    let digit = match group {
        "bare" => "b",
        "service" => "c",
        _ => "d",
    };
    let (now, later) = (at(backend, "1780000000"), at(backend, "1980000000"));
    for sql in [
        "INSERT INTO teams (id, name) VALUES ('t-bench', 'bench') ON CONFLICT DO NOTHING"
            .to_owned(),
        format!(
            "INSERT INTO owners (id, name, team_id) VALUES ('o-{group}', '{group}', 't-bench'), ('o-{group}-2', '{group}', 't-bench')"
        ),
        numbered(
            backend,
            "managed_certificates (id, name, common_name, owner_id, team_id, issuer_id, renewal_policy_id, status, expires_at, renew_at, created_at, updated_at)",
            1,
            count,
            &format!(
                "SELECT '{group}-' || i, '{group}-' || i, i || '.example.test', 'o-{group}', 't-bench', 'iss-local', 'rp-default', 'Active', \
                 {later}, {later}, {now}, {now} FROM n"
            ),
        ),
        numbered(
            backend,
            "certificate_versions (id, certificate_id, issuer_id, serial_number, not_before, not_after, fingerprint_sha256, pem_chain, created_at)",
            1,
            count,
            &format!(
                "SELECT 'v-{group}-' || i, '{group}-' || i, 'iss-local', '{digit}' || i, {now}, {later}, '{group}' || i, '', {now} FROM n"
            ),
        ),
    ] {
        testing::execute(db, &sql).await?;
    }
    Ok(())
}

/// What one call cost.
struct Cost {
    took: Duration,
    statements: u64,
    commits: u64,
}

struct Bench {
    db: Db,
    services: Services,
    api: Api,
    actor: Actor,
    count: i64,
}

impl Bench {
    async fn cost<T>(&self, call: impl Future<Output = T>) -> (T, Cost) {
        testing::take_statements();
        let (commits, started) = (self.db.commits(), Instant::now());
        let done = call.await;
        let took = started.elapsed();
        let cost = Cost {
            took,
            statements: testing::take_statements().0,
            commits: self.db.commits() - commits,
        };
        (done, cost)
    }

    /// The time that statements take in a transaction of their own.
    async fn bare(&self, statements: &[String]) -> anyhow::Result<Duration> {
        let begin = match self.db.backend() {
            Backend::Postgres => "BEGIN",
            Backend::Sqlite => "BEGIN IMMEDIATE",
        };
        let all = format!("{begin}; {}; COMMIT", statements.join("; "));
        let started = Instant::now();
        testing::execute(&self.db, &all).await?;
        Ok(started.elapsed())
    }

    fn report(
        &self,
        what: &str,
        (matched, changed): (i64, i64),
        cost: &Cost,
        bare: Duration,
    ) -> anyhow::Result<()> {
        ensure!(
            (matched, changed) == (self.count, self.count),
            "{what}: {changed} of {matched} were changed, of {}",
            self.count
        );
        println!(
            "{} {what}: {matched} matched, {changed} changed, {} statements, {} commits, {:.2} s; bare {:.2} s; ratio {:.2}",
            self.db.backend(),
            cost.statements,
            cost.commits,
            cost.took.as_secs_f64(),
            bare.as_secs_f64(),
            cost.took.as_secs_f64() / bare.as_secs_f64()
        );
        Ok(())
    }

    /// A second call finds the same and changes nothing.
    fn report_again(&self, what: &str, outcome: &BulkOutcome, cost: &Cost) -> anyhow::Result<()> {
        ensure!(
            outcome.changed == 0 && outcome.skipped == outcome.matched,
            "{what} changed something when it was repeated"
        );
        println!(
            "{} {what} again: {} matched, 0 changed, {:.2} s",
            self.db.backend(),
            outcome.matched,
            cost.took.as_secs_f64()
        );
        Ok(())
    }

    async fn renew(&self) -> anyhow::Result<()> {
        let now = at(self.db.backend(), "1790000000");
        let bare = self
            .bare(&[
                format!(
                    "INSERT INTO jobs (id, type, certificate_id, status, scheduled_at, created_at, status_changed_at) \
                     SELECT 'bare-' || id, 'Renewal', id, 'AwaitingCSR', {now}, {now}, {now} FROM managed_certificates WHERE owner_id = 'o-bare'"
                ),
                format!("UPDATE managed_certificates SET status = 'RenewalInProgress', updated_at = {now} WHERE owner_id = 'o-bare'"),
            ])
            .await?;
        let criteria = of_owner("o-service");
        let (done, cost) = self
            .cost(self.services.bulk_renew(&self.actor, &criteria))
            .await;
        let done = done?;
        self.report("renew", (done.matched, done.changed), &cost, bare)?;
        let (again, cost) = self
            .cost(self.services.bulk_renew(&self.actor, &criteria))
            .await;
        self.report_again("renew", &again?, &cost)
    }

    async fn revoke(&self) -> anyhow::Result<()> {
        let now = at(self.db.backend(), "1790000000");
        let of_bare = "(SELECT id FROM managed_certificates WHERE owner_id = 'o-bare')";
        let bare = self
            .bare(&[
                format!(
                    "UPDATE managed_certificates SET status = 'Revoked', revoked_at = {now}, revocation_reason = 'superseded', updated_at = {now} \
                     WHERE owner_id = 'o-bare'"
                ),
                format!(
                    "INSERT INTO certificate_revocations (id, certificate_id, issuer_id, serial_number, reason, revoked_by, revoked_at) \
                     SELECT 'bare-' || v.id, v.certificate_id, v.issuer_id, v.serial_number, 'superseded', 'bench', {now} \
                     FROM certificate_versions v WHERE v.certificate_id IN {of_bare}"
                ),
                format!("UPDATE jobs SET status = 'Cancelled', completed_at = {now}, status_changed_at = {now} WHERE certificate_id IN {of_bare}"),
            ])
            .await?;
        let criteria = of_owner("o-service");
        let call = || {
            self.services
                .bulk_revoke(&self.actor, &criteria, "superseded", None)
        };
        let (done, cost) = self.cost(call()).await;
        let done = done?;
        self.report("revoke", (done.matched, done.changed), &cost, bare)?;
        let untold = "SELECT CAST(count(*) AS TEXT) AS value FROM certificate_revocations WHERE NOT issuer_notified AND id NOT LIKE 'bare-%'";
        let started = Instant::now();
        while testing::texts(&self.db, untold).await? != [Some("0".to_owned())] {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        println!(
            "{} issuers told in the background: {:.2} s more",
            self.db.backend(),
            started.elapsed().as_secs_f64()
        );
        let (again, cost) = self.cost(call()).await;
        self.report_again("revoke", &again?, &cost)
    }

    async fn reassign(&self) -> anyhow::Result<()> {
        let now = at(self.db.backend(), "1790000000");
        let bare = self
            .bare(&[format!(
                "UPDATE managed_certificates SET owner_id = 'o-bare-2', updated_at = {now} WHERE owner_id = 'o-bare'"
            )])
            .await?;
        let to = |criteria| ReassignInput {
            criteria,
            owner_id: "o-service-2".to_owned(),
            team_id: None,
        };
        let input = to(of_owner("o-service"));
        let (done, cost) = self
            .cost(self.services.bulk_reassign(&self.actor, &input))
            .await;
        let done = done?;
        self.report("reassign", (done.matched, done.changed), &cost, bare)?;
        let input = to(of_owner("o-service-2"));
        let (again, cost) = self
            .cost(self.services.bulk_reassign(&self.actor, &input))
            .await;
        self.report_again("reassign", &again?, &cost)
    }

    /// The same over the whole API.
    async fn over_http(&self) -> anyhow::Result<()> {
        let path = "/api/v1/certificates";
        for (route, changed, body) in [
            (
                "bulk-renew",
                "total_enqueued",
                json!({"owner_id": "o-http"}),
            ),
            (
                "bulk-revoke",
                "total_revoked",
                json!({"owner_id": "o-http", "reason": "superseded"}),
            ),
            (
                "bulk-reassign",
                "total_reassigned",
                json!({"criteria": {"owner_id": "o-http"}, "owner_id": "o-http-2"}),
            ),
        ] {
            let path = format!("{path}/{route}");
            let (answer, cost) = self.cost(self.api.call("POST", &path, Some(&body))).await;
            let (status, answer, bytes) = answer?;
            ensure!(
                status == 200
                    && answer[changed] == self.count
                    && answer["total_matched"] == self.count,
                "{route}: {status} {}",
                answer["total_matched"]
            );
            println!(
                "{} {route} over HTTP: {status}, {} changed, {:.2} s, {} commits, {bytes} bytes answered",
                self.db.backend(),
                answer[changed],
                cost.took.as_secs_f64(),
                cost.commits
            );
        }
        Ok(())
    }
}

fn of_owner(owner: &str) -> BulkCriteria {
    BulkCriteria {
        owner_id: Some(owner.to_owned()),
        ..BulkCriteria::default()
    }
}
