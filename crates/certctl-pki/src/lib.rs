#![doc = include_str!("../README.md")]

mod asn1;
pub mod cert;
pub mod crl;
pub mod csr;
mod error;
mod general_name;
pub mod key;
pub mod lint;
pub mod ocsp;
pub mod pem;
pub mod pkcs12;
pub mod seal;
pub mod trail;

pub use error::Error;
pub use pem::fingerprint;
