//! The laws that hold in every scenario: nothing gets lost, nothing is counted twice, nothing outlives its deadline.

use std::collections::HashMap;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Instant;

use outrigger_policy::breaker::State;
use outrigger_policy::deadline::Deadline;

use crate::report::Report;
use crate::world::World;

/// An attempt begins only before its request's deadline.
pub(crate) fn check_attempt(report: &Report, deadline: Deadline, now: Instant) {
    assert!(now < deadline.at(), "seed {}: an attempt begins {:?} too late", report.seed, now - deadline.at());
}

/// A request ends by its deadline at the latest.
pub(crate) fn check_ending(report: &Report, deadline: Deadline, now: Instant) {
    assert!(now <= deadline.at(), "seed {}: a request ends {:?} too late", report.seed, now - deadline.at());
}

/// Checks what must hold once the world is at rest.
pub(crate) fn check(world: &World, now: Instant) {
    let report = &world.report;
    let seed = report.seed;
    assert_eq!(report.ended.len(), report.begun, "seed {seed}: every request has exactly one ending");
    check_attempts_add_up(report);
    for (number, sidecar) in world.sidecars.iter().enumerate() {
        let lost = world.lost_at(number);
        assert_eq!(
            sidecar.policies.in_flight.count() as usize,
            lost,
            "seed {seed}: every slot of sidecar {number} came back"
        );
        let in_flight: u32 = sidecar.endpoints.iter().map(|endpoint| endpoint.in_flight.load(Relaxed)).sum();
        assert!(
            in_flight as usize <= lost,
            "seed {seed}: every attempt of sidecar {number} has ended, all but {in_flight}"
        );
        for (level, breaker) in sidecar.breakers() {
            // Only a stuck task may still hold a probe, and no longer than its lease.
            let probes = breaker.snapshot(now).probes_out;
            assert!(lost > 0 || probes == 0, "seed {seed}: {level:?} of sidecar {number} waits for {probes} probes");
        }
    }
    check_budgets(world);
    check_moves_form_a_chain(report);
}

/// All attempts are first attempts or paid retries, each counted once. A paid retry is missing only where a task got stuck with it.
fn check_attempts_add_up(report: &Report) {
    let firsts = report.sent.iter().filter(|sent| sent.attempt == 1).count();
    let retries = report.sent.len() - firsts;
    let by_requests: u32 = report.ended.iter().map(|request| request.attempts).sum();
    let paid: u32 = report.withdrawals.iter().sum();
    let seed = report.seed;
    assert_eq!(by_requests as usize, report.sent.len(), "seed {seed}: the requests know of every attempt");
    let unused = report.unused;
    assert_eq!(retries + unused, paid as usize, "seed {seed}: {retries} retries and {unused} unused, but {paid} paid");
}

/// `withdrawals ≤ ratio × deposits + floor × (T + window)`, for each budget.
fn check_budgets(world: &World) {
    let report = &world.report;
    for (number, sidecar) in world.sidecars.iter().enumerate() {
        let (deposits, withdrawals) = (report.deposits[number], report.withdrawals[number]);
        let config = sidecar.policies.budget.config();
        // Requests that began at the end may be retried until their deadline.
        let time = (report.length + sidecar.settings.request + config.window).as_secs_f64();
        let allowed = config.ratio.as_f64() * f64::from(deposits) + f64::from(config.floor_per_second) * time;
        let seed = report.seed;
        assert!(f64::from(withdrawals) <= allowed, "seed {seed}: sidecar {number}: {withdrawals} > {allowed}");
    }
}

/// The reported changes of a breaker form a chain: each begins in the state in which the last one ended.
fn check_moves_form_a_chain(report: &Report) {
    let mut states = HashMap::new();
    for to in &report.moves {
        let state = states.entry((to.sidecar, to.level)).or_insert(State::Closed);
        assert_eq!(to.moved.from, *state, "seed {}: {to:?}", report.seed);
        *state = to.moved.to;
    }
}
