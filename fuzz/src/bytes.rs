//! The input of a target, taken byte by byte.

use async_lru::Eviction;

/// What is left of an input.
pub struct Bytes<'a>(std::slice::Iter<'a, u8>);

impl<'a> Bytes<'a> {
    pub fn new(input: &'a [u8]) -> Self {
        Self(input.iter())
    }

    pub fn is_empty(&self) -> bool {
        self.0.as_slice().is_empty()
    }

    /// The next byte; zero when none is left.
    pub fn next_byte(&mut self) -> u8 {
        self.0.next().copied().unwrap_or(0)
    }

    pub fn next_u64(&mut self) -> u64 {
        (0..8).fold(0, |number, _| number << 8 | u64::from(self.next_byte()))
    }

    pub fn below(&mut self, limit: usize) -> usize {
        usize::from(self.next_byte()) % limit
    }

    pub fn pick<T: Copy>(&mut self, choices: &[T]) -> T {
        choices[self.below(choices.len())]
    }

    /// A choice that is the lowest bit of a byte, and for one byte in eight another order of eviction: it came
    /// in later, and the inputs that were there go on meaning what they meant.
    pub fn bit_and_eviction(&mut self) -> (bool, Eviction) {
        let byte = self.next_byte();
        let eviction = if byte >> 5 == 4 { Eviction::Adaptive } else { Eviction::Lru };
        (byte % 2 == 1, eviction)
    }
}
