//! With everything failing, how much load does the dead service see? One busy sidecar, and many quiet ones (Brooker 2022, "many small clients").

use super::{for_seeds, between, secs};
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
fn one_busy_sidecar_sends_no_more_than_its_budget_and_spends_it() {
    for_seeds(4, |seed| {
        for ratio in [0.0, 0.1, 0.2, 0.5, 1.0] {
            let report = all_fails(seed, 1, 200.0, &Settings::defaults().no_breakers().budget(ratio, 10));
            let bound = bound(&report, 1, ratio, 10.0);
            report.expect(&format!("amplification at {ratio}"), report.amplification(), bound * 0.9..=bound);
        }
    });
}
