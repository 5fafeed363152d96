//! A disk without room, made without privileges where it must be.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    sync::Arc,
};

use certctl_connectors::deploy::{Engine, Error, Hooks, Kind, Plan, PlannedFile};
use certctl_domain::time::SystemClock;
use certctl_telemetry::ErrorChain;

use crate::web::snapshot;

/// Names the folder for the copy of this test that runs under a limit.
const LIMITED: &str = "DEPLOY_TEST_LIMITED_FOLDER";

struct NoHooks;
impl Hooks for NoHooks {}

fn plan(folder: &Path, size: usize) -> Plan {
    let file = |name: &str, byte: u8, size: usize| PlannedFile {
        path: folder.join(name),
        bytes: vec![byte; size].into(),
        access: certctl_connectors::deploy::Access::default(),
        default_mode: None,
        secret: true,
    };
    Plan {
        // The small file comes first, so that one is staged when the disk is found to be full.
        files: vec![
            file("key.pem", b'k', size.min(200)),
            file("cert.pem", b'c', size),
        ],
        ..Plan::default()
    }
}

async fn scenario(folder: &Path) {
    let engine = Engine::new(Arc::new(SystemClock));
    engine.apply(plan(folder, 100), &NoHooks).await.unwrap();
    let before = snapshot(folder);

    let failure = engine
        .apply(plan(folder, 200_000), &NoHooks)
        .await
        .unwrap_err();
    assert_eq!(failure.kind(), Kind::WriteFailed);
    let Error::WriteFailed { path, .. } = &failure else {
        panic!("{failure:?}");
    };
    assert!(
        path.to_string_lossy().contains("cert.pem.certctl-tmp."),
        "{}",
        path.display()
    );
    let said = ErrorChain(&failure).to_string();
    assert!(
        said.contains("No space left on device") || said.contains("File too large"),
        "{said}"
    );
    assert_eq!(snapshot(folder), before, "nothing half done stays behind");

    engine.apply(plan(folder, 150), &NoHooks).await.unwrap();
    assert_eq!(fs::read(folder.join("cert.pem")).unwrap(), vec![b'c'; 150]);
}

/// A tiny file system of its own; needs the right to mount.
struct Tmpfs(PathBuf);

impl Tmpfs {
    fn mount(folder: &Path) -> Option<Self> {
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", "size=64k", "tmpfs"])
            .arg(folder)
            .output()
            .is_ok_and(|output| output.status.success());
        mounted.then(|| Self(folder.to_path_buf()))
    }
}

impl Drop for Tmpfs {
    fn drop(&mut self) {
        let unmounted = Command::new("umount").arg(&self.0).status();
        assert!(
            unmounted.is_ok_and(|status| status.success()),
            "umount failed"
        );
    }
}

#[tokio::test]
async fn a_full_disk_leaves_everything_as_it_was() {
    if let Some(folder) = std::env::var_os(LIMITED) {
        return scenario(Path::new(&folder)).await;
    }
    let folder = tempfile::tempdir().unwrap();
    if let Some(tmpfs) = Tmpfs::mount(folder.path()) {
        return scenario(&tmpfs.0).await;
    }
    // Without the right to mount, the kernel's limit on file sizes refuses the write instead; the signal that goes with it
    // must be ignored from before the program starts.
    let limited = Command::new("sh")
        .args(["-c", "trap '' XFSZ; ulimit -f 16; exec \"$0\" \"$@\""])
        .arg(std::env::current_exe().unwrap())
        .args([
            "--exact",
            "full_disk::a_full_disk_leaves_everything_as_it_was",
        ])
        .env(LIMITED, folder.path())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&limited.stdout);
    assert!(
        limited.status.success() && said.contains("1 passed"),
        "{said}"
    );
}
