//! Random errors: every response is an error with the same probability, and no endpoint is worse than another. A breaker can only do harm here.

use outrigger_policy::retry::Refused;

use super::{between, for_seeds, secs};
use crate::endpoint::{Health, Model};
use crate::report::Report;
use crate::sidecar::Settings;
use crate::world::World;

fn errors(seed: u64, share: f64, settings: &Settings, (per_second, length): (f64, u64)) -> Report {
    several(1, seed, share, settings, (per_second, length))
}

/// The same with so many endpoints, none of which is worse than another.
fn several(count: usize, seed: u64, share: f64, settings: &Settings, (per_second, length): (f64, u64)) -> Report {
    let mut world = World::new(seed);
    let backends: Vec<_> = (0..count).map(|_| world.endpoint(Model::quick(move |_| Health::errs(share)))).collect();
    world.fleet(1, settings, &backends, per_second);
    world.run(secs(length))
}

#[test]
fn fifteen_percent_of_errors_trip_no_breaker_in_ten_minutes_and_clients_hardly_see_them() {
    for_seeds(2, |seed| {
        let report = errors(seed, 0.15, &Settings::defaults(), (200.0, 600));
        report.expect("trips", report.trips() as f64, ..=0.0);
        report.expect("success", report.success(between(0, 600)), 0.995..);
        report.expect("attempts per request", report.amplification(), 1.16..=1.19);
    });
}

#[test]
fn fifteen_percent_of_errors_trip_no_breaker_at_its_cold_start() {
    for_seeds(20, |seed| {
        let report = errors(seed, 0.15, &Settings::defaults(), (200.0, 5));
        report.expect("trips", report.trips() as f64, ..=0.0);
        report.expect("success", report.success(between(0, 5)), 0.985..);
    });
}

/// The requests need 0.39 retries each, and the budget allows 0.25.
#[test]
fn thirty_percent_of_errors_are_held_by_the_budget_and_trip_no_breaker() {
    for_seeds(20, |seed| {
        let report = errors(seed, 0.3, &Settings::defaults(), (200.0, 10));
        report.expect("trips", report.trips() as f64, ..=0.0);
        report.expect("attempts per request", report.amplification(), 1.23..=1.27);
        report.expect("success", report.success(between(0, 10)), 0.84..=0.93);
        let held = report.refused.iter().filter(|why| matches!(why, Refused::Budget(_))).count();
        report.expect("retries that the budget refused", held as f64, 100.0..);
    });
}

/// The cost of a low `volume_min`: at 30 % errors, ten failures among the first twenty results are only bad luck, and each cold start can have it. There are two
/// endpoints, because the ratio never takes out a lone one.
#[test]
fn twenty_samples_trip_a_breaker_by_chance_at_thirty_percent_and_a_hundred_do_not() {
    for (volume_min, fewest, most) in [(20, 1, 30), (100, 0, 0)] {
        let settings = Settings::defaults().volume_min(volume_min);
        let trips = |seed: &u64| several(2, *seed, 0.3, &settings, (200.0, 2)).trips() > 0;
        let tripped: Vec<u64> = (0..60).filter(trips).collect();
        let band = fewest..=most;
        assert!(
            band.contains(&tripped.len()),
            "volume_min {volume_min}: seeds {tripped:?} of 60 tripped, not {band:?}"
        );
    }
}
