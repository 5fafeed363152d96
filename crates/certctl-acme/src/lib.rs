#![doc = include_str!("../README.md")]

pub mod ari;
pub mod base64url;
pub mod client;
pub mod csr;
pub mod eab;
mod json;
pub mod jwk;
pub mod jws;
pub mod key_authorization;
pub mod key_change;
pub mod nonce;
pub mod payload;
mod refuse;
pub mod resource;
pub mod urls;
