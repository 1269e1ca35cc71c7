//! The page under `docs/`: how it was measured, the tables, and what is to know of each peer.

use std::fmt::Write;

use crate::child::Effort;
use crate::peers::{Expiry, FLOOR, Flight, Home};
use crate::report::Report;
use crate::workload::Spin;

/// The page without its heading and chart, to be printed.
pub(crate) fn text(report: &Report) -> String {
    format!(
        "{}\n\n## With single flight\n\n{}\n\
         ## Without single flight\n\n\
         These do less: callers that miss together each load.\n\n{}\n\
         ## Rows\n\n{}\n\
         ## Peers\n\n{}",
        method(report),
        report.table(Flight::Single),
        report.table(Flight::None),
        rows(),
        peers(report),
    )
}

/// The whole page.
pub(crate) fn with_chart(report: &Report, chart: &str) -> String {
    let cores = report.cores;
    let (heading, text) = (format!("# Comparison on {cores} cores"), text(report));
    format!("{heading}\n\n![Nanoseconds per call]({chart})\n\n{text}")
}

fn method(report: &Report) -> String {
    let Report { cores, rounds, effort, .. } = *report;
    let quick = match effort {
        Effort::Full => "",
        Effort::Quick => " A quick run, whose numbers say little.",
    };
    let rounds = match rounds {
        1 => "one round".to_owned(),
        _ => format!("the best of {rounds} rounds"),
    };
    format!(
        "Written by `cargo bench -p async-lru-bench --bench compare` on {cores} cores.{quick} Each peer \
         is measured in a process of its own for each row and number of threads, the peers taking \
         turns: {rounds}. A process fills its cache, warms it up, and times {} passes of {} calls \
         (fewer where these take more than {} ms, more where they take less than {} ms), of which it \
         reports the best for one thread and the median for several. Threads are fixed to cores (on \
         Linux); thin LTO, one codegen unit; default settings of each peer.\n\n\
         Nanoseconds of wall time per call, over the calls of all threads, where the row says nothing \
         else. The last columns are async-lru's number divided by another's, bold where async-lru is \
         ahead.",
        effort.passes(),
        effort.steps(),
        effort.pass().end.as_millis(),
        effort.pass().start.as_millis(),
    )
}

fn rows() -> String {
    format!(
        "`u64 -> u64`, or with `String`, `String -> Arc<str>`. The hits are of 10,000 entries, asked for \
         by Zipf's law with exponent 1, with room for 20,000; uniform ones of a million, with room for \
         a fifth more. Zipf over 10 x capacity: 100,000 keys, room for 10,000; with 1 to 2 % misses, \
         10,000 keys and room for 9,000. A time to live is an hour. The loader returns at once, but for \
         that of {} us, which keeps its thread busy. Loads include `get`s that found nothing, where a \
         peer lost entries that it had room for. Stampede: one key, whose load yields ten times, until \
         all tasks have the value. Bytes per entry: keys and values included, after three times as \
         many insertions as there is room for. The future is that of the single-flight call with a \
         loader of 64 bytes, for peers whose call holds it.\n",
        Spin::TIME.as_micros(),
    )
}

fn peers(report: &Report) -> String {
    let mut text = String::new();
    for contender in &report.contenders {
        let about = contender.about;
        if contender.program.is_some() {
            let _ = writeln!(text, "- **{}**: of another build.", contender.title);
            continue;
        }
        let _ = write!(text, "- **{}**: {}", contender.title, about.note);
        if about.expiry == Expiry::None && about.name != FLOOR {
            text.push_str("; has no time to live, so it runs those rows without one");
        }
        if about.home == Home::Tokio {
            text.push_str(
                "; its callers run as tasks of a tokio runtime with as many workers as the row has threads",
            );
        }
        text.push_str(".\n");
    }
    text
}
