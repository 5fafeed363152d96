//! Finds the programs that tests and demo run against, and installs on Debian what is missing.

use std::env;
use std::fs::{self, File};
use std::io::Write as _;
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::process::Command;

use nix::unistd::geteuid;

use crate::Error;
use crate::child::{self, Guard};

/// A program of somebody else's that certctl is run against.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Program {
    /// The database server, with its tools.
    Postgres,
    /// The web server.
    Nginx,
    /// The command-line tool.
    OpenSsl,
    /// The interpreter, able to make environments of its own.
    Python,
    /// The server that answers ACME challenges, of the package of the small ACME server.
    ChallengeServer,
    /// The ACME client.
    Lego,
    /// The ACME client.
    Certbot,
    /// The ACME client.
    Uacme,
    /// The ACME client.
    Dehydrated,
    /// The ACME server for tests.
    Pebble,
    /// The command-line tool.
    Curl,
    /// The web server.
    Apache,
    /// The proxy.
    HaProxy,
    /// The command-line tool.
    Sqlite,
}

impl Program {
    /// The name people use.
    pub fn name(self) -> &'static str {
        match self {
            Self::Postgres => "PostgreSQL",
            Self::Nginx => "nginx",
            Self::OpenSsl => "openssl",
            Self::Python => "Python 3 with venv",
            Self::ChallengeServer => "pebble-challtestsrv",
            Self::Lego => "lego",
            Self::Certbot => "certbot",
            Self::Uacme => "uacme",
            Self::Dehydrated => "dehydrated",
            Self::Pebble => "pebble",
            Self::Curl => "curl",
            Self::Apache => "Apache",
            Self::HaProxy => "HAProxy",
            Self::Sqlite => "sqlite3",
        }
    }

    /// Debian's package.
    pub fn package(self) -> &'static str {
        match self {
            Self::Postgres => "postgresql",
            Self::Nginx => "nginx",
            Self::OpenSsl => "openssl",
            Self::Python => "python3-venv",
            Self::ChallengeServer => "pebble",
            Self::Lego => "lego",
            Self::Certbot => "certbot",
            Self::Uacme => "uacme",
            Self::Dehydrated => "dehydrated",
            Self::Pebble => "pebble",
            Self::Curl => "curl",
            Self::Apache => "apache2",
            Self::HaProxy => "haproxy",
            Self::Sqlite => "sqlite3",
        }
    }

    /// Where the program is: the executable, or for PostgreSQL the folder of its executables.
    pub fn locate(self) -> Option<PathBuf> {
        match self {
            Self::Postgres => postgres_programs(Path::new("/usr/lib/postgresql")),
            Self::Nginx => executable("nginx"),
            Self::OpenSsl => executable("openssl"),
            Self::Python => executable("python3").filter(|python| makes_environments(python)),
            Self::ChallengeServer => executable("pebble-challtestsrv"),
            Self::Lego => executable("lego"),
            Self::Certbot => executable("certbot"),
            Self::Uacme => executable("uacme"),
            Self::Dehydrated => executable("dehydrated"),
            Self::Pebble => executable("pebble"),
            Self::Curl => executable("curl"),
            Self::Apache => executable("apache2"),
            Self::HaProxy => executable("haproxy"),
            Self::Sqlite => executable("sqlite3"),
        }
    }

    /// As [`Program::locate`], or the error that says how to install it.
    ///
    /// # Errors
    /// [`Error::Missing`].
    pub fn require(self) -> Result<PathBuf, Error> {
        self.locate().ok_or_else(|| missing(&[self]))
    }
}

/// Finds the programs; installs those that are missing when this is Debian and the user is root.
///
/// Says on standard error what it installs. Services that come with a package are not started.
///
/// # Errors
/// [`Error::Missing`] with the command to run for a user who is not root or a system without `apt-get`;
/// [`Error::Install`] when `apt-get` fails.
pub fn ensure(programs: &[Program]) -> Result<(), Error> {
    let (root, debian) = (geteuid().is_root(), executable("apt-get").is_some());
    if plan(&absent(programs), root, debian)?.is_none() {
        return Ok(());
    }
    // Several tests may find the same program missing at once: the first installs, the others wait and find it.
    let path = Path::new(RUN).join("certctl-install.lock");
    let lock = File::create(&path).map_err(Error::io("create", &path))?;
    lock.lock().map_err(Error::io("lock", &path))?;
    let absent = absent(programs);
    if let Some(packages) = plan(&absent, root, debian)? {
        apt_get(&packages)?;
    }
    absent
        .iter()
        .try_for_each(|program| program.require().map(drop))
}

/// Where root keeps what is of use until the next start; nobody else can put a link there.
const RUN: &str = "/run";

fn absent(programs: &[Program]) -> Vec<Program> {
    programs
        .iter()
        .copied()
        .filter(|program| program.locate().is_none())
        .collect()
}

/// The packages to install, nothing when all is there.
fn plan(absent: &[Program], root: bool, debian: bool) -> Result<Option<Vec<&'static str>>, Error> {
    if absent.is_empty() {
        return Ok(None);
    }
    if !root || !debian {
        return Err(missing(absent));
    }
    Ok(Some(
        absent.iter().map(|program| program.package()).collect(),
    ))
}

fn missing(absent: &[Program]) -> Error {
    let join = |part: fn(Program) -> &'static str, by: &str| {
        absent
            .iter()
            .map(|program| part(*program))
            .collect::<Vec<_>>()
            .join(by)
    };
    let sudo = if geteuid().is_root() { "" } else { "sudo " };
    Error::Missing {
        programs: join(Program::name, ", "),
        command: format!("{sudo}apt-get install -y {}", join(Program::package, " ")),
    }
}

fn apt_get(packages: &[&str]) -> Result<(), Error> {
    eprintln!("installing {} with apt-get", packages.join(" "));
    let hold = ServicesHeld::at(Path::new("/usr/sbin/policy-rc.d"))?;
    run_apt(&hold, &["update"])?;
    let mut install = vec!["install", "-y", "--no-install-recommends"];
    install.extend(packages);
    run_apt(&hold, &install)
}

fn run_apt(hold: &ServicesHeld, arguments: &[&str]) -> Result<(), Error> {
    let log = Path::new(RUN).join("certctl-install.log");
    let mut apt = Command::new("apt-get");
    // Another apt-get may hold the lock, as on a machine that has just started.
    apt.args(["-q", "-o", "DPkg::Lock::Timeout=300"])
        .args(arguments)
        .env("DEBIAN_FRONTEND", "noninteractive");
    child::log_to(&mut apt, &log)?;
    // A package manager that is cut short leaves packages half configured, so it always runs to its end.
    let mut guard = Guard::default().uninterrupted();
    if let Some(path) = &hold.made {
        guard = guard.leftover(path);
    }
    let status = guard.spawn(apt)?.wait()?;
    let output = crate::error::tail(&log);
    fs::remove_file(&log).map_err(Error::io("remove", &log))?;
    if status.success() {
        return Ok(());
    }
    Err(Error::Install {
        command: format!("apt-get {}", arguments.join(" ")),
        status,
        output,
    })
}

/// Keeps packages from starting their services while this lives.
///
/// Debian's maintainer scripts ask `policy-rc.d` before they start anything; exit code 101 forbids it. A policy that
/// the administrator has set is left alone.
struct ServicesHeld {
    made: Option<PathBuf>,
}

const POLICY: &str =
    "#!/bin/sh\n# Made by certctl's xtask while it installs packages; safe to remove.\nexit 101\n";

impl ServicesHeld {
    fn at(path: &Path) -> Result<Self, Error> {
        let ours = fs::read_to_string(path).is_ok_and(|text| text == POLICY);
        if path.exists() && !ours {
            return Ok(Self { made: None });
        }
        let opened = File::options()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o755)
            .open(path);
        let mut file = opened.map_err(Error::io("create", path))?;
        let held = Self {
            made: Some(path.to_path_buf()),
        };
        file.write_all(POLICY.as_bytes())
            .map_err(Error::io("write", path))?;
        Ok(held)
    }
}

impl Drop for ServicesHeld {
    fn drop(&mut self) {
        if let Some(path) = &self.made
            && let Err(reason) = fs::remove_file(path)
        {
            eprintln!("cannot remove {}: {reason}", path.display());
        }
    }
}

/// Debian keeps the server's programs out of the path, in a folder per major version; the newest is taken.
fn postgres_programs(root: &Path) -> Option<PathBuf> {
    let versions = fs::read_dir(root).into_iter().flatten().flatten();
    let newest = versions
        .filter_map(|entry| {
            Some((
                entry.file_name().to_str()?.parse::<u32>().ok()?,
                entry.path().join("bin"),
            ))
        })
        .filter(|(_, bin)| {
            ["initdb", "postgres", "psql"]
                .iter()
                .all(|name| is_executable(&bin.join(name)))
        })
        .max();
    match newest {
        Some((_, bin)) => Some(bin),
        None => executable("initdb").and_then(|initdb| initdb.parent().map(Path::to_path_buf)),
    }
}

/// The major version of the programs in a folder.
pub(crate) fn postgres_version(programs: &Path) -> Option<u32> {
    // "postgres (PostgreSQL) 15.13 (Debian 15.13-0+deb12u1)"
    let text = child::output(Command::new(programs.join("postgres")).arg("--version")).ok()?;
    let number = text
        .split_whitespace()
        .find(|word| word.starts_with(|c: char| c.is_ascii_digit()))?;
    number
        .chars()
        .take_while(char::is_ascii_digit)
        .collect::<String>()
        .parse()
        .ok()
}

/// Debian keeps the part that makes environments in a package of its own.
fn makes_environments(python: &Path) -> bool {
    child::output(Command::new(python).args(["-c", "import ensurepip, venv"])).is_ok()
}

/// Searches the path, and the folders of system programs that an ordinary user's path leaves out.
fn executable(name: &str) -> Option<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    let system = ["/usr/local/sbin", "/usr/sbin", "/sbin"].map(PathBuf::from);
    env::split_paths(&path)
        .chain(system)
        .map(|folder| folder.join(name))
        .find(|file| is_executable(file))
}

fn is_executable(file: &Path) -> bool {
    fs::metadata(file).is_ok_and(|meta| meta.is_file() && meta.permissions().mode() & 0o111 != 0)
}

#[cfg(test)]
mod tests {
    use std::fs::Permissions;

    use super::*;

    #[test]
    fn only_root_on_debian_installs() {
        let absent = [Program::Postgres, Program::Nginx];
        assert_eq!(plan(&[], false, false).unwrap(), None);
        assert_eq!(
            plan(&absent, true, true).unwrap(),
            Some(vec!["postgresql", "nginx"])
        );
        for (root, debian) in [(false, true), (true, false), (false, false)] {
            let refusal = plan(&absent, root, debian).unwrap_err().to_string();
            assert!(
                refusal.starts_with("PostgreSQL, nginx not found; run `"),
                "{refusal}"
            );
            assert!(
                refusal.ends_with("apt-get install -y postgresql nginx`"),
                "{refusal}"
            );
        }
    }

    #[test]
    fn services_are_held_and_released() {
        let folder = tempfile::tempdir().unwrap();
        let policy = folder.path().join("policy-rc.d");
        let held = ServicesHeld::at(&policy).unwrap();
        assert!(is_executable(&policy));
        let status = Command::new(&policy).status().unwrap();
        assert_eq!(status.code(), Some(101));
        drop(held);
        assert!(!policy.exists());
    }

    #[test]
    fn a_policy_of_the_administrator_stays() {
        let folder = tempfile::tempdir().unwrap();
        let policy = folder.path().join("policy-rc.d");
        fs::write(&policy, "#!/bin/sh\nexit 0\n").unwrap();
        drop(ServicesHeld::at(&policy).unwrap());
        assert_eq!(fs::read_to_string(&policy).unwrap(), "#!/bin/sh\nexit 0\n");
    }

    #[test]
    fn a_policy_left_by_a_killed_run_is_taken_over() {
        let folder = tempfile::tempdir().unwrap();
        let policy = folder.path().join("policy-rc.d");
        fs::write(&policy, POLICY).unwrap();
        drop(ServicesHeld::at(&policy).unwrap());
        assert!(!policy.exists());
    }

    #[test]
    fn the_newest_whole_postgres_is_taken() {
        let root = tempfile::tempdir().unwrap();
        for (version, programs) in [("9", 3), ("15", 3), ("17", 1)] {
            let bin = root.path().join(version).join("bin");
            fs::create_dir_all(&bin).unwrap();
            for name in &["initdb", "postgres", "psql"][..programs] {
                fs::write(bin.join(name), "").unwrap();
                fs::set_permissions(bin.join(name), Permissions::from_mode(0o755)).unwrap();
            }
        }
        assert_eq!(
            postgres_programs(root.path()),
            Some(root.path().join("15/bin"))
        );
    }
}
