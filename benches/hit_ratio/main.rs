//! How many requests find their value, in this cache and in others.
//!
//! `cargo bench -p async-lru-bench --bench hit_ratio` replays traces of requests through each cache at
//! several sizes and counts the hits. It prints tables of the hit ratios and of the loads per 1,000
//! requests, and writes them and a chart under `docs/`. After `--`, the traces to replay and options:
//!
//! | argument | what it does |
//! |---|---|
//! | `zipf0.9`, `loop`, ... | replays the synthetic trace of that name; `synthetic.rs` has the names |
//! | `PATH` | replays the trace in that file; `trace.rs` says what a file holds |
//! | `--sizes 0.1,1,10,30` | these sizes, in percent of a trace's distinct keys |
//! | `--caches moka,optimum` | these caches |
//! | `--out DIR` | writes there; without it, only a run of everything writes, under `docs/` |
//! | `--no-write` | writes nothing |
//!
//! Without a trace it replays the recorded one that is in the repository and all synthetic ones. Paths
//! are relative to the root of the repository.

mod chart;
#[path = "../common/mod.rs"]
mod common;
mod contenders;
mod optimum;
mod options;
mod page;
mod report;
mod runs;
mod synthetic;
mod trace;

use std::error::Error;
use std::path::Path;
use std::process::ExitCode;
use std::{env, fs, io};

use options::{Asked, Options};
use report::Report;
use trace::Trace;

fn main() -> ExitCode {
    let arguments: Vec<_> = env::args().skip(1).collect();
    let result = options::parse(&arguments).and_then(|asked| match asked {
        Asked::Nothing => {
            println!("nothing measured: run `cargo bench -p async-lru-bench --bench hit_ratio`");
            Ok(())
        }
        Asked::HitRatios(options) => measure(&options),
    });
    if let Err(error) = result {
        eprintln!("hit_ratio: {error}");
        return ExitCode::FAILURE;
    }
    ExitCode::SUCCESS
}

fn measure(options: &Options) -> Result<(), Box<dyn Error>> {
    // All before the first is replayed, so that a path that is wrong is told at once.
    let traces = options.traces.iter().map(|argument| Trace::load(argument));
    let traces = traces.collect::<Result<Vec<_>, _>>()?;
    let report = runs::take(traces, &options.shares, &options.contenders)?;
    println!("{}", page::text(&report));
    if let Some(out) = &options.out {
        write(&report, out)?;
    }
    Ok(())
}

fn write(report: &Report, out: &Path) -> Result<(), Box<dyn Error>> {
    fs::create_dir_all(out)?;
    let page = out.join("hit-ratio.md");
    fs::write(&page, page::with_chart(report, "hit-ratio.svg"))?;
    let chart = out.join("hit-ratio.svg");
    chart::draw(report, &chart).map_err(|error| io::Error::other(error.to_string()))?;
    println!("written: {}", page.display());
    Ok(())
}
