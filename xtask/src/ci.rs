//! `cargo xtask ci`: every check a change has to pass, exactly as `.ci/run` runs it.

use anyhow::Result;

use crate::acme_conformance::AcmeConformance;
use crate::demo::Demo;
use crate::generated::{OpenApi, SettingsDoc};
use crate::loadtest;
use crate::pkilint::Pkilint;
use crate::schemathesis::Schemathesis;
use crate::stack::database::Backend;
use crate::status_drill::StatusDrill;
use crate::step::{cargo, run, step};
use crate::target_drill::TargetDrill;
use crate::test::Test;
use crate::tidy::Tidy;

/// Run every check that a change has to pass.
#[derive(clap::Args)]
pub(crate) struct Ci {}

impl Ci {
    pub(crate) fn run(&self) -> Result<()> {
        step("ci", || {
            step("fmt", || run_cargo(&["fmt", "--all", "--check"]))?;
            step("clippy", || {
                run_cargo(&[
                    "clippy",
                    "--workspace",
                    "--all-targets",
                    "--locked",
                    "--",
                    "-D",
                    "warnings",
                ])
            })?;
            step("doc", document)?;
            step("tidy", || Tidy {}.run())?;
            step("test", || Test::everything().run())?;
            // The tests have built what makes these files, so a byte by byte look costs nothing more.
            step("settings-doc", || SettingsDoc::check().run())?;
            step("openapi", || OpenApi::check().run())?;
            step("deny", deny)?;
            for database in [Backend::Sqlite, Backend::Postgres] {
                step(&format!("demo on {}", database.name()), || {
                    Demo::to_the_end(database).run()
                })?;
            }
            step("ACME clients", || AcmeConformance::everything().run())?;
            step("schemathesis, in short", || Schemathesis::short().run())?;
            step("pkilint", || Pkilint::short().run())?;
            step("status drill", || StatusDrill::everywhere().run())?;
            step("target drill", || TargetDrill::everywhere().run())?;
            step("load, in short", loadtest::smoke)
        })
    }
}

fn run_cargo(arguments: &[&str]) -> Result<()> {
    let mut command = cargo();
    command.args(arguments);
    run(command)
}

fn document() -> Result<()> {
    let mut command = cargo();
    command
        .args(["doc", "--workspace", "--no-deps", "--locked"])
        .env("RUSTDOCFLAGS", "-D warnings");
    run(command)
}

/// Advisories are left to the hosted run: they need the network, and change without a change of ours.
fn deny() -> Result<()> {
    let installed = cargo()
        .args(["deny", "--version"])
        .output()?
        .status
        .success();
    if !installed {
        eprintln!("cargo-deny is not installed: licences, bans and sources were NOT checked");
        eprintln!("install it with `cargo install cargo-deny --locked`");
        return Ok(());
    }
    run_cargo(&[
        "deny",
        "--workspace",
        "check",
        "bans",
        "licenses",
        "sources",
    ])
}
