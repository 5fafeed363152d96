//! PostgreSQL databases that tests use one after another.
//!
//! Making a database writes some 8 MB, and dropping one waits until all that any database has written is on disk: on a slow or
//! busy disk far longer than a test takes. So a database whose test has ended is emptied, seeded anew and given to the next one,
//! under another name, which nobody who is left from the first test knows.

use std::sync::{Mutex, PoisonError};

use certctl_domain::secret::Secret;
use certctl_repository::{Backend, testing};
use tokio::{runtime, sync::OnceCell};

use super::{PREFIX, chain, database_url, migrate, unique_name};

/// Databases as good as new.
static FREE: Mutex<Vec<String>> = Mutex::new(Vec::new());

/// A migrated database that others are cloned from.
struct Template {
    name: String,
    fingerprint: String,
}

static TEMPLATE: OnceCell<Template> = OnceCell::const_new();

/// The name of a migrated and seeded database that nobody else uses.
///
/// # Panics
/// When it cannot be made.
pub(super) async fn take(server: &Secret) -> String {
    let template = TEMPLATE.get_or_init(|| make_template(server)).await;
    let free = FREE.lock().unwrap_or_else(PoisonError::into_inner).pop();
    if let Some(name) = free {
        return name;
    }
    let name = unique_name();
    let create = format!("CREATE DATABASE {name} TEMPLATE {}", template.name);
    testing::administer(server, &[create])
        .await
        .unwrap_or_else(|error| panic!("cannot make a database: {}", chain(&error)));
    name
}

/// Takes a database back from a test that has ended, whether it came from [`take`] or not.
pub(super) fn put(server: &Secret, name: &str) {
    // A runtime cannot wait inside of another one.
    std::thread::scope(|scope| {
        scope.spawn(|| {
            if let Ok(runtime) = runtime::Builder::new_current_thread().enable_all().build() {
                runtime.block_on(put_back(server, name));
            }
        });
    });
}

async fn put_back(server: &Secret, name: &str) {
    let new = unique_name();
    let url = Secret::new(database_url(server, &new));
    let recycled = match TEMPLATE.get() {
        Some(template) => testing::recycle(server, name, &new, &url, &template.fingerprint).await,
        None => Ok(false),
    };
    if matches!(recycled, Ok(true)) {
        FREE.lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(new);
    } else {
        // It had no schema or has another one by now; which of the two names it bears does not matter.
        drop_all(server, &[name.to_owned(), new]).await;
    }
}

/// Made once for each server and schema; what processes that are no more have left behind is dropped on this occasion.
async fn make_template(server: &Secret) -> Template {
    let digest = testing::fingerprint(Backend::Postgres);
    let name = format!("certctl_template_{}", &digest[..16]);
    let fill = async |database: String| {
        migrate(&database_url(server, &database))
            .await
            .unwrap_or_else(|error| panic!("cannot migrate: {}", chain(&error)));
        Ok(())
    };
    testing::make_database_once(server, &name, fill)
        .await
        .unwrap_or_else(|error| panic!("cannot make a template: {}", chain(&error)));
    let names = testing::databases(server, PREFIX).await.unwrap_or_default();
    let left: Vec<String> = names.into_iter().filter(|name| !is_owned(name)).collect();
    drop_all(server, &left).await;
    // Of a clone, because nobody may be connected to a template while others clone it.
    let probe = unique_name();
    let create = format!("CREATE DATABASE {probe} TEMPLATE {name}");
    let url = Secret::new(database_url(server, &probe));
    let fingerprint = match testing::administer(server, &[create]).await {
        Ok(()) => testing::schema_fingerprint(&url).await,
        Err(error) => Err(error),
    };
    let fingerprint =
        fingerprint.unwrap_or_else(|error| panic!("cannot clone a template: {}", chain(&error)));
    FREE.lock()
        .unwrap_or_else(PoisonError::into_inner)
        .push(probe);
    Template { name, fingerprint }
}

/// Whether the process that a database is named after still runs. Only processes of this host use a server of tests.
fn is_owned(name: &str) -> bool {
    let process = name
        .strip_prefix(PREFIX)
        .and_then(|rest| rest.split('_').next());
    process.is_none_or(|process| std::path::Path::new("/proc").join(process).exists())
}

async fn drop_all(server: &Secret, names: &[String]) {
    for name in names {
        let drop = format!("DROP DATABASE IF EXISTS {name} WITH (FORCE)");
        // A database that stays behind is no reason to fail a test; another process may be sweeping too.
        if let Err(error) = testing::administer(server, &[drop]).await {
            eprintln!("the test database {name} stays behind: {}", chain(&error));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::is_owned;

    #[test]
    fn databases_of_running_processes_stay() {
        assert!(is_owned(&format!("certctl_test_{}_7", std::process::id())));
        // No process has a number that large.
        assert!(!is_owned("certctl_test_99999999_0"));
        assert!(is_owned("orders"));
    }
}
