//! Endpoints that fail a part of their attempts, for long or by turns. What still works is worth more than a refusal: no breaker may make more of the failure than it is.

use std::time::Duration;

use outrigger_policy::breaker::{Reason, State};

use super::{between, for_seeds, secs};
use crate::endpoint::{Health, Model};
use crate::report::{Report, share};
use crate::sidecar::{Level, Settings};
use crate::world::World;

const LENGTH: u64 = 30;

/// A sidecar with 200 requests a second before endpoints of these healths.
fn run<const N: usize>(seed: u64, settings: &Settings, healths: [fn(Duration) -> Health; N]) -> Report {
    let mut world = World::new(seed);
    let endpoints = healths.map(|health| world.endpoint(Model::quick(health)));
    world.fleet(1, settings, &endpoints, 200.0);
    world.run(secs(LENGTH))
}

/// How often the ratio opened a breaker.
fn by_ratio(report: &Report) -> f64 {
    report.moves.iter().filter(|to| to.moved.reason == Reason::FailureRatio).count() as f64
}

fn works(_: Duration) -> Health {
    Health::Works
}

fn most_fail(_: Duration) -> Health {
    Health::errs(0.6)
}

fn half(_: Duration) -> Health {
    Health::errs(0.5)
}

/// Twenty failures in a row come by chance once in a million attempts, so only the ratio is looked at.
#[test]
fn a_lone_endpoint_that_fails_half_of_its_attempts_goes_on_serving_the_other_half() {
    for_seeds(5, |seed| {
        let report = run(seed, &Settings::defaults(), [half]);
        report.expect("times that the ratio opened a breaker", by_ratio(&report), ..=0.0);
        // Half of the first attempts, and the retries that the budget pays for.
        report.expect("success", report.success(between(0, LENGTH)), 0.55..=0.88);
    });
}

/// Nothing but failures still opens the last one.
#[test]
fn a_lone_endpoint_that_only_fails_is_out_after_twenty_failures() {
    for_seeds(5, |seed| {
        let report = run(seed, &Settings::defaults(), [|_| Health::BROKEN]);
        let found = report.first_trip(Level::Attempts(0)).expect("it is found");
        report.expect("seconds until found", found.as_secs_f64(), ..=0.3);
        report.expect("attempts until then", report.sent_during(Duration::ZERO..found).count() as f64, ..=40.0);
    });
}

#[test]
fn one_of_three_that_fails_most_of_its_attempts_is_found_and_nobody_hears_of_it() {
    for_seeds(5, |seed| {
        let report = run(seed, &Settings::defaults(), [most_fail, works, works]);
        let found = report.first_trip(Level::Attempts(0)).expect("it is found");
        report.expect("seconds until found", found.as_secs_f64(), ..=3.0);
        report.expect("success", report.success(between(0, LENGTH)), 0.999..);
        let on_it = share(report.sent_during(found..secs(LENGTH)).map(|sent| sent.endpoint == 0));
        report.expect("share of attempts on it", on_it, ..0.2);
        let others = report.moves.iter().filter(|to| to.level != Level::Attempts(0)).count();
        report.expect("changes of state of the others", others as f64, ..=0.0);
    });
}

/// All three err alike, so their breakers cannot help. Those that open by ratio leave enough for the others to go on.
#[test]
fn of_three_that_all_fail_half_of_their_attempts_most_go_on() {
    for_seeds(5, |seed| {
        let report = run(seed, &Settings { breaker: None, ..Settings::defaults() }, [half, half, half]);
        report.expect("times that the ratio opened one", by_ratio(&report), 1.0..);
        let mut is_out = [false; 3];
        let most_out = report.moves.iter().map(|to| {
            if let Level::Attempts(endpoint) = to.level {
                is_out[endpoint] = to.moved.to != State::Closed;
            }
            is_out.iter().filter(|is_out| **is_out).count()
        });
        report.expect("most that were out at once", most_out.max().unwrap_or(0) as f64, ..=1.0);
        report.expect("success", report.success(between(0, LENGTH)), 0.55..=0.88);
    });
}

/// It errs with half of its responses for nine seconds, works for three, and so on.
#[test]
fn a_lone_endpoint_that_flaps_between_well_and_half_well_is_never_out_by_its_ratio() {
    for_seeds(5, |seed| {
        let flapping = |at: Duration| if at.as_secs() % 12 < 9 { Health::errs(0.5) } else { Health::Works };
        let report = run(seed, &Settings::defaults(), [flapping]);
        report.expect("times that the ratio opened a breaker", by_ratio(&report), ..=0.0);
        report.expect("success", report.success(between(0, LENGTH)), 0.68..);
    });
}
