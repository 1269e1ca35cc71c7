//! What the program is asked to do.

use std::time::Duration;

use crate::executor::Kind;

pub(crate) const HELP: &str = "\
usage: soak [--seconds N] [--executor NAME] [--tasks N] [--failing-keys N]

  --seconds N        how long to go on; 5 by default
  --executor NAME    tokio (the default), tokio-current-thread, smol or async-std
  --tasks N          tasks at a time; 64 by default
  --failing-keys N   instead of random load, N keys each of whose loads fails";

#[derive(Clone, Copy, Debug)]
pub(crate) struct Arguments {
    pub(crate) work: Work,
    pub(crate) executor: Kind,
    pub(crate) tasks: u64,
}

#[derive(Clone, Copy, Debug)]
pub(crate) enum Work {
    RandomLoad(Duration),
    FailingKeys(u64),
}

impl Arguments {
    /// Reads the command line; an error says what is wrong with it.
    pub(crate) fn parse(mut words: impl Iterator<Item = String>) -> Result<Self, String> {
        let mut arguments = Self {
            work: Work::RandomLoad(Duration::from_secs(5)),
            executor: Kind::Tokio,
            tasks: 64,
        };
        while let Some(name) = words.next() {
            let mut value = || words.next().ok_or_else(|| format!("{name} needs a value"));
            match name.as_str() {
                "--seconds" => {
                    arguments.work = Work::RandomLoad(Duration::from_secs(number(&value()?)?));
                }
                "--failing-keys" => arguments.work = Work::FailingKeys(number(&value()?)?),
                "--executor" => arguments.executor = Kind::named(&value()?)?,
                "--tasks" => {
                    arguments.tasks = number(&value()?)?;
                }
                _ => return Err(format!("unknown argument {name}")),
            }
        }
        Ok(arguments)
    }
}

fn number(text: &str) -> Result<u64, String> {
    match text.replace('_', "").parse() {
        Ok(0) => Err("a number must be 1 at least".to_owned()),
        Ok(number) => Ok(number),
        Err(error) => Err(format!("{text}: {error}")),
    }
}
