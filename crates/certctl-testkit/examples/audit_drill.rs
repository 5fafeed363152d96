//! Writers under a sealer, and what is done to their trail afterwards. `cargo xtask audit-drill` runs it on both databases.
//!
//! Arguments: the URL of a database, a folder, seconds, writers. The database itself is not touched; others are made beside it.

use std::{
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use anyhow::{Context as _, ensure};
use certctl_connectors::issuer::{Factory, ca_store::FileCaStore};
use certctl_domain::{
    access::Actor,
    id::AuditEventId,
    secret::Secret,
    time::{Clock, SystemClock},
};
use certctl_pki::seal::Sealer;
use certctl_repository::{
    Backend, Db, DbOptions, audit_events, migrations, teams, testing, transaction,
};
use certctl_service::{
    Services,
    audit::{AuditVerification, VerifyFrom},
    config::Dependencies,
};
use certctl_testkit::{
    entities,
    services::{MemoryVault, config},
};

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [url, folder, seconds, writers] = &arguments[..] else {
        anyhow::bail!("usage: audit_drill DATABASE_URL FOLDER SECONDS WRITERS");
    };
    let place = Place::new(url, folder);
    let half = Duration::from_secs(seconds.parse().context("SECONDS")?) / 2;
    let writers: u32 = writers.parse().context("WRITERS")?;
    let vault = MemoryVault::default();

    let bare = place.fresh("bare").await?;
    let sealed = place.fresh("sealed").await?;
    testing::execute(&bare.open()?, bare.unguarded()).await?;
    let services = sealed.services(&vault)?;
    let (mut without, mut with) = (Rate::default(), Rate::default());
    // Turn by turn, so that a machine that grows slower does so for both.
    for round in 0..2 {
        without.add(&write(&bare, writers, half, round).await?);
        with.add(&write_under_seal(&sealed, &services, writers, half, round).await?);
    }
    services.seal_audit_log().await?;
    let started = Instant::now();
    let found = services
        .verify_audit_log(&Actor::system(), VerifyFrom::Start, None)
        .await?;
    ensure!(
        found.first_break.is_none(),
        "not intact: {:?}",
        found.first_break
    );
    ensure!(
        found.row_count == with.writes,
        "{} rows of {} writes are sealed",
        found.row_count,
        with.writes
    );
    println!(
        "{}: {writers} writers, {} audited writes in {:.1} s: intact, {} rows in {} batches verified in {:.2} s; the sealer made {:.2} commits a second",
        sealed.backend(),
        with.writes,
        with.took.as_secs_f64(),
        found.row_count,
        found.verified.batch,
        started.elapsed().as_secs_f64(),
        services.db().commits() as f64 / with.took.as_secs_f64(),
    );
    println!(
        "audited writes a second: {:.0} with sealing, {:.0} without, ratio {:.2}",
        with.per_second(),
        without.per_second(),
        with.per_second() / without.per_second()
    );
    drop(services);
    for attack in attacks(&sealed).await? {
        attack.carry_out(&place, &sealed, &vault).await?;
    }
    Ok(())
}

/// What was written, in how long.
#[derive(Default)]
struct Rate {
    writes: u64,
    took: Duration,
}

impl Rate {
    fn add(&mut self, other: &Self) {
        self.writes += other.writes;
        self.took += other.took;
    }

    fn per_second(&self) -> f64 {
        self.writes as f64 / self.took.as_secs_f64()
    }
}

/// A change of state with its audit row, in one transaction, again and again, by each of the writers.
async fn write(base: &Base, writers: u32, during: Duration, round: u32) -> anyhow::Result<Rate> {
    let (stop, count) = (
        Arc::new(AtomicBool::new(false)),
        Arc::new(AtomicU64::new(0)),
    );
    let started = Instant::now();
    let tasks: Vec<_> = (0..writers)
        .map(|writer| {
            let (db, stop, count) = (base.open(), Arc::clone(&stop), Arc::clone(&count));
            tokio::spawn(async move {
                let db = db?;
                while !stop.load(Ordering::Relaxed) {
                    let number = count.fetch_add(1, Ordering::Relaxed);
                    let now = SystemClock.now();
                    let team = entities::team(&format!("t-{round}-{writer}-{number}"));
                    let mut event = entities::event("", now);
                    event.id = AuditEventId::generate(now);
                    event.resource_id = team.id.to_string();
                    let done: Result<(), certctl_repository::Error> = transaction!(db, "drill", conn => {
                        teams::insert(conn, &team).await?;
                        audit_events::insert_all(conn, std::slice::from_ref(&event)).await
                    });
                    done?;
                }
                anyhow::Ok(())
            })
        })
        .collect();
    tokio::time::sleep(during).await;
    stop.store(true, Ordering::Relaxed);
    for task in tasks {
        task.await??;
    }
    Ok(Rate {
        writes: count.load(Ordering::Relaxed),
        took: started.elapsed(),
    })
}

/// The same while the sealer runs every second, and one verification in the middle of it.
async fn write_under_seal(
    base: &Base,
    services: &Services,
    writers: u32,
    during: Duration,
    round: u32,
) -> anyhow::Result<Rate> {
    let sealer = {
        let services = services.clone();
        tokio::spawn(async move {
            let mut tick = tokio::time::interval(Duration::from_secs(1));
            loop {
                tick.tick().await;
                services.seal_audit_log().await?;
            }
            #[expect(
                unreachable_code,
                reason = "says what the task ends with when it fails"
            )]
            anyhow::Ok(())
        })
    };
    let verifier = {
        let services = services.clone();
        tokio::spawn(async move {
            tokio::time::sleep(during / 2).await;
            services
                .verify_audit_log(&Actor::system(), VerifyFrom::Start, None)
                .await
        })
    };
    let rate = write(base, writers, during, round).await?;
    let found: AuditVerification = verifier.await??;
    ensure!(
        found.first_break.is_none(),
        "a false alarm among the writers: {:?}",
        found.first_break
    );
    if sealer.is_finished() {
        sealer.await??;
    } else {
        sealer.abort();
    }
    Ok(rate)
}

/// Something done to a copy of the trail, and what must be found.
struct Attack {
    name: &'static str,
    statements: String,
    id: String,
    position: i64,
}

/// The attacks of the issue, each on the first rows of the batch in the middle.
async fn attacks(base: &Base) -> anyhow::Result<Vec<Attack>> {
    let db = base.open()?;
    let number = async |sql: &str| -> anyhow::Result<i64> {
        let rows = testing::texts(&db, sql).await?;
        let text = rows.into_iter().next().flatten().context(sql.to_owned())?;
        Ok(text.parse()?)
    };
    let middle = number(
        "SELECT CAST(first_seq AS TEXT) AS value FROM audit_batches WHERE row_count > 1 \
         AND batch >= (SELECT max(batch) / 2 FROM audit_batches) ORDER BY batch LIMIT 1",
    )
    .await?;
    let count = number("SELECT CAST(count(*) AS TEXT) AS value FROM audit_positions").await?;
    let last = number("SELECT CAST(max(first_seq) AS TEXT) AS value FROM audit_batches").await?;
    let id_at = async |seq: i64| -> anyhow::Result<String> {
        let sql = format!("SELECT event_id AS value FROM audit_positions WHERE seq = {seq}");
        let rows = testing::texts(&db, &sql).await?;
        rows.into_iter()
            .next()
            .flatten()
            .context("no such position")
    };
    let (one, two) = (id_at(middle).await?, id_at(middle + 1).await?);
    let attack = |name, statements: String, id: &str, position| Attack {
        name,
        statements,
        id: id.to_owned(),
        position,
    };
    Ok(vec![
        attack(
            "edit",
            format!("UPDATE audit_events SET actor = 'mallory' WHERE id = '{one}'"),
            &one,
            middle,
        ),
        attack(
            "delete",
            format!("DELETE FROM audit_events WHERE id = '{one}'"),
            &one,
            middle,
        ),
        attack(
            "insert",
            format!(
                "INSERT INTO audit_events (id, actor, actor_type, action, resource_type, resource_id, details, timestamp, event_category) \
                 SELECT 'audit-forged', actor, actor_type, action, resource_type, resource_id, details, timestamp, event_category \
                 FROM audit_events WHERE id = '{one}'"
            ),
            "audit-forged",
            count,
        ),
        attack(
            "reorder",
            format!(
                "UPDATE audit_positions SET event_id = '-' WHERE seq = {middle}; \
                 UPDATE audit_positions SET event_id = '{one}' WHERE seq = {}; \
                 UPDATE audit_positions SET event_id = '{two}' WHERE seq = {middle}",
                middle + 1
            ),
            &two,
            middle,
        ),
        attack(
            "truncate",
            format!(
                "DELETE FROM audit_events WHERE id IN (SELECT event_id FROM audit_positions WHERE seq >= {last}); \
                 DELETE FROM audit_positions WHERE seq >= {last}; DELETE FROM audit_batches WHERE first_seq >= {last}; \
                 DELETE FROM audit_marks"
            ),
            &format!("position-{last}"),
            last,
        ),
    ])
}

impl Attack {
    async fn carry_out(
        &self,
        place: &Place,
        base: &Base,
        vault: &MemoryVault,
    ) -> anyhow::Result<()> {
        let copy = place.copy(base, self.name).await?;
        let db = copy.open()?;
        let statements = match db.backend() {
            Backend::Postgres => format!(
                "SET session_replication_role = replica; {}",
                self.statements
            ),
            Backend::Sqlite => {
                let triggers = "SELECT 'DROP TRIGGER ' || name AS value FROM sqlite_master WHERE type = 'trigger' AND tbl_name LIKE 'audit%'";
                let drops: Vec<String> = testing::texts(&db, triggers)
                    .await?
                    .into_iter()
                    .flatten()
                    .collect();
                format!("{}; {}", drops.join("; "), self.statements)
            }
        };
        testing::execute(&db, &statements).await?;
        let found = copy
            .services(vault)?
            .verify_audit_log(&Actor::system(), VerifyFrom::Start, None)
            .await?;
        let broken = found
            .first_break
            .with_context(|| format!("{} was not found", self.name))?;
        ensure!(
            broken.id == self.id && broken.position == self.position,
            "{}: {broken:?} where {} at {} was altered",
            self.name,
            self.id,
            self.position
        );
        println!(
            "{}: found at {} (position {}): {}",
            self.name, broken.id, broken.position, broken.problem
        );
        Ok(())
    }
}

/// Where databases are made.
struct Place {
    url: String,
    folder: PathBuf,
}

/// A database.
struct Base {
    url: String,
    folder: PathBuf,
}

impl Place {
    fn new(url: &str, folder: &str) -> Self {
        Self {
            url: url.to_owned(),
            folder: PathBuf::from(folder),
        }
    }

    fn is_postgres(&self) -> bool {
        self.url.starts_with("postgres")
    }

    fn base(&self, name: &str) -> Base {
        let url = if self.is_postgres() {
            with_database(&self.url, name)
        } else {
            format!(
                "sqlite://{}",
                self.folder.join(format!("{name}.db")).display()
            )
        };
        Base {
            url,
            folder: self.folder.clone(),
        }
    }

    /// A migrated database.
    async fn fresh(&self, name: &str) -> anyhow::Result<Base> {
        let base = self.base(name);
        if self.is_postgres() {
            let server = Secret::new(self.url.clone());
            testing::administer(&server, &[format!("CREATE DATABASE {name}")]).await?;
        }
        let options = migrations::Options {
            url: Secret::new(base.url.clone()),
            lock_timeout: Duration::from_secs(60),
            allow_newer: false,
            applied_by: "drill".to_owned(),
        };
        migrations::up(&options, &migrations::embedded(base.backend())).await?;
        Ok(base)
    }

    async fn copy(&self, base: &Base, name: &str) -> anyhow::Result<Base> {
        let copy = self.base(&format!("copy_{name}"));
        if self.is_postgres() {
            let server = Secret::new(self.url.clone());
            let statements = [
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = 'sealed'"
                    .to_owned(),
                format!("CREATE DATABASE copy_{name} TEMPLATE sealed"),
            ];
            testing::administer(&server, &statements).await?;
        } else {
            let file = copy.url.trim_start_matches("sqlite://").to_owned();
            testing::copy_sqlite(&base.url, &file).await?;
        }
        Ok(copy)
    }
}

impl Base {
    fn backend(&self) -> Backend {
        if self.url.starts_with("postgres") {
            Backend::Postgres
        } else {
            Backend::Sqlite
        }
    }

    fn open(&self) -> anyhow::Result<Db> {
        Ok(Db::open(&DbOptions {
            url: Secret::new(self.url.clone()),
            max_connections: 4,
            acquire_timeout: Duration::from_secs(60),
        })?)
    }

    /// What takes the marking of rows away, which is part of what sealing costs.
    const fn unguarded(&self) -> &'static str {
        if self.url.as_bytes()[0] == b'p' {
            "DROP TRIGGER note_unsealed ON audit_events"
        } else {
            "DROP TRIGGER note_unsealed"
        }
    }

    fn services(&self, vault: &MemoryVault) -> anyhow::Result<Services> {
        let clock: Arc<dyn Clock> = Arc::new(SystemClock);
        let sealer = Arc::new(Sealer::new(&Secret::new(
            "an encryption key of 32 bytes and some more",
        )));
        let store = Arc::new(FileCaStore::new(Path::new(&self.folder)));
        let issuers = Arc::new(Factory::new(
            store,
            Some(Arc::clone(&sealer)),
            Arc::clone(&clock),
        ));
        Ok(Services::new(Dependencies {
            db: self.open()?,
            clock,
            sealer: Some(sealer),
            issuers,
            responder_keys: None,
            vault: Arc::new(vault.clone()),
            acme: certctl_service::acme::AcmePorts::default(),
            config: config(),
        }))
    }
}

/// The URL of another database of the same server.
fn with_database(url: &str, name: &str) -> String {
    let (base, query) = url.split_once('?').unwrap_or((url, ""));
    let base = base.rsplit_once('/').map_or(base, |(base, _)| base);
    format!("{base}/{name}?{query}")
}
