//! An account of objects: who made each, and whether it was dropped. Included by the tests that keep
//! one as a module of their own.

#![allow(dead_code, unreachable_pub, reason = "each test file uses a part")]

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// The account. A clone is another handle to it.
#[derive(Clone, Default)]
pub struct Ledger(Arc<Mutex<Book>>);

#[derive(Default)]
struct Book {
    /// Whoever makes objects now.
    maker: u32,
    made: Vec<Made>,
}

/// An object that was made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Made {
    pub kind: &'static str,
    pub maker: u32,
    drops: u32,
}

impl Ledger {
    /// From here on, objects are made by `maker`.
    pub fn act_as(&self, maker: u32) {
        self.book().maker = maker;
    }

    pub fn make(&self, kind: &'static str) -> Item {
        let mut book = self.book();
        let made = Made { kind, maker: book.maker, drops: 0 };
        book.made.push(made);
        Item { number: book.made.len() - 1, kind, ledger: self.clone() }
    }

    /// What was made and not dropped. Nothing may have been dropped twice.
    pub fn left(&self) -> Vec<Made> {
        let made = self.book().made.clone();
        assert!(made.iter().all(|made| made.drops <= 1), "{made:?}");
        made.into_iter().filter(|made| made.drops == 0).collect()
    }

    fn book(&self) -> MutexGuard<'_, Book> {
        // A failed assertion unwinds through drops of items, which must not fail in turn.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// An object on the account; a part of those whose fate matters. A clone is an object of its own.
pub struct Item {
    number: usize,
    kind: &'static str,
    ledger: Ledger,
}

impl Clone for Item {
    fn clone(&self) -> Self {
        self.ledger.make(self.kind)
    }
}

impl Drop for Item {
    fn drop(&mut self) {
        self.ledger.book().made[self.number].drops += 1;
    }
}
