//! No query that runs often reads a growing table from end to end.
//!
//! The statements are those that the functions send, caught on the way; each database then says how it would carry them out.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use certctl_domain::{
    audit::EventCategory,
    id::AgentId,
    job::{JobStatus, JobType},
    page::PageRequest,
};
use certctl_repository::{
    Backend, Conn, agents, audit_events, certificates, crls,
    jobs::{self, agent, claim},
    notifications, renewals, stats, targets, transaction, versions,
};
use certctl_testkit::{Basics, TestDb, database::START, db_tests};
use diesel::{QueryableByName, connection::InstrumentationEvent, sql_types::Text};
use diesel_async::{AsyncConnection as _, RunQueryDsl as _, SimpleAsyncConnection as _};

/// Tables that grow with the fleet or with time.
const GROWING: [&str; 13] = [
    "acme_orders",
    "acme_authorizations",
    "acme_challenges",
    "acme_redeemed_nonces",
    "jobs",
    "managed_certificates",
    "agents",
    "deployment_targets",
    "certificate_target_mappings",
    "certificate_versions",
    "audit_events",
    "certificate_revocations",
    "notification_events",
];

#[derive(QueryableByName)]
struct Step {
    #[diesel(sql_type = Text)]
    #[diesel(column_name = "detail")]
    detail: String,
}

#[derive(QueryableByName)]
struct Line {
    #[diesel(sql_type = Text)]
    #[diesel(column_name = "QUERY PLAN")]
    line: String,
}

/// Remembers every statement that is sent.
#[derive(Clone, Default)]
pub(crate) struct Caught(Arc<Mutex<Vec<String>>>);

impl Caught {
    pub(crate) fn on(&self, conn: &mut Conn) {
        let (own, kept) = (self.clone(), self.0.clone());
        kept.lock().unwrap().clear();
        let note = move |event: InstrumentationEvent<'_>| {
            if let InstrumentationEvent::StartQuery { query, .. } = event {
                let text = query.to_string();
                let sql = text
                    .split(" -- binds:")
                    .next()
                    .unwrap_or_default()
                    .to_owned();
                own.0.lock().unwrap().push(sql);
            }
        };
        match conn {
            Conn::Postgres(object) => object.set_instrumentation(note),
            Conn::Sqlite(object) => object.set_instrumentation(note),
        }
    }

    pub(crate) fn off(&self, conn: &mut Conn) -> Vec<String> {
        match conn {
            Conn::Postgres(object) => object.set_instrumentation(|_: InstrumentationEvent<'_>| {}),
            Conn::Sqlite(object) => object.set_instrumentation(|_: InstrumentationEvent<'_>| {}),
        }
        let mut statements = std::mem::take(&mut *self.0.lock().unwrap());
        statements.retain(|sql| {
            ["SELECT", "UPDATE", "WITH", "DELETE"]
                .iter()
                .any(|verb| sql.trim_start().starts_with(verb))
        });
        statements
    }
}

/// How the database would carry a statement out if it could not read whole tables, a step for each line.
///
/// A table of the size of these is read whole for a few rows of it too, since that is quicker; what is asked is whether there is
/// another way.
pub(crate) async fn plan(conn: &mut Conn, sql: &str) -> Vec<String> {
    if let Conn::Postgres(object) = conn {
        let set = object.batch_execute("SET LOCAL enable_seqscan = off").await;
        set.unwrap();
    }
    plan_as_it_is(conn, sql).await
}

/// How the database would carry a statement out, a step for each line.
pub(crate) async fn plan_as_it_is(conn: &mut Conn, sql: &str) -> Vec<String> {
    match conn {
        Conn::Sqlite(object) => {
            let steps: Vec<Step> = diesel::sql_query(format!("EXPLAIN QUERY PLAN {sql}"))
                .load(&mut **object)
                .await
                .unwrap();
            steps.into_iter().map(|step| step.detail).collect()
        }
        Conn::Postgres(object) => {
            // A generic plan, as a prepared statement ends up with: it must be good whatever is asked for.
            let count = (1..20)
                .rev()
                .find(|number| sql.contains(&format!("${number}")))
                .unwrap_or(0);
            let values = vec!["NULL"; count].join(", ");
            let call = if count == 0 {
                "look".to_owned()
            } else {
                format!("look({values})")
            };
            object
                .batch_execute(&format!(
                    "SET plan_cache_mode = force_generic_plan; PREPARE look AS {sql}"
                ))
                .await
                .unwrap_or_else(|error| panic!("{sql}: {error}"));
            let lines: Vec<Line> = diesel::sql_query(format!("EXPLAIN EXECUTE {call}"))
                .load(&mut **object)
                .await
                .unwrap();
            object.batch_execute("DEALLOCATE look").await.unwrap();
            lines.into_iter().map(|line| line.line).collect()
        }
    }
}

/// The first step that reads a growing table as a whole.
pub(crate) fn full_scan(steps: &[String]) -> Option<&String> {
    steps.iter().find(|step| {
        let postgres = GROWING.iter().any(|table| {
            step.split_once("Seq Scan on ")
                .is_some_and(|(_, on)| on.split(' ').next() == Some(table))
        });
        // SQLite names the alias. "SCAN m USING INDEX" follows an index up to the limit; "SCAN m" alone reads the table.
        let sqlite = step.starts_with("SCAN ")
            && !step.contains("USING")
            && !NOT_TABLES.iter().any(|name| step.contains(name));
        postgres || sqlite
    })
}

/// What SQLite scans that is no table: a constant row, what an earlier step picked, and the tables that stay small, as the one of
/// events that wait for the next seal does.
const NOT_TABLES: [&str; 9] = [
    "VIRTUAL TABLE",
    "CONSTANT ROW",
    "own",
    "by_target",
    "(subquery",
    "SCAN p",
    "SCAN i",
    "SCAN f",
    "audit_unsealed",
];

const DAY: Duration = Duration::from_secs(86_400);

/// Thousands of rows: 4,000 certificates with a version each, 2,000 agents with a target each, 12,000 jobs of which few are open.
pub(crate) async fn fill(db: &TestDb) {
    let at = |seconds: &str| match db.backend() {
        Backend::Postgres => format!("to_timestamp({} + {seconds})", START.as_seconds()),
        Backend::Sqlite => format!("({} + {seconds}) * 1000000", START.as_seconds()),
    };
    let rows = |count: u32, insert: &str| {
        format!(
            "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {count}) {insert}"
        )
    };
    let rows_into = |count: u32, into: &str, select: &str| match db.backend() {
        Backend::Postgres => format!("INSERT INTO {into} {}", rows(count, select)),
        Backend::Sqlite => rows(count, &format!("INSERT INTO {into} {select}")),
    };
    let statements = [
        rows_into(
            2000,
            "agents (id, name, hostname, api_key_hash, status, last_heartbeat_at, registered_at)",
            &format!(
                "SELECT 'ag-' || i, 'ag-' || i, 'h', 'h' || i, 'Online', {0}, {0} FROM n",
                at("i")
            ),
        ),
        rows_into(
            2000,
            "deployment_targets (id, name, type, agent_id)",
            "SELECT 'tgt-' || i, 'tgt-' || i, 'NGINX', 'ag-' || i FROM n",
        ),
        rows_into(
            4000,
            "managed_certificates (id, name, common_name, owner_id, team_id, issuer_id, renewal_policy_id, status, expires_at, \
                renew_at, created_at)",
            &format!(
                "SELECT 'mc-' || i, 'mc-' || i, 'cn', 'o-alice', 't-platform', 'iss-local', 'rp-standard', \
                CASE WHEN i % 10 = 0 THEN 'Revoked' ELSE 'Active' END, {}, {}, {} FROM n",
                at("i * 3600"),
                at("i * 1800"),
                at("i")
            ),
        ),
        rows_into(
            4000,
            "certificate_target_mappings",
            "SELECT 'mc-' || i, 'tgt-' || (1 + i % 2000) FROM n",
        ),
        rows_into(
            4000,
            "certificate_versions (id, certificate_id, issuer_id, serial_number, not_before, not_after, fingerprint_sha256, pem_chain)",
            &format!(
                "SELECT 'v-' || i, 'mc-' || i, 'iss-local', CAST(i AS text), {0}, {0}, 'f' || i, '' FROM n",
                at("i")
            ),
        ),
        rows_into(
            12_000,
            "jobs (id, type, certificate_id, target_id, agent_id, status, scheduled_at, created_at)",
            &format!(
                "SELECT 'job-' || i, CASE WHEN i % 2 = 0 THEN 'Deployment' ELSE 'Renewal' END, 'mc-' || (1 + i % 4000), \
                CASE WHEN i % 2 = 0 THEN 'tgt-' || (1 + i % 2000) END, CASE WHEN i % 4 = 0 THEN 'ag-' || (1 + i % 2000) END, \
                CASE WHEN i > 4000 THEN 'Completed' WHEN i % 40 = 2 THEN 'Pending' WHEN i % 40 = 4 THEN 'Pending' \
                    WHEN i % 40 = 1 THEN 'AwaitingCSR' WHEN i % 40 = 3 THEN 'Failed' WHEN i % 40 = 5 THEN 'Pending' \
                    WHEN i % 40 = 7 THEN 'Running' ELSE 'Completed' END, {0}, {0} FROM n",
                at("i")
            ),
        ),
        rows_into(
            4000,
            "audit_events (id, actor, actor_type, action, resource_type, resource_id, timestamp)",
            &format!(
                "SELECT 'audit-' || i, 'ann', 'APIKey', 'x', 'certificate', 'mc-1', {} FROM n",
                at("i")
            ),
        ),
        rows_into(
            4000,
            "notification_events (id, type, message, status, dedupe_key, sent_at, created_at)",
            &format!(
                "SELECT 'notif-' || i, 'Revocation', 'x', CASE WHEN i % 2 = 0 THEN 'sent' ELSE 'pending' END, 'k' || i, \
                CASE WHEN i % 2 = 0 THEN {0} END, {0} FROM n",
                at("i")
            ),
        ),
        "ANALYZE".to_owned(),
    ];
    for statement in statements {
        db.execute(&statement)
            .await
            .unwrap_or_else(|error| panic!("{statement}: {error:?}"));
    }
}

/// Five thousand revoked serials, each of which leaves the lists a second after the one before.
async fn fill_revocations(db: &TestDb, basics: &Basics) {
    let (numbers, until) = match db.backend() {
        Backend::Postgres => ("generate_series(1, 5000) AS n(i)", "to_timestamp(i)"),
        Backend::Sqlite => (
            "(WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 5000) SELECT i FROM n)",
            "i * 1000000",
        ),
    };
    let insert = format!(
        "INSERT INTO certificate_revocations (id, certificate_id, issuer_id, serial_number, revoked_by, revoked_at, listed_until, short_lived) \
         SELECT 'rev-' || i, '{}', '{}', CAST(i AS text), 'ann', {until}, {until}, false FROM {numbers}",
        basics.certificate, basics.issuer
    );
    db.execute(&insert).await.unwrap();
    db.execute("ANALYZE").await.unwrap();
}

/// Catches what a call sends inside a transaction that is rolled back, and refuses a plan that reads a growing table whole.
macro_rules! check {
    ($db:expr, $what:literal, $conn:ident => $call:expr) => {{
        let caught = Caught::default();
        let checked: Result<(), certctl_repository::Error> = transaction!($db, "plans", $conn => {
            caught.on($conn);
            $call?;
            let statements = caught.off($conn);
            assert!(!statements.is_empty(), "{} sends nothing", $what);
            for sql in statements {
                let steps = plan($conn, &sql).await;
                assert!(full_scan(&steps).is_none(), "{}: {:?}\n{sql}\n{}", $what, full_scan(&steps), steps.join("\n"));
            }
            // So that the next call finds the same rows.
            Err(certctl_repository::Error::NotFound)
        });
        assert!(matches!(checked, Err(certctl_repository::Error::NotFound)), "{}: {checked:?}", $what);
    }};
}

pub(crate) use check;

/// The page of certificates among statements is read along an index, in its order, so that it ends with the last row it gives.
async fn ordered_by(conn: &mut Conn, what: &str, index: &str, statements: Vec<String>) {
    let pages = statements
        .iter()
        .filter(|sql| sql.contains("LIMIT") && sql.contains("managed_certificates"));
    let mut seen = 0;
    for sql in pages {
        seen += 1;
        let steps = plan(conn, sql).await;
        let all = steps.join("\n");
        let sorts = ["TEMP B-TREE", "Sort"]
            .iter()
            .any(|sort| all.contains(sort));
        // SQLite names the index of a UNIQUE constraint by its number.
        let along = all.contains(index)
            || (index == "name" && all.contains("sqlite_autoindex_managed_certificates_2"));
        assert!(
            along && !sorts && full_scan(&steps).is_none(),
            "{what}\n{sql}\n{all}"
        );
    }
    assert!(seen > 0, "{what}: {statements:#?}");
}

db_tests! {
    async fn what_runs_often_is_a_range_of_an_index(db: TestDb) {
        db.seed_basics().await;
        fill(&db).await;
        let now = START + Duration::from_secs(100_000);
        let one = AgentId::from_stored("ag-77".into());
        let certificate = certctl_domain::id::CertificateId::from_stored("mc-77".into());
        let all = certificates::CertificateFilter::default();
        check!(db, "claim", conn => claim::claim(conn, "w", Duration::from_secs(300), 100, now).await);
        check!(db, "recover", conn => claim::recover(conn, now).await);
        check!(db, "retry due", conn => claim::retry_due(conn, now).await);
        check!(db, "expire awaiting csr", conn => claim::expire_awaiting_csr(conn, START, now, now).await);
        check!(db, "expire awaiting approval", conn => claim::expire_awaiting_approval(conn, START, now).await);
        check!(db, "poll: has", conn => agent::has_deployments(conn, &one, now).await);
        check!(db, "poll: claim", conn => agent::claim_deployments(conn, &one, 100, now).await);
        check!(db, "poll: awaiting csr", conn => agent::awaiting_csr(conn, &one, 100).await);
        check!(db, "awaiting csr of", conn => agent::awaiting_csr_of(conn, &certificate).await);
        check!(db, "open renewal", conn => jobs::open_renewal(conn, &certificate).await);
        check!(db, "due", conn => renewals::due(conn, &renewals::Position::start(), 1000, now).await);
        check!(db, "agent by key", conn => agents::find_by_key_hash(conn, "h77").await);
        check!(db, "mark offline", conn => agents::mark_offline(conn, START).await);
        check!(db, "latest version", conn => versions::latest(conn, &certificate).await);
        check!(db, "expiries by day", conn => stats::expiries_by_day(conn, now, now + DAY).await);
        check!(db, "issuances by day", conn => stats::issuances_by_day(conn, now, now + DAY).await);
        check!(db, "jobs by day", conn => stats::jobs_by_day(conn, now, now + DAY).await);
        check!(db, "cursor: first", conn => certificates::list_after(conn, &all, None, 50).await);
        check!(db, "cursor: next", conn => certificates::list_after(conn, &all, Some((START + Duration::from_secs(900), "mc-900")), 50).await);
    }

    async fn each_list_of_certificates_is_a_range_of_the_index_made_for_it(db: TestDb) {
        use certificates::{CertificateFilter, CertificateOrder as By};
        db.seed_basics().await;
        fill(&db).await;
        let caught = Caught::default();
        let conn = &mut db.read().await.unwrap();
        if let Conn::Postgres(object) = conn {
            object.batch_execute("SET enable_seqscan = off").await.unwrap();
        }
        let all = CertificateFilter::default();
        let some = |text: &str| Some(text.to_owned());
        for (order, index) in [
            (By::CreatedAt, "managed_certificates_created"),
            (By::UpdatedAt, "managed_certificates_updated"),
            (By::CommonName, "managed_certificates_common_name"),
            (By::Status, "managed_certificates_status"),
            (By::Environment, "managed_certificates_environment"),
            (By::ExpiresAt, "managed_certificates_ends"),
            (By::Name, "name"),
        ] {
            for descending in [false, true] {
                caught.on(conn);
                certificates::list_page(conn, &all, order, descending, PageRequest::default()).await.unwrap();
                certificates::count(conn, &all).await.unwrap();
                let what = format!("by {order:?} descending: {descending}");
                let statements = caught.off(conn);
                ordered_by(conn, &what, index, statements).await;
            }
        }
        let profile = CertificateFilter { profile_id: some("prof-standard-tls"), ..all.clone() };
        for (filter, index) in [
            (CertificateFilter { owner_id: some("o-alice"), ..all.clone() }, "managed_certificates_owner"),
            (CertificateFilter { team_id: some("t-platform"), ..all.clone() }, "managed_certificates_team"),
            (CertificateFilter { issuer_id: some("iss-local"), ..all.clone() }, "managed_certificates_issuer"),
            (CertificateFilter { environment: some("staging"), ..all.clone() }, "managed_certificates_environment"),
            (CertificateFilter { status: Some(certctl_domain::certificate::CertificateStatus::Revoked), ..all.clone() }, "managed_certificates_status"),
            (profile, "managed_certificates_profile"),
        ] {
            let after = Some((START + Duration::from_secs(900), "mc-900"));
            caught.on(conn);
            certificates::list_after(conn, &filter, after, 50).await.unwrap();
            let statements = caught.off(conn);
            // Where many rows pass the filter, PostgreSQL may as well follow the order of all rows up to the limit.
            let index = if matches!(conn, Conn::Postgres(_)) { "managed_certificates_" } else { index };
            ordered_by(conn, &format!("cursor, {filter:?}"), index, statements).await;
            caught.on(conn);
            certificates::count(conn, &filter).await.unwrap();
            let statements = caught.off(conn);
            let steps = plan(conn, &statements[0]).await.join("\n");
            // Another index that begins with the same column may be the smaller one.
            assert!(steps.contains("managed_certificates_") && !steps.contains("Seq Scan"), "count of {filter:?}\n{steps}");
        }
    }

    async fn a_page_of_a_list_is_read_along_an_index(db: TestDb) {
        db.seed_basics().await;
        fill(&db).await;
        let first = PageRequest::default();
        let caught = Caught::default();
        let conn = &mut db.read().await.unwrap();
        if let Conn::Postgres(object) = conn {
            object.batch_execute("SET enable_seqscan = off").await.unwrap();
        }
        caught.on(conn);
        let all = certificates::CertificateFilter::default();
        let by = certificates::CertificateOrder::CreatedAt;
        certificates::list(conn, &all, by, true, first).await.unwrap();
        jobs::list(conn, jobs::JobFilter::default(), first).await.unwrap();
        agents::list(conn, false, first).await.unwrap();
        audit_events::list(conn, &audit_events::AuditFilter::default(), first).await.unwrap();
        notifications::list(conn, notifications::NotificationFilter::default(), first).await.unwrap();
        let dead = notifications::NotificationFilter { status: Some(certctl_domain::notification::NotificationStatus::Dead), ..Default::default() };
        notifications::list(conn, dead, first).await.unwrap();
        let statements = caught.off(conn);
        assert!(statements.len() >= 12, "{statements:#?}");
        for sql in statements {
            let steps = plan(conn, &sql).await;
            assert!(full_scan(&steps).is_none(), "{:?}\n{sql}\n{}", full_scan(&steps), steps.join("\n"));
            // Nothing that nobody asked to leave anything out of is counted row by row.
            let counted = sql.to_lowercase().contains("count(") && !sql.contains("notification_events") && !sql.contains("audit_unsealed");
            assert!(!counted, "{sql}");
        }
    }

    async fn each_page_ends_with_its_last_row(db: TestDb) {
        db.seed_basics().await;
        fill(&db).await;
        let page = PageRequest::default();
        let caught = Caught::default();
        let certificate = certctl_domain::id::CertificateId::from_stored("mc-77".into());
        let filters = [
            jobs::JobFilter::default(),
            jobs::JobFilter { status: Some(JobStatus::Failed), job_type: None },
            jobs::JobFilter { status: None, job_type: Some(JobType::Validation) },
        ];
        let category = audit_events::AuditFilter { category: Some(EventCategory::Config), ..Default::default() };
        let since = audit_events::AuditFilter { since: Some(START), until: Some(START + DAY), ..Default::default() };
        let conn = &mut db.read().await.unwrap();
        if let Conn::Postgres(object) = conn {
            object.batch_execute("SET enable_seqscan = off").await.unwrap();
        }
        let mut seen = Vec::new();
        macro_rules! along {
            ($index:literal, $call:expr) => {{
                caught.on(conn);
                $call.await.unwrap();
                seen.push(($index, caught.off(conn)));
            }};
        }
        for (index, filter) in ["jobs_created", "jobs_in_status", "jobs_of_type"].into_iter().zip(filters) {
            caught.on(conn);
            jobs::list_page(conn, filter, page).await.unwrap();
            seen.push((index, caught.off(conn)));
        }
        along!("agents_registered", agents::list(conn, false, page));
        along!("agents_retired", agents::list(conn, true, page));
        along!("deployment_targets_created", targets::list(conn, page));
        along!("audit_events_time", audit_events::list_page(conn, &audit_events::AuditFilter::default(), page));
        along!("audit_events_category", audit_events::list_page(conn, &category, page));
        along!("audit_events_time", audit_events::list_page(conn, &since, page));
        along!("notification_events_listed", notifications::list_page(conn, notifications::NotificationFilter::default(), page));
        let dead = notifications::NotificationFilter { status: Some(certctl_domain::notification::NotificationStatus::Dead), ..Default::default() };
        along!("notification_events_status", notifications::list_page(conn, dead, page));
        along!("certificate_versions_latest", versions::list(conn, &certificate, page));
        for (index, statements) in seen {
            let sql = statements.iter().find(|sql| sql.contains("LIMIT")).unwrap();
            let steps = plan(conn, sql).await;
            let all = steps.join("\n");
            let sorts = ["TEMP B-TREE", "Sort"].iter().any(|sort| all.contains(sort));
            // PostgreSQL may follow the order of all rows where many of them pass the filter.
            let along = all.contains(index) || matches!(conn, Conn::Postgres(_)) && all.contains("Index Scan using");
            assert!(along && !sorts && full_scan(&steps).is_none(), "{index}\n{sql}\n{all}");
        }
    }

    async fn the_entries_of_a_list_are_a_range_of_the_index_made_for_them(db: TestDb) {
        let basics = db.seed_basics().await;
        fill_revocations(&db, &basics).await;
        let caught = Caught::default();
        let conn = &mut db.read().await.unwrap();
        caught.on(conn);
        crls::entries(conn, &basics.issuer, &crls::Position::start(Some(START)), 100).await.unwrap();
        let statements = caught.off(conn);
        let steps = plan(conn, &statements[0]).await.join("\n");
        // The bound is part of the condition on the index, so that what has left the list is not even looked at.
        let bounded = match db.backend() {
            Backend::Postgres => steps.lines().any(|line| line.contains("Index Cond") && line.contains("ROW(listed_until, serial_number) > ROW(")),
            Backend::Sqlite => steps.contains("(issuer_id=? AND (listed_until,serial_number)>(?,?))"),
        };
        assert!(bounded && steps.contains("certificate_revocations_listed"), "{steps}");
        assert!(!steps.contains("Sort") && !steps.contains("TEMP B-TREE"), "{steps}");
    }
}
