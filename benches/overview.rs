//! The chart of the README: four panels of what the pages under `docs/` have in their tables.
//!
//! `cargo bench -p async-lru-bench --bench overview` reads `docs/hit-ratio.md` and `docs/compare-2-cores.md`,
//! measures nothing, and writes `docs/overview.svg`. So the chart shows what was measured last, and can be
//! drawn anew without a run of hours.

#[path = "common/arguments.rs"]
#[allow(dead_code, reason = "it knows more of command lines than this needs")]
mod arguments;
#[path = "common/bars.rs"]
mod bars;

use std::error::Error;
use std::fs;
use std::ops::RangeInclusive;
use std::process::ExitCode;

use bars::{Bar, Chart, Kind, Panel};

/// The caches that are shown: by their name in a page, and that in the chart. Those that hold another number of
/// entries than they were given are left out, as their loads and bytes say nothing.
const CACHES: [(&str, &str); 14] = [
    ("async-lru:lru", "async-lru, Lru"),
    ("async-lru", "async-lru, Lru"),
    ("async-lru:adaptive", "async-lru, Adaptive"),
    ("async-lru adaptive", "async-lru, Adaptive"),
    ("quick_cache", "quick_cache"),
    ("moka", "moka"),
    ("fibre_cache", "fibre_cache"),
    ("foyer-memory", "foyer-memory"),
    ("foyer:lru", "foyer-memory"),
    ("TinyUFO", "TinyUFO"),
    ("cached", "cached"),
    ("tokio+lru", "tokio Mutex, lru"),
    ("parking_lot+hashlink", "Mutex, hashlink"),
    ("optimum", "best possible"),
];

fn main() -> ExitCode {
    if let Err(error) = draw() {
        eprintln!("overview: {error}");
        return ExitCode::FAILURE;
    }
    ExitCode::SUCCESS
}

fn draw() -> Result<(), Box<dyn Error>> {
    let docs = arguments::root().join("docs");
    let ratios = tables(&fs::read_to_string(docs.join("hit-ratio.md"))?);
    let times = tables(&fs::read_to_string(docs.join("compare-2-cores.md"))?);
    let panels = vec![
        loads(&ratios)?,
        costs(
            &times,
            "`get_or_insert`, hit",
            "A hit of get_or_insert: ns per call, 1 and 2 threads",
        )?,
        costs(
            &times,
            "zipf over 10 x capacity",
            "Zipf, 20 to 27 % misses: ns per call, 1 and 2 threads",
        )?,
        costs(&times, "bytes per entry, `u64`", "Memory: bytes per entry, u64 to u64")?,
    ];
    let title = "Less is better; dark: 1 thread, light: 2 threads".to_owned();
    let path = docs.join("overview.svg");
    Chart { title, columns: 2, length, panels }.draw(&path)?;
    println!("written: {}", path.display());
    Ok(())
}

/// Loads per 1,000 requests of the recorded traces, on the mean, with room for a tenth of the keys.
fn loads(tables: &[Table]) -> Result<Panel, Box<dyn Error>> {
    let table = tables.iter().find(|table| table.section == "Recorded traces, means");
    let table = table.ok_or("no means of the recorded traces")?;
    let size = table.header.iter().position(|cell| cell.starts_with("10 %"));
    let column = size.ok_or("no size of 10 %")? + 1;
    let bars = table.rows.iter().filter_map(|row| bar(&row[0], row[column].parse().ok()?, None));
    Ok(panel("Seven recorded traces: loads per 1,000 calls", bars.collect()))
}

/// The costs of a row, with one thread and with two if it tells threads apart.
fn costs(tables: &[Table], row: &str, title: &str) -> Result<Panel, Box<dyn Error>> {
    let mut bars: Vec<Bar> = Vec::new();
    for table in tables {
        let of =
            |threads: &str| table.rows.iter().find(|cells| cells[0] == row && cells[1] == threads);
        let Some(first) = of("1").or_else(|| of("")) else { continue };
        let second = of("2");
        for (column, peer) in table.header.iter().enumerate().skip(2) {
            let cost = |cells: &Vec<String>| cells[column].parse().ok();
            let Some(value) = cost(first) else { continue };
            let Some(bar) = bar(peer, value, second.and_then(cost)) else { continue };
            // Ours is in both tables.
            if bars.iter().all(|other| other.name != bar.name) {
                bars.push(bar);
            }
        }
    }
    if bars.is_empty() {
        return Err(format!("no row {row}").into());
    }
    Ok(panel(title, bars))
}

/// A panel that says so where its bars are no measure of their values.
fn panel(title: &str, bars: Vec<Bar>) -> Panel {
    let values = || bars.iter().flat_map(|bar| [bar.value, bar.second.unwrap_or(bar.value)]);
    let least = values().reduce(f64::min).unwrap_or(1.0);
    let greatest = values().reduce(f64::max).unwrap_or(1.0);
    let scale = if is_linear(&(least..=greatest)) { "" } else { " (log)" };
    Panel { title: format!("{title}{scale}"), bars }
}

/// The bar of a cache that is shown.
fn bar(name: &str, value: f64, second: Option<f64>) -> Option<Bar> {
    let (_, shown) = CACHES.iter().find(|(known, _)| *known == name)?;
    let kind = match name {
        "optimum" => Kind::Bound,
        name if name.starts_with("async-lru") => Kind::Own,
        _ => Kind::Cache,
    };
    Some(Bar { name: (*shown).to_owned(), value, second, kind })
}

/// Linear as long as the shortest bar can be seen beside the longest.
fn is_linear(values: &RangeInclusive<f64>) -> bool {
    *values.end() < 10.0 * values.start()
}

fn length(value: f64, values: &RangeInclusive<f64>) -> f64 {
    let (least, greatest) = (*values.start(), *values.end());
    if is_linear(values) {
        return value / greatest;
    }
    let low = least / 2.0;
    (value / low).ln() / (greatest / low).ln()
}

/// A table of a page.
struct Table {
    /// The heading above it.
    section: String,
    header: Vec<String>,
    rows: Vec<Vec<String>>,
}

fn tables(page: &str) -> Vec<Table> {
    let mut tables: Vec<Table> = Vec::new();
    let mut section = String::new();
    let mut is_within = false;
    for line in page.lines() {
        if let Some(heading) = line.strip_prefix("## ") {
            heading.clone_into(&mut section);
        }
        let Some(line) = line.strip_prefix('|') else {
            is_within = false;
            continue;
        };
        let line = line.strip_suffix('|').unwrap_or(line);
        let cells: Vec<_> = line.split('|').map(|cell| cell.trim().to_owned()).collect();
        match tables.last_mut() {
            Some(table) if is_within => {
                // The line below the header has no cell of its own.
                if !cells[0].starts_with('-') || cells[0].starts_with("- ") {
                    table.rows.push(cells);
                }
            }
            _ => tables.push(Table { section: section.clone(), header: cells, rows: Vec::new() }),
        }
        is_within = true;
    }
    tables
}
