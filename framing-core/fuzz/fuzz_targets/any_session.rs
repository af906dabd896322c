//! Drives both sides of an acknowledged session with any frames.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| framing_core_testing::properties::any_session(data));
