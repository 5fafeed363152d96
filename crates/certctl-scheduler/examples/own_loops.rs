//! The loops of certctl in a process of one's own, beside a loop that certctl does not know:
//! `cargo run -p certctl-scheduler --example own_loops`.

use std::{
    error::Error,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use certctl_scheduler::{Intervals, Loop, Running, spawn, table};
use certctl_service::Services;
use futures_util::FutureExt as _;
use tokio_util::sync::CancellationToken;

#[tokio::main(flavor = "multi_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    // The example borrows a database that is gone with it, and a clock that stands still. A process of its own opens the database
    // of the installation with `certctl-repository`, takes `SystemClock`, and puts the use cases together with `Services::new`.
    let db = certctl_testkit::TestDb::sqlite().await;
    let folder = std::env::temp_dir();
    let config = certctl_testkit::services::config();
    let services = certctl_testkit::services::services(db.db(), db.clock(), &folder, config);
    let seen = Arc::new(AtomicU64::new(0));
    let running = start(&services, &seen);
    while seen.load(Ordering::Relaxed) < 3 {
        tokio::task::yield_now().await;
    }
    println!(
        "ended in order: {}",
        running.drain(Duration::from_secs(30)).await
    );
    Ok(())
}

/// Starts all loops of certctl and one that counts its own runs.
pub(crate) fn start(services: &Services, seen: &Arc<AtomicU64>) -> Running {
    // A loop is data; the framework spreads its ticks, keeps its runs apart, ends them at their deadline and counts them.
    let seen = Arc::clone(seen);
    let own = Loop {
        name: "ownCount",
        interval: Duration::from_millis(50),
        deadline: Duration::from_secs(1),
        at_start: Some(Duration::ZERO),
        bell: None,
        body: Arc::new(move |_stop| {
            let runs = seen.fetch_add(1, Ordering::Relaxed) + 1;
            // What a run answers is logged; an error or a panic is logged and counted, and the loop goes on.
            std::future::ready(Ok(Some(format!("run {runs}")))).boxed()
        }),
    };
    let mut loops = table(services, intervals());
    loops.push(own);
    spawn(loops, services.clock(), &CancellationToken::new())
}

/// The defaults of the settings of the same names.
fn intervals() -> Intervals {
    const MINUTE: Duration = Duration::from_secs(60);
    Intervals {
        renewal_check: 60 * MINUTE,
        job_processor: Duration::from_secs(30),
        job_retry: 5 * MINUTE,
        job_timeout: 10 * MINUTE,
        agent_health_check: 2 * MINUTE,
        rate_limit_gc: 5 * MINUTE,
        crl_generation: 60 * MINUTE,
        short_lived_expiry: Duration::from_secs(30),
        approval_expiry: MINUTE,
        audit_chain_verify: 360 * MINUTE,
        acme_gc: Some(MINUTE),
    }
}
