//! Reading private keys.

use certctl_domain::key::KeySpec;
use ring::{
    rand::SystemRandom,
    signature::{
        ECDSA_P256_SHA256_ASN1_SIGNING, ECDSA_P384_SHA384_ASN1_SIGNING, EcdsaKeyPair,
        Ed25519KeyPair, KeyPair, RsaKeyPair,
    },
};
use x509_cert::{
    der::{
        self, Decode, Reader, SliceReader,
        asn1::{BitStringRef, ObjectIdentifier, OctetStringRef},
        oid::db::{rfc5912, rfc8410},
    },
    spki::AlgorithmIdentifierRef,
};
use zeroize::Zeroizing;

use super::{Inner, PrivateKey, PublicKey, public::unsupported};
use crate::{Error, pem};

const MALFORMED: Error = Error::malformed("private key");

pub(super) fn from_pem(text: &str) -> Result<PrivateKey, Error> {
    let not_pem = Error::NotPem {
        expected: "PRIVATE KEY",
    };
    let mut keys = pem::decode_all(text)?
        .into_iter()
        .filter(|block| block.label.ends_with("PRIVATE KEY"));
    let block = keys.next().ok_or_else(|| not_pem.clone())?;
    if keys.next().is_some() {
        return Err(not_pem);
    }
    match block.label.as_str() {
        "PRIVATE KEY" => from_pkcs8(&block.der),
        "EC PRIVATE KEY" => from_sec1(&block.der, None),
        "RSA PRIVATE KEY" => from_pkcs1(block.der),
        "ENCRYPTED PRIVATE KEY" => Err(unsupported("an encrypted private key")),
        other => Err(unsupported(other)),
    }
}

/// `OneAsymmetricKey` (RFC 5958 §2). ring's own reader is not used because it insists on parts that others leave out.
pub(super) fn from_pkcs8(der: &[u8]) -> Result<PrivateKey, Error> {
    let read = || -> der::Result<(AlgorithmIdentifierRef<'_>, &[u8])> {
        let mut reader = SliceReader::new(der)?;
        let parts = reader.sequence(|inner| {
            u8::decode(inner)?;
            let algorithm = AlgorithmIdentifierRef::decode(inner)?;
            let key = <&OctetStringRef>::decode(inner)?;
            // Attributes and the public key may follow; neither says anything the private key does not.
            while !inner.is_finished() {
                inner.tlv_bytes()?;
            }
            Ok::<_, der::Error>((algorithm, key.as_bytes()))
        })?;
        reader.finish()?;
        Ok(parts)
    };
    let (algorithm, key) = read().map_err(|_| MALFORMED)?;
    match algorithm.oid {
        rfc5912::ID_EC_PUBLIC_KEY => {
            let curve = algorithm
                .parameters_oid()
                .map_err(|_| unsupported("an elliptic curve given by its parameters"))?;
            from_sec1(key, Some(curve))
        }
        rfc5912::RSA_ENCRYPTION => from_pkcs1(Zeroizing::new(key.to_vec())),
        rfc8410::ID_ED_25519 => {
            let seed = <&OctetStringRef>::from_der(key).map_err(|_| MALFORMED)?;
            from_seed(seed.as_bytes())
        }
        other => Err(unsupported(&format!("algorithm {other}"))),
    }
}

/// `ECPrivateKey` (RFC 5915 §3); `curve` is what the PKCS#8 around it says.
fn from_sec1(der: &[u8], curve: Option<ObjectIdentifier>) -> Result<PrivateKey, Error> {
    let read = || -> der::Result<(&[u8], Option<ObjectIdentifier>, Option<BitStringRef<'_>>)> {
        let mut reader = SliceReader::new(der)?;
        let parts = reader.sequence(|inner| {
            u8::decode(inner)?;
            let scalar = <&OctetStringRef>::decode(inner)?;
            let mode = der::TagMode::Explicit;
            let curve = inner.context_specific::<ObjectIdentifier>(der::TagNumber(0), mode)?;
            let point = inner.context_specific::<BitStringRef<'_>>(der::TagNumber(1), mode)?;
            Ok::<_, der::Error>((scalar.as_bytes(), curve, point))
        })?;
        reader.finish()?;
        Ok(parts)
    };
    let (scalar, own_curve, point) = read().map_err(|_| MALFORMED)?;
    let curve = match (curve, own_curve) {
        (Some(outer), Some(inner)) if outer != inner => return Err(MALFORMED),
        (Some(curve), _) | (None, Some(curve)) => curve,
        (None, None) => return Err(MALFORMED),
    };
    let spec = match curve {
        rfc5912::SECP_256_R_1 => KeySpec::EcdsaP256,
        rfc5912::SECP_384_R_1 => KeySpec::EcdsaP384,
        rfc5912::SECP_521_R_1 => return Err(unsupported("ECDSA on P-521")),
        other => return Err(unsupported(&format!("ECDSA on curve {other}"))),
    };
    let point = point.and_then(|point| point.as_bytes());
    elliptic(spec, scalar, point)
}

fn elliptic(spec: KeySpec, scalar: &[u8], point: Option<&[u8]>) -> Result<PrivateKey, Error> {
    let (algorithm, length) = if spec == KeySpec::EcdsaP256 {
        (&ECDSA_P256_SHA256_ASN1_SIGNING, 32)
    } else {
        (&ECDSA_P384_SHA384_ASN1_SIGNING, 48)
    };
    let scalar = fixed_length(scalar, length)?;
    // An uncompressed point is checked by ring against the scalar; anything else is worked out anew.
    let point = match point {
        Some(point) if point.first() == Some(&4) => point.to_vec(),
        _ => public_point(spec, &scalar)?,
    };
    let rng = SystemRandom::new();
    let pair = EcdsaKeyPair::from_private_key_and_public_key(algorithm, &scalar, &point, &rng)
        .map_err(|_| MALFORMED)?;
    let public = if spec == KeySpec::EcdsaP256 {
        PublicKey::p256(&point)
    } else {
        PublicKey::p384(&point)
    };
    Ok(PrivateKey {
        spec,
        inner: Inner::Ecdsa { scalar, pair },
        public,
    })
}

/// Some programs drop the leading zeros of the scalar, some keep one too many; RFC 5915 §3 fixes the length.
fn fixed_length(scalar: &[u8], length: usize) -> Result<Zeroizing<Vec<u8>>, Error> {
    let start = scalar.iter().position(|byte| *byte != 0).ok_or(MALFORMED)?;
    let digits = &scalar[start..];
    let mut fixed = Zeroizing::new(vec![0; length]);
    let from = length.checked_sub(digits.len()).ok_or(MALFORMED)?;
    fixed[from..].copy_from_slice(digits);
    Ok(fixed)
}

fn public_point(spec: KeySpec, scalar: &[u8]) -> Result<Vec<u8>, Error> {
    Ok(if spec == KeySpec::EcdsaP256 {
        let secret = p256::SecretKey::from_slice(scalar).map_err(|_| MALFORMED)?;
        secret.public_key().to_sec1_bytes().to_vec()
    } else {
        let secret = p384::SecretKey::from_slice(scalar).map_err(|_| MALFORMED)?;
        secret.public_key().to_sec1_bytes().to_vec()
    })
}

/// `RSAPrivateKey` (RFC 8017 A.1.2).
pub(super) fn from_pkcs1(pkcs1: Zeroizing<Vec<u8>>) -> Result<PrivateKey, Error> {
    let size = modulus_bits(&pkcs1)?;
    let spec = match size {
        2048 => KeySpec::Rsa2048,
        3072 => KeySpec::Rsa3072,
        4096 => KeySpec::Rsa4096,
        other => return Err(unsupported(&format!("RSA with {other} bits"))),
    };
    let pair = RsaKeyPair::from_der(&pkcs1).map_err(|_| MALFORMED)?;
    let public = PublicKey::rsa(size, pair.public_key().as_ref());
    Ok(PrivateKey {
        spec,
        inner: Inner::Rsa {
            pkcs1,
            pair: Box::new(pair),
        },
        public,
    })
}

fn modulus_bits(pkcs1: &[u8]) -> Result<u32, Error> {
    let parts = crate::asn1::elements(pkcs1, "private key")?;
    let modulus = parts.get(1).ok_or(MALFORMED)?;
    let modulus = der::asn1::UintRef::from_der(modulus).map_err(|_| MALFORMED)?;
    let octets = modulus.as_bytes();
    let top = octets.first().ok_or(MALFORMED)?.leading_zeros();
    let bits = u32::try_from(octets.len() * 8).map_err(|_| MALFORMED)?;
    Ok(bits - top)
}

fn from_seed(seed: &[u8]) -> Result<PrivateKey, Error> {
    let pair = Ed25519KeyPair::from_seed_unchecked(seed).map_err(|_| MALFORMED)?;
    let public = PublicKey::ed25519(pair.public_key().as_ref());
    Ok(PrivateKey {
        spec: KeySpec::Ed25519,
        inner: Inner::Ed25519 {
            seed: Zeroizing::new(seed.to_vec()),
            pair,
        },
        public,
    })
}
