//! The chart: a panel to a row, a bar to a peer.

use std::error::Error;
use std::ops::RangeInclusive;
use std::path::Path;

use crate::common::bars::{Bar, Chart, Kind, Panel};
use crate::peers::{ADAPTIVE, FLOOR, OURS};
use crate::report::{Line, Report};
use crate::rows::Unit;

/// Draws the timed rows of up to two threads, since more do not fit a page.
pub(crate) fn draw(report: &Report, path: &Path) -> Result<(), Box<dyn Error>> {
    let timed = |line: &&Line| {
        line.row.unit == Unit::Nanoseconds && line.threads.is_some_and(|threads| threads <= 2)
    };
    let lines = report.lines.iter().filter(timed);
    let title = format!("Nanoseconds per call, less is better ({} cores)", report.cores);
    let panels = lines.map(|line| panel(report, line)).collect();
    Chart { title, columns: 3, length, panels }.draw(path)
}

/// The slowest are a hundred times as slow as the fastest; linear bars would show only them.
fn length(cost: f64, costs: &RangeInclusive<f64>) -> f64 {
    let low = costs.start() / 2.0;
    (cost / low).ln() / (costs.end().max(low * 2.0) / low).ln()
}

fn panel(report: &Report, line: &Line) -> Panel {
    let threads = match line.threads {
        Some(1) => "1 thread".to_owned(),
        threads => format!("{} threads", threads.unwrap_or_default()),
    };
    let title = format!("{}, {threads}", line.row.title.replace('`', ""));
    let costs = line.best.iter().map(|best| best.map(|measurement| measurement.cost));
    let bars = report.contenders.iter().zip(costs).filter_map(|(peer, cost)| {
        let kind = match peer.title.as_str() {
            OURS | ADAPTIVE => Kind::Own,
            FLOOR => Kind::Bound,
            _ => Kind::Cache,
        };
        cost.map(|value| Bar { name: peer.title.clone(), value, second: None, kind })
    });
    Panel { title, bars: bars.collect() }
}
