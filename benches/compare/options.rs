//! The command line.

use std::error::Error;
use std::path::PathBuf;

use crate::child::{Effort, Job};
use crate::common::arguments::{list, root};
use crate::cores;
use crate::peers::{self, About};
use crate::rows::{ROWS, Row};

/// What the program is asked for.
#[derive(Debug)]
pub(crate) enum Asked {
    /// `cargo test --benches` only wants to know that it starts.
    Nothing,
    Comparison(Options),
    Child(Job),
}

/// What is compared, and how.
#[derive(Debug)]
pub(crate) struct Options {
    pub(crate) rows: Vec<&'static Row>,
    pub(crate) threads: Vec<usize>,
    pub(crate) peers: Vec<About>,
    pub(crate) rounds: usize,
    pub(crate) effort: Effort,
    /// Another build of this program.
    pub(crate) against: Option<PathBuf>,
    /// Where files go; `None` to write none.
    pub(crate) out: Option<PathBuf>,
}

pub(crate) fn parse(arguments: &[String]) -> Result<Asked, Box<dyn Error>> {
    if let [child, rest @ ..] = arguments
        && child == "--child"
    {
        return job(rest).map(Asked::Child);
    }
    // `cargo bench` says so.
    if !arguments.iter().any(|argument| argument == "--bench") {
        return Ok(Asked::Nothing);
    }
    let mut options = Options {
        rows: ROWS.iter().collect(),
        threads: up_to_all_cores(),
        peers: peers::all(),
        rounds: 3,
        effort: Effort::Full,
        against: None,
        out: Some(root().join("docs")),
    };
    // A part of the rows must not replace the page of all.
    let (mut everything, mut rounds, mut out) = (true, None, None);
    let mut words = arguments.iter();
    while let Some(word) = words.next() {
        let mut value = || words.next().ok_or_else(|| format!("{word} needs a value after it"));
        match word.as_str() {
            "--bench" => continue,
            "--rounds" => rounds = Some(at_least_one(value()?)?),
            "--out" => out = Some(root().join(value()?)),
            "--no-write" => options.out = None,
            "--quick" => (options.effort, everything) = (Effort::Quick, false),
            "--rows" => (options.rows, everything) = (list(value()?, row)?, false),
            "--threads" => (options.threads, everything) = (list(value()?, at_least_one)?, false),
            "--peers" => (options.peers, everything) = (list(value()?, peer)?, false),
            "--against" => {
                let program = root().join(value()?);
                if !program.is_file() {
                    return Err(format!("no program at {}", program.display()).into());
                }
                (options.against, everything) = (Some(program), false);
            }
            _ => return Err(format!("unknown argument {word}").into()),
        }
    }
    let by_default = if options.effort == Effort::Quick { 1 } else { options.rounds };
    options.rounds = rounds.unwrap_or(by_default);
    options.out = out.or(options.out.filter(|_| everything));
    Ok(Asked::Comparison(options))
}

/// What [`Job::arguments`] writes.
fn job(arguments: &[String]) -> Result<Job, Box<dyn Error>> {
    let [name, peer, threads, rest @ ..] = arguments else {
        return Err("a child needs a row, a peer and a number of threads".into());
    };
    let effort = match rest {
        [quick] if quick == "--quick" => Effort::Quick,
        _ => Effort::Full,
    };
    Ok(Job { row: row(name)?, peer: peer.clone(), threads: at_least_one(threads)?, effort })
}

/// 1, 2, 4 and so on, and as many as there are cores.
fn up_to_all_cores() -> Vec<usize> {
    let cores = cores::count();
    let doubled = std::iter::successors(Some(1), |threads| Some(threads * 2));
    doubled.take_while(|&threads| threads < cores).chain([cores]).collect()
}

fn at_least_one(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(0) => Err("a number must be 1 at least".to_owned()),
        Ok(number) => Ok(number),
        Err(error) => Err(format!("{text}: {error}")),
    }
}

fn row(name: &str) -> Result<&'static Row, String> {
    let names: Vec<_> = ROWS.iter().map(|row| row.name).collect();
    let row = ROWS.iter().find(|row| row.name == name);
    row.ok_or_else(|| format!("no row is called {name}; there are {}", names.join(", ")))
}

fn peer(name: &str) -> Result<About, String> {
    let all = peers::all();
    let names: Vec<_> = all.iter().map(|peer| peer.name).collect();
    let peer = all.iter().find(|peer| peer.name == name).copied();
    peer.ok_or_else(|| format!("no peer is called {name}; there are {}", names.join(", ")))
}
