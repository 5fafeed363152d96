//! Everything one types while working on certctl.
//!
//! One file per subcommand. Nothing here uses certctl's own crates but the process helpers, so that the first
//! `cargo xtask` on a fresh machine starts within seconds.

mod acme_conformance;
mod acme_drill;
mod audit_drill;
mod bench;
mod ci;
mod demo;
mod fuzz;
mod generated;
mod kill_drill;
mod loadtest;
mod pkilint;
mod schemathesis;
mod stack;
mod status_drill;
mod step;
mod target_drill;
mod test;
mod tidy;

use std::process::ExitCode;

use clap::Parser;

#[derive(Parser)]
#[command(
    name = "cargo xtask",
    about = "Everything one types while working on certctl"
)]
enum Xtask {
    AcmeConformance(acme_conformance::AcmeConformance),
    AcmeDrill(acme_drill::AcmeDrill),
    AuditDrill(audit_drill::AuditDrill),
    Bench(bench::Bench),
    Ci(ci::Ci),
    Demo(demo::Demo),
    Fuzz(fuzz::Fuzz),
    KillDrill(kill_drill::KillDrill),
    #[command(flatten)]
    Loadtest(loadtest::Command),
    #[command(name = "openapi")]
    OpenApi(generated::OpenApi),
    Pkilint(pkilint::Pkilint),
    Schemathesis(schemathesis::Schemathesis),
    SettingsDoc(generated::SettingsDoc),
    StatusDrill(status_drill::StatusDrill),
    TargetDrill(target_drill::TargetDrill),
    Test(test::Test),
    Tidy(tidy::Tidy),
}

fn main() -> ExitCode {
    let done = match Xtask::parse() {
        Xtask::AcmeConformance(conformance) => conformance.run(),
        Xtask::AcmeDrill(drill) => drill.run(),
        Xtask::AuditDrill(drill) => drill.run(),
        Xtask::Bench(bench) => bench.run(),
        Xtask::Ci(ci) => ci.run(),
        Xtask::Demo(demo) => demo.run(),
        Xtask::Fuzz(fuzz) => fuzz.run(),
        Xtask::KillDrill(drill) => drill.run(),
        Xtask::Loadtest(command) => command.run(),
        Xtask::OpenApi(openapi) => openapi.run(),
        Xtask::Pkilint(pkilint) => pkilint.run(),
        Xtask::Schemathesis(schemathesis) => schemathesis.run(),
        Xtask::SettingsDoc(settings) => settings.run(),
        Xtask::StatusDrill(drill) => drill.run(),
        Xtask::TargetDrill(drill) => drill.run(),
        Xtask::Test(test) => test.run(),
        Xtask::Tidy(tidy) => tidy.run(),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(reason) => {
            eprintln!("error: {reason:#}");
            ExitCode::FAILURE
        }
    }
}
