//! Runs a target's commands: no shell, no environment of ours, bounded in time and output.

use std::{fmt, future::Future, io, pin::Pin, process::Stdio, sync::Arc, time::Duration};

use certctl_domain::{target::parse_command, validation::InvalidField};
use nix::{
    sys::signal::{Signal, killpg},
    unistd::Pid,
};
use tokio::{
    io::{AsyncRead, AsyncReadExt as _},
    process::{Child, Command},
    time::timeout,
};

use super::HookFailure;

/// How much of a command's output is kept, in bytes: the end of it, where programs say what went wrong.
pub const OUTPUT_LIMIT: usize = 4096;

/// How long the output of a command that has ended is waited for. A service it started may keep the pipe open for ever.
const LAST_WORDS: Duration = Duration::from_millis(250);

/// Where programs are looked for; the agent's own environment is not passed on, for it holds the agent's key.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// A command of a target's configuration, checked and split.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CommandLine {
    words: Vec<String>,
}

impl CommandLine {
    /// Checks a command again, at the last place before it is run (targets §1).
    ///
    /// # Errors
    /// [`InvalidField`] naming `field`.
    pub fn parse(field: &'static str, text: &str) -> Result<Self, InvalidField> {
        parse_command(field, text).map(|words| Self { words })
    }

    /// The program and its arguments.
    #[must_use]
    pub fn words(&self) -> &[String] {
        &self.words
    }
}

impl fmt::Display for CommandLine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.words.join(" "))
    }
}

/// The result of a command, to be awaited.
pub type Running<'a> = Pin<Box<dyn Future<Output = Result<(), HookFailure>> + Send + 'a>>;

/// Runs commands. Connectors take it as a value, so that tests can watch or refuse.
pub trait CommandRunner: Send + Sync {
    /// Runs a command; a failure says what the command printed.
    fn run<'a>(&'a self, command: &'a CommandLine, limit: Duration) -> Running<'a>;
}

/// The runner of the real system.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemRunner;

impl SystemRunner {
    /// The runner as connectors take it.
    #[must_use]
    pub fn shared() -> Arc<dyn CommandRunner> {
        Arc::new(Self)
    }
}

impl CommandRunner for SystemRunner {
    fn run<'a>(&'a self, command: &'a CommandLine, limit: Duration) -> Running<'a> {
        Box::pin(run(command, limit))
    }
}

async fn run(command: &CommandLine, limit: Duration) -> Result<(), HookFailure> {
    let fail = |what: String| Err(HookFailure(format!("`{command}` {what}")));
    let mut child = match spawn(command) {
        Ok(child) => child,
        Err(reason) => return fail(format!("cannot be run: {reason}")),
    };
    let mut output = Tail::default();
    match timeout(limit, finish(&mut child, &mut output)).await {
        Ok(Ok(status)) if status.success() => Ok(()),
        Ok(Ok(status)) => fail(format!("ended with {status}{output}")),
        Ok(Err(reason)) => fail(format!("was lost: {reason}")),
        Err(_) => {
            kill(&mut child).await;
            fail(format!(
                "took longer than {limit:?} and was stopped{output}"
            ))
        }
    }
}

fn spawn(command: &CommandLine) -> io::Result<Child> {
    let (program, arguments) = command
        .words
        .split_first()
        .expect("a parsed command has a word");
    Command::new(program)
        .args(arguments)
        .env_clear()
        .env("PATH", PATH)
        .env("LC_ALL", "C")
        .current_dir("/")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        // A group of its own, so that its children can be stopped with it.
        .process_group(0)
        .kill_on_drop(true)
        .spawn()
}

async fn finish(child: &mut Child, output: &mut Tail) -> io::Result<std::process::ExitStatus> {
    let mut out = child.stdout.take();
    let mut err = child.stderr.take();
    let (mut from_out, mut from_err) = ([0; 2048], [0; 2048]);
    let status = loop {
        tokio::select! {
            biased;
            read = read_some(&mut out, &mut from_out) => output.push(&from_out[..read]),
            read = read_some(&mut err, &mut from_err) => output.push(&from_err[..read]),
            status = child.wait() => break status?,
        }
    };
    let rest = async {
        while out.is_some() || err.is_some() {
            tokio::select! {
                read = read_some(&mut out, &mut from_out) => output.push(&from_out[..read]),
                read = read_some(&mut err, &mut from_err) => output.push(&from_err[..read]),
            }
        }
    };
    // When the time is up, what was read by then is what there is.
    let _: Result<(), tokio::time::error::Elapsed> = timeout(LAST_WORDS, rest).await;
    Ok(status)
}

/// Reads what there is; at the end of the stream it forgets the stream, and never returns for a forgotten one.
async fn read_some(stream: &mut Option<impl AsyncRead + Unpin>, buffer: &mut [u8]) -> usize {
    match stream {
        None => std::future::pending().await,
        Some(open) => match open.read(buffer).await {
            Ok(read) if read > 0 => read,
            _ => {
                *stream = None;
                0
            }
        },
    }
}

async fn kill(child: &mut Child) {
    // Not yet waited for, so the id is still this child's.
    if let Some(group) = child.id().and_then(|id| i32::try_from(id).ok()) {
        // It may have ended just now, which is what is wanted.
        let _: nix::Result<()> = killpg(Pid::from_raw(group), Signal::SIGKILL);
    }
    let _: io::Result<std::process::ExitStatus> = child.wait().await;
}

/// The last bytes of a stream.
#[derive(Default)]
struct Tail {
    bytes: Vec<u8>,
    cut: bool,
}

impl Tail {
    fn push(&mut self, more: &[u8]) {
        self.bytes.extend_from_slice(more);
        if let Some(surplus) = self
            .bytes
            .len()
            .checked_sub(OUTPUT_LIMIT)
            .filter(|n| *n > 0)
        {
            self.bytes.drain(..surplus);
            self.cut = true;
        }
    }
}

impl fmt::Display for Tail {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = String::from_utf8_lossy(&self.bytes);
        match text.trim() {
            "" => Ok(()),
            text if self.cut => write!(f, ": …{text}"),
            text => write!(f, ": {text}"),
        }
    }
}
