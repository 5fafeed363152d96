//! Which database is used, and how.

use std::{
    path::{Path as FsPath, PathBuf},
    time::Duration,
};

use crate::{
    database_url::{DatabaseUrl, DatabaseUrlForm, PASSWORD_PLACEHOLDER, percent_encode},
    form::{Bool, Count, Path},
    problem::{Problem, Warning},
    reader::Reader,
    setting::{
        DefaultValue::{Derived, Text, Unset},
        settings,
    },
    span::Span,
};

/// The variable that the placeholder of a database URL stands for.
const PASSWORD_VARIABLE: &str = "POSTGRES_PASSWORD";

settings!(DATABASE, "Database" {
    DATABASE_URL: DatabaseUrlForm = DatabaseUrlForm, Derived("`sqlite://<DATA_DIR>/certctl.db`"), DATABASE,
        "The database. `$(POSTGRES_PASSWORD)` in it stands for the value of that variable, which may hold any character.";
    DATABASE_MAX_CONNS: Count = Count { min: 1, max: 10_000 }, Text("50"), DATABASE,
        "The greatest number of connections of this process. A fifth of them, at least one, is kept open when idle.";
    DATABASE_TLS_STRICT: Bool = Bool, Text("false"), DATABASE,
        "Refuses `sslmode=disable` to a host that is not known to be private, which otherwise is only warned about.";
    DATABASE_MIGRATIONS_PATH: Path = Path, Unset, DATABASE,
        "A directory of migrations to use in place of those in the program.";
    MIGRATIONS_LOCK_TIMEOUT: Span = Span::at_least_seconds(1), Text("5m"), DATABASE,
        "How long to wait for another process that is migrating.";
    MIGRATIONS_ALLOW_NEWER: Bool = Bool, Text("false"), DATABASE,
        "Accepts a database that has migrations which this program does not know.";
    MIGRATIONS_VIA_HOOK: Bool = Bool, Text("false"), SERVER,
        "Does not migrate at start, for a job has done so; a start on an incomplete database is refused.";
    DEMO_SEED: Bool = Bool, Text("false"), SERVER, "Fills the database with the demo data at start, where it is absent. Nothing happens to it by itself for a day; its agents are nobody.";
});

/// Which database is used, and how.
#[derive(Debug, Clone)]
pub struct DatabaseSettings {
    /// The database.
    pub url: DatabaseUrl,
    /// The greatest number of connections; at least 1.
    pub max_connections: u32,
    /// A directory of migrations in place of the embedded ones.
    pub migrations_path: Option<PathBuf>,
    /// How long to wait for the lock of the migrations.
    pub migrations_lock_timeout: Duration,
    /// Whether a ledger with unknown versions is accepted.
    pub migrations_allow_newer: bool,
    /// Whether a job has migrated, so that the start only verifies. Always false for `certctl-migrate`.
    pub migrations_via_hook: bool,
    /// Whether the demo data is to be there. Always false for `certctl-migrate`.
    pub demo_seed: bool,
}

impl DatabaseSettings {
    /// The number of connections kept open when idle; at least 1.
    #[must_use]
    pub fn idle_connections(&self) -> u32 {
        (self.max_connections / 5).max(1)
    }

    /// Reads what every program that opens the database needs.
    pub(crate) fn read(reader: &mut Reader<'_>, data_dir: &FsPath) -> Self {
        let url = read_url(reader, data_dir);
        let settings = Self {
            max_connections: reader.get(&DATABASE_MAX_CONNS),
            migrations_path: reader.find(&DATABASE_MIGRATIONS_PATH),
            migrations_lock_timeout: reader.get(&MIGRATIONS_LOCK_TIMEOUT),
            migrations_allow_newer: reader.get(&MIGRATIONS_ALLOW_NEWER),
            migrations_via_hook: false,
            demo_seed: false,
            url,
        };
        let strict = reader.get(&DATABASE_TLS_STRICT);
        settings.check_tls(strict, reader);
        settings
    }

    /// Reads what only the server decides.
    pub(crate) fn read_for_server(reader: &mut Reader<'_>, data_dir: &FsPath) -> Self {
        let common = Self::read(reader, data_dir);
        Self {
            migrations_via_hook: reader.get(&MIGRATIONS_VIA_HOOK),
            demo_seed: reader.get(&DEMO_SEED),
            ..common
        }
    }

    fn check_tls(&self, strict: bool, reader: &mut Reader<'_>) {
        let DatabaseUrl::Postgres(url) = &self.url else {
            return;
        };
        let Some(host) = url.host_exposed_without_tls() else {
            return;
        };
        if strict {
            let why =
                format!("sslmode=disable to {host} is refused by CERTCTL_DATABASE_TLS_STRICT");
            reader.refuse(Problem::refused("CERTCTL_DATABASE_URL", why));
        } else {
            reader.warn(Warning::DatabaseWithoutTls {
                host: host.to_owned(),
            });
        }
    }
}

fn read_url(reader: &mut Reader<'_>, data_dir: &FsPath) -> DatabaseUrl {
    reader.rewrite(&DATABASE_URL, |reader, text| {
        if !text.contains(PASSWORD_PLACEHOLDER) {
            return Ok(text.to_owned());
        }
        let password = reader
            .foreign(PASSWORD_VARIABLE)
            .filter(|password| !password.is_empty())
            .ok_or_else(|| Problem::Placeholder {
                variable: "CERTCTL_DATABASE_URL".to_owned(),
                placeholder: PASSWORD_VARIABLE,
            })?;
        // Encoded, or a password with `@` or `/` in it would move the host.
        Ok(text.replace(PASSWORD_PLACEHOLDER, &percent_encode(&password)))
    });
    reader.derive(&DATABASE_URL, |_| {
        let url = DatabaseUrl::Sqlite {
            path: data_dir.join("certctl.db"),
        };
        let shown = url.redacted();
        (url, shown)
    })
}
