//! Any bytes, beside tokio-util.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| tests::properties::as_tokio(data));
