use certctl_domain::{
    access::{Actor, Permission, Scope},
    id::ProfileId,
    key::AllowedKey,
    page::PageRequest,
    profile::{AcmeAuthMode, ExtendedKeyUsage, Profile},
};
use certctl_service::profiles::{AllowedKeyInput, ProfileChange, ProfileInput};
use certctl_testkit::{TestDb, db_tests};
use serde_json::{Value, json};

use crate::kit::{Kit, actor, outcome};

fn named(id: &str, name: &str) -> ProfileInput {
    ProfileInput {
        id: Some(id.to_owned()),
        name: name.to_owned(),
        ..ProfileInput::default()
    }
}

fn id(text: &str) -> ProfileId {
    ProfileId::from_stored(text.to_owned())
}

#[track_caller]
fn applied(change: ProfileChange) -> Profile {
    match change {
        ProfileChange::Applied(profile) => profile,
        ProfileChange::Pending { approval_id } => panic!("{approval_id} waits"),
    }
}

#[track_caller]
fn pending(change: ProfileChange) -> String {
    match change {
        ProfileChange::Pending { approval_id } => approval_id,
        ProfileChange::Applied(profile) => panic!("{} was changed", profile.id),
    }
}

/// Everything that can be said, nothing of it a default.
fn elaborate(id: &str) -> ProfileInput {
    ProfileInput {
        description: "devices".to_owned(),
        allowed_key_algorithms: Some(vec![AllowedKeyInput {
            algorithm: "ed25519".to_owned(),
            min_size: 0,
        }]),
        max_ttl_seconds: 3599,
        allowed_ekus: Some(
            ["clientauth", "ServerAuth", "clientAuth"]
                .map(ToOwned::to_owned)
                .to_vec(),
        ),
        required_san_patterns: vec![r".*\.example\.test$".to_owned()],
        spiffe_uri_pattern: "spiffe://example.test/*".to_owned(),
        allow_short_lived: true,
        must_staple: true,
        required_csr_attributes: vec!["serialNumber".to_owned()],
        acme_auth_mode: "Challenge".to_owned(),
        enabled: Some(false),
        ..named(id, "Devices")
    }
}

db_tests! {
    async fn what_is_not_said_of_a_profile_has_its_default_on_an_update_too(db: TestDb) {
        let kit = Kit::new(db);
        let (services, admin) = (&kit.services, &kit.admin);
        let made = services.create_profile(admin, elaborate("prof-1")).await.unwrap();
        assert_eq!(made.allowed_ekus, [ExtendedKeyUsage::ClientAuth, ExtendedKeyUsage::ServerAuth]);
        assert_eq!((made.acme_auth_mode, made.enabled, made.must_staple), (AcmeAuthMode::Challenge, false, true));
        assert_eq!(services.get_profile(admin, &made.id).await.unwrap(), made);
        let plain = applied(services.update_profile(admin, &made.id, named("ignored", "Plain")).await.unwrap());
        assert_eq!(plain, Profile {
            id: made.id.clone(),
            name: "Plain".to_owned(),
            description: String::new(),
            allowed_key_algorithms: AllowedKey::DEFAULT.to_vec(),
            max_ttl_seconds: 0,
            allowed_ekus: vec![ExtendedKeyUsage::ServerAuth],
            required_san_patterns: Vec::new(),
            spiffe_uri_pattern: String::new(),
            allow_short_lived: false,
            must_staple: false,
            required_csr_attributes: Vec::new(),
            acme_auth_mode: AcmeAuthMode::TrustAuthenticated,
            acme_issuer_id: None,
            requires_approval: false,
            enabled: true,
            created_at: made.created_at,
            updated_at: plain.updated_at,
        });
        assert_eq!(services.get_profile(admin, &made.id).await.unwrap(), plain);
        services.delete_profile(admin, &made.id).await.unwrap();
        assert_eq!(kit.audit().await, [
            "ann create_profile profile prof-1 config",
            "ann delete_profile profile prof-1 config",
            "ann update_profile profile prof-1 config",
        ]);
    }

    async fn an_edit_waits_when_the_stored_or_the_new_profile_requires_approval(db: TestDb) {
        let kit = Kit::new(db);
        let (services, admin) = (&kit.services, &kit.admin);
        let gated = ProfileInput { requires_approval: true, ..elaborate("prof-gated") };
        services.create_profile(admin, gated.clone()).await.unwrap();
        services.create_profile(admin, named("prof-open", "Open")).await.unwrap();
        for (profile, edit) in [
            (id("prof-gated"), named("", "Ungated")),
            (id("prof-open"), ProfileInput { requires_approval: true, ..named("", "Closed") }),
        ] {
            let before = services.get_profile(admin, &profile).await.unwrap();
            let first = pending(services.update_profile(admin, &profile, edit.clone()).await.unwrap());
            assert!(first.starts_with("ar-"));
            assert_eq!(services.get_profile(admin, &profile).await.unwrap(), before, "nothing changes");
            let again = pending(services.update_profile(admin, &profile, edit.clone()).await.unwrap());
            assert_eq!(again, first, "the same asked twice is one request");
            let other = pending(services.update_profile(admin, &profile, ProfileInput { must_staple: true, ..edit }).await.unwrap());
            assert_ne!(other, first);
            assert_eq!(outcome(services.delete_profile(admin, &profile).await), "conflict", "approvals refer to it");
        }
        assert_eq!(kit.db.texts("SELECT approval_kind || ' ' || profile_id || ' ' || requested_by || ' ' || state AS value \
            FROM issuance_approval_requests ORDER BY 1").await, [
            "profile_edit prof-gated ann pending",
            "profile_edit prof-gated ann pending",
            "profile_edit prof-open ann pending",
            "profile_edit prof-open ann pending",
        ]);
        assert_eq!(kit.audit_of("profile.edit_request").await.len(), 4);
        assert_eq!(kit.audit_of("update_profile").await.len(), 0);
    }

    async fn the_payload_of_an_edit_is_the_profile_as_a_caller_would_say_it(db: TestDb) {
        let kit = Kit::new(db);
        let (services, admin) = (&kit.services, &kit.admin);
        services.create_profile(admin, named("prof-1", "Open")).await.unwrap();
        let edit = ProfileInput { requires_approval: true, ..elaborate("") };
        pending(services.update_profile(admin, &id("prof-1"), edit).await.unwrap());
        let payload = kit.db.text("SELECT CAST(payload AS TEXT) AS value FROM issuance_approval_requests").await;
        let payload: Value = serde_json::from_str(&payload).unwrap();
        assert_eq!(payload, json!({
            "name": "Devices", "description": "devices", "allowed_key_algorithms": [{"algorithm": "Ed25519", "min_size": 0}],
            "max_ttl_seconds": 3599, "allowed_ekus": ["clientAuth", "serverAuth"], "required_san_patterns": [".*\\.example\\.test$"],
            "spiffe_uri_pattern": "spiffe://example.test/*", "allow_short_lived": true, "must_staple": true,
            "required_csr_attributes": ["serialNumber"], "acme_auth_mode": "challenge", "acme_issuer_id": "",
            "requires_approval": true, "enabled": false,
        }));
        let read: ProfileInput = serde_json::from_value(payload).unwrap();
        let same = services.create_profile(admin, ProfileInput { id: Some("prof-2".to_owned()), ..read }).await.unwrap();
        assert_eq!((same.acme_auth_mode, same.requires_approval, same.enabled), (AcmeAuthMode::Challenge, true, false));
    }

    async fn what_is_wrong_with_a_profile_is_named(db: TestDb) {
        let kit = Kit::new(db);
        let (services, admin) = (&kit.services, &kit.admin);
        kit.db.seed_basics().await;
        services.create_profile(admin, named("prof-1", "One")).await.unwrap();
        let unknown = ProfileInput { acme_issuer_id: "iss-none".to_owned(), ..named("prof-2", "Two") };
        assert_eq!(outcome(services.create_profile(admin, unknown.clone()).await), "invalid acme_issuer_id");
        assert_eq!(outcome(services.update_profile(admin, &id("prof-1"), unknown).await), "invalid acme_issuer_id");
        let bound = ProfileInput { acme_issuer_id: "iss-local".to_owned(), ..named("", "One") };
        let bound = applied(services.update_profile(admin, &id("prof-1"), bound).await.unwrap());
        assert_eq!(bound.acme_issuer_id.unwrap().as_str(), "iss-local");
        let with = |change: fn(&mut ProfileInput)| {
            let mut input = named("prof-2", "Two");
            change(&mut input);
            input
        };
        let key = |algorithm: &str, min_size| Some(vec![AllowedKeyInput { algorithm: algorithm.to_owned(), min_size }]);
        for (refused, expected) in [
            (with(|p| p.name.clear()), "invalid name"),
            (with(|p| p.name = "One".to_owned()), "conflict"),
            (ProfileInput { allowed_key_algorithms: key("RSA", 1024), ..with(|_| ()) }, "invalid allowed_key_algorithms"),
            (ProfileInput { allowed_key_algorithms: key("ECDSA", 224), ..with(|_| ()) }, "invalid allowed_key_algorithms"),
            (ProfileInput { allowed_key_algorithms: key("DSA", 2048), ..with(|_| ()) }, "invalid allowed_key_algorithms"),
            (with(|p| p.allowed_ekus = Some(vec!["anyExtendedKeyUsage".to_owned()])), "invalid allowed_ekus"),
            (with(|p| p.max_ttl_seconds = u32::MAX), "invalid max_ttl_seconds"),
            (with(|p| p.allow_short_lived = true), "invalid max_ttl_seconds"),
            (with(|p| (p.allow_short_lived, p.max_ttl_seconds) = (true, 3600)), "invalid max_ttl_seconds"),
            (with(|p| p.required_san_patterns = vec!["(".to_owned()]), "invalid required_san_patterns"),
            (with(|p| p.required_san_patterns = vec!["((a{100}){100}){100}".to_owned()]), "invalid required_san_patterns"),
            (with(|p| p.required_san_patterns = vec!["a".to_owned(); 65]), "invalid required_san_patterns"),
            (with(|p| p.required_san_patterns = vec!["a".repeat(513)]), "invalid required_san_patterns"),
            (with(|p| p.spiffe_uri_pattern = "https://example.test".to_owned()), "invalid spiffe_uri_pattern"),
            (with(|p| p.required_csr_attributes = vec![String::new()]), "invalid required_csr_attributes"),
            (with(|p| p.acme_auth_mode = "none".to_owned()), "invalid acme_auth_mode"),
        ] {
            let text = format!("{refused:?}");
            assert_eq!(outcome(services.create_profile(admin, refused.clone()).await), expected, "{text}");
            // The profile is named `One` itself.
            if expected != "conflict" {
                assert_eq!(outcome(services.update_profile(admin, &id("prof-1"), refused).await), expected, "{text}");
            }
        }
        for (outcome, expected) in [
            (outcome(services.create_profile(admin, named("prof-1", "Two")).await), "conflict"),
            (outcome(services.create_profile(admin, named("..", "Two")).await), "invalid id"),
            (outcome(services.update_profile(admin, &id("prof-1"), named("", "name-prof-standard-tls")).await), "conflict"),
            (outcome(services.update_profile(admin, &id("none"), named("", "Two")).await), "no profile"),
            (outcome(services.get_profile(admin, &id("none")).await), "no profile"),
            (outcome(services.delete_profile(admin, &id("none")).await), "no profile"),
            (outcome(services.delete_profile(admin, &id("prof-standard-tls")).await), "conflict"),
        ] {
            assert_eq!(outcome, expected);
        }
        let expected = ["ann create_profile profile prof-1 config", "ann update_profile profile prof-1 config"];
        assert_eq!(kit.audit().await, expected, "what was refused is not on record");
    }

    async fn a_grant_for_one_profile_reaches_no_other(db: TestDb) {
        let kit = Kit::new(db);
        let services = &kit.services;
        services.create_profile(&kit.admin, named("prof-1", "One")).await.unwrap();
        services.create_profile(&kit.admin, named("prof-2", "Two")).await.unwrap();
        let scoped = actor("bob", &[Permission::ProfileRead, Permission::ProfileEdit], &Scope::Profile("prof-1".to_owned()));
        let nobody = Actor::anonymous();
        assert_eq!([
            outcome(services.get_profile(&scoped, &id("prof-1")).await),
            outcome(services.update_profile(&scoped, &id("prof-1"), named("", "One")).await),
            outcome(services.delete_profile(&scoped, &id("prof-1")).await),
            outcome(services.get_profile(&scoped, &id("prof-2")).await),
            outcome(services.update_profile(&scoped, &id("prof-2"), named("", "Two")).await),
            outcome(services.create_profile(&scoped, named("prof-3", "Three")).await),
            outcome(services.list_profiles(&scoped, PageRequest::default()).await),
            outcome(services.get_profile(&nobody, &id("prof-1")).await),
            outcome(services.update_profile(&nobody, &id("prof-1"), named("", "One")).await),
        ], [
            "ok", "ok", "needs profile.delete", "needs profile.read", "needs profile.edit", "needs profile.edit",
            "needs profile.read", "needs profile.read", "needs profile.edit",
        ]);
    }
}
