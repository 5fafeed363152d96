//! Whatever comes in, nothing panics, and what is made is what was asked for.

use std::net::IpAddr;

use certctl_domain::{key::KeySpec, name::SubjectAltName};
use certctl_pki::{
    cert::{CaSigner, ParsedCertificate},
    csr::{Csr, CsrBuilder},
    key::{PrivateKey, PublicKey, SignatureAlgorithm},
};
use proptest::prelude::*;
use std::sync::LazyLock;

use super::{key, leaf_spec, root, serial};

static CA: LazyLock<CaSigner> = LazyLock::new(|| root(KeySpec::EcdsaP256));
static REQUEST: LazyLock<Vec<u8>> = LazyLock::new(|| {
    let sans = [
        "a.example",
        "192.0.2.7",
        "x@a.example",
        "spiffe://a.example/b",
    ]
    .iter()
    .map(|name| SubjectAltName::parse(name).unwrap())
    .collect();
    CsrBuilder::new("a.example")
        .sans(sans)
        .must_staple(true)
        .sign_der(key(KeySpec::EcdsaP256))
        .unwrap()
});

fn san() -> impl Strategy<Value = SubjectAltName> {
    let host = "(\\*\\.)?[a-z0-9]([a-z0-9-]{0,20}[a-z0-9])?(\\.[a-z]{2,10}){1,3}";
    prop_oneof![
        host.prop_map(SubjectAltName::Dns),
        any::<IpAddr>().prop_map(SubjectAltName::Ip),
        "[a-z0-9.+]{1,20}@[a-z]{1,20}\\.example".prop_map(SubjectAltName::Email),
        "spiffe://[a-z]{1,20}\\.example/[a-z0-9/-]{0,40}".prop_map(SubjectAltName::Uri),
    ]
}

fn sans() -> impl Strategy<Value = Vec<SubjectAltName>> {
    prop::collection::hash_set(san(), 1..20).prop_map(|set| set.into_iter().collect())
}

fn spec() -> impl Strategy<Value = KeySpec> {
    prop::sample::select(KeySpec::ALL)
}

/// A few octets changed, one put in, one taken out, or the end cut off.
fn mutated(original: &'static LazyLock<Vec<u8>>) -> impl Strategy<Value = Vec<u8>> {
    let change = (any::<prop::sample::Index>(), any::<u8>(), 0..4_u8);
    prop::collection::vec(change, 1..6).prop_map(|changes| {
        let mut octets = LazyLock::force(original).clone();
        for (place, value, kind) in changes {
            if octets.is_empty() {
                break;
            }
            let place = place.index(octets.len());
            match kind {
                0 => octets[place] = value,
                1 => octets.insert(place, value),
                2 => drop(octets.remove(place)),
                _ => octets.truncate(place),
            }
        }
        octets
    })
}

static CERTIFICATE: LazyLock<Vec<u8>> = LazyLock::new(|| {
    let sans = [SubjectAltName::Dns("a.example".to_owned())];
    let serial = serial(1);
    let spec = leaf_spec("a.example", &sans, key(KeySpec::EcdsaP256), &serial);
    CA.sign(&spec).unwrap().into_der()
});

proptest! {
    #[test]
    fn no_octets_make_a_parser_panic(octets in prop::collection::vec(any::<u8>(), 0..600)) {
        let _ = Csr::parse_der(&octets);
        let _ = ParsedCertificate::from_der(&octets);
        let _ = PublicKey::from_spki_der(&octets);
        let _ = SignatureAlgorithm::from_der(&octets);
        for label in ["PRIVATE KEY", "EC PRIVATE KEY", "RSA PRIVATE KEY"] {
            let _ = PrivateKey::from_pem(&certctl_pki::pem::encode(label, &octets));
        }
    }

    #[test]
    fn no_damaged_request_passes_for_another(octets in mutated(&REQUEST)) {
        // ECDSA is malleable in theory, but not by octets changed blindly: what still parses is what was signed.
        if let Ok(csr) = Csr::parse_der(&octets) {
            let original = Csr::parse_der(&REQUEST).unwrap();
            prop_assert_eq!(csr.sans(), original.sans());
            prop_assert_eq!(csr.common_name(), original.common_name());
            prop_assert_eq!(csr.spki_der(), original.spki_der());
        }
    }

    #[test]
    fn no_damaged_certificate_verifies_as_another(octets in mutated(&CERTIFICATE)) {
        if let Ok(certificate) = ParsedCertificate::from_der(&octets)
            && certificate.verify_signed_by(CA.certificate()).is_ok()
        {
            let original = ParsedCertificate::from_der(&CERTIFICATE).unwrap();
            prop_assert_eq!(certificate.sans(), original.sans());
            prop_assert_eq!(certificate.serial(), original.serial());
            prop_assert_eq!(certificate.spki_der(), original.spki_der());
        }
    }

    #[test]
    fn requests_say_what_they_were_made_for(spec in spec(), sans in sans(), must_staple: bool) {
        let common_name = sans[0].to_string();
        let der = CsrBuilder::new(common_name.clone())
            .sans(sans.clone())
            .must_staple(must_staple)
            .sign_der(key(spec))
            .unwrap();
        let csr = Csr::parse_der(&der).unwrap();
        prop_assert_eq!(csr.sans(), sans);
        prop_assert_eq!(csr.must_staple(), must_staple);
        prop_assert_eq!(csr.common_name(), Some(&common_name[..]).filter(|name| name.len() <= 64));
        prop_assert_eq!(csr.spki_der(), key(spec).spki_der());
    }

    #[test]
    fn certificates_say_what_they_were_made_for(spec in spec(), sans in sans(), n: u8) {
        let common_name = sans[0].to_string();
        let serial = serial(n);
        let signed = CA.sign(&leaf_spec(&common_name, &sans, key(spec), &serial)).unwrap();
        let leaf = ParsedCertificate::from_der(signed.der()).unwrap();
        leaf.verify_signed_by(CA.certificate()).unwrap();
        prop_assert_eq!(leaf.sans(), sans);
        prop_assert_eq!(leaf.serial(), &serial);
        prop_assert!(leaf.matches_key(key(spec)));
        prop_assert_eq!(leaf.common_name(), Some(&common_name[..]).filter(|name| name.len() <= 64));
    }
}
