//! `outrigger_properties::paths` under libFuzzer.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| outrigger_properties::paths::check(bytes));
