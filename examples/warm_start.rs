//! A cache that survives a restart: written to disk by one process, read by the next.
//!
//! Both are played by this program. The time is its own, by a [`ManualClock`]; a service leaves
//! `.clock(..)` out, and tells how long it was down by the wall clock.

use std::error::Error;
use std::fs::{self, File};
use std::io::{BufReader, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use async_lru::{AsyncLru, ManualClock, Saved};
use serde::{Deserialize, Serialize};

const MINUTE: Duration = Duration::from_secs(60);

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Article {
    title: String,
    words: u32,
}

type Articles = AsyncLru<String, Article>;

fn articles(clock: &ManualClock) -> Articles {
    AsyncLru::builder().maxsize(100).ttl(10 * MINUTE).clock(clock.clone()).build()
}

/// Stands for a page that takes its time to come.
async fn fetch(title: &str) -> Article {
    futures_lite::future::yield_now().await;
    Article { title: title.to_owned(), words: 100 * title.len() as u32 }
}

async fn read(cache: &Articles, title: &str) -> Article {
    cache.get_or_insert_with_ref(title, || fetch(title)).await
}

/// Writes what is in the cache, least recently used first, and until when.
fn save(cache: &Articles, path: &Path) -> Result<(), Box<dyn Error>> {
    // Under another name first, so that a crash leaves the older file whole.
    let unfinished = path.with_extension("tmp");
    let mut file = BufWriter::new(File::create(&unfinished)?);
    serde_json::to_writer(&mut file, &cache.snapshot_with_ttl())?;
    file.flush()?;
    fs::rename(unfinished, path)?;
    Ok(())
}

/// Reads it back, `later`.
async fn load(cache: &Articles, path: &Path, later: Duration) -> Result<usize, Box<dyn Error>> {
    let file = BufReader::new(File::open(path)?);
    let mut entries: Vec<Saved<String, Article>> = serde_json::from_reader(file)?;
    // Time has gone on while nobody ran. What is left with no time is skipped.
    for entry in &mut entries {
        let times = [&mut entry.time_left, &mut entry.idle_left];
        for left in times.into_iter().flatten() {
            *left = left.saturating_sub(later);
        }
    }
    Ok(cache.restore(entries).await)
}

/// A directory that is removed with all that is in it.
struct TemporaryDirectory(PathBuf);

impl TemporaryDirectory {
    fn new() -> Result<Self, Box<dyn Error>> {
        let path = std::env::temp_dir().join(format!("warm_start-{}", std::process::id()));
        fs::create_dir_all(&path)?;
        Ok(Self(path))
    }
}

impl Drop for TemporaryDirectory {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_dir_all(&self.0) {
            eprintln!("{} was not removed: {error}", self.0.display());
        }
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    futures_lite::future::block_on(run())
}

async fn run() -> Result<(), Box<dyn Error>> {
    let directory = TemporaryDirectory::new()?;
    let path = directory.0.join("articles.json");

    // The first process reads three articles, one of them eight minutes before the end.
    let clock = ManualClock::new();
    let before = articles(&clock);
    read(&before, "Ferrets").await;
    clock.advance(8 * MINUTE);
    read(&before, "Otters").await;
    let stoats = read(&before, "Stoats").await;
    save(&before, &path)?;
    println!("saved {} articles", before.len());

    // The second one starts three minutes later, when the first article is out of date.
    let clock = ManualClock::new();
    let after = articles(&clock);
    let restored = load(&after, &path, 3 * MINUTE).await?;
    println!("restored {restored}");
    assert_eq!(restored, 2);
    assert_eq!(after.keys(), ["Otters", "Stoats"]);

    assert_eq!(read(&after, "Stoats").await, stoats);
    let stats = after.stats();
    println!("hits {}, loads {}", stats.hits, stats.loads);
    assert_eq!((stats.hits, stats.loads), (1, 0));

    // They keep the seven minutes that they had left.
    clock.advance(7 * MINUTE);
    assert_eq!(after.keys().len(), 0);
    read(&after, "Stoats").await;
    assert_eq!(after.stats().loads, 1);
    Ok(())
}
