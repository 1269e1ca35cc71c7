//! What a child process tells its parent, in one line.

use std::fmt;
use std::str::FromStr;

/// One peer in one row with one number of threads.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Measurement {
    /// In the unit of the row; less is better.
    pub(crate) cost: f64,
    /// Loads, or `get`s that found nothing, per 1,000 calls; of a stampede, its loads.
    pub(crate) loads: Option<f64>,
    /// Entries held in the end.
    pub(crate) entries: Option<f64>,
}

impl Measurement {
    pub(crate) fn of(cost: f64) -> Self {
        Self { cost, ..Self::default() }
    }
}

impl fmt::Display for Measurement {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "cost {}", self.cost)?;
        if let Some(loads) = self.loads {
            write!(formatter, " loads {loads}")?;
        }
        if let Some(entries) = self.entries {
            write!(formatter, " entries {entries}")?;
        }
        Ok(())
    }
}

impl FromStr for Measurement {
    type Err = String;

    /// Skips what it does not know: the child may be of another version.
    fn from_str(line: &str) -> Result<Self, String> {
        let words: Vec<_> = line.split_whitespace().collect();
        let value = |name: &str| {
            let pair = words.chunks_exact(2).find(|pair| pair[0] == name);
            pair.map(|pair| pair[1].parse::<f64>()).transpose()
        };
        let read = || {
            let (cost, loads, entries) = (value("cost")?, value("loads")?, value("entries")?);
            Ok(cost.map(|cost| Self { cost, loads, entries }))
        };
        let measurement = read().map_err(|error: std::num::ParseFloatError| error.to_string())?;
        measurement.ok_or_else(|| format!("no cost in what a child said: {line:?}"))
    }
}
