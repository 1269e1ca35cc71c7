//! `RedisStore` against a real server.

mod access;
mod calls;
#[path = "../common/mod.rs"]
mod common;
mod faults;
mod full;
mod leases;
mod messages;
mod peer;

use std::process::ExitCode;

fn main() -> ExitCode {
    common::run(&[
        access::TESTS,
        calls::TESTS,
        faults::TESTS,
        full::TESTS,
        leases::TESTS,
        messages::TESTS,
    ])
}
