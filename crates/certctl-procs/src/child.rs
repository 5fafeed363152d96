//! A child process that never outlives its owner.
//!
//! The kernel can signal a child when its parent dies, but only through `prctl` in the forked child, which is unsafe
//! code. A pipe does the same: a shell beside the child reads from a pipe whose write end only the owner holds, so the
//! owner's death, however sudden, is an end of file there. The shell then stops the child and removes its folder.
//!
//! Child and shell have process groups of their own: an interrupt typed at the terminal reaches the owner alone, and
//! the child is stopped in order.

use std::fs;
use std::io::{self, Write as _};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use nix::sys::signal::killpg;
use nix::unistd::Pid;

pub use nix::sys::signal::Signal;

use crate::Error;

/// Pause between two looks at something that is about to happen.
pub(crate) const POLL: Duration = Duration::from_millis(10);

/// How a child ends: by request of its owner, and when its owner is gone.
#[derive(Debug, Clone)]
pub struct Guard {
    signal: Option<Signal>,
    grace: Duration,
    leftover: Option<PathBuf>,
}

impl Default for Guard {
    /// SIGTERM, and SIGKILL ten seconds later.
    fn default() -> Self {
        Self {
            signal: Some(Signal::SIGTERM),
            grace: Duration::from_secs(10),
            leftover: None,
        }
    }
}

impl Guard {
    /// The signal that asks the child to end in order.
    #[must_use]
    pub fn signal(self, signal: Signal) -> Self {
        Self {
            signal: Some(signal),
            ..self
        }
    }

    /// For a child that must not be interrupted: stopping it means waiting for it, for as long as it takes.
    #[must_use]
    pub fn uninterrupted(self) -> Self {
        Self {
            signal: None,
            ..self
        }
    }

    /// How long the child may take after the signal before it is killed.
    #[must_use]
    pub fn grace(self, grace: Duration) -> Self {
        Self { grace, ..self }
    }

    /// A file or folder that is removed, when the owner dies, after the child has ended.
    ///
    /// An owner that lives removes it itself.
    #[must_use]
    pub fn leftover(self, path: impl Into<PathBuf>) -> Self {
        Self {
            leftover: Some(path.into()),
            ..self
        }
    }

    /// Starts the command under this guard.
    ///
    /// # Errors
    /// [`Error::Spawn`] when the command or the shell beside it cannot be run.
    pub fn spawn(self, mut command: Command) -> Result<Guarded, Error> {
        let mut watch = Watch::start(&self)?;
        let program = command.get_program().to_string_lossy().into_owned();
        let spawned = command.process_group(0).spawn();
        let child = spawned.map_err(|source| Error::Spawn {
            program: program.clone(),
            source,
        })?;
        watch.over(child.id());
        Ok(Guarded {
            program,
            child,
            watch,
            guard: self,
        })
    }
}

/// A running child; stopped on drop.
#[derive(Debug)]
pub struct Guarded {
    program: String,
    child: Child,
    watch: Watch,
    guard: Guard,
}

impl Guarded {
    /// The process id, which is also the id of its process group.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// The child itself, for its pipes.
    pub fn child(&mut self) -> &mut Child {
        &mut self.child
    }

    /// The exit status, when the child has ended.
    ///
    /// # Errors
    /// [`Error::Io`] when the system cannot say.
    pub fn try_wait(&mut self) -> Result<Option<ExitStatus>, Error> {
        self.child
            .try_wait()
            .map_err(Error::io("wait for", &self.program))
    }

    /// Waits for the child to end by itself.
    ///
    /// # Errors
    /// [`Error::Io`] when the system cannot say.
    pub fn wait(&mut self) -> Result<ExitStatus, Error> {
        self.child
            .wait()
            .map_err(Error::io("wait for", &self.program))
    }

    /// Sends a signal to the child and to every process of its group; nothing when the child has ended.
    ///
    /// # Errors
    /// [`Error::Io`] when the system refuses.
    pub fn signal(&mut self, signal: Signal) -> Result<(), Error> {
        // An ended child keeps its process id until it is waited for, so between this look and the signal the id
        // cannot have gone to somebody else.
        if self.try_wait()?.is_some() {
            return Ok(());
        }
        let group = i32::try_from(self.child.id()).expect("the kernel bounds process ids by 2^22");
        killpg(Pid::from_raw(group), signal)
            .map_err(|errno| Error::io("signal", &self.program)(errno.into()))
    }

    /// Kills the child and its group at once, and waits for it.
    ///
    /// # Errors
    /// [`Error::Io`] when the system refuses.
    pub fn kill(&mut self) -> Result<ExitStatus, Error> {
        self.signal(Signal::SIGKILL)?;
        self.wait()
    }

    /// Ends the child as its [`Guard`] says, and waits for it.
    ///
    /// # Errors
    /// [`Error::Io`] when the system refuses.
    pub fn stop(&mut self) -> Result<ExitStatus, Error> {
        let Some(signal) = self.guard.signal else {
            return self.wait();
        };
        self.signal(signal)?;
        let deadline = Instant::now() + self.guard.grace;
        while Instant::now() < deadline {
            if let Some(status) = self.try_wait()? {
                return Ok(status);
            }
            sleep(POLL);
        }
        self.kill()
    }

    /// Waits until `ready` says yes; fails when the child ends first or takes longer than `limit`.
    ///
    /// # Errors
    /// [`Error::Ended`] and [`Error::NotReady`], both with the last lines of `log`.
    pub fn wait_until(
        &mut self,
        log: &Path,
        limit: Duration,
        mut ready: impl FnMut() -> bool,
    ) -> Result<(), Error> {
        let deadline = Instant::now() + limit;
        loop {
            if ready() {
                return Ok(());
            }
            let program = self.program.clone();
            if let Some(status) = self.try_wait()? {
                return Err(Error::Ended {
                    program,
                    status,
                    output: crate::error::tail(log),
                });
            }
            if Instant::now() >= deadline {
                return Err(Error::NotReady {
                    program,
                    seconds: limit.as_secs(),
                    output: crate::error::tail(log),
                });
            }
            sleep(POLL);
        }
    }
}

impl Drop for Guarded {
    fn drop(&mut self) {
        match self.stop() {
            Ok(_) => self.watch.stand_down(),
            // The watch is left in place: it tries again when the pipe closes with this value.
            Err(reason) => eprintln!("cannot stop {}: {reason}", self.program),
        }
    }
}

/// The shell that outlives the owner just long enough to clear up.
#[derive(Debug)]
struct Watch {
    shell: Child,
}

/// Arguments: signal or `-`, grace in tenths of a second, path to remove or nothing.
///
/// The first line read is the process group, a second one is the order to stand down; the end of the input instead of
/// it is the owner's death.
const SCRIPT: &str = r#"
trap '' HUP INT TERM
read -r group || exit 0
read -r word && exit 0
if [ "$1" = - ]; then
    while kill -s 0 -- "-$group" 2>/dev/null; do sleep 0.1; done
else
    kill -s "$1" -- "-$group" 2>/dev/null
    left=$2
    while [ "$left" -gt 0 ] && kill -s 0 -- "-$group" 2>/dev/null; do sleep 0.1; left=$((left - 1)); done
    kill -s KILL -- "-$group" 2>/dev/null
fi
[ -z "$3" ] || rm -rf -- "$3"
"#;

impl Watch {
    fn start(guard: &Guard) -> Result<Self, Error> {
        let signal = guard
            .signal
            .map_or("-", |signal| signal.as_str().trim_start_matches("SIG"));
        let tenths = (guard.grace.as_millis() / 100).to_string();
        let leftover = guard.leftover.clone().unwrap_or_default();
        let shell = Command::new("sh")
            .args(["-c", SCRIPT, "certctl-watch", signal, &tenths])
            .arg(leftover)
            .current_dir("/")
            // Its output must not be ours: whoever reads ours to the end would wait for the shell too.
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .process_group(0)
            .spawn()
            .map_err(|source| Error::Spawn {
                program: "sh".to_owned(),
                source,
            })?;
        Ok(Self { shell })
    }

    fn over(&mut self, group: u32) {
        self.tell(&group.to_string());
    }

    fn stand_down(&mut self) {
        self.tell("done");
    }

    /// A shell that is gone already watches nothing; there is nobody to tell.
    fn tell(&mut self, line: &str) {
        if let Some(pipe) = &mut self.shell.stdin {
            let _: io::Result<()> = writeln!(pipe, "{line}");
        }
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        drop(self.shell.stdin.take());
        let _: io::Result<ExitStatus> = self.shell.wait();
    }
}

/// Runs a command to its end and gives what it printed.
///
/// # Errors
/// [`Error::Spawn`] when it cannot run, [`Error::Ended`] when it fails.
pub fn output(command: &mut Command) -> Result<String, Error> {
    let program = command.get_program().to_string_lossy().into_owned();
    let spawned = command.stdin(Stdio::null()).output();
    let output = spawned.map_err(|source| Error::Spawn {
        program: program.clone(),
        source,
    })?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    if output.status.success() {
        return Ok(text);
    }
    let output_text = text + &String::from_utf8_lossy(&output.stderr);
    Err(Error::Ended {
        program,
        status: output.status,
        output: output_text,
    })
}

/// Opens the log of a child for its standard output and standard error.
pub(crate) fn log_to(command: &mut Command, log: &Path) -> Result<(), Error> {
    let file = fs::File::create(log).map_err(Error::io("create", log))?;
    let copy = file.try_clone().map_err(Error::io("open", log))?;
    command.stdin(Stdio::null()).stdout(file).stderr(copy);
    Ok(())
}
