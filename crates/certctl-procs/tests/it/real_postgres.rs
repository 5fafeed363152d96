use std::fs;
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use certctl_procs::Error;
use certctl_procs::install::{Program, ensure};
use certctl_procs::postgres::Cluster;

use crate::{eventually, runs};

/// A folder of its own directly below the temporary one, because the account `postgres` must reach it.
fn folder(name: &str) -> PathBuf {
    std::env::temp_dir().join(format!("procs-{name}-{}", std::process::id()))
}

fn server_pid(folder: &Path) -> u32 {
    let text = fs::read_to_string(folder.join("data/postmaster.pid")).unwrap();
    text.lines().next().unwrap().parse().unwrap()
}

#[test]
fn a_cluster_answers_and_leaves_nothing() {
    ensure(&[Program::Postgres]).unwrap();
    let folder = folder("answers");
    let cluster = Cluster::start(&folder).unwrap();
    assert_eq!(cluster.query("postgres", "SELECT 1").unwrap(), "1");
    assert_eq!(cluster.query("postgres", "SHOW fsync").unwrap(), "on");
    assert_eq!(
        cluster.query("postgres", "SHOW max_connections").unwrap(),
        "200"
    );
    assert_eq!(
        cluster.query("postgres", "SHOW listen_addresses").unwrap(),
        ""
    );

    cluster.create_database("orders_1").unwrap();
    assert_eq!(
        cluster
            .query("orders_1", "SELECT current_database()")
            .unwrap(),
        "orders_1"
    );
    cluster
        .query("orders_1", "CREATE EXTENSION pg_stat_statements")
        .unwrap();
    assert!(matches!(
        cluster.create_database("a; DROP"),
        Err(Error::DatabaseName(_))
    ));
    let refusal = cluster.create_database("orders_1").unwrap_err().to_string();
    assert!(refusal.contains("already exists"), "{refusal}");

    let pid = server_pid(&folder);
    drop(cluster);
    assert!(!runs(pid));
    assert!(!folder.exists());
}

#[test]
fn a_folder_in_use_is_refused_and_kept() {
    ensure(&[Program::Postgres]).unwrap();
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("precious"), "").unwrap();
    assert!(matches!(
        Cluster::start(folder.path()),
        Err(Error::FolderInUse(_))
    ));
    assert!(folder.path().join("precious").exists());
}

#[test]
fn a_path_too_long_for_a_socket_is_refused_before_anything_runs() {
    ensure(&[Program::Postgres]).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let long = folder.path().join("x".repeat(100));
    assert!(matches!(
        Cluster::start(&long),
        Err(Error::SocketPathTooLong(_))
    ));
    assert!(!long.exists());
}

/// Starts a process that owns a cluster, kills it without warning, and expects the server and its folder to go.
#[test]
fn a_killed_owner_leaves_no_postgres_behind() {
    ensure(&[Program::Postgres]).unwrap();
    let folder = folder("killed");
    let mut owner = Command::new(env!("CARGO_BIN_EXE_throwaway-postgres"))
        .arg(&folder)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut url = String::new();
    BufReader::new(owner.stdout.take().unwrap())
        .read_line(&mut url)
        .unwrap();
    assert!(url.starts_with("postgres:///postgres?host="), "{url}");
    let server = server_pid(&folder);
    assert!(runs(server));

    owner.kill().unwrap();
    owner.wait().unwrap();
    eventually("the server has ended", || !runs(server));
    eventually("the folder is gone", || !folder.exists());
}
