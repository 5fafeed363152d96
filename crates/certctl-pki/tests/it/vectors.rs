//! Wycheproof's signatures, valid and forged, through our own reading of keys and our own choice of algorithms.

use certctl_pki::key::{PublicKey, SignatureAlgorithm};
use wycheproof::{TestResult, ecdsa, eddsa, rsa_pkcs1_verify as rsa};

/// Counts how many were run, and panics at the first that comes out otherwise than it must.
fn run(
    count: &mut usize,
    spki: &[u8],
    algorithm: SignatureAlgorithm,
    case: (usize, &[u8], &[u8], TestResult, &str),
) {
    let (id, message, signature, expected, comment) = case;
    let outcome =
        PublicKey::from_spki_der(spki).and_then(|key| key.verify(algorithm, message, signature));
    match expected {
        TestResult::Valid => assert!(outcome.is_ok(), "{algorithm:?} {id} {comment}: {outcome:?}"),
        TestResult::Invalid => assert!(outcome.is_err(), "{algorithm:?} {id} {comment}: accepted"),
        // Either is right; that neither panics is what is tested.
        TestResult::Acceptable => {}
    }
    *count += 1;
}

#[test]
fn ecdsa_signatures() {
    use ecdsa::TestName as N;
    let mut count = 0;
    for (name, algorithm) in [
        (N::EcdsaSecp256r1Sha256, SignatureAlgorithm::EcdsaSha256),
        (N::EcdsaSecp384r1Sha256, SignatureAlgorithm::EcdsaSha256),
        (N::EcdsaSecp384r1Sha384, SignatureAlgorithm::EcdsaSha384),
    ] {
        for group in ecdsa::TestSet::load(name).unwrap().test_groups {
            for test in &group.tests {
                let case = (
                    test.tc_id,
                    &test.msg[..],
                    &test.sig[..],
                    test.result,
                    &test.comment[..],
                );
                run(&mut count, &group.der, algorithm, case);
            }
        }
    }
    assert!(count > 1000, "only {count} vectors");
}

#[test]
fn rsa_signatures() {
    use rsa::TestName as N;
    let mut count = 0;
    for (name, algorithm) in [
        (N::Rsa2048Sha256, SignatureAlgorithm::RsaSha256),
        (N::Rsa2048Sha384, SignatureAlgorithm::RsaSha384),
        (N::Rsa2048Sha512, SignatureAlgorithm::RsaSha512),
        (N::Rsa3072Sha256, SignatureAlgorithm::RsaSha256),
        (N::Rsa4096Sha512, SignatureAlgorithm::RsaSha512),
        (N::Rsa8192Sha256, SignatureAlgorithm::RsaSha256),
    ] {
        for group in rsa::TestSet::load(name).unwrap().test_groups {
            for test in &group.tests {
                // ring refuses keys it considers weak as a whole, which no valid vector of these sizes has.
                let case = (
                    test.tc_id,
                    &test.msg[..],
                    &test.sig[..],
                    test.result,
                    &test.comment[..],
                );
                run(&mut count, &group.der, algorithm, case);
            }
        }
    }
    assert!(count > 1000, "only {count} vectors");
}

#[test]
fn ed25519_signatures() {
    let mut count = 0;
    for group in eddsa::TestSet::load(eddsa::TestName::Ed25519)
        .unwrap()
        .test_groups
    {
        for test in &group.tests {
            let case = (
                test.tc_id,
                &test.msg[..],
                &test.sig[..],
                test.result,
                &test.comment[..],
            );
            run(&mut count, &group.der, SignatureAlgorithm::Ed25519, case);
        }
    }
    assert!(count > 100, "only {count} vectors");
}
