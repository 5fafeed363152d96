//! The use cases on a test's database, with the real local CA.

use std::{sync::Arc, time::Duration};

use certctl_connectors::issuer::{Factory, ca_store::FileCaStore};
use certctl_domain::{
    secret::Secret,
    time::{Clock, ManualClock},
};
use certctl_pki::seal::Sealer;
use certctl_repository::Db;
use certctl_service::{
    Services,
    config::{ConfiguredKey, Dependencies, KeygenMode, ServiceConfig, VerifyDefaults},
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
