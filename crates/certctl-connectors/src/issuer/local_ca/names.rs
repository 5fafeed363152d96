//! The names that go into a certificate (issuers §4).

use std::net::{IpAddr, Ipv4Addr};

use certctl_domain::{name::SubjectAltName, ports::issuer::IssuerError};

use crate::issuer::invalid;

/// The alternative names of a request: the common name first when it is not among them, and `127.0.0.1` with `localhost`.
pub(super) fn alternative_names(
    common_name: &str,
    requested: &[SubjectAltName],
) -> Result<Vec<SubjectAltName>, IssuerError> {
    let mut names = Vec::with_capacity(requested.len() + 2);
    if !common_name.is_empty() {
        push(&mut names, &common_name_as_san(common_name)?);
    }
    for name in requested {
        push(&mut names, name);
    }
    if names.is_empty() {
        return Err(invalid("sans", "there is no name to certify"));
    }
    let is_localhost = |name: &SubjectAltName| matches!(name, SubjectAltName::Dns(host) if host.eq_ignore_ascii_case("localhost"));
    if names.iter().any(is_localhost) {
        push(
            &mut names,
            &SubjectAltName::Ip(IpAddr::V4(Ipv4Addr::LOCALHOST)),
        );
    }
    Ok(names)
}

fn common_name_as_san(common_name: &str) -> Result<SubjectAltName, IssuerError> {
    match SubjectAltName::parse(common_name) {
        // `host:8443` reads as a URI, but nobody means one by it.
        Ok(SubjectAltName::Uri(_)) | Err(_) => Err(invalid(
            "common_name",
            "is neither a host name, an address nor a mailbox",
        )),
        Ok(name) => Ok(name),
    }
}

fn push(names: &mut Vec<SubjectAltName>, name: &SubjectAltName) {
    if !names.contains(name) {
        names.push(name.clone());
    }
}

#[cfg(test)]
mod tests {
    use certctl_domain::name::SubjectAltName;

    use super::alternative_names;

    fn check(common_name: &str, requested: &[&str], expected: &[&str]) {
        let parse = |names: &[&str]| -> Vec<SubjectAltName> {
            names
                .iter()
                .map(|name| SubjectAltName::parse(name).unwrap())
                .collect()
        };
        assert_eq!(
            alternative_names(common_name, &parse(requested)).unwrap(),
            parse(expected),
            "{common_name} {requested:?}"
        );
    }

    #[test]
    fn the_common_name_and_what_belongs_to_localhost_are_added_once() {
        check("a.example", &[], &["a.example"]);
        check(
            "A.example",
            &["b.example", "a.example"],
            &["a.example", "b.example"],
        );
        check("192.0.2.1", &["a.example"], &["192.0.2.1", "a.example"]);
        check("x@a.example", &[], &["x@a.example"]);
        check("", &["spiffe://a/b"], &["spiffe://a/b"]);
        check("localhost", &[], &["localhost", "127.0.0.1"]);
        check(
            "localhost",
            &["127.0.0.1", "localhost"],
            &["localhost", "127.0.0.1"],
        );
    }

    #[test]
    fn requests_without_a_usable_name_are_refused() {
        for common_name in ["", "host:8443", "a b", "spiffe://a/b"] {
            assert!(
                alternative_names(common_name, &[]).is_err(),
                "{common_name:?}"
            );
        }
    }
}
