//! Entry point; what is done is in `harness/src/index.rs`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| godwit_fuzz_harness::index::run(data));
