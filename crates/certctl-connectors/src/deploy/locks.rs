//! One lock per path, process-wide: two targets may name the same file.

use std::{
    collections::HashMap,
    path::PathBuf,
    sync::{Arc, LazyLock, Mutex, PoisonError, Weak},
};

use tokio::sync::OwnedMutexGuard;

type Lock = tokio::sync::Mutex<()>;

static LOCKS: LazyLock<Mutex<HashMap<PathBuf, Weak<Lock>>>> = LazyLock::new(Mutex::default);

/// Locks all these paths. They are taken in sorted order, so that two deployments that share two files cannot each
/// hold one and wait for the other.
pub(super) async fn lock(mut paths: Vec<PathBuf>) -> Vec<OwnedMutexGuard<()>> {
    paths.sort();
    let mut held = Vec::with_capacity(paths.len());
    for path in paths {
        held.push(of(path).lock_owned().await);
    }
    held
}

fn of(path: PathBuf) -> Arc<Lock> {
    let mut locks = LOCKS.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(lock) = locks.get(&path).and_then(Weak::upgrade) {
        return lock;
    }
    // Locks that nobody holds are dropped here, so that the map is bounded by what is being deployed.
    locks.retain(|_, lock| lock.strong_count() > 0);
    let lock = Arc::new(Lock::default());
    locks.insert(path, Arc::downgrade(&lock));
    lock
}
