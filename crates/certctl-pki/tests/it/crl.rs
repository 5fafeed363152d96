//! Revocation lists, read by us and by the real openssl.

use std::{fs, time::Duration};

use certctl_domain::{
    key::KeySpec, revocation::RevocationReason, serial::SerialNumber, time::Timestamp,
};
use certctl_pki::{
    Error,
    cert::{CaSigner, ParsedCertificate, random_serial},
    crl::{CrlBuilder, CrlSpec, ParsedCrl},
    pem,
};
use proptest::prelude::*;

use super::{
    DAY, START, dns, key, leaf_spec,
    openssl::{openssl, try_openssl},
    root, serial,
};

const HOUR: Duration = Duration::from_secs(3600);

fn spec<'a>(ca: &'a CaSigner, number: u64, points: &'a [String]) -> CrlSpec<'a> {
    CrlSpec {
        issuer_der: ca.certificate().subject_der(),
        authority_key_id: ca.key_id(),
        algorithm: ca.signature_algorithm(),
        number,
        this_update: START,
        next_update: START + DAY,
        distribution_point: points,
    }
}

fn list(ca: &CaSigner, entries: &[(SerialNumber, Timestamp, RevocationReason)]) -> Vec<u8> {
    let mut builder = CrlBuilder::new(&spec(ca, 7, &[]), entries.len()).unwrap();
    for (serial, at, reason) in entries {
        builder.push(serial, *at, *reason).unwrap();
    }
    signed(ca, builder)
}

fn signed(ca: &CaSigner, builder: CrlBuilder) -> Vec<u8> {
    let unsigned = builder.finish().unwrap();
    let signature = ca.sign_status(unsigned.tbs()).unwrap();
    unsigned.signed(&signature).unwrap()
}

#[test]
fn what_is_written_is_read_back_for_every_kind_of_key() {
    for spec_of_key in KeySpec::ALL {
        let ca = root(*spec_of_key);
        let entries: Vec<_> = RevocationReason::ALL
            .into_iter()
            .enumerate()
            .map(|(n, reason)| (serial(n as u8), START + n as u32 * HOUR, reason))
            .collect();
        let crl = ParsedCrl::from_der(&list(&ca, &entries)).unwrap();
        crl.verify_signed_by(ca.certificate()).unwrap();
        assert_eq!(
            (crl.this_update, crl.next_update),
            (START, Some(START + DAY))
        );
        assert_eq!(
            (crl.number, crl.authority_key_id.as_deref()),
            (Some(7), Some(ca.key_id()))
        );
        assert_eq!(crl.distribution_point, None);
        let read: Vec<_> = crl
            .entries
            .iter()
            .map(|one| (one.serial.clone(), one.revoked_at, one.reason))
            .collect();
        assert_eq!(read, entries);
        assert_eq!(
            crl.find(&serial(3)).map(|one| one.reason),
            Some(RevocationReason::AffiliationChanged)
        );
        let another = if *spec_of_key == KeySpec::EcdsaP256 {
            KeySpec::EcdsaP384
        } else {
            KeySpec::EcdsaP256
        };
        assert!(crl.verify_signed_by(root(another).certificate()).is_err());
    }
}

#[test]
fn lengths_of_every_size_are_written_in_their_shortest_form() {
    let ca = root(KeySpec::EcdsaP256);
    // Below 128, 256 and 65,536 octets of entries, and above; the parser takes no other than the shortest form.
    for count in [0, 1, 2, 3, 5, 7, 8, 1300, 1400, 2000] {
        let entries: Vec<_> = (0..count)
            .map(|_| {
                (
                    random_serial().unwrap(),
                    START,
                    RevocationReason::Superseded,
                )
            })
            .collect();
        let der = list(&ca, &entries);
        let crl = ParsedCrl::from_der(&der).unwrap();
        crl.verify_signed_by(ca.certificate()).unwrap();
        assert_eq!(crl.entries.len(), count);
        assert!(
            der.capacity() <= der.len() + 1024 + count * 12,
            "{} {}",
            der.capacity(),
            der.len()
        );
    }
}

#[test]
fn openssl_refuses_what_a_list_revokes_and_reads_the_parts() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let ca = root(KeySpec::EcdsaP256);
    let sans = [dns("a.example")];
    let number = serial(9);
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
    let verify = [
        "verify",
        "-crl_check",
        "-attime",
        "1790003600",
        "-CAfile",
        "ca.pem",
        "-CRLfile",
        "crl.pem",
        "leaf.pem",
    ];
    fs::write(
        folder.join("crl.pem"),
        pem::encode("X509 CRL", &list(&ca, &[])),
    )
    .unwrap();
    openssl(folder, &verify);
    let revoked = list(&ca, &[(number, START, RevocationReason::KeyCompromise)]);
    fs::write(folder.join("crl.pem"), pem::encode("X509 CRL", &revoked)).unwrap();
    let refused = try_openssl(folder, &verify);
    assert!(!refused.status.success());
    assert!(
        String::from_utf8_lossy(&refused.stderr).contains("certificate revoked"),
        "{refused:?}"
    );
    let text = openssl(
        folder,
        &[
            "crl", "-in", "crl.pem", "-noout", "-text", "-CAfile", "ca.pem",
        ],
    );
    for part in [
        "verify OK",
        "Version 2",
        "Key Compromise",
        "X509v3 CRL Number: \n                7",
        "X509v3 Authority Key Identifier",
    ] {
        assert!(text.contains(part), "{part}: {text}");
    }

    let points = [
        "https://pki.example/crl/iss-local/3-of-8".to_owned(),
        "http://pki.example/3-of-8".to_owned(),
    ];
    let part = signed(&ca, CrlBuilder::new(&spec(&ca, 8, &points), 0).unwrap());
    assert_eq!(
        ParsedCrl::from_der(&part)
            .unwrap()
            .distribution_point
            .as_deref(),
        Some(&points[..])
    );
    fs::write(folder.join("crl.pem"), pem::encode("X509 CRL", &part)).unwrap();
    let text = openssl(
        folder,
        &[
            "crl", "-in", "crl.pem", "-noout", "-text", "-CAfile", "ca.pem",
        ],
    );
    for part in [
        "verify OK",
        "X509v3 Issuing Distribution Point: critical",
        "URI:https://pki.example/crl/iss-local/3-of-8",
    ] {
        assert!(text.contains(part), "{part}: {text}");
    }
    let named = ["tr\u{e4}ge".to_owned()];
    assert!(matches!(
        CrlBuilder::new(&spec(&ca, 8, &named), 0),
        Err(Error::BadName { .. })
    ));
}

#[test]
fn only_a_ca_that_may_sign_lists_does() {
    let ca = root(KeySpec::EcdsaP256);
    assert!(ca.certificate().may_sign_crls());
    let sans = [dns("a.example")];
    let number = serial(9);
    let leaf = ca
        .sign(&leaf_spec(
            "a.example",
            &sans,
            key(KeySpec::EcdsaP256),
            &number,
        ))
        .unwrap();
    assert!(
        !ParsedCertificate::from_der(leaf.der())
            .unwrap()
            .may_sign_crls()
    );
}

proptest! {
    #[test]
    fn no_octets_make_the_parser_panic(octets in prop::collection::vec(any::<u8>(), 0..400)) {
        let _ = ParsedCrl::from_der(&octets);
    }

    #[test]
    fn no_damaged_list_verifies_as_another(place: prop::sample::Index, value: u8) {
        let ca = root(KeySpec::EcdsaP256);
        let entries = [(serial(1), START, RevocationReason::KeyCompromise), (serial(2), START, RevocationReason::Unspecified)];
        let original = list(&ca, &entries);
        let mut damaged = original.clone();
        let place = place.index(damaged.len());
        damaged[place] = value;
        if let Ok(crl) = ParsedCrl::from_der(&damaged) && crl.verify_signed_by(ca.certificate()).is_ok() {
            prop_assert_eq!(crl.entries, ParsedCrl::from_der(&original).unwrap().entries);
        }
    }
}
