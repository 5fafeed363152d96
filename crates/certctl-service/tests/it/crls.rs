//! Revocation lists: what is on them, their numbers, their parts.

use std::{collections::BTreeSet, time::Duration};

use certctl_domain::{
    id::IssuerId,
    revocation::{RevocationReason, Shard},
};
use certctl_pki::crl::ParsedCrl;
use certctl_service::{Error, Services};
use certctl_testkit::{TestDb, db_tests};

use crate::{
    ocsp::{DAY, ca, issue, issuer},
    support::{World, outcome, server_keys},
};

const HOUR: Duration = Duration::from_secs(3600);

async fn list(world: &World, services: &Services, shard: Option<Shard>) -> ParsedCrl {
    let crl = services.crl(&issuer(), shard).await.unwrap();
    let parsed = ParsedCrl::from_der(crl.der.as_ref()).unwrap();
    parsed.verify_signed_by(&ca(world).await).unwrap();
    assert_eq!(parsed.number, u64::try_from(crl.number).ok());
    parsed
}

fn serials(list: &ParsedCrl) -> BTreeSet<String> {
    list.entries
        .iter()
        .map(|entry| entry.serial.to_string())
        .collect()
}

/// Has the certificates of the world's issuer point at lists, in parts.
async fn split(world: &World, shards: u16) {
    world.clock.advance(Duration::from_secs(2));
    let at = match world.db.backend() {
        certctl_repository::Backend::Postgres => format!("'{}'", world.now()),
        certctl_repository::Backend::Sqlite => world.now().as_micros().to_string(),
    };
    let config = format!(
        r#"{{"crl_distribution_point_urls": ["https://pki.example/crl"], "crl_shards": {shards}}}"#
    );
    world
        .db
        .execute(&format!(
            "UPDATE issuers SET config = '{config}', updated_at = {at} WHERE id = 'iss-local'"
        ))
        .await
        .unwrap();
}

db_tests! {
    async fn a_list_is_made_when_it_is_asked_for_and_when_something_was_revoked(db: TestDb) {
        let world = World::with_server_keys(db).await;
        let first = list(&world, &world.services, None).await;
        assert_eq!((first.number, first.this_update, first.next_update), (Some(1), world.now(), Some(world.now() + DAY)));
        assert!(first.entries.is_empty() && first.distribution_point.is_none());
        assert_eq!(world.services.generate_crls().await.unwrap(), 0, "nothing is due");

        let (id, serial) = issue(&world, "mc-one").await;
        world.clock.advance(Duration::from_secs(5));
        world.services.revoke_certificate(&world.admin, &id, Some("keyCompromise")).await.unwrap();
        assert_eq!(list(&world, &world.services, None).await, first, "the one there is still holds, while the next is made");
        world.services.crl_wanted().await;
        assert_eq!(world.services.generate_crls().await.unwrap(), 1);
        let second = list(&world, &world.services, None).await;
        let entry = second.find(&serial).unwrap();
        assert_eq!((second.number, entry.revoked_at, entry.reason), (Some(2), world.now(), RevocationReason::KeyCompromise));
        assert_eq!(world.services.generate_crls().await.unwrap(), 0);

        world.clock.advance(HOUR);
        assert_eq!(world.services.generate_crls().await.unwrap(), 1, "in time, although nothing was revoked");
        // Nobody looked for a day: whoever asks has it made.
        world.clock.advance(25 * HOUR);
        let late = list(&world, &world.services, None).await;
        assert_eq!((late.number, late.this_update), (Some(4), world.now()));
        assert_eq!(serials(&late), serials(&second));
    }

    async fn what_has_ended_leaves_the_list_after_one_more(db: TestDb) {
        let world = World::with_server_keys(db).await;
        let (id, serial) = issue(&world, "mc-one").await;
        // Lists are made an hour after its end, not around it.
        world.clock.advance(HOUR);
        world.services.revoke_certificate(&world.admin, &id, None).await.unwrap();
        let mut seen = Vec::new();
        // 90 days of life; a list each ten days.
        for _ in 0..12 {
            seen.push(list(&world, &world.services, None).await.find(&serial).is_some());
            world.clock.advance(10 * DAY);
        }
        let kept = seen.iter().filter(|seen| **seen).count();
        assert!(seen[..kept].iter().all(|seen| *seen), "{seen:?}");
        // Days 0 to 90, and none but the first list after its end.
        assert_eq!(kept, 10, "{seen:?}");
    }

    async fn numbers_grow_whoever_makes_the_list_and_whatever_becomes_of_it(db: TestDb) {
        let world = World::with_server_keys(db).await;
        let mut replicas = vec![world.services.clone()];
        for number in 2..5 {
            replicas.push(world.replica(&format!("test:{number}:00000000"), server_keys()).0);
        }
        let mut last = 0;
        for round in 0..4 {
            let (id, serial) = issue(&world, &format!("mc-{round}")).await;
            world.services.revoke_certificate(&world.admin, &id, None).await.unwrap();
            let made = futures_util::future::join_all(replicas.iter().map(Services::generate_crls)).await;
            let made: usize = made.into_iter().map(Result::unwrap).sum();
            assert_eq!(made, 1, "one of them");
            world.clock.advance(Duration::from_secs(1));
            for services in &replicas {
                let list = list(&world, services, None).await;
                assert!(list.find(&serial).is_some());
                assert_eq!(list.number, Some(last + 1), "all serve the same");
            }
            last += 1;
        }
        // Whoever dies while it makes one has used up the number, and another goes on when the claim has run out.
        world.db.execute("UPDATE revocation_status SET crl_number = crl_number + 1, version = version + 1").await.unwrap();
        assert_eq!(world.services.generate_crls().await.unwrap(), 1);
        world.clock.advance(Duration::from_secs(1));
        assert_eq!(list(&world, &replicas[1], None).await.number, Some(last + 2));
        let busy = match world.db.backend() {
            certctl_repository::Backend::Postgres => format!("'{}'", world.now() + HOUR),
            certctl_repository::Backend::Sqlite => (world.now() + HOUR).as_micros().to_string(),
        };
        world.db.execute(&format!("UPDATE revocation_status SET generating_until = {busy}, version = version + 1")).await.unwrap();
        assert_eq!(world.services.generate_crls().await.unwrap(), 0, "another makes it");
        world.clock.advance(2 * HOUR);
        assert_eq!(world.services.generate_crls().await.unwrap(), 1);
        // A new process on the same rows.
        let (restarted, _) = world.replica("test:9:00000000", server_keys());
        world.clock.advance(HOUR);
        assert_eq!(restarted.generate_crls().await.unwrap(), 1);
        assert_eq!(list(&world, &restarted, None).await.number, Some(last + 4));
        let history = world.services.crl_overview(&world.admin).await.unwrap().remove(0);
        assert_eq!(history.cached.map(|crl| (crl.number, crl.revoked_count)), Some((8, 4)));
        assert_eq!(history.recent_events.iter().map(|event| event.crl_number).collect::<Vec<_>>(), [8, 7, 6, 4, 3]);
        assert!(!history.is_stale && history.recent_events.iter().all(|event| event.error.is_none()));
    }

    async fn a_list_in_parts_leaves_nothing_out(db: TestDb) {
        let world = World::with_server_keys(db).await;
        split(&world, 4).await;
        let mut revoked = BTreeSet::new();
        for number in 0..12 {
            let (id, serial) = issue(&world, &format!("mc-{number}")).await;
            world.services.revoke_certificate(&world.admin, &id, None).await.unwrap();
            let pem = world.db.text(&format!("SELECT pem_chain AS value FROM certificate_versions WHERE certificate_id = '{id}'")).await;
            let leaf = certctl_pki::cert::ParsedCertificate::from_pem(&pem).unwrap();
            let point = format!("https://pki.example/crl/{}", Shard::of_serial(&serial, 4).unwrap());
            assert!(leaf.der().windows(point.len()).any(|window| window == point.as_bytes()), "the certificate points at its part");
            revoked.insert(serial.to_string());
        }
        assert_eq!(world.services.generate_crls().await.unwrap(), 5);
        let whole = list(&world, &world.services, None).await;
        assert_eq!((serials(&whole), &whole.distribution_point), (revoked.clone(), &None));
        let mut parts = BTreeSet::new();
        for shard in Shard::all(4) {
            let part = list(&world, &world.services, Some(shard)).await;
            assert_eq!(part.distribution_point, Some(vec![format!("https://pki.example/crl/{shard}")]));
            assert!(part.entries.iter().all(|entry| Shard::of_serial(&entry.serial, 4) == Some(shard)));
            parts.extend(serials(&part));
        }
        assert_eq!(parts, revoked);
        let number = whole.number;
        for missing in Shard::all(8).take(2) {
            assert_eq!(outcome(world.services.crl(&issuer(), Some(missing)).await), "no CRL shard");
        }
        assert_eq!(list(&world, &world.services, None).await.number, number, "what does not exist is no reason to make a list");

        // More parts: certificates in use still point at the old ones, which go on.
        split(&world, 8).await;
        let (id, serial) = issue(&world, "mc-new").await;
        world.services.revoke_certificate(&world.admin, &id, None).await.unwrap();
        assert_eq!(world.services.generate_crls().await.unwrap(), 13);
        for of in [4, 8] {
            let shard = Shard::of_serial(&serial, of).unwrap();
            assert!(list(&world, &world.services, Some(shard)).await.find(&serial).is_some(), "{shard}");
        }
    }

    async fn a_list_is_refused_where_there_is_none_to_make(db: TestDb) {
        let world = World::new(db).await;
        let gone = IssuerId::from_stored("iss-gone".into());
        assert_eq!(outcome(world.services.crl(&gone, None).await), "no issuer");
        world.db.execute("INSERT INTO issuers (id, name, type, config) VALUES ('iss-acme', 'acme', 'ACME', '{}')").await.unwrap();
        let other = IssuerId::from_stored("iss-acme".into());
        assert!(matches!(world.services.crl(&other, None).await, Err(Error::NotSupported(_))));
        assert_eq!(world.services.crl_overview(&world.admin).await.unwrap().len(), 1);
        assert_eq!(outcome(world.services.crl_overview(&world.agent).await), "needs crl.admin");
    }

    async fn short_lived_certificates_expire_in_time(db: TestDb) {
        let world = World::with_server_keys(db).await;
        let (lasting, _) = issue(&world, "mc-lasting").await;
        world.profile(|profile| { profile.allow_short_lived = true; profile.max_ttl_seconds = 600; }).await;
        let (brief, _) = issue(&world, "mc-brief").await;
        assert_eq!(world.services.expire_short_lived().await.unwrap(), 0);
        world.clock.advance(Duration::from_secs(601));
        assert_eq!(world.services.expire_short_lived().await.unwrap(), 1);
        assert_eq!(world.services.expire_short_lived().await.unwrap(), 0);
        assert_eq!((world.certificate(&brief).await.status.as_str(), world.certificate(&lasting).await.status.as_str()), ("Expired", "Active"));
        assert_eq!(world.recorded("short_lived_cert_expired").await, 1);
    }
}
