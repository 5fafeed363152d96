//! Which crate of the workspace may use which other: layers with arrows that point down only.

use std::collections::BTreeSet;

use super::packages::{Dependency, Kind, Package};

/// For every crate, those it may name. A crate without a row may not exist.
const ARROWS: [(&str, &[&str]); 20] = [
    ("certctl-domain", &[]),
    ("certctl-procs", &[]),
    ("certctl-tls", &[]),
    ("certctl-pki", &["certctl-domain"]),
    ("certctl-repository", &["certctl-domain", "certctl-tls"]),
    ("certctl-acme", &["certctl-domain", "certctl-pki"]),
    ("certctl-telemetry", &["certctl-domain"]),
    ("certctl-settings", &["certctl-domain"]),
    (
        "certctl-connectors",
        &[
            "certctl-domain",
            "certctl-tls",
            "certctl-pki",
            "certctl-telemetry",
        ],
    ),
    (
        "certctl-service",
        &[
            "certctl-domain",
            "certctl-pki",
            "certctl-acme",
            "certctl-repository",
            "certctl-telemetry",
        ],
    ),
    (
        "certctl-scheduler",
        &["certctl-domain", "certctl-service", "certctl-telemetry"],
    ),
    (
        "certctl-http",
        &[
            "certctl-domain",
            "certctl-acme",
            "certctl-service",
            "certctl-telemetry",
        ],
    ),
    (
        "certctl-agent-core",
        &[
            "certctl-domain",
            "certctl-tls",
            "certctl-pki",
            "certctl-connectors",
            "certctl-telemetry",
        ],
    ),
    ("certctl-boot", &SERVER),
    ("certctl-server", &["certctl-boot", "certctl-settings"]),
    (
        "certctl-migrate",
        // What checks an exported audit trail is in pki.
        &[
            "certctl-pki",
            "certctl-repository",
            "certctl-settings",
            "certctl-telemetry",
        ],
    ),
    (
        "certctl-agent",
        &[
            "certctl-agent-core",
            "certctl-settings",
            "certctl-telemetry",
        ],
    ),
    // Stands for somebody else's device, so it knows nothing of ours but types, and how to read a certificate.
    ("certctl-f5-mock", &["certctl-domain", "certctl-pki"]),
    (
        TESTKIT,
        &[
            "certctl-domain",
            "certctl-procs",
            "certctl-f5-mock",
            "certctl-pki",
            "certctl-repository",
            "certctl-acme",
            "certctl-telemetry",
            "certctl-settings",
            "certctl-connectors",
            "certctl-service",
            "certctl-scheduler",
            "certctl-http",
            "certctl-agent-core",
            "certctl-boot",
        ],
    ),
    ("xtask", &["certctl-procs"]),
];

/// All that makes a server; what boot ties together.
const SERVER: [&str; 10] = [
    "certctl-domain",
    "certctl-pki",
    "certctl-repository",
    "certctl-acme",
    "certctl-telemetry",
    "certctl-settings",
    "certctl-connectors",
    "certctl-service",
    "certctl-scheduler",
    "certctl-http",
];

/// Any crate may use it in its tests, and none outside of them.
const TESTKIT: &str = "certctl-testkit";

/// Names every arrow that the table does not allow.
pub(crate) fn check(packages: &[Package]) -> Vec<String> {
    let ours: BTreeSet<&str> = packages
        .iter()
        .map(|package| package.name.as_str())
        .collect();
    packages
        .iter()
        .flat_map(|package| check_package(package, &ours))
        .collect()
}

fn check_package(package: &Package, ours: &BTreeSet<&str>) -> Vec<String> {
    let name = &package.name;
    let Some((_, allowed)) = ARROWS.iter().find(|(row, _)| row == name) else {
        return vec![format!(
            "{name}: has no row in the table of allowed arrows (xtask/src/tidy/arrows.rs)"
        )];
    };
    let refused = |dependency: &&Dependency| {
        let for_tests = dependency.kind == Kind::Dev && dependency.name == TESTKIT;
        ours.contains(dependency.name.as_str())
            && !for_tests
            && !allowed.contains(&dependency.name.as_str())
    };
    let sentence = |dependency: &Dependency| {
        let table = match dependency.kind {
            Kind::Normal => "",
            Kind::Dev => " in its tests",
            Kind::Build => " in its build script",
        };
        format!(
            "{name} -> {}: this arrow is not allowed{table} (xtask/src/tidy/arrows.rs)",
            dependency.name
        )
    };
    package
        .dependencies
        .iter()
        .filter(refused)
        .map(sentence)
        .collect()
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::tidy::packages::from_metadata;

    /// A package and what it names: each with its kind, as cargo writes it.
    type Row<'a> = (&'a str, &'a [(&'a str, Option<&'a str>)]);

    /// What `cargo metadata` would print for packages with these dependencies.
    fn metadata(packages: &[Row<'_>]) -> Value {
        let dependency =
            |(name, kind): &(&str, Option<&str>)| json!({ "name": name, "kind": kind });
        let package = |(name, dependencies): &Row<'_>| {
            let dependencies: Vec<Value> = dependencies.iter().map(dependency).collect();
            json!({ "name": name, "manifest_path": format!("/{name}/Cargo.toml"), "dependencies": dependencies })
        };
        json!({ "packages": packages.iter().map(package).collect::<Vec<Value>>() })
    }

    fn problems(packages: &[Row<'_>]) -> Vec<String> {
        check(&from_metadata(&metadata(packages)).unwrap())
    }

    #[test]
    fn allowed_arrows_pass() {
        let none: [String; 0] = [];
        let graph: [Row<'_>; 4] = [
            (
                "certctl-domain",
                &[("serde_json", None), (TESTKIT, Some("dev"))],
            ),
            (
                "certctl-pki",
                &[("certctl-domain", None), ("certctl-domain", Some("dev"))],
            ),
            (TESTKIT, &[("certctl-procs", None)]),
            ("certctl-procs", &[]),
        ];
        assert_eq!(problems(&graph), none);
    }

    #[test]
    fn a_forbidden_arrow_is_refused_by_name() {
        let graph: [Row<'_>; 3] = [
            ("certctl-domain", &[]),
            ("certctl-repository", &[("certctl-domain", None)]),
            (
                "certctl-http",
                &[("certctl-domain", None), ("certctl-repository", None)],
            ),
        ];
        let expected =
            "certctl-http -> certctl-repository: this arrow is not allowed (xtask/src/tidy/arrows.rs)".to_owned();
        assert_eq!(problems(&graph), [expected]);
    }

    #[test]
    fn tests_and_build_scripts_have_no_other_arrows() {
        let graph: [Row<'_>; 2] = [
            ("certctl-domain", &[("certctl-pki", Some("dev"))]),
            (
                "certctl-pki",
                &[
                    ("certctl-domain", Some("build")),
                    ("certctl-pki", Some("build")),
                ],
            ),
        ];
        assert_eq!(
            problems(&graph),
            [
                "certctl-domain -> certctl-pki: this arrow is not allowed in its tests (xtask/src/tidy/arrows.rs)",
                "certctl-pki -> certctl-pki: this arrow is not allowed in its build script (xtask/src/tidy/arrows.rs)",
            ],
        );
    }

    #[test]
    fn the_testkit_stays_out_of_programs() {
        let graph: [Row<'_>; 2] = [(TESTKIT, &[]), ("certctl-boot", &[(TESTKIT, None)])];
        assert_eq!(problems(&graph).len(), 1);
    }

    #[test]
    fn a_crate_without_a_row_is_refused() {
        let sentence =
            "certctl-new: has no row in the table of allowed arrows (xtask/src/tidy/arrows.rs)"
                .to_owned();
        assert_eq!(problems(&[("certctl-new", &[])]), [sentence]);
    }

    #[test]
    fn every_arrow_points_down() {
        // The rows are in such an order that a crate only uses those above it, so there can be no circle.
        for (at, (name, uses)) in ARROWS.iter().enumerate() {
            for used in *uses {
                let row = ARROWS.iter().position(|(row, _)| row == used);
                assert!(row.is_some_and(|row| row < at), "{name} -> {used}");
            }
        }
    }
}
