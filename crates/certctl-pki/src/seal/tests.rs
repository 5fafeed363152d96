use certctl_domain::secret::Secret;
use proptest::prelude::*;
use ring::aead::{AES_256_GCM, Aad, LessSafeKey, UnboundKey};

use super::{HEADER_LEN, NONCE_LEN, Passphrase, SALT_LEN, Sealer, TAG_LEN, V3, nonce_of};
use crate::Error;

const PLACE: &str = "issuers:encrypted_config:iss-1";

/// Stretching takes a while, so one sealer serves all tests that need no other.
fn sealer() -> &'static Sealer {
    static SEALER: std::sync::LazyLock<Sealer> =
        std::sync::LazyLock::new(|| Sealer::new(&Secret::new("correct horse battery staple")));
    &SEALER
}

#[test]
fn a_sealed_value_opens_at_its_place_and_hides_what_it_is() {
    let blob = sealer().seal(PLACE, b"token").unwrap();
    assert_eq!(blob[0], 4);
    assert_eq!(blob.len(), HEADER_LEN + 5 + TAG_LEN);
    assert!(!blob.windows(5).any(|window| window == b"token"));
    assert_eq!(&sealer().open(PLACE, &blob).unwrap()[..], b"token");
    assert_ne!(blob, sealer().seal(PLACE, b"token").unwrap());
    assert_eq!(sealer().is_stale(PLACE, &blob), Ok(false));
}

#[test]
fn a_blob_moved_to_another_place_stays_shut() {
    let blob = sealer().seal(PLACE, b"token").unwrap();
    for place in [
        "issuers:encrypted_config:iss-2",
        "targets:encrypted_config:iss-1",
        "",
    ] {
        assert_eq!(sealer().open(place, &blob), Err(Error::Unsealable));
    }
}

#[test]
fn a_cut_blob_stays_shut() {
    let blob = sealer().seal(PLACE, b"token").unwrap();
    for length in 0..blob.len() {
        assert_eq!(
            sealer().open(PLACE, &blob[..length]),
            Err(Error::Unsealable),
            "{length}"
        );
    }
}

#[test]
fn a_flipped_bit_keeps_it_shut_wherever_it_is() {
    let blob = sealer().seal(PLACE, b"token").unwrap();
    for bit in 0..blob.len() * 8 {
        let mut flipped = blob.clone();
        flipped[bit / 8] ^= 1 << (bit % 8);
        // Marker 4 with its lowest three bits flipped one by one is 5, 6 and 0: other formats.
        assert!(sealer().open(PLACE, &flipped).is_err(), "bit {bit}");
    }
}

#[test]
fn the_passphrase_before_opens_until_it_is_taken_away() {
    let (old, new) = (Secret::new("old passphrase"), Secret::new("new passphrase"));
    let blob = Sealer::new(&old).seal(PLACE, b"token").unwrap();
    let rotated = Sealer::new(&new).with_previous(Some(&old));
    assert_eq!(&rotated.open(PLACE, &blob).unwrap()[..], b"token");
    assert_eq!(rotated.is_stale(PLACE, &blob), Ok(true));
    let resealed = rotated.seal(PLACE, b"token").unwrap();
    assert_eq!(rotated.is_stale(PLACE, &resealed), Ok(false));
    let done = rotated.with_previous(None);
    assert_eq!(&done.open(PLACE, &resealed).unwrap()[..], b"token");
    assert_eq!(done.open(PLACE, &blob), Err(Error::Unsealable));
}

#[test]
fn without_a_passphrase_nothing_is_sealed_and_nothing_left_plain() {
    let none = Sealer::new(&Secret::new(""));
    assert_eq!(none.seal(PLACE, b"token"), Err(Error::NoEncryptionKey));
    assert_eq!(none.open(PLACE, &[4; 64]), Err(Error::NoEncryptionKey));
}

/// As the format of operations §9 says, put together here step by step and not by the code under test.
#[test]
fn version_3_is_read_and_is_stale() {
    let passphrase = "correct horse battery staple";
    let (salt, nonce) = ([7; SALT_LEN], [9; NONCE_LEN]);
    let mut key = [0; 32];
    ring::pbkdf2::derive(
        ring::pbkdf2::PBKDF2_HMAC_SHA256,
        600_000.try_into().unwrap(),
        &salt,
        passphrase.as_bytes(),
        &mut key,
    );
    let key = LessSafeKey::new(UnboundKey::new(&AES_256_GCM, &key).unwrap());
    let mut sealed = b"old token".to_vec();
    key.seal_in_place_append_tag(nonce_of(&nonce).unwrap(), Aad::empty(), &mut sealed)
        .unwrap();
    let blob = [&[V3][..], &salt, &nonce, &sealed].concat();
    assert_eq!(&sealer().open(PLACE, &blob).unwrap()[..], b"old token");
    assert_eq!(sealer().is_stale(PLACE, &blob), Ok(true));
}

#[test]
fn older_formats_are_named() {
    assert_eq!(
        sealer().open(PLACE, &[2; 64]),
        Err(Error::SealFormat { marker: 2 })
    );
}

#[test]
fn the_master_key_is_derived_when_first_needed() {
    let fresh = Sealer::new(&Secret::new("never used"));
    let is_derived =
        |passphrase: &Option<Passphrase>| passphrase.as_ref().unwrap().master.get().is_some();
    assert!(!is_derived(&fresh.current));
    fresh.seal(PLACE, b"x").unwrap();
    assert!(is_derived(&fresh.current));
    assert_eq!(format!("{fresh:?}"), "Sealer(<redacted>)");
}

proptest! {
    #[test]
    fn any_value_round_trips(place in "[a-z_]{1,20}:[a-z_]{1,20}:[a-zA-Z0-9._-]{1,40}", plain in prop::collection::vec(any::<u8>(), 0..500)) {
        let blob = sealer().seal(&place, &plain).unwrap();
        prop_assert_eq!(&sealer().open(&place, &blob).unwrap()[..], &plain[..]);
    }
}
