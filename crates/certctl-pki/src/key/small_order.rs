//! Ed25519 keys that are keys of everybody.
//!
//! Multiples of a point of small order are few, so for such a key there are signatures that verify whatever was signed. RFC 8032
//! leaves it to the protocol to refuse them, and ring does not.

/// The second coordinates of all points whose order divides eight, little-endian, without the sign bit of the first: their one
/// encoding, and those that exceed the field.
const COORDINATES: [[u8; 32]; 7] = [
    // Of order 4, and the same above the field.
    [0; 32],
    near_top(0xed),
    // The neutral element.
    {
        let mut one = [0; 32];
        one[0] = 1;
        one
    },
    near_top(0xee),
    // Of order 2.
    near_top(0xec),
    // Of order 8.
    [
        0x26, 0xe8, 0x95, 0x8f, 0xc2, 0xb2, 0x27, 0xb0, 0x45, 0xc3, 0xf4, 0x89, 0xf2, 0xef, 0x98,
        0xf0, 0xd5, 0xdf, 0xac, 0x05, 0xd3, 0xc6, 0x33, 0x39, 0xb1, 0x38, 0x02, 0x88, 0x6d, 0x53,
        0xfc, 0x05,
    ],
    [
        0xc7, 0x17, 0x6a, 0x70, 0x3d, 0x4d, 0xd8, 0x4f, 0xba, 0x3c, 0x0b, 0x76, 0x0d, 0x10, 0x67,
        0x0f, 0x2a, 0x20, 0x53, 0xfa, 0x2c, 0x39, 0xcc, 0xc6, 0x4e, 0xc7, 0xfd, 0x77, 0x92, 0xac,
        0x03, 0x7a,
    ],
];

/// A number beside 2^255 - 19, by its last octet.
const fn near_top(last: u8) -> [u8; 32] {
    let mut number = [0xff; 32];
    number[0] = last;
    number[31] = 0x7f;
    number
}

/// Whether an encoded point has one of the eight small orders.
pub(super) fn is_small(point: &[u8]) -> bool {
    let Ok(mut coordinate) = <[u8; 32]>::try_from(point) else {
        return false;
    };
    coordinate[31] &= 0x7f;
    COORDINATES.contains(&coordinate)
}

#[cfg(test)]
mod tests {
    use certctl_domain::key::KeySpec;
    use ring::signature::{ED25519, UnparsedPublicKey};

    use super::{COORDINATES, is_small};
    use crate::{
        Error,
        key::{KeyNumbers, PrivateKey, PublicKey},
    };

    #[test]
    fn a_key_for_which_anybody_can_sign_is_weak() {
        // The neutral element as key and as commitment, and zero: what was signed does not occur in the equation.
        let neutral = COORDINATES[2];
        let forged = [neutral, [0; 32]].concat();
        for message in ["one", "another"] {
            let key = UnparsedPublicKey::new(&ED25519, neutral);
            assert!(key.verify(message.as_bytes(), &forged).is_ok());
        }
        for coordinate in COORDINATES {
            for sign in [0, 0x80] {
                let mut point = coordinate;
                point[31] |= sign;
                let key = PublicKey::from_numbers(KeyNumbers::Ed25519 { x: &point }).unwrap();
                assert!(matches!(key.check_strength(), Err(Error::WeakKey { .. })));
            }
        }
    }

    #[test]
    fn keys_that_were_made_are_none_of_them() {
        for _ in 0..20 {
            let key = PrivateKey::generate(KeySpec::Ed25519).unwrap();
            assert_eq!(key.public_key().check_strength(), Ok(()));
        }
        assert!(!is_small(&[0; 31]));
    }
}
