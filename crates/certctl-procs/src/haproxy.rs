//! A HAProxy of one's own in master-worker mode, on unprivileged ports.

use std::fs;
use std::io::Write as _;
use std::net::{Ipv4Addr, TcpStream};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use crate::Error;
use crate::child::{self, Guard, Guarded};
use crate::install::Program;

/// Far more than a start takes; only bounds a hang.
const START_LIMIT: Duration = Duration::from_secs(20);

/// What the master says when its workers serve.
const LOADED: &str = "Loading success";

/// A signal to a master that is still at the one before is lost, so it is sent until the master says that it has loaded
/// once more. Arguments: the master, what it says, and where.
const RELOAD: &str = r#"#!/bin/sh
reload() {
    before=$(grep -c "$2" "$3")
    for second in 1 2 3 4 5 6 7 8 9 10; do
        kill -USR2 "$1" || exit 1
        for look in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20; do
            [ "$(grep -c "$2" "$3")" -gt "$before" ] && exit 0
            sleep 0.05
        done
    done
    echo "the master has not loaded anew" >&2
    exit 1
}
"#;

/// A running HAProxy; stopped on drop. Its folder stays, for it may hold what others put there.
#[derive(Debug)]
pub struct HaProxy {
    server: Guarded,
    program: PathBuf,
    conf: PathBuf,
    reload: PathBuf,
}

impl HaProxy {
    /// Writes `conf` to `haproxy.cfg` in `folder`, starts HAProxy on it and waits until `port` of the loopback is bound.
    ///
    /// The folder is created when it is missing, and has no white space, for [`HaProxy::validate_command`] is words.
    ///
    /// # Errors
    /// [`Error::Missing`] when HAProxy is not installed, [`Error::Ended`] with the log when it refuses the text.
    pub fn start(folder: impl AsRef<Path>, conf: &str, port: u16) -> Result<Self, Error> {
        let program = Program::HaProxy.require()?;
        let folder = folder.as_ref();
        fs::create_dir_all(folder).map_err(Error::io("create", folder))?;
        let folder = folder
            .canonicalize()
            .map_err(Error::io("resolve", folder))?;
        let file = folder.join("haproxy.cfg");
        fs::write(&file, conf).map_err(Error::io("write", &file))?;
        let mut haproxy = Command::new(&program);
        haproxy.arg("-W").arg("-f").arg(&file);
        let log = folder.join("start.log");
        child::log_to(&mut haproxy, &log)?;
        let mut server = Guard::default().spawn(haproxy)?;
        // The ports are bound before the master hears signals.
        server.wait_until(&log, START_LIMIT, || {
            TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_ok()
                && fs::read_to_string(&log).is_ok_and(|text| text.contains(LOADED))
        })?;
        let reload = folder.join("reload");
        let script = format!(
            "{RELOAD}reload {} '{LOADED}' '{}'\n",
            server.pid(),
            log.display()
        );
        let mut options = fs::File::options();
        let opened = options.write(true).create(true).truncate(true).mode(0o755);
        opened
            .open(&reload)
            .and_then(|mut file| file.write_all(script.as_bytes()))
            .map_err(Error::io("write", &reload))?;
        Ok(Self {
            server,
            program,
            conf: file,
            reload,
        })
    }

    /// The command that has the master start workers on the files as they are now; the old ones finish what they serve.
    ///
    /// It ends when the new ones serve, and fails when there are none within ten seconds.
    pub fn reload_command(&self) -> String {
        self.reload.display().to_string()
    }

    /// The command that checks the files on disk without using them.
    pub fn validate_command(&self) -> String {
        format!("{} -c -f {}", self.program.display(), self.conf.display())
    }

    /// The configuration file.
    pub fn conf_path(&self) -> &Path {
        &self.conf
    }

    /// The process id of the master.
    pub fn pid(&self) -> u32 {
        self.server.pid()
    }

    /// Stops HAProxy and frees its ports.
    ///
    /// # Errors
    /// [`Error::Io`] when the system refuses.
    pub fn stop(mut self) -> Result<(), Error> {
        self.server.stop().map(drop)
    }
}

/// A whole configuration around the given sections; requests are answered without a server behind.
pub fn conf(sections: &str) -> String {
    format!(
        "global
    maxconn 256
defaults
    mode http
    timeout connect 5s
    timeout client 30s
    timeout server 30s
{sections}
"
    )
}
