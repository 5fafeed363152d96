//! The signature algorithms that are made and verified.

use x509_cert::{
    der::{Decode, Tag, Tagged},
    spki::AlgorithmIdentifierRef,
};

use crate::Error;

/// A signature algorithm.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SignatureAlgorithm {
    /// `ecdsa-with-SHA256` (RFC 5758 §3.2).
    EcdsaSha256,
    /// `ecdsa-with-SHA384` (RFC 5758 §3.2).
    EcdsaSha384,
    /// `sha256WithRSAEncryption` (RFC 4055 §5).
    RsaSha256,
    /// `sha384WithRSAEncryption` (RFC 4055 §5).
    RsaSha384,
    /// `sha512WithRSAEncryption` (RFC 4055 §5).
    RsaSha512,
    /// `id-Ed25519` (RFC 8410 §3).
    Ed25519,
}

impl SignatureAlgorithm {
    const ALL: [Self; 6] = [
        Self::EcdsaSha256,
        Self::EcdsaSha384,
        Self::RsaSha256,
        Self::RsaSha384,
        Self::RsaSha512,
        Self::Ed25519,
    ];

    /// The `AlgorithmIdentifier` as DER.
    #[must_use]
    pub const fn to_der(self) -> &'static [u8] {
        match self {
            Self::EcdsaSha256 => &[
                0x30, 0x0a, 0x06, 0x08, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x04, 0x03, 0x02,
            ],
            Self::EcdsaSha384 => &[
                0x30, 0x0a, 0x06, 0x08, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x04, 0x03, 0x03,
            ],
            Self::RsaSha256 => &[
                0x30, 0x0d, 0x06, 0x09, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x0b, 0x05,
                0x00,
            ],
            Self::RsaSha384 => &[
                0x30, 0x0d, 0x06, 0x09, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x0c, 0x05,
                0x00,
            ],
            Self::RsaSha512 => &[
                0x30, 0x0d, 0x06, 0x09, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x0d, 0x05,
                0x00,
            ],
            Self::Ed25519 => &[0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70],
        }
    }

    /// Reads an `AlgorithmIdentifier`.
    ///
    /// # Errors
    /// [`Error::Malformed`] for bad DER or parameters that may not be there, [`Error::UnsupportedSignature`] for any other
    /// algorithm.
    pub fn from_der(der: &[u8]) -> Result<Self, Error> {
        const WHAT: &str = "signature algorithm";
        let identifier =
            AlgorithmIdentifierRef::from_der(der).map_err(|_| Error::malformed(WHAT))?;
        let algorithm = Self::ALL
            .into_iter()
            .find(|known| {
                AlgorithmIdentifierRef::from_der(known.to_der())
                    .is_ok_and(|known| known.oid == identifier.oid)
            })
            .ok_or_else(|| Error::UnsupportedSignature {
                oid: identifier.oid.to_string(),
            })?;
        let is_rsa = matches!(
            algorithm,
            Self::RsaSha256 | Self::RsaSha384 | Self::RsaSha512
        );
        match identifier.parameters {
            None => Ok(algorithm),
            // RFC 4055 §5 wants NULL for RSA and its absence accepted; the others have no parameters at all.
            Some(any) if is_rsa && any.tag() == Tag::Null => Ok(algorithm),
            Some(_) => Err(Error::malformed(WHAT)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::SignatureAlgorithm;
    use crate::Error;

    #[test]
    fn every_algorithm_round_trips_and_others_are_named() {
        for algorithm in SignatureAlgorithm::ALL {
            assert_eq!(
                SignatureAlgorithm::from_der(algorithm.to_der()),
                Ok(algorithm)
            );
        }
        // sha1WithRSAEncryption.
        let sha1 = [
            0x30, 0x0d, 0x06, 0x09, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x05, 0x05,
            0x00,
        ];
        assert_eq!(
            SignatureAlgorithm::from_der(&sha1),
            Err(Error::UnsupportedSignature {
                oid: "1.2.840.113549.1.1.5".to_owned()
            })
        );
    }

    #[test]
    fn parameters_are_only_accepted_where_they_may_be() {
        let ecdsa_with_null = [
            0x30, 0x0c, 0x06, 0x08, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x04, 0x03, 0x02, 0x05, 0x00,
        ];
        assert!(SignatureAlgorithm::from_der(&ecdsa_with_null).is_err());
        let rsa_without = [
            0x30, 0x0b, 0x06, 0x09, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x0b,
        ];
        assert_eq!(
            SignatureAlgorithm::from_der(&rsa_without),
            Ok(SignatureAlgorithm::RsaSha256)
        );
    }
}
