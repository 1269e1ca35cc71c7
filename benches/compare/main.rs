//! This cache beside what one would pick instead.
//!
//! `cargo bench -p async-lru-bench --bench compare` runs every row for every peer, round by round (A B C A B C), and
//! prints one table; it writes the table and a chart under `docs/`. After `--`:
//!
//! | flag | what it does |
//! |---|---|
//! | `--quick` | the same table in less than a minute |
//! | `--rows 1,2,5` | these rows |
//! | `--threads 1,2` | these numbers of threads, in all rows |
//! | `--peers ours,moka` | these peers |
//! | `--out DIR` | writes there instead of under `docs/` |
//! | `--no-write` | writes nothing |

// The allocator of row 11 counts what it hands on to the system's.
#![allow(unsafe_code)]

mod alloc;
mod chart;
mod peers;
mod race;
mod report;
mod rows;
mod workload;

use std::error::Error;
use std::path::PathBuf;
use std::process::ExitCode;
use std::str::FromStr;
use std::time::{Duration, Instant};
use std::{env, fs, io, thread};

use report::Report;
use rows::Plan;

struct Options {
    plan: Plan,
    effort: &'static str,
    /// Where files go; `None` to leave them alone.
    out: Option<PathBuf>,
}

fn main() -> ExitCode {
    let arguments: Vec<_> = env::args().skip(1).collect();
    // `cargo bench` says so; without it this is `cargo test --benches`, which wants no measurement.
    if !arguments.iter().any(|argument| argument == "--bench") {
        println!("nothing measured: run `cargo bench -p async-lru-bench --bench compare`");
        return ExitCode::SUCCESS;
    }
    let result = parse(&arguments).and_then(compare);
    if let Err(error) = result {
        eprintln!("compare: {error}");
        return ExitCode::FAILURE;
    }
    ExitCode::SUCCESS
}

fn parse(arguments: &[String]) -> Result<Options, Box<dyn Error>> {
    let plan = Plan {
        rows: Vec::new(),
        threads: Vec::new(),
        peers: Vec::new(),
        rounds: 9,
        lap: Duration::from_millis(50),
        cores: thread::available_parallelism()?.get(),
    };
    let docs = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../docs");
    let mut options = Options { plan, effort: "best of 9 rounds of 50 ms", out: Some(docs) };
    let mut arguments = arguments.iter();
    while let Some(argument) = arguments.next() {
        let mut value =
            || arguments.next().ok_or_else(|| format!("{argument} needs a value after it"));
        match argument.as_str() {
            "--bench" => {}
            "--quick" => {
                (options.plan.rounds, options.plan.lap) = (3, Duration::from_millis(6));
                options.effort = "a quick run, best of 3 rounds of 6 ms";
            }
            "--rows" => options.plan.rows = list(value()?)?,
            "--threads" => options.plan.threads = list(value()?)?,
            "--peers" => options.plan.peers = list(value()?)?,
            "--out" => options.out = Some(PathBuf::from(value()?)),
            "--no-write" => options.out = None,
            _ => return Err(format!("unknown argument {argument}").into()),
        }
    }
    if options.plan.threads.contains(&0) {
        return Err("no operation is done by 0 threads".into());
    }
    Ok(options)
}

fn list<T: FromStr<Err: Error + 'static>>(text: &str) -> Result<Vec<T>, Box<dyn Error>> {
    text.split(',').map(|item| item.trim().parse().map_err(Into::into)).collect()
}

fn compare(Options { plan, effort, out }: Options) -> Result<(), Box<dyn Error>> {
    let start = Instant::now();
    let mut report = Report { cores: plan.cores, peers: plan.peers(), lines: Vec::new(), effort };
    rows::run(&plan, |line| {
        if let Some(row) = line.row {
            eprintln!("{:4.0} s  row {row}: {}", start.elapsed().as_secs_f64(), line.title);
        }
        report.lines.push(line);
    });
    println!("{} cores; {effort}\n\n{}\n{}", report.cores, report.table(), report.notes());
    if let Some(out) = out {
        write(&report, out)?;
    }
    Ok(())
}

fn write(report: &Report, out: PathBuf) -> Result<(), Box<dyn Error>> {
    fs::create_dir_all(&out)?;
    let chart = format!("compare-{}-cores.svg", report.cores);
    let page = out.join(format!("compare-{}-cores.md", report.cores));
    fs::write(&page, report.page(&chart))?;
    chart::draw(report, &out.join(chart)).map_err(|error| io::Error::other(error.to_string()))?;
    println!("written: {}", page.display());
    Ok(())
}
