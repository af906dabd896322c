//! Sends and receives any messages.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| framing_core_testing::properties::any_messages(data));
