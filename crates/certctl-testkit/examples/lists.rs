//! What a page of the list of certificates costs in a small and in a large fleet, over the whole API.
//! `cargo xtask bench lists` runs it on both databases, optimised.
//!
//! Arguments: the URL of an empty database, a folder for the CA, the sizes of the fleet, ascending.

mod common;

use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use certctl_repository::{Db, testing};
use common::{Api, at, numbered};

/// Requests that are measured together.
const REQUESTS: usize = 2000;
/// How often; the median of the rounds counts, since other programs use the machine too.
const ROUNDS: usize = 3;

const PAGE: &str = "/api/v1/certificates?per_page=50";

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let mut arguments = std::env::args().skip(1);
    let (Some(url), Some(folder)) = (arguments.next(), arguments.next()) else {
        anyhow::bail!("usage: lists DATABASE_URL FOLDER ROWS…");
    };
    let sizes = arguments
        .map(|rows| rows.parse::<usize>().context("ROWS"))
        .collect::<Result<Vec<_>, _>>()?;
    testing::watch_statements()?;
    let db = common::open(&url).await?;
    let services = common::services(db.clone(), &folder).await?;
    let api = Api::new(&services)?;
    let mut rows = 0;
    let mut first: Option<[Times; 2]> = None;
    for size in sizes {
        seed(&db, rows, size).await?;
        rows = size;
        common::settle(&db).await?;
        let measured = [by_page(&api, rows).await?, by_cursor(&api, rows).await?];
        let base = *first.get_or_insert(measured);
        for ((form, now), base) in ["page", "cursor"].into_iter().zip(measured).zip(base) {
            println!(
                "{} {form} at {rows} rows: p50 {:.2} ms, p99 {:.2} ms; ratio to the smallest {:.2} and {:.2}",
                db.backend(),
                now.p50.as_secs_f64() * 1e3,
                now.p99.as_secs_f64() * 1e3,
                now.p50.as_secs_f64() / base.p50.as_secs_f64(),
                now.p99.as_secs_f64() / base.p99.as_secs_f64()
            );
        }
    }
    print_plans(&db, &api).await
}

/// Certificates from one number to another, made a second apart, in all states.
async fn seed(db: &Db, from: usize, to: usize) -> anyhow::Result<()> {
    let backend = db.backend();
    let made = at(backend, "1780000000 + i");
    let setup = "INSERT INTO teams (id, name) VALUES ('t-bench', 'bench') ON CONFLICT DO NOTHING; \
        INSERT INTO owners (id, name, team_id) VALUES ('o-bench', 'bench', 't-bench') ON CONFLICT DO NOTHING";
    testing::execute(db, setup).await?;
    let targets = "INSERT INTO agents (id, name, hostname, api_key_hash) VALUES ('ag-bench', 'bench', 'bench', 'bench') ON CONFLICT DO NOTHING; \
        INSERT INTO deployment_targets (id, name, type, agent_id) VALUES ('tgt-bench', 'bench', 'NGINX', 'ag-bench') ON CONFLICT DO NOTHING";
    testing::execute(db, targets).await?;
    let sql = numbered(
        backend,
        "managed_certificates (id, name, common_name, sans, owner_id, team_id, issuer_id, renewal_policy_id, status, expires_at, created_at, updated_at)",
        from + 1,
        to,
        &format!(
            "SELECT 'mc-' || i, 'bench ' || i, i || '.example.test', {}, 'o-bench', 't-bench', 'iss-local', 'rp-default', \
             CASE i % 10 WHEN 0 THEN 'Expiring' WHEN 1 THEN 'Expired' ELSE 'Active' END, {made}, {made}, {made} FROM n",
            match backend {
                certctl_repository::Backend::Postgres => "ARRAY[i || '.example.test']",
                certctl_repository::Backend::Sqlite => "json_array(i || '.example.test')",
            }
        ),
    );
    testing::execute(db, &sql).await?;
    let mapped = numbered(
        backend,
        "certificate_target_mappings (certificate_id, target_id)",
        from + 1,
        to,
        "SELECT 'mc-' || i, 'tgt-bench' FROM n",
    );
    Ok(testing::execute(db, &mapped).await?)
}

#[derive(Clone, Copy)]
struct Times {
    p50: Duration,
    p99: Duration,
}

impl Times {
    /// The medians of all rounds.
    fn of(rounds: &mut [Vec<Duration>]) -> Self {
        let mut at = |percent: usize| {
            let mut all: Vec<Duration> = rounds
                .iter_mut()
                .map(|round| {
                    round.sort_unstable();
                    round[round.len() * percent / 100]
                })
                .collect();
            all.sort_unstable();
            all[all.len() / 2]
        };
        Self {
            p50: at(50),
            p99: at(99),
        }
    }
}

/// The first page, again and again.
async fn by_page(api: &Api, rows: usize) -> anyhow::Result<Times> {
    let mut rounds = Vec::new();
    for round in 0..=ROUNDS {
        let mut times = Vec::with_capacity(REQUESTS);
        for _ in 0..REQUESTS {
            let started = Instant::now();
            let (status, answer, _) = api.call("GET", PAGE, None).await?;
            times.push(started.elapsed());
            ensure!(
                status == 200 && answer["total"] == rows,
                "{status} {answer}"
            );
        }
        // The first round warms caches.
        if round > 0 {
            rounds.push(times);
        }
    }
    Ok(Times::of(&mut rounds))
}

/// One page after another; from the beginning again after the last one.
async fn by_cursor(api: &Api, rows: usize) -> anyhow::Result<Times> {
    let mut rounds = Vec::new();
    for _ in 0..ROUNDS {
        let mut times = Vec::with_capacity(REQUESTS);
        let mut cursor = String::new();
        for _ in 0..REQUESTS {
            let path = format!("/api/v1/certificates?cursor={cursor}&page_size=50");
            let started = Instant::now();
            let (status, answer, _) = api.call("GET", &path, None).await?;
            times.push(started.elapsed());
            ensure!(
                status == 200 && answer["total"] == rows,
                "{status} {answer}"
            );
            answer["next_cursor"]
                .as_str()
                .unwrap_or_default()
                .clone_into(&mut cursor);
        }
        rounds.push(times);
    }
    Ok(Times::of(&mut rounds))
}

/// Whether a plan reads the certificates, or what they are mapped to, from end to end.
fn reads_all(plan: &[String]) -> bool {
    let growing = ["managed_certificates", "certificate_target_mappings"];
    plan.iter().any(|step| {
        growing.iter().any(|table| {
            // SQLite follows an index up to the limit where it says USING.
            step.contains(&format!("Seq Scan on {table}"))
                || (step.starts_with(&format!("SCAN {table}")) && !step.contains("USING"))
        })
    })
}

/// How the statements of one request of each form are carried out; refused where one reads all certificates.
async fn print_plans(db: &Db, api: &Api) -> anyhow::Result<()> {
    let (_, answer, _) = api
        .call("GET", "/api/v1/certificates?cursor=", None)
        .await?;
    let next = answer["next_cursor"].as_str().unwrap_or_default();
    for path in [
        PAGE.to_owned(),
        format!("/api/v1/certificates?cursor={next}"),
    ] {
        testing::take_statements();
        api.call("GET", &path, None).await?;
        for sql in testing::take_statements().1 {
            if !sql.trim_start().starts_with("SELECT") {
                continue;
            }
            let plan = testing::generic_plan(db, &sql).await?;
            ensure!(!reads_all(&plan), "all certificates are read: {plan:#?}");
            let table = sql.split("FROM ").nth(1).unwrap_or(&sql);
            println!(
                "{} plan of … FROM {:.100}",
                db.backend(),
                table.replace('"', "")
            );
            for step in plan {
                println!("    {step}");
            }
        }
    }
    Ok(())
}
