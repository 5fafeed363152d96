use certctl_domain::{
    acme::{Problem, ProblemType, Subproblem},
    revocation::RevocationReason,
};
use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;

fn kind<T>(read: Result<T, Problem>) -> Result<T, ProblemType> {
    read.map_err(|problem| problem.kind)
}

fn new_account(payload: &Value) -> Result<NewAccount, ProblemType> {
    kind(NewAccount::parse(payload.to_string().as_bytes()))
}

fn new_order(payload: &Value) -> Result<NewOrder, Problem> {
    NewOrder::parse(payload.to_string().as_bytes())
}

fn names(names: &[&str]) -> Value {
    let identifier = |name: &&str| json!({ "type": "dns", "value": name });
    json!({ "identifiers": names.iter().map(identifier).collect::<Vec<_>>() })
}

// Row 11 of the pipeline: what payload goes with which request.

#[test]
fn row_11_post_as_get_has_the_empty_payload_and_nothing_else() {
    assert_eq!(post_as_get(b""), Ok(()));
    for payload in ["{}", " ", "null", "\"\""] {
        assert_eq!(
            kind(post_as_get(payload.as_bytes())),
            Err(ProblemType::Malformed)
        );
    }
}

#[test]
fn row_11_other_payloads_are_json_objects() {
    for payload in ["null", "[]", "7", "\"\"", "{", "{}x"] {
        let bytes = payload.as_bytes();
        let refused = [
            kind(NewAccount::parse(bytes).map(|_| ())),
            kind(AccountUpdate::parse(bytes).map(|_| ())),
            kind(NewOrder::parse(bytes).map(|_| ())),
            kind(Finalize::parse(bytes).map(|_| ())),
            kind(AuthorizationUpdate::parse(bytes).map(|_| ())),
            kind(ChallengeResponse::parse(bytes).map(|_| ())),
            kind(Revocation::parse(bytes).map(|_| ())),
        ];
        assert_eq!(refused, [Err(ProblemType::Malformed); 7], "{payload}");
    }
}

#[test]
fn row_11_the_empty_payload_reads_where_that_makes_sense_only() {
    assert_eq!(AccountUpdate::parse(b""), Ok(AccountUpdate::Read));
    assert_eq!(
        AuthorizationUpdate::parse(b""),
        Ok(AuthorizationUpdate::Read)
    );
    assert_eq!(ChallengeResponse::parse(b""), Ok(ChallengeResponse::Read));
    assert_eq!(kind(NewAccount::parse(b"")), Err(ProblemType::Malformed));
    assert_eq!(kind(NewOrder::parse(b"")), Err(ProblemType::Malformed));
    assert_eq!(kind(Finalize::parse(b"")), Err(ProblemType::Malformed));
    assert_eq!(kind(Revocation::parse(b"")), Err(ProblemType::Malformed));
}

// Accounts (RFC 8555 §7.3).

#[test]
fn a_new_account_may_say_nothing_at_all() {
    let account = new_account(&json!({ "unknown": [1] })).unwrap();
    assert!(account.contact.is_empty() && !account.terms_agreed);
    assert!(!account.only_return_existing && account.external_account_binding.is_none());
    let account = new_account(&json!({
        "contact": ["mailto:a@example.com"], "termsOfServiceAgreed": true, "onlyReturnExisting": true,
    }))
    .unwrap();
    assert_eq!(account.contact, ["mailto:a@example.com"]);
    assert!(account.terms_agreed && account.only_return_existing);
}

#[test]
fn members_of_an_account_have_their_types() {
    for payload in [
        json!({ "contact": "mailto:a@example.com" }),
        json!({ "contact": [7] }),
        json!({ "termsOfServiceAgreed": "yes" }),
        json!({ "onlyReturnExisting": 1 }),
        json!({ "externalAccountBinding": "text" }),
    ] {
        assert_eq!(
            new_account(&payload),
            Err(ProblemType::Malformed),
            "{payload}"
        );
    }
}

#[test]
fn contacts_are_mailto_urls_with_one_address() {
    for good in [
        "mailto:a@example.com",
        "MAILTO:first.last+tag@sub.example.com",
        "mailto:ops@localhost",
        "mailto:o'neil@xn--bcher-kva.example",
    ] {
        assert!(new_account(&json!({ "contact": [good] })).is_ok(), "{good}");
    }
    for invalid in [
        "",
        "a@example.com",
        "mailto:",
        "mailto:a",
        "mailto:@example.com",
        "mailto:a@",
        "mailto:a@b@example.com",
        "mailto:a@example.com,b@example.com",
        "mailto:a%2Cb@example.com",
        "mailto:a@example.com?subject=x",
        "mailto:a@example.com?cc=b@example.com",
        "mailto:a..b@example.com",
        "mailto:a b@example.com",
        "mailto:a@example.com\r\nBcc: b@example.com",
        "mailto:\"a\"@example.com",
        "mailto:a@-example.com",
        "mailto:a@[192.0.2.1]",
        "mailto:ä@example.com",
    ] {
        let refused = new_account(&json!({ "contact": [invalid] }));
        assert_eq!(refused, Err(ProblemType::InvalidContact), "{invalid:?}");
    }
    let long = format!("mailto:a@{}.example", vec!["a".repeat(63); 4].join("."));
    let refused = new_account(&json!({ "contact": [long] }));
    assert_eq!(refused, Err(ProblemType::InvalidContact));
}

#[test]
fn contacts_of_other_kinds_are_unsupported() {
    for url in [
        "tel:+123",
        "https://example.com",
        "xmpp:a@example.com",
        ":a@example.com",
    ] {
        let refused = new_account(&json!({ "contact": ["mailto:a@example.com", url] }));
        assert_eq!(refused, Err(ProblemType::UnsupportedContact), "{url}");
    }
}

#[test]
fn an_account_has_at_most_ten_contacts() {
    let contacts = |count| json!({ "contact": vec!["mailto:a@example.com"; count] });
    assert!(new_account(&contacts(MAX_CONTACTS)).is_ok());
    let refused = new_account(&contacts(MAX_CONTACTS + 1));
    assert_eq!(refused, Err(ProblemType::InvalidContact));
}

#[test]
fn an_account_is_changed_or_given_up() {
    let update = |payload: Value| kind(AccountUpdate::parse(payload.to_string().as_bytes()));
    assert_eq!(
        update(json!({})),
        Ok(AccountUpdate::Change { contact: None })
    );
    assert_eq!(
        update(json!({ "contact": [] })),
        Ok(AccountUpdate::Change {
            contact: Some(Vec::new())
        })
    );
    // The status comes first: what is given up needs no good contact.
    assert_eq!(
        update(json!({ "status": "deactivated", "contact": ["tel:1"] })),
        Ok(AccountUpdate::Deactivate)
    );
    for status in ["valid", "revoked", "Deactivated", ""] {
        let refused = update(json!({ "status": status, "contact": ["tel:1"] }));
        assert_eq!(refused, Err(ProblemType::Malformed), "{status}");
    }
}

// Orders (RFC 8555 §7.4, RFC 8738, RFC 9773 §5).

#[test]
fn identifiers_are_folded_sorted_and_collapsed() {
    let order = new_order(&json!({ "identifiers": [
        { "type": "dns", "value": "b.example" },
        { "type": "dns", "value": "A.example" },
        { "type": "ip", "value": "192.0.2.1" },
        { "type": "dns", "value": "a.EXAMPLE" },
        { "type": "dns", "value": "*.a.example" },
        { "type": "ip", "value": "192.0.2.1" },
    ] }))
    .unwrap();
    let texts: Vec<String> = order.identifiers.iter().map(ToString::to_string).collect();
    assert_eq!(
        texts,
        ["*.a.example", "a.example", "b.example", "192.0.2.1"]
    );
}

#[test]
fn an_order_without_identifiers_is_malformed() {
    for payload in [
        json!({}),
        json!({ "identifiers": [] }),
        json!({ "identifiers": null }),
        json!({ "identifiers": {} }),
        json!({ "identifiers": ["a.example"] }),
        json!({ "identifiers": [{ "type": "dns" }] }),
        json!({ "identifiers": [{ "value": "a.example" }] }),
        json!({ "identifiers": [{ "type": "dns", "value": 7 }] }),
    ] {
        let refused = kind(new_order(&payload));
        assert_eq!(refused, Err(ProblemType::Malformed), "{payload}");
    }
}

#[test]
fn a_name_that_cannot_be_served_is_rejected_with_its_reason() {
    for name in [
        "",
        "a.example.",
        "a..example",
        "-a.example",
        "under_score.example",
        "bücher.example",
        "192.0.2.1",
        "[2001:db8::1]",
        "*",
        "*.com",
        "*.*.example.com",
        "a.*.example.com",
        "a*.example.com",
        "a.example\u{0}",
    ] {
        let problem = new_order(&names(&[name])).unwrap_err();
        assert_eq!(
            (problem.kind, problem.status),
            (ProblemType::RejectedIdentifier, 400),
            "{name:?}"
        );
        let [only] = &problem.subproblems[..] else {
            panic!("{name:?}: {problem:?}");
        };
        assert_eq!(only.identifier, Some(("dns".to_owned(), name.to_owned())));
    }
    for address in [
        "2001:DB8::1",
        "192.0.2.01",
        "a.example",
        "192.0.2.1/32",
        "fe80::1%1",
    ] {
        let order = json!({ "identifiers": [{ "type": "ip", "value": address }] });
        let refused = kind(new_order(&order));
        assert_eq!(refused, Err(ProblemType::RejectedIdentifier), "{address}");
    }
}

#[test]
fn there_is_one_subproblem_for_each_bad_identifier_and_none_for_good_ones() {
    let problem = new_order(&names(&["a.example.", "good.example", "*"])).unwrap_err();
    assert_eq!(problem.kind, ProblemType::RejectedIdentifier);
    let values: Vec<_> = problem.subproblems.iter().map(value).collect();
    assert_eq!(values, ["a.example.", "*"]);
}

fn value(one: &Subproblem) -> &str {
    &one.identifier.as_ref().unwrap().1
}

#[test]
fn identifiers_of_other_types_are_unsupported() {
    for other in ["email", "DNS", "", "dns "] {
        let order = json!({ "identifiers": [{ "type": other, "value": "a.example" }] });
        let refused = kind(new_order(&order));
        assert_eq!(refused, Err(ProblemType::UnsupportedIdentifier), "{other}");
    }
}

#[test]
fn problems_of_several_kinds_are_compound() {
    let problem = new_order(&json!({ "identifiers": [
        { "type": "email", "value": "a@example.com" }, { "type": "dns", "value": "*" },
    ] }))
    .unwrap_err();
    assert_eq!((problem.kind, problem.status), (ProblemType::Compound, 400));
    let kinds: Vec<_> = problem.subproblems.iter().map(|one| one.kind).collect();
    assert_eq!(
        kinds,
        [
            ProblemType::UnsupportedIdentifier,
            ProblemType::RejectedIdentifier
        ]
    );
}

#[test]
fn an_order_has_at_most_a_hundred_identifiers() {
    let many = |count: usize| {
        let all: Vec<String> = (0..count).map(|n| format!("n{n}.example")).collect();
        names(&all.iter().map(String::as_str).collect::<Vec<_>>())
    };
    assert_eq!(new_order(&many(100)).unwrap().identifiers.len(), 100);
    let refused = kind(new_order(&many(101)));
    assert_eq!(refused, Err(ProblemType::RejectedIdentifier));
    // Duplicates do not count.
    assert!(new_order(&names(&["a.example"; 200])).is_ok());
}

#[test]
fn what_is_said_back_of_bad_identifiers_is_bounded() {
    let long = "*".repeat(5000);
    let problem = new_order(&names(&[long.as_str(); 10])).unwrap_err();
    assert!(
        problem
            .subproblems
            .iter()
            .all(|one| value(one).len() == 128)
    );
    let problem = new_order(&names(&["*"; 1000])).unwrap_err();
    assert_eq!(problem.subproblems.len(), MAX_IDENTIFIERS);
}

#[test]
fn times_are_rfc_3339_and_in_order() {
    let order = |not_before: Value, not_after: Value| {
        let mut payload = names(&["a.example"]);
        (payload["notBefore"], payload["notAfter"]) = (not_before, not_after);
        kind(new_order(&payload))
    };
    let (early, late) = (
        json!("2030-01-01T00:00:00Z"),
        json!("2030-01-01T01:00:00+00:30"),
    );
    let good = order(early.clone(), late.clone()).unwrap();
    assert_eq!(good.not_after.unwrap().to_rfc3339(), "2030-01-01T00:30:00Z");
    assert!(order(Value::Null, late.clone()).is_ok() && order(early.clone(), Value::Null).is_ok());
    for (start, end) in [
        (late, early.clone()),
        (early.clone(), early.clone()),
        (json!("tomorrow"), Value::Null),
        (Value::Null, json!(1_900_000_000)),
        (json!("2030-01-01"), Value::Null),
    ] {
        assert_eq!(order(start, end), Err(ProblemType::Malformed));
    }
}

#[test]
fn a_profile_is_a_name_and_replaces_an_id() {
    let with = |name: &str, value: Value| {
        let mut payload = names(&["a.example"]);
        payload[name] = value;
        kind(new_order(&payload))
    };
    let order = with("profile", json!("prof-web")).unwrap();
    assert_eq!(order.profile.as_deref(), Some("prof-web"));
    let long = with("profile", json!("p".repeat(129)));
    assert_eq!(long, Err(ProblemType::InvalidProfile));
    assert_eq!(with("profile", json!(1)), Err(ProblemType::Malformed));
    let id = "aYhba4dGQEHhs3uEe6CuLN4ByNQ.AIdlQyE";
    let order = with("replaces", json!(id)).unwrap();
    assert_eq!(order.replaces.unwrap().to_string(), id);
    assert_eq!(with("replaces", json!("x")), Err(ProblemType::Malformed));
}

// The rest.

#[test]
fn a_csr_is_base64url() {
    let finalize = |csr: Value| {
        kind(Finalize::parse(
            json!({ "csr": csr }).to_string().as_bytes(),
        ))
    };
    assert_eq!(finalize(json!("MAA")).unwrap().csr, [0x30, 0]);
    assert_eq!(finalize(json!("MAA=")), Err(ProblemType::BadCsr));
    assert_eq!(finalize(json!("-----BEGIN")), Err(ProblemType::BadCsr));
    assert_eq!(finalize(json!(7)), Err(ProblemType::Malformed));
    assert_eq!(finalize(Value::Null), Err(ProblemType::Malformed));
}

#[test]
fn an_authorization_can_only_be_given_up() {
    let update = |payload: Value| kind(AuthorizationUpdate::parse(payload.to_string().as_bytes()));
    let given_up = update(json!({ "status": "deactivated" }));
    assert_eq!(given_up, Ok(AuthorizationUpdate::Deactivate));
    for payload in [
        json!({}),
        json!({ "status": "valid" }),
        json!({ "status": 1 }),
    ] {
        assert_eq!(update(payload), Err(ProblemType::Malformed));
    }
}

#[test]
fn a_challenge_is_answered_with_any_object() {
    for payload in ["{}", r#"{"keyAuthorization":"of an older draft"}"#] {
        let read = ChallengeResponse::parse(payload.as_bytes());
        assert_eq!(read, Ok(ChallengeResponse::Ready));
    }
}

#[test]
fn reasons_are_those_that_clients_may_give() {
    let revoke = |reason: Value| {
        let payload = json!({ "certificate": "MAA", "reason": reason });
        kind(Revocation::parse(payload.to_string().as_bytes())).map(|read| read.reason)
    };
    for code in [0, 1, 2, 3, 4, 5, 6, 9] {
        assert_eq!(revoke(json!(code)).unwrap().code(), code);
    }
    assert_eq!(revoke(Value::Null), Ok(RevocationReason::Unspecified));
    for code in [
        json!(7),
        json!(8),
        json!(10),
        json!(-1),
        json!(256),
        json!(1.5),
        json!(u64::MAX),
    ] {
        assert_eq!(revoke(code), Err(ProblemType::BadRevocationReason));
    }
    assert_eq!(revoke(json!("1")), Err(ProblemType::Malformed));
    assert_eq!(kind(Revocation::parse(b"{}")), Err(ProblemType::Malformed));
}

proptest! {
    #[test]
    fn reading_never_panics(payload: Vec<u8>) {
        let _ = NewAccount::parse(&payload);
        let _ = AccountUpdate::parse(&payload);
        let _ = NewOrder::parse(&payload);
        let _ = Revocation::parse(&payload);
    }

    #[test]
    fn contacts_that_are_taken_have_no_second_address(local in "[ -~]{0,12}", host in "[ -~]{0,12}") {
        let contact = format!("mailto:{local}@{host}");
        if new_account(&json!({ "contact": [contact] })).is_ok() {
            prop_assert!(!contact[7..].contains([',', '?', ' ', '<', '>', '"', '%']));
            prop_assert_eq!(contact.matches('@').count(), 1);
        }
    }
}
