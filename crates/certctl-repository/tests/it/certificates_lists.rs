//! Lists of certificates: filters, orders, pages and cursors, with the same answer from both databases.

use std::time::Duration;

use certctl_domain::{
    certificate::{Certificate, CertificateStatus},
    id::AgentId,
    page::PageRequest,
};
use certctl_repository::{
    certificates::{self, CertificateFilter, CertificateOrder as By},
    issuers,
};
use certctl_testkit::{Basics, TestDb, database::START, db_tests, entities};

const DAY: Duration = Duration::from_secs(86_400);

/// Five certificates beside the basic one; ties in every order, and ends of validity that are absent.
async fn seed(db: &TestDb) -> Basics {
    let basics = db.seed_basics().await;
    tx!(db, conn => issuers::insert(conn, &entities::issuer("iss-other")).await).unwrap();
    let rows = [
        ("mc-a", "B.example", CertificateStatus::Active, Some(10), 1),
        ("mc-b", "a.example", CertificateStatus::Active, None, 1),
        ("mc-c", "Ä.example", CertificateStatus::Expired, Some(5), 2),
        ("mc-d", "_.example", CertificateStatus::Revoked, Some(10), 0),
        ("mc-e", "b.example", CertificateStatus::Active, Some(40), 1),
    ];
    for (id, common_name, status, ends_in_days, made_after) in rows {
        let mut certificate = basics.certificate(id);
        certificate.common_name = certctl_domain::name::CommonName::from_stored(common_name.into());
        certificate.name = common_name.into();
        certificate.status = status;
        certificate.expires_at = ends_in_days.map(|days| START + days * DAY);
        certificate.created_at = START + Duration::from_secs(made_after);
        certificate.updated_at = START + Duration::from_secs(10 - made_after);
        if id == "mc-d" {
            certificate.environment = "staging".into();
            certificate.issuer_id = certctl_domain::id::IssuerId::from_stored("iss-other".into());
            certificate.profile_id = None;
        }
        tx!(db, conn => certificates::insert(conn, &certificate).await).unwrap();
    }
    basics
}

fn ids(rows: &[Certificate]) -> String {
    let ids: Vec<&str> = rows.iter().map(|row| &row.id.as_str()[3..]).collect();
    ids.join(" ")
}

db_tests! {
    async fn each_filter_picks_what_it_says(db: TestDb) {
        let basics = seed(&db).await;
        let all = CertificateFilter::default;
        let cases = [
            (all(), "a b c d e web"),
            (CertificateFilter { status: Some(CertificateStatus::Active), ..all() }, "a b e"),
            (CertificateFilter { environment: Some("staging".into()), ..all() }, "d"),
            (CertificateFilter { owner_id: Some(basics.owner.to_string()), ..all() }, "a b c d e web"),
            (CertificateFilter { owner_id: Some("o-nobody".into()), ..all() }, ""),
            (CertificateFilter { team_id: Some(basics.team.to_string()), ..all() }, "a b c d e web"),
            (CertificateFilter { issuer_id: Some("iss-other".into()), ..all() }, "d"),
            (CertificateFilter { profile_id: Some(basics.profile.to_string()), ..all() }, "a b c e web"),
            (CertificateFilter { agent_id: Some(basics.agent.clone()), ..all() }, "web"),
            (CertificateFilter { agent_id: Some(AgentId::from_stored("ag-x".into())), ..all() }, ""),
            (CertificateFilter { expires_before: Some(START + 10 * DAY), ..all() }, "c"),
            (CertificateFilter { expires_after: Some(START + 5 * DAY), ..all() }, "a d e"),
            (CertificateFilter { created_after: Some(START + Duration::from_secs(1)), ..all() }, "c"),
            (CertificateFilter { updated_after: Some(START + Duration::from_secs(8)), ..all() }, "a b d e"),
            (CertificateFilter { status: Some(CertificateStatus::Active), expires_before: Some(START + 11 * DAY), ..all() }, "a"),
        ];
        for (filter, expected) in cases {
            let page = certificates::list(reader!(db), &filter, By::Name, false, PageRequest::default()).await.unwrap();
            let mut found: Vec<Certificate> = page.rows;
            found.sort_by(|a, b| a.id.cmp(&b.id));
            assert_eq!(ids(&found), expected, "{filter:?}");
            assert_eq!(usize::try_from(page.total).unwrap(), found.len(), "{filter:?}");
            assert_eq!(certificates::count(reader!(db), &filter).await.unwrap(), page.total);
        }
    }

    async fn each_order_is_total_and_the_same_everywhere(db: TestDb) {
        seed(&db).await;
        let cases = [
            // Those without an end come last either way.
            (By::ExpiresAt, false, "c a d e b web"),
            (By::ExpiresAt, true, "e d a c web b"),
            (By::CreatedAt, false, "d web a b e c"),
            (By::CreatedAt, true, "c e b a web d"),
            (By::UpdatedAt, false, "web c a b e d"),
            (By::UpdatedAt, true, "d e b a c web"),
            // The order of bytes, not of a language: B before _ before a before Ä.
            (By::CommonName, false, "a d b e web c"),
            (By::CommonName, true, "c web e b d a"),
            (By::Name, false, "a d b e web c"),
            (By::Name, true, "c web e b d a"),
            (By::Status, false, "a b e c web d"),
            (By::Status, true, "d web c e b a"),
            (By::Environment, false, "web a b e c d"),
            (By::Environment, true, "d c e b a web"),
        ];
        let all = CertificateFilter::default();
        for (order, descending, expected) in cases {
            let page = certificates::list(reader!(db), &all, order, descending, PageRequest::default()).await.unwrap();
            assert_eq!(ids(&page.rows), expected, "{order:?} descending: {descending}");
        }
    }

    async fn those_without_an_end_are_behind_the_others_on_every_page(db: TestDb) {
        seed(&db).await;
        let by_end = async |descending: bool, per_page: &str| {
            let mut found = Vec::new();
            for number in 1..=7 {
                let page = PageRequest::lenient(Some(&number.to_string()), Some(per_page));
                let rows = certificates::list_page(reader!(db), &CertificateFilter::default(), By::ExpiresAt, descending, page).await.unwrap();
                found.push(ids(&rows));
            }
            found.retain(|page| !page.is_empty());
            found
        };
        assert_eq!(by_end(false, "1").await, ["c", "a", "d", "e", "b", "web"]);
        assert_eq!(by_end(true, "3").await, ["e d a", "c web b"]);
        assert_eq!(by_end(false, "5").await, ["c a d e b", "web"]);
    }

    async fn pages_cut_one_list_in_pieces(db: TestDb) {
        seed(&db).await;
        let all = CertificateFilter::default();
        let mut found = Vec::new();
        for number in ["1", "2", "3"] {
            let page = PageRequest::lenient(Some(number), Some("4"));
            let page = certificates::list(reader!(db), &all, By::CreatedAt, true, page).await.unwrap();
            assert_eq!(page.total, 6);
            found.push(ids(&page.rows));
        }
        assert_eq!(found, ["c e b a", "web d", ""]);
    }

    async fn a_cursor_walks_through_ties_without_loss_or_repetition(db: TestDb) {
        let basics = db.seed_basics().await;
        let mut expected = vec![certificates::find(reader!(db), &basics.certificate).await.unwrap()];
        for number in 0..25_u64 {
            let mut certificate = basics.certificate(&format!("mc-{number:02}"));
            certificate.created_at = START + Duration::from_micros(number / 7);
            tx!(db, conn => certificates::insert(conn, &certificate).await).unwrap();
            expected.push(certificate);
        }
        expected.sort_by(|a, b| (b.created_at, &b.id).cmp(&(a.created_at, &a.id)));
        for limit in [1, 4, 26, 100] {
            let (mut walked, mut after) = (Vec::<Certificate>::new(), None);
            loop {
                let position = after.as_ref().map(|(at, id): &(_, String)| (*at, id.as_str()));
                let rows = certificates::list_after(reader!(db), &CertificateFilter::default(), position, limit).await.unwrap();
                assert!(i64::try_from(rows.len()).unwrap() <= limit);
                let Some(last) = rows.last() else { break };
                after = Some((last.created_at, last.id.to_string()));
                walked.extend(rows);
            }
            assert_eq!(ids(&walked), ids(&expected), "limit {limit}");
        }
        let staging = CertificateFilter { environment: Some("staging".into()), ..CertificateFilter::default() };
        assert!(certificates::list_after(reader!(db), &staging, None, 10).await.unwrap().is_empty());
    }
}
