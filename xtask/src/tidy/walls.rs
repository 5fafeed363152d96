//! Which crates of others stay behind which crate of ours.
//!
//! A library that only one crate names can be replaced by changing one crate.

use super::packages::{Dependency, Kind, Package};

/// A family of crates, and who may name it.
struct Wall {
    /// Names; each stands for all that begin with it and a dash or underscore, too.
    families: &'static [&'static str],
    /// Crates of ours that may use it. `bins/` stands for all programs.
    only: &'static [&'static str],
    /// Whether every crate may use it in its tests.
    in_tests: bool,
}

const PROGRAMS: &str = "bins/";

const WALLS: [Wall; 6] = [
    Wall {
        families: &["diesel", "tokio-postgres", "libsqlite3-sys"],
        only: &["certctl-repository"],
        in_tests: false,
    },
    Wall {
        families: &["hyper", "axum", "tower"],
        // The testkit's benches ask the router without a socket, to measure it alone. The connectors' validator of challenges
        // is a client on a socket that was checked, which no finished client takes. Boot's example serves the routes in a
        // hyper service of its own.
        only: &[
            "certctl-http",
            "certctl-testkit",
            "certctl-connectors",
            "certctl-boot",
            // Serves in place of somebody else's device.
            "certctl-f5-mock",
        ],
        in_tests: false,
    },
    Wall {
        families: &["reqwest"],
        only: &["certctl-connectors", "certctl-agent-core"],
        in_tests: false,
    },
    Wall {
        families: &["ureq"],
        only: &["certctl-testkit", "xtask"],
        in_tests: true,
    },
    Wall {
        families: &["clap"],
        only: &[PROGRAMS, "xtask"],
        in_tests: false,
    },
    Wall {
        families: &["anyhow"],
        only: &[PROGRAMS, "certctl-testkit", "xtask"],
        in_tests: true,
    },
];

/// Names every crate of ours that reaches over a wall.
pub(crate) fn check(packages: &[Package]) -> Vec<String> {
    let pairs = packages
        .iter()
        .flat_map(|package| package.dependencies.iter().map(move |used| (package, used)));
    pairs
        .filter_map(|(package, used)| refusal(package, used))
        .collect()
}

fn refusal(package: &Package, used: &Dependency) -> Option<String> {
    let wall = WALLS.iter().find(|wall| {
        wall.families
            .iter()
            .any(|family| belongs(&used.name, family))
    })?;
    let is_program = package
        .manifest
        .components()
        .rev()
        .nth(2)
        .is_some_and(|folder| folder.as_os_str() == "bins");
    let allowed = wall.only.contains(&package.name.as_str())
        || (is_program && wall.only.contains(&PROGRAMS))
        || (wall.in_tests && used.kind == Kind::Dev);
    let only = wall.only.join(", ");
    (!allowed).then(|| {
        format!(
            "{} -> {}: only {only} may use it (xtask/src/tidy/walls.rs)",
            package.name, used.name
        )
    })
}

fn belongs(name: &str, family: &str) -> bool {
    name.strip_prefix(family)
        .is_some_and(|rest| rest.is_empty() || rest.starts_with(['-', '_']))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problems(manifest: &str, name: &str, used: &str, kind: Kind) -> Vec<String> {
        let dependencies = vec![Dependency {
            name: used.to_owned(),
            kind,
        }];
        check(&[Package {
            name: name.to_owned(),
            manifest: manifest.into(),
            dependencies,
        }])
    }

    #[test]
    fn the_owner_may_and_others_may_not() {
        let file = "/w/crates/x/Cargo.toml";
        for used in [
            "diesel",
            "diesel-async",
            "diesel_migrations",
            "tokio-postgres-rustls",
            "libsqlite3-sys",
        ] {
            assert!(problems(file, "certctl-repository", used, Kind::Normal).is_empty());
            assert_eq!(
                problems(file, "certctl-service", used, Kind::Dev),
                [format!(
                    "certctl-service -> {used}: only certctl-repository may use it (xtask/src/tidy/walls.rs)"
                )],
            );
        }
        assert_eq!(
            problems(file, "certctl-service", "hyper-util", Kind::Normal).len(),
            1
        );
        assert_eq!(
            problems(file, "certctl-http", "reqwest", Kind::Normal).len(),
            1
        );
        assert!(problems(file, "certctl-agent-core", "reqwest", Kind::Normal).is_empty());
    }

    #[test]
    fn programs_may_what_is_for_programs() {
        assert!(
            problems(
                "/w/bins/certctl-server/Cargo.toml",
                "certctl-server",
                "clap",
                Kind::Normal
            )
            .is_empty()
        );
        assert!(problems("/w/xtask/Cargo.toml", "xtask", "clap", Kind::Normal).is_empty());
        assert_eq!(
            problems(
                "/w/crates/certctl-boot/Cargo.toml",
                "certctl-boot",
                "clap",
                Kind::Normal
            )
            .len(),
            1
        );
    }

    #[test]
    fn some_walls_are_open_to_tests() {
        let file = "/w/crates/certctl-http/Cargo.toml";
        assert!(problems(file, "certctl-http", "ureq", Kind::Dev).is_empty());
        assert_eq!(
            problems(file, "certctl-http", "ureq", Kind::Normal).len(),
            1
        );
    }

    #[test]
    fn a_family_is_more_than_a_prefix() {
        assert!(
            belongs("tower", "tower")
                && belongs("tower-http", "tower")
                && belongs("clap_derive", "clap")
        );
        assert!(!belongs("towering", "tower") && !belongs("hyperlocal", "hyper"));
    }
}
