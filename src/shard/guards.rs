//! The keys that somebody is writing to the source of a cache: loads of them are kept out.
//!
//! By their hashes, so that a guard needs no key of its own. That of another key, which is as good as never
//! there, merely costs that one a load.

struct Guarded {
    hash: u64,
    /// How many guards there are.
    guards: usize,
    /// Whether they overlap, or the key was written otherwise meanwhile, or the cache emptied.
    is_disturbed: bool,
}

/// The guarded keys of a shard.
#[derive(Default)]
pub(super) struct Guards {
    /// Mostly none, which take no memory.
    all: Vec<Guarded>,
}

impl Guards {
    /// Tells whether there are none, as there mostly are.
    #[inline]
    pub(super) fn is_empty(&self) -> bool {
        self.all.is_empty()
    }

    /// Tells whether loads of the key are kept out.
    #[inline]
    pub(super) fn hold(&self, hash: u64) -> bool {
        !self.is_empty() && self.find(hash).is_some()
    }

    /// Tells whether there was another write of the key since its guard began.
    pub(super) fn is_disturbed(&self, hash: u64) -> bool {
        self.find(hash).is_some_and(|guarded| guarded.is_disturbed)
    }

    /// Notes a write of the key.
    #[inline]
    pub(super) fn disturb(&mut self, hash: u64) {
        if !self.is_empty() {
            self.find_mut(hash).into_iter().for_each(|guarded| guarded.is_disturbed = true);
        }
    }

    /// Notes what concerns all keys.
    pub(super) fn disturb_all(&mut self) {
        self.all.iter_mut().for_each(|guarded| guarded.is_disturbed = true);
    }

    pub(super) fn add(&mut self, hash: u64) {
        match self.find_mut(hash) {
            Some(guarded) => {
                guarded.guards += 1;
                guarded.is_disturbed = true;
            }
            None => self.all.push(Guarded { hash, guards: 1, is_disturbed: false }),
        }
    }

    pub(super) fn release(&mut self, hash: u64) {
        let guarded = self.find_mut(hash).expect("a guard is released once");
        guarded.guards -= 1;
        if guarded.guards == 0 {
            self.all.retain(|guarded| guarded.hash != hash);
            if self.all.is_empty() {
                self.all = Vec::new();
            }
        }
    }

    #[cold]
    fn find(&self, hash: u64) -> Option<&Guarded> {
        self.all.iter().find(|guarded| guarded.hash == hash)
    }

    fn find_mut(&mut self, hash: u64) -> Option<&mut Guarded> {
        self.all.iter_mut().find(|guarded| guarded.hash == hash)
    }
}
