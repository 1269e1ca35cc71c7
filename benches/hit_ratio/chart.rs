//! The chart: a panel to a size of the traces of one origin, a bar to a cache.

use std::error::Error;
use std::ops::RangeInclusive;
use std::path::Path;

use crate::common::bars::{Bar, Chart, Kind, Panel};
use crate::contenders::{OPTIMUM, OWN};
use crate::page;
use crate::report::{self, Report, Scope};
use crate::runs::Size;
use crate::trace::Origin;

pub(crate) fn draw(report: &Report, path: &Path) -> Result<(), Box<dyn Error>> {
    let panels = Origin::ALL.into_iter().flat_map(|origin| {
        let sizes = report.sizes(Scope::Mean(origin)).into_iter();
        sizes.map(move |size| panel(report, origin, size))
    });
    let title = "Loads per 1,000 requests, less is better".to_owned();
    // Of no loads at all there is no longest bar.
    let length = |loads, all: &RangeInclusive<f64>| loads / all.end().max(f64::MIN_POSITIVE);
    Chart { title, columns: 3, length, panels: panels.collect() }.draw(path)
}

fn panel(report: &Report, origin: Origin, size: Size) -> Panel {
    let bars = report.contenders.iter().enumerate().map(|(number, contender)| {
        let kind = match contender.name {
            OPTIMUM => Kind::Bound,
            name if name.starts_with(OWN) => Kind::Own,
            _ => Kind::Cache,
        };
        let value = report::loads(report.ratio(Scope::Mean(origin), size, number));
        Bar { name: contender.name.to_owned(), value, second: None, kind }
    });
    let title = format!("{}, {size}", page::title(origin));
    Panel { title, bars: bars.collect() }
}
