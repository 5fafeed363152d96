//! Each rule by name: the usual certificate passes, and one change breaks that rule and no other.

use std::sync::LazyLock;

use certctl_domain::{
    key::KeySpec,
    name::SubjectAltName,
    profile::ExtendedKeyUsage::{ClientAuth, ServerAuth},
    time::Timestamp,
};
use x509_cert::{der::Tag, ext::pkix::KeyUsages};

use super::{Issuer, Rule, check};
use crate::{
    asn1,
    cert::{
        extension,
        tbs::{Tbs, validity},
    },
    general_name,
    key::{PrivateKey, SignatureAlgorithm},
};

const START: Timestamp = Timestamp::from_seconds(1_790_000_000);
const END: Timestamp = Timestamp::from_seconds(1_797_776_000);
const CA_END: Timestamp = Timestamp::from_seconds(1_900_000_000);
const CA_KEY_ID: [u8; 20] = [0xca; 20];

static KEY: LazyLock<PrivateKey> =
    LazyLock::new(|| PrivateKey::generate(KeySpec::EcdsaP256).unwrap());
static ISSUER: LazyLock<Vec<u8>> = LazyLock::new(|| general_name::subject_der("Test CA"));

// Where the extensions of the usual certificate stand.
const AUTHORITY_KEY_ID: usize = 0;
const SUBJECT_KEY_ID: usize = 1;
const KEY_USAGE: usize = 2;
const BASIC_CONSTRAINTS: usize = 3;
const EXTENDED_KEY_USAGE: usize = 4;
const NAMES: usize = 5;

fn dns(names: &[&str]) -> Vec<SubjectAltName> {
    names
        .iter()
        .map(|name| SubjectAltName::Dns((*name).to_owned()))
        .collect()
}

/// A server certificate that breaks no rule.
fn usual() -> Tbs<'static> {
    Tbs {
        serial: asn1::unsigned(&[0x5a; 20]),
        signature: SignatureAlgorithm::EcdsaSha256,
        issuer: &ISSUER,
        validity: validity(START, END).unwrap(),
        subject: general_name::subject_der("a.example"),
        spki: KEY.spki_der(),
        extensions: vec![
            extension::authority_key_id(&CA_KEY_ID).unwrap(),
            extension::subject_key_id(&KEY.public_key().key_id()),
            extension::key_usage(KeyUsages::DigitalSignature.into()).unwrap(),
            extension::basic_constraints(None).unwrap(),
            extension::extended_key_usage(&[ServerAuth]),
            extension::subject_alt_names(&dns(&["a.example"]), false).unwrap(),
        ],
    }
}

/// A CA certificate that breaks no rule.
fn usual_ca() -> Tbs<'static> {
    let mut tbs = usual();
    tbs.extensions.truncate(EXTENDED_KEY_USAGE);
    tbs.extensions[KEY_USAGE] =
        extension::key_usage(KeyUsages::KeyCertSign | KeyUsages::CRLSign).unwrap();
    tbs.extensions[BASIC_CONSTRAINTS] = extension::basic_constraints(Some(Some(0))).unwrap();
    tbs
}

fn under(path_length: Option<u8>) -> Issuer<'static> {
    Issuer {
        not_after: CA_END,
        key_id: &CA_KEY_ID,
        path_length,
    }
}

fn rules(tbs: &Tbs<'_>) -> Vec<Rule> {
    check(&tbs.to_der(), &under(None))
        .iter()
        .map(|finding| finding.rule)
        .collect()
}

/// The rules that a change of the usual leaf breaks.
fn broken(change: impl FnOnce(&mut Tbs<'static>)) -> Vec<Rule> {
    let mut tbs = usual();
    change(&mut tbs);
    rules(&tbs)
}

/// The rules that a change of the usual CA breaks.
fn broken_ca(change: impl FnOnce(&mut Tbs<'static>)) -> Vec<Rule> {
    let mut tbs = usual_ca();
    change(&mut tbs);
    rules(&tbs)
}

/// The same extension marked as not critical.
fn not_critical(extension: &[u8]) -> Vec<u8> {
    let parts = asn1::elements(extension, "extension").unwrap();
    let [id, _critical, value] = parts[..] else {
        panic!("not critical to begin with");
    };
    asn1::sequence(&[id, value])
}

#[test]
fn the_usual_certificates_break_no_rule() {
    assert_eq!(rules(&usual()), []);
    assert_eq!(rules(&usual_ca()), []);
}

#[test]
fn well_formed() {
    let findings = check(b"\x30\x00", &under(None));
    assert_eq!(findings[0].rule, Rule::WellFormed);
    assert!(findings[0].to_string().starts_with("well_formed: "));
    assert_eq!(
        broken(|tbs| tbs.extensions[KEY_USAGE] = {
            let whole = &tbs.extensions[KEY_USAGE];
            let parts = asn1::elements(whole, "extension").unwrap();
            asn1::sequence(&[
                parts[0],
                parts[1],
                &asn1::tlv(Tag::OctetString, &[b"\x05\x00"]),
            ])
        }),
        [Rule::WellFormed]
    );
    // The same fields as version 1.
    let mut der = usual().to_der();
    let version = der
        .windows(5)
        .position(|w| w == [0xa0, 3, 2, 1, 2])
        .unwrap();
    der[version + 4] = 1;
    assert_eq!(check(&der, &under(None))[0].rule, Rule::WellFormed);
}

#[test]
fn no_duplicate_extension() {
    assert_eq!(
        broken(|tbs| tbs.extensions.push(tbs.extensions[NAMES].clone())),
        [Rule::NoDuplicateExtension]
    );
}

#[test]
fn serial() {
    let with = |octets: &[u8]| broken(|tbs| tbs.serial = asn1::tlv(Tag::Integer, &[octets]));
    assert_eq!(with(&[0x80; 20]), [Rule::Serial]);
    assert_eq!(with(&[0x7f; 7]), [Rule::Serial]);
    assert_eq!(with(&[0]), [Rule::Serial]);
    // 21 octets with the one of the sign, which the decoder itself still admits.
    assert_eq!(with(&[&[0][..], &[0xff; 20]].concat()), [Rule::Serial]);
    assert_eq!(with(&[0x7f; 8]), []);
    assert_eq!(with(&[0x7f; 20]), []);
}

#[test]
fn validity_order() {
    assert_eq!(
        broken(|tbs| tbs.validity = validity(END, START).unwrap()),
        [Rule::ValidityOrder]
    );
    assert_eq!(
        broken(|tbs| tbs.validity = validity(START, START).unwrap()),
        []
    );
}

#[test]
fn validity_encoding() {
    let four_digits = asn1::tlv(Tag::GeneralizedTime, &[b"20260921120000Z"]);
    let two_digits = asn1::tlv(Tag::UtcTime, &[b"261221120000Z"]);
    assert_eq!(
        broken(|tbs| tbs.validity = asn1::sequence(&[&four_digits, &two_digits])),
        [Rule::ValidityEncoding]
    );
}

#[test]
fn within_issuer() {
    let later = Timestamp::from_seconds(CA_END.as_seconds() + 1);
    assert_eq!(
        broken(|tbs| tbs.validity = validity(START, CA_END).unwrap()),
        []
    );
    assert_eq!(
        broken(|tbs| tbs.validity = validity(START, later).unwrap()),
        [Rule::WithinIssuer]
    );
}

#[test]
fn san_for_servers() {
    assert_eq!(
        broken(|tbs| {
            tbs.extensions.remove(NAMES);
            tbs.subject = asn1::sequence(&[]);
        }),
        [Rule::SanForServers]
    );
    assert_eq!(
        broken(|tbs| {
            tbs.extensions.remove(NAMES);
        }),
        [Rule::SanForServers, Rule::CommonNameInSan]
    );
}

#[test]
fn names_well_formed() {
    for name in [
        "a..example",
        "a b",
        "192.0.2.1",
        "-a.example",
        "a.*.example",
    ] {
        let names = dns(&["a.example", name]);
        assert_eq!(
            broken(|tbs| {
                tbs.extensions[NAMES] = extension::subject_alt_names(&names, false).unwrap();
            }),
            [Rule::NamesWellFormed],
            "{name}"
        );
    }
    assert_eq!(
        broken(|tbs| tbs.subject = asn1::sequence(&[])),
        [Rule::NamesWellFormed]
    );
    assert_eq!(
        broken_ca(|tbs| tbs.subject = asn1::sequence(&[])),
        [Rule::NamesWellFormed]
    );
}

#[test]
fn common_name_in_san() {
    let subject = |name: &str| {
        let subject = general_name::subject_der(name);
        broken(|tbs| tbs.subject = subject)
    };
    assert_eq!(subject("b.example"), [Rule::CommonNameInSan]);
    assert_eq!(subject("A.EXAMPLE"), []);
    let address = [SubjectAltName::Ip("2001:db8::1".parse().unwrap())];
    assert_eq!(
        broken(|tbs| {
            tbs.extensions[NAMES] = extension::subject_alt_names(&address, false).unwrap();
            tbs.subject = general_name::subject_der("2001:DB8:0::1");
        }),
        []
    );
}

#[test]
fn key_strength() {
    // RSA with the modulus 0xff…01 of 1024 bits.
    let mut modulus = vec![0xff; 128];
    modulus[127] = 1;
    let key = asn1::sequence(&[&asn1::unsigned(&modulus), &asn1::unsigned(&[1, 0, 1])]);
    let algorithm = [
        0x30, 0x0d, 0x06, 0x09, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x01, 0x05, 0x00,
    ];
    let spki = asn1::sequence(&[&algorithm, &asn1::bit_string(&key)]);
    let mut tbs = usual();
    let weak = Tbs {
        spki: &spki,
        ..tbs.clone()
    };
    assert_eq!(rules(&weak), [Rule::KeyStrength]);
    // X25519 agrees on keys and signs nothing.
    let id = [0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x6e];
    let unknown = asn1::sequence(&[&id, &asn1::bit_string(&[1; 32])]);
    let unknown: &'static [u8] = unknown.leak();
    tbs.spki = unknown;
    assert_eq!(rules(&tbs), [Rule::KeyStrength]);
}

#[test]
fn key_usage() {
    let leaf = |usages: extension::KeyUsageSet| {
        broken(|tbs| tbs.extensions[KEY_USAGE] = extension::key_usage(usages).unwrap())
    };
    let signs = KeyUsages::DigitalSignature;
    assert_eq!(leaf(signs | KeyUsages::KeyEncipherment), [Rule::KeyUsage]);
    assert_eq!(leaf(signs | KeyUsages::KeyCertSign), [Rule::KeyUsage]);
    assert_eq!(leaf(signs | KeyUsages::CRLSign), [Rule::KeyUsage]);
    assert_eq!(leaf(KeyUsages::NonRepudiation.into()), [Rule::KeyUsage]);
    assert_eq!(leaf(signs | KeyUsages::NonRepudiation), []);
    assert_eq!(leaf(signs | KeyUsages::KeyAgreement), []);
    let plain = |tbs: &mut Tbs<'_>| {
        tbs.extensions[KEY_USAGE] = not_critical(&tbs.extensions[KEY_USAGE]);
    };
    assert_eq!(broken(plain), [Rule::KeyUsage]);
    let without = |tbs: &mut Tbs<'_>| drop(tbs.extensions.remove(KEY_USAGE));
    assert_eq!(broken(without), [Rule::KeyUsage]);
    let ca = |usages: extension::KeyUsageSet| {
        broken_ca(|tbs| tbs.extensions[KEY_USAGE] = extension::key_usage(usages).unwrap())
    };
    assert_eq!(ca(KeyUsages::CRLSign.into()), [Rule::KeyUsage]);
}

#[test]
fn basic_constraints() {
    assert_eq!(
        broken(|tbs| drop(tbs.extensions.remove(BASIC_CONSTRAINTS))),
        [Rule::BasicConstraints]
    );
    assert_eq!(
        broken_ca(|tbs| {
            let plain = not_critical(&tbs.extensions[BASIC_CONSTRAINTS]);
            tbs.extensions[BASIC_CONSTRAINTS] = plain;
        }),
        [Rule::BasicConstraints]
    );
    let ca_under = |length: Option<u8>, bound: Option<u8>| {
        let mut tbs = usual_ca();
        tbs.extensions[BASIC_CONSTRAINTS] = extension::basic_constraints(Some(length)).unwrap();
        !check(&tbs.to_der(), &under(bound)).is_empty()
    };
    assert!(ca_under(Some(0), Some(0)));
    assert!(ca_under(None, Some(3)));
    assert!(ca_under(Some(3), Some(3)));
    assert!(!ca_under(Some(2), Some(3)));
    assert!(!ca_under(None, None));
    // A leaf is no CA below its issuer.
    assert_eq!(check(&usual().to_der(), &under(Some(0))), []);
}

#[test]
fn extended_key_usage() {
    assert_eq!(
        broken(|tbs| drop(tbs.extensions.remove(EXTENDED_KEY_USAGE))),
        [Rule::ExtendedKeyUsage]
    );
    assert_eq!(
        broken(|tbs| {
            let twice = [ServerAuth, ClientAuth, ServerAuth];
            tbs.extensions[EXTENDED_KEY_USAGE] = extension::extended_key_usage(&twice);
        }),
        [Rule::ExtendedKeyUsage]
    );
    assert_eq!(
        broken_ca(|tbs| tbs
            .extensions
            .push(extension::extended_key_usage(&[ClientAuth]))),
        [Rule::ExtendedKeyUsage]
    );
    // `anyExtendedKeyUsage` cannot be asked for, so it is put in by its octets.
    let any = asn1::sequence(&[&asn1::tlv(
        Tag::ObjectIdentifier,
        &[&[0x55, 0x1d, 0x25, 0x00]],
    )]);
    let id = asn1::tlv(Tag::ObjectIdentifier, &[&[0x55, 0x1d, 0x25]]);
    assert_eq!(
        broken(|tbs| {
            let value = asn1::tlv(Tag::OctetString, &[&any]);
            tbs.extensions[EXTENDED_KEY_USAGE] = asn1::sequence(&[&id, &value]);
        }),
        [Rule::ExtendedKeyUsage]
    );
}

#[test]
fn authority_key_id() {
    assert_eq!(
        broken(|tbs| drop(tbs.extensions.remove(AUTHORITY_KEY_ID))),
        [Rule::AuthorityKeyId]
    );
    assert_eq!(
        broken(|tbs| {
            tbs.extensions[AUTHORITY_KEY_ID] = extension::authority_key_id(&[1; 20]).unwrap();
        }),
        [Rule::AuthorityKeyId]
    );
}

#[test]
fn subject_key_id() {
    assert_eq!(
        broken(|tbs| drop(tbs.extensions.remove(SUBJECT_KEY_ID))),
        [Rule::SubjectKeyId]
    );
    assert_eq!(
        broken(|tbs| tbs.extensions[SUBJECT_KEY_ID] = extension::subject_key_id(&[])),
        [Rule::SubjectKeyId]
    );
}

/// A rule without a test of its own name would be a rule that nobody knows to work.
/// An OCSP responder that breaks no rule.
fn responder(change: impl FnOnce(&mut Tbs<'static>)) -> Vec<Rule> {
    let mut tbs = usual();
    tbs.subject = general_name::subject_der("OCSP Responder for Test CA");
    tbs.extensions.truncate(EXTENDED_KEY_USAGE);
    tbs.extensions.push(extension::ocsp_signing());
    tbs.extensions.push(extension::ocsp_nocheck());
    change(&mut tbs);
    rules(&tbs)
}

#[test]
fn ocsp_responder() {
    assert_eq!(responder(|_| {}), []);
    assert_eq!(
        responder(|tbs| drop(tbs.extensions.pop())),
        [Rule::OcspResponder]
    );
    assert_eq!(
        broken(|tbs| tbs.extensions.push(extension::ocsp_nocheck())),
        [Rule::OcspResponder]
    );
    let named = |tbs: &mut Tbs<'static>| {
        tbs.extensions
            .push(extension::subject_alt_names(&dns(&["a.example"]), false).unwrap());
    };
    assert_eq!(responder(named), [Rule::OcspResponder]);
}

#[test]
fn every_rule_has_a_test_of_its_name() {
    let source = include_str!("tests.rs");
    for rule in Rule::ALL {
        assert!(
            source.contains(&format!("\nfn {}()", rule.name())),
            "{rule:?}"
        );
    }
}
