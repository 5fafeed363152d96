//! Names in requests.

use certctl_domain::{key::KeySpec, name::SubjectAltName};
use certctl_pki::{
    Error,
    csr::{Csr, CsrBuilder, MAX_LEN},
    pem,
};

use super::{dns, key};

#[test]
fn a_request_says_what_it_was_made_for() {
    for spec in KeySpec::ALL {
        let sans = vec![
            dns("api.example.com"),
            SubjectAltName::Ip("2001:db8::1".parse().unwrap()),
        ];
        let text = CsrBuilder::new("api.example.com")
            .sans(sans.clone())
            .sign_pem(key(*spec))
            .unwrap();
        let csr = Csr::parse_pem(&text).unwrap();
        assert_eq!(csr.common_name(), Some("api.example.com"));
        assert_eq!(csr.sans(), sans);
        assert!(!csr.must_staple());
        assert_eq!(
            (csr.key_algorithm(), csr.key_bits()),
            (spec.algorithm(), spec.bits())
        );
        assert_eq!(csr.spki_der(), key(*spec).spki_der());
        assert_eq!(csr.to_pem(), text);
    }
}

#[test]
fn bare_requests_are_read() {
    let csr = Csr::parse_der(
        &CsrBuilder::new("")
            .sign_der(key(KeySpec::EcdsaP256))
            .unwrap(),
    );
    let csr = csr.unwrap();
    assert_eq!(
        (csr.common_name(), csr.sans(), csr.must_staple()),
        (None, &[][..], false)
    );
    let csr = CsrBuilder::new("")
        .must_staple(true)
        .sign_der(key(KeySpec::EcdsaP256))
        .unwrap();
    assert!(Csr::parse_der(&csr).unwrap().must_staple());
}

#[test]
fn a_long_common_name_is_left_to_the_alternative_names() {
    let long = format!("{}.example.com", "a".repeat(60));
    let csr = CsrBuilder::new(&long)
        .sans(vec![dns(&long)])
        .sign_der(key(KeySpec::EcdsaP256))
        .unwrap();
    let csr = Csr::parse_der(&csr).unwrap();
    assert_eq!((csr.common_name(), csr.sans()), (None, &[dns(&long)][..]));
}

#[test]
fn texts_that_are_not_one_request_are_refused() {
    let der = CsrBuilder::new("a.example")
        .sign_der(key(KeySpec::EcdsaP256))
        .unwrap();
    let one = pem::encode("CERTIFICATE REQUEST", &der);
    assert!(Csr::parse_pem(&pem::encode("NEW CERTIFICATE REQUEST", &der)).is_ok());
    for bad in [
        "",
        "no request",
        &one.repeat(2),
        &pem::encode("CERTIFICATE", &der),
    ] {
        assert_eq!(
            Csr::parse_pem(bad),
            Err(Error::NotPem {
                expected: "CERTIFICATE REQUEST"
            })
        );
    }
    let long = format!("{one}{}", "#".repeat(MAX_LEN));
    assert_eq!(
        Csr::parse_pem(&long),
        Err(Error::TooLarge { limit: MAX_LEN })
    );
    assert_eq!(
        Csr::parse_der(&vec![0x30; MAX_LEN + 1]),
        Err(Error::TooLarge { limit: MAX_LEN })
    );
}

#[test]
fn possession_of_the_key_must_be_proved() {
    for spec in KeySpec::ALL {
        let mut der = CsrBuilder::new("a.example").sign_der(key(*spec)).unwrap();
        // The common name is covered by the signature, so changing it breaks the proof and nothing else.
        let place = der
            .windows(9)
            .position(|window| window == b"a.example")
            .unwrap();
        der[place] = b'b';
        assert_eq!(Csr::parse_der(&der), Err(Error::BadSignature), "{spec}");
    }
}

#[test]
fn deceptive_names_are_refused_even_with_a_good_signature() {
    for name in [
        "p\u{430}ypal.com",
        "a\u{202e}moc.elpmaxe",
        "a\u{200b}.example",
    ] {
        let der = CsrBuilder::new(name)
            .sign_der(key(KeySpec::EcdsaP256))
            .unwrap();
        assert!(
            matches!(Csr::parse_der(&der), Err(Error::DeceptiveName { .. })),
            "{name:?}"
        );
    }
    for (name, expected) in [("a\n.example", true), ("a b.example", false)] {
        let der = CsrBuilder::new("")
            .sans(vec![dns(name)])
            .sign_der(key(KeySpec::EcdsaP256))
            .unwrap();
        let refused = Csr::parse_der(&der).unwrap_err();
        assert_eq!(
            matches!(refused, Error::DeceptiveName { .. }),
            expected,
            "{refused:?}"
        );
        assert_eq!(
            matches!(refused, Error::BadName { .. }),
            !expected,
            "{refused:?}"
        );
    }
}
