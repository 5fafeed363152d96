//! What the processes of a run hold and use, once a second.

use std::fs;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::{Result, anyhow};
use serde_json::{Value, json};

use crate::stack::api::Api;

const EVERY: Duration = Duration::from_secs(1);
/// Linux counts the time of processors in hundredths of a second for every program, whatever its own clock does.
const TICKS_PER_SECOND: f64 = 100.0;

/// What is looked at.
#[derive(Clone)]
pub(super) struct Subjects {
    /// The server.
    pub(super) server: u32,
    /// PostgreSQL's first process; none for SQLite.
    pub(super) database: Option<u32>,
    /// The driver.
    pub(super) driver: Option<u32>,
    /// Asks the server for its metrics.
    pub(super) api: Api,
}

/// One look.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(super) struct Sample {
    /// Seconds since the first.
    pub(super) at: f64,
    pub(super) rss_kib: u64,
    pub(super) fds: u64,
    /// Percent of one processor since the last look.
    pub(super) cpu: f64,
    pub(super) database_cpu: f64,
    pub(super) driver_cpu: f64,
    pub(super) pool_in_use: f64,
    pub(super) pool_waiting: f64,
    /// Sessions of the database that carry something out.
    pub(super) backends: u64,
}

/// Looks every second until it is told to stop; stops on drop.
pub(super) struct Sampler {
    over: Arc<AtomicBool>,
    bell: Option<mpsc::Sender<()>>,
    looks: Option<JoinHandle<Vec<Sample>>>,
}

impl Sampler {
    pub(super) fn start(
        subjects: Subjects,
        mut seen: impl FnMut(&Sample) + Send + 'static,
    ) -> Self {
        let (bell, rung) = mpsc::channel();
        let over = Arc::new(AtomicBool::new(false));
        let ended = Arc::clone(&over);
        let looks = thread::spawn(move || {
            let mut look = Look::new(subjects);
            let mut samples = Vec::new();
            while !ended.load(Ordering::Relaxed) {
                if let Some(sample) = look.take() {
                    seen(&sample);
                    samples.push(sample);
                }
                if rung.recv_timeout(EVERY) != Err(RecvTimeoutError::Timeout) {
                    break;
                }
            }
            samples
        });
        Self {
            over,
            bell: Some(bell),
            looks: Some(looks),
        }
    }

    /// Ends it and gives what was seen.
    pub(super) fn finish(mut self) -> Result<Vec<Sample>> {
        self.end();
        let looks = self
            .looks
            .take()
            .ok_or_else(|| anyhow!("the sampler is over"))?;
        looks.join().map_err(|_| anyhow!("the sampler panicked"))
    }

    fn end(&mut self) {
        self.over.store(true, Ordering::Relaxed);
        self.bell = None;
    }
}

impl Drop for Sampler {
    fn drop(&mut self) {
        self.end();
    }
}

struct Look {
    subjects: Subjects,
    begun: Instant,
    last: Option<(Instant, [f64; 3])>,
}

impl Look {
    fn new(subjects: Subjects) -> Self {
        Self {
            subjects,
            begun: Instant::now(),
            last: None,
        }
    }

    /// Nothing when the server is gone, and the first time, when there is nothing to compare with.
    fn take(&mut self) -> Option<Sample> {
        let Subjects {
            server,
            database,
            driver,
            ..
        } = self.subjects;
        let sessions = database.map(children).unwrap_or_default();
        let of_database = sessions.iter().copied().chain(database).map(spent).sum();
        let now = Instant::now();
        let used = [
            spent(server),
            of_database,
            driver.map(spent).unwrap_or_default(),
        ];
        let (then, before) = self.last.replace((now, used))?;
        let wall = now.duration_since(then).as_secs_f64().max(0.001);
        // Sessions that ended take their time with them, so a sum can fall.
        let share = |index: usize| (100.0 * (used[index] - before[index]) / wall).max(0.0);
        let metrics = self.metrics();
        let gauge = |name: &str| value(&metrics, name);
        Some(Sample {
            at: now.duration_since(self.begun).as_secs_f64(),
            rss_kib: resident_kib(server)?,
            fds: u64::try_from(fs::read_dir(format!("/proc/{server}/fd")).ok()?.count()).ok()?,
            cpu: share(0),
            database_cpu: share(1),
            driver_cpu: share(2),
            pool_in_use: (gauge("certctl_db_pool_size") - gauge("certctl_db_pool_idle")).max(0.0),
            pool_waiting: gauge("certctl_db_pool_waiting"),
            backends: u64::try_from(sessions.iter().filter(|pid| is_busy(**pid)).count()).ok()?,
        })
    }

    fn metrics(&self) -> String {
        let bytes = self
            .subjects
            .api
            .bytes_as_caller("/api/v1/metrics/prometheus");
        String::from_utf8_lossy(&bytes.unwrap_or_default()).into_owned()
    }
}

/// The value of a metric without labels; zero when it is not there.
pub(super) fn value(metrics: &str, name: &str) -> f64 {
    metrics
        .lines()
        .find_map(|line| {
            line.strip_prefix(name)?
                .strip_prefix(' ')?
                .trim()
                .parse()
                .ok()
        })
        .unwrap_or_default()
}

/// The processes that one has started.
fn children(parent: u32) -> Vec<u32> {
    let processes = fs::read_dir("/proc").into_iter().flatten().flatten();
    processes
        .filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok())
        .filter(|pid| field(*pid, 4).is_some_and(|number| number == f64::from(parent)))
        .collect()
}

/// Seconds of a processor that a process has used.
fn spent(pid: u32) -> f64 {
    let ticks = field(pid, 14).zip(field(pid, 15));
    ticks.map_or(0.0, |(user, system)| (user + system) / TICKS_PER_SECOND)
}

/// A number of `/proc/<pid>/stat`, counted from 1 as proc(5) does. The name of the program may hold blanks and ends with the last
/// bracket.
fn field(pid: u32, number: usize) -> Option<f64> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let (_, after) = text.rsplit_once(')')?;
    after.split_whitespace().nth(number - 3)?.parse().ok()
}

fn resident_kib(pid: u32) -> Option<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))?;
    line.split_whitespace().next()?.parse().ok()
}

/// Whether a session carries something out, as PostgreSQL says in the title of its process: asking the database would be one more.
fn is_busy(pid: u32) -> bool {
    let title = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    is_busy_title(&String::from_utf8_lossy(&title))
}

fn is_busy_title(title: &str) -> bool {
    let title = title.trim_end_matches(['\0', ' ']);
    title.contains("[local]") && !title.ends_with("idle") && !title.ends_with("idle in transaction")
}

/// The samples as the summary has them: peaks, and every look.
pub(super) fn to_json(samples: &[Sample]) -> Value {
    let most = |of: fn(&Sample) -> f64| samples.iter().map(of).fold(0.0, f64::max);
    let mean = |of: fn(&Sample) -> f64| {
        samples.iter().map(of).sum::<f64>() / (samples.len().max(1) as f64)
    };
    let round = |number: f64| (number * 10.0).round() / 10.0;
    json!({
        "peak": {
            "rss_kib": samples.iter().map(|sample| sample.rss_kib).max(),
            "fds": samples.iter().map(|sample| sample.fds).max(),
            "cpu_percent": round(most(|sample| sample.cpu)),
            "database_cpu_percent": round(most(|sample| sample.database_cpu)),
            "driver_cpu_percent": round(most(|sample| sample.driver_cpu)),
            "db_pool_in_use": most(|sample| sample.pool_in_use),
            "db_pool_waiting": most(|sample| sample.pool_waiting),
            "db_active_backends": samples.iter().map(|sample| sample.backends).max(),
        },
        "mean": {
            "cpu_percent": round(mean(|sample| sample.cpu)),
            "database_cpu_percent": round(mean(|sample| sample.database_cpu)),
            "driver_cpu_percent": round(mean(|sample| sample.driver_cpu)),
        },
        "samples": samples.iter().map(|sample| json!({
            "at": round(sample.at), "rss_kib": sample.rss_kib, "fds": sample.fds, "cpu_percent": round(sample.cpu),
            "database_cpu_percent": round(sample.database_cpu), "driver_cpu_percent": round(sample.driver_cpu),
            "db_pool_in_use": sample.pool_in_use, "db_pool_waiting": sample.pool_waiting, "db_active_backends": sample.backends,
        })).collect::<Vec<_>>(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_session_is_busy_while_its_title_says_so() {
        for (title, busy) in [
            ("postgres: postgres certctl [local] idle\0\0", false),
            (
                "postgres: postgres certctl [local] idle in transaction\0",
                false,
            ),
            ("postgres: postgres certctl [local] INSERT", true),
            ("postgres: walwriter ", false),
        ] {
            assert_eq!(is_busy_title(title), busy, "{title}");
        }
    }

    #[test]
    fn a_metric_is_found_by_its_whole_name() {
        let text = "# HELP a b\ncertctl_db_pool_size_more 9\ncertctl_db_pool_size 7\n";
        assert_eq!(value(text, "certctl_db_pool_size"), 7.0);
        assert_eq!(value(text, "certctl_db_pool"), 0.0);
    }

    #[test]
    fn this_process_has_a_parent_and_memory() {
        let own = std::process::id();
        assert!(field(own, 4).is_some_and(|parent| parent > 0.0));
        assert!(resident_kib(own).is_some_and(|kib| kib > 100));
    }
}
