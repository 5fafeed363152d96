//! What every noun with an id can do.

use certctl_domain::{
    agent::AgentStatus,
    id::{AgentId, TeamId},
    page::PageRequest,
};
use certctl_repository::{
    Error, agent_groups, agents, issuers, owners, profiles, renewal_policies, targets, teams,
};
use certctl_testkit::{TestDb, db_tests, entities};

/// One life of a row: it is inserted once, found, changed, listed, deleted, and then it is gone.
macro_rules! noun_tests {
    ($($name:ident: $module:ident, $basics:ident => $one:expr, $changed:ident => $change:expr;)+) => {
        db_tests! {$(
            async fn $name(db: TestDb) {
                let $basics = db.seed_basics().await;
                let one = $one;
                tx!(db, conn => $module::insert(conn, &one).await).unwrap();
                let again = tx!(db, conn => $module::insert(conn, &one).await);
                assert!(matches!(again, Err(Error::AlreadyExists)), "{again:?}");
                assert_eq!($module::find(reader!(db), &one.id).await.unwrap(), one);

                let mut $changed = one.clone();
                $change;
                tx!(db, conn => $module::update(conn, &$changed).await).unwrap();
                assert_eq!($module::find(reader!(db), &one.id).await.unwrap(), $changed);

                let page = $module::list(reader!(db), PageRequest::default()).await.unwrap();
                assert_eq!(usize::try_from(page.total).unwrap(), page.rows.len());
                assert!(page.rows.contains(&$changed));
                let second = PageRequest::lenient(Some("2"), Some("1"));
                let second = $module::list(reader!(db), second).await.unwrap();
                assert_eq!((second.total, second.rows.as_slice()), (page.total, page.rows.get(1..2).unwrap_or_default()));

                tx!(db, conn => $module::delete(conn, &one.id).await).unwrap();
                let outcomes = [
                    $module::find(reader!(db), &one.id).await.map(drop),
                    tx!(db, conn => $module::update(conn, &one).await),
                    tx!(db, conn => $module::delete(conn, &one.id).await),
                ];
                for outcome in outcomes {
                    assert!(matches!(outcome, Err(Error::NotFound)), "{outcome:?}");
                }
            }
        )+}
    };
}

noun_tests! {
    a_team_lives: teams, _basics => entities::team("t-new"), team => team.description = "ünïcode 'quoted'".into();
    an_owner_lives: owners, basics => entities::owner("o-new", &basics.team), owner => owner.email = String::new();
    a_policy_lives: renewal_policies, _basics => entities::policy("rp-new"), policy => {
        policy.auto_renew = false;
        policy.alert_thresholds_days = vec![];
        policy.alert_channels.insert("critical".into(), vec!["Email".into(), "Slack".into()]);
        policy.alert_severity_map.insert("7".into(), "warning".into());
    };
    a_profile_lives: profiles, _basics => entities::profile("prof-new"), profile => {
        profile.allowed_key_algorithms.pop();
        profile.allowed_ekus.clear();
        profile.required_san_patterns = vec![r".*\.example\.com$".into(), "a,b {} \"c\"".into(), String::new()];
        profile.requires_approval = true;
    };
    an_issuer_lives: issuers, _basics => entities::issuer("iss-new"), issuer => {
        issuer.encrypted_config = Some(vec![0, 255, 3]);
        issuer.config = serde_json::json!({"nested": [1, null, {"π": 3.5}]});
        issuer.last_tested_at = Some(issuer.created_at);
        issuer.enabled = false;
    };
    an_agent_group_lives: agent_groups, _basics => crate::agent_groups::group("ag-new"), group => {
        group.match_ip_cidr = "10.0.0.0/8".into();
        group.match_os = "linux".into();
        group.enabled = false;
    };
    a_target_lives: targets, basics => entities::target("tgt-new", &basics.agent), target => {
        target.retired_at = Some(target.created_at);
        target.retired_reason = Some("gone".into());
    };
}

db_tests! {
    async fn unique_names_are_taken_once(db: TestDb) {
        db.seed_basics().await;
        let mut other = entities::team("t-other");
        other.name = "name-t-platform".into();
        let taken = tx!(db, conn => teams::insert(conn, &other).await);
        assert!(matches!(taken, Err(Error::AlreadyExists)), "{taken:?}");
        other.name = "free".into();
        tx!(db, conn => teams::insert(conn, &other).await).unwrap();
        other.name = "name-t-platform".into();
        let taken = tx!(db, conn => teams::update(conn, &other).await);
        assert!(matches!(taken, Err(Error::AlreadyExists)), "{taken:?}");
    }

    async fn what_is_referred_to_must_exist_and_stay(db: TestDb) {
        let basics = db.seed_basics().await;
        let nobody = TeamId::from_stored("t-nobody".into());
        let no_agent = AgentId::from_stored("ag-nobody".into());
        let outcomes = [
            ("owner without team", tx!(db, conn => owners::insert(conn, &entities::owner("o-x", &nobody)).await)),
            ("target without agent", tx!(db, conn => targets::insert(conn, &entities::target("tgt-x", &no_agent)).await)),
            ("team with owner", tx!(db, conn => teams::delete(conn, &basics.team).await)),
            ("owner with certificate", tx!(db, conn => owners::delete(conn, &basics.owner).await)),
            ("policy with certificate", tx!(db, conn => renewal_policies::delete(conn, &basics.policy).await)),
            ("issuer with certificate", tx!(db, conn => issuers::delete(conn, &basics.issuer).await)),
        ];
        for (what, outcome) in outcomes {
            assert!(matches!(outcome, Err(Error::Reference)), "{what}: {outcome:?}");
        }
        // A profile lets go of its certificates, a target of its mappings.
        tx!(db, conn => profiles::delete(conn, &basics.profile).await).unwrap();
        tx!(db, conn => targets::delete(conn, &basics.target).await).unwrap();
        let certificate = certctl_repository::certificates::find(reader!(db), &basics.certificate).await.unwrap();
        assert_eq!((certificate.profile_id, certificate.target_ids), (None, vec![]));
    }

    async fn targets_are_found_by_certificate_and_retired_with_their_agent(db: TestDb) {
        let basics = db.seed_basics().await;
        let other = entities::target("tgt-other", &basics.agent);
        tx!(db, conn => targets::insert(conn, &other).await).unwrap();
        let of = targets::of_certificate(reader!(db), &basics.certificate).await.unwrap();
        assert_eq!(of.iter().map(|target| &target.id).collect::<Vec<_>>(), [&basics.target]);
        let unknown = certctl_domain::id::TargetId::from_stored("tgt-unknown".into());
        let found = targets::find_many(reader!(db), &[other.id.clone(), unknown]).await.unwrap();
        assert_eq!(found, [other]);

        let now = certctl_testkit::database::START;
        let retired = tx!(db, conn => targets::retire_of_agent(conn, &basics.agent, "replaced", now).await).unwrap();
        assert_eq!(retired, 2);
        let again = tx!(db, conn => targets::retire_of_agent(conn, &basics.agent, "again", now).await).unwrap();
        assert_eq!(again, 0);
        let target = targets::find(reader!(db), &basics.target).await.unwrap();
        assert_eq!((target.retired_at, target.retired_reason.as_deref()), (Some(now), Some("replaced")));
    }

    async fn a_row_that_no_version_writes_is_named(db: TestDb) {
        let basics = db.seed_basics().await;
        db.execute("UPDATE agents SET status = 'Asleep' WHERE id = 'ag-web'").await.unwrap();
        let refused = agents::find(reader!(db), &basics.agent).await.unwrap_err();
        assert!(matches!(refused, Error::Corrupt { table: "agents", .. }), "{refused:?}");
        assert!(AgentStatus::parse("Asleep").is_err());
    }
}
