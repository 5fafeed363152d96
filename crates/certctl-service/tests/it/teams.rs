use certctl_domain::{access::Actor, id::TeamId, page::PageRequest};
use certctl_service::teams::TeamInput;
use certctl_testkit::{TestDb, db_tests};

use crate::kit::{Kit, outcome};

fn input(id: &str, name: &str) -> TeamInput {
    TeamInput {
        id: Some(id.to_owned()),
        name: name.to_owned(),
        description: "who runs it".to_owned(),
    }
}

fn id(text: &str) -> TeamId {
    TeamId::from_stored(text.to_owned())
}

db_tests! {
    async fn a_team_is_made_read_changed_and_deleted_and_each_is_on_record(db: TestDb) {
        let kit = Kit::new(db);
        let (services, admin) = (&kit.services, &kit.admin);
        let made = services.create_team(admin, input("t-1", "Platform")).await.unwrap();
        assert_eq!(services.get_team(admin, &id("t-1")).await.unwrap(), made);
        kit.db.clock().advance(std::time::Duration::from_secs(5));
        let changed = services.update_team(admin, &id("t-1"), input("ignored", "Network")).await.unwrap();
        assert_eq!((changed.name.as_str(), changed.created_at), ("Network", made.created_at));
        assert!(changed.updated_at > made.updated_at);
        let generated = services.create_team(admin, TeamInput { id: None, ..input("", "Other") }).await.unwrap();
        assert!(generated.id.as_str().starts_with("team-"));
        let page = services.list_teams(admin, PageRequest::default()).await.unwrap();
        assert_eq!((page.rows, page.total), (vec![generated.clone(), changed], 2));
        services.delete_team(admin, &id("t-1")).await.unwrap();
        services.delete_team(admin, &generated.id).await.unwrap();
        assert_eq!(kit.audit_of("t-1").await, [
            "ann create_team team t-1 cert_lifecycle",
            "ann delete_team team t-1 cert_lifecycle",
            "ann update_team team t-1 cert_lifecycle",
        ]);
    }

    async fn what_is_wrong_with_a_team_is_named(db: TestDb) {
        let kit = Kit::new(db);
        let (services, admin) = (&kit.services, &kit.admin);
        kit.db.seed_basics().await;
        services.create_team(admin, input("t-1", "Platform")).await.unwrap();
        for (refused, expected) in [
            (input("t-2", " "), "invalid name"),
            (input("t-2", &"x".repeat(256)), "invalid name"),
            (input("t-2", "bell\u{7}"), "invalid name"),
            (input("a/b", "New"), "invalid id"),
            (input("t-1", "New"), "conflict"),
            (input("t-2", "Platform"), "conflict"),
            (TeamInput { description: "x".repeat(4097), ..input("t-2", "New") }, "invalid description"),
        ] {
            assert_eq!(outcome(services.create_team(admin, refused.clone()).await), expected, "{refused:?}");
        }
        for (outcome, expected) in [
            (outcome(services.update_team(admin, &id("t-1"), input("", "name-t-platform")).await), "conflict"),
            (outcome(services.update_team(admin, &id("t-1"), input("", "")).await), "invalid name"),
            (outcome(services.update_team(admin, &id("none"), input("", "New")).await), "no team"),
            (outcome(services.get_team(admin, &id("none")).await), "no team"),
            (outcome(services.delete_team(admin, &id("none")).await), "no team"),
            (outcome(services.delete_team(admin, &id("t-platform")).await), "conflict"),
        ] {
            assert_eq!(outcome, expected);
        }
        assert_eq!(kit.audit().await, ["ann create_team team t-1 cert_lifecycle"], "what was refused is not on record");
    }

    async fn who_holds_nothing_does_nothing_with_teams(db: TestDb) {
        let kit = Kit::new(db);
        let (services, nobody) = (&kit.services, &Actor::anonymous());
        assert_eq!([
            outcome(services.list_teams(nobody, PageRequest::default()).await),
            outcome(services.get_team(nobody, &id("x")).await),
            outcome(services.create_team(nobody, input("x", "x")).await),
            outcome(services.update_team(nobody, &id("x"), input("x", "x")).await),
            outcome(services.delete_team(nobody, &id("x")).await),
        ], ["needs team.read", "needs team.read", "needs team.edit", "needs team.edit", "needs team.delete"]);
    }
}
