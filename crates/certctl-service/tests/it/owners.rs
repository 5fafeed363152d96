use certctl_domain::{access::Actor, id::OwnerId, page::PageRequest};
use certctl_service::owners::OwnerInput;
use certctl_testkit::{TestDb, db_tests};

use crate::kit::{Kit, outcome};

fn input(id: &str) -> OwnerInput {
    OwnerInput {
        id: Some(id.to_owned()),
        name: "Bob".to_owned(),
        email: "bob@example.test".to_owned(),
        team_id: "t-platform".to_owned(),
    }
}

fn id(text: &str) -> OwnerId {
    OwnerId::from_stored(text.to_owned())
}

db_tests! {
    async fn an_owner_is_made_read_changed_and_deleted_and_each_is_on_record(db: TestDb) {
        let kit = Kit::new(db);
        let (services, admin) = (&kit.services, &kit.admin);
        kit.db.seed_basics().await;
        let made = services.create_owner(admin, input("o-1")).await.unwrap();
        assert_eq!(services.get_owner(admin, &id("o-1")).await.unwrap(), made);
        // An update replaces: what is not said is gone.
        let changed = OwnerInput { name: "Robert".to_owned(), email: String::new(), ..input("ignored") };
        let changed = services.update_owner(admin, &id("o-1"), changed).await.unwrap();
        assert_eq!((changed.name.as_str(), changed.email.as_str(), &changed.id), ("Robert", "", &made.id));
        let page = services.list_owners(admin, PageRequest::default()).await.unwrap();
        assert_eq!((page.rows.len(), page.total), (2, 2));
        assert!(page.rows.contains(&changed));
        services.delete_owner(admin, &id("o-1")).await.unwrap();
        assert_eq!(kit.audit().await, [
            "ann create_owner owner o-1 cert_lifecycle",
            "ann delete_owner owner o-1 cert_lifecycle",
            "ann update_owner owner o-1 cert_lifecycle",
        ]);
    }

    async fn what_is_wrong_with_an_owner_is_named(db: TestDb) {
        let kit = Kit::new(db);
        let (services, admin) = (&kit.services, &kit.admin);
        kit.db.seed_basics().await;
        let with = |change: fn(&mut OwnerInput)| {
            let mut input = input("o-1");
            change(&mut input);
            input
        };
        for (refused, expected) in [
            (with(|o| o.name.clear()), "invalid name"),
            (with(|o| o.id = Some("o 1".to_owned())), "invalid id"),
            (with(|o| o.id = Some("o-alice".to_owned())), "conflict"),
            (with(|o| o.team_id.clear()), "invalid team_id"),
            (with(|o| o.team_id = "t 1".to_owned()), "invalid team_id"),
            (with(|o| o.team_id = "t-none".to_owned()), "invalid team_id"),
            (with(|o| o.email = "nobody".to_owned()), "invalid email"),
            (with(|o| o.email = "@example.test".to_owned()), "invalid email"),
            (with(|o| o.email = "a@b\r\nBcc: all@example.test".to_owned()), "invalid email"),
            (with(|o| o.email = format!("a@{}", "b".repeat(255))), "invalid email"),
        ] {
            assert_eq!(outcome(services.create_owner(admin, refused.clone()).await), expected, "{refused:?}");
        }
        for (outcome, expected) in [
            (outcome(services.update_owner(admin, &id("o-alice"), with(|o| o.team_id = "t-none".to_owned())).await), "invalid team_id"),
            (outcome(services.update_owner(admin, &id("o-none"), input("")).await), "no owner"),
            (outcome(services.get_owner(admin, &id("o-none")).await), "no owner"),
            (outcome(services.delete_owner(admin, &id("o-none")).await), "no owner"),
            (outcome(services.delete_owner(admin, &id("o-alice")).await), "conflict"),
        ] {
            assert_eq!(outcome, expected);
        }
        assert_eq!(kit.audit().await.len(), 0, "what was refused is not on record");
    }

    async fn who_holds_nothing_does_nothing_with_owners(db: TestDb) {
        let kit = Kit::new(db);
        let (services, nobody) = (&kit.services, &Actor::anonymous());
        assert_eq!([
            outcome(services.list_owners(nobody, PageRequest::default()).await),
            outcome(services.get_owner(nobody, &id("x")).await),
            outcome(services.create_owner(nobody, input("x")).await),
            outcome(services.update_owner(nobody, &id("x"), input("x")).await),
            outcome(services.delete_owner(nobody, &id("x")).await),
        ], ["needs owner.read", "needs owner.read", "needs owner.edit", "needs owner.edit", "needs owner.delete"]);
    }
}
