//! Any bytes, beside tokio-util.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| blocksd_tests::properties::as_tokio(data));
