//! On what, with what and when: without it a number says nothing.

use std::fs;
use std::process::Command;

use anyhow::Result;
use certctl_procs::child;
use serde_json::{Map, Value, json};

use super::suite::Shape;
use super::world::{Tools, World};
use crate::step::root;

/// The `run` of a summary.
pub(super) fn describe(tools: &Tools, world: &World, shape: &Shape) -> Result<Value> {
    let processors = std::thread::available_parallelism().map_or(0, usize::from);
    Ok(json!({
        "commit": commit(),
        "date": said("date", &["-u", "+%Y-%m-%dT%H:%M:%SZ"]),
        "host": {
            "cpu": cpu_model(),
            "processors": processors,
            "memory_mib": memory_mib(),
            "kernel": fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default().trim_end(),
        },
        "driver": said(&tools.k6.display().to_string(), &["version"]),
        "programs": tools.profile,
        "database": database(world)?,
        "server": settings(world),
        "tls": "TLS 1.3, the server's own certificate, not verified by the driver",
        "seconds": shape.seconds,
        "rate_scale": shape.scale,
    }))
}

/// The commit, with a word when the tree is not what was committed.
pub(super) fn commit() -> String {
    let folder = root().display().to_string();
    let name = said("git", &["-C", &folder, "rev-parse", "HEAD"]);
    let changed = said("git", &["-C", &folder, "status", "--porcelain"]);
    if changed.is_empty() {
        name
    } else {
        format!("{name} with changes")
    }
}

/// What a program prints; nothing when there is none.
fn said(program: &str, arguments: &[&str]) -> String {
    let text = child::output(Command::new(program).args(arguments)).unwrap_or_default();
    text.trim().to_owned()
}

fn cpu_model() -> String {
    let text = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = text
        .lines()
        .find_map(|line| line.strip_prefix("model name"));
    model.map_or_else(String::new, |rest| {
        rest.trim_start_matches(['\t', ' ', ':']).to_owned()
    })
}

fn memory_mib() -> u64 {
    let text = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix("MemTotal:"));
    let kib: Option<u64> = line.and_then(|rest| rest.split_whitespace().next()?.parse().ok());
    kib.unwrap_or_default() / 1024
}

fn database(world: &World) -> Result<Value> {
    let Some(cluster) = world.database.cluster() else {
        return Ok(
            json!({"name": world.backend.name(), "version": world.store()?.query("SELECT sqlite_version()")?}),
        );
    };
    let mut settings = Map::new();
    for name in [
        "max_connections",
        "shared_buffers",
        "fsync",
        "synchronous_commit",
    ] {
        settings.insert(
            name.to_owned(),
            cluster.query("certctl", &format!("SHOW {name}"))?.into(),
        );
    }
    Ok(json!({
        "name": world.backend.name(),
        "version": cluster.query("certctl", "SHOW server_version")?,
        "settings": settings,
        "connection": "a Unix socket",
    }))
}

/// What the server was started with; nothing that opens a door.
fn settings(world: &World) -> Value {
    let is_secret = |name: &str| {
        ["SECRET", "KEY", "TOKEN"]
            .iter()
            .any(|word| name.contains(word) && !name.contains("KEYGEN"))
    };
    let shown = world.settings.iter().map(|(name, value)| {
        let value = if is_secret(name) {
            "<redacted>"
        } else {
            value.as_str()
        };
        (name.clone(), Value::from(value))
    });
    Value::Object(shown.collect())
}
