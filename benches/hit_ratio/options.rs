//! The command line.

use std::error::Error;
use std::path::PathBuf;

use crate::common::arguments::{list, root};
use crate::contenders::{CONTENDERS, Contender};
use crate::runs::Share;
use crate::synthetic;

/// The recorded trace that is in the repository.
const RECORDED: &str = "benches/hit_ratio/traces/cache2k_web07.gz";

/// What the program is asked for.
#[derive(Debug)]
pub(crate) enum Asked {
    /// `cargo test --benches` only wants to know that it starts.
    Nothing,
    HitRatios(Options),
}

/// What is measured, and of what.
#[derive(Debug)]
pub(crate) struct Options {
    /// Names of synthetic traces, and paths.
    pub(crate) traces: Vec<String>,
    pub(crate) shares: Vec<Share>,
    pub(crate) contenders: Vec<&'static Contender>,
    /// Where files go; `None` to write none.
    pub(crate) out: Option<PathBuf>,
}

pub(crate) fn parse(arguments: &[String]) -> Result<Asked, Box<dyn Error>> {
    // `cargo bench` says so.
    if !arguments.iter().any(|argument| argument == "--bench") {
        return Ok(Asked::Nothing);
    }
    let mut options = Options {
        traces: Vec::new(),
        shares: [1, 10, 100, 300].map(Share::of_thousand).to_vec(),
        contenders: CONTENDERS.iter().collect(),
        out: Some(root().join("docs")),
    };
    // A part of the measurements must not replace the page of all.
    let (mut everything, mut out) = (true, None);
    let mut words = arguments.iter();
    while let Some(word) = words.next() {
        let mut value = || words.next().ok_or_else(|| format!("{word} needs a value after it"));
        match word.as_str() {
            "--bench" => continue,
            "--out" => out = Some(root().join(value()?)),
            "--no-write" => options.out = None,
            "--sizes" => (options.shares, everything) = (list(value()?, str::parse)?, false),
            "--caches" => (options.contenders, everything) = (list(value()?, contender)?, false),
            _ if word.starts_with("--") => return Err(format!("unknown argument {word}").into()),
            _ => {
                options.traces.push(word.clone());
                everything = false;
            }
        }
    }
    if options.traces.is_empty() {
        options.traces = default_traces();
    }
    options.out = out.or(options.out.filter(|_| everything));
    Ok(Asked::HitRatios(options))
}

fn default_traces() -> Vec<String> {
    let recorded = root().join(RECORDED).is_file().then_some(RECORDED);
    recorded.into_iter().chain(synthetic::NAMES).map(str::to_owned).collect()
}

fn contender(name: &str) -> Result<&'static Contender, String> {
    let names: Vec<_> = CONTENDERS.iter().map(|contender| contender.name).collect();
    let contender = CONTENDERS.iter().find(|contender| contender.name == name);
    contender.ok_or_else(|| format!("no cache is called {name}; there are {}", names.join(", ")))
}
