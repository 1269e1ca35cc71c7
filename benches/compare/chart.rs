//! The chart: a panel to a row, a bar to a peer.

use std::error::Error;
use std::path::Path;

use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};

use crate::peers::{FLOOR, OURS};
use crate::report::{Line, Report};
use crate::rows::Unit;

const COLUMNS: usize = 3;
const PANEL: (u32, u32) = (420, 290);
const OWN: RGBColor = RGBColor(0xD9, 0x5F, 0x02);
const CACHE: RGBColor = RGBColor(0x8D, 0xA0, 0xCB);
const NO_CACHE: RGBColor = RGBColor(0xCC, 0xCC, 0xCC);

/// Draws the timed rows of up to two threads, since more do not fit a page.
pub(crate) fn draw(report: &Report, path: &Path) -> Result<(), Box<dyn Error>> {
    let timed = |line: &&Line| {
        line.row.unit == Unit::Nanoseconds && line.threads.is_some_and(|threads| threads <= 2)
    };
    let lines: Vec<_> = report.lines.iter().filter(timed).collect();
    if lines.is_empty() {
        return Ok(());
    }
    let rows = lines.len().div_ceil(COLUMNS);
    let size = (PANEL.0 * COLUMNS as u32, PANEL.1 * rows as u32 + 40);
    let root = SVGBackend::new(path, size).into_drawing_area();
    root.fill(&WHITE)?;
    let title = format!("Nanoseconds per call, less is better ({} cores)", report.cores);
    let root = root.titled(&title, ("sans-serif", 22))?;
    for (area, line) in root.split_evenly((rows, COLUMNS)).iter().zip(lines) {
        panel(report, line, area)?;
    }
    root.present()?;
    Ok(())
}

fn panel<DB: DrawingBackend>(
    report: &Report,
    line: &Line,
    area: &DrawingArea<DB, plotters::coord::Shift>,
) -> Result<(), Box<dyn Error>>
where
    DB::ErrorType: 'static,
{
    let costs = line.best.iter().map(|best| best.map(|measurement| measurement.cost));
    let bars = report.contenders.iter().zip(costs);
    let mut bars: Vec<_> =
        bars.filter_map(|(peer, cost)| cost.map(|cost| (peer.title.as_str(), cost))).collect();
    bars.sort_by(|(_, a), (_, b)| a.total_cmp(b));
    let threads = match line.threads {
        Some(1) => "1 thread".to_owned(),
        threads => format!("{} threads", threads.unwrap_or_default()),
    };
    let title = format!("{}, {threads}", line.row.title.replace('`', ""));
    let area = area.margin(4, 4, 10, 10);
    let area = area.titled(&title, ("sans-serif", 13))?;
    let (width, height) = area.dim_in_pixel();
    let (names, values) = (130, 56);
    let room = f64::from(width) - f64::from(names + values);
    let slot = (f64::from(height) / bars.len() as f64).min(22.0);
    // The slowest are a hundred times as slow as the fastest; linear bars would show only them.
    let low = bars.first().map_or(1.0, |bar| bar.1) / 2.0;
    let high = bars.last().map_or(2.0, |bar| bar.1).max(low * 2.0);
    for (number, (name, value)) in bars.iter().enumerate() {
        let top = (number as f64 * slot) as i32;
        let bottom = ((number + 1) as f64 * slot) as i32 - 3;
        let middle = (top + bottom) / 2;
        let length = (room * (value / low).ln() / (high / low).ln()) as i32;
        let color = match *name {
            OURS => OWN,
            FLOOR => NO_CACHE,
            _ => CACHE,
        };
        area.draw(&Rectangle::new([(names, top), (names + length, bottom)], color.filled()))?;
        let text = ("sans-serif", 12).into_font().color(&BLACK);
        let before = text.pos(Pos::new(HPos::Right, VPos::Center));
        area.draw(&Text::new((*name).to_owned(), (names - 5, middle), before))?;
        let after = text.pos(Pos::new(HPos::Left, VPos::Center));
        area.draw(&Text::new(format!("{value:.1}"), (names + length + 4, middle), after))?;
    }
    Ok(())
}
