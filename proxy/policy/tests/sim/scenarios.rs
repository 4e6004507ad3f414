//! The scenarios: how a fleet must behave when something goes wrong. Each expects numbers within bands, for several seeds.

use std::ops::Range;
use std::time::Duration;

mod amplification;
mod both;
mod errors;
mod fairness;
mod flapping;
mod outage;
mod overload;
mod partial;
mod probes;
mod pushback;

/// Runs a scenario for so many seeds, or for those of `SIM_SEEDS`.
fn for_seeds(count: u64, scenario: impl Fn(u64)) {
    let given = std::env::var("SIM_SEEDS").ok().map(|range| {
        let (from, to) = range.split_once("..").expect("SIM_SEEDS is a range: 0..100");
        from.parse().expect("SIM_SEEDS begins with a number")..to.parse().expect("SIM_SEEDS ends with a number")
    });
    given.unwrap_or(0..count).for_each(scenario);
}

const fn secs(secs: u64) -> Duration {
    Duration::from_secs(secs)
}

const fn millis(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

fn between(from: u64, to: u64) -> Range<Duration> {
    secs(from)..secs(to)
}
