//! The laws with all cores at work: real threads, as many as there are cores and at least four, on one budget and on one breaker.
//!
//! Time is still simulated. All threads do the work of a step at one simulated moment, in parallel, and meet before the
//! next step. There the test knows exactly what they did and what they were allowed to do. A budget or a breaker that lost one count between
//! two cores, or that let two cores spend one token, is off by one at the next meeting.

#![expect(clippy::disallowed_methods, reason = "one moment to start from; the threads count on from there")]

use std::num::NonZeroU32;
use std::sync::atomic::AtomicU32;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Barrier, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use outrigger_policy::breaker::{Breaker, Config, Permit, State, Transition};
use outrigger_policy::budget::{self, Budget, Withdrawal};
use outrigger_policy::outcome::Class;
use outrigger_policy::units::Ratio;
use rand::SeedableRng;
use rand::rngs::StdRng;

/// So many failures take longer than waking all threads, so that all of them are at work when the breaker opens.
const STREAK: u32 = 20_000;
const OPEN_FOR: Duration = Duration::from_millis(500);

fn cores() -> usize {
    thread::available_parallelism().map_or(1, usize::from).max(4)
}

/// Runs `work(core, step, moment)` on all cores at once, step by step. Between two steps only `meet(step, moment)` runs.
fn side_by_side(
    steps: u32,
    step_lasts: Duration,
    work: impl Fn(&mut StdRng, u32, Instant) + Sync,
    mut meet: impl FnMut(u32, Instant),
) {
    let (start, cores) = (Instant::now(), cores());
    let barrier = Barrier::new(cores + 1);
    let (barrier, work) = (&barrier, &work);
    thread::scope(|scope| {
        for core in 0..cores {
            scope.spawn(move || {
                let mut rng = StdRng::seed_from_u64(core as u64);
                for step in 0..steps {
                    barrier.wait();
                    work(&mut rng, step, start + step_lasts * step);
                    barrier.wait();
                }
            });
        }
        // A panic in `meet` must not leave the others at the barrier for ever, so it is resumed when all have ended.
        let mut panicked = None;
        for step in 0..steps {
            barrier.wait();
            barrier.wait();
            if panicked.is_none() {
                let met = || meet(step, start + step_lasts * step);
                panicked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(met)).err();
            }
        }
        if let Some(panic) = panicked {
            std::panic::resume_unwind(panic);
        }
    });
}

/// 30 s in steps of a fifth of a second. In each the cores make their requests and then compete for every retry that these have paid for.
#[test]
fn with_all_cores_at_work_a_budget_of_a_fifth_stays_a_fifth() {
    // Long enough for cores to meet at the last token, and a tenth of the window has room for five times as many.
    const REQUESTS: u32 = 40_000;
    let ratio = Ratio::from_f64(0.2).expect("in range");
    let window = Duration::from_secs(10);
    let config = budget::Config { ratio, floor_per_second: 0, window };
    let budget = Arc::new(Budget::new(config, Instant::now()));
    let (deposits, withdrawals) = (AtomicU32::new(0), AtomicU32::new(0));
    let work = |_: &mut StdRng, step: u32, now| {
        if step.is_multiple_of(2) {
            while deposits.fetch_add(1, Relaxed) < REQUESTS {
                budget.deposit(now);
            }
        } else {
            while budget.withdraw(now).map(Withdrawal::spend).is_ok() {
                withdrawals.fetch_add(1, Relaxed);
            }
        }
    };
    let (mut requests, mut retries) = (0, 0);
    side_by_side(300, Duration::from_millis(100), work, |step, now| {
        if step.is_multiple_of(2) {
            requests += REQUESTS;
            deposits.store(0, Relaxed);
            return;
        }
        retries += withdrawals.swap(0, Relaxed);
        let share = f64::from(retries) / f64::from(requests);
        assert!((0.19..=0.2).contains(&share), "step {step}: {retries} retries of {requests} requests");
        assert!(budget.balance(now).as_f64() < 1.0, "step {step}: a retry was refused though it was paid for");
        // Before anything has left the window, no token may be lost or spent twice.
        assert!(step >= 90 || retries == requests / 5, "step {step}: {retries} retries of {requests} requests");
    });
}

fn breaker(probes: u32) -> Arc<Breaker> {
    let number = |n| NonZeroU32::new(n).expect("not zero");
    let config = Config {
        window: Duration::from_secs(10),
        failure_ratio: Ratio::from_f64(0.5).expect("in range"),
        // Only the streak can open it.
        volume_min: u32::MAX,
        admitting_min: Ratio::ZERO,
        consecutive_failures: number(STREAK),
        open_base: OPEN_FOR,
        open_cap: OPEN_FOR,
        open_jitter: Ratio::from_f64(0.0).expect("in range"),
        probes: number(probes),
        probe_lease: Duration::from_secs(60),
    };
    Breaker::new(config, Instant::now())
}

/// All cores open the breaker at once and make it half-open at once, and its probe closes it; two hundred times.
#[test]
fn with_all_cores_at_work_one_breaker_opens_once_and_reports_it_once() {
    let breaker = breaker(1);
    let (opened, probed, closed, late) = (AtomicU32::new(0), AtomicU32::new(0), AtomicU32::new(0), AtomicU32::new(0));
    let count = |moved: Option<Transition>| {
        let counter = match moved.map(|moved| moved.to) {
            Some(State::Open) => &opened,
            Some(State::HalfOpen) => &probed,
            Some(State::Closed) => &closed,
            None => return,
        };
        counter.fetch_add(1, Relaxed);
    };
    let work = |rng: &mut StdRng, step: u32, now| {
        // Even steps: everything fails until the breaker refuses. Odd steps, an open time later: every probe succeeds.
        let class = if step.is_multiple_of(2) { Class::Failure } else { Class::Success };
        loop {
            let admission = breaker.try_acquire(now);
            count(admission.moved);
            let Ok(permit) = admission.permit else { break };
            let is_over = class == Class::Success && !permit.is_probe();
            if is_over && breaker.snapshot(now).state != State::Closed {
                late.fetch_add(1, Relaxed);
            }
            count(breaker.on_result(permit, class, now, rng));
            if is_over {
                break;
            }
        }
    };
    side_by_side(400, OPEN_FOR, work, |step, now| {
        let (opened, probed, closed) = (opened.load(Relaxed), probed.load(Relaxed), closed.load(Relaxed));
        let state = breaker.snapshot(now).state;
        let round = step / 2 + 1;
        let expected =
            if step.is_multiple_of(2) { (State::Open, round, round - 1) } else { (State::Closed, round, round) };
        assert_eq!((state, opened, closed), expected, "step {step}: state, openings reported, closings reported");
        assert_eq!(probed, closed, "step {step}: half-open was reported as often as closed");
        assert_eq!(late.load(Relaxed), 0, "step {step}: a permit without a probe while it was not closed");
    });
}

/// The breaker stays half-open: in every other step cores take probes and give them back without a result, and in the step after it, one spacing later, they take all
/// there are.
#[test]
fn with_all_cores_at_work_three_probes_are_three_probes() {
    const PROBES: u32 = 3;
    const ATTEMPTS: u32 = 2_000;
    let breaker = breaker(PROBES);
    let mut rng = StdRng::seed_from_u64(7);
    let begin = Instant::now();
    while let Ok(permit) = breaker.try_acquire(begin).permit {
        breaker.on_result(permit, Class::Failure, begin, &mut rng);
    }
    let (out, most, strangers) = (AtomicU32::new(0), AtomicU32::new(0), AtomicU32::new(0));
    let held: Mutex<Vec<Permit>> = Mutex::default();
    let hold = || held.lock().unwrap_or_else(PoisonError::into_inner);
    let work = |_: &mut StdRng, step: u32, now: Instant| {
        for _ in 0..ATTEMPTS {
            let Ok(permit) = breaker.try_acquire(now + OPEN_FOR).permit else { continue };
            strangers.fetch_add(u32::from(!permit.is_probe()), Relaxed);
            most.fetch_max(out.fetch_add(1, Relaxed) + 1, Relaxed);
            if step % 2 == 1 {
                hold().push(permit);
            } else {
                out.fetch_sub(1, Relaxed);
                drop(permit);
            }
        }
    };
    side_by_side(300, OPEN_FOR, work, |step, now| {
        let permits = std::mem::take(&mut *hold());
        out.store(0, Relaxed);
        let snapshot = breaker.snapshot(now + OPEN_FOR);
        let held = if step % 2 == 1 { PROBES } else { 0 };
        assert_eq!((permits.len(), snapshot.probes_out), (held as usize, held), "step {step}: held, known to be");
        assert_eq!(snapshot.state, State::HalfOpen, "step {step}");
        drop(permits);
        assert_eq!(breaker.snapshot(now + OPEN_FOR).probes_out, 0, "step {step}: all were given back");
    });
    assert_eq!(strangers.load(Relaxed), 0, "permits without a probe");
    assert!(most.load(Relaxed) <= PROBES, "{} probes were out at once", most.load(Relaxed));
}
