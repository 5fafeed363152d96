//! Who may come in.

use std::time::Duration;

use certctl_domain::{secret::Secret, time::Timestamp};

use crate::{
    api_key::{NamedKey, NamedKeys},
    form::{Bool, Choice, SecretText, Secrets, UnixTime},
    problem::Problem,
    reader::Reader,
    setting::{
        DefaultValue::{Text, Unset},
        settings,
    },
};

/// How old an acknowledgement of demo mode may be.
const ACK_LIFETIME: Duration = Duration::from_secs(24 * 3600);

/// How far ahead of our clock an acknowledgement may be.
const ACK_SKEW: Duration = Duration::from_secs(60);

settings!(AUTH, "Authentication" {
    AUTH_TYPE: Choice<AuthType> = Choice(AUTH_TYPES), Text("api-key"), SERVER,
        "How callers prove who they are. `none` makes everyone an administrator and is for demos.";
    AUTH_SECRET: Secrets = Secrets, Unset, SERVER,
        "API keys of administrators, comma separated so that one can be rotated. \
         When neither these nor any other key is given, the first start on a database makes one and shows it once.";
    API_KEYS_NAMED: NamedKeys = NamedKeys, Unset, SERVER,
        "Named API keys: `name:key` or `name:key:admin`. A name may come twice, with the same role, to rotate its key.";
    DEMO_MODE_ACK: Bool = Bool, Text("false"), SERVER,
        "Acknowledges that this server is a demo, which allows what is refused elsewhere.";
    DEMO_MODE_ACK_TS: UnixTime = UnixTime, Unset, SERVER,
        "When demo mode was acknowledged. Needed to serve without authentication beyond loopback; at most 24 hours old and one minute ahead.";
    DEMO_MODE_RESIDUAL_STRICT: Bool = Bool, Text("false"), SERVER,
        "Refuses to start while grants of the demo actor are left in a database on which a server ran without authentication, or that \
         somebody else made. They are removed by `POST /api/v1/auth/demo-residual/cleanup`, on a server started without this.";
    AGENT_BOOTSTRAP_TOKEN: SecretText = SecretText { min_bytes: 1 }, Unset, BOTH_ENDS,
        "The secret with which an agent is registered. \
         Unset on the embedded database: made at the first start and kept in the data directory.";
    AGENT_BOOTSTRAP_TOKEN_DENY_EMPTY: Bool = Bool, Text("true"), SERVER,
        "Refuses to start on PostgreSQL without a bootstrap token. When false, only callers with `agent.edit` register agents.";
    BOOTSTRAP_TOKEN: SecretText = SecretText { min_bytes: 1 }, Unset, SERVER,
        "The secret with which the first administrator is made over the API, once. With it no key is made at the first start.";
});

const AUTH_TYPES: &[(&str, AuthType)] = &[("api-key", AuthType::ApiKey), ("none", AuthType::None)];

/// How callers prove who they are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AuthType {
    /// By an API key.
    ApiKey,
    /// Not at all.
    None,
}

/// Who may come in.
#[derive(Debug, Clone)]
pub struct AuthSettings {
    /// How callers prove who they are.
    pub auth_type: AuthType,
    /// Keys of administrators without a name.
    pub secrets: Vec<Secret>,
    /// Keys with a name; none of them is among the keys without one.
    pub named_keys: Vec<NamedKey>,
    /// Whether this is acknowledged to be a demo.
    pub demo: bool,
    /// When it was acknowledged, where that was given.
    pub demo_since: Option<Timestamp>,
    /// Whether grants of the demo actor in the database stop the start.
    pub demo_residual_strict: bool,
    /// What registers an agent; `None` on the embedded database means the token in the data directory, and elsewhere that
    /// only `agent.edit` does.
    pub agent_bootstrap_token: Option<Secret>,
    /// What makes the first administrator.
    pub bootstrap_token: Option<Secret>,
    pub(crate) agent_bootstrap_deny_empty: bool,
}

impl AuthSettings {
    pub(crate) fn read(reader: &mut Reader<'_>) -> Self {
        let settings = Self {
            auth_type: reader.get(&AUTH_TYPE),
            secrets: reader.find(&AUTH_SECRET).unwrap_or_default(),
            named_keys: reader.find(&API_KEYS_NAMED).unwrap_or_default(),
            demo: reader.get(&DEMO_MODE_ACK),
            demo_since: reader.find(&DEMO_MODE_ACK_TS),
            demo_residual_strict: reader.get(&DEMO_MODE_RESIDUAL_STRICT),
            agent_bootstrap_token: reader.find(&AGENT_BOOTSTRAP_TOKEN),
            agent_bootstrap_deny_empty: reader.get(&AGENT_BOOTSTRAP_TOKEN_DENY_EMPTY),
            bootstrap_token: reader.find(&BOOTSTRAP_TOKEN),
        };
        if settings
            .named_keys
            .iter()
            .any(|named| settings.secrets.contains(&named.key))
        {
            // Which of the two actors such a caller is would be a matter of order.
            reader.refuse(Problem::refused(
                "CERTCTL_API_KEYS_NAMED",
                "has a key that is also in CERTCTL_AUTH_SECRET",
            ));
        }
        settings
    }

    /// Whether an acknowledgement of demo mode is there and fresh.
    pub(crate) fn demo_is_fresh(&self, now: Timestamp) -> bool {
        self.demo
            && self
                .demo_since
                .is_some_and(|at| now.since(at) <= ACK_LIFETIME && at.since(now) <= ACK_SKEW)
    }

    /// Whether no key of any kind is configured, so that the first start has to make one.
    #[must_use]
    pub fn has_no_key(&self) -> bool {
        self.secrets.is_empty() && self.named_keys.is_empty() && self.bootstrap_token.is_none()
    }
}
