//! Replays each trace through each cache at each size.

use std::error::Error;
use std::fmt;
use std::str::FromStr;
use std::sync::Mutex;
use std::thread;

use indicatif::{ProgressBar, ProgressStyle};

use crate::contenders::Contender;
use crate::report::{Line, Report};
use crate::trace::{Origin, Trace};

/// A trace's caches run on no more threads than this.
const THREADS: usize = 2;
/// Caches of fewer entries are of no interest.
pub(crate) const LEAST: usize = 50;
/// The size of caches for the small traces.
pub(crate) const SMALL: usize = 1_000;

/// A size in thousandths of a trace's distinct keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Share(u32);

impl Share {
    pub(crate) const fn of_thousand(thousandths: u32) -> Self {
        Self(thousandths)
    }
}

impl FromStr for Share {
    type Err = String;

    /// Reads a number of percent.
    fn from_str(percent: &str) -> Result<Self, String> {
        let number: f64 = percent.parse().map_err(|error| format!("{percent}: {error}"))?;
        let thousandths = (number * 10.0).round();
        let is_exact = (thousandths - number * 10.0).abs() < 1e-6;
        match is_exact && (1.0..=1000.0).contains(&thousandths) {
            true => Ok(Self(thousandths as u32)),
            false => Err(format!("{percent}: a size is from 0.1 to 100 %, in steps of 0.1 %")),
        }
    }
}

/// How large caches are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Size {
    Share(Share),
    Entries(usize),
}

impl Size {
    fn all(origin: Origin, shares: &[Share]) -> Vec<Self> {
        match origin {
            Origin::Small => vec![Self::Entries(SMALL)],
            _ => shares.iter().copied().map(Self::Share).collect(),
        }
    }

    fn entries(self, trace: &Trace) -> usize {
        match self {
            Self::Share(Share(thousandths)) => {
                (u64::from(trace.footprint) * u64::from(thousandths) / 1000) as usize
            }
            Self::Entries(entries) => entries,
        }
    }
}

impl fmt::Display for Size {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::Share(Share(thousandths)) => {
                write!(formatter, "{} %", f64::from(thousandths) / 10.0)
            }
            Self::Entries(entries) => write!(formatter, "{entries} entries"),
        }
    }
}

/// What came of a trace in one cache of one size.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Outcome {
    pub(crate) hits: usize,
    /// The entries in the end; `None` of the optimum.
    pub(crate) held: Option<usize>,
}

/// One cache of one size.
#[derive(Debug)]
struct Run {
    contender: &'static Contender,
    size: usize,
}

pub(crate) fn take(
    traces: Vec<Trace>,
    shares: &[Share],
    contenders: &[&'static Contender],
) -> Result<Report, Box<dyn Error>> {
    let plans: Vec<_> = traces.iter().map(|trace| sizes(trace, shares)).collect();
    let planned = traces.iter().zip(&plans);
    let requests = planned.map(|(trace, plan)| trace.requests.len() * plan.len()).sum::<usize>();
    let bar = ProgressBar::new((requests * contenders.len()) as u64);
    bar.set_style(ProgressStyle::with_template(
        "{wide_bar} {percent} % {elapsed} of ~{duration} {msg}",
    )?);
    let mut lines = Vec::new();
    for (number, (trace, plan)) in traces.iter().zip(plans).enumerate() {
        bar.set_message(trace.name.clone());
        if bar.is_hidden() {
            eprintln!("{}", trace.name);
        }
        let runs = plan.iter().flat_map(|&(_, size)| {
            contenders.iter().map(move |&contender| Run { contender, size })
        });
        let outcomes = replay(trace, &runs.collect::<Vec<_>>(), &bar);
        for (&(size, entries), outcomes) in plan.iter().zip(outcomes.chunks(contenders.len())) {
            lines.push(Line { trace: number, size, entries, outcomes: outcomes.to_vec() });
        }
    }
    bar.finish_and_clear();
    Ok(Report { contenders: contenders.to_vec(), traces, lines })
}

/// The sizes for a trace, also in entries.
fn sizes(trace: &Trace, shares: &[Share]) -> Vec<(Size, usize)> {
    let sizes = Size::all(trace.origin, shares).into_iter();
    let sizes = sizes.map(|size| (size, size.entries(trace)));
    sizes.filter(|&(_, entries)| entries >= LEAST).collect()
}

/// Takes the runs of one trace, and returns what came of each.
fn replay(trace: &Trace, runs: &[Run], bar: &ProgressBar) -> Vec<Outcome> {
    let left = Mutex::new(runs.iter().enumerate());
    let next = || left.lock().expect("no panic under the lock").next();
    let work = || {
        let mut outcomes = Vec::new();
        while let Some((number, run)) = next() {
            outcomes.push((number, (run.contender.measure)(trace, run.size)));
            bar.inc(trace.requests.len() as u64);
        }
        outcomes
    };
    let mut outcomes = thread::scope(|scope| {
        let threads: Vec<_> = (0..THREADS).map(|_| scope.spawn(work)).collect();
        let outcomes = threads.into_iter().map(|thread| thread.join().expect("no cache panics"));
        outcomes.flatten().collect::<Vec<_>>()
    });
    outcomes.sort_by_key(|&(number, _)| number);
    outcomes.into_iter().map(|(_, outcome)| outcome).collect()
}
