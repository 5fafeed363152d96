use certctl_domain::{acme::ChallengeType, ports::challenge::CaaRequest};
use hickory_proto::rr::rdata::CAA;

use super::{super::Config, Caa, Verdict};

/// A record as it is written in a zone: flags, tag, value.
fn record(flags: u8, tag: &str, value: &str) -> CAA {
    let mut record = CAA::new_issue(flags & 128 != 0, None, Vec::new());
    record.tag = tag.to_owned();
    record.value = value.as_bytes().to_vec();
    record
}

fn verdict(records: &[(u8, &str, &str)], wildcard: bool) -> bool {
    let caa = Caa::new(
        &Config::default(),
        &["CA.example".to_owned(), "other.example.".to_owned()],
    );
    let records: Vec<CAA> = records
        .iter()
        .map(|(flags, tag, value)| record(*flags, tag, value))
        .collect();
    let request = CaaRequest {
        name: "www.example.com".to_owned(),
        wildcard,
        account_uri: "https://ca.example/account/1".to_owned(),
        method: ChallengeType::Http01,
    };
    caa.verdict(&records, &request) == Verdict::Allowed
}

#[test]
fn records_name_who_may_issue() {
    for (records, name, wildcard) in [
        (vec![(0, "issue", "ca.example")], true, true),
        (vec![(0, "issue", "CA.EXAMPLE")], true, true),
        (vec![(0, "ISSUE", "ca.example")], true, true),
        (vec![(0, "issue", "other.example")], true, true),
        (vec![(128, "issue", "ca.example")], true, true),
        (vec![(0, "issue", "stranger.example")], false, false),
        (vec![(0, "issue", "sub.ca.example")], false, false),
        (vec![(0, "issue", ";")], false, false),
        (vec![(0, "issue", "")], false, false),
        (vec![(0, "issue", "%%%%%")], false, false),
        (
            vec![(0, "issue", "stranger.example"), (0, "issue", "ca.example")],
            true,
            true,
        ),
        (
            vec![(0, "issue", ";"), (0, "issue", "ca.example")],
            true,
            true,
        ),
    ] {
        assert_eq!(verdict(&records, false), name, "{records:?}");
        assert_eq!(verdict(&records, true), wildcard, "{records:?} with a star");
    }
}

#[test]
fn a_wildcard_has_a_property_of_its_own() {
    for (records, name, wildcard) in [
        (
            vec![(0, "issue", "ca.example"), (0, "issuewild", ";")],
            true,
            false,
        ),
        (
            vec![(0, "issue", ";"), (0, "issuewild", "ca.example")],
            false,
            true,
        ),
        // For names without a star there is no restriction here at all (RFC 8659 §4.3).
        (vec![(0, "issuewild", "stranger.example")], true, false),
        (vec![(0, "issuewild", "ca.example")], true, true),
        (vec![(0, "issuewild", "%%%")], true, false),
    ] {
        assert_eq!(verdict(&records, false), name, "{records:?}");
        assert_eq!(verdict(&records, true), wildcard, "{records:?} with a star");
    }
}

#[test]
fn what_is_not_known_forbids_only_when_it_is_critical() {
    for (records, expected) in [
        (vec![(0, "iodef", "mailto:a@example.com")], true),
        (vec![(128, "iodef", "mailto:a@example.com")], true),
        (vec![(0, "tbs", "Unknown")], true),
        (vec![(128, "tbs", "Unknown")], false),
        (
            vec![(128, "tbs", "Unknown"), (0, "issue", "ca.example")],
            false,
        ),
        (vec![(0, "issuemail", "stranger.example")], true),
        (vec![(64, "tbs", "Unknown")], true),
    ] {
        assert_eq!(verdict(&records, false), expected, "{records:?}");
    }
}

#[test]
fn accounts_and_methods_are_conditions() {
    for (value, expected) in [
        ("ca.example; accounturi=https://ca.example/account/1", true),
        ("ca.example; accounturi=https://ca.example/account/2", false),
        ("ca.example; validationmethods=http-01", true),
        ("ca.example; validationmethods=dns-01", false),
    ] {
        assert_eq!(verdict(&[(0, "issue", value)], false), expected, "{value}");
    }
    // A second property may allow what the first does not.
    assert!(verdict(
        &[
            (0, "issue", "ca.example; validationmethods=dns-01"),
            (0, "issue", "ca.example; validationmethods=http-01"),
        ],
        false
    ));
}

#[test]
fn without_an_identity_every_restriction_forbids() {
    let caa = Caa::new(&Config::default(), &[]);
    let request = CaaRequest {
        name: "example.com".to_owned(),
        wildcard: false,
        account_uri: String::new(),
        method: ChallengeType::Dns01,
    };
    for value in ["ca.example", "", ";"] {
        let records = [record(0, "issue", value)];
        assert_ne!(
            caa.verdict(&records, &request),
            Verdict::Allowed,
            "{value:?}"
        );
    }
}
