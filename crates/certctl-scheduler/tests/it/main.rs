//! The example, as another process would run it.

#![expect(
    clippy::unwrap_used,
    reason = "clippy knows tests by their attribute, and these bodies are called from such"
)]

#[path = "../../examples/own_loops.rs"]
#[expect(dead_code, reason = "its main is for people")]
mod own_loops;

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use certctl_testkit::{TestDb, db_tests, services};

db_tests! {
    async fn loops_of_certctl_and_ones_own_run_in_one_process(db: TestDb) {
        let ids = db.seed_basics().await;
        let folder = tempfile::tempdir().unwrap();
        let config = certctl_service::config::ServiceConfig {
            keygen_mode: certctl_service::config::KeygenMode::Server,
            ..services::config()
        };
        let services = services::services(db.db(), db.clock(), folder.path(), config);
        services.grant_configured_keys().await.unwrap();
        let admin = services.authenticate(services::ADMIN_KEY).await.unwrap().unwrap();
        services.renew_certificate(&admin, &ids.certificate, false).await.unwrap();
        let seen = Arc::new(AtomicU64::new(0));
        let running = own_loops::start(&services, &seen);
        let jobs = "SELECT status AS value FROM jobs WHERE type = 'Issuance'";
        let done = async {
            while db.texts(jobs).await != ["Completed"] || seen.load(Ordering::Relaxed) < 3 {
                tokio::task::yield_now().await;
            }
        };
        let done = tokio::time::timeout(Duration::from_secs(60), done).await;
        done.expect("the processor of certctl does the job, and the own loop runs");
        assert!(running.drain(Duration::from_secs(30)).await);
        let after = seen.load(Ordering::Relaxed);
        assert!(after >= 3);
    }
}
