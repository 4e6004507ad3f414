//! The two ways in which a call is more than a chain: a hedge, which is a second attempt beside a slow one, and a hold, which waits for an endpoint.

use super::{for_seeds, millis, secs};
use crate::endpoint::{Health, Model};
use crate::report::Report;
use crate::sidecar::Settings;
use crate::world::World;

fn slow_by_percentile(report: &Report, percentile: f64) -> f64 {
    let mut took: Vec<f64> = report.ended.iter().map(|request| (request.ended - request.begun).as_secs_f64()).collect();
    took.sort_by(f64::total_cmp);
    took[(took.len() as f64 * percentile) as usize]
}

/// One endpoint of three takes half a second. A hedge after 50 ms almost always gets its response from one of the others.
#[test]
fn a_hedge_takes_the_slow_endpoint_out_of_the_tail() {
    for_seeds(5, |seed| {
        for (hedge, p99) in [(None, 0.5..=0.75), (Some(millis(50)), 0.05..=0.15)] {
            let mut world = World::new(seed);
            let quick = || Model::quick(|_| Health::Works);
            let slow = Model { work_least: millis(500), work_mean: millis(510), ..quick() };
            let endpoints = [slow, quick(), quick()].map(|model| world.endpoint(model));
            let settings = Settings { hedge, ..Settings::defaults() }.budget(0.5, 10);
            world.fleet(1, &settings, &endpoints, 50.0);
            let report = world.run(secs(20));
            report.expect(&format!("p99 with {hedge:?}"), slow_by_percentile(&report, 0.99), p99);
            report.expect("success", report.success(secs(0)..secs(20)), 1.0..);
        }
    });
}

/// The only endpoint errs for a moment and its breaker opens. Requests that begin meanwhile are held instead of refused.
#[test]
fn a_held_request_outlives_a_short_outage() {
    for_seeds(5, |seed| {
        for (hold, success) in [(None, 0.0..=0.9), (Some(secs(5)), 0.95..=1.0)] {
            let mut world = World::new(seed);
            let health = |at: std::time::Duration| {
                if (millis(2_000)..millis(2_250)).contains(&at) { Health::BROKEN } else { Health::Works }
            };
            let backend = world.endpoint(Model::quick(health));
            let mut settings = Settings { hold, ..Settings::defaults() };
            settings.breaker = None; // it would refuse requests before they are held
            world.fleet(1, &settings, &[backend], 100.0);
            let report = world.run(secs(10));
            report.expect("trips", report.trips() as f64, 1.0..);
            report.expect(&format!("success with {hold:?}"), report.success(secs(2)..secs(6)), success);
        }
    });
}
