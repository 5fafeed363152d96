//! The permission catalogue (model §6.1) and which of the seeded roles hold what (model §6.2, §6.3).

use crate::text_enum;

text_enum! {
    /// A permission. Routes and service methods name the one they need.
    pub enum Permission ("permission") {
        /// `cert.read`.
        CertRead = "cert.read",
        /// `cert.issue`.
        CertIssue = "cert.issue",
        /// `cert.edit`.
        CertEdit = "cert.edit",
        /// `cert.revoke`.
        CertRevoke = "cert.revoke",
        /// `cert.delete`.
        CertDelete = "cert.delete",
        /// `cert.bulk_revoke`.
        CertBulkRevoke = "cert.bulk_revoke",
        /// `profile.read`.
        ProfileRead = "profile.read",
        /// `profile.edit`.
        ProfileEdit = "profile.edit",
        /// `profile.delete`.
        ProfileDelete = "profile.delete",
        /// `issuer.read`.
        IssuerRead = "issuer.read",
        /// `issuer.edit`.
        IssuerEdit = "issuer.edit",
        /// `issuer.delete`.
        IssuerDelete = "issuer.delete",
        /// `target.read`.
        TargetRead = "target.read",
        /// `target.edit`.
        TargetEdit = "target.edit",
        /// `target.delete`.
        TargetDelete = "target.delete",
        /// `agent.read`.
        AgentRead = "agent.read",
        /// `agent.edit`.
        AgentEdit = "agent.edit",
        /// `agent.retire`.
        AgentRetire = "agent.retire",
        /// `agent.heartbeat`.
        AgentHeartbeat = "agent.heartbeat",
        /// `agent.job.poll`.
        AgentJobPoll = "agent.job.poll",
        /// `agent.job.complete`.
        AgentJobComplete = "agent.job.complete",
        /// `agent.job.report`.
        AgentJobReport = "agent.job.report",
        /// `audit.read`.
        AuditRead = "audit.read",
        /// `audit.export`.
        AuditExport = "audit.export",
        /// `auth.role.list`.
        AuthRoleList = "auth.role.list",
        /// `auth.role.create`.
        AuthRoleCreate = "auth.role.create",
        /// `auth.role.edit`.
        AuthRoleEdit = "auth.role.edit",
        /// `auth.role.delete`.
        AuthRoleDelete = "auth.role.delete",
        /// `auth.role.assign`.
        AuthRoleAssign = "auth.role.assign",
        /// `auth.role.revoke`.
        AuthRoleRevoke = "auth.role.revoke",
        /// `auth.key.list`.
        AuthKeyList = "auth.key.list",
        /// `auth.key.create`.
        AuthKeyCreate = "auth.key.create",
        /// `auth.key.rotate`.
        AuthKeyRotate = "auth.key.rotate",
        /// `auth.key.delete`.
        AuthKeyDelete = "auth.key.delete",
        /// `auth.bootstrap.use`.
        AuthBootstrapUse = "auth.bootstrap.use",
        /// `auth.session.list`.
        AuthSessionList = "auth.session.list",
        /// `auth.session.list.all`.
        AuthSessionListAll = "auth.session.list.all",
        /// `auth.session.revoke`.
        AuthSessionRevoke = "auth.session.revoke",
        /// `auth.oidc.list`.
        AuthOidcList = "auth.oidc.list",
        /// `auth.oidc.create`.
        AuthOidcCreate = "auth.oidc.create",
        /// `auth.oidc.edit`.
        AuthOidcEdit = "auth.oidc.edit",
        /// `auth.oidc.delete`.
        AuthOidcDelete = "auth.oidc.delete",
        /// `auth.breakglass.admin`.
        AuthBreakglassAdmin = "auth.breakglass.admin",
        /// `auth.breakglass.login`.
        AuthBreakglassLogin = "auth.breakglass.login",
        /// `auth.user.read`.
        AuthUserRead = "auth.user.read",
        /// `auth.user.deactivate`.
        AuthUserDeactivate = "auth.user.deactivate",
        /// `crl.admin`.
        CrlAdmin = "crl.admin",
        /// `scep.admin`.
        ScepAdmin = "scep.admin",
        /// `est.admin`.
        EstAdmin = "est.admin",
        /// `ca.hierarchy.manage`.
        CaHierarchyManage = "ca.hierarchy.manage",
        /// `job.read`.
        JobRead = "job.read",
        /// `job.cancel`.
        JobCancel = "job.cancel",
        /// `approval.read`.
        ApprovalRead = "approval.read",
        /// `approval.approve`.
        ApprovalApprove = "approval.approve",
        /// `approval.reject`.
        ApprovalReject = "approval.reject",
        /// `policy.read`.
        PolicyRead = "policy.read",
        /// `policy.edit`.
        PolicyEdit = "policy.edit",
        /// `policy.delete`.
        PolicyDelete = "policy.delete",
        /// `team.read`.
        TeamRead = "team.read",
        /// `team.edit`.
        TeamEdit = "team.edit",
        /// `team.delete`.
        TeamDelete = "team.delete",
        /// `owner.read`.
        OwnerRead = "owner.read",
        /// `owner.edit`.
        OwnerEdit = "owner.edit",
        /// `owner.delete`.
        OwnerDelete = "owner.delete",
        /// `notification.read`.
        NotificationRead = "notification.read",
        /// `notification.edit`.
        NotificationEdit = "notification.edit",
        /// `discovery.read`.
        DiscoveryRead = "discovery.read",
        /// `discovery.run`.
        DiscoveryRun = "discovery.run",
        /// `discovery.claim`.
        DiscoveryClaim = "discovery.claim",
        /// `network_scan.read`.
        NetworkScanRead = "network_scan.read",
        /// `network_scan.edit`.
        NetworkScanEdit = "network_scan.edit",
        /// `network_scan.run`.
        NetworkScanRun = "network_scan.run",
        /// `healthcheck.read`.
        HealthcheckRead = "healthcheck.read",
        /// `healthcheck.edit`.
        HealthcheckEdit = "healthcheck.edit",
        /// `healthcheck.delete`.
        HealthcheckDelete = "healthcheck.delete",
        /// `healthcheck.acknowledge`.
        HealthcheckAcknowledge = "healthcheck.acknowledge",
        /// `digest.read`.
        DigestRead = "digest.read",
        /// `digest.send`.
        DigestSend = "digest.send",
        /// `verification.read`.
        VerificationRead = "verification.read",
        /// `verification.run`.
        VerificationRun = "verification.run",
        /// `stats.read`.
        StatsRead = "stats.read",
        /// `metrics.read`.
        MetricsRead = "metrics.read",
    }
}

impl Permission {
    /// The name without its last segment.
    #[must_use]
    pub fn namespace(self) -> &'static str {
        // `auth.session.list.all` belongs with `auth.session.list` (model §6.1).
        let name = self.as_str().strip_suffix(".all").unwrap_or(self.as_str());
        name.rsplit_once('.')
            .map_or(name, |(namespace, _)| namespace)
    }

    /// The id of its row: `p-` and the name with dashes.
    #[must_use]
    pub fn id(self) -> String {
        format!("p-{}", self.as_str().replace(['.', '_'], "-"))
    }
}

text_enum! {
    /// A role that every installation has.
    pub enum SeededRole ("role") {
        /// Everything.
        Admin = "admin",
        /// Runs the fleet.
        Operator = "operator",
        /// Looks.
        Viewer = "viewer",
        /// An agent.
        Agent = "agent",
        /// A machine client that reasons.
        Mcp = "mcp",
        /// The command line.
        Cli = "cli",
        /// Reads the audit trail.
        Auditor = "auditor",
    }
}

impl SeededRole {
    /// The id of its row.
    #[must_use]
    pub fn id(self) -> String {
        format!("r-{}", self.as_str())
    }

    /// The seeded role with this id.
    #[must_use]
    pub fn of_id(id: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|role| role.id() == id)
    }

    /// Whether the role holds the permission.
    #[must_use]
    pub fn holds(self, permission: Permission) -> bool {
        let name = permission.as_str();
        match self {
            Self::Admin => true,
            Self::Operator => operator_holds(name),
            Self::Viewer => viewer_holds(name),
            Self::Agent => {
                name.starts_with("agent.job.")
                    || [
                        "cert.read",
                        "agent.heartbeat",
                        "discovery.run",
                        "verification.run",
                    ]
                    .contains(&name)
            }
            Self::Mcp => mcp_holds(name),
            Self::Cli => {
                ["auth.key.list", "auth.key.create", "auth.key.rotate"].contains(&name)
                    || (operator_holds(name)
                        && ![
                            "team.delete",
                            "owner.delete",
                            "healthcheck.delete",
                            "auth.user.read",
                        ]
                        .contains(&name))
            }
            Self::Auditor => ["audit.read", "audit.export", "auth.user.read"].contains(&name),
        }
    }
}

fn in_namespaces(name: &str, namespaces: &[&str]) -> bool {
    name.rsplit_once('.')
        .is_some_and(|(namespace, _)| namespaces.contains(&namespace))
}

fn operator_holds(name: &str) -> bool {
    in_namespaces(
        name,
        &[
            "job",
            "approval",
            "policy",
            "team",
            "owner",
            "notification",
            "discovery",
            "network_scan",
            "healthcheck",
            "digest",
            "verification",
        ],
    ) || [
        "cert.read",
        "cert.issue",
        "cert.edit",
        "cert.revoke",
        "cert.delete",
        "profile.read",
        "profile.edit",
        "issuer.read",
        "issuer.edit",
        "target.read",
        "target.edit",
        "target.delete",
        "agent.read",
        "agent.edit",
        "audit.read",
        "auth.user.read",
        "stats.read",
        "metrics.read",
    ]
    .contains(&name)
}

fn viewer_holds(name: &str) -> bool {
    name.ends_with(".read") && name != "auth.user.read"
}

fn mcp_holds(name: &str) -> bool {
    in_namespaces(name, &["approval", "notification", "verification"])
        || [
            "cert.read",
            "cert.issue",
            "cert.edit",
            "cert.revoke",
            "profile.read",
            "profile.edit",
            "issuer.read",
            "issuer.edit",
            "target.read",
            "target.edit",
            "agent.read",
            "audit.read",
            "job.read",
            "job.cancel",
            "policy.read",
            "team.read",
            "owner.read",
            "discovery.read",
            "discovery.claim",
            "network_scan.read",
            "network_scan.run",
            "healthcheck.read",
            "healthcheck.acknowledge",
            "digest.read",
            "stats.read",
            "metrics.read",
        ]
        .contains(&name)
}

#[cfg(test)]
mod tests {
    use super::{Permission, SeededRole};

    /// The matrix of model §6.3, row by row: permission, letters of the roles that hold it.
    const MATRIX: &[(&str, &str)] = &[
        ("cert.read", "AOVGMC"),
        ("cert.issue", "AOMC"),
        ("cert.edit", "AOMC"),
        ("cert.revoke", "AOMC"),
        ("cert.delete", "AOC"),
        ("cert.bulk_revoke", "A"),
        ("profile.read", "AOVMC"),
        ("issuer.read", "AOVMC"),
        ("target.read", "AOVMC"),
        ("agent.read", "AOVMC"),
        ("profile.edit", "AOMC"),
        ("issuer.edit", "AOMC"),
        ("target.edit", "AOMC"),
        ("profile.delete", "A"),
        ("issuer.delete", "A"),
        ("target.delete", "AOC"),
        ("agent.edit", "AOC"),
        ("agent.retire", "A"),
        ("agent.heartbeat", "AG"),
        ("agent.job.poll", "AG"),
        ("agent.job.complete", "AG"),
        ("agent.job.report", "AG"),
        ("discovery.run", "AOCG"),
        ("discovery.read", "AOVMC"),
        ("discovery.claim", "AOMC"),
        ("network_scan.read", "AOVMC"),
        ("network_scan.run", "AOMC"),
        ("network_scan.edit", "AOC"),
        ("healthcheck.edit", "AOC"),
        ("verification.read", "AOVMC"),
        ("verification.run", "AOMCG"),
        ("audit.read", "AOVMCU"),
        ("audit.export", "AU"),
        ("auth.user.read", "AOU"),
        ("auth.key.list", "AC"),
        ("auth.key.create", "AC"),
        ("auth.key.rotate", "AC"),
        ("auth.key.delete", "A"),
        ("auth.role.assign", "A"),
        ("crl.admin", "A"),
        ("scep.admin", "A"),
        ("est.admin", "A"),
        ("ca.hierarchy.manage", "A"),
        ("job.read", "AOVMC"),
        ("approval.read", "AOVMC"),
        ("job.cancel", "AOMC"),
        ("approval.approve", "AOMC"),
        ("approval.reject", "AOMC"),
        ("policy.read", "AOVMC"),
        ("team.read", "AOVMC"),
        ("owner.read", "AOVMC"),
        ("policy.edit", "AOC"),
        ("policy.delete", "AOC"),
        ("team.edit", "AOC"),
        ("owner.edit", "AOC"),
        ("team.delete", "AO"),
        ("owner.delete", "AO"),
        ("healthcheck.delete", "AO"),
        ("notification.read", "AOVMC"),
        ("notification.edit", "AOMC"),
        ("healthcheck.read", "AOVMC"),
        ("healthcheck.acknowledge", "AOMC"),
        ("digest.read", "AOVMC"),
        ("digest.send", "AOC"),
        ("stats.read", "AOVMC"),
        ("metrics.read", "AOVMC"),
    ];

    #[test]
    fn the_roles_hold_what_the_matrix_says() {
        let letters = [
            (SeededRole::Admin, 'A'),
            (SeededRole::Operator, 'O'),
            (SeededRole::Viewer, 'V'),
            (SeededRole::Agent, 'G'),
            (SeededRole::Mcp, 'M'),
            (SeededRole::Cli, 'C'),
            (SeededRole::Auditor, 'U'),
        ];
        for (name, holders) in MATRIX {
            let permission = Permission::parse(name).unwrap();
            for (role, letter) in letters {
                assert_eq!(
                    role.holds(permission),
                    holders.contains(letter),
                    "{role} {name}"
                );
            }
        }
    }

    #[test]
    fn the_catalogue_is_complete_and_its_names_are_namespaced() {
        assert_eq!(Permission::ALL.len(), 82);
        assert_eq!(Permission::AuthSessionListAll.namespace(), "auth.session");
        assert_eq!(Permission::AgentJobPoll.namespace(), "agent.job");
        assert_eq!(Permission::CertBulkRevoke.id(), "p-cert-bulk-revoke");
    }
}
