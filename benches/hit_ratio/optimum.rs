//! The most hits that a cache of some size can have, which takes knowing the requests to come.

use std::collections::BTreeSet;

use crate::runs::Outcome;
use crate::trace::Trace;

/// Counts the hits of Bélády's policy: out goes the entry that is asked for last from now on, or the
/// new one at once if that is it.
pub(crate) fn measure(trace: &Trace, size: usize) -> Outcome {
    // Entries by the request that asks for them next, of which no two have the same.
    let mut entries = BTreeSet::new();
    let mut hits = 0;
    for (request, next) in next_requests(trace).into_iter().enumerate() {
        if entries.remove(&(request as u32)) {
            hits += 1;
        }
        if let Some(next) = next {
            entries.insert(next);
            if entries.len() > size {
                entries.pop_last();
            }
        }
    }
    Outcome { hits, held: None }
}

/// To each request the next one of the same key.
fn next_requests(trace: &Trace) -> Vec<Option<u32>> {
    let mut soonest = vec![None; trace.footprint as usize];
    let backwards = trace.requests.iter().enumerate().rev();
    let mut next: Vec<_> =
        backwards.map(|(request, &key)| soonest[key as usize].replace(request as u32)).collect();
    next.reverse();
    next
}
