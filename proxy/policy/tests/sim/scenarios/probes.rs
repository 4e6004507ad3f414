//! Probes without a result: clients that disconnect before the response, and tasks that get stuck with their permit.

use std::time::Duration;

use outrigger_policy::breaker::State;

use super::{between, for_seeds, millis, secs};
use crate::endpoint::{Health, Model};
use crate::report::Report;
use crate::sidecar::Settings;
use crate::world::{Client, World};

const LENGTH: u64 = 45;
const SIDECARS: usize = 6;

/// A backend that errs from second 2 to 6 and needs 100 ms for a response, and clients that disconnect early.
fn impatient(seed: u64, leaves: f64, is_lost: f64) -> Report {
    let mut world = World::new(seed);
    let health =
        |elapsed: Duration, _| if (2..6).contains(&elapsed.as_secs()) { Health::BROKEN } else { Health::Works };
    let slow = Model { work_least: millis(80), work_mean: millis(100), ..Model::quick(|_| Health::Works) };
    let backend = world.endpoint(Model { health: Box::new(health), ..slow });
    let settings = Settings::defaults().timeouts(secs(2), secs(1));
    for _ in 0..SIDECARS {
        let sidecar = world.sidecar(&settings, &[backend]);
        world.client(Client { leaves, is_lost, within: millis(80), ..Client::steady(sidecar, 20.0) });
    }
    world.run(secs(LENGTH))
}

/// The length of each half-open time, up to the end of the run for those that have not ended.
fn half_open(report: &Report) -> Vec<Duration> {
    let begins = report.moves.iter().filter(|to| to.moved.to == State::HalfOpen);
    let times = begins.map(|begin| {
        let same = |to: &&crate::report::Moved| (to.sidecar, to.level) == (begin.sidecar, begin.level);
        let end = report.moves.iter().filter(same).find(|to| to.at >= begin.at && to.moved.from == State::HalfOpen);
        end.map_or(report.length, |end| end.at) - begin.at
    });
    times.collect()
}

#[test]
fn clients_that_disconnect_during_probes_do_not_hold_half_open() {
    for_seeds(10, |seed| {
        let report = impatient(seed, 0.8, 0.0);
        let longest = half_open(&report).into_iter().max().unwrap_or_default();
        // Each probe is free again after 80 ms at most, and one client in five stays for its response.
        report.expect("half-open times", half_open(&report).len() as f64, 8.0..);
        report.expect("longest half-open time", longest.as_secs_f64(), ..=4.0);
        report.expect("success of the 20 % that stay", report.success(between(25, LENGTH)), 0.17..=0.24);
    });
}

#[test]
fn a_stuck_task_holds_half_open_no_longer_than_its_lease() {
    for_seeds(20, |seed| {
        let report = impatient(seed, 0.0, 0.1);
        let longest = half_open(&report).into_iter().max().unwrap_or_default();
        // The breaker of calls may have to wait for the endpoint's (10 s at most) before its probe gets stuck for a lease of 7 s.
        report.expect("longest half-open time", longest.as_secs_f64(), ..=18.0);
        report.expect("success of the 90 % not stuck", report.success(between(30, LENGTH)), 0.65..=0.95);
    });
}
