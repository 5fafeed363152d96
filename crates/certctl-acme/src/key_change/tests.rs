use certctl_domain::{acme::ProblemType, key::KeySpec};
use certctl_pki::key::PrivateKey;
use serde_json::{Value, json};

use super::{Outer, verify};
use crate::{client::Signer, jwk::Jwk};

const URL: &str = "https://ca.example/acme/key-change";
const KID: &str = "https://ca.example/acme/account/1";

fn signer(spec: KeySpec) -> Signer {
    Signer::new(PrivateKey::generate(spec).unwrap()).unwrap()
}

struct Change {
    old: Signer,
    new: Signer,
}

impl Change {
    fn new() -> Self {
        Self {
            old: signer(KeySpec::EcdsaP256),
            new: signer(KeySpec::EcdsaP384),
        }
    }

    fn jwk(signer: &Signer) -> Value {
        serde_json::from_str(&signer.jwk().to_json()).unwrap()
    }

    /// What a good inner request says, changed.
    fn inner(&self, header: impl FnOnce(&mut Value), payload: impl FnOnce(&mut Value)) -> String {
        let mut head = json!({ "alg": "ES384", "jwk": Self::jwk(&self.new), "url": URL });
        let mut body = json!({ "account": KID, "oldKey": Self::jwk(&self.old) });
        header(&mut head);
        payload(&mut body);
        self.new.sign_header(&head, &body.to_string()).unwrap()
    }

    fn verify(&self, inner: &str) -> Result<Jwk, (ProblemType, u16)> {
        verify(Outer {
            payload: inner.as_bytes(),
            url: URL,
            kid: KID,
            thumbprint: &self.old.jwk().thumbprint(),
        })
        .map_err(|problem| (problem.kind, problem.status))
    }
}

const MALFORMED: (ProblemType, u16) = (ProblemType::Malformed, 400);
const UNAUTHORIZED: (ProblemType, u16) = (ProblemType::Unauthorized, 401);

#[test]
fn a_good_change_gives_the_new_key() {
    let change = Change::new();
    let inner = change.new.change_from(change.old.jwk(), KID, URL).unwrap();
    assert_eq!(change.verify(&inner), Ok(change.new.jwk().clone()));
}

#[test]
fn an_inner_nonce_is_passed_over() {
    let change = Change::new();
    let inner = change.inner(|header| header["nonce"] = "AAAA".into(), |_| ());
    assert!(change.verify(&inner).is_ok());
}

#[test]
fn an_inner_request_that_is_none_is_malformed() {
    let change = Change::new();
    let by_kid = change.new.sign(KID, URL, "AAAA", "{}").unwrap();
    let neither = change.inner(|header| header["jwk"] = Value::Null, |_| ());
    let both = change.inner(|header| header["kid"] = KID.into(), |_| ());
    for inner in ["", "{}", "[]", &by_kid, &neither, &both] {
        assert_eq!(change.verify(inner), Err(MALFORMED), "{inner}");
    }
}

#[test]
fn an_inner_algorithm_or_key_that_is_not_taken_is_named_as_such() {
    let change = Change::new();
    for alg in ["none", "HS256"] {
        let inner = change.inner(|header| header["alg"] = alg.into(), |_| ());
        assert_eq!(
            change.verify(&inner),
            Err((ProblemType::BadSignatureAlgorithm, 400))
        );
    }
    let inner = change.inner(|header| header["jwk"]["crv"] = "P-521".into(), |_| ());
    assert_eq!(change.verify(&inner), Err((ProblemType::BadPublicKey, 400)));
}

#[test]
fn the_inner_url_is_the_outer_one() {
    let change = Change::new();
    for url in [
        json!("https://ca.example/acme/profile/p/key-change"),
        json!(""),
        Value::Null,
    ] {
        let inner = change.inner(|header| header["url"] = url, |_| ());
        assert_eq!(change.verify(&inner), Err(UNAUTHORIZED));
    }
}

#[test]
fn the_inner_signature_is_made_with_the_new_key() {
    let change = Change::new();
    let other = signer(KeySpec::EcdsaP384);
    let inner = change.inner(|header| header["jwk"] = Change::jwk(&other), |_| ());
    assert_eq!(change.verify(&inner), Err(UNAUTHORIZED));
}

#[test]
fn the_account_is_the_one_that_asks() {
    let change = Change::new();
    for account in [json!("https://ca.example/acme/account/2"), Value::Null] {
        let inner = change.inner(|_| (), |payload| payload["account"] = account);
        assert_eq!(change.verify(&inner), Err(MALFORMED));
    }
}

#[test]
fn the_old_key_is_the_one_the_account_has() {
    let change = Change::new();
    let inner = change.inner(
        |_| (),
        |payload| payload["oldKey"] = Change::jwk(&change.new),
    );
    assert_eq!(change.verify(&inner), Err(UNAUTHORIZED));
    for bad in [Value::Null, json!({}), json!("text")] {
        let inner = change.inner(|_| (), |payload| payload["oldKey"] = bad);
        assert_eq!(change.verify(&inner), Err(MALFORMED));
    }
}
