//! Keys are written, read, and sign.

use certctl_domain::key::{KeyAlgorithm, KeySpec};
use certctl_pki::{
    Error,
    key::{PrivateKey, PublicKey, SignatureAlgorithm},
    pem,
};

use super::key;

#[test]
fn every_kind_of_key_is_written_read_and_signs() {
    for spec in KeySpec::ALL {
        let key = key(*spec);
        assert_eq!(key.spec(), *spec);
        assert_eq!(
            (key.algorithm(), key.bits()),
            (spec.algorithm(), spec.bits())
        );

        let again = PrivateKey::from_pem(key.to_pem().expose()).unwrap();
        assert_eq!(again.spec(), *spec);
        assert_eq!(again.spki_der(), key.spki_der());
        assert_eq!(again.to_pem().expose(), key.to_pem().expose());

        let public = PublicKey::from_spki_der(key.spki_der()).unwrap();
        assert_eq!(&public, key.public_key());
        assert_eq!(
            (public.algorithm(), public.bits()),
            (spec.algorithm(), spec.bits())
        );
        public.check_strength().unwrap();

        let signature = again.sign(b"message").unwrap();
        let algorithm = key.signature_algorithm();
        public.verify(algorithm, b"message", &signature).unwrap();
        assert_eq!(
            public.verify(algorithm, b"massage", &signature),
            Err(Error::BadSignature)
        );
    }
}

#[test]
fn files_carry_the_labels_that_the_contract_names() {
    for (spec, label) in [
        (KeySpec::EcdsaP256, "EC PRIVATE KEY"),
        (KeySpec::EcdsaP384, "EC PRIVATE KEY"),
        (KeySpec::Rsa2048, "PRIVATE KEY"),
        (KeySpec::Ed25519, "PRIVATE KEY"),
    ] {
        let text = key(spec).to_pem();
        assert!(
            text.expose()
                .starts_with(&format!("-----BEGIN {label}-----\n")),
            "{spec}"
        );
    }
}

#[test]
fn debug_shows_the_kind_and_nothing_else() {
    for spec in KeySpec::ALL {
        assert_eq!(
            format!("{:?}", key(*spec)),
            format!("PrivateKey({spec}, <redacted>)")
        );
    }
}

#[test]
fn a_key_verifies_no_signature_of_another_algorithm() {
    for spec in KeySpec::ALL {
        let key = key(*spec);
        let signature = key.sign(b"m").unwrap();
        for algorithm in [
            SignatureAlgorithm::EcdsaSha256,
            SignatureAlgorithm::EcdsaSha384,
            SignatureAlgorithm::RsaSha256,
            SignatureAlgorithm::RsaSha384,
            SignatureAlgorithm::RsaSha512,
            SignatureAlgorithm::Ed25519,
        ] {
            assert_eq!(
                key.public_key().verify(algorithm, b"m", &signature).is_ok(),
                algorithm == key.signature_algorithm(),
                "{spec} {algorithm:?}"
            );
        }
    }
}

/// As Java and some HSM tools write them: no public key, and for SEC1 without it the scalar is all there is.
#[test]
fn elliptic_keys_without_their_public_half_are_completed() {
    for (spec, octets) in [(KeySpec::EcdsaP256, 32), (KeySpec::EcdsaP384, 48)] {
        let key = key(spec);
        let text = key.to_pem();
        let der = pem::decode_all(text.expose()).unwrap().remove(0).der;
        // SEQUENCE { version, privateKey, [0] curve, [1] public key }: cut the last element off and mend the length.
        let header = if der[1] == 0x81 { 3 } else { 2 };
        let curve = if octets == 32 { 12 } else { 9 };
        let kept = 3 + 2 + octets + curve;
        let mut short = vec![0x30, u8::try_from(kept).unwrap()];
        short.extend_from_slice(&der[header..header + kept]);
        let again = PrivateKey::from_pem(&pem::encode("EC PRIVATE KEY", &short)).unwrap();
        assert_eq!(again.spki_der(), key.spki_der(), "{spec}");
    }
}

#[test]
fn a_public_half_of_another_key_is_refused() {
    let (one, other) = (
        key(KeySpec::EcdsaP256),
        PrivateKey::generate(KeySpec::EcdsaP256).unwrap(),
    );
    let text = one.to_pem();
    let mut der = pem::decode_all(text.expose())
        .unwrap()
        .remove(0)
        .der
        .to_vec();
    let point = der.len() - 65;
    der[point..].copy_from_slice(&other.spki_der()[other.spki_der().len() - 65..]);
    assert_eq!(
        PrivateKey::from_pem(&pem::encode("EC PRIVATE KEY", &der)).unwrap_err(),
        Error::Malformed {
            what: "private key"
        }
    );
}

#[test]
fn texts_without_exactly_one_private_key_are_refused() {
    let two = format!(
        "{}{}",
        key(KeySpec::Ed25519).to_pem().expose(),
        key(KeySpec::EcdsaP256).to_pem().expose()
    );
    for text in ["", "no key", &pem::encode("CERTIFICATE", b"x"), &two] {
        assert_eq!(
            PrivateKey::from_pem(text).unwrap_err(),
            Error::NotPem {
                expected: "PRIVATE KEY"
            }
        );
    }
    let encrypted = pem::encode("ENCRYPTED PRIVATE KEY", b"x");
    assert!(matches!(
        PrivateKey::from_pem(&encrypted),
        Err(Error::UnsupportedKey { .. })
    ));
}

#[test]
fn a_cut_or_altered_key_is_refused_and_never_taken_for_another() {
    for spec in [KeySpec::EcdsaP256, KeySpec::Ed25519, KeySpec::Rsa2048] {
        let text = key(spec).to_pem();
        let block = pem::decode_all(text.expose()).unwrap().remove(0);
        let cut = pem::encode(&block.label, &block.der[..block.der.len() - 1]);
        assert!(PrivateKey::from_pem(&cut).is_err(), "{spec}");
        let long = pem::encode(&block.label, &[&block.der[..], &[0]].concat());
        assert!(PrivateKey::from_pem(&long).is_err(), "{spec}");
    }
}

#[test]
fn rsa_that_must_not_be_certified_is_weak() {
    let modulus = |bits: usize, last: u8| {
        let mut octets = vec![0xc5; bits / 8];
        *octets.last_mut().unwrap() = last;
        octets
    };
    let strength = |modulus: &[u8], exponent: &[u8]| {
        let key = PublicKey::from_spki_der(&rsa_spki(modulus, exponent))?;
        assert_eq!(key.algorithm(), KeyAlgorithm::Rsa);
        key.check_strength()
    };
    let f4: &[u8] = &[1, 0, 1];
    assert_eq!(strength(&modulus(2048, 1), f4), Ok(()));
    let is_weak = |result| matches!(result, Err(Error::WeakKey { .. }));
    assert!(is_weak(strength(&[0], f4)));
    assert!(is_weak(strength(&modulus(1024, 1), f4)));
    assert!(is_weak(strength(&modulus(2040, 1), f4)));
    assert!(is_weak(strength(&modulus(2048, 2), f4)));
    assert!(is_weak(strength(&modulus(2048, 1), &[3])));
    assert!(is_weak(strength(&modulus(2048, 1), &[1, 0, 0])));
    let is_unsupported = |result| matches!(result, Err(Error::UnsupportedKey { .. }));
    assert!(is_unsupported(strength(
        &modulus(2048, 1),
        &[1, 0, 0, 0, 0, 1]
    )));
    assert!(is_unsupported(strength(&modulus(8200, 1), f4)));
}

/// A `SubjectPublicKeyInfo` put together by hand, since no library makes weak ones.
fn rsa_spki(modulus: &[u8], exponent: &[u8]) -> Vec<u8> {
    let wrap = |tag: u8, body: &[u8]| {
        let length = u16::try_from(body.len()).unwrap().to_be_bytes();
        [&[tag, 0x82][..], &length, body].concat()
    };
    // DER wants the shortest length, so short bodies get the one-octet form.
    let der = |tag: u8, body: &[u8]| match body.len() {
        0..=127 => [&[tag, u8::try_from(body.len()).unwrap()][..], body].concat(),
        128..=255 => [&[tag, 0x81, u8::try_from(body.len()).unwrap()][..], body].concat(),
        _ => wrap(tag, body),
    };
    let integer = |octets: &[u8]| {
        if octets[0] >= 0x80 {
            der(0x02, &[&[0], octets].concat())
        } else {
            der(0x02, octets)
        }
    };
    let key = der(0x30, &[integer(modulus), integer(exponent)].concat());
    let algorithm = [
        0x30, 0x0d, 0x06, 0x09, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x01, 0x05, 0x00,
    ];
    let bits = der(0x03, &[&[0], &key[..]].concat());
    der(0x30, &[&algorithm[..], &bits].concat())
}
