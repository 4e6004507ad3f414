//! Laws that must hold for every order of events, checked with random lists of operations.

use super::tests::config;
use super::*;
use proptest::prelude::*;
use rand::SeedableRng;
use rand::rngs::StdRng;
use std::num::NonZeroU32;
use std::time::Duration;

#[derive(Clone, Debug)]
enum Step {
    Wait(u64),
    Acquire,
    /// Asks for the ratio, where requests can or cannot go elsewhere.
    Ratio(bool),
    /// The head of a success comes for the permit at this index (modulo how many are held).
    Head(usize),
    /// A piece of the body comes for the permit at this index.
    Piece(usize),
    /// Settles the permit at this index (modulo how many are held).
    Settle(usize, Class),
    Drop(usize),
}

fn class() -> impl Strategy<Value = Class> {
    prop_oneof![3 => Just(Class::Failure), 2 => Just(Class::Success), 1 => Just(Class::Overload), 1 => Just(Class::Neutral)]
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        2 => (0u64..4_000).prop_map(Step::Wait),
        5 => Just(Step::Acquire),
        1 => any::<bool>().prop_map(Step::Ratio),
        1 => any::<prop::sample::Index>().prop_map(|i| Step::Head(i.index(64))),
        1 => any::<prop::sample::Index>().prop_map(|i| Step::Piece(i.index(64))),
        4 => (any::<prop::sample::Index>(), class()).prop_map(|(i, c)| Step::Settle(i.index(64), c)),
        1 => any::<prop::sample::Index>().prop_map(|i| Step::Drop(i.index(64))),
    ];
    prop::collection::vec(step, 1..300)
}

/// How many probes may be out beside the first: each waits one spacing longer than the one before, and all have begun within a lease and a spacing.
fn surplus_max(config: &Config) -> u32 {
    let spacings = (config.probe_lease + config.probe_spacing()).as_millis() / config.probe_spacing().as_millis();
    (0..).take_while(|n| u128::from(n * (n + 1) / 2) <= spacings).last().expect("zero at least")
}

proptest! {
    #[test]
    fn the_probes_that_are_out_are_bounded_and_every_permit_comes_back(steps in steps(), probes in 1u32..4, seed: u64) {
        let config = Config { probes: NonZeroU32::new(probes).expect("not zero"), ..config() };
        let mut now = Instant::now();
        let (breaker, mut rng) = (Breaker::new(config, now), StdRng::seed_from_u64(seed));
        let mut held: Vec<Permit> = Vec::new();
        let mut state = State::Closed;
        for step in steps {
            let is_verdict = matches!(step, Step::Settle(_, Class::Failure | Class::Overload));
            let may_open = is_verdict || matches!(step, Step::Ratio(true));
            let moved = match step {
                Step::Wait(ms) => {
                    now += Duration::from_millis(ms);
                    None
                }
                Step::Acquire => {
                    let out = breaker.snapshot(now).probes_out;
                    let admission = breaker.try_acquire(now);
                    if let (Err(refusal), State::HalfOpen) = (&admission.permit, breaker.snapshot(now).state) {
                        let wait = refusal.retry_at.saturating_duration_since(now);
                        prop_assert!(!wait.is_zero() && wait <= config.probe_spacing() * (out + 1), "{wait:?}, {out} out");
                    }
                    held.extend(admission.permit.ok());
                    admission.moved
                }
                Step::Ratio(can_spare) => breaker.open_by_ratio(now, || can_spare, &mut rng),
                Step::Head(at) if !held.is_empty() => {
                    let at = at % held.len();
                    breaker.on_head(&mut held[at], now);
                    None
                }
                Step::Piece(at) if !held.is_empty() => {
                    let at = at % held.len();
                    held[at].on_piece(now);
                    None
                }
                Step::Settle(at, class) if !held.is_empty() => {
                    let permit = held.swap_remove(at % held.len());
                    breaker.on_result(permit, class, now, &mut rng)
                }
                Step::Drop(at) if !held.is_empty() => {
                    drop(held.swap_remove(at % held.len()));
                    None
                }
                Step::Head(_) | Step::Piece(_) | Step::Settle(..) | Step::Drop(_) => None,
            };
            let snapshot = breaker.snapshot(now);
            // The reported transitions form a chain without a gap, so none was left out.
            if let Some(moved) = moved {
                prop_assert_eq!(moved.from, state);
                prop_assert_eq!(moved.open_for.is_some(), moved.to == State::Open);
                prop_assert!(moved.to != State::Open || may_open, "{moved:?}");
                prop_assert_eq!(moved.to == State::Open && !is_verdict, moved.reason == Reason::FailureRatio);
                state = moved.to;
            }
            prop_assert_eq!(snapshot.state, state);
            prop_assert!(snapshot.probes_out <= probes + surplus_max(&config), "{snapshot:?}");
            prop_assert!(snapshot.state == State::HalfOpen || snapshot.probes_out == 0);
        }
        held.clear();
        prop_assert_eq!(breaker.snapshot(now).probes_out, 0);
    }

    /// A working upstream closes the breaker again whatever happened before, and whoever still holds a probe: within the longest open time and one wait that is due.
    #[test]
    fn half_open_and_open_are_always_left(steps in steps(), seed: u64) {
        let mut now = Instant::now();
        let config = config();
        let (breaker, mut rng) = (Breaker::new(config, now), StdRng::seed_from_u64(seed));
        let mut lost: Vec<Permit> = Vec::new();
        for step in steps {
            match step {
                Step::Wait(ms) => now += Duration::from_millis(ms),
                Step::Acquire => lost.extend(breaker.try_acquire(now).permit.ok()),
                Step::Ratio(can_spare) => drop(breaker.open_by_ratio(now, || can_spare, &mut rng)),
                Step::Head(at) if !lost.is_empty() => {
                    let at = at % lost.len();
                    breaker.on_head(&mut lost[at], now);
                }
                Step::Piece(at) if !lost.is_empty() => {
                    let at = at % lost.len();
                    lost[at].on_piece(now);
                }
                Step::Settle(at, class) if !lost.is_empty() => {
                    let permit = lost.swap_remove(at % lost.len());
                    breaker.on_result(permit, class, now, &mut rng);
                }
                Step::Head(_) | Step::Piece(_) | Step::Settle(..) | Step::Drop(_) => {}
            }
        }
        // The permits still held are leaked on purpose: their owners never come back.
        std::mem::forget(lost);
        let last = now + config.open_cap + config.probe_spacing() * (breaker.snapshot(now).probes_out + 1);
        loop {
            match breaker.try_acquire(now).permit {
                Ok(permit) => {
                    breaker.on_result(permit, Class::Success, now, &mut rng);
                    break;
                }
                Err(refusal) => {
                    prop_assert!(refusal.retry_at > now && refusal.retry_at <= last);
                    now = refusal.retry_at;
                }
            }
        }
        prop_assert_eq!(breaker.snapshot(now).state, State::Closed);
    }

    /// Below the streak and below the ratio a closed breaker stays closed.
    #[test]
    fn a_healthy_upstream_never_trips(results in prop::collection::vec(any::<bool>(), 1..400)) {
        let config = Config { consecutive_failures: NonZeroU32::MAX, ..config() };
        let now = Instant::now();
        let (breaker, mut rng) = (Breaker::new(config, now), StdRng::seed_from_u64(1));
        let (mut all, mut failed) = (0u32, 0u32);
        for is_failure in results {
            // Keep the model's ratio below one half by turning a failure that would reach it into a success.
            let is_failure = is_failure && (failed + 1) * 2 < all + 1;
            (all, failed) = (all + 1, failed + u32::from(is_failure));
            let permit = breaker.try_acquire(now).permit.expect("closed");
            let class = if is_failure { Class::Failure } else { Class::Success };
            prop_assert_eq!(breaker.on_result(permit, class, now, &mut rng), None);
            prop_assert_eq!(breaker.open_by_ratio(now, || true, &mut rng), None);
        }
    }

    /// Every attempt has one result in the window at any time: by its head, by its end if it had no healthy head, or by the break of its body.
    #[test]
    fn every_attempt_counts_once(steps in steps()) {
        let config = Config { consecutive_failures: NonZeroU32::MAX, ..config() };
        let (begun, mut rng) = (Instant::now(), StdRng::seed_from_u64(1));
        let breaker = Breaker::new(config, begun);
        let mut now = begun;
        // Each with its place among the results, if it has one.
        let mut held: Vec<(Permit, Option<usize>)> = Vec::new();
        let mut results: Vec<(Instant, bool)> = Vec::new();
        for step in steps {
            match step {
                Step::Wait(ms) => now += Duration::from_millis(ms),
                Step::Acquire => held.push((breaker.try_acquire(now).permit.expect("closed"), None)),
                Step::Head(at) if !held.is_empty() => {
                    let at = at % held.len();
                    breaker.on_head(&mut held[at].0, now);
                    if held[at].1.is_none() {
                        held[at].1 = Some(results.len());
                        results.push((now, false));
                    }
                }
                Step::Settle(at, class) if !held.is_empty() => {
                    let (permit, place) = held.swap_remove(at % held.len());
                    breaker.on_result(permit, class, now, &mut rng);
                    match (class, place) {
                        (Class::Failure, Some(place)) => results[place] = (now, true),
                        (Class::Failure | Class::Success, None) => results.push((now, class == Class::Failure)),
                        _ => {}
                    }
                }
                Step::Drop(at) if !held.is_empty() => drop(held.swap_remove(at % held.len())),
                _ => {}
            }
            let second = |at: Instant| at.duration_since(begun).as_secs();
            let in_window = || results.iter().filter(|(at, _)| second(now) - second(*at) < 10);
            let snapshot = breaker.snapshot(now);
            prop_assert_eq!(snapshot.results as usize, in_window().count());
            prop_assert_eq!(snapshot.failures as usize, in_window().filter(|(_, is_failure)| *is_failure).count());
        }
    }

    /// A row opens the breaker only if nothing succeeded meanwhile: no head among its failures without one, or no whole body among those that broke off.
    #[test]
    fn a_row_has_no_success_in_it(steps in steps()) {
        let config = Config { consecutive_failures: NonZeroU32::new(3).expect("not zero"), ..config() };
        let (mut now, mut rng) = (Instant::now(), StdRng::seed_from_u64(1));
        let breaker = Breaker::new(config, now);
        let mut held: Vec<(Permit, bool)> = Vec::new();
        // Since the last head or end that was healthy, and since the last such end, with a window's pause ending both.
        let (mut failures, mut broken, mut failed_at) = (0u32, 0u32, now);
        for step in steps {
            match step {
                Step::Wait(ms) => now += Duration::from_millis(ms),
                Step::Acquire => held.push((breaker.try_acquire(now).permit.expect("closed"), false)),
                Step::Head(at) if !held.is_empty() => {
                    let at = at % held.len();
                    if !std::mem::replace(&mut held[at].1, true) {
                        failures = 0;
                    }
                    breaker.on_head(&mut held[at].0, now);
                }
                Step::Settle(at, class) if !held.is_empty() => {
                    let (permit, has_head) = held.swap_remove(at % held.len());
                    match class {
                        Class::Failure => {
                            if now - failed_at > config.window {
                                (failures, broken) = (0, 0);
                            }
                            (failures, broken, failed_at) = (failures + 1, broken + u32::from(has_head), now);
                        }
                        Class::Neutral if !has_head => {}
                        Class::Overload if !has_head => failures = 0,
                        _ => (failures, broken) = (0, 0),
                    }
                    let moved = breaker.on_result(permit, class, now, &mut rng);
                    let is_row = class == Class::Failure && failures.max(broken) >= 3;
                    prop_assert_eq!(moved.map(|m| m.reason), is_row.then_some(Reason::ConsecutiveFailures));
                    if is_row {
                        return Ok(());
                    }
                }
                Step::Drop(at) if !held.is_empty() => drop(held.swap_remove(at % held.len())),
                _ => {}
            }
        }
    }
}
