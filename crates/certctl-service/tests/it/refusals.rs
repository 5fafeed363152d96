use certctl_domain::{
    access::Actor,
    agent::AgentReport,
    id::{
        AuditEventId, IssuerId, JobId, OwnerId, ProfileId, RenewalPolicyId, RoleId, TargetId,
        TeamId,
    },
    page::PageRequest,
};
use certctl_service::{
    AuditFilter, CertificateFilter, CertificateOrder, JobFilter,
    agents::{AgentInput, Registrar},
    audit::{ExportRange, VerifyFrom},
    certificates::CertificateInput,
    grants::{GrantInput, ScopeInput},
    issuers::IssuerInput,
    jobs::VerificationInput,
    keys::KeyInput,
    owners::OwnerInput,
    profiles::ProfileInput,
    renewal_policies::RenewalPolicyInput,
    roles::{RoleInput, RolePermissionInput},
    targets::TargetInput,
    teams::TeamInput,
    work::JobReport,
};
use certctl_testkit::{TestDb, db_tests};

use crate::support::{World, outcome};

db_tests! {
    // Every use case that takes an actor. Whoever adds one adds it here; `refusals_complete` looks whether they did.
    async fn an_actor_without_grants_may_do_nothing(db: TestDb) {
        let world = World::new(db).await;
        let (s, nobody, page) = (&world.services, &Actor::anonymous(), PageRequest::default());
        let (certificate, agent) = (&world.ids.certificate, &world.ids.agent);
        let range = ExportRange { from: world.now(), to: world.now(), category: None, limit: 1 };
        let (job, audit) = (&JobId::from_stored("job-1".into()), &AuditEventId::from_stored("ae-1".into()));
        let (team, owner) = (&TeamId::from_stored("t-platform".into()), &OwnerId::from_stored("o-alice".into()));
        let (policy, profile) = (&RenewalPolicyId::from_stored("rp-standard".into()), &ProfileId::from_stored("prof-standard-tls".into()));
        let (target, issuer) = (&TargetId::from_stored("tgt-web".into()), &IssuerId::from_stored("iss-local".into()));
        let role = &RoleId::from_stored("r-viewer".into());
        let answers = [
            ("cert.read", outcome(s.list_certificates(nobody, &CertificateFilter::default(), CertificateOrder::Name, false, page).await)),
            ("cert.read", outcome(s.list_certificates_after(nobody, &CertificateFilter::default(), None, 1).await)),
            ("cert.read", outcome(s.get_certificate(nobody, certificate).await)),
            ("cert.issue", outcome(s.create_certificate(nobody, CertificateInput::default()).await)),
            ("cert.edit", outcome(s.update_certificate(nobody, certificate, CertificateInput::default()).await)),
            ("cert.delete", outcome(s.archive_certificate(nobody, certificate).await)),
            ("cert.read", outcome(s.list_versions(nobody, certificate, page).await)),
            ("cert.read", outcome(s.list_deployments(nobody, certificate).await)),
            ("cert.issue", outcome(s.renew_certificate(nobody, certificate, true).await)),
            ("cert.edit", outcome(s.deploy_certificate(nobody, certificate, None).await)),
            ("cert.revoke", outcome(s.revoke_certificate(nobody, certificate, None).await)),
            ("cert.read", outcome(s.export_pem(nobody, certificate).await)),
            ("agent.edit", outcome(s.register_agent(&Registrar::Actor(nobody.clone()), AgentInput::default()).await)),
            ("agent.read", outcome(s.list_agents(nobody, false, page).await)),
            ("agent.read", outcome(s.get_agent(nobody, agent).await)),
            ("agent.retire", outcome(s.retire_agent(nobody, agent, true, Some("x")).await)),
            ("agent.heartbeat", outcome(s.heartbeat(nobody, agent, AgentReport::default()).await)),
            ("agent.job.poll", outcome(s.poll_work(nobody, agent).await)),
            ("agent.job.poll", outcome(s.submit_csr(nobody, agent, "", None, None).await)),
            ("cert.read", outcome(s.agent_certificate(nobody, agent, certificate).await)),
            ("agent.job.complete", outcome(s.report_job(nobody, agent, job, &JobReport::default()).await)),
            ("job.read", outcome(s.list_jobs(nobody, JobFilter::default(), page).await)),
            ("job.read", outcome(s.get_job(nobody, job).await)),
            ("job.cancel", outcome(s.cancel_job(nobody, job).await)),
            ("verification.run", outcome(s.verify_job(nobody, job, VerificationInput::default()).await)),
            ("verification.read", outcome(s.get_verification(nobody, job).await)),
            ("audit.read", outcome(s.list_audit_events(nobody, &AuditFilter::default(), page).await)),
            ("audit.read", outcome(s.get_audit_event(nobody, audit).await)),
            ("audit.read", outcome(s.list_audit_heads(nobody, page).await)),
            ("audit.read", outcome(s.list_audit_keys(nobody).await)),
            ("audit.read", outcome(s.prove_audit_event(nobody, audit).await)),
            ("audit.read", outcome(s.verify_audit_log(nobody, VerifyFrom::Start, None).await)),
            ("audit.export", outcome(s.export_audit(nobody, range.clone()).await)),
            ("audit.export", outcome(s.export_sealed_audit(nobody, range).await)),
            ("auth.key.rotate", outcome(s.rotate_audit_key(nobody).await)),
            ("metrics.read", outcome(s.counts(nobody).await)),
            ("team.read", outcome(s.list_teams(nobody, page).await)),
            ("team.read", outcome(s.get_team(nobody, team).await)),
            ("team.edit", outcome(s.create_team(nobody, TeamInput::default()).await)),
            ("team.edit", outcome(s.update_team(nobody, team, TeamInput::default()).await)),
            ("team.delete", outcome(s.delete_team(nobody, team).await)),
            ("owner.read", outcome(s.list_owners(nobody, page).await)),
            ("owner.read", outcome(s.get_owner(nobody, owner).await)),
            ("owner.edit", outcome(s.create_owner(nobody, OwnerInput::default()).await)),
            ("owner.edit", outcome(s.update_owner(nobody, owner, OwnerInput::default()).await)),
            ("owner.delete", outcome(s.delete_owner(nobody, owner).await)),
            ("policy.read", outcome(s.list_renewal_policies(nobody, page).await)),
            ("policy.read", outcome(s.get_renewal_policy(nobody, policy).await)),
            ("policy.edit", outcome(s.create_renewal_policy(nobody, RenewalPolicyInput::default()).await)),
            ("policy.edit", outcome(s.update_renewal_policy(nobody, policy, RenewalPolicyInput::default()).await)),
            ("policy.delete", outcome(s.delete_renewal_policy(nobody, policy).await)),
            ("profile.read", outcome(s.list_profiles(nobody, page).await)),
            ("profile.read", outcome(s.get_profile(nobody, profile).await)),
            ("profile.edit", outcome(s.create_profile(nobody, ProfileInput::default()).await)),
            ("profile.edit", outcome(s.update_profile(nobody, profile, ProfileInput::default()).await)),
            ("profile.delete", outcome(s.delete_profile(nobody, profile).await)),
            ("target.read", outcome(s.list_targets(nobody, page).await)),
            ("target.read", outcome(s.get_target(nobody, target).await)),
            ("target.edit", outcome(s.create_target(nobody, TargetInput::default()).await)),
            ("target.edit", outcome(s.update_target(nobody, target, TargetInput::default()).await)),
            ("target.delete", outcome(s.delete_target(nobody, target).await)),
            ("target.edit", outcome(s.test_target(nobody, target).await)),
            ("issuer.read", outcome(s.list_issuers(nobody, page).await)),
            ("issuer.read", outcome(s.get_issuer(nobody, issuer).await)),
            ("issuer.edit", outcome(s.create_issuer(nobody, IssuerInput::default()).await)),
            ("issuer.edit", outcome(s.update_issuer(nobody, issuer, IssuerInput::default()).await)),
            ("issuer.delete", outcome(s.delete_issuer(nobody, issuer).await)),
            ("issuer.edit", outcome(s.test_issuer(nobody, issuer).await)),
            ("auth.role.list", outcome(s.list_roles(nobody, page).await)),
            ("auth.role.list", outcome(s.get_role(nobody, role).await)),
            ("auth.role.create", outcome(s.create_role(nobody, RoleInput::default()).await)),
            ("auth.role.edit", outcome(s.update_role(nobody, role, RoleInput::default()).await)),
            ("auth.role.delete", outcome(s.delete_role(nobody, role).await)),
            ("auth.role.edit", outcome(s.add_role_permission(nobody, role, &RolePermissionInput::default()).await)),
            ("auth.role.edit", outcome(s.remove_role_permission(nobody, role, &RolePermissionInput::default()).await)),
            ("auth.role.assign", outcome(s.grant_role(nobody, "ci", GrantInput::default()).await)),
            ("auth.role.revoke", outcome(s.revoke_role(nobody, "ci", role, &ScopeInput::default()).await)),
            ("auth.role.assign", outcome(s.remove_demo_grants(nobody).await)),
            ("auth.role.assign", outcome(s.runtime_config(nobody).await)),
            ("auth.key.list", outcome(s.list_keys(nobody, None, page).await)),
            ("auth.key.list", outcome(s.get_key(nobody, "ci").await)),
            ("auth.key.create", outcome(s.create_key(nobody, KeyInput::default()).await)),
            ("auth.key.rotate", outcome(s.rotate_key(nobody, "ci", std::time::Duration::ZERO).await)),
            ("auth.key.delete", outcome(s.delete_key(nobody, "ci").await)),
        ];
        for (number, (permission, answer)) in answers.iter().enumerate() {
            assert_eq!(*answer, format!("needs {permission}"), "row {number}");
        }
        assert_eq!(world.db.text("SELECT CAST(count(*) AS TEXT) AS value FROM audit_events").await, "0", "and leaves no trace");
    }
}
