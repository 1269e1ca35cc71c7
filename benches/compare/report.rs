//! Everything that was measured, and the tables of it.

use std::path::PathBuf;

use crate::child::Effort;
use crate::common::table;
use crate::measurement::Measurement;
use crate::peers::{ADAPTIVE, About, FLOOR, Flight, HASHLINK, MOKA, OURS, QUICK_CACHE};
use crate::rows::{Question, Row, Unit};

/// A peer, or this cache as another build has it.
#[derive(Debug)]
pub(crate) struct Contender {
    pub(crate) about: About,
    pub(crate) title: String,
    /// The program whose peer it is; `None` for this one.
    pub(crate) program: Option<PathBuf>,
}

/// A row with one number of threads.
#[derive(Debug)]
pub(crate) struct Line {
    pub(crate) row: &'static Row,
    /// `None` where nothing is timed.
    pub(crate) threads: Option<usize>,
    /// One to a contender, in the order of [`Report::contenders`].
    pub(crate) best: Vec<Option<Measurement>>,
}

#[derive(Debug)]
pub(crate) struct Report {
    pub(crate) cores: usize,
    pub(crate) contenders: Vec<Contender>,
    pub(crate) lines: Vec<Line>,
    pub(crate) rounds: usize,
    pub(crate) effort: Effort,
}

/// Which of the contenders a table shows, by their numbers, and to which of them it has ratios.
struct Columns {
    shown: Vec<usize>,
    ratios: Vec<usize>,
}

impl Report {
    /// The table of the peers that have single flight, or of this cache and those that do without.
    pub(crate) fn table(&self, flight: Flight) -> String {
        let columns = self.columns(flight);
        let mut rows = vec![self.header(&columns)];
        for line in &self.lines {
            rows.push(self.costs(line, &columns));
            rows.extend(self.explanation(line, &columns));
        }
        table::markdown(&rows)
    }

    fn columns(&self, flight: Flight) -> Columns {
        let shown = |contender: &Contender| match flight {
            Flight::Single => contender.about.flight == flight,
            Flight::None => contender.about.flight == flight || contender.title == OURS,
        };
        let compared = |contender: &Contender| {
            let is_rival = [QUICK_CACHE, MOKA, HASHLINK].contains(&contender.about.name);
            is_rival || contender.program.is_some()
        };
        let all = || self.contenders.iter().enumerate();
        let shown: Vec<_> =
            all().filter(|(_, peer)| shown(peer)).map(|(number, _)| number).collect();
        let ratios = shown.iter().copied().filter(|&number| compared(&self.contenders[number]));
        Columns { ratios: ratios.collect(), shown }
    }

    fn header(&self, columns: &Columns) -> Vec<String> {
        let titles = |numbers: &[usize]| {
            let titles = numbers.iter().map(|&number| self.contenders[number].title.clone());
            titles.collect::<Vec<_>>()
        };
        let mut header = vec![String::new(), "threads".to_owned()];
        header.extend(titles(&columns.shown));
        header.extend(titles(&columns.ratios).iter().map(|title| format!("/ {title}")));
        header.push("/ best".to_owned());
        header
    }

    fn costs(&self, line: &Line, columns: &Columns) -> Vec<String> {
        let threads = match line.threads {
            Some(threads) if threads > self.cores => format!("{threads} on {} cores", self.cores),
            Some(threads) => threads.to_string(),
            None => String::new(),
        };
        let cost = |number: usize| line.best[number].map(|measurement| measurement.cost);
        let ours = self.contenders.iter().position(|contender| contender.title == OURS);
        let ours = ours.and_then(cost);
        let mut cells = vec![line.row.title.to_owned(), threads];
        cells.extend(columns.shown.iter().map(|&number| show(cost(number), line.row.unit)));
        cells.extend(columns.ratios.iter().map(|&number| ratio(ours, cost(number))));
        let others = columns.shown.iter().map(|&number| (&self.contenders[number], cost(number)));
        let best = others
            .filter(|(contender, _)| ![OURS, ADAPTIVE, FLOOR].contains(&contender.about.name))
            .filter_map(|(contender, cost)| cost.map(|cost| (contender.title.as_str(), cost)))
            .min_by(|(_, a), (_, b)| a.total_cmp(b));
        cells.push(match best.zip(ours) {
            Some(((title, best), _)) => format!("{} {title}", ratio(ours, Some(best))),
            None => String::new(),
        });
        cells
    }

    /// What explains a line: the loads that it took, or the entries that were held.
    fn explanation(&self, line: &Line, columns: &Columns) -> Option<Vec<String>> {
        let loads = |measurement: Measurement| measurement.loads;
        let some_missed = || {
            let mut all = line.best.iter().flatten().filter_map(|measurement| measurement.loads);
            all.any(|loads| loads >= 0.5)
        };
        type Value = fn(Measurement) -> Option<f64>;
        let (title, value): (_, Value) = match line.row.question {
            Question::Stampede => ("- loads", loads),
            Question::Calls(calls) if line.row.shows_loads() || calls.hits() && some_missed() => {
                ("- loads per 1,000 calls", loads)
            }
            Question::Footprint(_) => ("- entries of 100,000", |measurement| measurement.entries),
            _ => return None,
        };
        let shown = columns.shown.iter();
        let shown = shown.map(|&number| match line.best[number].and_then(value) {
            Some(value) => format!("{value:.0}"),
            None => "-".to_owned(),
        });
        let mut cells = vec![title.to_owned(), String::new()];
        cells.extend(shown);
        cells.resize(cells.len() + columns.ratios.len() + 1, String::new());
        Some(cells)
    }
}

fn show(cost: Option<f64>, unit: Unit) -> String {
    match cost {
        None => "-".to_owned(),
        Some(cost) if cost < 100.0 && unit != Unit::Bytes => format!("{cost:.1}"),
        Some(cost) => format!("{cost:.0}"),
    }
}

/// In bold where this cache is ahead.
fn ratio(ours: Option<f64>, theirs: Option<f64>) -> String {
    match ours.zip(theirs) {
        Some((ours, theirs)) if ours / theirs < 0.995 => format!("**{:.2}**", ours / theirs),
        Some((ours, theirs)) => format!("{:.2}", ours / theirs),
        None => String::new(),
    }
}
