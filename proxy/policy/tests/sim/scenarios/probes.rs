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

/// A backend that errs from second 2 to 6 and needs 3 to 4 s for each response, as one that gets only long polls.
fn always_slow(seed: u64) -> Report {
    let mut world = World::new(seed);
    let health = |elapsed: Duration| if (2..6).contains(&elapsed.as_secs()) { Health::BROKEN } else { Health::Works };
    let slow = Model { workers: 10_000, work_least: secs(3), work_mean: millis(3_100), ..Model::quick(health) };
    let backend = world.endpoint(slow);
    for _ in 0..SIDECARS {
        let sidecar = world.sidecar(&Settings::defaults(), &[backend]);
        world.client(Client::steady(sidecar, 20.0));
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
        // Behind a client that leaves the next probe goes after one spacing of 500 ms, and one client in five stays for its response: 30 of them leave in one of 800 times.
        report.expect("half-open times", half_open(&report).len() as f64, 6.0..);
        report.expect("longest half-open time", longest.as_secs_f64(), ..=15.0);
        report.expect("success of the 20 % that stay", report.success(between(25, LENGTH)), 0.17..=0.24);
    });
}

#[test]
fn a_stuck_task_does_not_hold_half_open_until_its_lease_ends() {
    for_seeds(20, |seed| {
        let report = impatient(seed, 0.0, 0.1);
        let longest = half_open(&report).into_iter().max().unwrap_or_default();
        // A lease is 6 or 7 s. Behind a stuck probe the next one goes after 500 ms, in each of the two breakers.
        report.expect("longest half-open time", longest.as_secs_f64(), ..=4.0);
        report.expect("success of the 90 % not stuck", report.success(between(30, LENGTH)), 0.87..=0.93);
    });
}

#[test]
fn an_upstream_that_is_always_slow_recovers_within_two_of_its_responses() {
    for_seeds(10, |seed| {
        let report = always_slow(seed);
        let longest = half_open(&report).into_iter().max().unwrap_or_default();
        report.expect("half-open times", half_open(&report).len() as f64, 1.0..);
        report.expect("longest half-open time", longest.as_secs_f64(), ..=8.0);
        report.expect("success after the fault", report.success(between(20, LENGTH)), 0.99..);
    });
}
