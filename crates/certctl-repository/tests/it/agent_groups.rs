//! Who is a member of a group.

use certctl_domain::{
    agent_group::AgentGroup,
    id::{AgentGroupId, AgentId},
    page::PageRequest,
};
use certctl_repository::{agent_groups, agents};
use certctl_testkit::{TestDb, database::START, db_tests, entities};

/// A group without any criterion.
pub(crate) fn group(id: &str) -> AgentGroup {
    AgentGroup {
        id: AgentGroupId::from_stored(id.to_owned()),
        name: format!("name-{id}"),
        description: String::new(),
        match_os: String::new(),
        match_architecture: String::new(),
        match_ip_cidr: String::new(),
        match_version: String::new(),
        enabled: true,
        created_at: START,
        updated_at: START,
    }
}

async fn put(db: &TestDb, id: &str, os: &str, architecture: &str, address: &str) {
    let mut agent = entities::agent(id);
    agent.os = os.into();
    agent.architecture = architecture.into();
    agent.ip_address = address.into();
    tx!(db, conn => agents::insert(conn, &agent, &format!("hash-{id}")).await).unwrap();
}

async fn names(db: &TestDb, change: impl FnOnce(&mut AgentGroup)) -> Vec<String> {
    let mut group = group("ag-group");
    change(&mut group);
    let page = agent_groups::members(reader!(db), &group, PageRequest::default())
        .await
        .unwrap();
    assert_eq!(usize::try_from(page.total).unwrap(), page.rows.len());
    page.rows
        .into_iter()
        .map(|one| one.id.into_string())
        .collect()
}

db_tests! {
    async fn members_meet_every_criterion_or_are_included_and_are_not_excluded(db: TestDb) {
        put(&db, "a1", "Linux", "amd64", "10.0.1.7").await;
        put(&db, "a2", "linux", "arm64", "10.0.1.200").await;
        put(&db, "a3", "linux", "amd64", "10.0.2.7").await;
        put(&db, "a4", "windows", "amd64", "fd00::17").await;
        put(&db, "a5", "linux", "amd64", "unknown").await;
        put(&db, "a6", "linux", "amd64", "10.0.1.9").await;
        tx!(db, conn => agents::retire(conn, &AgentId::from_stored("a6".into()), None, START).await).unwrap();
        // What the seed has put there is of no address.
        db.execute("UPDATE agents SET os = '', ip_address = '', version = '' WHERE id LIKE '%-%'").await.unwrap();

        assert!(names(&db, |_| {}).await.is_empty(), "no criterion is met by nobody");
        assert_eq!(names(&db, |group| group.match_os = "LINUX".into()).await, ["a1", "a2", "a3", "a5"]);
        assert_eq!(names(&db, |group| group.match_ip_cidr = "10.0.1.0/24".into()).await, ["a1", "a2"]);
        assert_eq!(names(&db, |group| group.match_ip_cidr = "fd00::/8".into()).await, ["a4"]);
        assert_eq!(names(&db, |group| group.match_version = "0.1.0".into()).await, ["a1", "a2", "a3", "a4", "a5"]);
        assert!(names(&db, |group| group.match_version = "0.1".into()).await.is_empty());
        assert!(names(&db, |group| group.match_ip_cidr = "nowhere".into()).await.is_empty());
        let both = |group: &mut AgentGroup| {
            group.match_os = "linux".into();
            group.match_architecture = "AMD64".into();
            group.match_ip_cidr = "10.0.0.0/16".into();
        };
        assert_eq!(names(&db, both).await, ["a1", "a3"]);

        tx!(db, conn => agent_groups::insert(conn, &group("ag-group")).await).unwrap();
        for (id, kind) in [("a4", "include"), ("a6", "include"), ("a1", "exclude")] {
            db.execute(&format!("INSERT INTO agent_group_members (agent_group_id, agent_id, membership_type) VALUES ('ag-group', '{id}', '{kind}')")).await.unwrap();
        }
        assert_eq!(names(&db, both).await, ["a3", "a4"]);
        assert_eq!(names(&db, |_| {}).await, ["a4"]);
        let off = |group: &mut AgentGroup| { both(group); group.enabled = false };
        assert_eq!(names(&db, off).await, ["a4"], "those that are included stay");
    }

    async fn members_beyond_a_thousand_are_counted_and_paged(db: TestDb) {
        let insert = "agents (id, name, hostname, api_key_hash, os, ip_address)";
        let select = "SELECT 'ag-' || (10000 + i), 'ag-' || i, 'h', 'h' || i, 'plan9', '10.' || (i / 1000) || '.0.1' FROM n";
        let with = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 2500)";
        let sql = match db.backend() {
            certctl_repository::Backend::Postgres => format!("INSERT INTO {insert} {with} {select}"),
            certctl_repository::Backend::Sqlite => format!("{with} INSERT INTO {insert} {select}"),
        };
        db.execute(&sql).await.unwrap();
        let mut of_second = group("ag-group");
        of_second.match_os = "plan9".into();
        of_second.match_ip_cidr = "10.1.0.0/16".into();
        let page = agent_groups::members(reader!(db), &of_second, PageRequest::lenient(Some("2"), Some("300"))).await.unwrap();
        let ids: Vec<_> = page.rows.iter().map(|one| one.id.as_str()).collect();
        assert_eq!((page.total, ids.len(), ids[0], ids[299]), (1000, 300, "ag-11300", "ag-11599"));
        of_second.match_ip_cidr = String::new();
        let past = agent_groups::members(reader!(db), &of_second, PageRequest::lenient(Some("9"), Some("500"))).await.unwrap();
        assert_eq!((past.total, past.rows.len()), (2500, 0));
    }
}
