//! Requests as they come to caches: made up, each kind hard for one order of eviction or another, and a trace
//! of a real service.

#![allow(dead_code, unreachable_pub, reason = "a module of some test files")]

use std::fs::File;
use std::io::Read;

use flate2::read::GzDecoder;

/// A trace of requests to a web server, of cache2k's benchmark; `NOTICE` beside it says whose it is.
const WEB07: &str =
    concat!(env!("CARGO_MANIFEST_DIR"), "/benches/hit_ratio/traces/cache2k_web07.gz");

/// Requests of one kind.
pub const REQUESTS: usize = 200_000;

/// Keys that are asked for often.
const KEYS: usize = 10_000;

/// A kind of made-up requests: its name, and what makes them.
pub type Kind = (&'static str, fn() -> Vec<u32>);

pub const KINDS: [Kind; 6] = [
    ("zipf", zipf),
    ("loop", cycle),
    ("scan", scans),
    ("twice", twice),
    ("shift", shift),
    ("loop and zipf", cycle_and_zipf),
];

/// The requests of a web server: a number of four bytes each, the lowest first.
pub fn web07() -> Vec<u32> {
    let file = File::open(WEB07).expect("the trace is in the repository");
    let mut bytes = Vec::new();
    GzDecoder::new(file).read_to_end(&mut bytes).expect("the trace is compressed");
    bytes.chunks_exact(4).map(|four| u32::from_le_bytes(four.try_into().unwrap())).collect()
}

/// Some keys more often than others: the k-th with a frequency of one k-th.
fn zipf() -> Vec<u32> {
    let (mut random, zipf) = (Random::new(), Zipf::new(KEYS, 1.0));
    (0..REQUESTS).map(|_| zipf.key(random.next())).collect()
}

/// The same keys again and again, twice as many as there is room for.
fn cycle() -> Vec<u32> {
    (0..REQUESTS as u32).map(|number| number % 2_000).collect()
}

/// Some more often than others, and now and then thousands that nobody asks for again.
fn scans() -> Vec<u32> {
    let (mut random, zipf) = (Random::new(), Zipf::new(KEYS, 0.9));
    let (mut requests, mut next_new) = (Vec::new(), KEYS as u32);
    while requests.len() < REQUESTS {
        requests.extend((0..10_000).map(|_| zipf.key(random.next())));
        requests.extend(next_new..next_new + 3_000);
        next_new += 3_000;
    }
    requests.truncate(REQUESTS);
    requests
}

/// Each key twice, and never again.
fn twice() -> Vec<u32> {
    (0..REQUESTS as u32 / 2).flat_map(|number| [number + 300, number]).collect()
}

/// Some more often than others, others every while.
fn shift() -> Vec<u32> {
    let (mut random, zipf) = (Random::new(), Zipf::new(KEYS, 1.0));
    let keys = |number: u32| number / 20_000 * KEYS as u32;
    (0..REQUESTS as u32).map(|number| zipf.key(random.next()) + keys(number)).collect()
}

/// Half of them some more often than others, and half the same ones again and again.
fn cycle_and_zipf() -> Vec<u32> {
    let (mut random, zipf) = (Random::new(), Zipf::new(KEYS, 0.9));
    let mut turn = 0;
    let mut next = || {
        if random.next() < 0.5 {
            return zipf.key(random.next());
        }
        turn += 1;
        KEYS as u32 + turn % 2_000
    };
    (0..REQUESTS).map(|_| next()).collect()
}

/// Numbers between zero and one: xorshift.
struct Random(u64);

impl Random {
    fn new() -> Self {
        Self(0x853c_49e6_748f_ea9b)
    }

    fn next(&mut self) -> f64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) as f64 / (1_u64 << 53) as f64
    }
}

/// Keys of which the k-th is as frequent as a power of k says.
struct Zipf {
    up_to: Vec<f64>,
}

impl Zipf {
    fn new(keys: usize, exponent: f64) -> Self {
        let mut sum = 0.0;
        let frequency = |k: usize| 1.0 / (k as f64).powf(exponent);
        let sums = (1..=keys).map(|k| {
            sum += frequency(k);
            sum
        });
        let mut up_to: Vec<f64> = sums.collect();
        up_to.iter_mut().for_each(|part| *part /= sum);
        Self { up_to }
    }

    fn key(&self, of: f64) -> u32 {
        self.up_to.partition_point(|part| *part < of).min(self.up_to.len() - 1) as u32
    }
}
