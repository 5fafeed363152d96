//! The second half of the list in `refusals`: what works on many things at once, and what looks at them.

use certctl_domain::{
    access::Actor,
    id::{AgentGroupId, ApprovalId, JobId, NotificationId, PolicyRuleId},
    page::PageRequest,
    secret::Secret,
};
use certctl_service::{
    ApprovalFilter, NotificationFilter,
    agent_groups::AgentGroupInput,
    approvals::Verdict,
    bulk::{BulkCriteria, ReassignInput},
    policies::PolicyRuleInput,
    stats::Days,
};
use certctl_testkit::{TestDb, db_tests};

use crate::support::{World, outcome};

fn group() -> AgentGroupInput {
    AgentGroupInput {
        id: None,
        name: "linux".into(),
        description: String::new(),
        match_os: String::new(),
        match_architecture: String::new(),
        match_ip_cidr: String::new(),
        match_version: String::new(),
        enabled: true,
    }
}

db_tests! {
    async fn an_actor_without_grants_changes_nothing_at_once_and_counts_nothing(db: TestDb) {
        let world = World::new(db).await;
        let (s, nobody, page) = (&world.services, &Actor::anonymous(), PageRequest::default());
        let group_id = &AgentGroupId::from_stored("ag-linux".into());
        let notification = &NotificationId::from_stored("notif-1".into());
        let all = &BulkCriteria::default();
        let (approval, job) = (&ApprovalId::from_stored("ar-1".into()), &JobId::from_stored("job-1".into()));
        let rule = &PolicyRuleId::from_stored("pr-require-owner".into());
        let answers = [
            ("cert.read", outcome(s.export_pkcs12(nobody, &world.ids.certificate, &Secret::new("")).await)),
            ("crl.admin", outcome(s.crl_overview(nobody).await)),
            ("approval.read", outcome(s.list_approvals(nobody, &ApprovalFilter::default(), page).await)),
            ("approval.read", outcome(s.get_approval(nobody, approval).await)),
            ("approval.approve", outcome(s.decide_approval(nobody, approval, Verdict::Approve, None).await)),
            ("approval.reject", outcome(s.decide_job(nobody, job, Verdict::Reject, None).await)),
            ("policy.read", outcome(s.list_policies(nobody, page).await)),
            ("policy.read", outcome(s.get_policy(nobody, rule).await)),
            ("policy.edit", outcome(s.create_policy(nobody, PolicyRuleInput::default()).await)),
            ("policy.edit", outcome(s.update_policy(nobody, rule, PolicyRuleInput::default()).await)),
            ("policy.delete", outcome(s.delete_policy(nobody, rule).await)),
            ("policy.read", outcome(s.list_violations(nobody, rule, page).await)),
            ("cert.issue", outcome(s.bulk_renew(nobody, all).await)),
            ("cert.bulk_revoke", outcome(s.bulk_revoke(nobody, all, "", None).await)),
            ("cert.edit", outcome(s.bulk_reassign(nobody, &ReassignInput::default()).await)),
            ("agent.read", outcome(s.list_agent_groups(nobody, page).await)),
            ("agent.read", outcome(s.get_agent_group(nobody, group_id).await)),
            ("agent.read", outcome(s.list_agent_group_members(nobody, group_id, page).await)),
            ("agent.edit", outcome(s.create_agent_group(nobody, group()).await)),
            ("agent.edit", outcome(s.update_agent_group(nobody, group_id, group()).await)),
            ("agent.edit", outcome(s.delete_agent_group(nobody, group_id).await)),
            ("notification.read", outcome(s.list_notifications(nobody, NotificationFilter::default(), page).await)),
            ("notification.read", outcome(s.get_notification(nobody, notification).await)),
            ("notification.read", outcome(s.read_notification(nobody, notification).await)),
            ("notification.edit", outcome(s.requeue_notification(nobody, notification).await)),
            ("stats.read", outcome(s.stats_summary(nobody).await)),
            ("stats.read", outcome(s.certificates_by_status(nobody).await)),
            ("stats.read", outcome(s.expiration_timeline(nobody, Days::DEFAULT).await)),
            ("stats.read", outcome(s.issuance_rate(nobody, Days::DEFAULT).await)),
            ("stats.read", outcome(s.job_trends(nobody, Days::DEFAULT).await)),
        ];
        for (number, (permission, answer)) in answers.iter().enumerate() {
            assert_eq!(*answer, format!("needs {permission}"), "row {number}");
        }
        assert_eq!(world.db.text("SELECT CAST(count(*) AS TEXT) AS value FROM audit_events").await, "0", "and leaves no trace");
    }
}
