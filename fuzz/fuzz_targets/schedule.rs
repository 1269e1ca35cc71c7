#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| async_lru_fuzz::schedule::run(input));
