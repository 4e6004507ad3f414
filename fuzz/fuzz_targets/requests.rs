//! `outrigger_properties::requests` under libFuzzer.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| outrigger_properties::requests::check(bytes));
