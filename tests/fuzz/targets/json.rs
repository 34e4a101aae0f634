//! Answers in JSON, and those of which nobody says what they are.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| farebox_fuzz::answer(&[Some("application/json"), Some("text/plain"), None], data));
