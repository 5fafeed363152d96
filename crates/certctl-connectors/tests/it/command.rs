use std::time::Duration;

use certctl_connectors::deploy::command::{
    CommandLine, CommandRunner as _, OUTPUT_LIMIT, SystemRunner,
};

async fn run(text: &str, limit: Duration) -> Result<(), String> {
    let command = CommandLine::parse("reload_command", text).unwrap();
    SystemRunner
        .run(&command, limit)
        .await
        .map_err(|failure| failure.to_string())
}

const AMPLE: Duration = Duration::from_secs(30);

#[tokio::test]
async fn a_failure_says_what_the_command_printed() {
    run("true", AMPLE).await.unwrap();
    let said = run("ls /no/such/file", AMPLE).await.unwrap_err();
    assert!(
        said.contains("`ls /no/such/file` ended with exit status"),
        "{said}"
    );
    assert!(said.contains("No such file or directory"), "{said}");
    let said = run("/no/such/program -x", AMPLE).await.unwrap_err();
    assert!(said.contains("cannot be run"), "{said}");
}

#[tokio::test]
async fn output_is_cut_to_its_end() {
    let folder = tempfile::tempdir().unwrap();
    let long = folder.path().join("long");
    std::fs::write(&long, "x".repeat(100_000) + " the end").unwrap();
    let said = run(&format!("cat {} /no/such/file", long.display()), AMPLE)
        .await
        .unwrap_err();
    assert!(said.len() < OUTPUT_LIMIT + 300, "{}", said.len());
    assert!(said.contains("xxx"), "{said}");
}

#[tokio::test]
async fn a_command_that_hangs_is_stopped_with_its_children() {
    let folder = tempfile::tempdir().unwrap();
    let script = folder.path().join("script");
    let pid = folder.path().join("pid");
    let text = format!("sleep 600 &\necho $! > {}\nwait\n", pid.display());
    std::fs::write(&script, text).unwrap();
    let said = run(
        &format!("sh {}", script.display()),
        Duration::from_millis(500),
    )
    .await
    .unwrap_err();
    assert!(
        said.contains("took longer than 500ms and was stopped"),
        "{said}"
    );
    let child = std::fs::read_to_string(&pid).unwrap();
    let stat = format!("/proc/{}/stat", child.trim());
    // Killed and perhaps not yet reaped by whoever inherited it, but no longer running.
    let is_running = || std::fs::read_to_string(&stat).is_ok_and(|text| !text.contains(") Z "));
    for _ in 0..500 {
        if !is_running() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("the grandchild still runs");
}

#[tokio::test]
async fn a_daemon_that_keeps_the_pipe_open_does_not_hold_up_the_command() {
    let folder = tempfile::tempdir().unwrap();
    let script = folder.path().join("script");
    let pid = folder.path().join("pid");
    std::fs::write(
        &script,
        format!("sleep 600 &\necho $! > {}\n", pid.display()),
    )
    .unwrap();
    run(&format!("sh {}", script.display()), AMPLE)
        .await
        .unwrap();
    let daemon: i32 = std::fs::read_to_string(&pid)
        .unwrap()
        .trim()
        .parse()
        .unwrap();
    let daemon = nix::unistd::Pid::from_raw(daemon);
    nix::sys::signal::kill(daemon, nix::sys::signal::Signal::SIGKILL)
        .expect("it runs on, for it is what the command was to start");
}

#[tokio::test]
async fn the_environment_of_the_agent_is_not_passed_on() {
    let folder = tempfile::tempdir().unwrap();
    let script = folder.path().join("script");
    std::fs::write(&script, "env\nexit 1\n").unwrap();
    let said = run(&format!("sh {}", script.display()), AMPLE)
        .await
        .unwrap_err();
    assert!(said.contains("LC_ALL=C"), "{said}");
    assert!(
        !said.contains("CARGO"),
        "cargo sets variables for tests, and none may be seen: {said}"
    );
}
