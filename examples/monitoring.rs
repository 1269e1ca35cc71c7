//! What the cache tells about itself: hit rate, memory, configuration.

use std::time::Duration;

use async_lru::AsyncLru;

async fn expensive_computation((data, iterations): (String, u32)) -> String {
    tokio::time::sleep(Duration::from_micros(100) * iterations).await;
    format!("processed_{data}_x{iterations}")
}

#[tokio::main]
async fn main() {
    let computed = AsyncLru::builder()
        .maxsize(1_000)
        .ttl(Duration::from_secs(3_600))
        .deep_size()
        .wrap(expensive_computation);
    let compute = |data: &str, iterations| computed.call((data.to_owned(), iterations));

    // Twice the same four calls. The first time, the third of them finds the
    // first one's load under way and shares it; the second time all are hits.
    for _ in 0..2 {
        let results = tokio::join!(
            compute("dataset1", 100),
            compute("dataset2", 200),
            compute("dataset1", 100),
            compute("dataset3", 150),
        );
        assert_eq!(results.0, "processed_dataset1_x100");
        assert_eq!(results.0, results.2);
    }

    let stats = computed.stats();
    println!("Statistics");
    println!("  entries       {} of {}", stats.current_size, computed.info().maxsize);
    println!("  hits          {}", stats.hits);
    println!("  misses        {}", stats.misses);
    println!("  coalesced     {}", stats.coalesced);
    println!("  hit rate      {:.2} %", stats.hit_rate() * 100.0);
    println!("  memory        {}", stats.total_size_in_memory_pretty);
    println!("  in one line   {stats}");
    assert_eq!((stats.hits, stats.misses, stats.coalesced), (4, 3, 1));
    assert_eq!(stats.hit_rate(), 0.625);
    assert_eq!((stats.current_size, stats.max_size), (3, Some(1_000)));
    assert!(stats.total_size_in_memory_bytes > 0);

    let info = computed.info();
    println!("\nConfiguration");
    println!("  entries       at most {}", info.maxsize);
    println!("  time to live  {:?}", info.ttl);
    println!("  shards        {}", info.shards);
    println!("  in one line   {info}");
    assert_eq!(info.maxsize, 1_000);
    assert_eq!(info.ttl, Some(Duration::from_secs(3_600)));
}
