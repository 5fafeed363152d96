use axum::{body::Body, extract::Request};

use super::{is_ours, request::Asked};
use crate::HttpSettings;

fn asked(uri: &str, hosts: &[&str], base: Option<&str>) -> Option<String> {
    let mut request = Request::builder().uri(uri);
    for host in hosts {
        request = request.header("host", *host);
    }
    // Nobody's word counts but that of the one who asks.
    let request = request
        .header("x-forwarded-host", "evil.example")
        .header("x-forwarded-proto", "http")
        .header("forwarded", "host=evil.example;proto=http")
        .body(Body::empty())
        .unwrap();
    let mut settings = HttpSettings::default();
    settings.acme.base_url = base.map(str::to_owned);
    Asked::of(&request, &settings)
        .expect("a path of ours")
        .urls
        .map(|urls| urls.directory())
}

#[test]
fn urls_have_the_host_that_was_asked_and_no_other() {
    let shorthand = Some("https://ca.example:8443/acme/directory".to_owned());
    assert_eq!(
        asked("/acme/new-order", &["ca.example:8443"], None),
        shorthand
    );
    // As HTTP/2 has it.
    assert_eq!(
        asked("https://ca.example:8443/acme/new-order", &[], None),
        shorthand
    );
    assert_eq!(
        asked("/acme/profile/prof-1/new-order", &["ca.example"], None).as_deref(),
        Some("https://ca.example/acme/profile/prof-1/directory")
    );
    assert_eq!(
        asked("/acme/new-order", &["[::1]:8443"], None).as_deref(),
        Some("https://[::1]:8443/acme/directory")
    );
}

#[test]
fn a_configured_base_overrides_the_host() {
    assert_eq!(
        asked(
            "/acme/new-order",
            &["other.example"],
            Some("https://ca.example")
        )
        .as_deref(),
        Some("https://ca.example/acme/directory")
    );
}

#[test]
fn without_one_good_host_there_are_no_urls() {
    for hosts in [&[][..], &["a", "b"], &["a b"], &["user@a"], &["a/b"], &[""]] {
        assert_eq!(asked("/acme/new-order", hosts, None), None, "{hosts:?}");
    }
    assert_eq!(asked("/acme/profile/a%20b/new-order", &["a"], None), None);
}

#[test]
fn only_whole_segments_are_ours() {
    assert!(is_ours("/acme") && is_ours("/acme/") && is_ours("/acme/x/y"));
    assert!(!is_ours("/acmes") && !is_ours("/api/v1/acme/eab-keys") && !is_ours("/"));
}

#[test]
fn every_route_is_there_in_both_families_and_for_everybody() {
    let routes = super::routes();
    let paths: Vec<_> = routes
        .iter()
        .map(|route| (route.info.method.clone(), route.info.path))
        .collect();
    // The 15 rows of acme-server §1, with GET and HEAD of new-nonce as one.
    assert_eq!(paths.len(), 2 * 14);
    for route in &routes {
        assert_eq!(
            route.info.access,
            crate::Access::Public,
            "{}",
            route.info.path
        );
        let suffix = route
            .info
            .path
            .strip_prefix("/acme/profile/{profile_id}/")
            .or_else(|| route.info.path.strip_prefix("/acme/"))
            .unwrap();
        for family in ["/acme/", "/acme/profile/{profile_id}/"] {
            let twin = format!("{family}{suffix}");
            assert!(
                paths
                    .iter()
                    .any(|(method, path)| *method == route.info.method && *path == twin),
                "{twin}"
            );
        }
    }
}
