//! A backend that comes up, passes its probe, and fails again.

use std::time::Duration;

use super::{between, for_seeds, secs};
use crate::endpoint::{Health, Model};
use crate::sidecar::{Level, Settings};
use crate::world::World;

/// It flaps every two seconds for a minute, works for a minute, and fails once more.
fn health(elapsed: Duration) -> Health {
    match elapsed.as_secs() {
        at @ 0..60 if at % 4 >= 2 => Health::Refuses,
        120..125 => Health::Refuses,
        _ => Health::Works,
    }
}

#[test]
fn the_open_time_of_a_flapping_backend_escalates_and_starts_over_after_calm() {
    for_seeds(20, |seed| {
        let mut world = World::new(seed);
        let backend = world.endpoint(Model::quick(health));
        world.fleet(1, &Settings::defaults(), &[backend], 30.0);
        let report = world.run(secs(125));
        let level = Level::Attempts(backend);
        let flapping = report.open_times(level, between(0, 60));
        report.expect("trips and failed probes in a minute", flapping.len() as f64, 15.0..=35.0);
        report.expect("longest open time", flapping.iter().copied().fold(0.0, f64::max), 1.6..=2.0);
        for (n, time) in flapping.iter().enumerate() {
            // 0.5, 1, 2, 2, … s, drawn from 80 to 100 % of it.
            let longest = (0.5 * f64::from(1u32 << n.min(4))).min(2.0);
            report.expect(&format!("open time {n}"), *time, longest * 0.8..=longest);
        }
        // A breaker helps little against flapping: the backend is up half of the time, and its clients see two thirds of that (a fifth with a cap of 10 s).
        report.expect("success while it flaps", report.success(between(0, 60)), 0.25..=0.50);
        report.expect("success in calm", report.success(between(90, 120)), 1.0..);
        report.expect("first open time after calm", report.open_times(level, between(120, 125))[0], 0.4..=0.5);
    });
}
