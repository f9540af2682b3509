//! Entry point; what is done is in `harness/src/zone_blob.rs`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| godwit_fuzz_harness::zone_blob::run(data));
