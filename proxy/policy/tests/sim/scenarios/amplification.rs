//! With everything failing, how much load does the dead service see? One sidecar with many requests, and many with few (Brooker 2022, "many small clients").

use super::{between, for_seeds, secs};
use crate::endpoint::{Health, Model};
use crate::report::Report;
use crate::sidecar::Settings;
use crate::world::World;

const LENGTH: u64 = 30;

fn all_fails(seed: u64, sidecars: usize, per_second: f64, settings: &Settings) -> Report {
    let mut world = World::new(seed);
    let dead = world.endpoint(Model::quick(|_| Health::BROKEN));
    world.fleet(sidecars, settings, &[dead], per_second);
    world.run(secs(LENGTH))
}

/// `1 + ratio + floor share`: the law of the budget, for a fleet over the length of a run.
fn bound(report: &Report, sidecars: usize, ratio: f64, floor: f64) -> f64 {
    let window = 10.0;
    1.0 + ratio + floor * sidecars as f64 * (LENGTH as f64 + window) / report.begun as f64
}

#[test]
fn one_loaded_sidecar_sends_no_more_than_its_budget_and_spends_it() {
    for_seeds(3, |seed| {
        for ratio in [0.0, 0.1, 0.2, 0.5, 1.0] {
            let report = all_fails(seed, 1, 200.0, &Settings::defaults().no_breakers().budget(ratio, 10));
            let bound = bound(&report, 1, ratio, 10.0);
            report.expect(&format!("amplification at {ratio}"), report.amplification(), bound * 0.95..=bound);
        }
    });
}

/// The floor of a whole window may be spent at once, and then comes back at once, so the first second repeats in every window. The law says nothing
/// about a single second; this measures it.
#[test]
fn the_worst_second_spends_the_floor_of_a_window() {
    for_seeds(5, |seed| {
        let report = all_fails(seed, 1, 200.0, &Settings::defaults().no_breakers());
        let worst = report.busiest_second(between(0, LENGTH)) as f64 / 200.0;
        report.expect("attempts in the worst second, per request of the mean", worst, 1.5..=2.0);
    });
}

/// Every sidecar has a floor of its own, so two hundred quiet ones may together send many retries. The default floor is more
/// than a sidecar with one request a second can use, so only `max_attempts` limits it. Without a floor the ratio does.
#[test]
fn many_quiet_sidecars_are_bounded_by_max_attempts_with_a_floor_and_by_the_ratio_without() {
    for_seeds(4, |seed| {
        for (floor, band) in [(10, 2.9..=3.0), (1, 2.0..=2.25), (0, 1.1..=1.2)] {
            let report = all_fails(seed, 200, 1.0, &Settings::defaults().no_breakers().budget(0.2, floor));
            report.expect(&format!("amplification with floor {floor}"), report.amplification(), band);
        }
    });
}

/// Not the budget but the breakers protect the dead service from many quiet sidecars. Each trips after 20 attempts, at 3 a second within 10 s. Late in
/// the outage each sends one probe per open time, which is at least 80 % of its longest, 2 s.
#[test]
fn the_breakers_bound_what_the_floor_lets_through() {
    for_seeds(10, |seed| {
        for (sidecars, per_second) in [(1, 200.0), (200, 1.0)] {
            let report = all_fails(seed, sidecars, per_second, &Settings::defaults());
            let late = report.sent_during(between(20, LENGTH)).count() as f64 / (LENGTH - 20) as f64;
            report.expect(&format!("{sidecars} sidecars: attempts per request"), report.amplification(), ..=1.0);
            report.expect(&format!("{sidecars} sidecars: attempts a second, late"), late, ..=sidecars as f64 * 0.625);
        }
    });
}
