//! How many renewals a second: pending renewals on the local CA with keys made by the server, from the scan that finds them to
//! the stored certificate. `cargo xtask bench drain` runs it on both databases, optimised.
//!
//! Arguments: the URL of an empty database, a folder for the CA, how many certificates.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Context as _, ensure};
use certctl_connectors::issuer::{Factory, ca_store::FileCaStore};
use certctl_domain::{
    certificate::{Certificate, CertificateSource, CertificateStatus},
    id::{CertificateId, IssuerId, OwnerId, RenewalPolicyId, TeamId},
    name::CommonName,
    owner::Owner,
    page::PageRequest,
    secret::Secret,
    team::Team,
    time::{Clock, SystemClock, Timestamp},
};
use certctl_pki::seal::Sealer;
use certctl_repository::{
    Db, DbOptions,
    certificates::{self, CertificateFilter, CertificateOrder},
    migrations, owners, teams, transaction, versions,
};
use certctl_service::{
    Services,
    config::{Dependencies, KeygenMode, ServiceConfig},
};
use certctl_testkit::services::{MemoryVault, config};
use tokio_util::sync::CancellationToken;

const SEED_CHUNK: usize = 1000;

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let mut arguments = std::env::args().skip(1);
    let (Some(url), Some(folder), Some(count)) =
        (arguments.next(), arguments.next(), arguments.next())
    else {
        anyhow::bail!("usage: drain DATABASE_URL FOLDER CERTIFICATES");
    };
    let count: usize = count.parse().context("CERTIFICATES")?;
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let db = open(&url).await?;
    seed(&db, count, clock.now()).await?;
    let services = build(db.clone(), &folder, &clock);

    let commits = db.commits();
    let started = Instant::now();
    let scan = services.scan_renewals().await?;
    let scanned = started.elapsed();
    let scan_commits = db.commits() - commits;
    ensure!(
        scan.enqueued == count,
        "the scan enqueued {} of {count}",
        scan.enqueued
    );

    let commits = db.commits();
    let started = Instant::now();
    let pass = services.process_jobs(&CancellationToken::new()).await?;
    let drained = started.elapsed();
    let drain_commits = db.commits() - commits;
    ensure!(
        pass.completed == count,
        "{} of {count} completed, {} failed",
        pass.completed,
        pass.failed
    );
    check(&db, count).await?;

    let rate = |took: Duration| count as f64 / took.as_secs_f64();
    println!(
        "{}: scan {count} in {:.2} s ({:.0}/s, {scan_commits} commits); drain {count} in {:.2} s = {:.0} jobs/s, {drain_commits} commits = {:.4} per job",
        db.backend(),
        scanned.as_secs_f64(),
        rate(scanned),
        drained.as_secs_f64(),
        rate(drained),
        drain_commits as f64 / count as f64,
    );
    Ok(())
}

async fn open(url: &str) -> anyhow::Result<Db> {
    let url = Secret::new(url);
    let db = Db::open(&DbOptions {
        url: url.clone(),
        max_connections: 20,
        acquire_timeout: Duration::from_secs(30),
    })?;
    let options = migrations::Options {
        url,
        lock_timeout: Duration::from_secs(60),
        allow_newer: false,
        applied_by: "bench".to_owned(),
    };
    migrations::up(&options, &migrations::embedded(db.backend())).await?;
    Ok(db)
}

fn build(db: Db, folder: &str, clock: &Arc<dyn Clock>) -> Services {
    let sealer = Arc::new(Sealer::new(&Secret::new(
        "an encryption key of 32 bytes and some more",
    )));
    let store = Arc::new(FileCaStore::new(folder.as_ref()));
    let issuers = Arc::new(Factory::new(
        store,
        Some(Arc::clone(&sealer)),
        Arc::clone(clock),
    ));
    let config = ServiceConfig {
        keygen_mode: KeygenMode::Server,
        ..config()
    };
    Services::new(Dependencies {
        db,
        clock: Arc::clone(clock),
        sealer: Some(sealer),
        issuers,
        responder_keys: None,
        vault: Arc::new(MemoryVault::default()),
        acme: certctl_service::acme::AcmePorts::default(),
        config,
    })
}

/// Certificates that were issued long ago and are due now.
async fn seed(db: &Db, count: usize, now: Timestamp) -> anyhow::Result<()> {
    let (team_id, owner_id) = (
        TeamId::from_stored("t-bench".into()),
        OwnerId::from_stored("o-bench".into()),
    );
    let team = Team {
        id: team_id.clone(),
        name: "bench".into(),
        description: String::new(),
        created_at: now,
        updated_at: now,
    };
    let owner = Owner {
        id: owner_id.clone(),
        name: "bench".into(),
        email: String::new(),
        team_id: team_id.clone(),
        created_at: now,
        updated_at: now,
    };
    let made: Result<(), certctl_repository::Error> = transaction!(db, "seed bench", conn => {
        teams::insert(conn, &team).await?;
        owners::insert(conn, &owner).await
    });
    made?;
    let numbers: Vec<usize> = (0..count).collect();
    for chunk in numbers.chunks(SEED_CHUNK) {
        let rows: Vec<Certificate> = chunk
            .iter()
            .map(|number| certificate(*number, &owner_id, &team_id, now))
            .collect();
        let made: Result<(), certctl_repository::Error> = transaction!(db, "seed bench", conn => {
            for row in &rows {
                certificates::insert(conn, row).await?;
            }
            Ok(())
        });
        made?;
    }
    Ok(())
}

fn certificate(number: usize, owner: &OwnerId, team: &TeamId, now: Timestamp) -> Certificate {
    let name = format!("bench-{number:05}.example.test");
    Certificate {
        id: CertificateId::from_stored(format!("cert-bench-{number:05}")),
        name: name.clone(),
        common_name: CommonName::from_stored(name.clone()),
        sans: vec![name],
        environment: "bench".into(),
        owner_id: owner.clone(),
        team_id: team.clone(),
        issuer_id: IssuerId::from_stored("iss-local".into()),
        target_ids: Vec::new(),
        renewal_policy_id: RenewalPolicyId::from_stored("rp-default".into()),
        profile_id: None,
        status: CertificateStatus::Active,
        expires_at: Some(now + Duration::from_secs(10 * 86_400)),
        renew_at: Some(now - Duration::from_secs(60)),
        tags: std::collections::BTreeMap::new(),
        last_renewal_at: None,
        last_deployment_at: None,
        revoked_at: None,
        revocation_reason: None,
        source: CertificateSource::Unset,
        created_at: now,
        updated_at: now,
    }
}

/// Every certificate is active with exactly one version, and no serial occurs twice.
async fn check(db: &Db, count: usize) -> anyhow::Result<()> {
    let mut conn = db.read().await?;
    let filter = CertificateFilter {
        status: Some(CertificateStatus::Active),
        ..CertificateFilter::default()
    };
    ensure!(
        certificates::count(&mut conn, &filter).await? == i64::try_from(count)?,
        "not every certificate is active"
    );
    let page = PageRequest::lenient(Some("1"), Some("500"));
    let some = certificates::list(&mut conn, &filter, CertificateOrder::Name, false, page).await?;
    let mut serials = std::collections::HashSet::new();
    for one in some.rows {
        let found = versions::list(&mut conn, &one.id, PageRequest::default()).await?;
        ensure!(found.total == 1, "{} has {} versions", one.id, found.total);
        ensure!(
            found
                .rows
                .iter()
                .all(|version| serials.insert(version.serial_number.clone())),
            "a serial occurs twice"
        );
    }
    Ok(())
}
