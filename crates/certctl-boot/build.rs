//! Tells the program what it was built from, for `GET /api/v1/version`. A source tree without history builds all the same and
//! says that it does not know.

use std::process::Command;

fn main() {
    // Only what a commit or a checkout changes. Not the index, which every look at the state of the tree touches; and cargo
    // takes a path that is not there for one that changed.
    for path in ["../../.git/HEAD", "../../.git/logs/HEAD"] {
        if std::path::Path::new(path).exists() {
            println!("cargo:rerun-if-changed={path}");
        }
    }
    println!("cargo:rerun-if-env-changed=CERTCTL_BUILD_COMMIT");
    println!("cargo:rerun-if-env-changed=SOURCE_DATE_EPOCH");
    tell(
        "CERTCTL_BUILD_COMMIT",
        given("CERTCTL_BUILD_COMMIT").or_else(|| said_by("git", &["rev-parse", "HEAD"])),
    );
    let changes = said_by("git", &["status", "--porcelain", "--untracked-files=no"]);
    tell(
        "CERTCTL_BUILD_MODIFIED",
        changes.map(|changes| (!changes.is_empty()).to_string()),
    );
    // The time of the commit, not of the build, so that the same source gives the same program.
    let time = given("SOURCE_DATE_EPOCH").map(|seconds| format!("@{seconds}"));
    let time = time.or_else(|| said_by("git", &["show", "--no-patch", "--format=%cI", "HEAD"]));
    tell("CERTCTL_BUILD_TIME", time);
    let compiler = given("RUSTC").unwrap_or_else(|| "rustc".to_owned());
    tell(
        "CERTCTL_BUILD_TOOLCHAIN",
        said_by(&compiler, &["--version"]),
    );
}

fn tell(name: &str, value: Option<String>) {
    if let Some(value) = value {
        println!("cargo:rustc-env={name}={value}");
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "a build has no settings but its environment"
)]
fn given(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

/// What a program prints on one line, if it is there and succeeds.
fn said_by(program: &str, arguments: &[&str]) -> Option<String> {
    let output = Command::new(program).args(arguments).output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    output
        .status
        .success()
        .then(|| text.trim().lines().next().unwrap_or_default().to_owned())
}
