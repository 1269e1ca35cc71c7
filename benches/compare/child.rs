//! The child process: one peer in one row with one number of threads, and nothing else in its memory.

use std::error::Error;
use std::ops::Range;
use std::time::Duration;
use std::{process, thread};

use crate::footprint::Footprint;
use crate::measurement::Measurement;
use crate::passes::Passes;
use crate::peers::{self, Cache, Measure};
use crate::rows::{Loader, Question, Row, Types};
use crate::stampede::Stampede;
use crate::workload::{AtOnce, Numbers, Spin, Strings, Workload, Yield};

/// What a child is asked to measure.
#[derive(Clone, Debug)]
pub(crate) struct Job {
    pub(crate) row: &'static Row,
    pub(crate) peer: String,
    pub(crate) threads: usize,
    pub(crate) effort: Effort,
}

impl Job {
    /// The command line that asks for it: what [`options::parse`](crate::options::parse) reads.
    pub(crate) fn arguments(&self) -> Vec<String> {
        let (row, threads) = (self.row.name.to_owned(), self.threads.to_string());
        let mut arguments = vec!["--child".to_owned(), row, self.peer.clone(), threads];
        if self.effort == Effort::Quick {
            arguments.push("--quick".to_owned());
        }
        arguments
    }
}

/// How much a child does for a number.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Effort {
    Full,
    Quick,
}

impl Effort {
    /// Calls of a pass, of all threads together.
    pub(crate) fn steps(self) -> usize {
        match self {
            Self::Full => 500_000,
            Self::Quick => 100_000,
        }
    }

    /// Steps after which the sequence begins anew: more than a pass has, or the processor would come to
    /// know them by heart.
    pub(crate) fn sequence(self) -> usize {
        match self {
            Self::Full => 1_000_000,
            Self::Quick => 400_000,
        }
    }

    /// How many passes are timed.
    pub(crate) fn passes(self) -> usize {
        match self {
            Self::Full => 5,
            Self::Quick => 3,
        }
    }

    /// How long a pass should take at least and at most.
    pub(crate) fn pass(self) -> Range<Duration> {
        match self {
            Self::Full => Duration::from_millis(20)..Duration::from_millis(200),
            Self::Quick => Duration::from_millis(5)..Duration::from_millis(40),
        }
    }
}

/// No peer needs so long; one that does has lost a wake-up.
const STUCK: Duration = Duration::from_secs(120);

/// Does the job and prints what came of it: a line, or nothing where there is nothing to measure.
pub(crate) fn run(job: &Job) -> Result<(), Box<dyn Error>> {
    thread::spawn(|| {
        thread::sleep(STUCK);
        eprintln!("stuck");
        process::exit(2);
    });
    if let Some(measurement) = measure(job)? {
        println!("{measurement}");
    }
    Ok(())
}

fn measure(job: &Job) -> Result<Option<Measurement>, String> {
    let name = job.peer.as_str();
    let effort = job.effort;
    let measured = match job.row.question {
        Question::Calls(calls) => {
            let passes = Passes { calls, threads: job.threads, effort };
            match (calls.types, calls.loader) {
                (Types::Strings, _) => peers::measure::<Strings, _>(name, &passes),
                (Types::Numbers, Loader::AtOnce) => {
                    peers::measure::<Numbers<AtOnce>, _>(name, &passes)
                }
                (Types::Numbers, Loader::Spin) => peers::measure::<Numbers<Spin>, _>(name, &passes),
            }
            .map(Some)
        }
        Question::Stampede => {
            peers::measure::<Numbers<Yield>, _>(name, &Stampede(effort)).map(Some)
        }
        Question::Footprint(Types::Numbers) => {
            peers::measure::<Numbers<AtOnce>, _>(name, &Footprint)
        }
        Question::Footprint(Types::Strings) => peers::measure::<Strings, _>(name, &Footprint),
        Question::FutureSize => peers::measure::<Numbers<AtOnce>, _>(name, &FutureSize),
    };
    measured.ok_or_else(|| format!("no peer is called {name}"))
}

struct FutureSize;

impl<W: Workload> Measure<W> for FutureSize {
    type Output = Option<Measurement>;

    fn measure<C: Cache<W>>(&self) -> Option<Measurement> {
        C::future_size().map(|size| Measurement::of(size as f64))
    }
}
