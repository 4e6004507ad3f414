//! A backend that a spike has pushed over the edge: does it come back when the spike is over?
//!
//! Twelve workers at 100 ms serve 120 requests a second. 70 a second arrive, and 300 during five seconds. Attempts time out after 500 ms, but the backend
//! goes on working on them. If every request were sent three times, 210 a second would keep the queue full for ever: the collapse
//! would feed itself (a metastable failure). With the default budget at most 70 · 1.2 + 10 = 94 arrive, and the queue drains slowly. A breaker gives
//! it a pause to drain.

use std::time::Duration;

use super::{between, for_seeds, millis, secs};
use crate::endpoint::{Health, Model};
use crate::report::Report;
use crate::sidecar::Settings;
use crate::world::{Client, World};

const SPIKE_BEGINS: u64 = 5;
const SPIKE_ENDS: u64 = 10;

fn spike(seed: u64, settings: Settings, length: u64) -> Report {
    let mut world = World::new(seed);
    let backend = world.endpoint(Model {
        workers: 12,
        queue_max: 500,
        work_least: millis(50),
        work_mean: millis(100),
        // With a full queue all work takes a tenth longer.
        strain: 0.000_2,
        health: Box::new(|_, _| Health::Works),
    });
    let sidecar = world.sidecar(&settings.timeouts(secs(2), millis(500)), &[backend]);
    let is_spike = |elapsed: Duration| (SPIKE_BEGINS..SPIKE_ENDS).contains(&elapsed.as_secs());
    world.client(Client::varying(sidecar, move |elapsed| if is_spike(elapsed) { 300.0 } else { 70.0 }));
    world.run(secs(length))
}

/// How many seconds after the spike every second has 95 % successes.
fn recovery(report: &Report) -> f64 {
    report.well_from(0.95).map_or(f64::INFINITY, |from| from.as_secs_f64() - SPIKE_ENDS as f64)
}

#[test]
fn a_backend_pushed_over_the_edge_recovers_with_the_defaults() {
    for_seeds(20, |seed| {
        let report = spike(seed, Settings::defaults(), 30);
        report.expect("seconds until all is well", recovery(&report), ..=8.0);
        report.expect("success from then on", report.success(between(20, 30)), 0.99..);
    });
}

#[test]
fn without_budget_and_breaker_the_same_spike_is_never_recovered_from() {
    for_seeds(4, |seed| {
        let report = spike(seed, Settings::defaults().no_breakers().no_budget(), 60);
        report.expect("success from half a minute to 50 s later", report.success(between(40, 60)), ..=0.05);
    });
}

#[test]
fn either_of_them_is_enough_but_the_budget_alone_is_slow() {
    for_seeds(4, |seed| {
        let by_breakers = spike(seed, Settings::defaults().no_budget(), 30);
        by_breakers.expect("breakers alone: seconds until all is well", recovery(&by_breakers), ..=8.0);
        let by_budget = spike(seed, Settings::defaults().no_breakers(), 60);
        by_budget.expect("budget alone: seconds until all is well", recovery(&by_budget), 5.0..=45.0);
    });
}
