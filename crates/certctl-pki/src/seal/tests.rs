use certctl_domain::secret::Secret;
use proptest::prelude::*;
use ring::aead::{AES_256_GCM, Aad, LessSafeKey, UnboundKey};

use super::{HEADER_LEN, NONCE_LEN, Passphrase, SALT_LEN, Sealer, TAG_LEN, nonce_of};
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
    assert_eq!(sealer().reseal(PLACE, &blob), Ok(None));
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
    let resealed = rotated.reseal(PLACE, &blob).unwrap().expect("it is stale");
    assert_eq!(rotated.reseal(PLACE, &resealed), Ok(None));
    let done = rotated.with_previous(None);
    assert_eq!(&done.open(PLACE, &resealed).unwrap()[..], b"token");
    assert_eq!(done.open(PLACE, &blob), Err(Error::Unsealable));
}

#[test]
fn without_a_passphrase_nothing_is_sealed_and_nothing_left_plain() {
    let none = Sealer::new(&Secret::new(""));
    assert_eq!(none.seal(PLACE, b"token"), Err(Error::NoEncryptionKey));
    assert_eq!(none.open(PLACE, &[4; 64]), Err(Error::NoEncryptionKey));
    assert_eq!(none.reseal(PLACE, &[4; 64]), Err(Error::NoEncryptionKey));
}

const PASSPHRASE: &str = "correct horse battery staple";
const SALT: [u8; SALT_LEN] = [7; SALT_LEN];

/// A blob as operations §9 says, put together here step by step and not by the code under test.
fn blob(header: &[u8], salt: &[u8], rounds: u32, nonce: [u8; NONCE_LEN]) -> Vec<u8> {
    let mut key = [0; 32];
    ring::pbkdf2::derive(
        ring::pbkdf2::PBKDF2_HMAC_SHA256,
        rounds.try_into().unwrap(),
        salt,
        PASSPHRASE.as_bytes(),
        &mut key,
    );
    let key = LessSafeKey::new(UnboundKey::new(&AES_256_GCM, &key).unwrap());
    let mut sealed = b"old token".to_vec();
    key.seal_in_place_append_tag(nonce_of(&nonce).unwrap(), Aad::empty(), &mut sealed)
        .unwrap();
    [header, &nonce, &sealed].concat()
}

fn v3() -> Vec<u8> {
    blob(&[&[3][..], &SALT].concat(), &SALT, 600_000, [9; NONCE_LEN])
}

fn v2() -> Vec<u8> {
    blob(&[&[2][..], &SALT].concat(), &SALT, 100_000, [9; NONCE_LEN])
}

/// The nonce comes first, so its first byte is where others have their marker.
fn v1(first: u8) -> Vec<u8> {
    let mut nonce = [9; NONCE_LEN];
    nonce[0] = first;
    blob(b"", b"certctl-config-encryption-v1", 100_000, nonce)
}

/// Known answers, computed by another implementation (Python's hashlib and cryptography), so that both sides of the tests above
/// cannot be wrong in the same way.
#[test]
fn the_old_formats_are_what_others_wrote() {
    for (blob, known) in [
        (
            v3(),
            "0307070707070707070707070707070707090909090909090909090909e37670a1eb46cfddaa7d255b545ddc4a2616db6dda48eda4ab",
        ),
        (
            v2(),
            "0207070707070707070707070707070707090909090909090909090909c7f053b7cb50a915a147fa79ee30e57bda484e8bd5b2b2e0b1",
        ),
        (
            v1(9),
            "090909090909090909090909f808796fbd319631f568c0420eacf5464a12991fa78e5d9414",
        ),
    ] {
        assert_eq!(hex::encode(blob), known);
    }
}

#[test]
fn version_3_is_read_and_sealed_anew() {
    assert_eq!(&sealer().open(PLACE, &v3()).unwrap()[..], b"old token");
    let anew = sealer().reseal(PLACE, &v3()).unwrap().expect("it is stale");
    assert_eq!(anew[0], 4);
    assert_eq!(&sealer().open(PLACE, &anew).unwrap()[..], b"old token");
}

#[test]
fn versions_1_and_2_are_imported_and_not_read() {
    // A first byte that looks like the marker of another format does not mislead.
    for (blob, marker) in [(v2(), 2), (v1(9), 9), (v1(2), 2)] {
        assert_eq!(
            sealer().open(PLACE, &blob),
            Err(Error::SealFormat { marker })
        );
    }
    for marker in [3, 4] {
        assert_eq!(sealer().open(PLACE, &v1(marker)), Err(Error::Unsealable));
    }
    let blobs = [v2(), v1(9), v1(2), v1(3), v1(4)];
    for blob in &blobs {
        assert_eq!(&sealer().import(PLACE, blob).unwrap()[..], b"old token");
        let anew = sealer().reseal(PLACE, blob).unwrap().expect("it is stale");
        assert_eq!(&sealer().open(PLACE, &anew).unwrap()[..], b"old token");
    }
    // Under the passphrase before, too.
    let rotated =
        Sealer::new(&Secret::new("the one after it")).with_previous(Some(&Secret::new(PASSPHRASE)));
    for blob in &blobs[..2] {
        assert_eq!(&rotated.import(PLACE, blob).unwrap()[..], b"old token");
    }
}

#[test]
fn what_was_changed_is_imported_in_no_format() {
    for mut blob in [v1(9), v2(), v3(), sealer().seal(PLACE, b"x").unwrap()] {
        *blob.last_mut().unwrap() ^= 1;
        assert_eq!(sealer().import(PLACE, &blob), Err(Error::Unsealable));
        assert_eq!(sealer().import(PLACE, &blob[..20]), Err(Error::Unsealable));
    }
    for short in [&[][..], &[1; 27]] {
        assert_eq!(sealer().import(PLACE, short), Err(Error::Unsealable));
    }
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
