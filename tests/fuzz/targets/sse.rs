//! Answers in server-sent events.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| farebox_fuzz::answer(&[Some("text/event-stream")], data));
