//! The use cases on a test's database, with the real local CA.

use std::{
    collections::HashMap,
    io,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use certctl_connectors::issuer::{Factory, ca_store::FileCaStore};
use certctl_domain::{
    access::Actor,
    ports::{BoxFuture, vault::Vault},
    secret::Secret,
    time::{Clock, ManualClock},
};
use certctl_pki::seal::Sealer;
use certctl_repository::Db;
use certctl_service::{
    Services,
    acme::AcmePorts,
    audit::ExportRange,
    config::{AuditConfig, ConfiguredKey, Dependencies, KeygenMode, ServiceConfig, VerifyDefaults},
    limits::LimitsConfig,
};

/// The key of the administrator that every test has.
pub const ADMIN_KEY: &str = "test-admin-key-0123456789";
/// What agents register with.
pub const BOOTSTRAP_TOKEN: &str = "test-bootstrap-token-0123456789";

/// How the use cases of tests behave, unless a test says otherwise.
#[must_use]
pub fn config() -> ServiceConfig {
    ServiceConfig {
        instance: "test:1:00000000".to_owned(),
        auth_none: false,
        api_keys: vec![ConfiguredKey {
            name: "admin".to_owned(),
            key: Secret::new(ADMIN_KEY),
            admin: true,
        }],
        agent_bootstrap_token: Some(Secret::new(BOOTSTRAP_TOKEN)),
        bootstrap_token: None,
        runtime: std::collections::BTreeMap::new(),
        keygen_mode: KeygenMode::Agent,
        verify: VerifyDefaults {
            enabled: true,
            timeout: Duration::from_secs(10),
            delay: Duration::from_secs(2),
        },
        claim_limit: 1000,
        concurrency: 25,
        batch: 250,
        lease: Duration::from_secs(300),
        agent_offline_after: Duration::from_secs(180),
        awaiting_csr_timeout: Duration::from_secs(24 * 3600),
        awaiting_approval_timeout: Duration::from_secs(168 * 3600),
        approval_bypass: false,
        exports_per_hour: 50,
        limits: LimitsConfig::default(),
        status: certctl_service::status::StatusConfig::default(),
        audit: AuditConfig::default(),
        acme: None,
    }
}

/// The use cases on a database, by a clock that stands still; CAs are made below `data_dir`.
#[must_use]
pub fn services(
    db: Db,
    clock: &ManualClock,
    data_dir: &std::path::Path,
    config: ServiceConfig,
) -> Services {
    let clock: Arc<dyn Clock> = Arc::new(clock.clone());
    let sealer = Arc::new(Sealer::new(&Secret::new(
        "a test's encryption key of 32 bytes and more",
    )));
    let store = Arc::new(FileCaStore::new(data_dir));
    let issuers = Arc::new(Factory::new(
        store,
        Some(Arc::clone(&sealer)),
        Arc::clone(&clock),
    ));
    Services::new(Dependencies {
        db,
        clock,
        sealer: Some(sealer),
        issuers,
        responder_keys: None,
        vault: Arc::new(MemoryVault::default()),
        acme: AcmePorts::default(),
        config,
    })
}

/// A database that nothing is asked of, for tests of what lies above it; nothing is made on disk.
///
/// # Panics
/// Never: a pool is made without a connection.
#[must_use]
pub fn unopened_database() -> Db {
    let url = std::env::temp_dir()
        .join("certctl-never-opened.db")
        .display()
        .to_string();
    let options = certctl_repository::DbOptions {
        url: Secret::new(url),
        max_connections: 1,
        acquire_timeout: Duration::from_secs(1),
    };
    Db::open(&options).expect("a pool is made without a connection")
}

/// A vault in memory. Clones share what they keep, as processes of one machine do.
#[derive(Debug, Clone, Default)]
pub struct MemoryVault(Arc<Mutex<HashMap<String, Secret>>>);

impl MemoryVault {
    fn kept(&self) -> MutexGuard<'_, HashMap<String, Secret>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Vault for MemoryVault {
    fn read<'a>(&'a self, name: &'a str) -> BoxFuture<'a, io::Result<Option<Secret>>> {
        Box::pin(async move { Ok(self.kept().get(name).cloned()) })
    }

    fn keep_first<'a>(&'a self, name: &'a str, text: Secret) -> BoxFuture<'a, io::Result<Secret>> {
        Box::pin(async move { Ok(self.kept().entry(name.to_owned()).or_insert(text).clone()) })
    }

    fn replace<'a>(&'a self, name: &'a str, text: Secret) -> BoxFuture<'a, io::Result<()>> {
        Box::pin(async move {
            self.kept().insert(name.to_owned(), text);
            Ok(())
        })
    }
}

/// A sealed audit trail as an auditor is given it.
#[derive(Debug)]
pub struct SealedTrail {
    /// The export, lines of JSON.
    pub export: String,
    /// The key that signed it, PEM.
    pub public_key: String,
    /// The hash of its newest head, hex.
    pub head: String,
}

/// Writes rows, seals them ten at a time, and exports them all.
///
/// # Panics
/// When the database refuses anything.
pub async fn sealed_trail(db: &crate::TestDb, rows: u32) -> SealedTrail {
    let services = services(db.db(), db.clock(), &std::env::temp_dir(), config());
    let who = Actor::system();
    for number in 0..rows {
        let event = crate::entities::event(&format!("audit-{number:04}"), db.clock().now());
        let added: Result<(), certctl_repository::Error> = certctl_repository::transaction!(db.db(), "test", conn => {
            certctl_repository::audit_events::insert_all(conn, std::slice::from_ref(&event)).await
        });
        added.expect("a row can be added");
        if number % 10 == 9 || number + 1 == rows {
            services.seal_audit_log().await.expect("rows can be sealed");
        }
    }
    let range = ExportRange {
        from: db.clock().now(),
        to: db.clock().now(),
        category: None,
        limit: 100_000,
    };
    let mut reading = services
        .export_sealed_audit(&who, range)
        .await
        .expect("the range is in order");
    let mut export = String::new();
    while let Some(lines) = reading.next().await.expect("rows can be read") {
        export.push_str(&lines);
    }
    let keys = services
        .list_audit_keys(&who)
        .await
        .expect("keys can be read");
    let heads = services
        .list_audit_heads(&who, certctl_domain::page::PageRequest::default())
        .await
        .expect("heads can be read");
    SealedTrail {
        export,
        public_key: keys[0].public_key_pem.clone(),
        head: hex::encode(heads.rows[0].head.hash()),
    }
}
