//! Where keys are made, and what agents do by default.

use std::time::Duration;

use crate::{
    form::{Bool, Choice, Integer},
    reader::Reader,
    setting::{DefaultValue::Text, settings},
    span::Span,
};

settings!(FEATURES, "Features" {
    KEYGEN_MODE: Choice<KeygenMode> = Choice(KEYGEN_MODES), Text("agent"), SERVER,
        "Where private keys are made. `server` sends them over the network and is refused outside demo mode.";
    AUDIT_HEARTBEATS: Choice<AuditHeartbeats> = Choice(AUDIT_HEARTBEATS_CHOICES), Text("all"), SERVER,
        "Whether every heartbeat of an agent is in the audit trail, or one in an hour.";
    VERIFY_DEPLOYMENT: Bool = Bool, Text("true"), BOTH_ENDS,
        "Whether a deployment is proved by a TLS handshake. Set on an agent, it overrides what the server sends.";
    VERIFY_TIMEOUT: Span = Span { min: Duration::from_millis(1) }, Text("10s"), BOTH_ENDS,
        "How long that handshake may take. Set on an agent, it overrides what the server sends.";
    VERIFY_DELAY: Span = Span::ANY, Text("2s"), BOTH_ENDS,
        "How long after a deployment it is proved. Set on an agent, it overrides what the server sends.";
    DEPLOY_BACKUP_RETENTION: Integer = Integer { min: -1, max: 1000 }, Text("3"), BOTH_ENDS,
        "How many backups of deployed files an agent keeps; 0 means 3, -1 means none. A target's own value wins.";
});

const KEYGEN_MODES: &[(&str, KeygenMode)] =
    &[("agent", KeygenMode::Agent), ("server", KeygenMode::Server)];

const AUDIT_HEARTBEATS_CHOICES: &[(&str, AuditHeartbeats)] = &[
    ("all", AuditHeartbeats::All),
    ("sampled", AuditHeartbeats::Sampled),
];

/// Where private keys are made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeygenMode {
    /// On the agent's host, which they never leave.
    Agent,
    /// On the server; for demos.
    Server,
}

/// Which heartbeats are in the audit log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AuditHeartbeats {
    /// All of them.
    All,
    /// One for each agent and hour.
    Sampled,
}

/// How many backups of deployed files are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BackupRetention {
    /// The last so many; at least 1.
    Last(u16),
    /// None.
    None,
}

impl BackupRetention {
    /// The number that the wire and a target's configuration write for it: −1 for none.
    #[must_use]
    pub fn as_number(self) -> i32 {
        match self {
            Self::Last(count) => count.into(),
            Self::None => -1,
        }
    }

    /// Reads that number: 0 stands for the default of 3, anything below for none.
    #[must_use]
    pub fn from_number(number: i64) -> Self {
        match number {
            0 => Self::Last(3),
            1.. => Self::Last(u16::try_from(number).unwrap_or(u16::MAX)),
            _ => Self::None,
        }
    }
}

/// How a deployment is proved.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct VerifySettings {
    /// Whether it is.
    pub enabled: bool,
    /// How long the handshake may take; more than zero.
    pub timeout: Duration,
    /// How long after the deployment it begins.
    pub delay: Duration,
}

/// Where keys are made, and what agents do by default.
#[derive(Debug, Clone, Copy)]
pub struct FeatureSettings {
    /// Where private keys are made.
    pub keygen_mode: KeygenMode,
    /// Which heartbeats are in the audit log.
    pub audit_heartbeats: AuditHeartbeats,
    /// How agents prove a deployment.
    pub verify: VerifySettings,
    /// How many backups agents keep.
    pub backup_retention: BackupRetention,
}

impl FeatureSettings {
    pub(crate) fn read(reader: &mut Reader<'_>) -> Self {
        Self {
            keygen_mode: reader.get(&KEYGEN_MODE),
            audit_heartbeats: reader.get(&AUDIT_HEARTBEATS),
            verify: VerifySettings {
                enabled: reader.get(&VERIFY_DEPLOYMENT),
                timeout: reader.get(&VERIFY_TIMEOUT),
                delay: reader.get(&VERIFY_DELAY),
            },
            backup_retention: BackupRetention::from_number(reader.get(&DEPLOY_BACKUP_RETENTION)),
        }
    }
}
