//! Configuration files: every text loads or gets its faults, without a panic; and what loads can be built, alone and as the next generation of a running one.

use outrigger::clock;
use outrigger::config::Config;
use outrigger::live::Live;
use outrigger::telemetry::metrics::Metrics;
use outrigger::upstream::resolve::Addresses;

/// Panics if the property does not hold for `bytes`, taken for a file.
pub fn check(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let config = match Config::parse("fuzz.toml", text) {
        Ok(config) => config,
        Err(faults) => {
            assert!(!faults.to_string().is_empty());
            return;
        }
    };
    let metrics = Metrics::new();
    let live = Live::build(config, None, &Addresses::new(), &metrics, clock::now());
    let again = Config::parse("fuzz.toml", text).unwrap_or_else(|faults| panic!("read once, not twice: {faults}"));
    let next = Live::build(again, Some(&live), &Addresses::new(), &metrics, clock::now());
    assert_eq!(next.upstreams().count(), live.upstreams().count());
}
