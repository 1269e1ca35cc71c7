//! Runs a model in all its executions.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use loom::model::Builder;
use loom::thread;

use crate::witness::{Cache, Loads, Mint};

/// Executions of all models so far.
static EXPLORED: AtomicUsize = AtomicUsize::new(0);

/// How much of a model is searched.
#[derive(Clone, Copy, Debug)]
pub enum Extent {
    /// All of it.
    Whole,
    /// The executions that take the processor from a running thread no more than three times.
    ThreePreemptions,
}

/// Runs `model` in all executions of this extent.
pub fn explore(extent: Extent, model: fn()) {
    let executions = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&executions);
    let mut builder = Builder::new();
    builder.max_branches = 10_000;
    builder.preemption_bound = match extent {
        Extent::Whole => None,
        Extent::ThreePreemptions => Some(3),
    };
    builder.check(move || {
        counted.fetch_add(1, Ordering::Relaxed);
        model();
    });
    let explored = executions.load(Ordering::Relaxed);
    let all = EXPLORED.fetch_add(explored, Ordering::Relaxed) + explored;
    let name = std::thread::current().name().map(str::to_owned).unwrap_or_default();
    println!("{explored} of {name} ({extent:?}); executions explored: {all}");
}

/// What the threads of a model share.
pub struct World {
    pub cache: Cache,
    pub mint: Mint,
    pub loads: Arc<Loads>,
}

impl World {
    /// A cache with an entry for each of `keys`.
    pub fn new(cache: Cache, keys: impl IntoIterator<Item = u32>) -> Arc<Self> {
        let mint = Mint::default();
        mint.fill(&cache, keys);
        Arc::new(Self { cache, mint, loads: Arc::default() })
    }
}

/// Runs each part on a thread, the first on the one that is here, and returns what they return.
pub fn at_once<R: 'static, const N: usize>(
    world: &Arc<World>,
    parts: [fn(&World) -> R; N],
) -> [R; N] {
    let start = |part: &fn(&World) -> R| {
        let (world, part) = (Arc::clone(world), *part);
        thread::spawn(move || part(&world))
    };
    let others: Vec<_> = parts[1..].iter().map(start).collect();
    let first = parts[0](world);
    let mut returned = Some(first).into_iter().chain(others.into_iter().map(|o| o.join().unwrap()));
    std::array::from_fn(|_| returned.next().unwrap())
}

/// Asserts that the cache is whole, and that all values are gone with it.
pub fn close(world: Arc<World>) {
    let World { cache, mint, .. } = Arc::into_inner(world).expect("all threads have ended");
    mint.close(cache);
}
