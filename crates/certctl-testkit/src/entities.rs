//! Entities as tests begin with them: plain values that differ in their ids, and the rows they refer to.

use std::collections::BTreeMap;

use certctl_domain::{
    access::{ActorType, ApiKey},
    agent::{Agent, AgentStatus},
    audit::{AuditEvent, EventCategory},
    certificate::{Certificate, CertificateSource, CertificateStatus, CertificateVersion},
    id::{
        AgentId, ApiKeyId, AuditEventId, CertificateId, CertificateVersionId, IssuerId, JobId,
        OwnerId, ProfileId, RenewalPolicyId, TargetId, TeamId,
    },
    issuer::{ConfigSource, HierarchyMode, Issuer, IssuerType, TestStatus},
    job::{JobStatus, JobType},
    key::AllowedKey,
    name::CommonName,
    owner::Owner,
    profile::{AcmeAuthMode, ExtendedKeyUsage, Profile},
    renewal_policy::RenewalPolicy,
    serial::SerialNumber,
    target::{Target, TargetType},
    team::Team,
    time::Timestamp,
};
use certctl_repository::{
    Error, agents, certificates, jobs::NewJob, owners, profiles, renewal_policies, targets, teams,
    transaction,
};
use serde_json::json;

use crate::{TestDb, database::START};

/// One of each noun that a certificate refers to, with the certificate.
#[derive(Debug, Clone)]
pub struct Basics {
    /// A team.
    pub team: TeamId,
    /// An owner in the team.
    pub owner: OwnerId,
    /// A renewal policy.
    pub policy: RenewalPolicyId,
    /// A profile.
    pub profile: ProfileId,
    /// The local CA, which every database is seeded with.
    pub issuer: IssuerId,
    /// An agent that is online.
    pub agent: AgentId,
    /// A target of the agent.
    pub target: TargetId,
    /// A certificate that is mapped to the target, and pending.
    pub certificate: CertificateId,
}

impl Default for Basics {
    fn default() -> Self {
        Self {
            team: TeamId::from_stored("t-platform".into()),
            owner: OwnerId::from_stored("o-alice".into()),
            policy: RenewalPolicyId::from_stored("rp-standard".into()),
            profile: ProfileId::from_stored("prof-standard-tls".into()),
            issuer: IssuerId::from_stored("iss-local".into()),
            agent: AgentId::from_stored("ag-web".into()),
            target: TargetId::from_stored("tgt-web".into()),
            certificate: CertificateId::from_stored("mc-web".into()),
        }
    }
}

impl Basics {
    /// A further certificate of the same owner, mapped to nothing.
    #[must_use]
    pub fn certificate(&self, id: &str) -> Certificate {
        Certificate {
            id: CertificateId::from_stored(id.to_owned()),
            name: format!("name-{id}"),
            common_name: CommonName::from_stored(format!("{id}.example.test")),
            sans: vec![format!("{id}.example.test")],
            environment: "production".into(),
            owner_id: self.owner.clone(),
            team_id: self.team.clone(),
            issuer_id: self.issuer.clone(),
            target_ids: Vec::new(),
            renewal_policy_id: self.policy.clone(),
            profile_id: Some(self.profile.clone()),
            status: CertificateStatus::Pending,
            expires_at: None,
            renew_at: None,
            tags: BTreeMap::new(),
            last_renewal_at: None,
            last_deployment_at: None,
            revoked_at: None,
            revocation_reason: None,
            source: CertificateSource::Unset,
            created_at: START,
            updated_at: START,
        }
    }

    /// An issued version of a certificate; `serial` in hex makes it unlike others.
    #[must_use]
    pub fn version(&self, certificate: &CertificateId, serial: &str) -> CertificateVersion {
        let day = std::time::Duration::from_secs(86_400);
        CertificateVersion {
            id: CertificateVersionId::from_stored(format!("certver-{serial}")),
            certificate_id: certificate.clone(),
            issuer_id: self.issuer.clone(),
            serial_number: SerialNumber::parse(serial).expect("a serial of a test is hex"),
            not_before: START,
            not_after: START + 90 * day,
            fingerprint_sha256: format!("{serial:0>64}"),
            pem_chain: format!(
                "-----BEGIN CERTIFICATE-----\n{serial}\n-----END CERTIFICATE-----\n"
            ),
            csr_pem: String::new(),
            key_algorithm: "ECDSA".into(),
            key_size: 256,
            created_at: START,
        }
    }
}

impl TestDb {
    /// Inserts [`Basics`] with their default ids.
    ///
    /// # Panics
    /// When they are there already.
    pub async fn seed_basics(&self) -> Basics {
        let basics = Basics::default();
        self.seed(&basics).await;
        basics
    }

    /// Inserts a team, an owner, a policy, a profile, an agent, a target and a certificate with these ids.
    ///
    /// # Panics
    /// When one of them is there already.
    pub async fn seed(&self, basics: &Basics) {
        let mut certificate = basics.certificate(basics.certificate.as_str());
        certificate.target_ids = vec![basics.target.clone()];
        let seeded: Result<(), Error> = transaction!(self, "seed test", conn => {
            teams::insert(conn, &team(basics.team.as_str())).await?;
            owners::insert(conn, &owner(basics.owner.as_str(), &basics.team)).await?;
            renewal_policies::insert(conn, &policy(basics.policy.as_str())).await?;
            profiles::insert(conn, &profile(basics.profile.as_str())).await?;
            agents::insert(conn, &agent(basics.agent.as_str()), &format!("hash-{}", basics.agent)).await?;
            targets::insert(conn, &target(basics.target.as_str(), &basics.agent)).await?;
            certificates::insert(conn, &certificate).await
        });
        seeded.expect("the entities of a test can be inserted once");
    }
}

/// A team.
#[must_use]
pub fn team(id: &str) -> Team {
    Team {
        id: TeamId::from_stored(id.to_owned()),
        name: format!("name-{id}"),
        description: "made by a test".into(),
        created_at: START,
        updated_at: START,
    }
}

/// An owner.
#[must_use]
pub fn owner(id: &str, team: &TeamId) -> Owner {
    Owner {
        id: OwnerId::from_stored(id.to_owned()),
        name: format!("name-{id}"),
        email: format!("{id}@example.test"),
        team_id: team.clone(),
        created_at: START,
        updated_at: START,
    }
}

/// A renewal policy: 30 days, by itself, three tries, an hour between them.
#[must_use]
pub fn policy(id: &str) -> RenewalPolicy {
    RenewalPolicy {
        id: RenewalPolicyId::from_stored(id.to_owned()),
        name: format!("name-{id}"),
        renewal_window_days: 30,
        auto_renew: true,
        max_retries: 3,
        retry_interval_seconds: 3600,
        alert_thresholds_days: vec![30, 14, 7, 0],
        alert_channels: BTreeMap::new(),
        alert_severity_map: BTreeMap::new(),
        created_at: START,
        updated_at: START,
    }
}

/// A profile with the defaults of the contract and 90 days.
#[must_use]
pub fn profile(id: &str) -> Profile {
    Profile {
        id: ProfileId::from_stored(id.to_owned()),
        name: format!("name-{id}"),
        description: String::new(),
        allowed_key_algorithms: AllowedKey::DEFAULT.to_vec(),
        max_ttl_seconds: 7_776_000,
        allowed_ekus: vec![ExtendedKeyUsage::ServerAuth],
        required_san_patterns: Vec::new(),
        spiffe_uri_pattern: String::new(),
        allow_short_lived: false,
        must_staple: false,
        required_csr_attributes: Vec::new(),
        acme_auth_mode: AcmeAuthMode::TrustAuthenticated,
        acme_issuer_id: None,
        requires_approval: false,
        enabled: true,
        created_at: START,
        updated_at: START,
    }
}

/// An enabled issuer of the local kind.
#[must_use]
pub fn issuer(id: &str) -> Issuer {
    Issuer {
        id: IssuerId::from_stored(id.to_owned()),
        name: format!("name-{id}"),
        issuer_type: IssuerType::GenericCa,
        config: json!({"validity_days": 90}),
        encrypted_config: None,
        enabled: true,
        last_tested_at: None,
        test_status: TestStatus::Untested,
        source: ConfigSource::Database,
        hierarchy_mode: HierarchyMode::Single,
        created_at: START,
        updated_at: START,
    }
}

/// An agent that was heard of at [`START`].
#[must_use]
pub fn agent(id: &str) -> Agent {
    Agent {
        id: AgentId::from_stored(id.to_owned()),
        name: format!("name-{id}"),
        hostname: format!("{id}.host.test"),
        status: AgentStatus::Online,
        last_heartbeat_at: Some(START),
        registered_at: START,
        os: "linux".into(),
        architecture: "amd64".into(),
        ip_address: "192.0.2.1".into(),
        version: "0.1.0".into(),
        retired_at: None,
        retired_reason: None,
    }
}

/// An nginx of an agent.
#[must_use]
pub fn target(id: &str, agent: &AgentId) -> Target {
    Target {
        id: TargetId::from_stored(id.to_owned()),
        name: format!("name-{id}"),
        target_type: TargetType::Nginx,
        agent_id: agent.clone(),
        config: json!({"cert_path": "/etc/nginx/tls/cert.pem"}),
        encrypted_config: None,
        enabled: true,
        last_tested_at: None,
        test_status: TestStatus::Untested,
        source: ConfigSource::Database,
        retired_at: None,
        retired_reason: None,
        created_at: START,
        updated_at: START,
    }
}

/// A pending renewal of a certificate, made at [`START`].
#[must_use]
pub fn renewal(id: &str, certificate: &CertificateId) -> NewJob {
    NewJob {
        id: JobId::from_stored(id.to_owned()),
        job_type: JobType::Renewal,
        certificate_id: certificate.clone(),
        target_id: None,
        agent_id: None,
        status: JobStatus::Pending,
        max_attempts: 3,
        created_at: START,
    }
}

/// A pending deployment of a certificate by an agent, made at [`START`].
#[must_use]
pub fn deployment(
    id: &str,
    certificate: &CertificateId,
    target: &TargetId,
    agent: Option<&AgentId>,
) -> NewJob {
    NewJob {
        job_type: JobType::Deployment,
        target_id: Some(target.clone()),
        agent_id: agent.cloned(),
        ..renewal(id, certificate)
    }
}

/// An API key that never ends.
#[must_use]
pub fn api_key(id: &str) -> ApiKey {
    ApiKey {
        id: ApiKeyId::from_stored(id.to_owned()),
        name: format!("name-{id}"),
        key_hash: format!("hash-{id}"),
        previous: None,
        admin: false,
        created_by: "test".into(),
        created_at: START,
        expires_at: None,
        last_used_at: None,
    }
}

/// An event of the certificate part.
#[must_use]
pub fn event(id: &str, at: Timestamp) -> AuditEvent {
    AuditEvent {
        id: AuditEventId::from_stored(id.to_owned()),
        actor: "ann".into(),
        actor_type: ActorType::ApiKey,
        action: "certificate_created".into(),
        resource_type: "certificate".into(),
        resource_id: "mc-web".into(),
        details: json!({"serial": "1f"}),
        timestamp: at,
        category: EventCategory::CertLifecycle,
    }
}
