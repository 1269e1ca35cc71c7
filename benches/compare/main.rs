//! This cache beside what one would pick instead.
//!
//! `cargo bench -p async-lru-bench --bench compare` measures each peer in each row with each number
//! of threads in a process of its own, the peers taking turns, and keeps the best of the rounds. It
//! prints two tables, of the peers with single flight and of those without, and writes them and a
//! chart under `docs/`. After `--`:
//!
//! | option | what it does |
//! |---|---|
//! | `--quick` | one short round, in about a minute |
//! | `--rows get,zipf` | these rows |
//! | `--threads 1,2,4` | these numbers of threads |
//! | `--peers async-lru,quick_cache` | these peers |
//! | `--rounds N` | the best of so many rounds |
//! | `--against PATH` | runs the async-lru of another build of this program too, as `async-lru before` |
//! | `--out DIR` | writes there; without it, only a run of everything writes, under `docs/` |
//! | `--no-write` | writes nothing |
//!
//! Paths are relative to the root of the repository.

// The allocator of the rows of bytes counts what it hands on to the system's.
#![allow(unsafe_code)]

mod alloc;
mod chart;
mod child;
#[path = "../common/mod.rs"]
mod common;
mod cores;
mod footprint;
mod measurement;
mod options;
mod page;
mod passes;
mod peers;
mod report;
mod rows;
mod sequence;
mod stampede;
mod turns;
mod workload;

use std::error::Error;
use std::path::Path;
use std::process::ExitCode;
use std::{env, fs, io};

use options::{Asked, Options};
use report::Report;

fn main() -> ExitCode {
    let arguments: Vec<_> = env::args().skip(1).collect();
    let result = options::parse(&arguments).and_then(|asked| match asked {
        Asked::Nothing => {
            println!("nothing measured: run `cargo bench -p async-lru-bench --bench compare`");
            Ok(())
        }
        Asked::Child(job) => child::run(&job),
        Asked::Comparison(options) => compare(&options),
    });
    if let Err(error) = result {
        eprintln!("compare: {error}");
        return ExitCode::FAILURE;
    }
    ExitCode::SUCCESS
}

fn compare(options: &Options) -> Result<(), Box<dyn Error>> {
    let report = turns::take(options)?;
    println!("{}", page::text(&report));
    if let Some(out) = &options.out {
        write(&report, out)?;
    }
    Ok(())
}

fn write(report: &Report, out: &Path) -> Result<(), Box<dyn Error>> {
    fs::create_dir_all(out)?;
    let chart = format!("compare-{}-cores.svg", report.cores);
    let page = out.join(format!("compare-{}-cores.md", report.cores));
    fs::write(&page, page::with_chart(report, &chart))?;
    chart::draw(report, &out.join(chart)).map_err(|error| io::Error::other(error.to_string()))?;
    println!("written: {}", page.display());
    Ok(())
}
