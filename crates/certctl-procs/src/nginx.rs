//! An nginx of one's own, with its own prefix and unprivileged ports.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use crate::Error;
use crate::child::{self, Guard, Guarded};
use crate::install::Program;

/// Far more than a start takes; only bounds a hang.
const START_LIMIT: Duration = Duration::from_secs(20);

/// A running nginx; stopped on drop. Its prefix stays, for it may hold what others put there.
#[derive(Debug)]
pub struct Nginx {
    server: Guarded,
    files: Files,
}

/// What one nginx is called with.
#[derive(Debug, Clone)]
struct Files {
    program: PathBuf,
    prefix: PathBuf,
    conf: PathBuf,
}

impl Nginx {
    /// Writes `conf` to `nginx.conf` in `prefix`, starts nginx on it and waits until its ports are bound.
    ///
    /// The text must keep nginx in the foreground and its pid in `nginx.pid`, as [`conf`] does. The prefix is created
    /// when it is missing.
    ///
    /// # Errors
    /// [`Error::Missing`] when nginx is not installed, [`Error::Ended`] with the log when it refuses the text.
    pub fn start(prefix: impl AsRef<Path>, conf: &str) -> Result<Self, Error> {
        let program = Program::Nginx.require()?;
        let prefix = prefix.as_ref();
        fs::create_dir_all(prefix).map_err(Error::io("create", prefix))?;
        let prefix = prefix
            .canonicalize()
            .map_err(Error::io("resolve", prefix))?;
        let files = Files {
            program,
            conf: prefix.join("nginx.conf"),
            prefix,
        };
        fs::write(&files.conf, conf).map_err(Error::io("write", &files.conf))?;
        let temporary = files.prefix.join("temp");
        fs::create_dir_all(&temporary).map_err(Error::io("create", &temporary))?;
        let server = files.serve()?;
        Ok(Self { server, files })
    }

    /// The command that has the running nginx read its files again; it ends before the new ones are in use.
    pub fn reload_command(&self) -> String {
        format!("{} -s reload", self.files.command_line())
    }

    /// The command that checks the files on disk without using them.
    pub fn validate_command(&self) -> String {
        format!("{} -t -q", self.files.command_line())
    }

    /// The configuration file.
    pub fn conf_path(&self) -> &Path {
        &self.files.conf
    }

    /// The folder that relative paths of the configuration start from.
    pub fn prefix(&self) -> &Path {
        &self.files.prefix
    }

    /// The process id of the master.
    pub fn pid(&self) -> u32 {
        self.server.pid()
    }

    /// Stops nginx and frees its ports.
    ///
    /// # Errors
    /// [`Error::Io`] when the system refuses.
    pub fn stop(mut self) -> Result<(), Error> {
        self.server.stop().map(drop)
    }
}

impl Files {
    fn serve(&self) -> Result<Guarded, Error> {
        let pid_file = self.prefix.join("nginx.pid");
        // A file left by a killed nginx would look like a finished start.
        if pid_file.exists() {
            fs::remove_file(&pid_file).map_err(Error::io("remove", &pid_file))?;
        }
        let mut nginx = Command::new(&self.program);
        nginx
            .arg("-p")
            .arg(&self.prefix)
            .arg("-c")
            .arg(&self.conf)
            .args(["-e", "error.log"]);
        let log = self.prefix.join("start.log");
        child::log_to(&mut nginx, &log)?;
        let mut server = Guard::default().spawn(nginx)?;
        let expected = server.pid().to_string();
        // nginx writes the file after it has bound every port.
        server.wait_until(&log, START_LIMIT, || {
            fs::read_to_string(&pid_file).is_ok_and(|pid| pid.trim_end() == expected)
        })?;
        Ok(server)
    }

    /// Paths are quoted for `sh`.
    fn command_line(&self) -> String {
        let quoted =
            |path: &Path| format!("'{}'", path.display().to_string().replace('\'', r"'\''"));
        let (program, prefix, conf) = (
            quoted(&self.program),
            quoted(&self.prefix),
            quoted(&self.conf),
        );
        format!("{program} -p {prefix} -c {conf} -e error.log")
    }
}

/// A whole configuration around the given directives of the `http` block.
///
/// Everything nginx writes goes below its prefix, so it needs no right beyond that folder. Relative paths in `http`
/// start from the folder of the configuration file, which is the prefix.
pub fn conf(http: &str) -> String {
    format!(
        "daemon off;
worker_processes 1;
pid nginx.pid;
error_log error.log notice;
events {{
    worker_connections 256;
}}
http {{
    access_log off;
    client_body_temp_path temp/body;
    proxy_temp_path temp/proxy;
    fastcgi_temp_path temp/fastcgi;
    uwsgi_temp_path temp/uwsgi;
    scgi_temp_path temp/scgi;
{http}
}}
"
    )
}
