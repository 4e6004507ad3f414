//! An overloaded service that asks its clients to retry later. No breaker trips, and the clients do not all retry at once.

use std::time::Duration;

use outrigger_policy::outcome::Pushback;
use outrigger_policy::retry::Refused;

use super::{for_seeds, millis, secs};
use crate::endpoint::{Health, Model};
use crate::sidecar::Settings;
use crate::world::World;

/// For 100 ms every response asks to retry after one second.
fn health(elapsed: Duration) -> Health {
    let shed = Health::Errs { share: 1.0, status: 503, pushback: Pushback::After(secs(1)) };
    if (millis(2_000)..millis(2_100)).contains(&elapsed) { shed } else { Health::Works }
}

#[test]
fn retries_after_a_pushback_come_later_and_not_all_at_once() {
    for_seeds(10, |seed| {
        let mut world = World::new(seed);
        let backend = world.endpoint(Model::quick(health));
        world.fleet(200, &Settings::defaults(), &[backend], 5.0);
        let report = world.run(secs(4));
        let back: Vec<Duration> = report.sent.iter().filter(|sent| sent.attempt > 1).map(|sent| sent.at).collect();
        let tick =
            |n: u64| back.iter().filter(|at| at.as_millis() as u64 / 100 == n).count() as f64 / back.len() as f64;
        report.expect("retries", back.len() as f64, 60.0..=150.0);
        report.expect("retries before their second is over", (20..30).map(tick).sum(), ..=0.0);
        report.expect("share in the busiest 100 ms", (30..40).map(tick).fold(0.0, f64::max), ..=0.4);
        report.expect("trips", report.trips() as f64, ..=0.0);
        report.expect("success", report.success(secs(0)..secs(4)), 1.0..);
    });
}

/// A request whose deadline is before the retry gets the 503 at once. The laws check that no attempt begins too late.
#[test]
fn no_request_waits_for_a_retry_after_its_deadline() {
    for_seeds(10, |seed| {
        let mut world = World::new(seed);
        let backend = world.endpoint(Model::quick(health));
        world.fleet(50, &Settings::defaults().timeouts(millis(1_200), secs(1)), &[backend], 20.0);
        let report = world.run(secs(4));
        let refused = report.refused.iter().filter(|why| matches!(why, Refused::Deadline { .. })).count();
        report.expect("retries that would come too late", refused as f64, 20.0..=110.0);
    });
}

/// For four seconds seven responses of ten ask to retry later. If that counted as failure, the breakers would trip.
#[test]
fn a_service_that_sheds_most_of_its_load_trips_no_breaker() {
    for_seeds(10, |seed| {
        let mut world = World::new(seed);
        let shed = Health::Errs { share: 0.7, status: 503, pushback: Pushback::After(secs(1)) };
        let health = move |at: Duration| if (2..6).contains(&at.as_secs()) { shed } else { Health::Works };
        let backend = world.endpoint(Model::quick(health));
        world.fleet(1, &Settings::defaults(), &[backend], 200.0);
        let report = world.run(secs(10));
        report.expect("trips", report.trips() as f64, ..=0.0);
    });
}
