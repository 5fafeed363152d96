//! What goes with a change of something that others refer to: locks, edits that wait, renewals and jobs that follow.

use std::time::Duration;

use certctl_domain::{
    certificate::CertificateStatus as Status,
    id::{CertificateId, IssuerId, ProfileId, RenewalPolicyId, TargetId},
    job::JobStatus,
    renewal_policy::renew_at,
    time::Timestamp,
};
use certctl_repository::{Error, certificates, jobs, locks, replanning, transaction};
use certctl_testkit::{Basics, TestDb, database::START, db_tests, entities};

use crate::jobs::{insert, job, set};

const DAY: Duration = Duration::from_secs(86_400);

/// A certificate of the basic policy that ends in `days`.
async fn put(db: &TestDb, basics: &Basics, id: &str, days: u32, status: Status) -> CertificateId {
    let mut certificate = basics.certificate(id);
    certificate.status = status;
    certificate.expires_at = Some(START + days * DAY);
    tx!(db, conn => certificates::insert(conn, &certificate).await).unwrap();
    certificate.id
}

async fn planned(db: &TestDb, id: &CertificateId) -> Option<Timestamp> {
    certificates::find(reader!(db), id).await.unwrap().renew_at
}

db_tests! {
    async fn nobody_refers_to_what_is_locked(db: TestDb) {
        let basics = db.seed_basics().await;
        let certificate = basics.certificate("mc-late");
        let held: Result<_, Error> = transaction!(db, "hold", conn => {
            locks::profile(conn, &basics.profile).await?;
            locks::issuer(conn, &basics.issuer).await?;
            locks::renewal_policy(conn, &basics.policy).await?;
            locks::target(conn, &basics.target).await?;
            let (replica, certificate) = (db.db(), certificate.clone());
            let mut waiting = tokio::spawn(async move {
                tx!(replica, conn => certificates::insert(conn, &certificate).await)
            });
            let early = tokio::time::timeout(Duration::from_millis(200), &mut waiting).await;
            assert!(early.is_err(), "{early:?}");
            // Readers do not wait.
            let seen = certificates::find(reader!(db), &basics.certificate).await?;
            assert_eq!(seen.profile_id.as_ref(), Some(&basics.profile));
            Ok(waiting)
        });
        held.unwrap().await.unwrap().unwrap();
        certificates::find(reader!(db), &certificate.id).await.unwrap();
    }

    async fn what_is_not_there_cannot_be_locked(db: TestDb) {
        let unknown = "unknown".to_owned();
        for outcome in [
            tx!(db, conn => locks::profile(conn, &ProfileId::from_stored(unknown.clone())).await),
            tx!(db, conn => locks::issuer(conn, &IssuerId::from_stored(unknown.clone())).await),
            tx!(db, conn => locks::renewal_policy(conn, &RenewalPolicyId::from_stored(unknown.clone())).await),
            tx!(db, conn => locks::target(conn, &TargetId::from_stored(unknown.clone())).await),
        ] {
            assert!(matches!(outcome, Err(Error::NotFound)), "{outcome:?}");
        }
    }

    async fn renewals_are_planned_anew_by_the_rule_of_the_domain(db: TestDb) {
        let basics = db.seed_basics().await;
        let bare = put(&db, &basics, "mc-bare", 90, Status::Active).await;
        let short = put(&db, &basics, "mc-short", 6, Status::Expiring).await;
        let revoked = put(&db, &basics, "mc-revoked", 90, Status::Revoked).await;
        let (begin, end) = (START, START + 6 * DAY);
        let at = |time: Timestamp| match db.backend() {
            certctl_repository::Backend::Postgres => format!("'{time}'"),
            certctl_repository::Backend::Sqlite => time.as_micros().to_string(),
        };
        // The life is that of the version in force; an older one ended earlier.
        db.execute(&format!(
            "INSERT INTO certificate_versions (id, certificate_id, serial_number, not_before, not_after, fingerprint_sha256, pem_chain) \
             VALUES ('v-1', 'mc-short', '1', {0}, {1}, 'f1', ''), ('v-0', 'mc-short', '0', {0}, {0}, 'f0', '')",
            at(begin), at(end),
        )).await.unwrap();
        let mut policy = entities::policy(basics.policy.as_str());
        policy.renewal_window_days = 20;
        assert_eq!(tx!(db, conn => replanning::of_policy(conn, &policy).await).unwrap(), 2);
        let found = planned(&db, &bare).await.unwrap();
        assert!((START + 70 * DAY..=START + 71 * DAY).contains(&found), "{found}");
        let found = planned(&db, &short).await.unwrap();
        let rule = |jitter| renew_at(begin, end, policy.window(), jitter);
        assert!((rule(0.0)..=rule(1.0)).contains(&found), "{found}");
        assert_eq!(planned(&db, &revoked).await, None);
        let other = entities::policy("rp-other");
        assert_eq!(tx!(db, conn => replanning::of_policy(conn, &other).await).unwrap(), 0);
    }

    async fn deployments_follow_their_target_or_end_with_it(db: TestDb) {
        let basics = db.seed_basics().await;
        let heir = entities::agent("ag-heir");
        tx!(db, conn => certctl_repository::agents::insert(conn, &heir, "h").await).unwrap();
        let with = |id| entities::deployment(id, &basics.certificate, &basics.target, Some(&basics.agent));
        insert(&db, &[with("job-pending"), with("job-running"), with("job-done")]).await;
        insert(&db, &[entities::renewal("job-renewal", &basics.certificate)]).await;
        set(&db, "job-running", "status = 'Running'").await;
        set(&db, "job-done", "status = 'Completed'").await;
        // What an agent is at work on stays with it.
        assert_eq!(tx!(db, conn => jobs::reassign_of_target(conn, &basics.target, &heir.id).await).unwrap(), 1);
        assert_eq!(job(&db, "job-pending").await.agent_id, Some(heir.id));
        assert_eq!(job(&db, "job-running").await.agent_id, Some(basics.agent.clone()));
        assert_eq!(tx!(db, conn => jobs::cancel_of_target(conn, &basics.target, "gone", START).await).unwrap(), 2);
        for (id, status) in [
            ("job-pending", JobStatus::Cancelled), ("job-running", JobStatus::Cancelled), ("job-done", JobStatus::Completed),
            ("job-renewal", JobStatus::Pending),
        ] {
            assert_eq!(job(&db, id).await.status, status, "{id}");
        }
        assert_eq!(job(&db, "job-pending").await.last_error.as_deref(), Some("gone"));
    }
}
