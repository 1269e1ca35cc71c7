//! What several tests use.
#![allow(dead_code, unreachable_pub, missing_docs, reason = "each test file uses a part")]

pub mod world;
