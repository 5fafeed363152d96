//! Keys and signatures in the form of JOSE (RFC 7518 §3 and §6): bare numbers where X.509 has DER.

use ring::signature::{self, UnparsedPublicKey, VerificationAlgorithm};
use x509_cert::der::{Decode, asn1::UintRef};

use super::{
    Inner, PrivateKey, PublicKey, SignatureAlgorithm,
    public::{Kind, MAX_RSA_BITS, unsupported},
};
use crate::{Error, asn1};

/// What a public key consists of, big-endian.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeyNumbers<'a> {
    /// A point on P-256; both coordinates have 32 octets.
    P256 {
        /// The first coordinate.
        x: &'a [u8],
        /// The second.
        y: &'a [u8],
    },
    /// A point on P-384; both coordinates have 48 octets.
    P384 {
        /// The first coordinate.
        x: &'a [u8],
        /// The second.
        y: &'a [u8],
    },
    /// RSA; both numbers without leading zero octets.
    Rsa {
        /// The modulus.
        modulus: &'a [u8],
        /// The public exponent.
        exponent: &'a [u8],
    },
    /// Ed25519: 32 octets.
    Ed25519 {
        /// The encoded point (RFC 8032 §5.1.5).
        x: &'a [u8],
    },
}

impl PublicKey {
    /// Puts a key together. Whether it is strong enough is [`PublicKey::check_strength`]'s to say.
    ///
    /// # Errors
    /// [`Error::Malformed`] when a number has the wrong length or leading zeros, or a point is not on its curve;
    /// [`Error::UnsupportedKey`] for RSA above 8192 bits.
    pub fn from_numbers(numbers: KeyNumbers<'_>) -> Result<Self, Error> {
        match numbers {
            KeyNumbers::P256 { x, y } => {
                let point = point(x, y, 32)?;
                // ring looks at the point only when it verifies; a key that can never sign is refused where it appears.
                p256::PublicKey::from_sec1_bytes(&point).map_err(|_| OFF_CURVE)?;
                Ok(Self::p256(&point))
            }
            KeyNumbers::P384 { x, y } => {
                let point = point(x, y, 48)?;
                p384::PublicKey::from_sec1_bytes(&point).map_err(|_| OFF_CURVE)?;
                Ok(Self::p384(&point))
            }
            KeyNumbers::Rsa { modulus, exponent } => rsa(modulus, exponent),
            KeyNumbers::Ed25519 { x } if x.len() == 32 => Ok(Self::ed25519(x)),
            KeyNumbers::Ed25519 { .. } => Err(Error::malformed("Ed25519 public key")),
        }
    }

    /// Takes the key apart.
    #[must_use]
    pub fn numbers(&self) -> KeyNumbers<'_> {
        let key = self.subject_public_key();
        match self.kind() {
            Kind::P256 => KeyNumbers::P256 {
                x: &key[1..33],
                y: &key[33..],
            },
            Kind::P384 => KeyNumbers::P384 {
                x: &key[1..49],
                y: &key[49..],
            },
            Kind::Rsa => {
                let numbers = asn1::elements(key, "RSA public key").ok();
                let number = |index: usize| {
                    numbers
                        .as_ref()
                        .and_then(|all| UintRef::from_der(all.get(index).copied()?).ok())
                        .map(|number| number.as_bytes())
                        .expect("the structure was checked when the key was read")
                };
                KeyNumbers::Rsa {
                    modulus: number(0),
                    exponent: number(1),
                }
            }
            Kind::Ed25519 => KeyNumbers::Ed25519 { x: key },
        }
    }

    /// As [`PublicKey::verify`], with ECDSA signatures as two numbers of fixed length (RFC 7518 §3.4), and with the one hash
    /// that JOSE has for each curve.
    ///
    /// # Errors
    /// [`Error::BadSignature`], also when the algorithm is none for this kind of key.
    pub fn verify_fixed(
        &self,
        algorithm: SignatureAlgorithm,
        message: &[u8],
        signature: &[u8],
    ) -> Result<(), Error> {
        use SignatureAlgorithm as A;
        let ecdsa: &'static dyn VerificationAlgorithm = match (self.kind(), algorithm) {
            (Kind::P256, A::EcdsaSha256) => &signature::ECDSA_P256_SHA256_FIXED,
            (Kind::P384, A::EcdsaSha384) => &signature::ECDSA_P384_SHA384_FIXED,
            (Kind::P256 | Kind::P384, _) => return Err(Error::BadSignature),
            (Kind::Rsa | Kind::Ed25519, _) => return self.verify(algorithm, message, signature),
        };
        UnparsedPublicKey::new(ecdsa, self.subject_public_key())
            .verify(message, signature)
            .map_err(|_| Error::BadSignature)
    }
}

impl PrivateKey {
    /// As [`PrivateKey::sign`], with ECDSA signatures as two numbers of fixed length (RFC 7518 §3.4).
    ///
    /// # Errors
    /// As [`PrivateKey::sign`].
    pub fn sign_fixed(&self, message: &[u8]) -> Result<Vec<u8>, Error> {
        let signature = self.sign(message)?;
        let Inner::Ecdsa { scalar, .. } = &self.inner else {
            return Ok(signature);
        };
        let length = scalar.len();
        let mut numbers = asn1::Reader::sequence(&signature, "ECDSA signature")?;
        let mut fixed = Vec::with_capacity(2 * length);
        for _ in 0..2 {
            let number = numbers.integer()?;
            let digits = number.strip_prefix(&[0]).unwrap_or(number);
            fixed.resize(fixed.len() + length.saturating_sub(digits.len()), 0);
            fixed.extend_from_slice(digits);
        }
        Ok(fixed)
    }
}

const OFF_CURVE: Error = Error::malformed("point: it is not on its curve");

/// Uncompressed, as SEC 1 §2.3.3 writes it.
fn point(x: &[u8], y: &[u8], field: usize) -> Result<Vec<u8>, Error> {
    if x.len() != field || y.len() != field {
        // RFC 7518 §6.2.1.2: the length is that of the field, whatever the number.
        return Err(Error::malformed(
            "coordinate: it is not as long as its field",
        ));
    }
    Ok([&[4], x, y].concat())
}

fn rsa(modulus: &[u8], exponent: &[u8]) -> Result<PublicKey, Error> {
    for number in [modulus, exponent] {
        // RFC 7518 §2, Base64urlUInt: the fewest octets that represent the number.
        if matches!(number, [] | [0, ..]) {
            return Err(Error::malformed("RSA number: empty or with leading zeros"));
        }
    }
    let bits = modulus.len() * 8 - modulus[0].leading_zeros() as usize;
    let bits = u32::try_from(bits)
        .ok()
        .filter(|bits| *bits <= MAX_RSA_BITS)
        .ok_or_else(|| unsupported("RSA above 8192 bits"))?;
    let key = asn1::sequence(&[&asn1::unsigned(modulus), &asn1::unsigned(exponent)]);
    Ok(PublicKey::rsa(bits, &key))
}

#[cfg(test)]
mod tests {
    use certctl_domain::key::KeySpec;

    use super::{KeyNumbers, PublicKey};
    use crate::{Error, key::PrivateKey};

    const SPECS: [KeySpec; 4] = [
        KeySpec::EcdsaP256,
        KeySpec::EcdsaP384,
        KeySpec::Ed25519,
        KeySpec::Rsa2048,
    ];

    #[test]
    fn numbers_round_trip_to_the_same_key() {
        for spec in SPECS {
            let key = PrivateKey::generate(spec).unwrap();
            let public = key.public_key();
            let again = PublicKey::from_numbers(public.numbers()).unwrap();
            assert_eq!(again.spki_der(), public.spki_der(), "{spec}");
        }
    }

    #[test]
    fn fixed_signatures_verify_and_der_ones_do_not() {
        for spec in [KeySpec::EcdsaP256, KeySpec::EcdsaP384] {
            let key = PrivateKey::generate(spec).unwrap();
            let (public, algorithm) = (key.public_key(), key.signature_algorithm());
            // Often enough that a number with a leading zero octet occurs.
            for n in 0_u16..400 {
                let message = n.to_be_bytes();
                let signature = key.sign_fixed(&message).unwrap();
                assert_eq!(signature.len(), public.bits() as usize / 4);
                assert_eq!(public.verify_fixed(algorithm, &message, &signature), Ok(()));
            }
            let der = key.sign(b"m").unwrap();
            assert_eq!(
                public.verify_fixed(algorithm, b"m", &der),
                Err(Error::BadSignature)
            );
        }
        for spec in [KeySpec::Ed25519, KeySpec::Rsa2048] {
            let key = PrivateKey::generate(spec).unwrap();
            let signature = key.sign_fixed(b"m").unwrap();
            let verify = |message: &[u8]| {
                key.public_key()
                    .verify_fixed(key.signature_algorithm(), message, &signature)
            };
            assert_eq!(verify(b"m"), Ok(()));
            assert_eq!(verify(b"n"), Err(Error::BadSignature));
        }
    }

    #[test]
    fn what_is_no_key_is_refused() {
        let one = [1_u8; 32];
        let long = [1_u8; 1025];
        let bad = [
            KeyNumbers::P256 { x: &one, y: &one },
            KeyNumbers::P256 {
                x: &one[1..],
                y: &one,
            },
            KeyNumbers::P384 {
                x: &[1; 48],
                y: &[1; 48],
            },
            KeyNumbers::Ed25519 { x: &one[1..] },
            KeyNumbers::Rsa {
                modulus: &long,
                exponent: &[1, 0, 1],
            },
            KeyNumbers::Rsa {
                modulus: &[0, 1],
                exponent: &[3],
            },
            KeyNumbers::Rsa {
                modulus: &[9],
                exponent: &[],
            },
        ];
        for numbers in bad {
            assert!(PublicKey::from_numbers(numbers).is_err(), "{numbers:?}");
        }
    }
}
