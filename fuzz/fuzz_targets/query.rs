//! Entry point; what is done is in `harness/src/query.rs`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| godwit_fuzz_harness::query::run(data));
