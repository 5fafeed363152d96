//! ACME clients that go on whatever becomes of the server: whole signed orders, written down one by one, for whoever looks
//! afterwards whether the database agrees. `cargo xtask acme-drill` and `cargo xtask bench acme-gc` run it.
//!
//! Arguments: the URL of the directory, the root to trust in PEM, the file to write orders down in, how many clients, until when
//! (`1000` orders, or `600s`), and how many of a hundred orders are abandoned after they were made. Prints how far it is, a line of
//! JSON every now and then, and at last one with what it saw. The file has a line for each order: `valid ID SERIAL` or
//! `abandoned ID`.

mod client;
mod tally;
// That of `acme_load`, which is no library that an example could be told of.
#[path = "../acme_load/wire.rs"]
mod wire;

use std::{
    io::Write as _,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use anyhow::{Context as _, bail};
use serde_json::json;
use tokio::task::JoinSet;

use client::{Client, Ended};
use tally::Tally;
use wire::Site;

/// How often it is told how far it is.
const TELL_EVERY: Duration = Duration::from_millis(100);

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let [directory, root, file, clients, until, abandoned] = words[..] else {
        bail!(
            "usage: acme_drill DIRECTORY ROOT FILE CLIENTS (ORDERS | SECONDSs) ABANDONED_OF_A_HUNDRED"
        );
    };
    let site = Arc::new(Site::new(directory, &std::fs::read_to_string(root)?)?);
    let board = Arc::new(Board::new(
        Until::read(until).context("until when")?,
        abandoned.parse().context("how many are abandoned")?,
    ));
    let mut file = std::io::BufWriter::new(std::fs::File::create(file)?);
    let ready = join(&site, clients.parse().context("how many clients")?).await?;
    let started = Instant::now();
    let telling = tokio::spawn(tell(Arc::clone(&board), started));
    let (tally, ended) = work(ready, &board, started).await?;
    let seconds = started.elapsed().as_secs_f64();
    telling.abort();
    for one in &ended {
        writeln!(file, "{one}")?;
    }
    file.flush()?;
    println!("{}", json!({"seconds": seconds, "summary": tally.said()}));
    Ok(())
}

/// Makes the accounts, before the clock starts.
async fn join(site: &Arc<Site>, clients: usize) -> anyhow::Result<Vec<Client>> {
    let mut joining = JoinSet::new();
    for number in 0..clients {
        let site = Arc::clone(site);
        joining.spawn(Client::join(site, number));
    }
    let mut ready = Vec::new();
    while let Some(client) = joining.join_next().await {
        ready.push(client??);
    }
    Ok(ready)
}

async fn work(
    ready: Vec<Client>,
    board: &Arc<Board>,
    started: Instant,
) -> anyhow::Result<(Tally, Vec<Ended>)> {
    let mut working = JoinSet::new();
    for mut client in ready {
        let board = Arc::clone(board);
        working.spawn(async move {
            let mut ended = Vec::new();
            while let Some(number) = board.next(started) {
                ended.push(client.order(board.is_abandoned(number)).await?);
                board.done.fetch_add(1, Ordering::Relaxed);
            }
            anyhow::Ok((client.into_tally(), ended))
        });
    }
    let (mut tally, mut ended) = (Tally::default(), Vec::new());
    while let Some(done) = working.join_next().await {
        let (one, orders) = done??;
        tally.add(&one);
        ended.extend(orders);
    }
    Ok((tally, ended))
}

async fn tell(board: Arc<Board>, started: Instant) {
    loop {
        tokio::time::sleep(TELL_EVERY).await;
        let done = board.done.load(Ordering::Relaxed);
        println!(
            "{}",
            json!({"seconds": started.elapsed().as_secs_f64(), "orders": done})
        );
    }
}

/// When the clients stop.
#[derive(Debug, Clone, Copy)]
enum Until {
    Orders(usize),
    Time(Duration),
}

impl Until {
    fn read(text: &str) -> anyhow::Result<Self> {
        Ok(match text.strip_suffix('s') {
            Some(seconds) => Self::Time(Duration::from_secs(seconds.parse()?)),
            None => Self::Orders(text.parse()?),
        })
    }
}

/// What all clients look at.
struct Board {
    until: Until,
    abandoned: usize,
    begun: AtomicUsize,
    done: AtomicUsize,
}

impl Board {
    fn new(until: Until, abandoned: usize) -> Self {
        Self {
            until,
            abandoned,
            begun: AtomicUsize::new(0),
            done: AtomicUsize::new(0),
        }
    }

    /// The number of the next order; none when there is to be no more.
    fn next(&self, started: Instant) -> Option<usize> {
        let number = self.begun.fetch_add(1, Ordering::Relaxed);
        match self.until {
            Until::Orders(orders) => number < orders,
            Until::Time(length) => started.elapsed() < length,
        }
        .then_some(number)
    }

    /// Spread evenly: of each hundred in a row so many are.
    fn is_abandoned(&self, number: usize) -> bool {
        (number + 1) * self.abandoned / 100 > number * self.abandoned / 100
    }
}
