//! The settings of a program as a whole, and the rules that hold between concerns.

use crate::{
    acme_server::AcmeServerSettings,
    auth::{AuthSettings, AuthType},
    database::DatabaseSettings,
    encryption::EncryptionSettings,
    feature::{FeatureSettings, KeygenMode},
    job::JobSettings,
    local_ca::LocalCaSettings,
    log::LogSettings,
    problem::{Error, Problem},
    rate_limit::RateLimitSettings,
    reader::{Loaded, Reader},
    scheduler::SchedulerSettings,
    server::{ServerSettings, read_data_dir},
    setting::Programs,
    source::Sources,
    status::StatusSettings,
};

/// Keys that stand in published examples.
const PLACEHOLDER_AUTH_SECRET: &str = "change-me-in-production";
const PLACEHOLDER_ENCRYPTION_KEY: &str = "change-me-32-char-encryption-key";

/// The settings of `certctl-server`.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The listener, its limits, and the data directory.
    pub server: ServerSettings,
    /// Which database is used, and how.
    pub database: DatabaseSettings,
    /// What is logged, and how.
    pub log: LogSettings,
    /// Who may come in.
    pub auth: AuthSettings,
    /// How much a caller may ask.
    pub rate_limit: RateLimitSettings,
    /// How often the loops run.
    pub scheduler: SchedulerSettings,
    /// The ACME server.
    pub acme: AcmeServerSettings,
    /// CRLs and OCSP.
    pub status: StatusSettings,
    /// How many jobs run at once.
    pub jobs: JobSettings,
    /// Where keys are made, and what agents do by default.
    pub features: FeatureSettings,
    /// The CA of our own.
    pub local_ca: LocalCaSettings,
    /// The keys that protect what is stored.
    pub encryption: EncryptionSettings,
}

impl Settings {
    /// Reads the settings of `certctl-server`.
    ///
    /// # Errors
    /// Everything that is wrong with them, together.
    pub fn load(sources: &Sources<'_>) -> Result<Loaded<Self>, Error> {
        let mut reader = Reader::new(sources, Programs::SERVER);
        let settings = Self::read(&mut reader);
        settings.check(&mut reader);
        reader.finish(settings)
    }

    pub(crate) fn read(reader: &mut Reader<'_>) -> Self {
        let server = ServerSettings::read(reader);
        let database = DatabaseSettings::read_for_server(reader, &server.data_dir);
        let rate_limit = RateLimitSettings::read(reader, &database.url);
        // In the order in which they are reported when they are wrong.
        let log = LogSettings::read(reader);
        let auth = AuthSettings::read(reader);
        let scheduler = SchedulerSettings::read(reader);
        let jobs = JobSettings::read(reader);
        let features = FeatureSettings::read(reader);
        let local_ca = LocalCaSettings::read(reader);
        let encryption = EncryptionSettings::read(reader);
        let acme = AcmeServerSettings::read(reader, &server, &database);
        let status = StatusSettings::read(reader, &server.data_dir, encryption.key.is_some());
        Self {
            server,
            acme,
            status,
            database,
            log,
            auth,
            rate_limit,
            scheduler,
            jobs,
            features,
            local_ca,
            encryption,
        }
    }

    /// The table "Boot refusal" of the operations contract §1, as far as it concerns more than one setting.
    fn check(&self, reader: &mut Reader<'_>) {
        self.check_demo(reader);
        self.check_placeholders(reader);
        if !self.database.url.is_embedded() {
            self.check_on_postgres(reader);
        }
        let encryption = &self.encryption;
        if encryption.previous.is_some()
            && (encryption.key.is_none() || encryption.previous == encryption.key)
        {
            let why = "needs a CERTCTL_CONFIG_ENCRYPTION_KEY other than itself to change to";
            reader.refuse(Problem::refused(
                "CERTCTL_CONFIG_ENCRYPTION_KEY_PREVIOUS",
                why,
            ));
        }
    }

    /// What is only ever right in a demo.
    fn check_demo(&self, reader: &mut Reader<'_>) {
        let auth = &self.auth;
        if auth.auth_type == AuthType::None && !self.server.host.is_loopback() {
            if !auth.demo {
                let why = format!(
                    "none makes everyone who reaches {} an administrator; bind loopback or set CERTCTL_DEMO_MODE_ACK=true",
                    self.server.host.as_str()
                );
                reader.refuse(Problem::refused("CERTCTL_AUTH_TYPE", why));
            } else if !auth.demo_is_fresh(reader.now()) {
                let why = "must be the present time in seconds, at most 24h old and 1m ahead, to serve without authentication beyond loopback";
                reader.refuse(Problem::refused("CERTCTL_DEMO_MODE_ACK_TS", why));
            }
        }
        if self.features.keygen_mode == KeygenMode::Server && !auth.demo {
            let why =
                "server sends private keys over the network; it needs CERTCTL_DEMO_MODE_ACK=true";
            reader.refuse(Problem::refused("CERTCTL_KEYGEN_MODE", why));
        }
        if self.server.cors_origins.iter().any(|origin| origin == "*") && !auth.demo {
            let why = "* lets every site call from a browser; it needs CERTCTL_DEMO_MODE_ACK=true";
            reader.refuse(Problem::refused("CERTCTL_CORS_ORIGINS", why));
        }
    }

    fn check_placeholders(&self, reader: &mut Reader<'_>) {
        if self.auth.demo {
            return;
        }
        let why = "is the placeholder of the examples; everyone knows it";
        let mut keys = self
            .auth
            .secrets
            .iter()
            .chain(self.auth.named_keys.iter().map(|named| &named.key));
        if keys.any(|key| key.expose() == PLACEHOLDER_AUTH_SECRET) {
            reader.refuse(Problem::refused("CERTCTL_AUTH_SECRET", why));
        }
        if self
            .encryption
            .key
            .as_ref()
            .is_some_and(|key| key.expose() == PLACEHOLDER_ENCRYPTION_KEY)
        {
            reader.refuse(Problem::refused("CERTCTL_CONFIG_ENCRYPTION_KEY", why));
        }
    }

    /// What the embedded default makes by itself and a database that replicas share does not.
    fn check_on_postgres(&self, reader: &mut Reader<'_>) {
        if self.server.tls.is_none() && !self.server.tls_bootstrap {
            let why = "replicas may share a PostgreSQL, so none is made for it: give it with CERTCTL_SERVER_TLS_KEY_PATH, or set CERTCTL_SERVER_TLS_BOOTSTRAP=true";
            reader.refuse(Problem::Missing {
                variable: "CERTCTL_SERVER_TLS_CERT_PATH".to_owned(),
                why,
            });
        }
        let auth = &self.auth;
        if auth.agent_bootstrap_token.is_none() && auth.agent_bootstrap_deny_empty && !auth.demo {
            let why = "replicas may share a PostgreSQL, so none is made for it: give one, or set CERTCTL_AGENT_BOOTSTRAP_TOKEN_DENY_EMPTY=false to register agents with agent.edit only";
            reader.refuse(Problem::Missing {
                variable: "CERTCTL_AGENT_BOOTSTRAP_TOKEN".to_owned(),
                why,
            });
        }
    }
}

/// The settings of `certctl-migrate`.
#[derive(Debug, Clone)]
pub struct MigrateSettings {
    /// Which database is migrated, and how.
    pub database: DatabaseSettings,
    /// What is logged, and how.
    pub log: LogSettings,
}

impl MigrateSettings {
    /// Reads the settings of `certctl-migrate`.
    ///
    /// # Errors
    /// Everything that is wrong with them, together.
    pub fn load(sources: &Sources<'_>) -> Result<Loaded<Self>, Error> {
        let mut reader = Reader::new(sources, Programs::MIGRATE);
        let settings = Self::read(&mut reader);
        reader.finish(settings)
    }

    pub(crate) fn read(reader: &mut Reader<'_>) -> Self {
        let data_dir = read_data_dir(reader);
        Self {
            database: DatabaseSettings::read(reader, &data_dir),
            log: LogSettings::read(reader),
        }
    }
}

#[cfg(test)]
mod tests;
