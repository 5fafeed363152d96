//! Agents and their heartbeats.

use std::time::Duration;

use certctl_domain::{
    agent::{AgentDependencies, AgentReport, AgentStatus, SENTINELS},
    id::AgentId,
    page::PageRequest,
    time::Timestamp,
};
use certctl_repository::{
    Error,
    agents::{self, Heartbeat},
    certificates, targets,
};
use certctl_testkit::{TestDb, database::START, db_tests, entities};

use crate::jobs::{insert, set};

fn beat(id: &str, at: Timestamp, version: &str) -> Heartbeat {
    Heartbeat {
        agent_id: AgentId::from_stored(id.to_owned()),
        at,
        report: AgentReport {
            version: version.to_owned(),
            ..AgentReport::default()
        },
    }
}

async fn beats(db: &TestDb, beats: &[Heartbeat]) -> usize {
    tx!(db, conn => agents::record_heartbeats(conn, beats).await).unwrap()
}

async fn agent(db: &TestDb, id: &str) -> certctl_domain::agent::Agent {
    agents::find(reader!(db), &AgentId::from_stored(id.to_owned()))
        .await
        .unwrap()
}

db_tests! {
    async fn an_agent_is_registered_found_and_changed(db: TestDb) {
        let one = entities::agent("ag-new");
        tx!(db, conn => agents::insert(conn, &one, "hash-new").await).unwrap();
        assert_eq!(agents::find(reader!(db), &one.id).await.unwrap(), one);
        assert_eq!(agents::find_by_key_hash(reader!(db), "hash-new").await.unwrap(), Some(one.clone()));
        assert_eq!(agents::find_by_key_hash(reader!(db), "hash").await.unwrap(), None);
        let mut twin = entities::agent("ag-twin");
        twin.name.clone_from(&one.name);
        let taken = tx!(db, conn => agents::insert(conn, &twin, "hash-twin").await);
        assert!(matches!(taken, Err(Error::AlreadyExists)), "{taken:?}");
        // A heartbeat that came in after the agent was read is not lost with its retirement.
        assert_eq!(beats(&db, &[beat("ag-new", START + Duration::from_secs(9), "9.9.9")]).await, 1);
        let mut changed = agent(&db, "ag-new").await;
        assert_eq!((changed.version.as_str(), changed.last_heartbeat_at), ("9.9.9", Some(START + Duration::from_secs(9))));
        tx!(db, conn => agents::retire(conn, &one.id, Some("replaced"), START).await).unwrap();
        changed.retired_at = Some(START);
        changed.retired_reason = Some("replaced".into());
        assert_eq!(agent(&db, "ag-new").await, changed);
        for locked in [tx!(db, conn => agents::lock_shared(conn, &one.id).await), tx!(db, conn => agents::find_for_update(conn, &one.id).await)] {
            assert_eq!(locked.unwrap(), changed);
        }
        // Its key is not among the columns that are written.
        assert!(agents::find_by_key_hash(reader!(db), "hash-new").await.unwrap().is_some());
        let absent = tx!(db, conn => agents::retire(conn, &twin.id, None, START).await);
        assert!(matches!(absent, Err(Error::NotFound)), "{absent:?}");
        let absent = tx!(db, conn => agents::lock_shared(conn, &twin.id).await);
        assert!(matches!(absent, Err(Error::NotFound)), "{absent:?}");
    }

    async fn retired_agents_have_a_list_of_their_own(db: TestDb) {
        for (id, registered, retired) in [("ag-1", 1, None), ("ag-2", 2, Some(5)), ("ag-3", 2, Some(9)), ("ag-4", 1, None)] {
            let mut one = entities::agent(id);
            one.registered_at = Timestamp::MAX - Duration::from_secs(100 - registered);
            one.retired_at = retired.map(|seconds| START + Duration::from_secs(seconds));
            tx!(db, conn => agents::insert(conn, &one, id).await).unwrap();
        }
        for (retired, expected) in [(false, vec!["ag-1", "ag-4"]), (true, vec!["ag-3", "ag-2"])] {
            let page = agents::list(reader!(db), retired, PageRequest::default()).await.unwrap();
            let ids: Vec<&str> = page.rows.iter().map(|one| one.id.as_str()).filter(|id| !SENTINELS.contains(id)).collect();
            assert_eq!(ids, expected);
            assert_eq!(usize::try_from(page.total).unwrap(), page.rows.len());
        }
    }

    async fn gathered_heartbeats_are_written_at_once(db: TestDb) {
        for id in ["ag-1", "ag-2", "ag-3"] {
            let mut one = entities::agent(id);
            one.status = AgentStatus::Offline;
            one.last_heartbeat_at = (id != "ag-3").then_some(START);
            tx!(db, conn => agents::insert(conn, &one, id).await).unwrap();
        }
        let mut retired = agent(&db, "ag-2").await;
        tx!(db, conn => agents::retire(conn, &retired.id, None, START).await).unwrap();
        retired.retired_at = Some(START);
        let now = START + Duration::from_micros(1_000_001);
        let mut full = beat("ag-1", now, "2.0.0");
        full.report = AgentReport {
            version: "2.0.0".into(), hostname: "h,\"{}'".into(), os: "darwin".into(), architecture: "arm64".into(), ip_address: "2001:db8::1".into(),
        };
        let written = beats(&db, &[full, beat("ag-2", now, "9"), beat("ag-3", now, ""), beat("ag-unknown", now, "")]).await;
        assert_eq!(written, 2);
        let first = agent(&db, "ag-1").await;
        assert_eq!((first.status, first.last_heartbeat_at), (AgentStatus::Online, Some(now)));
        assert_eq!((first.version.as_str(), first.hostname.as_str(), first.os.as_str()), ("2.0.0", "h,\"{}'", "darwin"));
        assert_eq!((first.architecture.as_str(), first.ip_address.as_str()), ("arm64", "2001:db8::1"));
        assert_eq!(agent(&db, "ag-2").await, retired);
        // What is not said changes nothing.
        let third = agent(&db, "ag-3").await;
        assert_eq!((third.version.as_str(), third.last_heartbeat_at), ("0.1.0", Some(now)));
    }

    async fn an_older_heartbeat_does_not_overwrite_a_newer_one(db: TestDb) {
        db.seed_basics().await;
        let (early, late) = (START + Duration::from_secs(1), START + Duration::from_secs(2));
        assert_eq!(beats(&db, &[beat("ag-web", late, "new")]).await, 1);
        assert_eq!(beats(&db, &[beat("ag-web", early, "old")]).await, 0);
        let found = agent(&db, "ag-web").await;
        assert_eq!((found.last_heartbeat_at, found.version.as_str()), (Some(late), "new"));
        assert_eq!(beats(&db, &[beat("ag-web", late, "same")]).await, 1);
        assert_eq!(beats(&db, &[]).await, 0);
    }

    async fn the_silent_go_offline_but_for_sentinels_and_the_retired(db: TestDb) {
        db.seed_basics().await;
        for (id, last, retired) in [("ag-never", None, false), ("ag-old", Some(1), false), ("ag-retired", Some(1), true)] {
            let mut one = entities::agent(id);
            one.last_heartbeat_at = last.map(|seconds| START - Duration::from_secs(seconds));
            one.retired_at = retired.then_some(START);
            tx!(db, conn => agents::insert(conn, &one, id).await).unwrap();
        }
        assert_eq!(tx!(db, conn => agents::mark_offline(conn, START).await).unwrap(), 2);
        assert_eq!(tx!(db, conn => agents::mark_offline(conn, START).await).unwrap(), 0);
        for (id, status) in [
            ("ag-never", AgentStatus::Offline), ("ag-old", AgentStatus::Offline), ("ag-retired", AgentStatus::Online),
            ("ag-web", AgentStatus::Online), ("server-scanner", AgentStatus::Online),
        ] {
            assert_eq!(agent(&db, id).await.status, status, "{id}");
        }
    }

    async fn an_agent_that_is_being_referred_to_is_not_retired_meanwhile(db: TestDb) {
        let basics = db.seed_basics().await;
        let (other, id) = (db.db(), basics.agent.clone());
        let (tell, told) = tokio::sync::oneshot::channel();
        let holder = tokio::spawn(async move {
            let mut tell = Some(tell);
            let target = entities::target("tgt-new", &id);
            tx!(other, conn => {
                agents::lock_shared(conn, &id).await?;
                if let Some(tell) = tell.take() { let _ = tell.send(()); }
                // The other one stands at the lock by now, or comes to it later; it is behind this insert either way.
                tokio::task::yield_now().await;
                targets::insert(conn, &target).await
            }).unwrap();
        });
        told.await.unwrap();
        let counted = tx!(db, conn => {
            agents::find_for_update(conn, &basics.agent).await?;
            agents::dependencies(conn, &basics.agent).await
        }).unwrap();
        assert_eq!(counted.active_targets, 2);
        holder.await.unwrap();
    }

    async fn what_depends_on_an_agent_is_counted(db: TestDb) {
        let basics = db.seed_basics().await;
        let none = agents::dependencies(reader!(db), &AgentId::from_stored("ag-x".into())).await.unwrap();
        assert!(none.is_empty());
        let second = entities::target("tgt-second", &basics.agent);
        tx!(db, conn => targets::insert(conn, &second).await).unwrap();
        // One certificate on two targets is one certificate.
        let both = [basics.target.clone(), second.id];
        tx!(db, conn => certificates::replace_mappings(conn, &basics.certificate, &both).await).unwrap();
        let with = |id| entities::deployment(id, &basics.certificate, &basics.target, Some(&basics.agent));
        insert(&db, &[with("job-1"), with("job-2"), with("job-3")]).await;
        set(&db, "job-3", "status = 'Completed'").await;
        let counted = agents::dependencies(reader!(db), &basics.agent).await.unwrap();
        assert_eq!(counted, AgentDependencies { active_targets: 2, active_certificates: 1, pending_jobs: 2 });
    }
}
