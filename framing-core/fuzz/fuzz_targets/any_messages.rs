//! Any messages, sent and received.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| blocksd_tests::properties::any_messages(data));
