use std::sync::LazyLock;

use certctl_domain::{acme::ProblemType, key::KeySpec};
use certctl_pki::key::PrivateKey;
use proptest::prelude::*;
use serde_json::{Value, json};

use super::{Algorithm, FlatJws, KeyRef, MAX_BODY};
use crate::{base64url, client::Signer, jwk::Jwk};

const URL: &str = "https://ca.example/acme/new-order";
const KID: &str = "https://ca.example/acme/account/1";
const NONCE: &str = "AAAA";

static SIGNER: LazyLock<Signer> =
    LazyLock::new(|| Signer::new(PrivateKey::generate(KeySpec::EcdsaP256).unwrap()).unwrap());

fn jwk_value() -> Value {
    serde_json::from_str(&SIGNER.jwk().to_json()).unwrap()
}

/// A good header, changed.
fn header(change: impl FnOnce(&mut Value)) -> String {
    let mut header = json!({ "alg": "ES256", "kid": KID, "nonce": NONCE, "url": URL });
    change(&mut header);
    SIGNER.sign_header(&header, "{}").unwrap()
}

/// A good request, changed.
fn request(change: impl FnOnce(&mut Value)) -> String {
    let mut request: Value = serde_json::from_str(&header(|_| ())).unwrap();
    change(&mut request);
    request.to_string()
}

fn parse(body: &str) -> Result<FlatJws, ProblemType> {
    FlatJws::parse(body.as_bytes()).map_err(|problem| problem.kind)
}

fn remove(object: &mut Value, name: &str) {
    object.as_object_mut().unwrap().remove(name);
}

#[test]
fn a_good_request_goes_through_all_steps() {
    for spec in [
        KeySpec::EcdsaP256,
        KeySpec::EcdsaP384,
        KeySpec::Ed25519,
        KeySpec::Rsa2048,
    ] {
        let signer = Signer::new(PrivateKey::generate(spec).unwrap()).unwrap();
        let jws = parse(&signer.sign(KID, URL, NONCE, "{\"a\":1}").unwrap()).unwrap();
        assert_eq!(jws.algorithm(), signer.algorithm());
        assert_eq!(jws.check_url(URL), Ok(()));
        assert_eq!(jws.nonce(), Ok(NONCE));
        assert_eq!(jws.kid(), Ok(KID));
        assert_eq!(jws.verify(signer.jwk()), Ok(()), "{spec}");
        assert_eq!(jws.payload(), b"{\"a\":1}");
        let jws = parse(&signer.sign_with_jwk(URL, Some(NONCE), "").unwrap()).unwrap();
        assert_eq!(jws.jwk(), Ok(signer.jwk()));
        assert_eq!(jws.verify(jws.jwk().unwrap()), Ok(()));
        assert_eq!(jws.payload(), b"");
    }
}

/// Requests that others signed: RFC 7515 A.2 and A.3, RFC 8037 A.4.
#[test]
fn signatures_of_the_rfcs_verify() {
    const JOE: &str = "eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVlfQ";
    for (key, header, payload, signature) in [
        (
            r#"{"kty":"RSA","n":"ofgWCuLjybRlzo0tZWJjNiuSfb4p4fAkd_wWJcyQoTbji9k0l8W26mPddxHmfHQp-Vaw-4qPCJrcS2mJPMEzP1Pt0Bm4d4QlL-yRT-SFd2lZS-pCgNMsD1W_YpRPEwOWvG6b32690r2jZ47soMZo9wGzjb_7OMg0LOL-bSf63kpaSHSXndS5z5rexMdbBYUsLA9e-KXBdQOS-UTo7WTBEMa2R2CapHg665xsmtdVMTBQY4uDZlxvb3qCo5ZwKh9kG4LT6_I5IhlJH7aGhyxXFvUK-DWNmoudF8NAco9_h9iaGNj8q2ethFkMLs91kzk2PAcDTW9gb54h4FRWyuXpoQ","e":"AQAB"}"#,
            "eyJhbGciOiJSUzI1NiJ9",
            JOE,
            "cC4hiUPoj9Eetdgtv3hF80EGrhuB__dzERat0XF9g2VtQgr9PJbu3XOiZj5RZmh7AAuHIm4Bh-0Qc_lF5YKt_O8W2Fp5jujGbds9uJdbF9CUAr7t1dnZcAcQjbKBYNX4BAynRFdiuB--f_nZLgrnbyTyWzO75vRK5h6xBArLIARNPvkSjtQBMHlb1L07Qe7K0GarZRmB_eSN9383LcOLn6_dO--xi12jzDwusC-eOkHWEsqtFZESc6BfI7noOPqvhJ1phCnvWh6IeYI2w9QOYEUipUTI8np6LbgGY9Fs98rqVt5AXLIhWkWywlVmtVrBp0igcN_IoypGlUPQGe77Rw",
        ),
        (
            r#"{"kty":"EC","crv":"P-256","x":"f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU","y":"x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0"}"#,
            "eyJhbGciOiJFUzI1NiJ9",
            JOE,
            "DtEhU3ljbEg8L38VWAfUAqOyKAM6-Xx-F4GawxaepmXFCgfTjDxw5djxLa8ISlSApmWQxfKTUJqPP3-Kg6NU1Q",
        ),
        (
            r#"{"kty":"OKP","crv":"Ed25519","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}"#,
            "eyJhbGciOiJFZERTQSJ9",
            "RXhhbXBsZSBvZiBFZDI1NTE5IHNpZ25pbmc",
            "hgyY0il_MGCjP0JzlnLWG1PPOt7-09PGcvMg3AIbQR6dWbhijcNR4ki4iylGjg5BhVsPt9g7sVvpAr_MuM0KAg",
        ),
    ] {
        let key = Jwk::parse(key.as_bytes()).unwrap();
        let jws = json!({ "protected": header, "payload": payload, "signature": signature });
        assert_eq!(
            parse(&jws.to_string()).unwrap().verify(&key),
            Ok(()),
            "{header}"
        );
        let other = json!({ "protected": header, "payload": "", "signature": signature });
        assert!(
            parse(&other.to_string()).unwrap().verify(&key).is_err(),
            "{header}"
        );
    }
}

// Row 1: size and shape.

#[test]
fn row_1_a_request_above_64_kib_is_refused_unread() {
    let spaces = " ".repeat(MAX_BODY);
    let good = header(|_| ());
    let longest = format!("{}{good}", &spaces[good.len()..]);
    assert!(parse(&longest).is_ok());
    let problem = FlatJws::parse(format!(" {longest}").as_bytes()).unwrap_err();
    assert_eq!(
        (problem.kind, problem.status),
        (ProblemType::Malformed, 400)
    );
}

#[test]
fn row_1_whatever_is_not_a_flattened_jws_is_malformed() {
    for name in ["protected", "payload", "signature"] {
        let missing = request(|jws| remove(jws, name));
        assert_eq!(parse(&missing), Err(ProblemType::Malformed), "no {name}");
        let number = request(|jws| jws[name] = 7.into());
        assert_eq!(parse(&number), Err(ProblemType::Malformed), "{name}: 7");
        for bad in ["A", "AA==", "A+/A", "AB", "A A"] {
            let text = request(|jws| jws[name] = bad.into());
            assert_eq!(parse(&text), Err(ProblemType::Malformed), "{name}: {bad}");
        }
    }
    let compact = "eyJhbGciOiJFUzI1NiJ9.e30.AAAA";
    for body in ["", "null", "[]", "{}", "\"\"", compact, "{\"protected\":"] {
        assert_eq!(parse(body), Err(ProblemType::Malformed), "{body}");
    }
}

#[test]
fn row_1_two_signatures_are_malformed() {
    let good: Value = serde_json::from_str(&header(|_| ())).unwrap();
    let one = json!({ "protected": good["protected"], "signature": good["signature"] });
    let general = json!({ "payload": good["payload"], "signatures": [one, one] });
    assert_eq!(parse(&general.to_string()), Err(ProblemType::Malformed));
    let both = request(|jws| jws["signatures"] = json!([one]));
    assert_eq!(parse(&both), Err(ProblemType::Malformed));
    let null = request(|jws| jws["signatures"] = Value::Null);
    assert_eq!(parse(&null), Err(ProblemType::Malformed));
}

#[test]
fn row_1_an_unprotected_header_is_malformed() {
    for unprotected in [json!({ "kid": "other" }), json!({}), Value::Null] {
        let body = request(|jws| jws["header"] = unprotected);
        assert_eq!(parse(&body), Err(ProblemType::Malformed), "{body}");
    }
}

#[test]
fn row_1_a_member_that_occurs_twice_is_malformed() {
    let good = header(|_| ());
    let twice = good.replacen('{', "{\"payload\":\"e30\",", 1);
    assert_eq!(parse(&twice), Err(ProblemType::Malformed));
    let header = r#"{"alg":"ES256","alg":"ES256","kid":"k","nonce":"AAAA","url":"u"}"#;
    let body = request(|jws| jws["protected"] = base64url::encode(header).into());
    assert_eq!(parse(&body), Err(ProblemType::Malformed));
}

// Row 2: the algorithm.

#[test]
fn row_2_none_and_macs_are_bad_signature_algorithms() {
    for alg in [
        "none", "None", "", "HS256", "HS384", "HS512", "RS1", "RS384", "RS512", "PS256", "ES512",
        "ES256K", "es256", "Ed448", "dir",
    ] {
        let body = header(|header| header["alg"] = alg.into());
        assert_eq!(
            parse(&body),
            Err(ProblemType::BadSignatureAlgorithm),
            "{alg}"
        );
    }
}

#[test]
fn row_2_an_algorithm_that_is_no_text_is_malformed() {
    for alg in [Value::Null, 7.into(), json!(["ES256"])] {
        let body = header(|header| header["alg"] = alg);
        assert_eq!(parse(&body), Err(ProblemType::Malformed));
    }
    let body = header(|header| remove(header, "alg"));
    assert_eq!(parse(&body), Err(ProblemType::Malformed));
}

#[test]
fn row_2_names_of_algorithms_round_trip() {
    for algorithm in Algorithm::ALL {
        assert_eq!(Algorithm::parse(algorithm.as_str()), Some(algorithm));
    }
}

// Row 3: type and extensions.

#[test]
fn row_3_the_type_is_that_of_signed_requests_or_left_out() {
    for typ in ["application/jose+json", "jose+json", "JOSE+JSON"] {
        assert!(
            parse(&header(|header| header["typ"] = typ.into())).is_ok(),
            "{typ}"
        );
    }
    for typ in [json!("JWT"), json!("jose"), json!(""), json!(1)] {
        let body = header(|header| header["typ"] = typ);
        assert_eq!(parse(&body), Err(ProblemType::Malformed));
    }
}

#[test]
fn row_3_crit_and_b64_are_malformed() {
    for (name, value) in [
        ("crit", json!(["exp"])),
        ("crit", json!([])),
        ("crit", Value::Null),
        ("b64", json!(false)),
        ("b64", json!(true)),
    ] {
        let body = header(|header| header[name] = value.clone());
        assert_eq!(parse(&body), Err(ProblemType::Malformed), "{name}: {value}");
    }
}

// Row 4: the URL.

#[test]
fn row_4_the_url_is_the_one_that_was_asked_letter_for_letter() {
    let jws = parse(&header(|_| ())).unwrap();
    assert_eq!(jws.check_url(URL), Ok(()));
    for other in [
        "https://ca.example/acme/new-order/",
        "https://ca.example/acme/new-order?",
        "http://ca.example/acme/new-order",
        "https://CA.example/acme/new-order",
        "https://ca.example:443/acme/new-order",
        "",
    ] {
        let problem = jws.check_url(other).unwrap_err();
        assert_eq!(
            (problem.kind, problem.status),
            (ProblemType::Unauthorized, 401),
            "{other}"
        );
    }
}

#[test]
fn row_4_a_url_that_is_missing_or_no_text_is_unauthorized() {
    for url in [Value::Null, 7.into(), json!([URL]), "a".repeat(3000).into()] {
        let jws = parse(&header(|header| header["url"] = url)).unwrap();
        assert_eq!(
            jws.check_url(URL).unwrap_err().kind,
            ProblemType::Unauthorized
        );
    }
}

// Row 5: the nonce. What is in it is for [`crate::nonce`] to say.

#[test]
fn row_5_a_nonce_that_is_missing_is_a_bad_nonce() {
    for nonce in [None, Some(Value::Null)] {
        let jws = parse(&header(|header| match nonce {
            None => remove(header, "nonce"),
            Some(null) => header["nonce"] = null,
        }))
        .unwrap();
        assert_eq!(jws.nonce().unwrap_err().kind, ProblemType::BadNonce);
    }
}

#[test]
fn row_5_a_nonce_that_is_not_base64url_is_malformed() {
    for nonce in [
        json!("A"),
        json!("AA=="),
        json!("a b"),
        json!("+/+/"),
        json!(7),
    ] {
        let jws = parse(&header(|header| header["nonce"] = nonce)).unwrap();
        assert_eq!(jws.nonce().unwrap_err().kind, ProblemType::Malformed);
    }
}

// Row 6: who signed.

#[test]
fn row_6_there_is_exactly_one_of_kid_and_jwk() {
    let both = header(|header| header["jwk"] = jwk_value());
    let neither = header(|header| remove(header, "kid"));
    let null = header(|header| header["kid"] = Value::Null);
    let number = header(|header| header["kid"] = 7.into());
    let long = header(|header| header["kid"] = "k".repeat(3000).into());
    for body in [both, neither, null, number, long] {
        let jws = parse(&body).unwrap();
        assert_eq!(
            jws.key().unwrap_err().kind,
            ProblemType::Malformed,
            "{body}"
        );
        // A client with a bad nonce learns that first, so it is still there to be redeemed.
        assert_eq!(jws.nonce(), Ok(NONCE));
    }
}

#[test]
fn row_6_each_endpoint_says_which_of_the_two_it_wants() {
    let by_kid = parse(&header(|_| ())).unwrap();
    assert_eq!(by_kid.key(), Ok(&KeyRef::Kid(KID.to_owned())));
    assert_eq!(by_kid.jwk().unwrap_err().kind, ProblemType::Malformed);
    let by_jwk = parse(&SIGNER.sign_with_jwk(URL, Some(NONCE), "{}").unwrap()).unwrap();
    assert_eq!(by_jwk.key(), Ok(&KeyRef::Jwk(SIGNER.jwk().clone())));
    assert_eq!(by_jwk.kid().unwrap_err().kind, ProblemType::Malformed);
}

// Row 7: the key; its own table is in `jwk`.

#[test]
fn row_7_a_key_that_is_not_taken_is_a_bad_public_key_after_the_nonce() {
    let mut private = jwk_value();
    private["d"] = "AAAA".into();
    for jwk in [private, json!({}), json!({ "kty": "oct", "k": "AAAA" })] {
        let jws = parse(&header(|header| {
            remove(header, "kid");
            header["jwk"] = jwk;
        }))
        .unwrap();
        assert_eq!(jws.nonce(), Ok(NONCE));
        assert_eq!(jws.key().unwrap_err().kind, ProblemType::BadPublicKey);
    }
    let text = parse(&header(|header| {
        remove(header, "kid");
        header["jwk"] = "text".into();
    }));
    assert_eq!(
        text.unwrap().key().unwrap_err().kind,
        ProblemType::Malformed
    );
}

// Row 8 is `Urls::parse_kid` and the caller's, row 9 the caller's.

// Row 10: the signature.

#[test]
fn row_10_a_signature_that_does_not_verify_is_unauthorized() {
    let refused = |body: &str, key: &Jwk| {
        let problem = parse(body).unwrap().verify(key).unwrap_err();
        assert_eq!(
            (problem.kind, problem.status),
            (ProblemType::Unauthorized, 401),
            "{body}"
        );
    };
    for (name, text) in [
        ("payload", base64url::encode("{ }")),
        ("payload", String::new()),
        ("signature", String::new()),
        ("signature", base64url::encode([0; 64])),
        ("signature", base64url::encode([1; 65])),
    ] {
        refused(&request(|jws| jws[name] = text.into()), SIGNER.jwk());
    }
    let other = Signer::new(PrivateKey::generate(KeySpec::EcdsaP256).unwrap()).unwrap();
    refused(&header(|_| ()), other.jwk());
}

#[test]
fn row_10_the_algorithm_must_be_one_for_the_key() {
    for (spec, algs) in [
        (KeySpec::EcdsaP256, ["ES384", "RS256", "EdDSA"]),
        (KeySpec::EcdsaP384, ["ES256", "RS256", "EdDSA"]),
        (KeySpec::Ed25519, ["ES256", "ES384", "RS256"]),
        (KeySpec::Rsa2048, ["ES256", "ES384", "EdDSA"]),
    ] {
        let signer = Signer::new(PrivateKey::generate(spec).unwrap()).unwrap();
        for alg in algs {
            let header = json!({ "alg": alg, "kid": KID, "nonce": NONCE, "url": URL });
            let jws = parse(&signer.sign_header(&header, "{}").unwrap()).unwrap();
            assert!(jws.verify(signer.jwk()).is_err(), "{spec} {alg}");
        }
    }
}

#[test]
fn row_10_what_is_signed_is_the_text_that_was_sent_not_what_it_means() {
    let body = request(|jws| {
        let header = base64url::decode(jws["protected"].as_str().unwrap()).unwrap();
        let spaced = String::from_utf8(header).unwrap().replacen(':', ": ", 1);
        jws["protected"] = base64url::encode(spaced).into();
    });
    assert!(parse(&body).unwrap().verify(SIGNER.jwk()).is_err());
}

proptest! {
    #[test]
    fn reading_octets_never_panics(octets: Vec<u8>) {
        let _ = FlatJws::parse(&octets);
    }

    #[test]
    fn reading_almost_good_requests_never_panics(at in 0_usize..400, octet: u8) {
        let mut body = header(|_| ()).into_bytes();
        let at = at % body.len();
        body[at] = octet;
        if let Ok(jws) = FlatJws::parse(&body) {
            let _ = (jws.nonce(), jws.key(), jws.check_url(URL));
        }
    }

    #[test]
    fn no_bit_of_what_is_signed_may_change(bit in 0_usize..4096) {
        let mut request: Value = serde_json::from_str(&header(|_| ())).unwrap();
        let name = ["protected", "payload", "signature"][bit % 3];
        let mut octets = base64url::decode(request[name].as_str().unwrap()).unwrap();
        let bit = bit / 3 % (octets.len() * 8);
        octets[bit / 8] ^= 1 << (bit % 8);
        request[name] = base64url::encode(octets).into();
        let verified = FlatJws::parse(request.to_string().as_bytes()).and_then(|jws| jws.verify(SIGNER.jwk()));
        prop_assert!(verified.is_err());
    }
}
