//! The table: printed, and as Markdown.

use std::fmt::Write;

use crate::peers::{About, Expiry, FLOOR, Flight, Home};

/// What the numbers of a line are.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Unit {
    /// Nanoseconds of wall time per operation.
    Nanoseconds,
    /// Microseconds of wall time in all.
    Microseconds,
    Bytes,
    Percent,
    Count,
}

/// One line of the table.
#[derive(Clone, Debug)]
pub(crate) struct Line {
    /// The row of the comparison; lines that only explain another have none.
    pub(crate) row: Option<u32>,
    pub(crate) title: String,
    pub(crate) threads: Option<usize>,
    pub(crate) unit: Unit,
    /// One to a peer, in the order of [`Report::peers`].
    pub(crate) values: Vec<Option<f64>>,
}

/// Everything that was measured.
#[derive(Debug)]
pub(crate) struct Report {
    pub(crate) cores: usize,
    pub(crate) peers: Vec<About>,
    pub(crate) lines: Vec<Line>,
    /// Whether the run was a short one.
    pub(crate) effort: &'static str,
}

impl Unit {
    /// Whether less is better, and a ratio says something.
    fn is_cost(self) -> bool {
        matches!(self, Self::Nanoseconds | Self::Microseconds | Self::Bytes)
    }

    fn show(self, value: f64) -> String {
        match self {
            Self::Nanoseconds | Self::Bytes if value < 100.0 => format!("{value:.1}"),
            Self::Microseconds if value < 1000.0 => format!("{value:.1}"),
            Self::Nanoseconds | Self::Bytes | Self::Microseconds | Self::Count => {
                format!("{value:.0}")
            }
            Self::Percent => format!("{value:.1} %"),
        }
    }
}

impl Report {
    fn value(&self, line: &Line, name: &str) -> Option<f64> {
        let position = self.peers.iter().position(|peer| peer.name == name)?;
        line.values[position]
    }

    fn ratio(&self, line: &Line, name: &str) -> String {
        let pair = self.value(line, "ours").zip(self.value(line, name));
        match pair {
            Some((ours, theirs)) if line.unit.is_cost() => format!("{:.2}", ours / theirs),
            _ => String::new(),
        }
    }

    /// Ours to the best of the others, with the name of that.
    fn best(&self, line: &Line) -> String {
        let others = self.peers.iter().zip(&line.values);
        let others = others.filter(|(peer, _)| peer.name != "ours" && peer.name != FLOOR);
        let best = others
            .filter_map(|(peer, value)| value.map(|value| (peer.name, value)))
            .min_by(|(_, a), (_, b)| a.total_cmp(b));
        match (self.value(line, "ours"), best) {
            (Some(ours), Some((name, best))) if line.unit.is_cost() => {
                format!("{:.2} {name}", ours / best)
            }
            _ => String::new(),
        }
    }

    fn header(&self) -> Vec<String> {
        let mut header: Vec<_> = ["row", "what", "threads"].map(str::to_owned).into();
        header.extend(self.peers.iter().map(|peer| match peer.flight {
            Flight::Single => peer.name.to_owned(),
            Flight::None => format!("{}*", peer.name),
        }));
        header.extend(["ours / quick_cache", "ours / moka", "ours / best"].map(str::to_owned));
        header
    }

    fn cells(&self, line: &Line) -> Vec<String> {
        let mut cells = vec![
            line.row.map(|row| row.to_string()).unwrap_or_default(),
            line.title.clone(),
            line.threads.map(|threads| threads.to_string()).unwrap_or_default(),
        ];
        let show = |value: &Option<f64>| match value {
            Some(value) => line.unit.show(*value),
            None => "-".to_owned(),
        };
        cells.extend(line.values.iter().map(show));
        cells.extend([self.ratio(line, "quick_cache"), self.ratio(line, "moka"), self.best(line)]);
        cells
    }

    /// The table as Markdown that reads as well in a terminal.
    pub(crate) fn table(&self) -> String {
        let mut rows = vec![self.header()];
        rows.extend(self.lines.iter().map(|line| self.cells(line)));
        let widths: Vec<_> = (0..rows[0].len())
            .map(|column| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0))
            .collect();
        let mut table = String::new();
        for (number, row) in rows.iter().enumerate() {
            for (column, (cell, &width)) in row.iter().zip(&widths).enumerate() {
                let _ = match column {
                    1 => write!(table, "| {cell:width$} "),
                    _ => write!(table, "| {cell:>width$} "),
                };
            }
            table.push_str("|\n");
            if number == 0 {
                for (column, &width) in widths.iter().enumerate() {
                    let _ = match column {
                        1 => write!(table, "|{:-<1$}", "", width + 2),
                        _ => write!(table, "|{:-<1$}:", "", width + 1),
                    };
                }
                table.push_str("|\n");
            }
        }
        table
    }

    /// What one has to know to read the table.
    pub(crate) fn notes(&self) -> String {
        let mut notes = String::from(
            "Nanoseconds per operation where nothing else is said: wall time over the operations of all \
             threads, best of the rounds, all peers in turn in each round, default settings. Hit ratios \
             are of all measured rounds. An asterisk marks a peer without single flight: callers that \
             miss together each load, so it does less. Row 11: keys and values included, after three \
             times as many insertions as there is room for. Row 12: only for calls that hold their \
             loader.\n\n",
        );
        for peer in &self.peers {
            let _ = write!(notes, "- **{}**: {}", peer.name, peer.note);
            if peer.expiry == Expiry::None && peer.name != FLOOR {
                notes.push_str("; has no time to live, so it runs row 8 without one");
            }
            if peer.home == Home::Tokio {
                notes.push_str(
                    "; its callers run as tasks of a tokio runtime with a worker to a core",
                );
            }
            notes.push_str(".\n");
        }
        notes
    }

    /// The page under `docs/`.
    pub(crate) fn page(&self, chart: &str) -> String {
        let Self { cores, effort, .. } = self;
        format!(
            "# Comparison on {cores} cores\n\n\
             Written by `cargo bench -p async-lru-bench --bench compare`; {effort}.\n\n\
             ![Nanoseconds per operation]({chart})\n\n{}\n{}",
            self.table(),
            self.notes(),
        )
    }
}
