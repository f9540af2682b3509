//! Entry point; what is done is in `harness/src/change_set.rs`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| godwit_fuzz_harness::change_set::run(data));
