//! `outrigger_properties::times` under libFuzzer.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| outrigger_properties::times::check(bytes));
