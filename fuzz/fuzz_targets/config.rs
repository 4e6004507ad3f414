//! `outrigger_properties::config` under libFuzzer.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| outrigger_properties::config::check(bytes));
