//! Laws that must hold for every order of events, checked with random lists of operations.

use super::tests::config;
use super::*;
use proptest::prelude::*;
use rand::SeedableRng;
use rand::rngs::StdRng;
use std::num::NonZeroU32;

#[derive(Clone, Debug)]
enum Step {
    Wait(u64),
    Acquire,
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
        4 => (any::<prop::sample::Index>(), class()).prop_map(|(i, c)| Step::Settle(i.index(64), c)),
        1 => any::<prop::sample::Index>().prop_map(|i| Step::Drop(i.index(64))),
    ];
    prop::collection::vec(step, 1..300)
}

proptest! {
    #[test]
    fn half_open_admits_at_most_its_probes_and_every_permit_comes_back(steps in steps(), probes in 1u32..4, seed: u64) {
        let config = Config { probes: NonZeroU32::new(probes).expect("not zero"), ..config() };
        let mut now = Instant::now();
        let (breaker, mut rng) = (Breaker::new(config, now), StdRng::seed_from_u64(seed));
        let mut held: Vec<Permit> = Vec::new();
        let mut state = State::Closed;
        for step in steps {
            let moved = match step {
                Step::Wait(ms) => {
                    now += Duration::from_millis(ms);
                    None
                }
                Step::Acquire => {
                    let admission = breaker.try_acquire(now, &mut rng);
                    held.extend(admission.permit.ok());
                    admission.moved
                }
                Step::Settle(at, class) if !held.is_empty() => {
                    let permit = held.swap_remove(at % held.len());
                    breaker.on_result(permit, class, now, &mut rng)
                }
                Step::Drop(at) if !held.is_empty() => {
                    drop(held.swap_remove(at % held.len()));
                    None
                }
                Step::Settle(..) | Step::Drop(_) => None,
            };
            let snapshot = breaker.snapshot(now);
            // The reported transitions form a chain without a gap, so none was left out.
            if let Some(moved) = moved {
                prop_assert_eq!(moved.from, state);
                prop_assert_eq!(moved.open_for.is_some(), moved.to == State::Open);
                state = moved.to;
            }
            prop_assert_eq!(snapshot.state, state);
            prop_assert!(snapshot.probes_out <= probes);
            prop_assert!(snapshot.state == State::HalfOpen || snapshot.probes_out == 0);
        }
        held.clear();
        prop_assert_eq!(breaker.snapshot(now).probes_out, 0);
    }

    /// A working upstream closes the breaker again whatever happened before, within the longest open time, one lease and a few requests.
    #[test]
    fn half_open_and_open_are_always_left(steps in steps(), seed: u64) {
        let mut now = Instant::now();
        let (breaker, mut rng) = (Breaker::new(config(), now), StdRng::seed_from_u64(seed));
        let mut lost: Vec<Permit> = Vec::new();
        for step in steps {
            match step {
                Step::Wait(ms) => now += Duration::from_millis(ms),
                Step::Acquire => lost.extend(breaker.try_acquire(now, &mut rng).permit.ok()),
                Step::Settle(at, class) if !lost.is_empty() => {
                    let permit = lost.swap_remove(at % lost.len());
                    breaker.on_result(permit, class, now, &mut rng);
                }
                Step::Settle(..) | Step::Drop(_) => {}
            }
        }
        // The permits still held are leaked on purpose: their owners never come back.
        std::mem::forget(lost);
        for _ in 0..4 {
            now += config().open_cap + config().probe_lease;
            if let Ok(permit) = breaker.try_acquire(now, &mut rng).permit {
                breaker.on_result(permit, Class::Success, now, &mut rng);
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
            let permit = breaker.try_acquire(now, &mut rng).permit.expect("closed");
            let class = if is_failure { Class::Failure } else { Class::Success };
            prop_assert_eq!(breaker.on_result(permit, class, now, &mut rng), None);
        }
    }
}
