//! Answers of a JSON value a line.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| farebox_fuzz::answer(&[Some("application/x-ndjson")], data));
