//! `outrigger_properties::authority` under libFuzzer.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| outrigger_properties::authority::check(bytes));
