use certctl_domain::{acme::ProblemType, key::KeySpec};
use certctl_pki::key::PrivateKey;
use ring::hmac;
use serde_json::{Value, json};

use super::Binding;
use crate::{base64url, client::Signer, json::Object};

const URL: &str = "https://ca.example/acme/new-account";
const KEY: &[u8] = b"a key of an operator";

fn signer() -> Signer {
    Signer::new(PrivateKey::generate(KeySpec::EcdsaP256).unwrap()).unwrap()
}

fn verify(binding: &Value, mac_key: &[u8], url: &str, signer: &Signer) -> Result<(), ProblemType> {
    let text = binding.to_string();
    Binding::parse(&Object::parse(text.as_bytes(), "it").unwrap())
        .and_then(|binding| binding.verify(mac_key, url, signer.jwk()))
        .map_err(|problem| problem.kind)
}

/// A binding with a header and a payload of choice, made with [`KEY`].
fn binding(header: &Value, payload: &str) -> Value {
    let (header, payload) = (
        base64url::encode(header.to_string()),
        base64url::encode(payload),
    );
    let key = hmac::Key::new(hmac::HMAC_SHA256, KEY);
    let tag = hmac::sign(&key, format!("{header}.{payload}").as_bytes());
    json!({ "protected": header, "payload": payload, "signature": base64url::encode(tag) })
}

#[test]
fn a_binding_of_the_key_to_the_account_key_verifies() {
    let signer = signer();
    let binding = signer.bind("kid-1", KEY, URL);
    assert_eq!(verify(&binding, KEY, URL, &signer), Ok(()));
    let text = binding.to_string();
    let read = Binding::parse(&Object::parse(text.as_bytes(), "it").unwrap()).unwrap();
    assert_eq!(read.kid().as_str(), "kid-1");
}

#[test]
fn the_account_key_is_compared_by_what_it_is() {
    let signer = signer();
    let header = json!({ "alg": "HS256", "kid": "kid-1", "url": URL });
    let mut jwk: Value = serde_json::from_str(&signer.jwk().to_json()).unwrap();
    jwk["use"] = "sig".into();
    let spaced = serde_json::to_string_pretty(&jwk).unwrap();
    assert_eq!(
        verify(&binding(&header, &spaced), KEY, URL, &signer),
        Ok(())
    );
}

#[test]
fn whatever_is_not_as_it_should_be_is_unauthorized() {
    let signer = signer();
    let good = signer.bind("kid-1", KEY, URL);
    let unauthorized = Err(ProblemType::Unauthorized);
    assert_eq!(verify(&good, b"another key", URL, &signer), unauthorized);
    assert_eq!(verify(&good, b"", URL, &signer), unauthorized);
    assert_eq!(
        verify(&good, KEY, "https://ca.example/acme/other", &signer),
        unauthorized
    );
    let other = Signer::new(PrivateKey::generate(KeySpec::EcdsaP256).unwrap()).unwrap();
    assert_eq!(verify(&good, KEY, URL, &other), unauthorized);
    let mut cut = good.clone();
    cut["signature"] = base64url::encode([0; 31]).into();
    assert_eq!(verify(&cut, KEY, URL, &signer), unauthorized);
    // A key that is empty protects nothing, whatever it verifies.
    let by_nobody = signer.bind("kid-1", b"", URL);
    assert_eq!(verify(&by_nobody, b"", URL, &signer), unauthorized);
}

#[test]
fn headers_that_are_no_header_of_a_binding_are_unauthorized() {
    let signer = signer();
    let jwk = signer.jwk().to_json();
    for (name, value) in [
        ("alg", json!("none")),
        ("alg", json!("HS512")),
        ("alg", json!("ES256")),
        ("alg", Value::Null),
        ("kid", Value::Null),
        ("kid", json!("")),
        ("kid", json!("a b")),
        ("url", Value::Null),
        ("nonce", json!("AAAA")),
        ("jwk", json!({})),
    ] {
        let mut header = json!({ "alg": "HS256", "kid": "kid-1", "url": URL });
        header[name] = value.clone();
        let refused = verify(&binding(&header, &jwk), KEY, URL, &signer);
        assert_eq!(refused, Err(ProblemType::Unauthorized), "{name}: {value}");
    }
}

#[test]
fn payloads_that_are_no_key_are_unauthorized() {
    let signer = signer();
    let header = json!({ "alg": "HS256", "kid": "kid-1", "url": URL });
    for payload in ["", "{}", "null", "{\"kty\":\"oct\",\"k\":\"AAAA\"}"] {
        let refused = verify(&binding(&header, payload), KEY, URL, &signer);
        assert_eq!(refused, Err(ProblemType::Unauthorized), "{payload}");
    }
}

#[test]
fn what_is_no_jws_is_malformed() {
    let signer = signer();
    for name in ["protected", "payload", "signature"] {
        let mut missing = signer.bind("kid-1", KEY, URL);
        missing.as_object_mut().unwrap().remove(name);
        assert_eq!(
            verify(&missing, KEY, URL, &signer),
            Err(ProblemType::Malformed),
            "{name}"
        );
    }
    let mut unprotected = signer.bind("kid-1", KEY, URL);
    unprotected["header"] = json!({});
    assert_eq!(
        verify(&unprotected, KEY, URL, &signer),
        Err(ProblemType::Malformed)
    );
    let header = json!({ "alg": "HS256", "kid": "kid-1", "url": URL, "crit": ["x"] });
    let critical = binding(&header, &signer.jwk().to_json());
    assert_eq!(
        verify(&critical, KEY, URL, &signer),
        Err(ProblemType::Malformed)
    );
}
