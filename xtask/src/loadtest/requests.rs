//! Certificate signing requests (RFC 2986), made before a run, so that the driver signs nothing but what a client would sign under way.
//!
//! Written by hand from ring and a few lines of DER: this program shall not have to wait for certctl's own crates to be built.

use anyhow::{Result, anyhow};
use ring::rand::SystemRandom;
use ring::signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair, KeyPair as _};
use serde_json::{Value, json};

const SEQUENCE: u8 = 0x30;
const SET: u8 = 0x31;
const OID: u8 = 0x06;
const UTF8_STRING: u8 = 0x0c;
const BIT_STRING: u8 = 0x03;
const OCTET_STRING: u8 = 0x04;
const INTEGER: u8 = 0x02;
/// The attributes of a request: context specific, constructed, 0.
const ATTRIBUTES: u8 = 0xa0;
/// A DNS name among alternative names: context specific, 2.
const DNS_NAME: u8 = 0x82;

const COMMON_NAME: &[u8] = &[0x55, 0x04, 0x03];
const ALTERNATIVE_NAME: &[u8] = &[0x55, 0x1d, 0x11];
const EXTENSION_REQUEST: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x09, 0x0e];
const EC_PUBLIC_KEY: &[u8] = &[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01];
const PRIME256V1: &[u8] = &[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07];
const ECDSA_WITH_SHA256: &[u8] = &[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x04, 0x03, 0x02];

/// A request for each name, each with a key of its own that is forgotten: the name, DER as base64url, and PEM.
pub(super) fn make(names: impl Iterator<Item = String>) -> Result<Value> {
    let random = SystemRandom::new();
    names
        .map(|name| {
            let der = request(&name, &random)?;
            Ok(json!({"name": name, "csr": base64(&der, URL, false), "pem": pem(&der)}))
        })
        .collect()
}

fn request(name: &str, random: &SystemRandom) -> Result<Vec<u8>> {
    let failed = |_| anyhow!("no key could be made");
    let pkcs8 =
        EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, random).map_err(failed)?;
    let key = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, pkcs8.as_ref(), random)
        .map_err(|reason| anyhow!("the key is refused: {reason}"))?;
    let info = info(name, key.public_key().as_ref());
    let signature = key.sign(random, &info).map_err(failed)?;
    Ok(tlv(
        SEQUENCE,
        &[
            info,
            tlv(SEQUENCE, &[tlv(OID, &[ECDSA_WITH_SHA256.to_vec()])]),
            bits(signature.as_ref()),
        ],
    ))
}

/// What is signed (RFC 2986 section 4.1).
fn info(name: &str, point: &[u8]) -> Vec<u8> {
    let oid = |value: &[u8]| tlv(OID, &[value.to_vec()]);
    let common_name = tlv(
        SEQUENCE,
        &[
            oid(COMMON_NAME),
            tlv(UTF8_STRING, &[name.as_bytes().to_vec()]),
        ],
    );
    let subject = tlv(SEQUENCE, &[tlv(SET, &[common_name])]);
    let algorithm = tlv(SEQUENCE, &[oid(EC_PUBLIC_KEY), oid(PRIME256V1)]);
    let names = tlv(SEQUENCE, &[tlv(DNS_NAME, &[name.as_bytes().to_vec()])]);
    let extension = tlv(
        SEQUENCE,
        &[oid(ALTERNATIVE_NAME), tlv(OCTET_STRING, &[names])],
    );
    let extensions = tlv(SET, &[tlv(SEQUENCE, &[extension])]);
    tlv(
        SEQUENCE,
        &[
            tlv(INTEGER, &[vec![0]]),
            subject,
            tlv(SEQUENCE, &[algorithm, bits(point)]),
            tlv(
                ATTRIBUTES,
                &[tlv(SEQUENCE, &[oid(EXTENSION_REQUEST), extensions])],
            ),
        ],
    )
}

fn bits(bytes: &[u8]) -> Vec<u8> {
    // No bit of the last byte is unused.
    tlv(BIT_STRING, &[vec![0], bytes.to_vec()])
}

/// A tag, a length of at most two bytes, and what it holds.
fn tlv(tag: u8, parts: &[Vec<u8>]) -> Vec<u8> {
    let body = parts.concat();
    let mut all = vec![tag];
    let length = u16::try_from(body.len()).expect("a request is shorter than 64 KiB");
    let [high, low] = length.to_be_bytes();
    match (high, low) {
        (0, 0..=0x7f) => all.push(low),
        (0, _) => all.extend([0x81, low]),
        _ => all.extend([0x82, high, low]),
    }
    all.extend(body);
    all
}

const STANDARD: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
const URL: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

/// RFC 4648 sections 4 and 5.
fn base64(bytes: &[u8], alphabet: &[u8; 64], padded: bool) -> String {
    let mut text = String::new();
    for chunk in bytes.chunks(3) {
        let three = [
            chunk[0],
            *chunk.get(1).unwrap_or(&0),
            *chunk.get(2).unwrap_or(&0),
        ];
        let whole = u32::from_be_bytes([0, three[0], three[1], three[2]]);
        for place in 0..4 {
            if place <= chunk.len() {
                let index = (whole >> (18 - 6 * place)) & 0x3f;
                text.push(char::from(alphabet[index as usize]));
            } else if padded {
                text.push('=');
            }
        }
    }
    text
}

fn pem(der: &[u8]) -> String {
    let body = base64(der, STANDARD, true);
    let lines: Vec<&str> = (0..body.len())
        .step_by(64)
        .map(|at| &body[at..body.len().min(at + 64)])
        .collect();
    format!(
        "-----BEGIN CERTIFICATE REQUEST-----\n{}\n-----END CERTIFICATE REQUEST-----\n",
        lines.join("\n")
    )
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use certctl_procs::child;
    use certctl_procs::install::{self, Program};

    use super::*;

    #[test]
    fn base64_is_that_of_the_rfc() {
        for (bytes, text) in [
            ("", ""),
            ("f", "Zg=="),
            ("fo", "Zm8="),
            ("foo", "Zm9v"),
            ("foobar", "Zm9vYmFy"),
        ] {
            assert_eq!(base64(bytes.as_bytes(), STANDARD, true), text);
        }
        assert_eq!(base64(&[0xfb, 0xff], URL, false), "-_8");
    }

    #[test]
    fn openssl_reads_and_verifies_a_request() {
        install::ensure(&[Program::OpenSsl]).unwrap();
        let made = make(["a.example.test".to_owned()].into_iter()).unwrap();
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("request.pem");
        std::fs::write(&file, made[0]["pem"].as_str().unwrap()).unwrap();
        let mut openssl = Command::new(Program::OpenSsl.require().unwrap());
        openssl
            .args(["req", "-noout", "-text", "-verify", "-in"])
            .arg(&file);
        let said = child::output(&mut openssl).unwrap();
        assert!(
            said.contains("DNS:a.example.test") && said.contains("CN = a.example.test"),
            "{said}"
        );
    }
}
