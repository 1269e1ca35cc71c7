//! Synthetic traces, the same ones in every run.

/// How the names of the small traces begin.
pub(crate) const SMALL: &str = "t-";

/// The traces that are replayed unless some are named. [`generate`] knows those of other numbers too.
pub(crate) const NAMES: [&str; 15] = [
    "zipf0.7",
    "zipf0.9",
    "zipf1.1",
    "shift",
    "drift",
    "scanzipf",
    "loop",
    "loopzipf",
    "recent",
    "t-zipf",
    "t-loop",
    "t-scan",
    "t-tw300",
    "t-shift",
    "t-loopzipf",
];

/// How long a trace is.
#[derive(Clone, Copy)]
struct Extent {
    requests: usize,
    /// The keys of Zipf's law. Keys of other kinds have the numbers from here on.
    keys: u32,
}

const FULL: Extent = Extent { requests: 2_000_000, keys: 100_000 };
const TENTH: Extent = Extent { requests: 200_000, keys: 10_000 };

/// The keys of the trace of that name, if there is one:
///
/// - `zipf0.9`: Zipf's law with that exponent; `t-zipf` has 1.
/// - `shift`: Zipf's law with exponent 1, whose keys change their ranks ten times; in `t-shift` they
///   make room for new ones.
/// - `drift`: Zipf's law with exponent 0.9, where every 50 requests the first key gives way to a new
///   last one.
/// - `scanzipf`, `t-scan`: Zipf's law with exponent 0.9, interrupted by scans of new keys.
/// - `loop`, `t-loop`: so many keys in turn.
/// - `loopzipf`, `t-loopzipf`: half of the requests each, by chance, are of a loop and of Zipf's law
///   with exponent 0.9.
/// - `recent`: two in five keys are new; the others were asked for not long ago.
/// - `t-tw300`: every key twice, at a distance of twice that many requests.
pub(crate) fn generate(name: &str) -> Option<Vec<u32>> {
    Some(match name {
        "shift" => shift(FULL),
        "drift" => drift(FULL),
        "scanzipf" => scans(FULL),
        "loop" => cycle(FULL.requests / 2, 10_000),
        "loopzipf" => loop_and_zipf(FULL),
        "recent" => recent(FULL.requests / 2),
        "t-zipf" => zipf(TENTH, 1.0),
        "t-loop" => cycle(TENTH.requests, 2_000),
        "t-scan" => scans(TENTH),
        "t-shift" => renewal(TENTH),
        "t-loopzipf" => loop_and_zipf(TENTH),
        _ => {
            if let Some(exponent) = name.strip_prefix("zipf") {
                zipf(FULL, exponent.parse().ok()?)
            } else {
                twice(TENTH.requests / 2, name.strip_prefix("t-tw")?.parse().ok()?)
            }
        }
    })
}

fn zipf(Extent { requests, keys }: Extent, exponent: f64) -> Vec<u32> {
    let (zipf, mut random) = (Zipf::new(keys, exponent), Random::new());
    (0..requests).map(|_| zipf.rank(random.share())).collect()
}

fn shift(Extent { requests, keys }: Extent) -> Vec<u32> {
    let (zipf, mut random) = (Zipf::new(keys, 1.0), Random::new());
    let mut key = |request| {
        let phase = (request / (requests / 10)) as u32;
        let rank = zipf.rank(random.share());
        let mixed = mix(rank.wrapping_mul(31).wrapping_add(phase * 7_777_777));
        (mixed % u64::from(keys)) as u32
    };
    (0..requests).map(&mut key).collect()
}

fn renewal(Extent { requests, keys }: Extent) -> Vec<u32> {
    let (zipf, mut random) = (Zipf::new(keys, 1.0), Random::new());
    let phase = |request| (request / (requests / 10)) as u32;
    (0..requests).map(|request| zipf.rank(random.share()) + phase(request) * keys).collect()
}

fn drift(Extent { requests, keys }: Extent) -> Vec<u32> {
    let (zipf, mut random) = (Zipf::new(keys, 0.9), Random::new());
    (0..requests as u32).map(|request| zipf.rank(random.share()) + request / 50).collect()
}

/// As many requests by Zipf's law as it has keys, then a scan of three tenths of that.
fn scans(Extent { requests, keys }: Extent) -> Vec<u32> {
    let (zipf, mut random) = (Zipf::new(keys, 0.9), Random::new());
    let mut trace = Vec::with_capacity(requests);
    let mut scanned = keys;
    while trace.len() < requests {
        // The trace may end in the midst of these, but not in the midst of a scan.
        let rest = (requests - trace.len()).min(keys as usize);
        trace.extend((0..rest).map(|_| zipf.rank(random.share())));
        if rest == keys as usize {
            trace.extend(scanned..scanned + keys / 10 * 3);
            scanned += keys / 10 * 3;
        }
    }
    trace
}

fn cycle(requests: usize, keys: u32) -> Vec<u32> {
    (0..requests as u32).map(|request| request % keys).collect()
}

fn loop_and_zipf(Extent { requests, keys }: Extent) -> Vec<u32> {
    let (zipf, mut random) = (Zipf::new(keys, 0.9), Random::new());
    let mut turn = 0;
    let mut key = |_| {
        if random.share() < 0.5 {
            return zipf.rank(random.share());
        }
        turn += 1;
        keys + turn % (keys / 5)
    };
    (0..requests).map(&mut key).collect()
}

fn recent(requests: usize) -> Vec<u32> {
    let mut random = Random::new();
    let (mut trace, mut new) = (vec![0], 1);
    for _ in 0..requests {
        if random.share() < 0.4 {
            trace.push(new);
            new += 1;
        } else {
            let distance = (random.share().powi(3) * 20_000.0) as usize;
            trace.push(trace[trace.len().saturating_sub(1 + distance)]);
        }
    }
    trace
}

fn twice(pairs: usize, distance: u32) -> Vec<u32> {
    (0..pairs as u32).flat_map(|number| [number + distance, number]).collect()
}

/// Ranks by Zipf's law.
struct Zipf {
    /// The shares of all requests that go to the ranks up to each.
    shares: Vec<f64>,
}

impl Zipf {
    fn new(keys: u32, exponent: f64) -> Self {
        let mut sum = 0.0;
        let add = |rank| {
            sum += 1.0 / f64::from(rank).powf(exponent);
            sum
        };
        let mut shares: Vec<_> = (1..=keys).map(add).collect();
        for share in &mut shares {
            *share /= sum;
        }
        Self { shares }
    }

    /// The rank, from zero, at that share of all requests.
    fn rank(&self, share: f64) -> u32 {
        let rank = self.shares.partition_point(|&upto| upto < share);
        rank.min(self.shares.len() - 1) as u32
    }
}

/// Marsaglia's xorshift, of 64 bits.
struct Random(u64);

impl Random {
    fn new() -> Self {
        Self(0x853c_49e6_748f_ea9b)
    }

    /// A number from 0 to less than 1.
    fn share(&mut self) -> f64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) as f64 / (1_u64 << 53) as f64
    }
}

/// The finisher of SplitMix64, by which keys that follow one another lie apart.
fn mix(key: u32) -> u64 {
    let mut mixed = u64::from(key).wrapping_add(0x9e37_79b9_7f4a_7c15);
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}
