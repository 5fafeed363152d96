//! `cargo xtask fuzz`: inputs that a machine makes up, guided by which code they reach.
//!
//! libFuzzer needs no other compiler than the pinned one: what guides it is put in by LLVM, for which there are stable flags.
//! Only the address sanitizer would need a nightly, and this workspace forbids unsafe code.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, ensure};

use crate::step::{cargo, root, run, step};

/// Fuzz what reads requests of strangers; the time is shared by all targets
#[derive(clap::Args)]
pub(crate) struct Fuzz {
    /// How long, in seconds, all targets together
    #[arg(long, default_value_t = 60)]
    seconds: u64,
    /// Only this target
    #[arg(long)]
    target: Option<String>,
    /// Write what reaches new code into the corpus that is kept with the sources, reduced to what is needed
    #[arg(long)]
    keep: bool,
}

/// What cargo-fuzz asks of the compiler, without the sanitizer.
const FLAGS: [&str; 8] = [
    "-Cpasses=sancov-module",
    "-Cllvm-args=-sanitizer-coverage-level=4",
    "-Cllvm-args=-sanitizer-coverage-inline-8bit-counters",
    "-Cllvm-args=-sanitizer-coverage-pc-table",
    "-Cllvm-args=-sanitizer-coverage-trace-compares",
    "-Clink-dead-code",
    "-Ccodegen-units=1",
    "--cfg=fuzzing",
];

/// A little more than the greatest request, so that the bound is met too.
const MAX_LEN: usize = 66_000;

impl Fuzz {
    pub(crate) fn run(&self) -> Result<()> {
        let folder = root().join("fuzz");
        let targets = self.targets(&folder)?;
        let programs = step("build", || build(&folder))?;
        let seconds = (self.seconds / targets.len() as u64).max(1);
        for target in &targets {
            step(&format!("fuzz {target} for {seconds} s"), || {
                fuzz(&folder, &programs.join(target), target, seconds)
            })?;
            if self.keep {
                step(&format!("reduce {target}"), || {
                    reduce(&folder, &programs.join(target), target)
                })?;
            }
        }
        println!("{} targets, {} s, no crash", targets.len(), self.seconds);
        Ok(())
    }

    /// The names of the targets; each has a folder of the corpus.
    fn targets(&self, folder: &Path) -> Result<Vec<String>> {
        let mut targets = Vec::new();
        for entry in fs::read_dir(folder.join("corpus")).context("cannot list the corpus")? {
            targets.extend(entry?.file_name().into_string().ok());
        }
        targets.sort();
        if let Some(wanted) = &self.target {
            ensure!(
                targets.contains(wanted),
                "there is no target {wanted:?}; there are {}",
                targets.join(", ")
            );
            targets = vec![wanted.clone()];
        }
        Ok(targets)
    }
}

/// Where everything goes that is built and found.
fn made() -> PathBuf {
    root().join("target").join("fuzz")
}

/// Builds the targets, and says in which folder they are.
fn build(folder: &Path) -> Result<PathBuf> {
    let host = host()?;
    let mut command = cargo();
    command
        .current_dir(folder)
        .args(["build", "--release", "--locked", "--bins"])
        // With a target named, build scripts and macros are not instrumented; they could not be linked.
        .args(["--target", &host])
        .arg("--target-dir")
        .arg(made())
        .env("CARGO_ENCODED_RUSTFLAGS", FLAGS.join("\u{1f}"));
    run(command)?;
    Ok(made().join(host).join("release"))
}

fn host() -> Result<String> {
    let output = Command::new("rustc").arg("-vV").output()?;
    let text = String::from_utf8(output.stdout)?;
    text.lines()
        .find_map(|line| line.strip_prefix("host: "))
        .map(str::to_owned)
        .context("rustc does not say what it runs on")
}

/// Where what reaches new code is gathered; it stays for the next run.
fn gathered(target: &str) -> PathBuf {
    made().join("corpus").join(target)
}

fn fuzz(folder: &Path, program: &Path, target: &str, seconds: u64) -> Result<()> {
    let found = made().join("found").join(target);
    fs::create_dir_all(&found)?;
    fs::create_dir_all(gathered(target))?;
    let mut command = Command::new(program);
    command
        .arg(gathered(target))
        .arg(folder.join("corpus").join(target))
        .arg(format!("-max_total_time={seconds}"))
        .arg(format!("-max_len={MAX_LEN}"))
        .args(["-timeout=10", "-rss_limit_mb=2048", "-print_final_stats=1"])
        .arg(format!("-artifact_prefix={}/", found.display()));
    run(command).with_context(|| format!("what broke it lies in {}", found.display()))
}

/// Takes over what adds to the corpus of the sources, the shortest for each piece of code.
fn reduce(folder: &Path, program: &Path, target: &str) -> Result<()> {
    let mut command = Command::new(program);
    command
        .arg("-merge=1")
        .arg(format!("-max_len={}", 2048))
        .arg(folder.join("corpus").join(target))
        .arg(gathered(target));
    run(command)
}
