//! What happened between this instance and the store.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};

use async_lru::CacheStats;

use crate::link::Link;
use crate::store::{ErrorKind, StoreError};

/// Counts what happened in a [`Tiered`](crate::Tiered) cache since it was built, and tells how it stands.
///
/// # Examples
///
/// ```
/// use async_lru_tier::{Json, MemoryStore, Tiered};
///
/// # tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(async {
/// let names: Tiered<u64, String> =
///     Tiered::builder(MemoryStore::new(), Json, tokio::time::sleep).build();
/// tokio::spawn(names.driver());
/// names.linked().await;
///
/// names.get(&1, async || "Ann".to_owned()).await;
/// names.get(&1, async || unreachable!()).await;
/// assert_eq!(
///     names.figures().to_string(),
///     "linked, 0 removals pending; 1 local hits, 0 hits in the store, 1 misses, 0 waits; 1 loads, \
///      0 of them alone; 1 put, 0 refused; 0 removed, 0 heard; 0 time-outs, 0 errors",
/// );
/// # });
/// ```
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Figures {
    /// The figures of the local cache. Its loads are looks into the store, and what follows from them.
    pub local: CacheStats,
    /// Whether the store is used now.
    pub linked: bool,
    /// What the store, or a try to connect to it, failed with last; `None` if nothing did since the link
    /// was made.
    pub last_error: Option<ErrorKind>,
    /// Keys that were removed here and not yet in the store.
    pub pending_removals: usize,
    /// Keys that were found in the store.
    pub hits: u64,
    /// Keys that the store did not have, or no longer fresh.
    pub misses: u64,
    /// Times that a key was being loaded elsewhere, and its load waited for: by another instance, or by a call of
    /// this one that failed or was dropped a moment ago and has its lease still to be given back.
    pub waits: u64,
    /// Keys for which a load of this instance was started.
    pub loads: u64,
    /// Those of them that were loaded without the store, and kept for a short time.
    pub loads_alone: u64,
    /// Values that the store took.
    pub puts: u64,
    /// Values that were not kept, as their key was removed during the load, or the load took longer than
    /// the lease.
    pub puts_refused: u64,
    /// Stale values that were given since their load failed.
    pub stale_on_error: u64,
    /// Times that a key was loaded since the bytes in the store could not be decoded.
    pub undecodable: u64,
    /// Values that could not be encoded.
    pub unencodable: u64,
    /// Keys under which something else lay than an instance puts there.
    pub foreign: u64,
    /// Keys that the store had no room for.
    pub full: u64,
    /// Operations of the store that took too long.
    pub time_outs: u64,
    /// Operations of the store that failed otherwise, and tries to connect.
    pub errors: u64,
    /// Keys that this instance removed in the store.
    pub removals: u64,
    /// Keys whose removal was left to the driver, as the store was not to be had, or as the call or the guard
    /// was dropped.
    pub removals_deferred: u64,
    /// Keys that other instances removed.
    pub removals_heard: u64,
    /// Times that the link was made.
    pub links: u64,
    /// Times that the link was lost.
    pub links_lost: u64,
    /// Times that the store was left alone after too many time-outs.
    pub breaker_opened: u64,
}

impl fmt::Display for Figures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.linked { "linked" } else { "not linked" })?;
        if let Some(error) = self.last_error {
            write!(f, " ({error})")?;
        }
        write!(
            f,
            ", {} removals pending; {} local hits, {} hits in the store, {} misses, {} waits; {} loads, \
             {} of them alone; {} put, {} refused; {} removed, {} heard; {} time-outs, {} errors",
            self.pending_removals,
            self.local.hits,
            self.hits,
            self.misses,
            self.waits,
            self.loads,
            self.loads_alone,
            self.puts,
            self.puts_refused,
            self.removals,
            self.removals_heard,
            self.time_outs,
            self.errors,
        )
    }
}

macro_rules! counters {
    ($($name:ident)*) => {
        /// The counts of [`Figures`].
        #[derive(Debug, Default)]
        pub(crate) struct Counters {
            $(pub(crate) $name: Counter,)*
        }

        impl Counters {
            pub(crate) fn figures(&self, local: CacheStats, link: &Link) -> Figures {
                Figures {
                    local,
                    linked: link.session().is_some(),
                    last_error: link.last_failure(),
                    pending_removals: link.pending_removals(),
                    $($name: self.$name.get(),)*
                }
            }
        }

        #[cfg(feature = "metrics")]
        impl Figures {
            /// Publishes the figures through the facade `metrics`, those of the local cache as
            /// [`CacheStats::record`] does: counters named `cache_tier_..._total` and the gauges
            /// `cache_tier_linked` and `cache_tier_pending_removals`, with the label `cache`.
            ///
            /// For version 0.24 of `metrics`. It publishes what the figures are now, so call it at each scrape
            /// or now and then.
            ///
            /// # Examples
            ///
            /// ```
            /// # fn publish(users: &async_lru_tier::Tiered<str, String>) {
            /// users.figures().record("users");
            /// # }
            /// ```
            pub fn record(&self, cache: &str) {
                self.local.record(cache);
                let gauge = |name: &'static str, value: f64| {
                    metrics::gauge!(name, "cache" => cache.to_owned()).set(value);
                };
                gauge("cache_tier_linked", f64::from(u8::from(self.linked)));
                gauge("cache_tier_pending_removals", self.pending_removals as f64);
                $(
                    let name = concat!("cache_tier_", stringify!($name), "_total");
                    metrics::counter!(name, "cache" => cache.to_owned()).absolute(self.$name);
                )*
            }
        }
    };
}

counters! {
    hits misses waits loads loads_alone puts puts_refused stale_on_error undecodable unencodable foreign
    full time_outs errors removals removals_deferred removals_heard links links_lost breaker_opened
}

impl Counters {
    /// Counts a failure of the store.
    pub(crate) fn failed(&self, error: &StoreError) {
        match error.kind() {
            ErrorKind::TimedOut => self.time_outs.add(1),
            _ => self.errors.add(1),
        }
    }
}

/// A number that only grows; the counts say nothing of each other.
#[derive(Debug, Default)]
pub(crate) struct Counter(AtomicU64);

impl Counter {
    pub(crate) fn add(&self, count: usize) {
        self.0.fetch_add(count as u64, Ordering::Relaxed);
    }

    fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}
