//! The renewal scan, and the counts of the metrics.

use std::time::Duration;

use certctl_domain::{
    certificate::{Certificate, CertificateStatus as Status},
    id::CertificateId,
};
use certctl_repository::{
    agents, certificates, issuers,
    metrics::{self, Counts},
    profiles, renewal_policies, renewals,
};
use certctl_testkit::{Basics, TestDb, database::START, db_tests, entities};

use crate::jobs::{insert, set, validation};

const DAY: Duration = Duration::from_secs(86_400);

/// A certificate that is due since a day and ends in twenty, changed by `change`.
async fn put(
    db: &TestDb,
    basics: &Basics,
    id: &str,
    change: impl FnOnce(&mut Certificate),
) -> CertificateId {
    let mut certificate = basics.certificate(id);
    certificate.status = Status::Active;
    certificate.expires_at = Some(START + 20 * DAY);
    certificate.renew_at = Some(START - DAY);
    change(&mut certificate);
    tx!(db, conn => certificates::insert(conn, &certificate).await).unwrap();
    certificate.id
}

async fn due(db: &TestDb, limit: i64) -> Vec<renewals::Due> {
    tx!(db, conn => renewals::due(conn, &renewals::Position::start(), limit, START).await)
        .unwrap()
        .due
}

/// A point in time as a literal.
fn at(db: &TestDb, time: certctl_domain::time::Timestamp) -> String {
    match db.backend() {
        certctl_repository::Backend::Postgres => format!("to_timestamp({})", time.as_seconds()),
        certctl_repository::Backend::Sqlite => time.as_micros().to_string(),
    }
}

async fn state(db: &TestDb, id: &CertificateId) -> Status {
    certificates::find(reader!(db), id).await.unwrap().status
}

db_tests! {
    async fn due_is_what_may_and_must_be_renewed_soonest_first(db: TestDb) {
        let basics = db.seed_basics().await;
        let mut manual = entities::policy("rp-manual");
        manual.auto_renew = false;
        let mut off = entities::issuer("iss-off");
        off.enabled = false;
        let mut strict = entities::profile("prof-strict");
        strict.requires_approval = true;
        tx!(db, conn => {
            renewal_policies::insert(conn, &manual).await?;
            issuers::insert(conn, &off).await?;
            profiles::insert(conn, &strict).await
        }).unwrap();
        put(&db, &basics, "mc-due", |_| ()).await;
        put(&db, &basics, "mc-now", |one| { one.renew_at = Some(START); one.status = Status::Expiring; }).await;
        put(&db, &basics, "mc-strict", |one| { one.renew_at = Some(START - 2 * DAY); one.profile_id = Some(strict.id.clone()); }).await;
        put(&db, &basics, "mc-plain", |one| { one.profile_id = None; one.status = Status::Pending; }).await;
        put(&db, &basics, "mc-later", |one| one.renew_at = Some(START + Duration::from_micros(1))).await;
        put(&db, &basics, "mc-unplanned", |one| one.renew_at = None).await;
        put(&db, &basics, "mc-ended", |one| one.expires_at = Some(START)).await;
        put(&db, &basics, "mc-manual", |one| one.renewal_policy_id = manual.id.clone()).await;
        put(&db, &basics, "mc-off", |one| one.issuer_id = off.id.clone()).await;
        for status in [Status::RenewalInProgress, Status::Failed, Status::Revoked, Status::Archived, Status::Expired] {
            put(&db, &basics, &format!("mc-{status}"), |one| one.status = status).await;
        }
        let open = put(&db, &basics, "mc-open", |_| ()).await;
        insert(&db, &[entities::renewal("job-1", &open)]).await;

        let found = due(&db, 100).await;
        let ids: Vec<&str> = found.iter().map(|one| one.id.as_str()).collect();
        assert_eq!(ids, ["mc-strict", "mc-due", "mc-plain", "mc-now"]);
        assert!(found.iter().all(|one| one.max_retries == 3 && !one.is_first));
        assert_eq!(found.iter().map(|one| one.requires_approval).collect::<Vec<_>>(), [true, false, false, false]);
        assert_eq!((found[0].profile_id.as_ref(), found[2].profile_id.as_ref()), (Some(&strict.id), None));

        // Page by page, whatever of a page is not to be renewed: nothing is left out and nothing comes twice.
        let (mut walked, mut from) = (Vec::new(), renewals::Position::start());
        loop {
            let page = tx!(db, conn => renewals::due(conn, &from, 2, START).await).unwrap();
            walked.extend(page.due);
            match page.next {
                Some(next) => from = next,
                None => break,
            }
        }
        assert_eq!(walked, found);

        let marked = [found[0].id.clone(), found[1].id.clone()];
        assert_eq!(tx!(db, conn => renewals::mark_in_progress(conn, &marked, START).await).unwrap(), 2);
        assert_eq!(tx!(db, conn => renewals::mark_in_progress(conn, &[], START).await).unwrap(), 0);
        assert_eq!(due(&db, 100).await.len(), 2);
        set(&db, "job-1", "status = 'Cancelled'").await;
        assert_eq!(due(&db, 100).await.len(), 3);
    }

    async fn what_failed_for_good_is_due_again_after_its_back_off(db: TestDb) {
        let basics = db.seed_basics().await;
        let mut patient = entities::policy("rp-patient");
        patient.retry_interval_seconds = 86_400;
        tx!(db, conn => renewal_policies::insert(conn, &patient).await).unwrap();
        let failed = |one: &mut Certificate| one.status = Status::Failed;
        let ids = async |now| -> Vec<String> {
            let page = tx!(db, conn => renewals::due(conn, &renewals::Position::start(), 100, now).await).unwrap();
            page.due.into_iter().map(|one| one.id.into_string()).collect()
        };
        put(&db, &basics, "mc-by-hand", failed).await;
        put(&db, &basics, "mc-ended", |one| { failed(one); one.expires_at = Some(START + Duration::from_secs(1)); }).await;
        let quick = put(&db, &basics, "mc-quick", failed).await;
        let slow = put(&db, &basics, "mc-slow", |one| { failed(one); one.renewal_policy_id = patient.id.clone(); }).await;
        let end = at(&db, START);
        // An older one does not matter, nor does a deployment.
        for (job, certificate, attempts) in [("job-1", &quick, 1), ("job-2", &slow, 30), ("job-3", &CertificateId::from_stored("mc-ended".into()), 0)] {
            insert(&db, &[entities::renewal(job, certificate)]).await;
            set(&db, job, &format!("status = 'Failed', attempts = {attempts}, completed_at = {end}")).await;
        }
        let hour = Duration::from_secs(3600);
        assert_eq!(ids(START).await, [""; 0]);
        assert_eq!(ids(START + 2 * hour - Duration::from_micros(1)).await, [""; 0]);
        assert_eq!(ids(START + 2 * hour).await, ["mc-quick"], "an hour, doubled by one attempt");
        assert_eq!(ids(START + DAY - Duration::from_micros(1)).await, ["mc-quick"]);
        assert_eq!(ids(START + DAY).await, ["mc-quick", "mc-slow"], "a day at the most");
        assert_eq!(tx!(db, conn => renewals::mark_in_progress(conn, std::slice::from_ref(&quick), START).await).unwrap(), 1);
        assert_eq!(ids(START + DAY).await, ["mc-slow"]);
    }

    async fn no_plan_takes_more_than_a_third_of_a_life_and_none_leaves_the_calendar(db: TestDb) {
        let basics = db.seed_basics().await;
        // Six days of life under a window of thirty.
        let short = put(&db, &basics, "mc-short", |one| { one.renew_at = None; one.expires_at = Some(START + 6 * DAY); one.status = Status::Failed; }).await;
        let (from, to) = (at(&db, START), at(&db, START + 6 * DAY));
        db.execute(&format!("INSERT INTO certificate_versions (id, certificate_id, issuer_id, serial_number, not_before, not_after, fingerprint_sha256, pem_chain) \
            VALUES ('v-1', 'mc-short', 'iss-local', '01', {from}, {to}, 'f', '')")).await.unwrap();
        let ancient = put(&db, &basics, "mc-ancient", |one| one.renew_at = None).await;
        let past = match db.backend() {
            certctl_repository::Backend::Postgres => "'4713-06-01 00:00:00+00 BC'".to_owned(),
            certctl_repository::Backend::Sqlite => "-200000000000000000".to_owned(),
        };
        db.execute(&format!("UPDATE managed_certificates SET expires_at = {past} WHERE id = 'mc-ancient'")).await.unwrap();
        assert_eq!(tx!(db, conn => renewals::plan_unplanned(conn).await).unwrap(), 1);
        let at = certificates::find(reader!(db), &short).await.unwrap().renew_at.unwrap();
        assert!((START + 4 * DAY..=START + 4 * DAY + DAY / 5).contains(&at), "{at}");
        assert_eq!(tx!(db, conn => renewals::apply_expiry(conn, START).await).unwrap().0, 1, "{ancient} has ended");
    }

    async fn rows_without_a_plan_are_planned_inside_the_window(db: TestDb) {
        let basics = db.seed_basics().await;
        let wide = put(&db, &basics, "mc-wide", |one| { one.renew_at = None; one.expires_at = Some(START + 90 * DAY); }).await;
        let mut short = entities::policy("rp-short");
        short.renewal_window_days = 1;
        tx!(db, conn => renewal_policies::insert(conn, &short).await).unwrap();
        let narrow = put(&db, &basics, "mc-narrow", |one| { one.renew_at = None; one.renewal_policy_id = short.id.clone(); }).await;
        let planned = put(&db, &basics, "mc-planned", |_| ()).await;
        let revoked = put(&db, &basics, "mc-revoked", |one| { one.renew_at = None; one.status = Status::Revoked; }).await;
        assert_eq!(tx!(db, conn => renewals::plan_unplanned(conn).await).unwrap(), 2);
        assert_eq!(tx!(db, conn => renewals::plan_unplanned(conn).await).unwrap(), 0);
        let renew_at = async |id: &CertificateId| certificates::find(reader!(db), id).await.unwrap().renew_at;
        let at = renew_at(&wide).await.unwrap();
        assert!((START + 60 * DAY..=START + 61 * DAY).contains(&at), "{at}");
        let at = renew_at(&narrow).await.unwrap();
        assert!((START + 19 * DAY..=START + 19 * DAY + DAY / 10).contains(&at), "{at}");
        assert_eq!(renew_at(&planned).await, Some(START - DAY));
        assert_eq!(renew_at(&revoked).await, None);
    }

    async fn expiry_moves_states_one_way(db: TestDb) {
        let basics = db.seed_basics().await;
        let ended = put(&db, &basics, "mc-ended", |one| one.expires_at = Some(START)).await;
        let window = put(&db, &basics, "mc-window", |_| ()).await;
        let early = put(&db, &basics, "mc-early", |one| one.renew_at = Some(START + DAY)).await;
        let busy = put(&db, &basics, "mc-busy", |one| { one.status = Status::RenewalInProgress; one.expires_at = Some(START); }).await;
        let revoked = put(&db, &basics, "mc-revoked", |one| { one.status = Status::Revoked; one.expires_at = Some(START); }).await;
        assert_eq!(tx!(db, conn => renewals::apply_expiry(conn, START).await).unwrap(), (1, 1));
        assert_eq!(tx!(db, conn => renewals::apply_expiry(conn, START).await).unwrap(), (0, 0));
        for (id, status) in [
            (&ended, Status::Expired), (&window, Status::Expiring), (&early, Status::Active), (&busy, Status::RenewalInProgress),
            (&revoked, Status::Revoked), (&basics.certificate, Status::Pending),
        ] {
            assert_eq!(state(&db, id).await, status, "{id}");
        }
    }

    async fn a_renewal_that_is_called_off_leaves_what_the_expiry_says(db: TestDb) {
        let basics = db.seed_basics().await;
        let busy = |one: &mut Certificate| one.status = Status::RenewalInProgress;
        let cases = [
            (put(&db, &basics, "mc-none", |one| { busy(one); one.expires_at = None; }).await, Status::Pending),
            (put(&db, &basics, "mc-ended", |one| { busy(one); one.expires_at = Some(START); }).await, Status::Expired),
            (put(&db, &basics, "mc-window", busy).await, Status::Expiring),
            (put(&db, &basics, "mc-early", |one| { busy(one); one.renew_at = Some(START + DAY); }).await, Status::Active),
            (put(&db, &basics, "mc-unplanned", |one| { busy(one); one.renew_at = None; }).await, Status::Active),
            (put(&db, &basics, "mc-revoked", |one| one.status = Status::Revoked).await, Status::Revoked),
        ];
        let ids: Vec<CertificateId> = cases.iter().map(|case| case.0.clone()).collect();
        assert_eq!(tx!(db, conn => renewals::restore_status(conn, &ids, START).await).unwrap(), 5);
        for (id, status) in cases {
            assert_eq!(state(&db, &id).await, status, "{id}");
            let found = certificates::find(reader!(db), &id).await.unwrap();
            if status != Status::Revoked {
                assert_eq!(Status::by_expiry(found.expires_at, found.renew_at, START), status, "{id}");
            }
        }
    }

    async fn everything_is_counted_once(db: TestDb) {
        let basics = db.seed_basics().await;
        put(&db, &basics, "mc-soon", |_| ()).await;
        put(&db, &basics, "mc-far", |one| one.expires_at = Some(START + 31 * DAY)).await;
        put(&db, &basics, "mc-ended", |one| one.expires_at = Some(START)).await;
        put(&db, &basics, "mc-expired", |one| one.status = Status::Expired).await;
        put(&db, &basics, "mc-revoked", |one| one.status = Status::Revoked).await;
        put(&db, &basics, "mc-archived", |one| one.status = Status::Archived).await;
        let mut silent = entities::agent("ag-silent");
        silent.last_heartbeat_at = Some(START - Duration::from_secs(300));
        let mut retired = entities::agent("ag-retired");
        retired.retired_at = Some(START);
        tx!(db, conn => { agents::insert(conn, &silent, "s").await?; agents::insert(conn, &retired, "r").await }).unwrap();
        let states = ["Pending", "AwaitingCSR", "AwaitingApproval", "Running", "Completed", "Completed", "Failed", "Cancelled"];
        for (number, status) in states.iter().enumerate() {
            let id = format!("job-{number}");
            insert(&db, &[validation(&id, &basics.certificate)]).await;
            set(&db, &id, &format!("status = '{status}'")).await;
        }
        for (id, status) in [("ne-1", "dead"), ("ne-2", "failed")] {
            db.execute(&format!("INSERT INTO notification_events (id, type, message, status) VALUES ('{id}', 'Revocation', 'x', '{status}')")).await.unwrap();
        }
        // Those that ended are told by their totals, whatever became of their rows.
        tx!(db, conn => certctl_repository::counters::add_jobs(conn, 12, 11).await).unwrap();
        let counted = metrics::counts(reader!(db), START).await.unwrap();
        assert_eq!(counted, Counts {
            certificates: 6, active: 3, expiring_soon: 1, expired: 2, revoked: 1, agents: 6, agents_online: 1,
            jobs_pending: 4, jobs_completed: 12, jobs_failed: 11, notifications_dead: 1,
        });
    }
}
