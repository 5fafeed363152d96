//! What a client shows to prove a challenge (RFC 8555 §8.1).

use ring::digest::{SHA256, digest};

use crate::base64url;

/// Token, dot, thumbprint of the account's key.
#[must_use]
pub fn key_authorization(token: &str, thumbprint: &str) -> String {
    [token, ".", thumbprint].concat()
}

/// The TXT record of `dns-01`: SHA-256 of the key authorisation as base64url (RFC 8555 §8.4).
#[must_use]
pub fn dns_01_value(key_authorization: &str) -> String {
    base64url::encode(digest(&SHA256, key_authorization.as_bytes()))
}

#[cfg(test)]
mod tests {
    use super::{dns_01_value, key_authorization};

    #[test]
    fn token_and_thumbprint_are_joined_by_a_dot() {
        let text = key_authorization("token", "thumb");
        assert_eq!(text, "token.thumb");
        // printf token.thumb | openssl dgst -sha256 -binary | basenc --base64url
        assert_eq!(
            dns_01_value(&text),
            "lCdftpJCXapaZHkBGIZbcubeKW8RmA0jSG_aZN01zbU"
        );
    }
}
