//! `outrigger_properties::headers` under libFuzzer.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| outrigger_properties::headers::check(bytes));
