//! Answers in the binary event streams of AWS.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| farebox_fuzz::answer(&[Some("application/vnd.amazon.eventstream")], data));
