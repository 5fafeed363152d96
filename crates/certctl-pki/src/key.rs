//! Private and public keys.
//!
//! ring signs and verifies everything and makes the elliptic keys; the `rsa` crate makes RSA keys, which ring cannot, and
//! the `p256` and `p384` crates work out a public key that a key file leaves out, which ring cannot either.

mod generate;
mod import;
mod jose;
mod public;
mod signature_algorithm;
mod small_order;

use std::fmt;

use certctl_domain::{
    key::{KeyAlgorithm, KeySpec},
    secret::Secret,
};
use ring::{
    rand::SystemRandom,
    signature::{EcdsaKeyPair, Ed25519KeyPair, RSA_PKCS1_SHA256, RsaKeyPair},
};
use x509_cert::der::Tag;
use zeroize::Zeroizing;

pub use self::{jose::KeyNumbers, public::PublicKey, signature_algorithm::SignatureAlgorithm};
use crate::{Error, asn1, pem};

/// A private key that signs.
///
/// `Debug` shows its kind only. The octets it can be written out from are wiped on drop; the form ring has parsed them into
/// is ring's, which does not wipe it.
pub struct PrivateKey {
    spec: KeySpec,
    inner: Inner,
    public: PublicKey,
}

enum Inner {
    Ecdsa {
        scalar: Zeroizing<Vec<u8>>,
        pair: EcdsaKeyPair,
    },
    Rsa {
        pkcs1: Zeroizing<Vec<u8>>,
        pair: Box<RsaKeyPair>,
    },
    Ed25519 {
        seed: Zeroizing<Vec<u8>>,
        pair: Ed25519KeyPair,
    },
}

impl PrivateKey {
    /// Makes a new key. RSA takes from a tenth of a second to several seconds; call it off the async threads.
    ///
    /// # Errors
    /// [`Error::Randomness`] when the machine has none.
    pub fn generate(spec: KeySpec) -> Result<Self, Error> {
        generate::generate(spec)
    }

    /// Reads the one private key of a text: `EC PRIVATE KEY` (SEC1), `RSA PRIVATE KEY` (PKCS#1) or `PRIVATE KEY` (PKCS#8).
    /// Certificates and `EC PARAMETERS` around it are passed over.
    ///
    /// # Errors
    /// [`Error::NotPem`] when there is none or more than one, [`Error::UnsupportedKey`] for an encrypted one, for another
    /// curve and for RSA of another size than 2048, 3072 or 4096, [`Error::Malformed`] when it is damaged.
    pub fn from_pem(text: &str) -> Result<Self, Error> {
        import::from_pem(text)
    }

    /// Writes the key: SEC1 `EC PRIVATE KEY` for ECDSA, PKCS#8 `PRIVATE KEY` for RSA and Ed25519 (agent §5).
    #[must_use]
    pub fn to_pem(&self) -> Secret {
        Secret::new(match &self.inner {
            Inner::Ecdsa { scalar, .. } => pem::encode("EC PRIVATE KEY", &self.sec1(scalar)),
            Inner::Rsa { pkcs1, .. } => pem::encode("PRIVATE KEY", &pkcs8(RSA, pkcs1)),
            Inner::Ed25519 { seed, .. } => {
                // RFC 8410 §7: the private key is an OCTET STRING inside the OCTET STRING.
                let inner = Zeroizing::new(asn1::tlv(Tag::OctetString, &[seed]));
                pem::encode("PRIVATE KEY", &pkcs8(ED25519, &inner))
            }
        })
    }

    /// Its kind.
    #[must_use]
    pub const fn spec(&self) -> KeySpec {
        self.spec
    }

    /// Its family.
    #[must_use]
    pub const fn algorithm(&self) -> KeyAlgorithm {
        self.spec.algorithm()
    }

    /// Its size in bits, as [`KeySpec::bits`] reports it.
    #[must_use]
    pub const fn bits(&self) -> u32 {
        self.spec.bits()
    }

    /// The public half.
    #[must_use]
    pub const fn public_key(&self) -> &PublicKey {
        &self.public
    }

    /// The public half as DER `SubjectPublicKeyInfo`.
    #[must_use]
    pub fn spki_der(&self) -> &[u8] {
        self.public.spki_der()
    }

    /// How [`PrivateKey::sign`] signs.
    #[must_use]
    pub const fn signature_algorithm(&self) -> SignatureAlgorithm {
        match self.spec {
            KeySpec::EcdsaP256 => SignatureAlgorithm::EcdsaSha256,
            KeySpec::EcdsaP384 => SignatureAlgorithm::EcdsaSha384,
            KeySpec::Rsa2048 | KeySpec::Rsa3072 | KeySpec::Rsa4096 => SignatureAlgorithm::RsaSha256,
            KeySpec::Ed25519 => SignatureAlgorithm::Ed25519,
        }
    }

    /// Signs a message (not a digest) by [`PrivateKey::signature_algorithm`]; ECDSA signatures are DER.
    ///
    /// # Errors
    /// [`Error::Signing`] when the machine has no randomness or the key fails its own check.
    pub fn sign(&self, message: &[u8]) -> Result<Vec<u8>, Error> {
        let rng = SystemRandom::new();
        match &self.inner {
            Inner::Ecdsa { pair, .. } => pair
                .sign(&rng, message)
                .map(|signature| signature.as_ref().to_vec())
                .map_err(|_| Error::Signing),
            Inner::Rsa { pair, .. } => {
                let mut signature = vec![0; pair.public().modulus_len()];
                pair.sign(&RSA_PKCS1_SHA256, &rng, message, &mut signature)
                    .map_err(|_| Error::Signing)?;
                Ok(signature)
            }
            Inner::Ed25519 { pair, .. } => Ok(pair.sign(message).as_ref().to_vec()),
        }
    }

    /// RFC 5915 §3 with the curve and the public key, as OpenSSL writes it.
    fn sec1(&self, scalar: &[u8]) -> Zeroizing<Vec<u8>> {
        let curve = if self.spec == KeySpec::EcdsaP384 {
            P384
        } else {
            P256
        };
        Zeroizing::new(asn1::sequence(&[
            &[0x02, 0x01, 0x01],
            &Zeroizing::new(asn1::tlv(Tag::OctetString, &[scalar])),
            &asn1::tlv(explicit(0), &[curve]),
            &asn1::tlv(
                explicit(1),
                &[&asn1::bit_string(self.public.subject_public_key())],
            ),
        ]))
    }
}

impl fmt::Debug for PrivateKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PrivateKey({}, <redacted>)", self.spec)
    }
}

/// `id-ecPublicKey`, DER.
const EC_PUBLIC_KEY: &[u8] = &[0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01];
/// `secp256r1`, DER.
const P256: &[u8] = &[0x06, 0x08, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07];
/// `secp384r1`, DER.
const P384: &[u8] = &[0x06, 0x05, 0x2b, 0x81, 0x04, 0x00, 0x22];
/// `rsaEncryption` with its NULL parameters as `AlgorithmIdentifier`, DER.
const RSA: &[u8] = &[
    0x30, 0x0d, 0x06, 0x09, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x01, 0x05, 0x00,
];
/// `id-Ed25519` as `AlgorithmIdentifier`, DER.
const ED25519: &[u8] = &[0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70];

/// `PrivateKeyInfo` of RFC 5208 §5.
fn pkcs8(algorithm: &[u8], private_key: &[u8]) -> Zeroizing<Vec<u8>> {
    Zeroizing::new(asn1::sequence(&[
        &[0x02, 0x01, 0x00],
        algorithm,
        &Zeroizing::new(asn1::tlv(Tag::OctetString, &[private_key])),
    ]))
}

const fn explicit(number: u32) -> Tag {
    Tag::ContextSpecific {
        constructed: true,
        number: x509_cert::der::TagNumber(number),
    }
}
