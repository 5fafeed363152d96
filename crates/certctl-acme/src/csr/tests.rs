use std::{collections::BTreeSet, sync::LazyLock};

use certctl_domain::{
    acme::{Identifier, Problem, ProblemType},
    key::KeySpec,
    name::SubjectAltName,
};
use certctl_pki::{csr::CsrBuilder, key::PrivateKey};
use proptest::prelude::*;

use super::check;

static KEY: LazyLock<PrivateKey> =
    LazyLock::new(|| PrivateKey::generate(KeySpec::EcdsaP256).unwrap());
static ACCOUNT: LazyLock<PrivateKey> =
    LazyLock::new(|| PrivateKey::generate(KeySpec::EcdsaP256).unwrap());

fn san(text: &str) -> SubjectAltName {
    SubjectAltName::parse(text).unwrap()
}

fn csr(common_name: &str, sans: &[&str]) -> Vec<u8> {
    let sans = sans.iter().map(|text| san(text)).collect();
    CsrBuilder::new(common_name)
        .sans(sans)
        .sign_der(&KEY)
        .unwrap()
}

fn identifiers(texts: &[&str]) -> Vec<Identifier> {
    let identifier = |text: &&str| {
        Identifier::ip(text)
            .or_else(|_| Identifier::dns(text))
            .unwrap()
    };
    let mut all: Vec<_> = texts.iter().map(identifier).collect();
    all.sort_unstable();
    all
}

fn result(csr: &[u8], order: &[&str]) -> Result<(), Problem> {
    check(csr, &identifiers(order), ACCOUNT.spki_der()).map(|_| ())
}

fn refused(csr: &[u8], order: &[&str]) -> String {
    let problem = result(csr, order).unwrap_err();
    assert_eq!((problem.kind, problem.status), (ProblemType::BadCsr, 400));
    problem.detail
}

#[test]
fn the_request_asks_for_exactly_what_was_ordered() {
    for (common_name, sans, order) in [
        ("", &["a.example"][..], &["a.example"][..]),
        ("a.example", &["a.example"], &["a.example"]),
        ("a.example", &[], &["a.example"]),
        ("a.example", &["b.example"], &["a.example", "b.example"]),
        ("A.Example", &["b.EXAMPLE"], &["a.example", "b.example"]),
        ("", &["b.example", "a.example"], &["a.example", "b.example"]),
        (
            "",
            &["*.a.example", "a.example"],
            &["*.a.example", "a.example"],
        ),
        (
            "",
            &["192.0.2.1", "2001:db8::1"],
            &["192.0.2.1", "2001:db8::1"],
        ),
        ("192.0.2.1", &["192.0.2.1"], &["192.0.2.1"]),
    ] {
        assert_eq!(
            result(&csr(common_name, sans), order),
            Ok(()),
            "{common_name} {sans:?}"
        );
    }
}

#[test]
fn the_order_of_the_identifiers_is_of_no_importance() {
    let names = ["a.example", "b.example", "*.a.example", "192.0.2.1"];
    let der = csr("", &names);
    let mut ordered = identifiers(&names);
    for _ in 0..ordered.len() {
        ordered.rotate_left(1);
        assert!(check(&der, &ordered, ACCOUNT.spki_der()).is_ok());
        ordered.reverse();
        assert!(check(&der, &ordered, ACCOUNT.spki_der()).is_ok());
    }
    ordered.swap(0, 2);
    let twice = [&ordered[..], &ordered[..]].concat();
    assert!(check(&der, &twice, ACCOUNT.spki_der()).is_ok());
    let extra = [&ordered[..], &identifiers(&["0.example"])].concat();
    assert!(check(&der, &extra, ACCOUNT.spki_der()).is_err());
}

#[test]
fn extra_names_are_refused() {
    let detail = refused(&csr("", &["a.example", "b.example"]), &["a.example"]);
    assert_eq!(
        detail,
        "the CSR asks for b.example, which the order does not have"
    );
    refused(&csr("", &["*.a.example"]), &["a.example"]);
    refused(&csr("", &["a.example", "192.0.2.1"]), &["a.example"]);
}

#[test]
fn missing_names_are_refused() {
    let detail = refused(&csr("", &["a.example"]), &["a.example", "b.example"]);
    assert_eq!(detail, "the CSR does not ask for b.example");
    refused(&csr("", &[]), &["a.example"]);
    refused(&csr("", &["2001:db8::1"]), &["192.0.2.1"]);
}

#[test]
fn a_common_name_outside_of_the_order_is_refused() {
    refused(&csr("b.example", &["a.example"]), &["a.example"]);
    refused(&csr("Some Company", &["a.example"]), &["a.example"]);
    refused(&csr("192.0.2.2", &["192.0.2.1"]), &["192.0.2.1"]);
    // An address that is written as a name is none.
    refused(&csr("192.0.2.01", &["192.0.2.1"]), &["192.0.2.1"]);
}

#[test]
fn mailboxes_and_uris_are_refused() {
    let mail = refused(&csr("", &["a.example", "bob@a.example"]), &["a.example"]);
    assert_eq!(mail, "the CSR asks for an e-mail address");
    let uri = refused(
        &csr("", &["a.example", "spiffe://a.example/x"]),
        &["a.example"],
    );
    assert_eq!(uri, "the CSR asks for a URI");
}

#[test]
fn names_that_no_order_can_have_are_refused() {
    refused(
        &csr("", &["a.example", "under_score.example"]),
        &["a.example"],
    );
}

#[test]
fn the_key_of_the_account_is_refused_however_it_is_written() {
    let order = identifiers(&["a.example"]);
    for spec in [KeySpec::EcdsaP256, KeySpec::Ed25519, KeySpec::Rsa2048] {
        let key = PrivateKey::generate(spec).unwrap();
        let der = CsrBuilder::new("a.example").sign_der(&key).unwrap();
        let problem = check(&der, &order, key.spki_der()).unwrap_err();
        assert_eq!(
            problem.detail, "the CSR is for the key of the account",
            "{spec}"
        );
        assert!(check(&der, &order, ACCOUNT.spki_der()).is_ok(), "{spec}");
    }
}

#[test]
fn what_is_no_request_or_does_not_prove_its_key_is_refused() {
    let good = csr("", &["a.example"]);
    for bad in [
        &[][..],
        &[0x30, 0],
        &good[1..],
        &good[..good.len() - 1],
        b"-----BEGIN",
    ] {
        refused(bad, &["a.example"]);
    }
    refused(&[&good[..], &[0]].concat(), &["a.example"]);
    let mut forged = good.clone();
    let last = forged.len() - 1;
    forged[last] ^= 1;
    refused(&forged, &["a.example"]);
    refused(&vec![0x30; 100_000], &["a.example"]);
}

#[test]
fn weak_rsa_is_refused() {
    // openssl req -new -newkey rsa:1024 -nodes -subj / -addext subjectAltName=DNS:a.example -outform DER
    let weak = include_bytes!("rsa1024.der");
    let detail = refused(weak, &["a.example"]);
    assert_eq!(detail, "weak key: RSA with 1024 bits, below 2048");
}

/// A few names, so that sets meet.
fn some_names() -> impl Strategy<Value = BTreeSet<&'static str>> {
    const NAMES: [&str; 6] = [
        "a.example",
        "b.example",
        "*.a.example",
        "192.0.2.1",
        "2001:db8::1",
        "xn--bcher-kva.example",
    ];
    prop::sample::subsequence(NAMES.to_vec(), 1..=NAMES.len())
        .prop_map(|all| all.into_iter().collect())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn a_request_is_taken_exactly_when_the_sets_are_equal(asked in some_names(), ordered in some_names(), common in 0_usize..7) {
        let common = asked.iter().nth(common).copied().unwrap_or_default();
        let asked_list: Vec<&str> = asked.iter().copied().collect();
        let ordered_list: Vec<&str> = ordered.iter().copied().collect();
        let taken = result(&csr(common, &asked_list), &ordered_list).is_ok();
        prop_assert_eq!(taken, asked == ordered);
    }

    #[test]
    fn reading_almost_good_requests_never_panics(at in 0_usize..1000, octet: u8) {
        let mut der = csr("a.example", &["a.example"]);
        let at = at % der.len();
        der[at] = octet;
        let _ = result(&der, &["a.example"]);
    }
}
