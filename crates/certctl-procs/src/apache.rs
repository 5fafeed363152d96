//! An Apache httpd of one's own, with its own prefix and unprivileged ports.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use nix::unistd::geteuid;

use crate::Error;
use crate::child::{self, Guard, Guarded};
use crate::install::Program;

/// Far more than a start takes; only bounds a hang.
const START_LIMIT: Duration = Duration::from_secs(20);

/// Runs its arguments and waits for them, also when it is told to end, as they are, too.
const COLLECTOR: &str = r#"trap : TERM; "$0" "$@" & wait $!; wait $!"#;

/// Where Debian keeps the modules.
const MODULES: &str = "/usr/lib/apache2/modules";

/// A running Apache; stopped on drop. Its prefix stays, for it may hold what others put there.
#[derive(Debug)]
pub struct Apache {
    server: Guarded,
    command: String,
    pid: u32,
    conf: PathBuf,
    prefix: PathBuf,
}

impl Apache {
    /// Writes `conf` to `apache.conf` in `prefix`, starts Apache on it and waits until its ports are bound.
    ///
    /// The text must keep the pid in `apache.pid` of the prefix, as [`conf`] does. The prefix is created when it is
    /// missing, and has no white space, for [`Apache::reload_command`] is words.
    ///
    /// # Errors
    /// [`Error::Missing`] when Apache is not installed, [`Error::Ended`] with the log when it refuses the text.
    pub fn start(prefix: impl AsRef<Path>, conf: &str) -> Result<Self, Error> {
        let program = Program::Apache.require()?;
        let prefix = prefix.as_ref();
        fs::create_dir_all(prefix).map_err(Error::io("create", prefix))?;
        let prefix = prefix
            .canonicalize()
            .map_err(Error::io("resolve", prefix))?;
        let file = prefix.join("apache.conf");
        fs::write(&file, conf).map_err(Error::io("write", &file))?;

        let pid_file = prefix.join("apache.pid");
        // A file left by a killed server would look like a finished start.
        if pid_file.exists() {
            fs::remove_file(&pid_file).map_err(Error::io("remove", &pid_file))?;
        }
        // A reload can end Apache. A shell in between collects it then, as init does; uncollected it would pass for a
        // running one, and Apache's own commands would not start it again.
        let mut apache = Command::new("sh");
        apache.args(["-c", COLLECTOR]);
        apache.arg(&program).arg("-d").arg(&prefix);
        apache.arg("-f").arg(&file).arg("-DFOREGROUND");
        let log = prefix.join("start.log");
        child::log_to(&mut apache, &log)?;
        let mut server = Guard::default().spawn(apache)?;
        let mut pid = 0;
        // Apache writes the file after it has bound every port.
        server.wait_until(&log, START_LIMIT, || {
            let text = fs::read_to_string(&pid_file).unwrap_or_default();
            pid = text.trim_end().parse().unwrap_or_default();
            pid != 0
        })?;
        Ok(Self {
            server,
            command: format!(
                "{} -d {} -f {}",
                program.display(),
                prefix.display(),
                file.display()
            ),
            pid,
            conf: file,
            prefix,
        })
    }

    /// The command that has the running Apache read its files again without cutting connections; it ends before the new
    /// ones are in use.
    pub fn reload_command(&self) -> String {
        format!("{} -k graceful", self.command)
    }

    /// The command that checks the files on disk without using them.
    pub fn validate_command(&self) -> String {
        format!("{} -t", self.command)
    }

    /// The configuration file.
    pub fn conf_path(&self) -> &Path {
        &self.conf
    }

    /// The folder that relative paths of the configuration start from.
    pub fn prefix(&self) -> &Path {
        &self.prefix
    }

    /// The process id of the parent that was started.
    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// Stops Apache and frees its ports.
    ///
    /// # Errors
    /// [`Error::Io`] when the system refuses.
    pub fn stop(mut self) -> Result<(), Error> {
        self.server.stop().map(drop)
    }
}

/// A whole configuration with TLS and the event MPM around the given directives.
///
/// Relative paths start from the prefix, which `prefix` names. Sessions are not cached, so a handshake always shows the
/// certificate that is in use.
pub fn conf(prefix: &Path, directives: &str) -> String {
    // Root must say as whom it serves; anybody else serves as themselves.
    let account = if geteuid().is_root() {
        "User www-data\nGroup www-data\n"
    } else {
        ""
    };
    let prefix = prefix.display();
    format!(
        "LoadModule mpm_event_module {MODULES}/mod_mpm_event.so
LoadModule authz_core_module {MODULES}/mod_authz_core.so
LoadModule ssl_module {MODULES}/mod_ssl.so
ServerName localhost
DefaultRuntimeDir {prefix}
PidFile {prefix}/apache.pid
ErrorLog {prefix}/error.log
LogLevel notice
{account}StartServers 1
ServerLimit 8
ThreadsPerChild 16
MaxRequestWorkers 128
SSLSessionCache none
{directives}
"
    )
}
