//! The parent process: starts the children, one at a time, the peers in turn.

use std::env;
use std::error::Error;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use indicatif::{ProgressBar, ProgressStyle};

use crate::child::Job;
use crate::cores;
use crate::measurement::Measurement;
use crate::options::Options;
use crate::peers::{About, OURS};
use crate::report::{Contender, Line, Report};
use crate::rows::{Question, Row};

/// Measures all that is asked for. What the machine does meanwhile hits all peers of a row alike, as
/// they follow one another, and hardly the same row in every round.
pub(crate) fn take(options: &Options) -> Result<Report, Box<dyn Error>> {
    let contenders = contenders(&options.peers, options.against.as_deref());
    let mut lines = lines(&options.rows, &options.threads, contenders.len());
    let own = env::current_exe()?;
    let bar = ProgressBar::new((options.rounds * lines.len() * contenders.len()) as u64);
    bar.set_style(ProgressStyle::with_template(
        "{wide_bar} {pos}/{len} {elapsed} of ~{duration} {msg}",
    )?);
    for round in 0..options.rounds {
        for line in &mut lines {
            let threads = line.threads.unwrap_or(1);
            if bar.is_hidden() {
                eprintln!("round {}: {}, threads: {threads}", round + 1, line.row.name);
            }
            for (contender, best) in contenders.iter().zip(&mut line.best) {
                bar.set_message(format!("{}: {}", line.row.name, contender.title));
                // What is counted, not timed, is the same in every round.
                if line.row.suits(&contender.about) && (round == 0 || line.row.is_timed()) {
                    let peer = contender.about.name.to_owned();
                    let job = Job { row: line.row, peer, threads, effort: options.effort };
                    let program = contender.program.as_deref().unwrap_or(&own);
                    match start(program, &job) {
                        Ok(measured) => keep_less(best, measured),
                        Err(error) => bar.suspend(|| {
                            eprintln!("{} in {}: {error}", contender.title, line.row.name);
                        }),
                    }
                }
                bar.inc(1);
            }
        }
    }
    bar.finish_and_clear();
    let Options { rounds, effort, .. } = *options;
    Ok(Report { cores: cores::count(), contenders, lines, rounds, effort })
}

fn contenders(peers: &[About], against: Option<&Path>) -> Vec<Contender> {
    let mut contenders = Vec::new();
    for &about in peers {
        let mut add = |title: &str, program: Option<PathBuf>| {
            contenders.push(Contender { about, title: title.to_owned(), program });
        };
        add(about.name, None);
        if let Some(program) = against.filter(|_| about.name == OURS) {
            add(&format!("{OURS} before"), Some(program.to_owned()));
        }
    }
    contenders
}

fn lines(rows: &[&'static Row], threads: &[usize], contenders: usize) -> Vec<Line> {
    let mut lines = Vec::new();
    for &row in rows {
        let mut add = |threads| lines.push(Line { row, threads, best: vec![None; contenders] });
        match row.question {
            Question::Calls(_) => threads.iter().for_each(|&threads| add(Some(threads))),
            Question::Stampede => add(Some(1)),
            Question::Footprint(_) | Question::FutureSize => add(None),
        }
    }
    lines
}

/// Runs a child to its end. It may have nothing to say.
fn start(program: &Path, job: &Job) -> Result<Option<Measurement>, Box<dyn Error>> {
    let output = Command::new(program).args(job.arguments()).stderr(Stdio::inherit()).output()?;
    if !output.status.success() {
        return Err(output.status.to_string().into());
    }
    let text = String::from_utf8(output.stdout)?;
    Ok(text.lines().next().map(str::parse).transpose()?)
}

fn keep_less(best: &mut Option<Measurement>, measured: Option<Measurement>) {
    let both = best.iter().chain(&measured).copied();
    *best = both.min_by(|a, b| a.cost.total_cmp(&b.cost));
}
