//! An allocator that can count the bytes that are alive.

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::thread;
use std::time::Duration;

#[global_allocator]
static ALLOCATOR: Counting = Counting;

static ENABLED: AtomicBool = AtomicBool::new(false);
static ALIVE: AtomicI64 = AtomicI64::new(0);

struct Counting;

/// Counts only while asked to: in the timed rows a peer that allocates pays for the allocation, not
/// for an atomic addition of ours.
fn count(bytes: usize, sign: i64) {
    if ENABLED.load(Ordering::Relaxed) {
        ALIVE.fetch_add(sign * bytes as i64, Ordering::Relaxed);
    }
}

// SAFETY: every call goes to the system's allocator unchanged.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(layout.size(), 1);
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        count(layout.size(), 1);
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        count(layout.size(), -1);
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count(layout.size(), -1);
        count(size, 1);
        unsafe { System.realloc(pointer, layout, size) }
    }
}

/// Runs `make`, and returns what it makes with the bytes that it left allocated, on all threads.
pub(crate) fn counted<T>(make: impl FnOnce() -> T) -> (T, i64) {
    settle();
    ALIVE.store(0, Ordering::Relaxed);
    ENABLED.store(true, Ordering::Relaxed);
    let made = make();
    let bytes = ALIVE.load(Ordering::Relaxed);
    ENABLED.store(false, Ordering::Relaxed);
    (made, bytes)
}

/// Waits until the threads of the runtime have what they need, or it would count as the cache's.
fn settle() {
    ENABLED.store(true, Ordering::Relaxed);
    for _ in 0..100 {
        let before = ALIVE.load(Ordering::Relaxed);
        thread::sleep(Duration::from_millis(50));
        if ALIVE.load(Ordering::Relaxed) == before {
            break;
        }
    }
}
