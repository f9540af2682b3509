//! Entry point; what is done is in `harness/src/local_snapshot.rs`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| godwit_fuzz_harness::local_snapshot::run(data));
