//! PKCS#12 (RFC 7292) in its trust-store form: certificates only, never a key.
//!
//! Certificates are encrypted by PBES2 with PBKDF2-HMAC-SHA256 and AES-256-CBC, and the whole is under HMAC-SHA256; OpenSSL 3 and Java
//! read both without their legacy algorithms. What is in it is public: the password is what readers ask for, not what protects.

use p12_keystore::{Certificate, EncryptionAlgorithm, KeyStore, KeyStoreEntry, MacAlgorithm};

use crate::Error;

/// Iterations of the key derivations. The content is public, so more would only cost time.
const ITERATIONS: u32 = 10_000;

/// Packs certificates, DER each, under the names `1`, `2` and so on in their order. Java lists each as a trusted certificate.
///
/// # Errors
/// [`Error::Malformed`] when one of them is no certificate, or the password has characters beyond the basic plane, which the format
/// cannot take (RFC 7292 Appendix B.1).
pub fn trust_store(certificates: &[Vec<u8>], password: &str) -> Result<Vec<u8>, Error> {
    let mut store = KeyStore::new();
    for (number, der) in (1..).zip(certificates) {
        let certificate = Certificate::from_der(der).map_err(|_| Error::Malformed {
            what: "certificate",
        })?;
        store.add_entry(
            &format!("{number}"),
            KeyStoreEntry::Certificate(certificate),
        );
    }
    store
        .writer(password)
        .encryption_algorithm(EncryptionAlgorithm::PbeWithHmacSha256AndAes256)
        .encryption_iterations(ITERATIONS)
        .mac_algorithm(MacAlgorithm::HmacSha256)
        .mac_iterations(ITERATIONS)
        .write()
        .map_err(|_| Error::Malformed {
            what: "PKCS#12 password",
        })
}
