//! What a CA signs and refuses to sign.

use std::sync::LazyLock;

use certctl_domain::{key::KeySpec, name::SubjectAltName, serial::SerialNumber, time::Timestamp};
use certctl_pki::{
    Error,
    cert::{CaSigner, CertificateSpec, ParsedCertificate, PathLength, RootSpec, sign_root},
    key::PrivateKey,
    lint::Rule,
};

use super::{DAY, START, copy_of, dns, key, leaf_spec, root, serial};

#[test]
fn what_is_read_from_a_certificate_is_what_was_asked_for() {
    let ca = root(KeySpec::EcdsaP256);
    let sans = [
        dns("api.example.com"),
        SubjectAltName::Ip([192, 0, 2, 7].into()),
        SubjectAltName::Uri("spiffe://example.com/api".to_owned()),
        SubjectAltName::Email("ops@example.com".to_owned()),
    ];
    let serial = serial(9);
    for spec in KeySpec::ALL {
        let key = key(*spec);
        let signed = ca
            .sign(&leaf_spec("api.example.com", &sans, key, &serial))
            .unwrap();
        let leaf = ParsedCertificate::from_pem(&signed.to_pem()).unwrap();
        assert_eq!(leaf.der(), signed.der());
        assert_eq!(leaf.common_name(), Some("api.example.com"));
        assert_eq!(leaf.subject(), "CN=api.example.com");
        assert_eq!(leaf.issuer(), "CN=Test Root");
        assert_eq!(leaf.serial(), &serial);
        assert_eq!(
            (leaf.not_before(), leaf.not_after()),
            (START, START + 90 * DAY)
        );
        assert_eq!(leaf.sans(), sans);
        assert_eq!(
            (leaf.key_algorithm(), leaf.key_bits()),
            (Some(spec.algorithm()), spec.bits())
        );
        assert_eq!(leaf.spki_der(), key.spki_der());
        assert!(!leaf.is_ca() && !leaf.may_sign_certificates());
        assert_eq!(leaf.authority_key_id(), ca.certificate().subject_key_id());
        assert_eq!(leaf.subject_key_id(), Some(&key.public_key().key_id()[..]));
        assert_eq!(
            leaf.extended_key_usages(),
            ["1.3.6.1.5.5.7.3.1", "1.3.6.1.5.5.7.3.2"]
        );
        assert!(leaf.matches_key(key));
        assert_eq!(leaf.fingerprint_sha256(), signed.fingerprint());
        leaf.verify_signed_by(ca.certificate()).unwrap();
        assert!(leaf.is_valid_at(START) && leaf.is_valid_at(START + 90 * DAY));
        assert!(!leaf.is_valid_at(START + 90 * DAY + std::time::Duration::from_secs(1)));
    }
}

#[test]
fn a_certificate_is_of_one_key_and_one_ca_only() {
    let ca = root(KeySpec::EcdsaP256);
    let sans = [dns("a.example")];
    let signed = ca
        .sign(&leaf_spec(
            "a.example",
            &sans,
            key(KeySpec::EcdsaP256),
            &serial(1),
        ))
        .unwrap();
    let leaf = ParsedCertificate::from_der(signed.der()).unwrap();
    let other = PrivateKey::generate(KeySpec::EcdsaP256).unwrap();
    assert!(!leaf.matches_key(&other));
    assert!(!leaf.matches_key(key(KeySpec::EcdsaP384)));

    // The same name under another key is another CA.
    let namesake = root(KeySpec::EcdsaP384);
    assert!(leaf.verify_signed_by(namesake.certificate()).is_err());
    let mut altered = signed.into_der();
    let place = altered.len() / 2;
    altered[place] ^= 1;
    if let Ok(altered) = ParsedCertificate::from_der(&altered) {
        assert!(altered.verify_signed_by(ca.certificate()).is_err());
    }
}

#[test]
fn times_from_2050_on_are_written_with_four_digits() {
    let end_of_2049 = Timestamp::from_seconds(2_524_607_999);
    let one_second = std::time::Duration::from_secs(1);
    for (not_after, marker) in [
        (end_of_2049, &b"\x17\x0d491231235959Z"[..]),
        (end_of_2049 + one_second, &b"\x18\x0f20500101000000Z"[..]),
    ] {
        let root = sign_root(
            &RootSpec {
                common_name: "Long",
                serial: &serial(1),
                not_before: START,
                not_after,
            },
            key(KeySpec::EcdsaP256),
        )
        .unwrap();
        assert!(
            root.der()
                .windows(marker.len())
                .any(|window| window == marker)
        );
        assert_eq!(
            ParsedCertificate::from_der(root.der()).unwrap().not_after(),
            not_after
        );
    }
}

#[test]
fn only_a_ca_with_its_own_key_signs() {
    let ca = root(KeySpec::EcdsaP256);
    let again = ca.certificate().clone();
    assert_eq!(
        CaSigner::new(again, copy_of(KeySpec::EcdsaP384)).unwrap_err(),
        Error::KeyMismatch
    );
    let sans = [dns("a.example")];
    let leaf = ca
        .sign(&leaf_spec(
            "a.example",
            &sans,
            key(KeySpec::EcdsaP256),
            &serial(1),
        ))
        .unwrap();
    let leaf = ParsedCertificate::from_der(leaf.der()).unwrap();
    assert!(matches!(
        CaSigner::new(leaf, copy_of(KeySpec::EcdsaP256)),
        Err(Error::NotACa { .. })
    ));
}

/// The usual leaf, which breaks no rule.
fn usual() -> CertificateSpec<'static> {
    static SANS: LazyLock<[SubjectAltName; 1]> = LazyLock::new(|| [dns("a.example")]);
    static SERIAL: LazyLock<SerialNumber> = LazyLock::new(|| serial(1));
    leaf_spec("a.example", &*SANS, key(KeySpec::EcdsaP256), &SERIAL)
}

/// The rules that forbid signing this.
fn broken(spec: &CertificateSpec<'_>) -> Vec<Rule> {
    match root(KeySpec::EcdsaP256).sign(spec) {
        Ok(_) => Vec::new(),
        Err(Error::Lint(findings)) => findings.iter().map(|finding| finding.rule).collect(),
        other => panic!("{other:?}"),
    }
}

#[test]
fn nothing_is_signed_that_breaks_a_rule() {
    assert_eq!(broken(&usual()), []);
    let serial = SerialNumber::parse("0102030405").unwrap();
    let bad = [dns("a.example"), dns("-bad-.example")];
    for (spec, rules) in [
        (
            CertificateSpec {
                serial: &serial,
                ..usual()
            },
            &[Rule::Serial][..],
        ),
        (
            CertificateSpec {
                not_after: START + 4000 * DAY,
                ..usual()
            },
            &[Rule::WithinIssuer],
        ),
        (
            CertificateSpec {
                not_after: Timestamp::from_seconds(1_700_000_000),
                ..usual()
            },
            &[Rule::ValidityOrder],
        ),
        (
            CertificateSpec {
                common_name: "b.example",
                ..usual()
            },
            &[Rule::CommonNameInSan],
        ),
        (
            CertificateSpec {
                sans: &[],
                ..usual()
            },
            &[Rule::SanForServers, Rule::CommonNameInSan],
        ),
        (
            CertificateSpec {
                ekus: &[],
                ..usual()
            },
            &[Rule::ExtendedKeyUsage],
        ),
        (
            CertificateSpec {
                sans: &bad,
                ..usual()
            },
            &[Rule::NamesWellFormed],
        ),
        (
            CertificateSpec {
                ca: Some(PathLength::Unbounded),
                common_name: "",
                ekus: &[],
                ..usual()
            },
            &[Rule::NamesWellFormed],
        ),
    ] {
        assert_eq!(broken(&spec), rules);
    }
}

#[test]
fn keys_of_other_kinds_are_refused_before_anything_is_made() {
    let ca = root(KeySpec::EcdsaP256);
    let sans = [dns("a.example")];
    let serial = serial(1);
    let spec = CertificateSpec {
        spki_der: b"no key",
        ..leaf_spec("a.example", &sans, key(KeySpec::EcdsaP256), &serial)
    };
    assert_eq!(ca.sign(&spec), Err(Error::Malformed { what: "public key" }));
}
