//! What verifiers are told by OCSP, on every replica, in time.

use std::{
    net::{IpAddr, Ipv4Addr},
    time::Duration,
};

use certctl_domain::{id::IssuerId, revocation::RevocationReason, serial::SerialNumber};
use certctl_pki::{
    cert::ParsedCertificate,
    ocsp::{
        CertId, CertStatus, Failure, HashAlgorithm, IssuerHashes, ParsedResponse, Status,
        encode_request,
    },
};
use certctl_service::{
    Error, Services,
    config::ServiceConfig,
    ocsp::{OcspAnswer, OcspQuestion},
    status::StatusConfig,
};
use certctl_testkit::{TestDb, db_tests, services::config};

use crate::support::{World, outcome, server_keys};

const CLIENT: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
pub(crate) const DAY: Duration = Duration::from_secs(86_400);

pub(crate) fn issuer() -> IssuerId {
    IssuerId::from_stored("iss-local".to_owned())
}

/// The certificate of the world's CA.
pub(crate) async fn ca(world: &World) -> ParsedCertificate {
    let root = world
        .services
        .issuer_ca_certificate(&issuer())
        .await
        .unwrap();
    ParsedCertificate::from_der(&root).unwrap()
}

/// A certificate with its serial, issued in the world.
pub(crate) async fn issue(
    world: &World,
    id: &str,
) -> (certctl_domain::id::CertificateId, SerialNumber) {
    let one = world.ids.certificate(id);
    world.enter(&one).await;
    world.renew(&one.id).await;
    assert_eq!(world.work().await.completed, 1);
    let sql = format!(
        "SELECT serial_number AS value FROM certificate_versions WHERE certificate_id = '{id}'"
    );
    (
        one.id,
        SerialNumber::parse(&world.db.text(&sql).await).unwrap(),
    )
}

async fn ask(services: &Services, request: &[u8]) -> Result<OcspAnswer, Error> {
    services
        .answer_ocsp(CLIENT, &issuer(), OcspQuestion::Body(request))
        .await
}

struct Asker {
    ca: ParsedCertificate,
    hashes: IssuerHashes,
}

impl Asker {
    async fn of(world: &World) -> Self {
        let ca = ca(world).await;
        Self {
            hashes: IssuerHashes::new(&ca).unwrap(),
            ca,
        }
    }

    fn id(&self, serial: &SerialNumber) -> CertId {
        CertId::new(HashAlgorithm::Sha256, &self.hashes, serial)
    }

    /// Asks about one certificate without a nonce, and believes only what verifies.
    async fn status(
        &self,
        world: &World,
        services: &Services,
        serial: &SerialNumber,
    ) -> CertStatus {
        let request = encode_request(&[self.id(serial)], None);
        let answer = ask(services, &request).await.unwrap();
        let response = ParsedResponse::from_der(answer.der.as_ref()).unwrap();
        response.verify(&self.ca, world.now()).unwrap();
        assert_eq!(response.answers[0].0, self.id(serial));
        response.answers[0].1
    }
}

fn failure(answer: &OcspAnswer) -> Option<Failure> {
    match ParsedResponse::from_der(answer.der.as_ref())
        .unwrap()
        .status
    {
        Status::Failed(failure) => Some(failure),
        Status::Successful => None,
    }
}

db_tests! {
    async fn a_revocation_is_told_at_once_here_and_within_a_second_elsewhere(db: TestDb) {
        let world = World::with_server_keys(db).await;
        let (replica, _) = world.replica("test:2:00000000", server_keys());
        let asker = Asker::of(&world).await;
        let (id, serial) = issue(&world, "mc-one").await;
        for services in [&world.services, &replica] {
            assert_eq!(asker.status(&world, services, &serial).await, CertStatus::Good);
        }
        world.services.revoke_certificate(&world.admin, &id, Some("keyCompromise")).await.unwrap();
        let revoked = CertStatus::Revoked { at: world.now(), reason: RevocationReason::KeyCompromise };
        assert_eq!(asker.status(&world, &world.services, &serial).await, revoked);
        // The other replica believes what it knows for half a second, unless it is told.
        assert_eq!(asker.status(&world, &replica, &serial).await, CertStatus::Good);
        world.clock.advance(Duration::from_millis(500));
        assert_eq!(asker.status(&world, &replica, &serial).await, revoked);
    }

    async fn a_replica_that_is_told_asks_again_at_once(db: TestDb) {
        if db.backend() == certctl_repository::Backend::Sqlite {
            // There is one process, which knows what it does itself.
            return;
        }
        let world = World::with_server_keys(db).await;
        let (replica, _) = world.replica("test:2:00000000", server_keys());
        let asker = Asker::of(&world).await;
        let (id, serial) = issue(&world, "mc-one").await;
        let hearing = { let replica = replica.clone(); tokio::spawn(async move { replica.hear_wakes().await }) };
        assert_eq!(asker.status(&world, &replica, &serial).await, CertStatus::Good);
        world.services.revoke_certificate(&world.admin, &id, None).await.unwrap();
        let told = async {
            while asker.status(&world, &replica, &serial).await == CertStatus::Good {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(Duration::from_secs(60), told).await.expect("the clock of the test stands still, so that only a word can help");
        hearing.abort();
    }

    async fn a_cached_answer_costs_no_query_and_outlives_what_others_revoke(db: TestDb) {
        let world = World::with_server_keys(db).await;
        let asker = Asker::of(&world).await;
        let (_, serial) = issue(&world, "mc-one").await;
        let (other, _) = issue(&world, "mc-two").await;
        let request = encode_request(&[asker.id(&serial)], None);
        let first = ask(&world.services, &request).await.unwrap();
        assert_eq!(first.cacheable, Some((world.now(), world.now() + Duration::from_secs(3600))));
        for table in ["certificate_revocations", "certificate_versions", "revocation_status", "issuers"] {
            world.db.execute(&format!("ALTER TABLE {table} RENAME TO {table}_away")).await.unwrap();
        }
        let second = ask(&world.services, &request).await.unwrap();
        assert_eq!(second.der.as_ref(), first.der.as_ref());
        // Without the database nobody vouches for what was known a while ago.
        world.clock.advance(Duration::from_millis(500));
        assert!(matches!(ask(&world.services, &request).await, Err(Error::Internal(_) | Error::Unavailable(_))));
        for table in ["certificate_revocations", "certificate_versions", "revocation_status", "issuers"] {
            world.db.execute(&format!("ALTER TABLE {table}_away RENAME TO {table}")).await.unwrap();
        }
        world.services.revoke_certificate(&world.admin, &other, None).await.unwrap();
        assert_eq!(ask(&world.services, &request).await.unwrap().der.as_ref(), first.der.as_ref(), "looked up again, not signed again");
        // With a quarter of its life left it is made anew.
        world.clock.advance(Duration::from_secs(2700));
        assert_ne!(ask(&world.services, &request).await.unwrap().der.as_ref(), first.der.as_ref());
    }

    async fn questions_are_answered_by_the_rules_of_the_protocol(db: TestDb) {
        let world = World::with_server_keys(db).await;
        let asker = Asker::of(&world).await;
        let (id, serial) = issue(&world, "mc-one").await;
        let (_, good) = issue(&world, "mc-two").await;
        world.services.revoke_certificate(&world.admin, &id, Some("superseded")).await.unwrap();
        let nobodys = SerialNumber::parse("0badc0de").unwrap();
        let ids = [&serial, &good, &nobodys].map(|serial| asker.id(serial));

        let answer = ask(&world.services, &encode_request(&ids, Some(&[9; 16]))).await.unwrap();
        assert_eq!(answer.cacheable, None, "a nonce is for one question");
        let response = ParsedResponse::from_der(answer.der.as_ref()).unwrap();
        response.verify(&asker.ca, world.now()).unwrap();
        assert_eq!(response.nonce.as_deref(), Some(&[9; 16][..]));
        let told: Vec<CertStatus> = response.answers.iter().map(|(_, status, ..)| *status).collect();
        assert_eq!(told, [CertStatus::Revoked { at: world.now(), reason: RevocationReason::Superseded }, CertStatus::Good, CertStatus::Unknown]);
        let ends = world.now() + Duration::from_secs(300);
        assert!(response.answers.iter().all(|(.., next)| *next == Some(ends)), "what is unknown may be issued any moment");

        let unknown = ask(&world.services, &encode_request(&ids[2..], None)).await.unwrap();
        assert_eq!((failure(&unknown), unknown.cacheable), (None, None));
        for nonce in [&[][..], &[1; 33]] {
            let answer = ask(&world.services, &encode_request(&ids[..1], Some(nonce))).await.unwrap();
            assert_eq!(failure(&answer), Some(Failure::Unauthorized));
        }
        let many = vec![ids[1].clone(); 21];
        assert_eq!(failure(&ask(&world.services, &encode_request(&many, None)).await.unwrap()), Some(Failure::MalformedRequest));
        let foreign = ParsedCertificate::from_der(response.certificates[0].der()).unwrap();
        let foreign = CertId::new(HashAlgorithm::Sha1, &IssuerHashes::new(&foreign).unwrap(), &good);
        assert_eq!(failure(&ask(&world.services, &encode_request(&[foreign], None)).await.unwrap()), Some(Failure::Unauthorized));
        assert_eq!(outcome(ask(&world.services, b"what?").await), "bad request");
        let gone = IssuerId::from_stored("iss-gone".into());
        assert_eq!(outcome(world.services.answer_ocsp(CLIENT, &gone, OcspQuestion::Body(b"")).await), "no issuer");

        // By the path: a serial in any spelling, or a request.
        let by_path = async |text: &str| {
            let answer = world.services.answer_ocsp(CLIENT, &issuer(), OcspQuestion::Path(text)).await?;
            Ok::<_, Error>(ParsedResponse::from_der(answer.der.as_ref()).unwrap().answers[0].1)
        };
        assert_eq!(by_path(&format!("000{}", good.as_str().to_uppercase())).await.unwrap(), CertStatus::Good);
        let encoded = base64::Engine::encode(&base64::engine::general_purpose::STANDARD, encode_request(&ids[..1], None));
        assert!(matches!(by_path(&encoded).await.unwrap(), CertStatus::Revoked { .. }));
        for text in ["", "not base64!", &"0".repeat(10_000).replace('0', "A="), &"f".repeat(41)] {
            assert_eq!(outcome(by_path(text).await), "bad request", "{text}");
        }
    }

    async fn who_asks_too_much_is_told_to_come_back(db: TestDb) {
        let status = StatusConfig { ocsp_per_minute: 2, ..StatusConfig::default() };
        let world = World::with(db, ServiceConfig { status, ..config() }).await;
        let by_path = async |client| world.services.answer_ocsp(client, &issuer(), OcspQuestion::Path("ab")).await.unwrap();
        for _ in 0..2 {
            assert_eq!(failure(&by_path(CLIENT).await), None);
        }
        let refused = by_path(CLIENT).await;
        assert_eq!((failure(&refused), refused.retry_after, refused.cacheable), (Some(Failure::TryLater), Some(60), None));
        assert_eq!(failure(&by_path(IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1))).await), None);
        world.clock.advance(Duration::from_secs(61));
        assert_eq!(failure(&by_path(CLIENT).await), None);
    }

    async fn replicas_share_a_responder_and_replace_it_before_it_ends(db: TestDb) {
        let world = World::with_server_keys(db).await;
        let (replica, _) = world.replica("test:2:00000000", server_keys());
        let asker = Asker::of(&world).await;
        let responder = async |services: &Services| {
            let answer = ask(services, &encode_request(&[asker.id(&SerialNumber::parse("ab").unwrap())], None)).await.unwrap();
            let response = ParsedResponse::from_der(answer.der.as_ref()).unwrap();
            response.verify(&asker.ca, world.now()).unwrap();
            response.certificates[0].clone()
        };
        let both = tokio::join!(responder(&world.services), responder(&replica));
        assert_eq!(both.0, both.1, "whoever was first");
        assert_eq!(both.0.common_name(), Some("OCSP Responder for CertCtl Local CA"));
        assert_eq!(both.0.not_after(), world.now() + 30 * DAY);
        let row = || world.db.text("SELECT cert_serial || ' ' || COALESCE(rotated_from, '-') AS value FROM ocsp_responders");
        assert_eq!(row().await, format!("{} -", both.0.serial()));
        let kept = world.db.text("SELECT COALESCE(key_path, 'sealed') AS value FROM ocsp_responders").await;
        assert_eq!(kept, "sealed");

        world.clock.advance(22 * DAY);
        world.services.generate_crls().await.unwrap();
        assert_eq!(responder(&world.services).await, both.0, "eight days are left");
        world.clock.advance(2 * DAY);
        let made = tokio::join!(world.services.generate_crls(), replica.generate_crls());
        made.0.unwrap();
        made.1.unwrap();
        let next = responder(&world.services).await;
        assert_ne!(next, both.0);
        assert_eq!(responder(&replica).await, next, "one of them made it, and both use it");
        assert_eq!(row().await, format!("{} {}", next.serial(), both.0.serial()));

        // A key that cannot be opened is replaced, and so is one that is for somebody else.
        let (third, _) = world.replica("test:3:00000000", server_keys());
        let blob = world.db.blob(b"\x04nonsense");
        world.db.execute(&format!("UPDATE ocsp_responders SET encrypted_key = {blob}")).await.unwrap();
        let replaced = responder(&third).await;
        assert_ne!(replaced, next);
        assert_eq!(row().await, format!("{} {}", replaced.serial(), next.serial()));
    }

    async fn certificates_that_live_for_less_than_an_hour_are_good(db: TestDb) {
        let world = World::with_server_keys(db).await;
        world.profile(|profile| { profile.allow_short_lived = true; profile.max_ttl_seconds = 3599; }).await;
        let asker = Asker::of(&world).await;
        let (id, serial) = issue(&world, "mc-brief").await;
        world.services.revoke_certificate(&world.admin, &id, Some("keyCompromise")).await.unwrap();
        assert_eq!(asker.status(&world, &world.services, &serial).await, CertStatus::Good);
        let list = world.services.crl(&issuer(), None).await.unwrap();
        let list = certctl_pki::crl::ParsedCrl::from_der(list.der.as_ref()).unwrap();
        assert_eq!(list.entries, []);
    }
}
