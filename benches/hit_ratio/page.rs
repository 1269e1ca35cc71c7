//! The page under `docs/`: how it was measured, the tables, and what is to know of each cache.

use std::fmt::Write;

use crate::contenders::default_shards;
use crate::report::{Report, Scope};
use crate::runs::{LEAST, SMALL};
use crate::trace::{Origin, Trace};

/// The page without its heading and chart, to be printed.
pub(crate) fn text(report: &Report) -> String {
    let mut text = format!("{}\n\n", method());
    for origin in Origin::ALL {
        // The mean over one would be its table again.
        let traces = report.traces.iter().filter(|trace| trace.origin == origin).count();
        if let Some(table) = report.table(Scope::Mean(origin)).filter(|_| traces > 1) {
            let _ = writeln!(text, "## {}, means\n\n{table}", title(origin));
        }
    }
    for (number, trace) in report.traces.iter().enumerate() {
        if let Some(table) = report.table(Scope::One(number)) {
            let Trace { name, footprint, .. } = trace;
            let requests = trace.requests.len();
            let about = format!("{requests} requests for {footprint} keys.");
            let _ = writeln!(text, "## {name}\n\n{about}\n\n{table}");
        }
    }
    let _ = write!(text, "## Caches\n\n{}", caches(report));
    text
}

/// The whole page.
pub(crate) fn with_chart(report: &Report, chart: &str) -> String {
    format!("# Hit ratios\n\n![Loads per 1,000 requests]({chart})\n\n{}", text(report))
}

fn method() -> String {
    format!(
        "Written by `cargo bench -p async-lru-bench --bench hit_ratio`. Each trace is replayed through \
         each cache at each size by one thread, from an empty cache on: a request is a `get` and, if \
         that finds nothing, an insertion. Keys are `u32`, numbered in the order of their first \
         appearance, and hashed by what the cache has by default. The recorded traces are those of the \
         papers on ARC, LIRS and AdaptSize, of cache2k's benchmarks and of Corda's vault service; \
         cache2k_web07 alone is in the repository, others are given as files.\n\n\
         A size is a share of the distinct keys of a trace (in brackets: in entries; of means, over how \
         many traces), and left out where that is fewer than {LEAST} entries; small traces have one of \
         {SMALL} entries instead. Below it is the share of requests that were hits, and beside that the \
         loads per 1,000 requests: the others. The last column is the most that a cache lost against \
         exact LRU in one trace at one size, or the least that it gained, in percentage points. What a \
         cache holds may differ from the size that it was given; the last section says by how much."
    )
}

pub(crate) fn title(origin: Origin) -> &'static str {
    match origin {
        Origin::Recorded => "Recorded traces",
        Origin::Synthetic => "Synthetic traces",
        Origin::Small => "Small synthetic traces",
    }
}

fn caches(report: &Report) -> String {
    let mut text = String::new();
    for (number, contender) in report.contenders.iter().enumerate() {
        let _ = write!(text, "- **{}**: {}", contender.name, contender.note);
        if let Some((least, most)) = report.held(number) {
            let (least, most) = (format!("{:.0}", 100.0 * least), format!("{:.0}", 100.0 * most));
            let range = if least == most { most } else { format!("{least} to {most}") };
            let _ = write!(text, "; held {range} % of its size in the end");
        }
        text.push_str(".\n");
    }
    let shards = default_shards();
    let _ =
        writeln!(text, "\nThe default number of shards is {shards} here, fewer for small caches.");
    text
}
