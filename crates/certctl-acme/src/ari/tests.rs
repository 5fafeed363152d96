use std::time::Duration;

use certctl_domain::{acme::ProblemType, serial::SerialNumber, time::Timestamp};
use proptest::prelude::*;

use super::{CertId, DAY, HOUR, Lifetime, Window, window};
use crate::base64url;

/// The example of RFC 9773 §4.1, whose serial number starts with a zero octet because its first bit is set.
const RFC_9773: &str = "aYhba4dGQEHhs3uEe6CuLN4ByNQ.AIdlQyE";

#[test]
fn the_id_is_that_of_rfc_9773() {
    let id = CertId::parse(RFC_9773).unwrap();
    assert_eq!(id.key_id().len(), 20);
    assert_eq!(&id.key_id()[..3], [0x69, 0x88, 0x5b]);
    assert_eq!(id.serial().as_str(), "87654321");
    assert_eq!(id.to_string(), RFC_9773);
}

fn refused(text: &str) {
    let problem = CertId::parse(text).unwrap_err();
    assert_eq!(
        (problem.kind, problem.status),
        (ProblemType::Malformed, 400),
        "{text:?}"
    );
}

#[test]
fn an_id_has_two_parts_of_base64url() {
    for bad in [
        "",
        ".",
        "..",
        "aYhba4dGQEHhs3uEe6CuLN4ByNQ",
        "aYhba4dGQEHhs3uEe6CuLN4ByNQ.",
        ".AIdlQyE",
        "aYhba4dGQEHhs3uEe6CuLN4ByNQ.AIdlQyE.AIdlQyE",
        "aYhba4dGQEHhs3uEe6CuLN4ByNQ.AIdlQyE.",
        "aYhba4dGQEHhs3uEe6CuLN4ByNQ.AIdlQyE=",
        "aYhba4dGQEHhs3uEe6CuLN4ByNQ=.AIdlQyE",
        "aYhba4dGQEHhs3uEe6CuLN4ByNQ%2EAIdlQyE",
        "aYhba4dGQEHhs3uEe6CuLN4ByN+.AIdlQyE",
        "aYhba4dGQEHhs3uEe6CuLN4ByNQ .AIdlQyE",
    ] {
        refused(bad);
    }
}

#[test]
fn bits_left_over_must_be_zero() {
    assert!(CertId::parse("AA.AQ").is_ok());
    for bad in ["AB.AQ", "AA.AR", "AAB.AQ"] {
        refused(bad);
    }
}

#[test]
fn a_serial_number_has_one_form() {
    let id = |serial: &[u8]| format!("AAAA.{}", base64url::encode(serial));
    for good in [&[1][..], &[0x7f], &[0, 0x80], &[0, 0xff, 0], &[0x7f; 20]] {
        assert_eq!(CertId::parse(&id(good)).unwrap().to_string(), id(good));
    }
    let long = [&[0][..], &[0xff; 20]].concat();
    assert_eq!(CertId::parse(&id(&long)).unwrap().to_string(), id(&long));
    // Negative, with an octet too many, zero, too long.
    for bad in [
        &[0x80][..],
        &[0xff, 1],
        &[0, 1],
        &[0, 0, 0x80],
        &[0],
        &[1; 21],
    ] {
        refused(&id(bad));
    }
}

#[test]
fn key_identifiers_are_bounded() {
    let id = |length: usize| format!("{}.AQ", base64url::encode(vec![1; length]));
    assert!(CertId::parse(&id(64)).is_ok());
    refused(&id(65));
    refused(&id(10_000));
}

proptest! {
    #[test]
    fn ids_round_trip(key_id in prop::collection::vec(any::<u8>(), 1..=64), serial in prop::collection::vec(any::<u8>(), 1..=20)) {
        prop_assume!(serial.iter().any(|octet| *octet != 0));
        let id = CertId { key_id, serial: SerialNumber::from_be_bytes(&serial).unwrap() };
        prop_assert_eq!(CertId::parse(&id.to_string()), Ok(id));
    }

    #[test]
    fn whatever_is_read_is_written_back(text in "[A-Za-z0-9_-]{0,30}\\.?[A-Za-z0-9_-]{0,30}") {
        if let Ok(id) = CertId::parse(&text) {
            prop_assert_eq!(id.to_string(), text);
        }
    }
}

// Windows.

const START: Timestamp = Timestamp::from_seconds(1_790_000_000);

fn days(count: u32) -> Duration {
    DAY * count
}

/// Ninety days, asked about so many days after its start.
fn ninety(renewal_days: Option<u32>, day: u32) -> (u64, u64) {
    let lifetime = Lifetime {
        not_before: START,
        not_after: START + days(90),
        is_revoked: false,
        renewal_days,
    };
    let Window { start, end } = window(&lifetime, START + days(day));
    (start.since(START).as_secs(), end.since(START).as_secs())
}

fn in_days(start: u64, end: u64) -> (u64, u64) {
    (start * 86_400, end * 86_400)
}

#[test]
fn a_revoked_certificate_is_renewed_at_once() {
    let now = START + days(10);
    for not_after in [START + days(90), START + days(5)] {
        let lifetime = Lifetime {
            not_before: START,
            not_after,
            is_revoked: true,
            renewal_days: Some(30),
        };
        let expected = Window {
            start: now - HOUR,
            end: now,
        };
        assert_eq!(window(&lifetime, now), expected);
    }
}

#[test]
fn a_certificate_that_is_over_is_renewed_within_a_day() {
    for day in [90, 91, 400] {
        let day_after = u64::from(day) + 1;
        assert_eq!(ninety(Some(30), day), in_days(day.into(), day_after));
        assert_eq!(ninety(None, day), in_days(day.into(), day_after));
    }
}

#[test]
fn a_certificate_that_ends_before_it_starts_has_the_day_before_its_end() {
    let end = START + days(10);
    for not_before in [end, end + days(1)] {
        let lifetime = Lifetime {
            not_before,
            not_after: end,
            is_revoked: false,
            renewal_days: Some(3),
        };
        let expected = Window {
            start: end - DAY,
            end,
        };
        assert_eq!(window(&lifetime, START), expected);
    }
}

#[test]
fn a_policy_renews_in_the_first_half_of_its_window() {
    assert_eq!(ninety(Some(30), 0), in_days(60, 75));
    assert_eq!(ninety(Some(90), 0), in_days(0, 45));
    assert_eq!(ninety(Some(1), 0), (89 * 86_400, 89 * 86_400 + 43_200));
}

#[test]
fn without_a_policy_it_is_from_the_last_third_to_the_last_ninth() {
    assert_eq!(ninety(None, 0), in_days(60, 80));
    assert_eq!(ninety(Some(0), 0), in_days(60, 80));
}

#[test]
fn a_policy_that_is_longer_than_the_validity_does_not_count() {
    assert_eq!(ninety(Some(91), 0), in_days(60, 80));
    assert_eq!(ninety(Some(u32::MAX), 0), in_days(60, 80));
}

#[test]
fn a_window_does_not_start_in_the_past_and_is_never_empty() {
    assert_eq!(ninety(Some(30), 65), in_days(65, 75));
    assert_eq!(ninety(None, 65), in_days(65, 80));
    // Past the end of the window, but not of the certificate.
    assert_eq!(ninety(Some(30), 80), (80 * 86_400, 80 * 86_400 + 1));
    assert_eq!(ninety(None, 85), (85 * 86_400, 85 * 86_400 + 1));
}

proptest! {
    #[test]
    fn windows_are_never_empty_nor_before_now(
        validity in -10_000_000_i64..100_000_000,
        asked in -10_000_000_i64..200_000_000,
        renewal_days in prop::option::of(0_u32..5000),
        is_revoked: bool,
    ) {
        let at = |seconds: i64| Timestamp::from_seconds(1_790_000_000 + seconds);
        let lifetime = Lifetime { not_before: at(0), not_after: at(validity), is_revoked, renewal_days };
        let Window { start, end } = window(&lifetime, at(asked));
        prop_assert!(start < end);
        prop_assert!(start.truncated_to_seconds() < end.truncated_to_seconds());
        if !is_revoked && validity > 0 {
            prop_assert!(start >= at(asked));
        }
    }
}
