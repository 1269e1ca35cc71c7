//! The fuzz targets as ordinary tests: every input that is kept, and some that are made up.

#[path = "../fuzz/src/lib.rs"]
#[allow(
    dead_code,
    unreachable_pub,
    missing_docs,
    reason = "a crate of its own, included as a module"
)]
mod fuzz;

#[path = "common/side_by_side.rs"]
mod side_by_side;

use std::fs;
use std::panic::catch_unwind;
use std::path::Path;

use fuzz::{TARGETS, Target};
use side_by_side::sum_of;

/// Made-up inputs of each target, unless `FUZZ_INPUTS` in the environment says otherwise.
const INPUTS: u64 = 1_000;

const LONGEST: u64 = 400;

/// The same scrambled numbers in each run.
fn scramble(n: u64) -> u64 {
    let mut bits = n.wrapping_add(1).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    bits ^= bits >> 32;
    bits = bits.wrapping_mul(0xD6E8_FEB8_6659_FD93);
    bits ^ bits >> 32
}

/// The same input for a number in each run.
fn made_up(number: u64) -> Vec<u8> {
    let length = scramble(number) % LONGEST;
    (0..length).map(|place| scramble(number << 16 | place) as u8).collect()
}

/// Runs one input, naming it if the target panics.
fn run((name, run): Target, what: &str, input: &[u8]) {
    if let Err(payload) = catch_unwind(|| run(input)) {
        eprintln!("target {name}, {what}: {input:?}");
        std::panic::resume_unwind(payload);
    }
}

#[test]
fn every_kept_input_passes() {
    for target @ (name, _) in TARGETS {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus").join(name);
        let mut inputs = 0;
        for file in fs::read_dir(&folder).unwrap() {
            let path = file.unwrap().path();
            run(target, &path.display().to_string(), &fs::read(&path).unwrap());
            inputs += 1;
        }
        println!("inputs kept for {name}: {inputs}");
        assert!(inputs >= 20, "{} has {inputs}", folder.display());
    }
}

#[test]
fn every_made_up_input_passes() {
    let inputs = std::env::var("FUZZ_INPUTS").map_or(INPUTS, |number| number.parse().unwrap());
    for target @ (name, _) in TARGETS {
        let passed = sum_of(0..inputs, |number| {
            run(target, &format!("input {number}"), &made_up(number));
            1
        });
        println!("inputs made up for {name}: {passed}");
    }
}
