//! What a revocation costs beside many others: the list of them, and how soon verifiers see it.
//! `cargo xtask bench revocation` runs it on both databases, optimised.
//!
//! Arguments: the URL of an empty database, a folder for the CA, how many are revoked, ascending.

#[expect(
    dead_code,
    reason = "the use cases are asked here, and not the API around them"
)]
mod common;

use std::{
    net::{IpAddr, Ipv4Addr},
    time::{Duration, Instant},
};

use anyhow::{Context as _, ensure};
use certctl_domain::{
    access::Actor,
    id::{CertificateId, IssuerId},
    serial::SerialNumber,
};
use certctl_pki::{
    cert::ParsedCertificate,
    ocsp::{CertId, CertStatus, HashAlgorithm, IssuerHashes, ParsedResponse, encode_request},
};
use certctl_repository::{Backend, Db, testing};
use certctl_service::{
    Services, config::ServiceConfig, crls::Crl, ocsp::OcspQuestion, status::StatusConfig,
};
use certctl_testkit::services::{ADMIN_KEY, config};
use common::{at, numbered};
use tokio::task::JoinSet;

/// Revocations that are waited for at OCSP, while nothing else goes on.
const SEEN_BY_OCSP: usize = 200;
/// Revocations that are waited for on the list, and at OCSP meanwhile.
const SEEN_ON_LIST: usize = 5;
/// How often is looked.
const PAUSE: Duration = Duration::from_millis(1);
/// Far more than anything here takes; only bounds a hang.
const LIMIT: Duration = Duration::from_secs(120);

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let mut arguments = std::env::args().skip(1);
    let (Some(url), Some(folder)) = (arguments.next(), arguments.next()) else {
        anyhow::bail!("usage: revocation DATABASE_URL FOLDER REVOKED…");
    };
    let sizes = arguments
        .map(|size| size.parse::<usize>().context("REVOKED"))
        .collect::<Result<Vec<_>, _>>()?;
    let bench = Bench::new(&url, &folder).await?;
    let mut revoked = 0;
    let mut first: Option<Seen> = None;
    for size in sizes {
        bench.seed(revoked, size).await?;
        revoked = size;
        common::settle(&bench.db).await?;
        bench.lists(size).await?;
        let seen = bench.revocations(size).await?;
        match &first {
            None => first = Some(seen),
            Some(first) => bench.compare(first, &seen),
        }
    }
    bench.plan().await
}

/// A replica, with what tells it of the others.
struct Replica {
    name: &'static str,
    services: Services,
}

struct Bench {
    db: Db,
    replicas: Vec<Replica>,
    actor: Actor,
    issuer: IssuerId,
    hashes: IssuerHashes,
    _hearing: JoinSet<()>,
}

/// How long something took, again and again.
#[derive(Default)]
struct Times(Vec<Duration>);

impl Times {
    fn p50(&self) -> Duration {
        let mut all = self.0.clone();
        all.sort_unstable();
        all.get(all.len() / 2).copied().unwrap_or_default()
    }

    fn max(&self) -> Duration {
        self.0.iter().max().copied().unwrap_or_default()
    }
}

/// A row of the table: what was waited for, where.
struct Seen(Vec<(String, Times)>);

impl Seen {
    fn note(&mut self, what: &str, took: Duration) {
        match self.0.iter_mut().find(|(known, _)| known == what) {
            Some((_, times)) => times.0.push(took),
            None => self.0.push((what.to_owned(), Times(vec![took]))),
        }
    }
}

impl Bench {
    async fn new(url: &str, folder: &str) -> anyhow::Result<Self> {
        let db = common::open(url).await?;
        let mut replicas = vec![Replica {
            name: "here",
            services: common::services_with(db.clone(), folder, configured("bench:1:00000000"))
                .await?,
        }];
        let mut hearing = JoinSet::new();
        if db.backend() == Backend::Postgres {
            // Pools, memory and notifications of its own, as another process has them.
            let services = common::services_with(
                common::open(url).await?,
                folder,
                configured("bench:2:00000000"),
            )
            .await?;
            replicas.push(Replica {
                name: "elsewhere",
                services,
            });
        }
        for replica in &replicas {
            let services = replica.services.clone();
            hearing.spawn(async move {
                if let Err(error) = services.hear_wakes().await {
                    eprintln!("nothing is heard any more: {error}");
                }
            });
        }
        let services = &replicas[0].services;
        let issuer = IssuerId::from_stored("iss-local".to_owned());
        let ca = services.issuer_ca_certificate(&issuer).await?;
        Ok(Self {
            actor: services
                .authenticate(ADMIN_KEY)
                .await?
                .context("the administrator is not known")?,
            hashes: IssuerHashes::new(&ParsedCertificate::from_der(&ca)?)?,
            db,
            replicas,
            issuer,
            _hearing: hearing,
        })
    }

    fn services(&self) -> &Services {
        &self.replicas[0].services
    }

    /// Revoked serials from one number to another, each of a version that has ended or will, and certificates to revoke.
    async fn seed(&self, from: usize, to: usize) -> anyhow::Result<()> {
        let backend = self.db.backend();
        let now = at(backend, "1780000000");
        // Every tenth has ended long ago.
        let until = at(
            backend,
            "CASE i % 10 WHEN 0 THEN 1700000000 ELSE 1900000000 END + i",
        );
        let (serial, short) = match backend {
            Backend::Postgres => ("'1' || substr(md5(i::text), 2)", "false"),
            Backend::Sqlite => ("'1' || substr(lower(hex(randomblob(16))), 2)", "0"),
        };
        let certificates = SEEN_BY_OCSP + SEEN_ON_LIST;
        let later = at(backend, "1980000000");
        let statements = [
            "INSERT INTO teams (id, name) VALUES ('t-bench', 'bench') ON CONFLICT DO NOTHING; \
             INSERT INTO owners (id, name, team_id) VALUES ('o-bench', 'bench', 't-bench') ON CONFLICT DO NOTHING"
                .to_owned(),
            numbered(
                backend,
                "managed_certificates (id, name, common_name, owner_id, team_id, issuer_id, renewal_policy_id, status, expires_at, created_at, updated_at)",
                1,
                certificates,
                &format!(
                    "SELECT 'mc-{to}-' || i, '{to}-' || i, i || '.example.test', 'o-bench', 't-bench', 'iss-local', 'rp-default', 'Active', \
                     {later}, {now}, {now} FROM n"
                ),
            ),
            numbered(
                backend,
                "certificate_versions (id, certificate_id, issuer_id, serial_number, not_before, not_after, fingerprint_sha256, pem_chain, created_at)",
                1,
                certificates,
                &format!(
                    "SELECT 'v-{to}-' || i, 'mc-{to}-' || i, 'iss-local', {}, {now}, {later}, '{to}-' || i, '', {now} FROM n",
                    own_serial(backend, to)
                ),
            ),
            numbered(
                backend,
                "certificate_revocations (id, certificate_id, issuer_id, serial_number, reason, revoked_by, revoked_at, listed_until, short_lived)",
                from + 1,
                to,
                &format!(
                    "SELECT 'rev-' || i, 'mc-{to}-1', 'iss-local', {serial}, \
                     CASE i % 3 WHEN 0 THEN 'keyCompromise' WHEN 1 THEN 'superseded' ELSE 'unspecified' END, 'bench', {now}, {until}, {short} FROM n"
                ),
            ),
            format!(
                "INSERT INTO revocation_status (issuer_id, version, updated_at) VALUES ('iss-local', 1, {now}) \
                 ON CONFLICT (issuer_id) DO UPDATE SET version = revocation_status.version + 1"
            ),
        ];
        for sql in statements {
            testing::execute(&self.db, &sql).await?;
        }
        Ok(())
    }

    /// Makes the list twice: once as the first of its size, once knowing how long it will be.
    async fn lists(&self, revoked: usize) -> anyhow::Result<()> {
        for what in ["first of its size", "next"] {
            testing::execute(
                &self.db,
                "UPDATE revocation_status SET version = version + 1",
            )
            .await?;
            memory::forget_peak()?;
            let (before, started) = (memory::now()?, Instant::now());
            ensure!(
                self.services().generate_crls().await? == 1,
                "no list was made"
            );
            let took = started.elapsed();
            let grown = memory::peak()?.saturating_sub(before);
            let started = Instant::now();
            let crl = self.services().crl(&self.issuer, None).await?;
            println!(
                "{} list of {revoked}, {what}: made in {:.2} s, {:.1} MiB, memory grew by {:.1} MiB at its peak; read in {:.2} s",
                self.db.backend(),
                took.as_secs_f64(),
                mebibytes(crl.der.as_ref().len()),
                mebibytes(grown),
                started.elapsed().as_secs_f64()
            );
        }
        Ok(())
    }

    /// Revokes one certificate after the other, and waits until each is seen.
    async fn revocations(&self, size: usize) -> anyhow::Result<Seen> {
        let mut seen = Seen(Vec::new());
        for number in 1..=SEEN_BY_OCSP {
            self.revoke_and_look(size, number, "", &mut seen).await?;
        }
        // As the loop of every server does.
        let mut making = JoinSet::new();
        for replica in &self.replicas {
            let services = replica.services.clone();
            making.spawn(async move {
                loop {
                    services.crl_wanted().await;
                    if let Err(error) = services.generate_crls().await {
                        eprintln!("no list: {error}");
                    }
                }
            });
        }
        self.list_beyond(self.services().crl(&self.issuer, None).await?.number)
            .await?;
        for number in SEEN_BY_OCSP + 1..=SEEN_BY_OCSP + SEEN_ON_LIST {
            let before = self.services().crl(&self.issuer, None).await?.number;
            let answered = self
                .revoke_and_look(size, number, " while the list is made", &mut seen)
                .await?;
            let crl = self.list_beyond(before).await?;
            seen.note("on the list", answered.elapsed());
            let serial = SerialNumber::parse(&serial_of(size, number))?;
            let bytes = serial.to_be_bytes();
            ensure!(
                crl.der
                    .as_ref()
                    .windows(bytes.len())
                    .any(|window| window == bytes),
                "the new list does not name what was revoked before it"
            );
        }
        making.shutdown().await;
        for (what, times) in &seen.0 {
            println!(
                "{} {what}, {size} revoked: p50 {:.2} ms, max {:.2} ms",
                self.db.backend(),
                millis(times.p50()),
                millis(times.max())
            );
        }
        Ok(seen)
    }

    /// Waits for a list with a greater number.
    async fn list_beyond(&self, number: i64) -> anyhow::Result<Crl> {
        let started = Instant::now();
        loop {
            let crl = self.services().crl(&self.issuer, None).await?;
            if crl.number > number {
                return Ok(crl);
            }
            ensure!(started.elapsed() < LIMIT, "no new list");
            tokio::time::sleep(PAUSE).await;
        }
    }

    /// Revokes a certificate that every replica has just called good, and waits until each calls it revoked; when the call was
    /// answered.
    async fn revoke_and_look(
        &self,
        size: usize,
        number: usize,
        when: &str,
        seen: &mut Seen,
    ) -> anyhow::Result<Instant> {
        let serial = SerialNumber::parse(&serial_of(size, number))?;
        let id = CertId::new(HashAlgorithm::Sha1, &self.hashes, &serial);
        let request = encode_request(&[id], None);
        for replica in &self.replicas {
            let status = self.status(replica, &request).await?;
            ensure!(
                status == CertStatus::Good,
                "{status:?} before it was revoked"
            );
        }
        let certificate = CertificateId::from_stored(format!("mc-{size}-{number}"));
        let asked = Instant::now();
        self.services()
            .revoke_certificate(&self.actor, &certificate, Some("superseded"))
            .await?;
        let answered = Instant::now();
        seen.note(&format!("the revoking call{when}"), answered - asked);
        let looks = self.replicas.iter().map(async |replica| {
            while self.status(replica, &request).await? == CertStatus::Good {
                ensure!(
                    answered.elapsed() < LIMIT,
                    "{} never heard of it",
                    replica.name
                );
                tokio::time::sleep(PAUSE).await;
            }
            Ok::<_, anyhow::Error>((replica.name, answered.elapsed()))
        });
        for look in futures_util::future::join_all(looks).await {
            let (name, took) = look?;
            seen.note(&format!("OCSP {name}{when}"), took);
        }
        Ok(answered)
    }

    async fn status(&self, replica: &Replica, request: &[u8]) -> anyhow::Result<CertStatus> {
        let question = OcspQuestion::Body(request);
        let client = IpAddr::V4(Ipv4Addr::LOCALHOST);
        let answer = replica
            .services
            .answer_ocsp(client, &self.issuer, question)
            .await?;
        let response = ParsedResponse::from_der(answer.der.as_ref())?;
        let (_, status, ..) = response.answers.first().context("nothing was answered")?;
        Ok(*status)
    }

    fn compare(&self, first: &Seen, now: &Seen) {
        for ((what, small), (_, large)) in first.0.iter().zip(&now.0) {
            println!(
                "{} {what}: ratio to the smallest {:.2} of p50, {:.2} of max",
                self.db.backend(),
                millis(large.p50()) / millis(small.p50()),
                millis(large.max()) / millis(small.max())
            );
        }
    }

    /// How the entries of a list are found.
    async fn plan(&self) -> anyhow::Result<()> {
        let sql = "SELECT serial_number, reason, revoked_at, listed_until FROM certificate_revocations \
            WHERE issuer_id = $1 AND (listed_until, serial_number) > ($2, $3) AND listed_until IS NOT NULL \
            ORDER BY listed_until, serial_number LIMIT $4";
        let sql = match self.db.backend() {
            Backend::Postgres => sql.to_owned(),
            Backend::Sqlite => sql.replace('$', "?"),
        };
        for step in testing::generic_plan(&self.db, &sql).await? {
            println!("{} plan: {step}", self.db.backend());
        }
        Ok(())
    }
}

/// Nobody is limited, for one address asks for all.
fn configured(instance: &str) -> ServiceConfig {
    ServiceConfig {
        instance: instance.to_owned(),
        status: StatusConfig {
            ocsp_per_minute: 0,
            ..StatusConfig::default()
        },
        ..config()
    }
}

/// The serial of the certificate `number` of a size, in Rust and as SQL; no seeded one begins like it.
fn serial_of(size: usize, number: usize) -> String {
    format!("e{size:015x}{number:016}")
}

fn own_serial(backend: Backend, size: usize) -> String {
    let number = match backend {
        Backend::Postgres => "lpad(i::text, 16, '0')",
        Backend::Sqlite => "printf('%016d', i)",
    };
    format!("'e{size:015x}' || {number}")
}

fn millis(took: Duration) -> f64 {
    took.as_secs_f64() * 1e3
}

fn mebibytes(bytes: usize) -> f64 {
    bytes as f64 / f64::from(1 << 20)
}

/// What Linux says of the memory of this process, in bytes.
mod memory {
    use anyhow::Context as _;

    /// Begins to look for the greatest anew (proc(5), `clear_refs`).
    pub(super) fn forget_peak() -> anyhow::Result<()> {
        Ok(std::fs::write("/proc/self/clear_refs", "5")?)
    }

    pub(super) fn now() -> anyhow::Result<usize> {
        line("VmRSS:")
    }

    pub(super) fn peak() -> anyhow::Result<usize> {
        line("VmHWM:")
    }

    fn line(name: &str) -> anyhow::Result<usize> {
        let status = std::fs::read_to_string("/proc/self/status")?;
        let kib = status
            .lines()
            .find_map(|line| line.strip_prefix(name))
            .and_then(|rest| rest.split_whitespace().next()?.parse::<usize>().ok());
        Ok(kib.context("the system says nothing of memory")? * 1024)
    }
}
