//! Receives any bytes, and compares with tokio-util.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| framing_core_testing::properties::as_tokio(data));
