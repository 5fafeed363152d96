//! What is done with each input: it is read, and whatever is taken must keep what its reader promises.
//!
//! Every function says whether the input was taken. The fuzzer does not care; the test that replays the corpus does
//! (`crates/certctl-acme/tests/corpus.rs`, which compiles this file too).

use std::sync::LazyLock;
use std::time::Duration;

use certctl_acme::{
    ari::CertId,
    base64url,
    csr::check,
    jwk::Jwk,
    jws::{FlatJws, KeyRef, MAX_BODY},
    key_change::{self, Outer},
    nonce::NonceMint,
    payload::{
        AccountUpdate, AuthorizationUpdate, ChallengeResponse, Finalize, MAX_CONTACTS,
        MAX_IDENTIFIERS, NewAccount, NewOrder, Revocation,
    },
};
use certctl_domain::{acme::Identifier, key::KeySpec, name::SubjectAltName, time::Timestamp};
use certctl_pki::{csr::Csr, key::PrivateKey};

/// A signed request, and a key change or whatever else it may carry.
pub fn jws(data: &[u8]) -> bool {
    let Ok(jws) = FlatJws::parse(data) else {
        return false;
    };
    assert!(data.len() <= MAX_BODY);
    let nonce = jws.nonce();
    if let Ok(nonce) = nonce {
        assert!(base64url::decode(nonce).is_ok());
        open(nonce);
    }
    payload(jws.payload());
    let outer = Outer {
        payload: jws.payload(),
        url: jws.url().unwrap_or_default(),
        kid: jws.kid().unwrap_or_default(),
        thumbprint: "",
    };
    assert!(key_change::verify(outer).is_err(), "no key has this print");
    nonce.is_ok()
        && jws.key().is_ok_and(|key| match key {
            KeyRef::Jwk(key) => jws.verify(key).is_ok(),
            KeyRef::Kid(_) => true,
        })
}

/// Only what the mint itself made is opened.
fn open(nonce: &str) {
    static MINT: LazyLock<NonceMint> =
        LazyLock::new(|| NonceMint::new(&[7; 32], Duration::from_secs(300)));
    let now = Timestamp::from_seconds(1_790_000_000);
    if let Ok(sealed) = MINT.open(nonce, now) {
        assert_eq!(MINT.mint(sealed.minted_at, sealed.id), nonce);
    }
}

/// A public key.
pub fn jwk(data: &[u8]) -> bool {
    let Ok(jwk) = Jwk::parse(data) else {
        return false;
    };
    assert_eq!(Jwk::parse(jwk.to_json().as_bytes()).as_ref(), Ok(&jwk));
    assert_eq!(Jwk::from_pem(&jwk.to_pem()).as_ref(), Ok(&jwk));
    assert!(jwk.is_key_of(jwk.spki_der()));
    assert_eq!(jwk.thumbprint().len(), 43);
    true
}

/// What signed requests carry.
pub fn payload(data: &[u8]) -> bool {
    let account = NewAccount::parse(data);
    if let Ok(account) = &account {
        assert!(account.contact.len() <= MAX_CONTACTS);
        for contact in &account.contact {
            assert!(!contact.contains([',', '?', '%', ' ', '\r', '\n', '"']));
        }
    }
    let order = NewOrder::parse(data);
    match &order {
        Ok(order) => {
            assert!((1..=MAX_IDENTIFIERS).contains(&order.identifiers.len()));
            assert!(order.identifiers.is_sorted());
            for one in &order.identifiers {
                let kind = one.identifier_type().as_str();
                assert_eq!(
                    Identifier::from_stored(kind, &one.to_string()).as_ref(),
                    Some(one)
                );
            }
        }
        Err(problem) => assert!(problem.subproblems.len() <= MAX_IDENTIFIERS),
    }
    let _ = AccountUpdate::parse(data);
    let _ = AuthorizationUpdate::parse(data);
    let _ = ChallengeResponse::parse(data);
    let revocation = Revocation::parse(data);
    let finalize = Finalize::parse(data);
    account.is_ok() || order.is_ok() || revocation.is_ok() || finalize.is_ok()
}

/// A signing request, byte for byte.
pub fn csr(data: &[u8]) -> bool {
    let Ok(csr) = Csr::parse_der(data) else {
        assert!(check(data, &[], ACCOUNT.spki_der()).is_err());
        return false;
    };
    assert_eq!(Csr::parse_pem(&csr.to_pem()).as_ref(), Ok(&csr));
    let Some(asked) = identifiers(&csr) else {
        return false;
    };
    if csr.public_key().is_same_key(ACCOUNT.public_key()) || asked.is_empty() {
        return false;
    }
    assert!(check(data, &asked, ACCOUNT.spki_der()).is_ok());
    assert!(check(data, &asked[1..], ACCOUNT.spki_der()).is_err());
    assert!(check(data, &asked, csr.spki_der()).is_err());
    true
}

static ACCOUNT: LazyLock<PrivateKey> = LazyLock::new(key);
static KEY: LazyLock<PrivateKey> = LazyLock::new(key);

fn key() -> PrivateKey {
    PrivateKey::generate(KeySpec::Ed25519).expect("the machine has randomness")
}

/// What an order would have to have; none when no order can.
fn identifiers(csr: &Csr) -> Option<Vec<Identifier>> {
    let mut all = Vec::new();
    for san in csr.sans() {
        match san {
            SubjectAltName::Dns(name) => all.push(Identifier::dns(name).ok()?),
            SubjectAltName::Ip(ip) => all.push(Identifier::Ip(*ip)),
            SubjectAltName::Email(_) | SubjectAltName::Uri(_) => return None,
        }
    }
    if let Some(name) = csr.common_name() {
        let ip = name.parse().map(Identifier::Ip).ok();
        all.push(ip.or_else(|| Identifier::dns(name).ok())?);
    }
    all.sort();
    all.dedup();
    Some(all)
}

/// A signing request of this subject and these attributes, signed anew each time: no fuzzer finds a signature, and what is in a
/// request is only looked at when its signature is good. The first octet is the length of the subject's content.
pub fn csr_fields(data: &[u8]) -> bool {
    let Some((length, rest)) = data.split_first() else {
        return false;
    };
    let (subject, attributes) = rest.split_at(rest.len().min(usize::from(*length)));
    let info = tlv(
        0x30,
        &[
            &[2, 1, 0],
            &tlv(0x30, &[subject]),
            KEY.spki_der(),
            &tlv(0xa0, &[attributes]),
        ],
    );
    let signature = KEY.sign(&info).expect("Ed25519 signs everything");
    let request = tlv(
        0x30,
        &[
            &info,
            KEY.signature_algorithm().to_der(),
            &tlv(3, &[&[0], &signature]),
        ],
    );
    csr(&request)
}

/// One tag, length and value of DER.
fn tlv(tag: u8, parts: &[&[u8]]) -> Vec<u8> {
    let value = parts.concat();
    let mut out = vec![tag];
    if value.len() < 0x80 {
        out.push(value.len() as u8);
    } else {
        let length = value.len().to_be_bytes();
        let skipped = value.len().leading_zeros() as usize / 8;
        out.push(0x80 | (length.len() - skipped) as u8);
        out.extend_from_slice(&length[skipped..]);
    }
    out.extend_from_slice(&value);
    out
}

/// The id of a certificate whose renewal is asked about.
pub fn ari_id(data: &[u8]) -> bool {
    let Ok(text) = str::from_utf8(data) else {
        return false;
    };
    let Ok(id) = CertId::parse(text) else {
        return false;
    };
    assert_eq!(id.to_string(), text, "an id has one spelling");
    assert!(id.serial().to_be_bytes().len() <= 20);
    true
}
