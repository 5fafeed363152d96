//! OCSP, with the real openssl on the other side.

use std::{fs, path::Path};

use certctl_domain::{key::KeySpec, revocation::RevocationReason};
use certctl_pki::{
    Error,
    cert::{CaSigner, ParsedCertificate, ResponderSpec},
    key::PrivateKey,
    ocsp::{
        CertId, CertStatus, Failure, HashAlgorithm, IssuerHashes, MAX_CERTIFICATES, Nonce,
        ParsedResponse, Request, Responder, ResponderId, ResponseData, SingleResponse, Status,
        encode_request,
    },
};
use proptest::prelude::*;

use super::{
    DAY, START, copy_of, dns, key, leaf_spec,
    openssl::{openssl, try_openssl},
    root, serial,
};

fn responder(ca: &CaSigner) -> Responder {
    let key = PrivateKey::generate(KeySpec::EcdsaP256).unwrap();
    let signed = ca
        .sign_responder(&ResponderSpec {
            common_name: "OCSP Responder for Test Root",
            spki_der: key.spki_der(),
            serial: &serial(200),
            not_before: START,
            not_after: START + 30 * DAY,
        })
        .unwrap();
    Responder::new(ParsedCertificate::from_der(signed.der()).unwrap(), key).unwrap()
}

fn single(id: &CertId, status: CertStatus) -> SingleResponse<'_> {
    SingleResponse {
        id,
        status,
        this_update: START,
        next_update: START + DAY,
    }
}

fn answer(responder: &Responder, request: &Request, status: CertStatus) -> Vec<u8> {
    let nonce = match request.nonce() {
        Nonce::Present(nonce) => Some(&nonce[..]),
        _ => None,
    };
    let singles: Vec<_> = request
        .certificates()
        .iter()
        .map(|id| single(id, status))
        .collect();
    responder
        .sign(&ResponseData::new(responder.id(), START, &singles, nonce).unwrap())
        .unwrap()
}

#[test]
fn openssl_asks_and_understands_the_answer() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let ca = root(KeySpec::EcdsaP384);
    let hashes = IssuerHashes::new(ca.certificate()).unwrap();
    let (sans, number) = ([dns("a.example")], serial(9));
    let leaf = ca
        .sign(&leaf_spec(
            "a.example",
            &sans,
            key(KeySpec::EcdsaP256),
            &number,
        ))
        .unwrap();
    fs::write(folder.join("ca.pem"), ca.certificate().to_pem()).unwrap();
    fs::write(folder.join("leaf.pem"), leaf.to_pem()).unwrap();
    let responder = responder(&ca);
    let revoked = CertStatus::Revoked {
        at: START,
        reason: RevocationReason::KeyCompromise,
    };
    for (hash, nonce) in [("-sha1", "-nonce"), ("-sha256", "-no_nonce")] {
        let ask = [
            "ocsp",
            hash,
            "-issuer",
            "ca.pem",
            "-cert",
            "leaf.pem",
            nonce,
            "-reqout",
            "request.der",
        ];
        openssl(folder, &ask);
        let request = Request::from_der(&fs::read(folder.join("request.der")).unwrap()).unwrap();
        assert!(request.certificates()[0].is_of(&hashes));
        assert_eq!(request.certificates()[0].serial(), &number);
        assert_eq!(
            matches!(request.nonce(), Nonce::Present(_)),
            nonce == "-nonce"
        );
        for (status, word) in [
            (CertStatus::Good, "Cert Status: good"),
            (revoked, "Cert Status: revoked"),
            (CertStatus::Unknown, "Cert Status: unknown"),
        ] {
            fs::write(
                folder.join("response.der"),
                answer(&responder, &request, status),
            )
            .unwrap();
            let text = told(folder, nonce);
            assert!(
                text.contains("Response verify OK") && text.contains(word),
                "{text}"
            );
            if status == revoked {
                assert!(text.contains("Revocation Reason: keyCompromise"), "{text}");
            }
        }
    }
    // Not of another CA's responder, although everything else is right.
    let other = self::responder(&root(KeySpec::EcdsaP256));
    let request = Request::from_der(&fs::read(folder.join("request.der")).unwrap()).unwrap();
    fs::write(
        folder.join("response.der"),
        answer(&other, &request, CertStatus::Good),
    )
    .unwrap();
    let refused = try_openssl(folder, &told_by("-no_nonce"));
    assert!(
        String::from_utf8_lossy(&refused.stderr).contains("Response Verify Failure"),
        "{refused:?}"
    );
}

fn told_by(nonce: &'static str) -> Vec<&'static str> {
    // The nonce is compared with that of a request that is given; then nothing may be added to it.
    let question: &[&str] = if nonce == "-nonce" {
        &["-reqin", "request.der"]
    } else {
        &[
            "-no_nonce",
            "-sha256",
            "-issuer",
            "ca.pem",
            "-cert",
            "leaf.pem",
        ]
    };
    let answer = [
        "-CAfile",
        "ca.pem",
        "-respin",
        "response.der",
        "-resp_text",
        "-attime",
        "1790000060",
    ];
    [&["ocsp"], question, &answer].concat()
}

fn told(folder: &Path, nonce: &'static str) -> String {
    openssl(folder, &told_by(nonce))
}

#[test]
fn what_is_answered_is_read_back() {
    let ca = root(KeySpec::EcdsaP256);
    let hashes = IssuerHashes::new(ca.certificate()).unwrap();
    let responder = responder(&ca);
    let ids: Vec<_> = (0..20)
        .map(|n| CertId::new(HashAlgorithm::Sha256, &hashes, &serial(n)))
        .collect();
    let request = Request::from_der(&encode_request(&ids, Some(&[7; 32]))).unwrap();
    assert_eq!(request.certificates(), ids);
    let statuses = |n: usize| match n % 3 {
        0 => CertStatus::Good,
        1 => CertStatus::Revoked {
            at: START,
            reason: RevocationReason::ALL[n % 9],
        },
        _ => CertStatus::Unknown,
    };
    let singles: Vec<_> = ids
        .iter()
        .enumerate()
        .map(|(n, id)| single(id, statuses(n)))
        .collect();
    for by_name in [false, true] {
        let id = if by_name {
            ResponderId::by_name(responder.certificate())
        } else {
            responder.id().clone()
        };
        let der = responder
            .sign(&ResponseData::new(&id, START, &singles, Some(&[7; 32])).unwrap())
            .unwrap();
        let response = ParsedResponse::from_der(&der).unwrap();
        response.verify(ca.certificate(), START).unwrap();
        assert_eq!(
            response.verify(ca.certificate(), START + 31 * DAY),
            Err(Error::BadSignature),
            "the responder has expired"
        );
        assert_eq!(
            response.verify(root(KeySpec::EcdsaP384).certificate(), START),
            Err(Error::BadSignature)
        );
        assert_eq!(
            (
                response.status,
                response.responder.as_ref(),
                response.produced_at
            ),
            (Status::Successful, Some(&id), Some(START))
        );
        assert_eq!(response.nonce.as_deref(), Some(&[7; 32][..]));
        assert_eq!(response.certificates, [responder.certificate().clone()]);
        for (n, (of, status, this, next)) in response.answers.iter().enumerate() {
            assert_eq!(
                (of, *status, *this, *next),
                (&ids[n], statuses(n), START, Some(START + DAY))
            );
        }
    }
    // By the CA itself, without a certificate in it.
    let itself = ResponderId::by_key(ca.certificate().public_key().unwrap());
    let data = ResponseData::new(&itself, START, &singles[..1], None).unwrap();
    let signature = ca.sign_status(data.tbs()).unwrap();
    let der = data.signed(ca.signature_algorithm(), &signature, None);
    let response = ParsedResponse::from_der(&der).unwrap();
    response
        .verify(ca.certificate(), START + 1000 * DAY)
        .unwrap();
    assert!(response.certificates.is_empty() && response.nonce.is_none());
    for failure in Failure::ALL {
        assert_eq!(
            ParsedResponse::from_der(&failure.to_der()).unwrap().status,
            Status::Failed(failure)
        );
    }
}

#[test]
fn requests_are_bounded_and_nonces_are_held_to_the_rfc() {
    let ca = root(KeySpec::EcdsaP256);
    let hashes = IssuerHashes::new(ca.certificate()).unwrap();
    let id = CertId::new(HashAlgorithm::Sha1, &hashes, &serial(1));
    let ids = |count| vec![id.clone(); count];
    assert!(Request::from_der(&encode_request(&ids(MAX_CERTIFICATES), None)).is_ok());
    assert_eq!(
        Request::from_der(&encode_request(&ids(0), None)),
        Err(Error::Malformed {
            what: "OCSP request"
        })
    );
    assert_eq!(
        Request::from_der(&encode_request(&ids(MAX_CERTIFICATES + 1), None)),
        Err(Error::TooLarge {
            limit: MAX_CERTIFICATES
        })
    );
    for (length, nonce) in [
        (0, Nonce::Malformed),
        (1, Nonce::Present(vec![5])),
        (32, Nonce::Present(vec![5; 32])),
        (33, Nonce::Malformed),
    ] {
        let request = Request::from_der(&encode_request(&ids(1), Some(&vec![5; length]))).unwrap();
        assert_eq!(*request.nonce(), nonce, "{length}");
    }
    assert_eq!(
        *Request::from_der(&encode_request(&ids(1), None))
            .unwrap()
            .nonce(),
        Nonce::Absent
    );
    assert!(matches!(
        Request::from_der(&vec![0x30; 65 * 1024]),
        Err(Error::TooLarge { .. })
    ));
    // Another issuer's hashes, and another key of the same name.
    for other in [KeySpec::EcdsaP384, KeySpec::Ed25519] {
        assert!(!id.is_of(&IssuerHashes::new(root(other).certificate()).unwrap()));
    }
}

#[test]
fn a_responder_has_the_key_of_its_certificate() {
    let one = responder(&root(KeySpec::EcdsaP256));
    let certificate = one.certificate().clone();
    assert_eq!(certificate.extended_key_usages(), ["1.3.6.1.5.5.7.3.9"]);
    assert_eq!(certificate.key_usage_bits(), Some(1));
    assert_eq!(
        Responder::new(certificate, copy_of(KeySpec::EcdsaP384)).unwrap_err(),
        Error::KeyMismatch
    );
}

proptest! {
    #[test]
    fn no_octets_make_a_parser_panic(octets in prop::collection::vec(any::<u8>(), 0..400)) {
        let _ = Request::from_der(&octets);
        let _ = ParsedResponse::from_der(&octets);
    }

    #[test]
    fn a_request_that_was_damaged_is_read_or_refused(place: prop::sample::Index, value: u8, cut: bool) {
        let ca = root(KeySpec::EcdsaP256);
        let hashes = IssuerHashes::new(ca.certificate()).unwrap();
        let ids = [CertId::new(HashAlgorithm::Sha1, &hashes, &serial(1)), CertId::new(HashAlgorithm::Sha256, &hashes, &serial(2))];
        let mut octets = encode_request(&ids, Some(&[1; 16]));
        let place = place.index(octets.len());
        if cut { octets.truncate(place) } else { octets[place] = value }
        if let Ok(request) = Request::from_der(&octets) {
            prop_assert!(request.certificates().len() <= 2);
            // What was read is what will be repeated.
            for id in request.certificates() {
                let again = Request::from_der(&encode_request(std::slice::from_ref(id), None)).unwrap();
                prop_assert_eq!(&again.certificates()[0], id);
            }
        }
    }
}
