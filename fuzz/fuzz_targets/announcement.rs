//! Entry point; what is done is in `harness/src/announcement.rs`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| godwit_fuzz_harness::announcement::run(data));
