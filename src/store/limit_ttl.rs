//! Limits how long everything lives that is in a cache or on its way there.

use std::time::Duration;

use super::Store;
use super::steps::{Step, Steps};
use crate::clock::{Nanos, in_nanos};
use crate::shard::departed::Departed;
use crate::shard::removals::Deliveries;
use crate::shard::watch::Position;

/// How many slots one step looks at, or somewhat more.
const MANY: usize = 256;

/// One pass over all entries, which end at a deadline at the latest.
///
/// An entry keeps its slot for life, so the pass misses none that was there when it began; when memory is
/// given back entries do move, and the pass goes over their shard again.
pub(crate) struct LimitTtl {
    deadline: Nanos,
    /// The shard that is looked at, from `position` on.
    shard: usize,
    position: Position,
    shortened: usize,
}

impl LimitTtl {
    /// Fences all loads, shard by shard, before any entry is looked at: what one of them publishes before it
    /// is fenced is an entry that is there when its shard has its turn.
    pub(crate) fn start<K, V>(store: &Store<K, V>, ttl: Duration) -> Self {
        store.lifetimes.use_time();
        let now = store.lifetimes.now().expect("time is used");
        // One deadline for all of them, and a whole `ttl` for those of a shard whose clock is ahead.
        let latest = store.shards.iter().map(|shard| shard.fence_all(now)).max().unwrap_or(now);
        let deadline = latest.saturating_add(in_nanos(ttl));
        Self { deadline, shard: 0, position: Position::default(), shortened: 0 }
    }

    /// Returns how many entries end sooner by it so far.
    pub(crate) fn shortened(&self) -> usize {
        self.shortened
    }
}

impl<K, V> Steps<K, V> for LimitTtl {
    fn step(&mut self, store: &Store<K, V>, deliveries: &mut Deliveries<K, V>) -> Step {
        let mut looked_at = 0;
        while let Some(shard) = store.shards.get(self.shard) {
            let mut departed = Departed::default();
            let limited = {
                let mut writer = shard.write(store.lifetimes.now(), &mut departed);
                writer.limit_ttl(self.position, self.deadline)
            };
            self.shortened += limited.shortened;
            if limited.shortened > 0 {
                // Before anything of the user's is dropped.
                store.alarm.expect(self.deadline, &mut departed);
            }
            deliveries.append(departed.into_deliveries());
            looked_at += limited.looked_at;
            match limited.next {
                Some(next) => self.position = next,
                None => {
                    shard.compact();
                    self.shard += 1;
                    self.position = Position::default();
                }
            }
            if looked_at >= MANY {
                return Step::Again;
            }
        }
        Step::Done
    }
}
