use std::{
    fs,
    future::pending,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use certctl_connectors::deploy::{
    Access, Engine, Error, HookFailure, Hooks, Kind, Outcome, Plan, PlannedFile, Retention,
    Rollback,
};
use certctl_domain::time::{ManualClock, Timestamp};

use crate::web::snapshot;

/// A folder, a clock that stands still, and an engine.
struct Bench {
    folder: tempfile::TempDir,
    clock: ManualClock,
    engine: Engine,
}

impl Bench {
    fn new() -> Self {
        let clock = ManualClock::starting_at(Timestamp::from_seconds(1_700_000_000));
        Self {
            folder: tempfile::tempdir().unwrap(),
            engine: Engine::new(Arc::new(clock.clone())),
            clock,
        }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().canonicalize().unwrap().join(name)
    }

    fn plan(&self, text: &str) -> Plan {
        Plan {
            files: vec![
                file(&self.path("cert"), text),
                file(&self.path("key"), text),
            ],
            ..Plan::default()
        }
    }

    async fn apply(&self, text: &str, hooks: &impl Hooks) -> Result<Outcome, Error> {
        self.engine.apply(self.plan(text), hooks).await
    }

    fn texts(&self) -> [Option<String>; 2] {
        ["cert", "key"].map(|name| fs::read_to_string(self.path(name)).ok())
    }

    fn names(&self) -> Vec<String> {
        snapshot(self.folder.path()).into_keys().collect()
    }
}

fn file(path: &Path, text: &str) -> PlannedFile {
    PlannedFile {
        path: path.to_path_buf(),
        bytes: text.as_bytes().to_vec().into(),
        access: Access::default(),
        default_mode: None,
        secret: true,
    }
}

fn both(text: &str) -> [Option<String>; 2] {
    [Some(text.to_owned()), Some(text.to_owned())]
}

/// Says yes to everything, except the one step that is named, and notes what it is asked.
#[derive(Default)]
struct Script {
    refuses: &'static str,
    calls: Mutex<Vec<&'static str>>,
}

impl Script {
    fn refusing(step: &'static str) -> Self {
        Self {
            refuses: step,
            ..Self::default()
        }
    }

    fn call(&self, step: &'static str) -> Result<(), HookFailure> {
        self.calls.lock().unwrap().push(step);
        // The second reload, which takes the old files up again, goes well.
        let first = self
            .calls
            .lock()
            .unwrap()
            .iter()
            .filter(|c| **c == step)
            .count()
            == 1;
        if self.refuses == step && first {
            return Err(HookFailure(format!("{step} says no")));
        }
        Ok(())
    }

    fn calls(&self) -> Vec<&'static str> {
        self.calls.lock().unwrap().clone()
    }
}

impl Hooks for Script {
    async fn pre_commit(&self, staged: &[(PathBuf, PathBuf)]) -> Result<(), HookFailure> {
        assert!(staged.iter().all(|(_, temporary)| temporary.exists()));
        self.call("pre_commit")
    }
    async fn validate(&self) -> Result<(), HookFailure> {
        self.call("validate")
    }
    async fn reload(&self) -> Result<(), HookFailure> {
        self.call("reload")
    }
    async fn verify(&self) -> Result<(), HookFailure> {
        self.call("verify")
    }
}

#[tokio::test]
async fn files_become_live_in_order_and_equal_bytes_need_nothing() {
    let bench = Bench::new();
    let hooks = Script::default();
    let outcome = bench.apply("one", &hooks).await.unwrap();
    assert_eq!(outcome.paths, [bench.path("cert"), bench.path("key")]);
    assert!(!outcome.idempotent);
    assert_eq!(
        hooks.calls(),
        ["pre_commit", "validate", "reload", "verify"]
    );
    assert_eq!(
        bench.names(),
        ["cert", "key"],
        "no backups of what did not exist"
    );
    assert_eq!(
        snapshot(bench.folder.path())["key"].1,
        0o600,
        "a new key is its owner's alone"
    );

    let hooks = Script::default();
    assert!(bench.apply("one", &hooks).await.unwrap().idempotent);
    assert_eq!(hooks.calls(), Vec::<&str>::new());
    let plan = Plan {
        skip_idempotent: true,
        ..bench.plan("one")
    };
    assert!(!bench.engine.apply(plan, &hooks).await.unwrap().idempotent);
    assert_eq!(hooks.calls().len(), 4);
}

#[tokio::test]
async fn every_refusal_leaves_what_was_there() {
    for (step, kind, rollback, calls) in [
        (
            "pre_commit",
            Kind::ValidateFailed,
            Rollback::Restored,
            &["pre_commit"][..],
        ),
        (
            "validate",
            Kind::ValidateFailed,
            Rollback::Restored,
            &["pre_commit", "validate"],
        ),
        (
            "reload",
            Kind::ReloadFailed,
            Rollback::Restored,
            &["pre_commit", "validate", "reload", "reload"],
        ),
        (
            "verify",
            Kind::VerifyFailed,
            Rollback::Restored,
            &["pre_commit", "validate", "reload", "verify", "reload"],
        ),
    ] {
        for existed in [false, true] {
            let bench = Bench::new();
            if existed {
                bench.apply("old", &Script::default()).await.unwrap();
            }
            let before = snapshot(bench.folder.path());
            let hooks = Script::refusing(step);
            let failure = bench.apply("new", &hooks).await.unwrap_err();
            assert_eq!(
                (failure.kind(), failure.rollback()),
                (kind, rollback),
                "{step}"
            );
            assert_eq!(failure.to_string(), format!("{step} says no"));
            assert_eq!(hooks.calls(), calls, "{step}");
            assert_eq!(snapshot(bench.folder.path()), before, "{step}");
        }
    }
}

/// Takes the backups away before it fails, so that there is no way back.
struct Saboteur(PathBuf);

impl Hooks for Saboteur {
    async fn reload(&self) -> Result<(), HookFailure> {
        for entry in fs::read_dir(&self.0).unwrap() {
            let path = entry.unwrap().path();
            if path.to_string_lossy().contains("cert.certctl-bak") {
                fs::remove_file(path).unwrap();
            }
        }
        Err(HookFailure("reload says no".to_owned()))
    }
}

#[tokio::test]
async fn a_rollback_that_fails_names_what_is_left() {
    let bench = Bench::new();
    bench.apply("old", &Script::default()).await.unwrap();
    let hooks = Saboteur(bench.folder.path().to_path_buf());
    let failure = bench.apply("new", &hooks).await.unwrap_err();
    assert_eq!(failure.rollback(), Rollback::AlsoFailed);
    let said = failure.to_string();
    assert!(
        said.contains("could not be put back") && said.contains("reload says no"),
        "{said}"
    );
    assert!(said.contains("key.certctl-bak."), "{said}");
    assert_eq!(
        bench.texts()[1].as_deref(),
        Some("old"),
        "what could be put back is back"
    );
}

#[tokio::test]
async fn plans_that_make_no_sense_touch_nothing() {
    let bench = Bench::new();
    let folder = bench.path("folder");
    fs::create_dir(&folder).unwrap();
    symlink(bench.path("cert"), bench.path("link")).unwrap();
    symlink(bench.path("loop"), bench.path("loop")).unwrap();
    let before = fs::read_dir(bench.folder.path()).unwrap().count();
    let cert = bench.path("cert");
    for (paths, said) in [
        (vec![], "names no file"),
        (vec![PathBuf::new()], "is empty"),
        (vec!["relative".into()], "not the absolute path"),
        (vec![cert.clone(), cert.clone()], "written twice"),
        (vec![cert, bench.path("link")], "written twice"),
        (vec![bench.path("no/folder/cert")], "cannot be used"),
        (vec![folder], "no regular file"),
        (vec![bench.path("loop")], "too many symbolic links"),
    ] {
        let plan = Plan {
            files: paths.iter().map(|path| file(path, "x")).collect(),
            ..Plan::default()
        };
        let failure = bench
            .engine
            .apply(plan, &Script::default())
            .await
            .unwrap_err();
        assert_eq!(failure.kind(), Kind::PlanInvalid);
        assert!(failure.to_string().contains(said), "{failure}");
    }
    assert_eq!(fs::read_dir(bench.folder.path()).unwrap().count(), before);
}

#[tokio::test]
async fn a_link_stays_a_link_and_its_target_is_replaced() {
    let bench = Bench::new();
    let real = bench.path("real");
    fs::create_dir(&real).unwrap();
    symlink("real/cert", bench.path("cert")).unwrap();
    symlink(real.join("key"), bench.path("key")).unwrap();
    fs::write(real.join("key"), "old").unwrap();
    let outcome = bench.apply("new", &Script::default()).await.unwrap();
    assert_eq!(outcome.paths, [real.join("cert"), real.join("key")]);
    assert_eq!(bench.texts(), both("new"));
    assert!(bench.path("cert").is_symlink() && bench.path("key").is_symlink());
    let beside: Vec<String> = snapshot(&real).into_keys().collect();
    assert!(
        beside
            .iter()
            .any(|name| name.starts_with("key.certctl-bak.")),
        "{beside:?}"
    );
}

#[tokio::test]
async fn as_many_backups_stay_as_were_asked_for() {
    let bench = Bench::new();
    for (retention, kept) in [(0, 3), (5, 5), (1, 1), (-1, 0)] {
        for round in 0..7 {
            let plan = Plan {
                retention: Retention::from_setting(retention),
                ..bench.plan(&format!("{retention} {round}"))
            };
            // The clock stands still in every second round: names must not collide.
            bench.clock.advance(Duration::from_secs(round % 2));
            bench.engine.apply(plan, &Script::default()).await.unwrap();
        }
        let backups: Vec<String> = bench
            .names()
            .into_iter()
            .filter(|n| n.starts_with("cert.certctl-bak."))
            .collect();
        assert_eq!(backups.len(), kept, "{retention}: {backups:?}");
        if let Some(newest) = backups.last() {
            assert_eq!(
                fs::read_to_string(bench.path(newest)).unwrap(),
                format!("{retention} 5")
            );
        }
    }
}

/// Never comes back from one step, like a program that is killed in it.
struct KilledIn(&'static str);

impl Hooks for KilledIn {
    async fn pre_commit(&self, _staged: &[(PathBuf, PathBuf)]) -> Result<(), HookFailure> {
        if self.0 == "pre_commit" {
            pending().await
        } else {
            Ok(())
        }
    }
    async fn validate(&self) -> Result<(), HookFailure> {
        if self.0 == "validate" {
            pending().await
        } else {
            Ok(())
        }
    }
    async fn reload(&self) -> Result<(), HookFailure> {
        if self.0 == "reload" {
            pending().await
        } else {
            Ok(())
        }
    }
}

#[tokio::test]
async fn after_a_crash_the_next_deployment_starts_from_the_old_files_and_reloads() {
    for step in ["validate", "reload"] {
        let bench = Bench::new();
        bench.apply("old", &Script::default()).await.unwrap();
        let killed = KilledIn(step);
        let cut = tokio::time::timeout(Duration::from_millis(200), bench.apply("new", &killed));
        assert!(cut.await.is_err());
        assert_eq!(
            bench.texts(),
            both("new"),
            "the files were live and nobody knows whether the service read them"
        );

        // The same bytes again must not pass for done.
        let hooks = Script::refusing("verify");
        let failure = bench.apply("new", &hooks).await.unwrap_err();
        assert_eq!(failure.kind(), Kind::VerifyFailed);
        assert_eq!(
            bench.texts(),
            both("old"),
            "back to before the crash, not to what the crash left"
        );
        assert!(
            !bench
                .apply("new", &Script::default())
                .await
                .unwrap()
                .idempotent
        );
        assert!(
            !bench
                .names()
                .iter()
                .any(|name| name.contains("certctl-open")),
            "{:?}",
            bench.names()
        );
    }
}

#[tokio::test]
async fn a_crash_before_the_files_are_live_leaves_only_what_is_swept_later() {
    let bench = Bench::new();
    let stale = "cert.certctl-tmp.1699990000000000000";
    let fresh = "cert.certctl-tmp.1699999990000000000";
    let (foreign, odd) = (
        "other.certctl-tmp.1600000000000000000",
        "cert.certctl-tmp.old",
    );
    for name in [stale, fresh, foreign, odd] {
        fs::write(bench.path(name), "x").unwrap();
    }
    let killed = KilledIn("pre_commit");
    let cut = tokio::time::timeout(Duration::from_millis(200), bench.apply("new", &killed));
    assert!(cut.await.is_err());
    assert_eq!(bench.texts(), [None, None]);
    assert_eq!(
        bench.names(),
        [fresh, odd, foreign],
        "older than an hour and beside a managed file"
    );
}

#[tokio::test]
async fn a_hook_that_takes_too_long_counts_as_a_refusal() {
    let bench = Bench::new();
    tokio::time::pause();
    let failure = bench.apply("new", &KilledIn("reload")).await.unwrap_err();
    // Both the reload and the one on the way back hang.
    assert_eq!(failure.kind(), Kind::RollbackFailed);
    assert!(
        failure.to_string().contains("took longer than 30s"),
        "{failure}"
    );
    assert_eq!(bench.texts(), [None, None]);
}

/// Fails when it is entered twice at once.
struct Alone<'a>(&'a AtomicBool);

impl Hooks for Alone<'_> {
    async fn validate(&self) -> Result<(), HookFailure> {
        assert!(
            !self.0.swap(true, Ordering::SeqCst),
            "two deployments of one file at once"
        );
        for _ in 0..20 {
            tokio::task::yield_now().await;
        }
        Ok(())
    }
    async fn verify(&self) -> Result<(), HookFailure> {
        self.0.store(false, Ordering::SeqCst);
        Ok(())
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn deployments_that_share_a_file_take_turns_whatever_order_they_name_it_in() {
    let bench = Bench::new();
    let inside = AtomicBool::new(false);
    let runs = (0..20).map(|round| {
        let mut plan = bench.plan(&format!("round {round}"));
        if round % 2 == 1 {
            plan.files.reverse();
        }
        let (engine, hooks) = (bench.engine.clone(), Alone(&inside));
        async move { engine.apply(plan, &hooks).await.map(drop) }
    });
    for result in futures_util::future::join_all(runs).await {
        result.unwrap();
    }
    let [cert, key] = bench.texts();
    assert_eq!(cert, key);
}
