//! The cores that threads are fixed to.

/// Fixes this thread to a core of those that the process may use, in turn, so that the scheduler moves
/// no thread in the middle of a pass, nor runs two on one core while another is idle.
#[cfg(target_os = "linux")]
pub(crate) fn pin(thread: usize) {
    use rustix::thread::{CpuSet, sched_setaffinity};

    let allowed = allowed();
    let Some(&core) = allowed.get(thread % allowed.len().max(1)) else { return };
    let mut only = CpuSet::new();
    only.set(core);
    // Where it is not permitted, the scheduler's choice has to do.
    let _ = sched_setaffinity(None, &only);
}

/// Other systems are left to choose.
#[cfg(not(target_os = "linux"))]
pub(crate) fn pin(_thread: usize) {}

/// Those of the first thread to ask, which is not fixed to one of them yet.
#[cfg(target_os = "linux")]
fn allowed() -> &'static [usize] {
    use std::sync::OnceLock;

    use rustix::thread::{CpuSet, sched_getaffinity};

    static ALLOWED: OnceLock<Vec<usize>> = OnceLock::new();
    ALLOWED.get_or_init(|| match sched_getaffinity(None) {
        Ok(set) => (0..CpuSet::MAX_CPU).filter(|&core| set.is_set(core)).collect(),
        Err(_) => Vec::new(),
    })
}

/// How many there are.
pub(crate) fn count() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}
