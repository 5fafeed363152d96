use certctl_domain::{
    acme::{AcmeAccountId, ProblemType},
    id::ProfileId,
    key::KeySpec,
};
use certctl_pki::key::{KeyNumbers, PrivateKey, PublicKey};
use proptest::prelude::*;
use serde_json::{Value, json};

use super::{CorruptJwk, Jwk, PEM_LABEL, account_id};
use crate::base64url;

/// The example of RFC 7638 §3.1.
const RFC_7638: &str = r#"{"kty":"RSA","n":"0vx7agoebGcQSuuPiLJXZptN9nndrQmbXEps2aiAFbWhM78LhWx4cbbfAAtVT86zwu1RK7aPFFxuhDR1L6tSoc_BJECPebWKRXjBZCiFV4n3oknjhMstn64tZ_2W-5JsGY4Hc5n9yBXArwl93lqt7_RN5w6Cf0h4QyQ5v-65YGjQR0_FDW2QvzqY368QQMicAtaSqzs8KJZgnYb9c7d0zgdAZHzu6qMQvRL5hajrn1n91CbOpbISD08qNLyrdkt-bFTWhAI4vMQFh6WeZu0fM4lFd2NcRwr3XPksINHaQ-G_xBniIqbw0Ls1jF44-csFCur-kEgU8awapJzKnqDKgw","e":"AQAB","alg":"RS256","kid":"2011-04-29"}"#;

/// A key on P-256, of RFC 7517 A.1.
fn p256() -> Value {
    json!({
        "kty": "EC", "crv": "P-256",
        "x": "MKBCTNIcKUSDii11ySs3526iDZ8AiTo7Tu6KPAqv7D4",
        "y": "4Etl6SRW2YiLUrN5vfvVHuhp7x8PxltmWWlbbM4IFyM",
    })
}

fn with(mut jwk: Value, name: &str, value: impl Into<Value>) -> Value {
    jwk[name] = value.into();
    jwk
}

fn without(mut jwk: Value, name: &str) -> Value {
    jwk.as_object_mut().unwrap().remove(name);
    jwk
}

fn parse(jwk: &Value) -> Result<Jwk, ProblemType> {
    Jwk::parse(jwk.to_string().as_bytes()).map_err(|problem| problem.kind)
}

fn rsa(modulus: &[u8], exponent: &[u8]) -> Value {
    let (n, e) = (base64url::encode(modulus), base64url::encode(exponent));
    json!({ "kty": "RSA", "n": n, "e": e })
}

/// An odd modulus of so many bits; whether it has two factors nobody can see.
fn modulus(bits: usize) -> Vec<u8> {
    let mut octets = vec![0xff; bits.div_ceil(8)];
    octets[0] = 0xff >> (octets.len() * 8 - bits);
    octets
}

#[test]
fn the_thumbprint_is_that_of_rfc_7638() {
    let jwk = Jwk::parse(RFC_7638.as_bytes()).unwrap();
    assert_eq!(
        jwk.thumbprint(),
        "NzbLsXh8uDCcd-6MNwXF4W_7noWXFZAfHkxZsRGC9Xs"
    );
}

#[test]
fn the_thumbprint_of_ed25519_is_that_of_rfc_8037() {
    let jwk = r#"{"kty":"OKP","crv":"Ed25519","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}"#;
    assert_eq!(
        Jwk::parse(jwk.as_bytes()).unwrap().thumbprint(),
        "kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k"
    );
}

#[test]
fn every_kind_of_key_is_written_and_read_back() {
    for spec in [
        KeySpec::EcdsaP256,
        KeySpec::EcdsaP384,
        KeySpec::Ed25519,
        KeySpec::Rsa2048,
    ] {
        let key = PrivateKey::generate(spec).unwrap();
        let jwk = Jwk::of(key.public_key().clone()).unwrap();
        assert_eq!(
            Jwk::parse(jwk.to_json().as_bytes()),
            Ok(jwk.clone()),
            "{spec}"
        );
        assert_eq!(Jwk::from_pem(&jwk.to_pem()), Ok(jwk.clone()), "{spec}");
        assert!(jwk.is_key_of(key.spki_der()), "{spec}");
        let other = PrivateKey::generate(KeySpec::EcdsaP256).unwrap();
        assert!(!jwk.is_key_of(other.spki_der()), "{spec}");
    }
}

#[test]
fn the_thumbprint_does_not_depend_on_how_the_key_was_written() {
    let plain = parse(&p256()).unwrap();
    let adorned = with(with(with(p256(), "use", "sig"), "kid", "1"), "alg", "ES256");
    assert_eq!(parse(&adorned).unwrap().thumbprint(), plain.thumbprint());
    assert_eq!(
        plain.to_json(),
        r#"{"crv":"P-256","kty":"EC","x":"MKBCTNIcKUSDii11ySs3526iDZ8AiTo7Tu6KPAqv7D4","y":"4Etl6SRW2YiLUrN5vfvVHuhp7x8PxltmWWlbbM4IFyM"}"#
    );
}

#[test]
fn a_private_key_is_refused() {
    for name in ["d", "p", "q", "dp", "dq", "qi", "oth", "k"] {
        let private = with(p256(), name, "AQAB");
        assert_eq!(parse(&private), Err(ProblemType::BadPublicKey), "{name}");
    }
}

#[test]
fn kinds_and_curves_that_are_not_taken_are_bad_public_keys() {
    let coordinate = base64url::encode([1; 66]);
    for bad in [
        json!({}),
        json!({ "kty": 7 }),
        json!({ "kty": "oct", "k": "AAAA" }),
        json!({ "kty": "ec" }),
        json!({ "kty": "OKP", "crv": "X25519", "x": base64url::encode([9; 32]) }),
        json!({ "kty": "OKP", "crv": "Ed448", "x": base64url::encode([9; 57]) }),
        json!({ "kty": "OKP", "crv": "Ed25519", "x": base64url::encode([9; 31]) }),
        json!({ "kty": "EC", "crv": "P-521", "x": coordinate, "y": coordinate }),
        json!({ "kty": "OKP", "crv": "Ed25519", "x": base64url::encode([0; 32]) }),
        with(p256(), "crv", "secp256k1"),
        with(p256(), "crv", "P-384"),
        with(p256(), "use", "enc"),
        with(p256(), "x", "not base64url!"),
        without(p256(), "x"),
        without(p256(), "y"),
        without(p256(), "crv"),
    ] {
        assert_eq!(parse(&bad), Err(ProblemType::BadPublicKey), "{bad}");
    }
    assert_eq!(Jwk::parse(b"[]").unwrap_err().kind, ProblemType::Malformed);
}

#[test]
fn a_point_must_be_on_its_curve_and_written_in_full() {
    let moved = with(p256(), "y", "4Etl6SRW2YiLUrN5vfvVHuhp7x8PxltmWWlbbM4IFyI");
    let zero = base64url::encode([0; 32]);
    let infinity = with(with(p256(), "x", zero.clone()), "y", zero);
    let beyond_the_field = with(p256(), "x", base64url::encode([0xff; 32]));
    let padded = {
        let x = base64url::decode(p256()["x"].as_str().unwrap()).unwrap();
        with(p256(), "x", base64url::encode([&[0], &x[..]].concat()))
    };
    for bad in [moved, infinity, beyond_the_field, padded] {
        assert_eq!(parse(&bad), Err(ProblemType::BadPublicKey), "{bad}");
    }
}

#[test]
fn rsa_keys_have_2048_to_8192_bits() {
    const E: [u8; 3] = [1, 0, 1];
    for bits in [2048, 2049, 3072, 8192] {
        assert!(parse(&rsa(&modulus(bits), &E)).is_ok(), "{bits}");
    }
    for bits in [8, 512, 1024, 2047, 8193, 16384] {
        let refused = parse(&rsa(&modulus(bits), &E));
        assert_eq!(refused, Err(ProblemType::BadPublicKey), "{bits}");
    }
}

#[test]
fn weak_rsa_numbers_are_refused() {
    let good = modulus(2048);
    let even = [&good[..255], &[0xfe]].concat();
    let zero_in_front = [&[0], &good[..]].concat();
    for (n, e) in [
        (&good, &[3][..]),
        (&good, &[1]),
        (&good, &[]),
        (&good, &[0, 1, 0, 1]),
        (&good, &[1, 0, 0]),
        (&good, &[1; 9]),
        (&even, &[1, 0, 1]),
        (&zero_in_front, &[1, 0, 1]),
        (&vec![], &[1, 0, 1]),
        (&vec![0], &[1, 0, 1]),
    ] {
        assert_eq!(parse(&rsa(n, e)), Err(ProblemType::BadPublicKey), "{e:?}");
    }
}

#[test]
fn a_key_with_a_member_twice_is_malformed() {
    let twice = br#"{"kty":"EC","kty":"EC","crv":"P-256","x":"","y":""}"#;
    assert_eq!(Jwk::parse(twice).unwrap_err().kind, ProblemType::Malformed);
}

#[test]
fn what_was_kept_is_read_strictly() {
    let pem = parse(&p256()).unwrap().to_pem();
    assert!(pem.starts_with(&format!("-----BEGIN {PEM_LABEL}-----\n")));
    assert!(pem.lines().all(|line| line.len() <= 64));
    for corrupt in [
        String::new(),
        pem.replace(PEM_LABEL, "PUBLIC KEY"),
        pem.repeat(2),
        pem[..pem.len() - 20].to_owned(),
    ] {
        assert_eq!(Jwk::from_pem(&corrupt), Err(CorruptJwk));
    }
}

#[test]
fn one_key_has_an_account_on_each_profile() {
    let profile = |id| ProfileId::parse(id).unwrap();
    let one = account_id(&profile("a"), "thumb");
    assert_ne!(one, account_id(&profile("b"), "thumb"));
    assert_ne!(
        account_id(&profile("ab"), "c"),
        account_id(&profile("a"), "bc")
    );
    assert_eq!(AcmeAccountId::parse(one.as_str()), Some(one));
}

proptest! {
    #[test]
    fn whatever_key_is_read_has_one_text(seed in prop::array::uniform32(any::<u8>())) {
        let public = PublicKey::from_numbers(KeyNumbers::Ed25519 { x: &seed }).unwrap();
        let Ok(jwk) = Jwk::of(public) else { return Ok(()) };
        prop_assert_eq!(Jwk::parse(jwk.to_json().as_bytes()), Ok(jwk));
    }

    #[test]
    fn reading_never_panics(text in r#"\{("(kty|crv|x|y|n|e)":("(EC|RSA|OKP|P-256|Ed25519|[A-Za-z0-9_=-]{0,50})"|[0-9]{1,20}|null),?){0,6}\}"#) {
        let _ = Jwk::parse(text.as_bytes());
    }
}
