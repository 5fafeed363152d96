use proptest::prelude::*;

use super::{
    Bool, Choice, Count, Form, HttpsUrl, Integer, Origins, Path, Paths, Port, ReadableFile,
    SecretText, Secrets, Text, UnixTime, is_host_name, split_list,
};

/// Asserts which texts a form accepts and which it refuses.
fn check(form: &impl Form, accepted: &[&str], refused: &[&str]) {
    for text in accepted {
        assert!(
            form.parse(text).is_ok(),
            "{text:?} should be {}",
            form.expected()
        );
    }
    for text in refused {
        let fault = form
            .parse(text)
            .err()
            .unwrap_or_else(|| panic!("{text:?} should not be {}", form.expected()));
        assert!(!fault.to_string().is_empty());
    }
}

#[test]
fn forms_accept_and_refuse() {
    check(&Text, &["a", " certctl-agent "], &["", "  ", "a\nb", "a\0"]);
    check(
        &Bool,
        &["true", "TRUE", "1", "Yes", "false", "0", "no"],
        &["", "on", "2", "truthy"],
    );
    check(
        &Integer { min: -1, max: 9 },
        &["-1", "0", " 9 "],
        &["-2", "10", "", "1.0", "0x1", "99999999999999999999"],
    );
    check(
        &Count { min: 1, max: 9 },
        &["1", "9"],
        &["0", "10", "-1", ""],
    );
    check(
        &Port,
        &["1", "8443", "65535"],
        &["0", "65536", "99999", "-1", "http", ""],
    );
    check(
        &Choice(&[("json", 1), ("text", 2)]),
        &["json", "TEXT"],
        &["", "xml", "jsontext"],
    );
    check(&Path, &["/a", "a b"], &["", "a\0b"]);
    check(&Paths, &["", "/a, /b"], &[]);
    check(
        &HttpsUrl,
        &[
            "https://localhost:8443",
            "HTTPS://ca.example.com/base/",
            "https://[::1]:8443",
            "https://10.0.0.1",
        ],
        &[
            "",
            "localhost",
            "http://localhost",
            "https://",
            "https://a b",
            "https://u:p@h",
            "https://h:0",
            "https://h:x",
            "https://[::g]",
            "https://h?q",
        ],
    );
    check(
        &Origins,
        &["", "https://a.example, http://localhost:5173", "*"],
        &["a.example", "https://a/path", "ftp://a", "null"],
    );
    check(
        &UnixTime,
        &["0", "1795219200"],
        &["", "-1", "yesterday", "1.5"],
    );
    check(&SecretText { min_bytes: 4 }, &["abcd"], &["", "abc"]);
    check(&Secrets, &["", "a,b"], &[]);
    check(
        &ReadableFile,
        &[concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml")],
        &["", "/no/such/file", env!("CARGO_MANIFEST_DIR")],
    );
}

#[test]
fn refusals_say_what_is_expected() {
    assert_eq!(
        Port.parse("99999").unwrap_err().to_string(),
        "is not a port (1 to 65535)"
    );
    assert_eq!(
        Choice(&[("json", 1), ("text", 2)])
            .parse("xml")
            .unwrap_err()
            .to_string(),
        "is not one of json, text"
    );
    assert_eq!(
        Count { min: 1, max: 10 }
            .parse("0")
            .unwrap_err()
            .to_string(),
        "is not a whole number (1 to 10)"
    );
    assert_eq!(
        Origins.parse("https://a,b").unwrap_err().to_string(),
        "has a wrong entry 2: is not scheme://host[:port]"
    );
}

#[test]
fn a_url_with_a_password_is_not_shown() {
    assert_eq!(HttpsUrl.shown("https://user:canary@host"), "<redacted>");
}

#[test]
fn host_names() {
    assert!(
        [
            "localhost",
            "a.example",
            "a.example.",
            "certctl_postgres",
            "10.0.0.1"
        ]
        .into_iter()
        .all(is_host_name)
    );
    assert!(
        !["", ".", "a..b", "a b", "ü", "a/b"]
            .into_iter()
            .any(is_host_name)
    );
}

proptest! {
    #[test]
    fn list_items_are_trimmed_and_never_empty(text in ".{0,64}") {
        for item in split_list(&text) {
            prop_assert!(!item.is_empty());
            prop_assert_eq!(item, item.trim());
            prop_assert!(!item.contains(','));
        }
    }

    #[test]
    fn a_list_survives_spaces_and_empty_items(items in prop::collection::vec("[a-z0-9/:.-]{1,12}", 0..8), pad in " {0,3}") {
        let text = items.iter().map(|item| format!("{pad}{item}{pad},")).collect::<Vec<_>>().join(",");
        prop_assert_eq!(split_list(&text).collect::<Vec<_>>(), items);
    }
}
