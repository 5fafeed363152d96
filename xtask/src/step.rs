//! What every subcommand does: say what happens and how long it took, and call cargo.

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Instant;

use anyhow::{Context as _, Result, bail};
use certctl_procs::child::{Guard, Guarded};

/// The folder of the workspace.
pub(crate) fn root() -> PathBuf {
    let xtask = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    xtask
        .parent()
        .map(PathBuf::from)
        .expect("xtask lies in the workspace")
}

/// The cargo that started this program, on the workspace.
pub(crate) fn cargo() -> Command {
    let program = std::env::var_os("CARGO").unwrap_or_else(|| OsString::from("cargo"));
    let mut command = Command::new(program);
    command.current_dir(root()).stdin(Stdio::null());
    // What cargo told this program of its own package is not true of others: build scripts that ask for it would run again, and
    // with them all that is built upon them.
    for (name, _) in std::env::vars_os() {
        let told = name.to_str().is_some_and(|name| {
            name.starts_with("CARGO_PKG_") || name.starts_with("CARGO_MANIFEST_")
        });
        if told {
            command.env_remove(name);
        }
    }
    command
}

/// Does one named step, with a line before and a line after it on standard error.
pub(crate) fn step<T>(name: &str, work: impl FnOnce() -> Result<T>) -> Result<T> {
    eprintln!("==> {name}");
    let start = Instant::now();
    let outcome = work();
    let word = if outcome.is_ok() { "done" } else { "FAILED" };
    eprintln!(
        "==> {name}: {word} in {:.1} s",
        start.elapsed().as_secs_f64()
    );
    outcome.with_context(|| name.to_owned())
}

/// Starts a command that ends, with everything it started, when this program does.
pub(crate) fn spawn(command: Command) -> Result<Guarded> {
    Ok(Guard::default().spawn(command)?)
}

/// Runs a command to its end; its output is shown.
pub(crate) fn run(command: Command) -> Result<()> {
    let line = shown(&command);
    let status = spawn(command)?.wait()?;
    if !status.success() {
        bail!("`{line}` ended with {status}");
    }
    Ok(())
}

/// The command as one would type it.
fn shown(command: &Command) -> String {
    let program = PathBuf::from(command.get_program());
    let name = program.file_name().unwrap_or(command.get_program());
    let words = std::iter::once(name).chain(command.get_args());
    words
        .map(|word| word.to_string_lossy().into_owned())
        .collect::<Vec<_>>()
        .join(" ")
}
