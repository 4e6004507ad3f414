//! `outrigger_properties::responses` under libFuzzer.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| outrigger_properties::responses::check(bytes));
