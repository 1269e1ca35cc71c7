//! Three instances of a service that share Redis or Valkey, under load, while users change and the server
//! is killed and started anew.
//!
//! ```text
//! cargo run --release -p async-lru-tier --example fleet
//! ```
//!
//! The instances are processes of their own, which this one starts and sends real HTTP requests; it is their
//! database too. Where there is no `redis-server` or `valkey-server` on the path, a store in memory does
//! instead, and the instances are tasks of this process. At the end the program prints what happened, and
//! checks it: nobody has noticed the outage but by the figures. What a service would copy is in `service.rs`.

mod clients;
mod database;
mod instances;
mod server;
mod service;

use std::error::Error;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};

use crate::clients::{CUT_OFF_BOUND, Clients, LINKED_BOUND, Seen, locked};
use crate::database::Table;
use crate::instances::{INSTANCE, Instance, Shared, be_instance};
use crate::service::Figures;

const INSTANCES: usize = 3;
const USERS: u64 = 500;
/// At each instance.
const READERS: usize = 4;
/// Before the server is killed, until it is started again, and from then on.
const PHASES: [(&str, Duration); 3] = [
    ("all is well", Duration::from_secs(5)),
    ("the server is killed", Duration::from_millis(1_500)),
    ("it is back, and empty", Duration::from_millis(5_500)),
];

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<_> = std::env::args().skip(1).collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        [INSTANCE, store, database] => be_instance(store, database).await,
        _ => run().await,
    }
}

async fn run() -> Result<(), Box<dyn Error>> {
    let (table, address) = Table::serve(USERS).await?;
    let database = format!("http://{address}");
    let mut shared = Shared::start()?;
    match &shared {
        Shared::Server(_) => println!("{INSTANCES} processes that share a server:"),
        Shared::Memory(_) => println!(
            "Neither redis-server nor valkey-server is on the path: {INSTANCES} tasks of one process that \
             share a store in memory."
        ),
    }
    let mut instances = Vec::new();
    for _ in 0..INSTANCES {
        instances.push(shared.instance(&database).await?);
    }

    let addresses = instances.iter().map(|instance: &Instance| instance.address).collect();
    let time = PHASES.iter().map(|(_, time)| *time).sum();
    let clients = Clients::new(addresses, USERS, time)?;
    let outage = async {
        let bar = bar(time)?;
        phase(0, &bar).await;
        clients.store_goes_down();
        shared.kill()?;
        phase(1, &bar).await;
        shared.restart()?;
        let relink = relink(&clients, Instant::now());
        let (relinked, ()) = tokio::join!(relink, phase(2, &bar));
        bar.finish_and_clear();
        relinked
    };
    let ((), relinked) = tokio::join!(clients.run(READERS), outage);
    let relinked = relinked?;

    let mut figures = Vec::new();
    for instance in 0..INSTANCES {
        figures.push(clients.figures(instance).await?);
    }
    report(clients.seen(), &figures, table.reads(), relinked);
    check(clients.seen(), &figures, table.reads());
    Ok(())
}

/// Waits until all instances are linked; gives the time since the server was back.
async fn relink(clients: &Clients, back: Instant) -> Result<Duration, Box<dyn Error>> {
    for instance in 0..INSTANCES {
        while !clients.figures(instance).await?.linked {
            if back.elapsed() > Duration::from_secs(5) {
                return Err(format!("instance {instance} does not link again").into());
            }
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }
    clients.all_are_back();
    Ok(back.elapsed())
}

fn bar(time: Duration) -> Result<ProgressBar, Box<dyn Error>> {
    let style = ProgressStyle::with_template("{msg:22} {wide_bar} {elapsed}")?;
    Ok(ProgressBar::new(time.as_millis() as u64).with_style(style))
}

async fn phase(number: usize, bar: &ProgressBar) {
    let (title, time) = PHASES[number];
    bar.set_message(title);
    let (start, before) = (Instant::now(), bar.position());
    while start.elapsed() < time {
        tokio::time::sleep(Duration::from_millis(50)).await;
        bar.set_position(before + start.elapsed().as_millis() as u64);
    }
}

fn report(seen: &Seen, figures: &[Figures], reads: u64, relinked: Duration) {
    let sum = |figure: fn(&Figures) -> u64| figures.iter().map(figure).sum::<u64>().to_string();
    let count = |count: &std::sync::atomic::AtomicU64| count.load(Ordering::Relaxed).to_string();
    let delays = |delays: &std::sync::Mutex<Vec<Duration>>| {
        let mut delays = locked(delays).clone();
        delays.sort();
        let within = |share: f64| {
            let place = (delays.len().saturating_sub(1) as f64 * share) as usize;
            delays.get(place).copied().map_or_else(|| "-".to_owned(), milliseconds)
        };
        format!("{} / {}", within(0.5), within(0.99))
    };
    let rows = [
        ("requests", count(&seen.requests)),
        ("    of them updates", count(&seen.updates)),
        ("    of them failed", count(&seen.failed)),
        ("hits in the instance", sum(|figures| figures.local_hits)),
        ("hits in the store", sum(|figures| figures.store_hits)),
        ("waits for another's load", sum(|figures| figures.waits)),
        ("loads at the source", reads.to_string()),
        ("    of them without the store", sum(|figures| figures.loads_alone)),
        ("links lost", sum(|figures| figures.links_lost)),
        ("linked again after the restart, all", milliseconds(relinked)),
        ("removals that were put off", sum(|figures| figures.removals_deferred)),
        ("removals heard of", sum(|figures| figures.removals_heard)),
        ("an update is seen by others, p50 / p99", delays(&seen.delays)),
        ("    around the outage", delays(&seen.delays_cut_off)),
        ("reads older than an answered update", count(&seen.linked.reads)),
        ("    at most by", milliseconds(seen.linked.most())),
        ("    around the outage", count(&seen.cut_off.reads)),
        ("    at most by", milliseconds(seen.cut_off.most())),
    ];
    println!("| {:<40} | {:>20} |", "", format!("{INSTANCES} instances"));
    println!("|{:-<42}|{:->21}:|", "", "");
    for (title, value) in rows {
        println!("| {title:<40} | {value:>20} |");
    }
}

fn check(seen: &Seen, figures: &[Figures], reads: u64) {
    let requests = seen.requests.load(Ordering::Relaxed);
    let failures = locked(&seen.failures);
    assert!(failures.is_empty(), "no request fails, whatever the store does: {failures:?}");
    for (age, bound, when) in
        [(&seen.linked, LINKED_BOUND, "linked"), (&seen.cut_off, CUT_OFF_BOUND, "cut off")]
    {
        let reads = age.too_old.load(Ordering::Relaxed);
        assert_eq!(reads, 0, "nobody reads what is older than {bound:?} while {when}");
    }
    assert!(reads * 5 < requests, "few requests reach the source: {reads} of {requests}");
    for Figures { linked, links_lost, .. } in figures {
        assert!(linked, "all instances are linked again");
        assert_eq!(*links_lost, 1, "and have lost the link once");
    }
    println!(
        "\nChecked: no request failed; no read was older than {LINKED_BOUND:?}, or {CUT_OFF_BOUND:?} around \
         the outage; all instances are linked again."
    );
}

fn milliseconds(time: Duration) -> String {
    format!("{:.2} ms", 1_000.0 * time.as_secs_f64())
}
