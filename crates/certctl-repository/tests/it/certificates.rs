//! Single certificates.

use certctl_domain::{
    certificate::{CertificateSource, CertificateStatus},
    id::{AgentId, CertificateId, OwnerId, TargetId},
    revocation::RevocationReason,
};
use certctl_repository::{Error, certificates, targets};
use certctl_testkit::{TestDb, database::START, db_tests, entities};

db_tests! {
    async fn every_column_is_read_as_it_was_written(db: TestDb) {
        let basics = db.seed_basics().await;
        let second = entities::target("tgt-second", &basics.agent);
        tx!(db, conn => targets::insert(conn, &second).await).unwrap();
        let mut full = basics.certificate("mc-full");
        full.target_ids = vec![second.id.clone(), basics.target.clone()];
        full.sans = vec!["a.example.test".into(), "with,comma".into(), "\"quoted\"".into(), "{}".into(), String::new()];
        full.tags.insert("büro".into(), "z'ürich".into());
        full.status = CertificateStatus::Revoked;
        full.expires_at = Some(START + std::time::Duration::from_micros(1));
        full.renew_at = Some(START);
        full.last_renewal_at = Some(START);
        full.last_deployment_at = Some(START);
        full.revoked_at = Some(START);
        full.revocation_reason = Some(RevocationReason::KeyCompromise);
        full.source = CertificateSource::Api;
        tx!(db, conn => certificates::insert(conn, &full).await).unwrap();
        let mut found = certificates::find(reader!(db), &full.id).await.unwrap();
        // Mappings come back in the order of their ids.
        full.target_ids.sort();
        found.target_ids.sort();
        assert_eq!(found, full);
        let many = [CertificateId::from_stored("mc-unknown".into()), full.id.clone()];
        assert_eq!(certificates::find_many(reader!(db), &many).await.unwrap().len(), 1);
        assert!(certificates::find_many(reader!(db), &[]).await.unwrap().is_empty());
    }

    async fn ids_and_names_are_taken_once_and_owners_must_exist(db: TestDb) {
        let basics = db.seed_basics().await;
        let same_id = basics.certificate("mc-web");
        let mut same_name = basics.certificate("mc-other");
        same_name.name = "name-mc-web".into();
        let mut ownerless = basics.certificate("mc-ownerless");
        ownerless.owner_id = OwnerId::from_stored("o-nobody".into());
        let mut lost = basics.certificate("mc-lost");
        lost.target_ids = vec![TargetId::from_stored("tgt-nowhere".into())];
        for certificate in [same_id, same_name] {
            let refused = tx!(db, conn => certificates::insert(conn, &certificate).await);
            assert!(matches!(refused, Err(Error::AlreadyExists)), "{refused:?}");
        }
        for certificate in [ownerless, lost] {
            let refused = tx!(db, conn => certificates::insert(conn, &certificate).await);
            assert!(matches!(refused, Err(Error::Reference)), "{refused:?}");
            let absent = certificates::find(reader!(db), &certificate.id).await;
            assert!(matches!(absent, Err(Error::NotFound)), "{absent:?}");
        }
    }

    async fn an_update_is_refused_when_the_state_has_moved_on(db: TestDb) {
        let basics = db.seed_basics().await;
        let mut certificate = certificates::find(reader!(db), &basics.certificate).await.unwrap();
        certificate.environment = "staging".into();
        certificate.profile_id = None;
        tx!(db, conn => certificates::update(conn, &certificate, CertificateStatus::Pending).await).unwrap();
        assert_eq!(certificates::find(reader!(db), &certificate.id).await.unwrap(), certificate);
        let stale = tx!(db, conn => certificates::update(conn, &certificate, CertificateStatus::Active).await);
        assert!(matches!(stale, Err(Error::NotFound)), "{stale:?}");

        let id = &certificate.id;
        let (pending, active) = (CertificateStatus::Pending, CertificateStatus::Active);
        assert!(tx!(db, conn => certificates::set_status(conn, id, pending, active, START).await).unwrap());
        assert!(!tx!(db, conn => certificates::set_status(conn, id, pending, active, START).await).unwrap());
        let locked = tx!(db, conn => certificates::find_for_update(conn, id).await).unwrap();
        assert_eq!(locked.status, active);
        let absent = CertificateId::from_stored("mc-unknown".into());
        let absent = tx!(db, conn => certificates::find_for_update(conn, &absent).await);
        assert!(matches!(absent, Err(Error::NotFound)), "{absent:?}");
    }

    async fn mappings_are_replaced_as_a_whole(db: TestDb) {
        let basics = db.seed_basics().await;
        let second = entities::target("tgt-second", &basics.agent);
        tx!(db, conn => targets::insert(conn, &second).await).unwrap();
        let id = &basics.certificate;
        // The same target twice is one mapping.
        let twice = [second.id.clone(), second.id.clone()];
        tx!(db, conn => certificates::replace_mappings(conn, id, &twice).await).unwrap();
        assert_eq!(certificates::find(reader!(db), id).await.unwrap().target_ids, std::slice::from_ref(&second.id));
        assert!(certificates::is_mapped_to_agent(reader!(db), id, &basics.agent).await.unwrap());
        let stranger = AgentId::from_stored("ag-stranger".into());
        assert!(!certificates::is_mapped_to_agent(reader!(db), id, &stranger).await.unwrap());

        let nowhere = [TargetId::from_stored("tgt-nowhere".into())];
        let refused = tx!(db, conn => certificates::replace_mappings(conn, id, &nowhere).await);
        assert!(matches!(refused, Err(Error::Reference)), "{refused:?}");
        assert_eq!(certificates::find(reader!(db), id).await.unwrap().target_ids, [second.id]);
        tx!(db, conn => certificates::replace_mappings(conn, id, &[]).await).unwrap();
        assert!(!certificates::is_mapped_to_agent(reader!(db), id, &basics.agent).await.unwrap());
    }

    async fn a_deployment_is_noted(db: TestDb) {
        let basics = db.seed_basics().await;
        let later = START + std::time::Duration::from_secs(5);
        tx!(db, conn => certificates::set_deployed(conn, &basics.certificate, later).await).unwrap();
        let found = certificates::find(reader!(db), &basics.certificate).await.unwrap();
        assert_eq!((found.last_deployment_at, found.updated_at), (Some(later), later));
    }
}
