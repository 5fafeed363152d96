use proptest::{collection, prelude::*};
use serde_json::{Map, Value, json};

use super::{CREDENTIAL_KEYS, PERSONAL_KEYS, redact, replacement};

#[test]
fn secrets_and_personal_data_are_replaced_at_any_depth() {
    let redacted =
        redact(json!({"a": [{"Password": "hunter2"}], "email": "x@example.com", "serial": "1f"}));
    assert_eq!(
        redacted,
        json!({"a": [{"Password": "[REDACTED:CREDENTIAL]"}], "email": "[REDACTED:PII]", "serial": "1f",
               "redacted_keys": ["Password", "email"]})
    );
    assert_eq!(redact(json!(null)), json!({}));
}

#[test]
fn every_key_of_the_contract_is_known_in_any_case() {
    assert_eq!((CREDENTIAL_KEYS.len(), PERSONAL_KEYS.len()), (28, 23));
    for (keys, text) in [
        (CREDENTIAL_KEYS, "[REDACTED:CREDENTIAL]"),
        (PERSONAL_KEYS, "[REDACTED:PII]"),
    ] {
        for key in keys {
            for key in [(*key).to_owned(), key.to_uppercase()] {
                let redacted = redact(Value::Object(Map::from_iter([(
                    key.clone(),
                    json!({"deep": 1}),
                )])));
                assert_eq!(redacted[&key], text);
                assert_eq!(redacted["redacted_keys"], json!([key]));
            }
        }
    }
}

#[test]
fn what_a_database_or_a_reader_would_change_becomes_text() {
    let redacted = redact(
        json!({"n\0": "a\0b", "big": u64::MAX, "low": i64::MIN, "fits": 9_007_199_254_740_991_i64}),
    );
    assert_eq!(
        redacted,
        json!({"n\u{fffd}": "a\u{fffd}b", "big": "18446744073709551615", "low": "-9223372036854775808",
               "fits": 9_007_199_254_740_991_i64})
    );
    assert_eq!(
        redact(json!([{"token": "t"}])),
        json!({"value": [{"token": "[REDACTED:CREDENTIAL]"}], "redacted_keys": ["token"]})
    );
}

/// Trees in which every fifth key or so is one that must not show its value.
fn tree() -> impl Strategy<Value = Value> {
    let key = prop_oneof![
        4 => "[a-z]{1,6}",
        1 => (0..CREDENTIAL_KEYS.len()).prop_map(|at| CREDENTIAL_KEYS[at].to_owned()),
        1 => (0..PERSONAL_KEYS.len()).prop_map(|at| PERSONAL_KEYS[at].to_uppercase()),
    ];
    let leaf = prop_oneof![
        Just(Value::from("canary")),
        any::<i32>().prop_map(Value::from),
        Just(Value::Null)
    ];
    leaf.prop_recursive(6, 64, 6, move |inner| {
        prop_oneof![
            collection::vec(inner.clone(), 0..6).prop_map(Value::Array),
            collection::btree_map(key.clone(), inner, 0..6)
                .prop_map(|map| Value::Object(map.into_iter().collect())),
        ]
    })
}

/// The keys that must not show, wherever they are, and that their values do not.
fn hidden(value: &Value, found: &mut Vec<String>) {
    match value {
        Value::Object(map) => {
            for (key, value) in map {
                if let Some(text) = replacement(key) {
                    assert_eq!(value, text, "{key}");
                    found.push(key.clone());
                } else {
                    hidden(value, found);
                }
            }
        }
        Value::Array(items) => items.iter().for_each(|item| hidden(item, found)),
        _ => {}
    }
}

proptest! {
    #[test]
    fn no_secret_survives_at_any_depth_and_every_hit_is_listed(details in tree()) {
        let redacted = redact(details);
        let mut found = Vec::new();
        hidden(&redacted, &mut found);
        found.sort();
        found.dedup();
        let listed = redacted.get("redacted_keys").cloned().unwrap_or_else(|| json!([]));
        prop_assert_eq!(listed, json!(found));
        // What was redacted once stays as it is.
        let again = redact(redacted.clone());
        prop_assert_eq!(again, redacted);
    }
}
