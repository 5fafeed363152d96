//! Building a server: migrated, wired and bound, with nothing serving yet.

use std::{
    fmt,
    path::{Path, PathBuf},
    sync::Arc,
};

use certctl_connectors::issuer::{
    Factory,
    ca_store::{CaStore, FileCaStore},
    responder_keys::KeyFolder,
};
use certctl_domain::{
    ports::issuer::ResponderKeyFiles,
    secret::Secret,
    time::{Clock, SystemClock, Timestamp},
};
use certctl_http::{App, AppState, Capabilities, tls::CertResolver};
use certctl_pki::seal::Sealer;
use certctl_repository::{Backend, Db, migrations};
use certctl_service::{
    Services,
    config::Dependencies,
    encryption::{self, Step},
    seeds,
};
use certctl_settings::{DatabaseUrl, Settings};
use certctl_telemetry::{Health, MetricsHandle};
use tokio::net::TcpListener;

use crate::{
    Error, Logs, Running,
    authority::DatabaseCaStore,
    build_info::build_info,
    ca_keys,
    identity::{Identity, OwnIdentity, at, lock, write_private},
    vault::FileVault,
    wiring,
};

/// A server that can be started.
pub struct Server {
    pub(crate) settings: Settings,
    pub(crate) services: Services,
    pub(crate) app: App,
    pub(crate) listener: TcpListener,
    pub(crate) certificate: Arc<CertResolver>,
    pub(crate) identity: Identity,
    pub(crate) health: Health,
    pub(crate) metrics: MetricsHandle,
    welcome: Welcome,
}

/// What the one who starts a server needs to know: where it listens, what to trust, and the keys that are shown once.
#[derive(Debug, Clone)]
pub struct Welcome {
    /// Where it listens.
    pub url: String,
    /// The root to trust, when the server made it.
    pub root: Option<PathBuf>,
    /// The first administrator's key, on the first start of a database only.
    pub first_key: Option<Secret>,
    /// The ACME directory, when there is one that names no profile or a way to find one.
    pub acme: Option<String>,
    /// Where the token is that agents register with, when the server made it.
    pub bootstrap_token: Option<PathBuf>,
}

/// Everything of a server but its listener: migrated and wired, with nothing running yet.
pub(crate) struct Assembled {
    pub(crate) settings: Settings,
    pub(crate) services: Services,
    pub(crate) state: AppState,
    pub(crate) health: Health,
    pub(crate) metrics: MetricsHandle,
    factory: Arc<Factory>,
    clock: Arc<dyn Clock>,
    bootstrap_token: Option<PathBuf>,
}

impl Assembled {
    /// Brings the database up to date and puts everything together.
    pub(crate) async fn new(settings: Settings, metrics: MetricsHandle) -> Result<Self, Error> {
        let clock: Arc<dyn Clock> = Arc::new(SystemClock);
        let data_dir = settings.server.data_dir.clone();
        make_private_folder(&data_dir)?;
        make_private_database(&settings)?;
        let instance = instance()?;
        run_migrations(&settings, &instance, clock.now()).await?;
        let db = Db::open(&wiring::database(&settings))?;
        let sealer = wiring::sealer(&settings);
        encryption::check(&db, sealer.as_ref(), clock.now()).await?;
        let store = ca_store(&db, &data_dir, sealer.as_ref(), &clock).await?;
        let factory = Arc::new(Factory::new(store, sealer.clone(), Arc::clone(&clock)));
        let (token, bootstrap_token) = bootstrap_token(&settings).await?;
        let services = Services::new(Dependencies {
            db,
            clock: Arc::clone(&clock),
            sealer,
            issuers: factory.clone(),
            responder_keys: settings
                .status
                .responder_keys
                .as_deref()
                .map(|folder| Arc::new(KeyFolder::new(folder)) as Arc<dyn ResponderKeyFiles>),
            vault: Arc::new(FileVault::new(&data_dir)),
            acme: wiring::acme::ports(&settings),
            config: wiring::service(&settings, &instance, token),
        });
        first_steps(&settings, &services).await?;
        let health = Health::new();
        let state = AppState::new(Capabilities {
            settings: wiring::http(&settings),
            services: services.clone(),
            authenticator: Arc::new(services.clone()),
            readiness: Arc::new(services.clone()),
            health: health.clone(),
            metrics: metrics.clone(),
            info: build_info(),
            started_at: clock.now(),
            clock: Arc::clone(&clock),
        });
        Ok(Self {
            settings,
            services,
            state,
            health,
            metrics,
            factory,
            clock,
            bootstrap_token,
        })
    }
}

/// What a database is given at each start, and what is said about it.
async fn first_steps(settings: &Settings, services: &Services) -> Result<(), Error> {
    services
        .configure_local_issuer(&wiring::local_ca(settings))
        .await?;
    services.grant_configured_keys().await?;
    let grants = services.look_for_demo_grants().await?;
    if grants > 0 && settings.auth.demo_residual_strict {
        return Err(Error::DemoGrants { grants });
    }
    if settings.acme.enabled && settings.acme.by_default {
        services.make_acme_rows().await?;
    }
    warn_of_acme(services).await?;
    if settings.jobs.approval_bypass {
        tracing::warn!(
            "CERTCTL_APPROVAL_BYPASS is set: what needs a second person is approved at once"
        );
    }
    Ok(())
}

impl Server {
    /// Brings the database up to date and puts everything together. The socket is bound, so that a port in use is told now.
    ///
    /// # Errors
    /// [`Error`], each variant something the one who starts the server can act on.
    pub async fn build(settings: Settings, metrics: MetricsHandle) -> Result<Self, Error> {
        let Assembled {
            settings,
            services,
            state,
            health,
            metrics,
            factory,
            clock,
            bootstrap_token,
        } = Assembled::new(settings, metrics).await?;
        let identity = identity(&settings, factory, &clock);
        let (chain, key) = identity.load().await?;
        let certificate = CertResolver::new(&chain, &key)?;
        let (listener, url) = bind(&settings).await?;
        // The last thing that can fail: a key that was made and then not shown would be lost for good.
        let first_key = services.make_first_key().await?;
        let welcome = Welcome {
            root: identity.root(),
            first_key,
            acme: wiring::acme::directory(&settings, &services, &url),
            url,
            bootstrap_token,
        };
        Ok(Self {
            settings,
            services,
            app: App::new(state),
            listener,
            certificate,
            identity,
            health,
            metrics,
            welcome,
        })
    }

    /// Where it listens and what the first visitor needs.
    #[must_use]
    pub fn welcome(&self) -> &Welcome {
        &self.welcome
    }

    /// Logs what the one who started the server needs to know, one line for each thing.
    pub fn announce(&self, _logs: &Logs) {
        for line in self.welcome.to_string().lines() {
            tracing::info!("{line}");
        }
    }

    /// The use cases, for programs around the server.
    #[must_use]
    pub fn services(&self) -> &Services {
        &self.services
    }

    /// Starts the loops and the listener.
    #[must_use]
    pub fn spawn(self) -> Running {
        Running::start(self)
    }
}

impl fmt::Display for Welcome {
    /// One line for each thing to know.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "listening on {}", self.url)?;
        if let Some(root) = &self.root {
            write!(f, "\nroot to trust: {}", root.display())?;
        }
        if let Some(key) = &self.first_key {
            write!(f, "\nadmin API key, shown this once: {}", key.expose())?;
        }
        if let Some(directory) = &self.acme {
            write!(f, "\nACME directory: {directory}")?;
        }
        if let Some(token) = &self.bootstrap_token {
            write!(f, "\nagents register with the token in {}", token.display())?;
        }
        write!(f, "\nAPI: {}/api/v1/openapi.json", self.url)
    }
}

/// Says what an operator should know of the ACME server before its clients find out.
async fn warn_of_acme(services: &Services) -> Result<(), Error> {
    let Some(acme) = services.acme() else {
        return Ok(());
    };
    for shortcoming in acme.shortcomings().await? {
        tracing::warn!("{shortcoming}");
    }
    for profile in acme.trusting_profiles().await? {
        tracing::warn!(
            profile.id = %profile,
            "whoever reaches the ACME server gets certificates under this profile without proving anything; bound that with CERTCTL_ACME_SERVER_ALLOWED_CIDRS or set its acme_auth_mode to challenge"
        );
    }
    Ok(())
}

/// Where CAs are kept, with what is there already in order: on PostgreSQL in the database, so that replicas share them, but
/// without a key to seal them with on this machine's disk.
async fn ca_store(
    db: &Db,
    data_dir: &Path,
    sealer: Option<&Arc<Sealer>>,
    clock: &Arc<dyn Clock>,
) -> Result<Arc<dyn CaStore>, Error> {
    let files = FileCaStore::new(data_dir);
    let shared = (db.backend() == Backend::Postgres && sealer.is_some()).then(|| {
        Arc::new(DatabaseCaStore {
            db: db.clone(),
            clock: Arc::clone(clock),
            files: files.clone(),
        })
    });
    let store = shared.as_deref().map(|store| store as &dyn CaStore);
    ca_keys::tidy(&files, sealer, store).await?;
    Ok(match shared {
        Some(shared) => shared,
        None => Arc::new(files),
    })
}

/// Seals everything anew that is not sealed as it should be, in the newest format under the present key, and tells `report` of
/// each part. May be ended at any moment and run again. True when everything could be opened.
///
/// # Errors
/// [`Error::NoEncryptionKey`], [`Error::Encryption`] when neither key is the right one, and what keeps the database or the files
/// of a CA from being used.
pub async fn reencrypt(
    settings: &Settings,
    report: &mut (dyn FnMut(Step<'_>) + Send),
) -> Result<bool, Error> {
    let sealer = wiring::sealer(settings).ok_or(Error::NoEncryptionKey)?;
    migrate(settings).await?;
    let db = Db::open(&wiring::database(settings))?;
    let mut tally = encryption::rows(&db, &sealer, report).await?;
    let files = FileCaStore::new(&settings.server.data_dir);
    let of_files = ca_keys::reencrypt(&files, &sealer, report).await?;
    tally.rewritten += of_files.rewritten;
    tally.unreadable += of_files.unreadable;
    encryption::finish(&db, &sealer, tally, SystemClock.now()).await?;
    db.close();
    Ok(tally.unreadable == 0)
}

/// Brings the database up to date and does nothing else; for a job that runs before the replicas do.
///
/// # Errors
/// [`Error::Migrations`], and [`Error::File`] when the data directory cannot be made.
pub async fn migrate(settings: &Settings) -> Result<(), Error> {
    make_private_folder(&settings.server.data_dir)?;
    make_private_database(settings)?;
    run_migrations(settings, &instance()?, SystemClock.now()).await
}

/// Brings the schema up to date and inserts what is absent of the seeds; with a hook only the demo data, which the hook knows
/// nothing of.
async fn run_migrations(settings: &Settings, instance: &str, now: Timestamp) -> Result<(), Error> {
    let options = migrations::Options {
        url: wiring::database_url(settings),
        lock_timeout: settings.database.migrations_lock_timeout,
        allow_newer: settings.database.migrations_allow_newer,
        applied_by: instance.to_owned(),
    };
    let backend = if settings.database.url.is_embedded() {
        Backend::Sqlite
    } else {
        Backend::Postgres
    };
    let files = match &settings.database.migrations_path {
        Some(folder) => migrations::from_folder(folder, backend)?,
        None => migrations::embedded(backend),
    };
    let demo = settings
        .database
        .demo_seed
        .then(|| seeds::demo_sql(backend, now))
        .transpose()?;
    if settings.database.migrations_via_hook {
        migrations::verify(&options, &files).await?;
        if let Some(demo) = &demo {
            migrations::seed_demo(&options, demo).await?;
        }
        return Ok(());
    }
    let report = match &demo {
        Some(demo) => migrations::up_with_demo(&options, &files, demo).await?,
        None => migrations::up(&options, &files).await?,
    };
    for version in &report.applied {
        tracing::info!(%version, "migration applied");
    }
    Ok(())
}

fn identity(settings: &Settings, factory: Arc<Factory>, clock: &Arc<dyn Clock>) -> Identity {
    match &settings.server.tls {
        Some(files) => Identity::Files(files.clone()),
        None => Identity::Own(OwnIdentity {
            folder: settings.server.data_dir.join("tls"),
            host: settings.server.host.as_str().to_owned(),
            factory,
            ca_config: wiring::local_ca(settings),
            clock: Arc::clone(clock),
        }),
    }
}

async fn bind(settings: &Settings) -> Result<(TcpListener, String), Error> {
    let host = settings.server.host.as_str();
    let address = format!("{host}:{}", settings.server.port);
    let failed = |source| Error::Bind {
        address: address.clone(),
        source,
    };
    let listener = TcpListener::bind((host, settings.server.port))
        .await
        .map_err(failed)?;
    let port = listener.local_addr().map_err(failed)?.port();
    Ok((
        listener,
        format!("https://{}:{port}", wiring::url_host(host)),
    ))
}

/// The token that agents register with: the configured one, or on the embedded default one made once and kept in the data
/// directory.
async fn bootstrap_token(settings: &Settings) -> Result<(Option<Secret>, Option<PathBuf>), Error> {
    if let Some(token) = &settings.auth.agent_bootstrap_token {
        return Ok((Some(token.clone()), None));
    }
    if !settings.database.url.is_embedded() {
        return Ok((None, None));
    }
    let path = settings.server.data_dir.join("agent-bootstrap-token");
    // Two servers that start at once agree on one token.
    let _lock = lock(&settings.server.data_dir).await?;
    let token = match std::fs::read_to_string(&path) {
        Ok(text) if !text.trim().is_empty() => text.trim().to_owned(),
        _ => {
            let token = random_hex::<32>()?;
            write_private(&path, token.as_bytes())?;
            token
        }
    };
    Ok((Some(Secret::new(token)), Some(path)))
}

fn make_private_folder(folder: &Path) -> Result<(), Error> {
    use std::os::unix::fs::DirBuilderExt as _;
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(folder)
        .map_err(at(folder))
}

/// Makes the file of the embedded database, and its folder, where there is none, since SQLite would let others read it. What SQLite makes beside
/// it has the mode of the file itself.
fn make_private_database(settings: &Settings) -> Result<(), Error> {
    use std::os::unix::fs::OpenOptionsExt as _;
    let DatabaseUrl::Sqlite { path } = &settings.database.url else {
        return Ok(());
    };
    if let Some(folder) = path
        .parent()
        .filter(|folder| !folder.as_os_str().is_empty())
    {
        make_private_folder(folder)?;
    }
    let made = std::fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path);
    match made {
        Err(error) if error.kind() != std::io::ErrorKind::AlreadyExists => Err(at(path)(error)),
        _ => Ok(()),
    }
}

/// Who this process is: host, process id and random digits (scheduler §3).
fn instance() -> Result<String, Error> {
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let host = if host.trim().is_empty() {
        "localhost"
    } else {
        host.trim()
    };
    Ok(format!(
        "{host}:{}:{}",
        std::process::id(),
        random_hex::<4>()?
    ))
}

fn random_hex<const N: usize>() -> Result<String, Error> {
    use ring::rand::SecureRandom as _;
    let mut bytes = [0_u8; N];
    ring::rand::SystemRandom::new()
        .fill(&mut bytes)
        .map_err(|_| Error::Random)?;
    Ok(hex::encode(bytes))
}
