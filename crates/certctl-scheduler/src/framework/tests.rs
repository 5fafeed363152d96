//! How loops run, by a time that only the tests move.

use std::sync::atomic::{AtomicUsize, Ordering};

use certctl_domain::time::SystemClock;
use tokio::sync::Notify;

use super::*;

fn counting(
    count: &Arc<AtomicUsize>,
    then: impl Fn(usize) -> Result<Option<String>, Box<dyn Error + Send + Sync>> + Send + Sync + 'static,
) -> Body {
    let count = Arc::clone(count);
    let then = Arc::new(then);
    Arc::new(move |_| {
        let (count, then) = (Arc::clone(&count), Arc::clone(&then));
        async move { then(count.fetch_add(1, Ordering::SeqCst)) }.boxed()
    })
}

fn a_loop(body: Body) -> Loop {
    Loop {
        name: "test",
        interval: Duration::from_secs(3600),
        deadline: Duration::from_secs(10),
        at_start: Some(Duration::ZERO),
        bell: None,
        body,
    }
}

async fn until(count: &AtomicUsize, at_least: usize) {
    while count.load(Ordering::SeqCst) < at_least {
        tokio::task::yield_now().await;
        tokio::time::advance(Duration::from_secs(60)).await;
    }
}

#[tokio::test(start_paused = true)]
async fn errors_and_panics_do_not_end_a_loop() {
    let count = Arc::new(AtomicUsize::new(0));
    let body = counting(&count, |run| match run {
        0 => Err("refused".into()),
        1 => panic!("on purpose"),
        _ => Ok(None),
    });
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let running = spawn(vec![a_loop(body)], &clock, &CancellationToken::new());
    until(&count, 4).await;
    assert!(running.drain(Duration::from_secs(1)).await);
}

#[tokio::test(start_paused = true)]
async fn a_bell_runs_a_loop_before_its_tick() {
    let count = Arc::new(AtomicUsize::new(0));
    let bell = Arc::new(Notify::new());
    let rung = Arc::clone(&bell);
    let mut one = a_loop(counting(&count, |_| Ok(None)));
    one.at_start = None;
    one.bell = Some(Arc::new(move || {
        let rung = Arc::clone(&rung);
        async move { rung.notified().await }.boxed()
    }));
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let running = spawn(vec![one], &clock, &CancellationToken::new());
    bell.notify_one();
    while count.load(Ordering::SeqCst) == 0 {
        tokio::task::yield_now().await;
    }
    assert_eq!(count.load(Ordering::SeqCst), 1);
    assert!(running.drain(Duration::from_secs(1)).await);
}

#[tokio::test(start_paused = true)]
async fn a_run_is_told_to_end_at_its_deadline_and_a_drain_waits_for_it() {
    let ended = Arc::new(AtomicUsize::new(0));
    let seen = Arc::clone(&ended);
    let body: Body = Arc::new(move |token: CancellationToken| {
        let seen = Arc::clone(&seen);
        async move {
            token.cancelled().await;
            seen.fetch_add(1, Ordering::SeqCst);
            Ok(None)
        }
        .boxed()
    });
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let running = spawn(vec![a_loop(body)], &clock, &CancellationToken::new());
    until(&ended, 1).await;
    assert!(running.drain(Duration::from_secs(5)).await);
}

/// The value of a metric of a loop, as a scrape shows it.
fn counted(metric: &str, name: &str, result: &str) -> u64 {
    let text = certctl_telemetry::install().unwrap().render();
    let labels = [format!("loop=\"{name}\""), result.to_owned()];
    text.lines()
        .filter(|line| line.starts_with(metric) && labels.iter().all(|label| line.contains(label)))
        .map(|line| line.rsplit(' ').next().unwrap().parse::<u64>().unwrap())
        .sum()
}

fn clock() -> Arc<dyn Clock> {
    Arc::new(SystemClock)
}

#[tokio::test(start_paused = true)]
async fn a_thousand_ticks_come_within_a_tenth_of_the_interval_and_no_two_series_are_alike() {
    const INTERVAL: Duration = Duration::from_secs(100);
    let (tell, mut told) = tokio::sync::mpsc::unbounded_channel();
    let body: Body = Arc::new(move |_| {
        tell.send(Instant::now()).unwrap();
        std::future::ready(Ok(None)).boxed()
    });
    let mut one = a_loop(body);
    (one.interval, one.at_start) = (INTERVAL, None);
    let started = Instant::now();
    let running = spawn(vec![one], &clock(), &CancellationToken::new());
    let mut ticks = vec![started];
    while ticks.len() <= 1000 {
        ticks.push(told.recv().await.unwrap());
    }
    assert!(running.drain(Duration::from_secs(1)).await);
    let gaps: Vec<Duration> = ticks.windows(2).map(|pair| pair[1] - pair[0]).collect();
    // The timer of the runtime rounds up to whole milliseconds.
    let bounds = INTERVAL * 9 / 10..=INTERVAL * 11 / 10 + Duration::from_millis(2);
    assert!(gaps.iter().all(|gap| bounds.contains(gap)), "{gaps:?}");
    let mean = (ticks[1000] - started) / 1000;
    assert!(
        mean > INTERVAL * 98 / 100 && mean < INTERVAL * 102 / 100,
        "{mean:?}"
    );
    let (least, most) = (gaps.iter().min().unwrap(), gaps.iter().max().unwrap());
    assert!(
        *least < INTERVAL * 92 / 100 && *most > INTERVAL * 108 / 100,
        "{least:?} to {most:?}"
    );
    let distinct: std::collections::BTreeSet<_> = gaps.iter().collect();
    assert!(distinct.len() > 900, "{} different gaps", distinct.len());
}

#[tokio::test(start_paused = true)]
async fn a_run_longer_than_its_interval_is_never_joined_by_another_and_its_ticks_are_counted() {
    let (busy, overlaps) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let runs = Arc::new(AtomicUsize::new(0));
    let seen = (Arc::clone(&busy), Arc::clone(&overlaps), Arc::clone(&runs));
    let body: Body = Arc::new(move |_| {
        let (busy, overlaps, runs) = seen.clone();
        async move {
            overlaps.fetch_add(busy.fetch_add(1, Ordering::SeqCst), Ordering::SeqCst);
            sleep(Duration::from_millis(5500)).await;
            busy.fetch_sub(1, Ordering::SeqCst);
            runs.fetch_add(1, Ordering::SeqCst);
            Ok(None)
        }
        .boxed()
    });
    let mut one = a_loop(body);
    (one.name, one.interval) = ("slow", Duration::from_secs(1));
    let skipped = || counted(names::SCHEDULER_SKIPPED_TICKS_TOTAL.name, "slow", "");
    assert_eq!(skipped(), 0);
    let running = spawn(vec![one], &clock(), &CancellationToken::new());
    while runs.load(Ordering::SeqCst) < 20 {
        sleep(Duration::from_secs(1)).await;
    }
    assert!(running.drain(Duration::from_secs(10)).await);
    assert_eq!(overlaps.load(Ordering::SeqCst), 0);
    let done = runs.load(Ordering::SeqCst) as u64;
    assert_eq!(
        skipped(),
        5 * done,
        "five ticks fall into each of {done} runs"
    );
}

#[tokio::test(start_paused = true)]
async fn ends_of_every_kind_are_counted_and_none_ends_the_loop() {
    let count = Arc::new(AtomicUsize::new(0));
    let counting = Arc::clone(&count);
    let body: Body = Arc::new(move |_| {
        let run = counting.fetch_add(1, Ordering::SeqCst);
        async move {
            match run {
                0 => Err("refused".into()),
                1 => panic!("on purpose"),
                // It does not listen to its token, so it is dropped after the grace.
                2 => std::future::pending().await,
                _ => Ok(Some("done".to_owned())),
            }
        }
        .boxed()
    });
    let mut one = a_loop(body);
    one.name = "ends";
    let running = spawn(vec![one], &clock(), &CancellationToken::new());
    while count.load(Ordering::SeqCst) < 5 {
        sleep(Duration::from_secs(60)).await;
    }
    assert!(running.drain(Duration::from_secs(1)).await);
    let ended = |result: &str| {
        let label = format!("result=\"{result}\"");
        counted(names::SCHEDULER_RUNS_TOTAL.name, "ends", &label)
    };
    let ends = ["error", "panic", "timeout"].map(ended);
    assert_eq!(ends, [1, 1, 1]);
    assert!(ended("success") >= 1);
}

#[tokio::test(start_paused = true)]
async fn a_run_that_overstays_its_deadline_is_told_then_given_its_grace_then_dropped() {
    let (tell, mut told) = tokio::sync::mpsc::unbounded_channel();
    let body: Body = Arc::new(move |token: CancellationToken| {
        let tell = tell.clone();
        async move {
            let dropped = Dropped(tell.clone());
            token.cancelled().await;
            tell.send(("told", Instant::now())).unwrap();
            std::future::pending::<()>().await;
            drop(dropped);
            Ok(None)
        }
        .boxed()
    });
    let started = Instant::now();
    let running = spawn(vec![a_loop(body)], &clock(), &CancellationToken::new());
    let (first, second) = (told.recv().await.unwrap(), told.recv().await.unwrap());
    assert_eq!((first.0, second.0), ("told", "dropped"));
    let slack = Duration::from_millis(5);
    let after = |at: Instant| at - started;
    assert!(
        after(first.1) >= Duration::from_secs(10)
            && after(first.1) < Duration::from_secs(10) + slack
    );
    assert!(second.1 - first.1 >= GRACE - slack && second.1 - first.1 < GRACE + slack);
    assert!(running.drain(Duration::from_secs(1)).await);
}

/// Says when it is dropped.
struct Dropped(tokio::sync::mpsc::UnboundedSender<(&'static str, Instant)>);

impl Drop for Dropped {
    fn drop(&mut self) {
        // Nobody listens at the end of a test.
        let _: Result<(), _> = self.0.send(("dropped", Instant::now()));
    }
}
