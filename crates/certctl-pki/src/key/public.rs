//! Public keys.

use std::fmt;

use certctl_domain::key::KeyAlgorithm;
use ring::{
    digest,
    signature::{self, UnparsedPublicKey, VerificationAlgorithm},
};
use x509_cert::{
    der::{
        Decode,
        asn1::{ObjectIdentifier, UintRef},
        oid::db::{rfc5912, rfc8410},
    },
    spki::SubjectPublicKeyInfoRef,
};

use super::{EC_PUBLIC_KEY, ED25519, P256, P384, RSA, SignatureAlgorithm, small_order};
use crate::{Error, asn1};

/// The greatest RSA modulus that is verified, in bits; more only burns time.
pub(super) const MAX_RSA_BITS: u32 = 8192;

/// A public key of a kind that certctl handles: RSA, ECDSA on P-256 or P-384, Ed25519.
#[derive(Clone, PartialEq, Eq)]
pub struct PublicKey {
    kind: Kind,
    bits: u32,
    spki_der: Vec<u8>,
    /// The octets of `subjectPublicKey`.
    key: Vec<u8>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    P256,
    P384,
    Rsa,
    Ed25519,
}

impl PublicKey {
    /// Reads a DER `SubjectPublicKeyInfo`.
    ///
    /// # Errors
    /// [`Error::Malformed`] for bad DER, [`Error::UnsupportedKey`] naming any other algorithm or curve and RSA above 8192
    /// bits.
    pub fn from_spki_der(der: &[u8]) -> Result<Self, Error> {
        const MALFORMED: Error = Error::malformed("public key");
        let spki = SubjectPublicKeyInfoRef::from_der(der).map_err(|_| MALFORMED)?;
        let key = spki.subject_public_key.as_bytes().ok_or(MALFORMED)?;
        let (kind, bits) = match spki.algorithm.oid {
            rfc5912::ID_EC_PUBLIC_KEY => {
                let curve = spki
                    .algorithm
                    .parameters
                    .ok_or(MALFORMED)?
                    .decode_as::<ObjectIdentifier>()
                    .map_err(|_| unsupported("an elliptic curve given by its parameters"))?;
                let (kind, bits, octets) = match curve {
                    rfc5912::SECP_256_R_1 => (Kind::P256, 256, 65),
                    rfc5912::SECP_384_R_1 => (Kind::P384, 384, 97),
                    rfc5912::SECP_521_R_1 => return Err(unsupported("ECDSA on P-521")),
                    other => return Err(unsupported(&format!("ECDSA on curve {other}"))),
                };
                // RFC 5480 §2.2: the point uncompressed must be supported, compressed may be.
                if key.first() != Some(&4) || key.len() != octets {
                    return Err(unsupported("a compressed elliptic curve point"));
                }
                (kind, bits)
            }
            rfc5912::RSA_ENCRYPTION => (Kind::Rsa, rsa_parts(key)?.bits),
            rfc8410::ID_ED_25519 => {
                if spki.algorithm.parameters.is_some() || key.len() != 32 {
                    return Err(MALFORMED);
                }
                (Kind::Ed25519, 256)
            }
            other => return Err(unsupported(&format!("algorithm {other}"))),
        };
        if bits > MAX_RSA_BITS {
            return Err(unsupported(&format!("RSA with {bits} bits")));
        }
        Ok(Self {
            kind,
            bits,
            spki_der: der.to_vec(),
            key: key.to_vec(),
        })
    }

    pub(super) fn p256(point: &[u8]) -> Self {
        Self::elliptic(Kind::P256, 256, P256, point)
    }

    pub(super) fn p384(point: &[u8]) -> Self {
        Self::elliptic(Kind::P384, 384, P384, point)
    }

    fn elliptic(kind: Kind, bits: u32, curve: &[u8], point: &[u8]) -> Self {
        let algorithm = asn1::sequence(&[EC_PUBLIC_KEY, curve]);
        Self::wrap(kind, bits, &algorithm, point)
    }

    /// `key` is the DER `RSAPublicKey`.
    pub(super) fn rsa(bits: u32, key: &[u8]) -> Self {
        Self::wrap(Kind::Rsa, bits, RSA, key)
    }

    pub(super) fn ed25519(key: &[u8]) -> Self {
        Self::wrap(Kind::Ed25519, 256, ED25519, key)
    }

    fn wrap(kind: Kind, bits: u32, algorithm: &[u8], key: &[u8]) -> Self {
        Self {
            kind,
            bits,
            spki_der: asn1::sequence(&[algorithm, &asn1::bit_string(key)]),
            key: key.to_vec(),
        }
    }

    pub(super) const fn kind(&self) -> Kind {
        self.kind
    }

    /// Its family.
    #[must_use]
    pub const fn algorithm(&self) -> KeyAlgorithm {
        match self.kind {
            Kind::P256 | Kind::P384 => KeyAlgorithm::Ecdsa,
            Kind::Rsa => KeyAlgorithm::Rsa,
            Kind::Ed25519 => KeyAlgorithm::Ed25519,
        }
    }

    /// Its size in bits: of the modulus, of the field, 256 for Ed25519.
    #[must_use]
    pub const fn bits(&self) -> u32 {
        self.bits
    }

    /// The DER `SubjectPublicKeyInfo`, as it was read.
    #[must_use]
    pub fn spki_der(&self) -> &[u8] {
        &self.spki_der
    }

    /// Whether both are the same key, however they were encoded.
    #[must_use]
    pub fn is_same_key(&self, other: &Self) -> bool {
        self.kind == other.kind && self.key == other.key
    }

    /// The content octets of `subjectPublicKey`, which OCSP hashes.
    pub(crate) fn subject_public_key(&self) -> &[u8] {
        &self.key
    }

    /// The subject key identifier: method 1 of RFC 7093 §2, the leftmost 160 bits of the SHA-256 of the key's bits.
    #[must_use]
    pub fn key_id(&self) -> [u8; 20] {
        let hash = digest::digest(&digest::SHA256, &self.key);
        let mut id = [0; 20];
        id.copy_from_slice(&hash.as_ref()[..20]);
        id
    }

    /// Refuses keys that must not be certified: RSA below 2048 bits, with an even modulus, or with an exponent that is even
    /// or below 65537; Ed25519 for which anybody can sign.
    ///
    /// # Errors
    /// [`Error::WeakKey`].
    pub fn check_strength(&self) -> Result<(), Error> {
        let weak = |problem: String| Err(Error::WeakKey { problem });
        if self.kind == Kind::Ed25519 && small_order::is_small(&self.key) {
            return weak("Ed25519 with a point of small order".to_owned());
        }
        if self.kind != Kind::Rsa {
            return Ok(());
        }
        let parts = rsa_parts(&self.key)?;
        if parts.bits < 2048 {
            return weak(format!("RSA with {} bits, below 2048", parts.bits));
        }
        if !parts.is_modulus_odd {
            return weak("RSA with an even modulus".to_owned());
        }
        match parts.exponent {
            Some(exponent) if exponent % 2 == 1 && exponent >= 65_537 => Ok(()),
            Some(exponent) => weak(format!("RSA with the public exponent {exponent}")),
            // ring verifies exponents of up to 33 bits, like most others; nobody uses greater ones in earnest.
            None => Err(unsupported("RSA with a public exponent above 33 bits")),
        }
    }

    /// Verifies the signature of a message (not of a digest).
    ///
    /// # Errors
    /// [`Error::BadSignature`], also when the algorithm is none for this kind of key.
    pub fn verify(
        &self,
        algorithm: SignatureAlgorithm,
        message: &[u8],
        signature: &[u8],
    ) -> Result<(), Error> {
        use SignatureAlgorithm as A;
        let algorithm: &'static dyn VerificationAlgorithm = match (self.kind, algorithm) {
            (Kind::P256, A::EcdsaSha256) => &signature::ECDSA_P256_SHA256_ASN1,
            (Kind::P256, A::EcdsaSha384) => &signature::ECDSA_P256_SHA384_ASN1,
            (Kind::P384, A::EcdsaSha256) => &signature::ECDSA_P384_SHA256_ASN1,
            (Kind::P384, A::EcdsaSha384) => &signature::ECDSA_P384_SHA384_ASN1,
            (Kind::Rsa, A::RsaSha256) => &signature::RSA_PKCS1_2048_8192_SHA256,
            (Kind::Rsa, A::RsaSha384) => &signature::RSA_PKCS1_2048_8192_SHA384,
            (Kind::Rsa, A::RsaSha512) => &signature::RSA_PKCS1_2048_8192_SHA512,
            (Kind::Ed25519, A::Ed25519) => &signature::ED25519,
            _ => return Err(Error::BadSignature),
        };
        UnparsedPublicKey::new(algorithm, &self.key)
            .verify(message, signature)
            .map_err(|_| Error::BadSignature)
    }
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PublicKey({:?}, {} bits)", self.kind, self.bits)
    }
}

struct RsaParts {
    bits: u32,
    is_modulus_odd: bool,
    /// None above 33 bits.
    exponent: Option<u64>,
}

/// Reads an `RSAPublicKey` (RFC 8017 A.1.1).
fn rsa_parts(key: &[u8]) -> Result<RsaParts, Error> {
    const WHAT: &str = "RSA public key";
    let parts = asn1::elements(key, WHAT)?;
    let [modulus, exponent] = parts[..] else {
        return Err(Error::malformed(WHAT));
    };
    let number = |der| UintRef::from_der(der).map_err(|_| Error::malformed(WHAT));
    let (modulus, exponent) = (number(modulus)?.as_bytes(), number(exponent)?.as_bytes());
    let top = modulus.first().map_or(8, |byte| byte.leading_zeros());
    let bits = u32::try_from(modulus.len()).unwrap_or(u32::MAX / 8) * 8;
    let bits = bits.saturating_sub(top);
    Ok(RsaParts {
        bits,
        is_modulus_odd: modulus.last().is_some_and(|byte| byte % 2 == 1),
        exponent: (exponent.len() <= 5)
            .then(|| exponent.iter().fold(0, |n, byte| n << 8 | u64::from(*byte)))
            .filter(|exponent| *exponent < 1 << 33),
    })
}

pub(super) fn unsupported(what: &str) -> Error {
    Error::UnsupportedKey {
        what: what.to_owned(),
    }
}
