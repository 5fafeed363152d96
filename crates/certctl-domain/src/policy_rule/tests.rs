use std::{collections::BTreeMap, time::Duration};

use serde_json::{Value, json};

use super::{DAY, Demand, PolicyType as T, Subject, covers};
use crate::id::CertificateId;

fn subject() -> Subject {
    Subject {
        certificate_id: CertificateId::from_stored("mc-1".into()),
        issuer_id: "iss-local".into(),
        common_name: "www.example.test".into(),
        sans: vec!["www.example.test".into(), "api.example.test".into()],
        environment: "production".into(),
        owner_id: "o-alice".into(),
        team_id: "t-1".into(),
        tags: BTreeMap::from([
            ("cost-center".into(), "42".into()),
            ("blank".into(), " ".into()),
        ]),
        renewal_window_days: 14,
        lifetime: Some(90 * DAY),
    }
}

#[track_caller]
fn violation(kind: T, config: &Value) -> Option<String> {
    Demand::parse(kind, config).unwrap().violation(&subject())
}

#[test]
fn each_type_finds_what_it_asks_for() {
    for (kind, config, found) in [
        (
            T::AllowedIssuers,
            json!({"allowed_issuer_ids": ["iss-local", "x"]}),
            None,
        ),
        (
            T::AllowedIssuers,
            json!({"allowed_issuer_ids": ["x"]}),
            Some("issuer iss-local is not allowed"),
        ),
        (
            T::AllowedDomains,
            json!({"allowed_domains": ["*.Example.test"]}),
            None,
        ),
        (
            T::AllowedDomains,
            json!({"allowed_domains": ["www.example.test", "example.test"]}),
            Some("not in an allowed domain: api.example.test"),
        ),
        (
            T::RequiredMetadata,
            json!({"required_keys": ["owner", "team", "cost-center"]}),
            None,
        ),
        (
            T::RequiredMetadata,
            json!({"required_keys": ["owner", "blank", "absent"]}),
            Some("required metadata is missing: blank, absent"),
        ),
        (
            T::AllowedEnvironments,
            json!({"allowed": ["Production"]}),
            None,
        ),
        (
            T::AllowedEnvironments,
            json!({"allowed": ["staging"]}),
            Some("environment \"production\" is not allowed"),
        ),
        (T::RenewalLeadTime, json!({"lead_time_days": 14}), None),
        (
            T::RenewalLeadTime,
            json!({}),
            Some("renewed 14 days before its end, at least 30 are required"),
        ),
        (T::CertificateLifetime, json!({"max_days": 90}), None),
        (
            T::CertificateLifetime,
            json!({"max_days": 89}),
            Some("lives 90 days, at most 89 are allowed"),
        ),
    ] {
        assert_eq!(
            violation(kind, &config).as_deref(),
            found,
            "{kind} {config}"
        );
    }
}

#[test]
fn a_lifetime_that_is_not_known_violates_nothing_and_a_second_too_long_does() {
    let demand = Demand::Lifetime(90);
    let mut one = subject();
    one.lifetime = None;
    assert_eq!(demand.violation(&one), None);
    one.lifetime = Some(90 * DAY + Duration::from_secs(1));
    assert_eq!(
        demand.violation(&one).unwrap(),
        "lives 91 days, at most 90 are allowed"
    );
}

#[test]
fn a_wildcard_is_one_label_and_every_kind_of_name_has_a_host() {
    for (domain, host, expected) in [
        ("*.example.test", "a.example.test", true),
        ("*.example.test", "*.example.test", true),
        ("*.example.test", "a.b.example.test", false),
        ("*.example.test", "example.test", false),
        ("*.example.test", ".example.test", false),
        ("*.example.test", "a.evilexample.test", false),
        ("example.test", "example.test", true),
        ("example.test", "a.example.test", false),
    ] {
        assert_eq!(covers(domain, host), expected, "{domain} {host}");
    }
    let demand = Demand::Domains(vec!["example.test".into(), "192.0.2.1".into()]);
    let mut one = subject();
    one.common_name = "ann@example.test".into();
    one.sans = vec!["192.0.2.1".into(), "spiffe://example.test/a/b".into()];
    assert_eq!(demand.violation(&one), None);
    one.sans = vec!["spiffe://evil.test/example.test".into(), "192.0.2.2".into()];
    assert_eq!(
        demand.violation(&one).unwrap(),
        "not in an allowed domain: evil.test, 192.0.2.2"
    );
}

#[test]
fn configurations_that_say_nothing_are_refused() {
    for (kind, config) in [
        (T::AllowedIssuers, json!([])),
        (T::AllowedIssuers, json!({})),
        (T::AllowedIssuers, json!({"allowed_issuer_ids": []})),
        (
            T::AllowedIssuers,
            json!({"allowed_issuer_ids": "iss-local"}),
        ),
        (T::AllowedIssuers, json!({"allowed_issuer_ids": [1]})),
        (T::AllowedIssuers, json!({"allowed_issuer_ids": ["a\0"]})),
        (T::AllowedDomains, json!({"allowed_domains": ["*."]})),
        (T::AllowedDomains, json!({"allowed_domains": ["a.*.test"]})),
        (T::AllowedDomains, json!({"allowed_domains": [" "]})),
        (
            T::RequiredMetadata,
            json!({"required_keys": vec!["x"; 201]}),
        ),
        (
            T::AllowedEnvironments,
            json!({"allowed": ["x".repeat(254)]}),
        ),
        (T::RenewalLeadTime, json!({"lead_time_days": 0})),
        (T::RenewalLeadTime, json!({"lead_time_days": -1})),
        (T::RenewalLeadTime, json!({"lead_time_days": "14"})),
        (T::CertificateLifetime, json!({})),
        (T::CertificateLifetime, json!({"max_days": 1.5})),
        (T::CertificateLifetime, json!({"max_days": 40_000})),
    ] {
        let refused = Demand::parse(kind, &config).unwrap_err();
        assert_eq!(refused.field, "config", "{kind} {config}");
    }
}

#[test]
fn a_certificate_without_an_environment_is_in_none_that_is_not_allowed() {
    let mut one = subject();
    let allowed = Demand::Environments(vec!["staging".into()]);
    let required = Demand::Metadata(vec!["environment".into()]);
    assert!(allowed.violation(&one).is_some() && required.violation(&one).is_none());
    one.environment = String::new();
    assert!(allowed.violation(&one).is_none() && required.violation(&one).is_some());
}

#[test]
fn messages_are_bounded() {
    let mut one = subject();
    one.sans = (0..100)
        .map(|n| format!("host-number-{n}.evil.test"))
        .collect();
    let found = Demand::Domains(vec!["example.test".into()]).violation(&one);
    assert_eq!(found.unwrap().chars().count(), 500);
}
