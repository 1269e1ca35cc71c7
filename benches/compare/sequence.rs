//! The order in which keys are asked for.

use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};
use rand_distr::{Distribution, Zipf};

use crate::workload::Workload;

/// Which of a row's keys are asked for.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Order {
    /// By Zipf's law with exponent 1.
    Zipf,
    /// All with the same probability.
    Uniform,
    /// One after the other: none is asked for again before all others were.
    Cycle,
}

/// Steps that are made before the clock starts, so that a call's key costs next to nothing.
#[derive(Debug)]
pub(crate) struct Sequence<W: Workload> {
    keys: Vec<W::Key>,
    steps: Vec<W::Step>,
}

/// A part of a sequence, which goes on at the beginning where the sequence ends.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Walk {
    first: usize,
    steps: usize,
}

/// Where the next pass begins: a short one that began where the last one did would ask for the same few
/// keys, and find them all.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Cursor(usize);

impl Cursor {
    /// Shares the next steps out evenly.
    pub(crate) fn advance(&mut self, steps: usize, threads: usize) -> Vec<Walk> {
        let share = steps.div_ceil(threads);
        let first = self.0;
        self.0 += share * threads;
        let walk = |thread| Walk { first: first + thread * share, steps: share };
        (0..threads).map(walk).collect()
    }
}

impl Walk {
    pub(crate) fn steps(self) -> usize {
        self.steps
    }
}

impl<W: Workload> Sequence<W> {
    /// The same for every peer and every run.
    pub(crate) fn new(order: Order, keys: u64, steps: usize) -> Self {
        let mut random = SmallRng::seed_from_u64(42);
        let zipf = Zipf::new(keys as f64, 1.0).expect("a valid distribution");
        let number = |position: usize| match order {
            Order::Zipf => (zipf.sample(&mut random) as u64).clamp(1, keys) - 1,
            Order::Uniform => random.random_range(0..keys),
            Order::Cycle => position as u64 % keys,
        };
        let steps = (0..steps).map(number).map(W::step).collect();
        Self { keys: (0..keys).map(W::key).collect(), steps }
    }

    pub(crate) fn keys(&self) -> &[W::Key] {
        &self.keys
    }

    /// The keys of a walk, run by run, so that a step has no end of the sequence to look out for.
    pub(crate) fn runs(&self, walk: Walk) -> impl Iterator<Item = impl Iterator<Item = &W::Key>> {
        let (mut first, mut left) = (walk.first % self.steps.len(), walk.steps);
        std::iter::from_fn(move || {
            let run = &self.steps[first..self.steps.len().min(first + left)];
            (first, left) = (0, left - run.len());
            (!run.is_empty()).then(|| run.iter().map(|step| W::resolve(&self.keys, step)))
        })
    }
}
