//! What the agent needs to know.

use std::{path::PathBuf, time::Duration};

use certctl_domain::secret::Secret;

use crate::{
    auth::AGENT_BOOTSTRAP_TOKEN,
    feature::{
        BackupRetention, DEPLOY_BACKUP_RETENTION, VERIFY_DELAY, VERIFY_DEPLOYMENT, VERIFY_TIMEOUT,
    },
    form::{Bool, HttpsUrl, Path, Paths, ReadableFile, SecretText, Text},
    log::LogSettings,
    problem::{Error, Problem, Warning},
    reader::{Loaded, Reader},
    setting::{
        DefaultValue::{Text as Fixed, Unset},
        Entry as _, Programs, settings,
    },
    source::Sources,
};

settings!(AGENT, "Agent" {
    SERVER_URL: HttpsUrl = HttpsUrl, Fixed("https://localhost:8443"), AGENT,
        "Where the server is. `http` is refused, for the API key would be readable on the way.";
    API_KEY: SecretText = SecretText { min_bytes: 1 }, Unset, AGENT,
        "The key that the registration answered with. Required, unless the agent registers itself by a bootstrap token.";
    AGENT_ID: Text = Text, Unset, AGENT,
        "The id that the registration answered with. Required together with the key.";
    AGENT_NAME: Text = Text, Fixed("certctl-agent"), AGENT, "The name by which people know the agent; at most 128 bytes.";
    KEY_DIR: Path = Path, Fixed("/var/lib/certctl/keys"), AGENT,
        "Where private keys lie. Made with mode 0700; the files in it have mode 0600.";
    DISCOVERY_DIRS: Paths = Paths, Unset, AGENT, "Directories in which certificates are looked for; none turns it off. No effect yet.";
    SERVER_CA_BUNDLE_PATH: ReadableFile = ReadableFile, Unset, AGENT,
        "Roots in PEM that the server's certificate is checked against. Unset: the roots of the system.";
    SERVER_TLS_INSECURE_SKIP_VERIFY: Bool = Bool, Fixed("false"), AGENT,
        "Does not check the server's certificate. Never set this but to try something.";
    DRY_RUN: Bool = Bool, Fixed("false"), AGENT,
        "Polls once, validates every pending deployment without changing anything, prints the results and ends.";
});

/// The greatest length of an agent's name, in bytes (agent contract §3).
const LONGEST_NAME: usize = 128;

/// What the agent needs to know.
#[derive(Debug, Clone)]
pub struct AgentSettings {
    /// Where the server is: an `https` URL without a slash at its end.
    pub server_url: String,
    /// As whom the agent comes.
    pub identity: AgentIdentity,
    /// The name by which people know it; 1 to 128 bytes.
    pub name: String,
    /// Where private keys lie; it need not exist yet.
    pub key_dir: PathBuf,
    /// Where certificates are looked for.
    pub discovery_dirs: Vec<PathBuf>,
    /// The roots for the server's certificate; `None` means those of the system.
    pub ca_bundle: Option<PathBuf>,
    /// Whether the server's certificate is not checked.
    pub insecure_skip_verify: bool,
    /// Whether to validate once and change nothing.
    pub dry_run: bool,
    /// What is set here in place of what the server sends.
    pub overrides: AgentOverrides,
    /// What is logged, and how.
    pub log: LogSettings,
}

/// As whom an agent comes.
#[derive(Debug, Clone)]
pub enum AgentIdentity {
    /// As the agent it was registered as.
    Registered {
        /// The id that the registration answered with.
        agent_id: String,
        /// The key that the registration answered with.
        api_key: Secret,
    },
    /// As nobody yet: it registers itself at its first start.
    Bootstrap {
        /// What the server asks of who registers an agent.
        token: Secret,
    },
}

/// Values set on the agent in place of what the server sends with the work.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct AgentOverrides {
    /// Whether deployments are proved.
    pub verify: Option<bool>,
    /// How long the proof may take.
    pub verify_timeout: Option<Duration>,
    /// How long after the deployment it begins.
    pub verify_delay: Option<Duration>,
    /// How many backups are kept.
    pub backup_retention: Option<BackupRetention>,
}

impl AgentSettings {
    /// Reads the settings of `certctl-agent`.
    ///
    /// # Errors
    /// Everything that is wrong with them, together.
    pub fn load(sources: &Sources<'_>) -> Result<Loaded<Self>, Error> {
        let mut reader = Reader::new(sources, Programs::AGENT);
        let settings = Self::read(&mut reader);
        match settings {
            Some(settings) => reader.finish(settings),
            None => Err(reader.into_error()),
        }
    }

    pub(crate) fn read(reader: &mut Reader<'_>) -> Option<Self> {
        let log = LogSettings::read(reader);
        let overrides = AgentOverrides {
            verify: reader.given(&VERIFY_DEPLOYMENT),
            verify_timeout: reader.given(&VERIFY_TIMEOUT),
            verify_delay: reader.given(&VERIFY_DELAY),
            backup_retention: reader
                .given(&DEPLOY_BACKUP_RETENTION)
                .map(BackupRetention::from_number),
        };
        let server_url = reader.get(&SERVER_URL);
        let identity = read_identity(reader);
        let name = reader.get(&AGENT_NAME);
        if name.len() > LONGEST_NAME {
            reader.refuse(Problem::refused(
                &AGENT_NAME.variable(),
                "is longer than 128 bytes",
            ));
        }
        let insecure_skip_verify = reader.get(&SERVER_TLS_INSECURE_SKIP_VERIFY);
        if insecure_skip_verify {
            reader.warn(Warning::ServerNotVerified);
        }
        Some(Self {
            server_url,
            name,
            key_dir: reader.get(&KEY_DIR),
            discovery_dirs: reader.find(&DISCOVERY_DIRS).unwrap_or_default(),
            ca_bundle: reader.find(&SERVER_CA_BUNDLE_PATH),
            insecure_skip_verify,
            dry_run: reader.get(&DRY_RUN),
            overrides,
            log,
            identity: identity?,
        })
    }
}

/// `None` stands for an identity that is incomplete, which has been noted then.
fn read_identity(reader: &mut Reader<'_>) -> Option<AgentIdentity> {
    let problems = reader.problem_count();
    let (api_key, agent_id) = (reader.find(&API_KEY), reader.find(&AGENT_ID));
    let token = reader.find(&AGENT_BOOTSTRAP_TOKEN);
    // A refused value is noted already; that it is missing, too, would be noise.
    let missing = |reader: &mut Reader<'_>, variable: String, why| {
        if reader.problem_count() == problems {
            reader.refuse(Problem::Missing { variable, why });
        }
    };
    match (agent_id, api_key, token) {
        (Some(agent_id), Some(api_key), _) => {
            return Some(AgentIdentity::Registered { agent_id, api_key });
        }
        (None, None, Some(token)) => return Some(AgentIdentity::Bootstrap { token }),
        (Some(_), None, _) => missing(
            reader,
            API_KEY.variable(),
            "it is answered by the registration together with the id",
        ),
        (None, Some(_), _) => missing(
            reader,
            AGENT_ID.variable(),
            "it is answered by the registration together with the key",
        ),
        (None, None, None) => missing(
            reader,
            API_KEY.variable(),
            "give it with CERTCTL_AGENT_ID as the registration answered them, or CERTCTL_AGENT_BOOTSTRAP_TOKEN to register now",
        ),
    }
    None
}
