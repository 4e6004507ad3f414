//! The policies under any list of operations: the budget never allows more than its law, the breaker admits no more probes than its limit, and every permit
//! comes back.

use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::{Duration, Instant};

use outrigger::clock;
use outrigger_policy::breaker::{self, Breaker, Permit, State};
use outrigger_policy::budget::{self, Budget, Withdrawal};
use outrigger_policy::outcome::Class;
use outrigger_policy::units::Ratio;
use rand::SeedableRng;
use rand::rngs::SmallRng;

const WINDOW: Duration = Duration::from_secs(10);

/// Panics if the property does not hold for `bytes`: two for the settings, then one for each operation.
pub fn check(bytes: &[u8]) {
    let [first, second, operations @ ..] = bytes else { return };
    check_budget(*first, *second, operations);
    check_breaker(*first, *second, operations);
}

fn check_budget(ratio: u8, floor: u8, operations: &[u8]) {
    let (ratio, floor) = (f64::from(ratio) / 100.0, u32::from(floor % 16));
    let started = clock::now();
    let config =
        budget::Config { ratio: Ratio::from_f64(ratio).expect("below three"), floor_per_second: floor, window: WINDOW };
    let (budget, mut now) = (Arc::new(Budget::new(config, started)), started);
    let (mut deposits, mut withdrawals) = (0_u32, 0_u32);
    for operation in operations {
        match operation % 4 {
            0 => now += step(*operation),
            1 => (0..operation / 4).for_each(|_| {
                budget.deposit(now);
                deposits += 1;
            }),
            _ => withdrawals += u32::from(budget.withdraw(now).map(Withdrawal::spend).is_ok()),
        }
        let time = now.duration_since(started) + WINDOW;
        let most = ratio * f64::from(deposits) + f64::from(floor) * time.as_secs_f64();
        assert!(f64::from(withdrawals) <= most + 1e-6, "{withdrawals} withdrawals where {most} are allowed");
    }
}

fn step(operation: u8) -> Duration {
    Duration::from_millis(u64::from(operation) * 17)
}

fn check_breaker(probes: u8, streak: u8, operations: &[u8]) {
    let probes = NonZeroU32::MIN.saturating_add(u32::from(probes % 4));
    let started = clock::now();
    let breaker = Breaker::new(breaker_config(probes, NonZeroU32::MIN.saturating_add(u32::from(streak % 8))), started);
    let (mut now, mut rng, mut held) = (started, SmallRng::seed_from_u64(u64::from(streak)), Vec::new());
    let mut state = State::Closed;
    for operation in operations {
        let moved = operate(&breaker, *operation, &mut now, &mut held, &mut rng);
        let snapshot = breaker.snapshot(now);
        if let Some(moved) = moved {
            assert_eq!(moved.from, state, "a change of state that was not reported");
            state = moved.to;
        }
        assert_eq!(snapshot.state, state);
        // A lease of 3 s is six spacings of 500 ms, so the waits of one, two and three spacings fit into it.
        assert!(snapshot.probes_out <= probes.get() + 3, "{snapshot:?}");
        assert!(snapshot.state == State::HalfOpen || snapshot.probes_out == 0, "{snapshot:?}");
    }
    held.clear();
    assert_eq!(breaker.snapshot(now).probes_out, 0, "a probe was not given back");
    for _ in 0..8 {
        now += breaker.config().open_cap + breaker.config().probe_lease;
        if let Ok(permit) = breaker.try_acquire(now).permit {
            breaker.on_result(permit, Class::Success, now, &mut rng);
        }
    }
    assert_eq!(breaker.snapshot(now).state, State::Closed, "a working upstream stays locked out");
}

fn operate(
    breaker: &Arc<Breaker>,
    operation: u8,
    now: &mut Instant,
    held: &mut Vec<Permit>,
    rng: &mut SmallRng,
) -> Option<breaker::Transition> {
    let at = usize::from(operation / 8);
    match operation % 8 {
        0 => *now += step(operation),
        1..=3 => {
            let admission = breaker.try_acquire(*now);
            held.extend(admission.permit.ok());
            return admission.moved;
        }
        4 if !held.is_empty() => drop(held.swap_remove(at % held.len())),
        _ if held.is_empty() => {}
        class => {
            let class = [Class::Failure, Class::Success, Class::Overload][usize::from(class) - 5];
            return breaker.on_result(held.swap_remove(at % held.len()), class, *now, rng);
        }
    }
    None
}

fn breaker_config(probes: NonZeroU32, consecutive_failures: NonZeroU32) -> breaker::Config {
    let ratio = |value| Ratio::from_f64(value).expect("in range");
    breaker::Config {
        window: WINDOW,
        failure_ratio: ratio(0.5),
        volume_min: 20,
        admitting_min: ratio(0.5),
        consecutive_failures,
        open_base: Duration::from_millis(500),
        open_cap: Duration::from_secs(2),
        open_jitter: ratio(0.1),
        probes,
        probe_lease: Duration::from_secs(3),
    }
}
