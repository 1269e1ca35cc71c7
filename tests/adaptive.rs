//! The adaptive order of eviction: what it keeps, what it costs, and that it goes with everything else.

#[path = "common/traffic.rs"]
mod traffic;

use async_lru::{AsyncLru, Eviction};

/// The part of requests that a cache in one shard answers without a load.
fn hit_ratio(eviction: Eviction, maxsize: usize, requests: &[u32]) -> f64 {
    let builder = AsyncLru::<u32, ()>::builder().maxsize(maxsize).shards(1);
    let cache = builder.eviction(eviction).build();
    for key in requests {
        if cache.get(key).is_none() {
            cache.insert_blocking(*key, ());
        }
    }
    assert_eq!((cache.validate(), cache.len()), (0, maxsize));
    cache.stats().hits as f64 / requests.len() as f64
}

#[test]
fn it_keeps_what_simulation_says_of_every_kind_of_traffic() {
    for ((name, make), (lru, adaptive)) in traffic::KINDS.into_iter().zip(SIMULATED) {
        let requests = make();
        let measured = [Eviction::Lru, Eviction::Adaptive]
            .map(|eviction| hit_ratio(eviction, 1_000, &requests));
        println!("{name}: {measured:.3?}, simulated {lru} {adaptive}");
        assert!((measured[0] - lru).abs() < 0.002, "{name}: {measured:?}");
        assert!((measured[1] - adaptive).abs() < 0.015, "{name}: {measured:?}");
    }
}

/// Of each kind the ratios of least recently used and of adaptive in the simulation that the policy comes from.
const SIMULATED: [(f64, f64); 6] =
    [(0.671, 0.735), (0.0, 0.482), (0.413, 0.489), (0.499, 0.494), (0.661, 0.662), (0.213, 0.404)];
