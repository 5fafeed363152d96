//! A PostgreSQL of one's own, on a socket in a folder of its own.

use std::ffi::OsStr;
use std::fmt::Write as _;
use std::fs;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::chown;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use nix::unistd::{User, geteuid};

use crate::child::{self, Guard, Guarded, Signal};
use crate::folder::OwnedFolder;
use crate::install::Program;
use crate::{Error, error, install};

/// The account Debian's package makes; PostgreSQL refuses to run as root.
const ACCOUNT: &str = "postgres";

/// The longest path of a Unix socket, in bytes (108 with the final NUL).
const SOCKET_PATH_MAX: usize = 107;

/// Far more than a start takes; only bounds a hang.
const START_LIMIT: Duration = Duration::from_secs(60);

/// A running server with durable commits, reachable by its socket only; stopped and removed on drop.
#[derive(Debug)]
pub struct Cluster {
    // Order matters: fields drop in this order, and the server must be gone before its folder.
    _server: Guarded,
    folder: OwnedFolder,
    programs: PathBuf,
}

impl Cluster {
    /// Makes a server in `folder`, which must be new or empty, and waits until it answers.
    ///
    /// As root the server runs as user `postgres`, who must be able to reach the folder.
    ///
    /// # Errors
    /// [`Error::Missing`] when PostgreSQL is not installed (see [`install::ensure`]), [`Error::SocketPathTooLong`],
    /// [`Error::FolderInUse`], [`Error::NoSuchUser`], and [`Error::Ended`] with the log when it does not start.
    pub fn start(folder: impl AsRef<Path>) -> Result<Self, Error> {
        Self::start_with(folder, &[])
    }

    /// The same with further settings, such as `shared_buffers=1GB`; they win over those it has otherwise.
    ///
    /// # Errors
    /// As [`Cluster::start`].
    pub fn start_with(folder: impl AsRef<Path>, settings: &[&str]) -> Result<Self, Error> {
        let programs = Program::Postgres.require()?;
        let folder = OwnedFolder::create(folder)?;
        let socket = folder.path().join(".s.PGSQL.5432");
        if socket.as_os_str().len() > SOCKET_PATH_MAX {
            return Err(Error::SocketPathTooLong(socket));
        }
        let account = Account::for_server()?;
        account.own(folder.path())?;
        init(&programs, folder.path(), &account)?;
        let server = serve(&programs, folder.path(), &account, settings)?;
        Ok(Self {
            _server: server,
            folder,
            programs,
        })
    }

    /// The URL of a database of this server.
    pub fn url(&self, database: &str) -> String {
        let host = percent_encoded(self.folder.path().as_os_str());
        format!("postgres:///{database}?host={host}&user={ACCOUNT}")
    }

    /// The folder that holds data, socket and log.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Creates an empty database.
    ///
    /// # Errors
    /// [`Error::DatabaseName`] for a name that would need quoting, [`Error::Ended`] when the server refuses.
    pub fn create_database(&self, name: &str) -> Result<(), Error> {
        let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
        let first = name.chars().next().is_some_and(|c| c.is_ascii_lowercase());
        if !first || name.len() > 63 || !name.chars().all(plain) {
            return Err(Error::DatabaseName(name.to_owned()));
        }
        self.query(ACCOUNT, &format!("CREATE DATABASE {name}"))
            .map(drop)
    }

    /// Runs SQL through `psql` and gives the rows, one per line, columns separated by `|`.
    ///
    /// # Errors
    /// [`Error::Ended`] with the server's message.
    pub fn query(&self, database: &str, sql: &str) -> Result<String, Error> {
        self.psql(database, &["-c".as_ref(), sql.as_ref()])
    }

    /// Runs a file of SQL in one transaction, however long it is, and gives the rows as [`Cluster::query`] does.
    ///
    /// # Errors
    /// As [`Cluster::query`].
    pub fn run_file(&self, database: &str, file: &Path) -> Result<String, Error> {
        self.psql(database, &["-1".as_ref(), "-f".as_ref(), file.as_os_str()])
    }

    /// Has `pgbench` repeat a file of SQL in one session for some seconds, and gives what it says.
    ///
    /// # Errors
    /// [`Error::Ended`] with its message.
    pub fn pgbench(&self, database: &str, file: &Path, seconds: u64) -> Result<String, Error> {
        let mut pgbench = Command::new(self.programs.join("pgbench"));
        pgbench
            .args(["--no-vacuum", "--client=1", "--jobs=1"])
            .arg(format!("--time={seconds}"))
            .arg("--file")
            .arg(file)
            .arg(self.url(database))
            .env_clear();
        child::output(&mut pgbench)
    }

    fn psql(&self, database: &str, what: &[&OsStr]) -> Result<String, Error> {
        let mut psql = Command::new(self.programs.join("psql"));
        // Neither start-up files nor PG* variables of the caller may change what is asked of whom.
        psql.args(["-X", "-A", "-t", "-q", "-v", "ON_ERROR_STOP=1"])
            .args(what)
            .arg(self.url(database))
            .env_clear();
        Ok(child::output(&mut psql)?.trim_end().to_owned())
    }
}

/// Who runs the server.
enum Account {
    /// The caller.
    Caller,
    /// Another account, because the caller is root.
    Other(User),
}

impl Account {
    fn for_server() -> Result<Self, Error> {
        if !geteuid().is_root() {
            return Ok(Self::Caller);
        }
        let user = User::from_name(ACCOUNT)
            .map_err(|errno| Error::io("look up user", ACCOUNT)(errno.into()))?;
        user.map(Self::Other).ok_or(Error::NoSuchUser(ACCOUNT))
    }

    fn own(&self, folder: &Path) -> Result<(), Error> {
        let Self::Other(user) = self else {
            return Ok(());
        };
        chown(folder, Some(user.uid.as_raw()), Some(user.gid.as_raw()))
            .map_err(Error::io("change the owner of", folder))
    }

    /// A command that runs as this account.
    ///
    /// `setpriv` executes the program in its own place, so the process id is the server's own; `su` and `runuser`
    /// would stay between it and us, and answer a signal in their own way.
    fn command(&self, program: &Path) -> Command {
        let Self::Other(user) = self else {
            return Command::new(program);
        };
        let mut command = Command::new("setpriv");
        command
            .args([
                "--reuid",
                &user.name,
                "--regid",
                &user.gid.to_string(),
                "--init-groups",
                "--",
            ])
            .arg(program);
        command
    }
}

fn init(programs: &Path, folder: &Path, account: &Account) -> Result<(), Error> {
    let log = folder.join("initdb.log");
    let mut initdb = account.command(&programs.join("initdb"));
    initdb
        .arg("--pgdata")
        .arg(folder.join("data"))
        .args([
            "--username",
            ACCOUNT,
            "--auth=trust",
            "--encoding=UTF8",
            "--locale=C.UTF-8",
        ])
        .args(["--no-sync", "--no-instructions"])
        .current_dir(folder);
    if install::postgres_version(programs).is_some_and(|version| version >= 15) {
        // Text sorts by language here, as on most production servers. Under the C locale a query that forgets to say
        // which order it means would look right.
        initdb.args(["--locale-provider=icu", "--icu-locale=und"]);
    }
    child::log_to(&mut initdb, &log)?;
    let status = Guard::default().leftover(folder).spawn(initdb)?.wait()?;
    if status.success() {
        return Ok(());
    }
    Err(Error::Ended {
        program: "initdb".to_owned(),
        status,
        output: error::tail(&log),
    })
}

fn serve(
    programs: &Path,
    folder: &Path,
    account: &Account,
    further: &[&str],
) -> Result<Guarded, Error> {
    let (data, log) = (folder.join("data"), folder.join("log"));
    let mut postgres = account.command(&programs.join("postgres"));
    postgres
        .arg("-D")
        .arg(&data)
        .arg("-k")
        .arg(folder)
        .current_dir(folder);
    let settings = [
        "listen_addresses=",
        "unix_socket_permissions=0700",
        "max_connections=200",
        "shared_preload_libraries=pg_stat_statements",
        "fsync=on",
        "synchronous_commit=on",
    ];
    // What is said last counts.
    for setting in settings.iter().chain(further) {
        postgres.args(["-c", setting]);
    }
    child::log_to(&mut postgres, &log)?;
    // SIGINT is PostgreSQL's fast shutdown: sessions are cut, committed work is on disk.
    let guard = Guard::default()
        .signal(Signal::SIGINT)
        .grace(Duration::from_secs(30))
        .leftover(folder);
    let mut server = guard.spawn(postgres)?;
    server.wait_until(&log, START_LIMIT, || is_ready(&data))?;
    Ok(server)
}

/// The server writes its state into the eighth line of its pid file; `pg_ctl --wait` looks there too.
fn is_ready(data: &Path) -> bool {
    let text = fs::read_to_string(data.join("postmaster.pid")).unwrap_or_default();
    text.lines()
        .nth(7)
        .is_some_and(|state| state.trim_end() == "ready")
}

/// A path as the value of a query parameter (RFC 3986 section 2.1); the slash is allowed there (section 3.4).
fn percent_encoded(path: &OsStr) -> String {
    let mut text = String::new();
    for byte in path.as_bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' | b'/' => {
                text.push(char::from(*byte));
            }
            other => write!(text, "%{other:02X}").expect("writing to a string does not fail"),
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_percent_encoded() {
        assert_eq!(
            percent_encoded(OsStr::new("/a-b/c_d.e~/0")),
            "/a-b/c_d.e~/0"
        );
        assert_eq!(
            percent_encoded(OsStr::new("/a b&c=ü?")),
            "/a%20b%26c%3D%C3%BC%3F"
        );
    }

    #[test]
    fn only_a_finished_start_is_ready() {
        let data = tempfile::tempdir().unwrap();
        assert!(!is_ready(data.path()));
        let file = data.path().join("postmaster.pid");
        fs::write(&file, "1\n/d\n2\n5432\n/s\n\n 3 4\nstarting\n").unwrap();
        assert!(!is_ready(data.path()));
        fs::write(&file, "1\n/d\n2\n5432\n/s\n\n 3 4\nready   \n").unwrap();
        assert!(is_ready(data.path()));
    }
}
