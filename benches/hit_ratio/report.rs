//! Everything that was measured, and the tables of it.

use crate::common::table;
use crate::contenders::{Contender, LRU};
use crate::runs::{Outcome, Size};
use crate::trace::{Origin, Trace};

/// A trace in caches of one size.
#[derive(Debug)]
pub(crate) struct Line {
    /// The trace's place in [`Report::traces`].
    pub(crate) trace: usize,
    pub(crate) size: Size,
    pub(crate) entries: usize,
    /// One to a contender, in the order of [`Report::contenders`].
    pub(crate) outcomes: Vec<Outcome>,
}

#[derive(Debug)]
pub(crate) struct Report {
    pub(crate) contenders: Vec<&'static Contender>,
    pub(crate) traces: Vec<Trace>,
    pub(crate) lines: Vec<Line>,
}

/// Which traces a table or a panel is of.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Scope {
    One(usize),
    /// The mean over all of this origin.
    Mean(Origin),
}

impl Report {
    /// A row to a contender; `None` where no trace has keys enough for any size.
    pub(crate) fn table(&self, scope: Scope) -> Option<String> {
        let sizes = self.sizes(scope);
        let lru = self.contenders.iter().position(|contender| contender.name == LRU);
        let mut header = vec![String::new()];
        for &size in &sizes {
            header.extend([self.header(scope, size), "loads".to_owned()]);
        }
        header.extend(lru.map(|_| format!("worst against {LRU}")));
        let mut rows = vec![header];
        for (number, contender) in self.contenders.iter().enumerate() {
            let mut row = vec![contender.name.to_owned()];
            for &size in &sizes {
                let ratio = self.ratio(scope, size, number);
                row.extend([format!("{:.2} %", 100.0 * ratio), format!("{:.1}", loads(ratio))]);
            }
            row.extend(lru.map(|lru| format!("{:+.2}", 100.0 * self.worst(scope, number, lru))));
            rows.push(row);
        }
        (!sizes.is_empty()).then(|| table::markdown(&rows))
    }

    /// The sizes that there are, in ascending order.
    pub(crate) fn sizes(&self, scope: Scope) -> Vec<Size> {
        let mut sizes: Vec<_> = self.lines(scope).map(|line| line.size).collect();
        sizes.sort_unstable();
        sizes.dedup();
        sizes
    }

    /// The hit ratio, or its mean over the traces that have that size.
    pub(crate) fn ratio(&self, scope: Scope, size: Size, contender: usize) -> f64 {
        let lines = self.lines(scope).filter(|line| line.size == size);
        let ratios: Vec<_> = lines.map(|line| self.hits(line, contender)).collect();
        ratios.iter().sum::<f64>() / ratios.len() as f64
    }

    /// The least and the greatest share of its size that a cache held in the end.
    pub(crate) fn held(&self, contender: usize) -> Option<(f64, f64)> {
        let shares = self.lines.iter().filter_map(|line| {
            let held = line.outcomes[contender].held?;
            Some(held as f64 / line.entries as f64)
        });
        shares.map(|share| (share, share)).reduce(|a, b| (a.0.min(b.0), a.1.max(b.1)))
    }

    fn lines(&self, scope: Scope) -> impl Iterator<Item = &Line> {
        self.lines.iter().filter(move |line| match scope {
            Scope::One(trace) => line.trace == trace,
            Scope::Mean(origin) => self.traces[line.trace].origin == origin,
        })
    }

    /// The size, with what it is in entries or, of means, of how many traces.
    fn header(&self, scope: Scope, size: Size) -> String {
        let lines: Vec<_> = self.lines(scope).filter(|line| line.size == size).collect();
        match (scope, size) {
            (Scope::Mean(_), _) => format!("{size} ({})", lines.len()),
            (Scope::One(_), Size::Share(_)) => format!("{size} ({})", lines[0].entries),
            (Scope::One(_), Size::Entries(_)) => size.to_string(),
        }
    }

    /// What a contender gains upon another where it gains the least.
    fn worst(&self, scope: Scope, contender: usize, other: usize) -> f64 {
        let gains =
            self.lines(scope).map(|line| self.hits(line, contender) - self.hits(line, other));
        gains.min_by(f64::total_cmp).unwrap_or_default()
    }

    /// The share of the requests of one line that were hits.
    fn hits(&self, line: &Line, contender: usize) -> f64 {
        let requests = self.traces[line.trace].requests.len();
        line.outcomes[contender].hits as f64 / requests as f64
    }
}

/// Loads per 1,000 requests.
pub(crate) fn loads(ratio: f64) -> f64 {
    1000.0 * (1.0 - ratio)
}
