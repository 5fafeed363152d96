use std::fs;
use std::process::Command;
use std::time::Duration;

use certctl_procs::child::{Guard, Guarded, Signal};

use crate::{eventually, runs};

/// A shell that has set its traps once it says so.
fn shell(guard: Guard, script: &str) -> (Guarded, tempfile::TempDir) {
    let folder = tempfile::tempdir().unwrap();
    let mut command = Command::new("sh");
    command.args(["-c", script]).current_dir(folder.path());
    let child = guard.spawn(command).unwrap();
    eventually("the shell is up", || folder.path().join("up").exists());
    (child, folder)
}

#[test]
fn stop_sends_the_signal_that_was_asked_for() {
    // A shell cannot trap what its parents ignore, as background jobs do with SIGINT.
    let script = "trap 'touch seen; exit 7' USR1; touch up; while :; do sleep 0.05; done";
    let (mut child, folder) = shell(Guard::default().signal(Signal::SIGUSR1), script);
    assert_eq!(child.stop().unwrap().code(), Some(7));
    assert!(folder.path().join("seen").exists());
}

#[test]
fn a_child_that_ignores_the_signal_is_killed() {
    let script = "trap '' TERM; touch up; while :; do sleep 0.05; done";
    let (mut child, _folder) = shell(Guard::default().grace(Duration::from_millis(100)), script);
    assert!(!child.stop().unwrap().success());
}

#[test]
fn an_uninterrupted_child_runs_to_its_end() {
    let script = "touch up; sleep 0.3; touch finished";
    let (child, folder) = shell(Guard::default().uninterrupted(), script);
    drop(child);
    assert!(folder.path().join("finished").exists());
}

#[test]
fn dropping_ends_the_whole_group() {
    let script = "sleep 1000 & echo $! > grandchild; touch up; wait";
    let (child, folder) = shell(Guard::default(), script);
    let grandchild: u32 = fs::read_to_string(folder.path().join("grandchild"))
        .unwrap()
        .trim()
        .parse()
        .unwrap();
    let pid = child.pid();
    assert!(runs(pid) && runs(grandchild));
    drop(child);
    eventually("both have ended", || !runs(pid) && !runs(grandchild));
}

#[test]
fn a_leftover_stays_while_the_owner_lives() {
    let kept = tempfile::tempdir().unwrap();
    let (child, _folder) = shell(
        Guard::default().leftover(kept.path()),
        "touch up; exec sleep 1000",
    );
    drop(child);
    assert!(kept.path().exists());
}

#[test]
fn a_program_that_is_not_there_is_named() {
    let refusal = Guard::default()
        .spawn(Command::new("no-such-program"))
        .unwrap_err();
    assert_eq!(refusal.to_string(), "cannot run no-such-program");
}
