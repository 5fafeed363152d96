//! Making keys.

use certctl_domain::key::KeySpec;
use ring::{
    rand::SystemRandom,
    signature::{
        ECDSA_P256_SHA256_ASN1_SIGNING, ECDSA_P384_SHA384_ASN1_SIGNING, EcdsaKeyPair,
        Ed25519KeyPair,
    },
};
use rsa::{RsaPrivateKey, pkcs1::EncodeRsaPrivateKey, rand_core::OsRng};
use zeroize::Zeroizing;

use super::{PrivateKey, import};
use crate::Error;

pub(super) fn generate(spec: KeySpec) -> Result<PrivateKey, Error> {
    let rng = SystemRandom::new();
    let bits = match spec {
        KeySpec::EcdsaP256 | KeySpec::EcdsaP384 => {
            let algorithm = if spec == KeySpec::EcdsaP256 {
                &ECDSA_P256_SHA256_ASN1_SIGNING
            } else {
                &ECDSA_P384_SHA384_ASN1_SIGNING
            };
            let document = EcdsaKeyPair::generate_pkcs8(algorithm, &rng);
            return import::from_pkcs8(document.map_err(|_| Error::Randomness)?.as_ref());
        }
        KeySpec::Ed25519 => {
            let document = Ed25519KeyPair::generate_pkcs8(&rng);
            return import::from_pkcs8(document.map_err(|_| Error::Randomness)?.as_ref());
        }
        KeySpec::Rsa2048 => 2048,
        KeySpec::Rsa3072 => 3072,
        KeySpec::Rsa4096 => 4096,
    };
    let key = RsaPrivateKey::new(&mut OsRng, bits).map_err(|_| Error::Randomness)?;
    let pkcs1 = key
        .to_pkcs1_der()
        .map_err(|_| Error::malformed("RSA private key"))?;
    import::from_pkcs1(Zeroizing::new(pkcs1.as_bytes().to_vec()))
}
