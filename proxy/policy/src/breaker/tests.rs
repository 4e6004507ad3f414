//! Each transition, each boundary, each late or lost result.

use super::*;
use crate::units::Ratio;
use rand::SeedableRng;
use rand::rngs::StdRng;
use std::num::NonZeroU32;
use std::time::Duration;

const SECOND: Duration = Duration::from_secs(1);

pub(super) fn config() -> Config {
    Config {
        window: 10 * SECOND,
        failure_ratio: Ratio::from_ppm(500_000).expect("in range"),
        volume_min: 20,
        admitting_min: Ratio::ZERO,
        consecutive_failures: NonZeroU32::new(5).expect("not zero"),
        open_base: SECOND,
        open_cap: 30 * SECOND,
        open_jitter: Ratio::ZERO,
        probes: NonZeroU32::MIN,
        probe_lease: 5 * SECOND,
    }
}

struct Bench {
    breaker: Arc<Breaker>,
    now: Instant,
    rng: StdRng,
}

impl Bench {
    fn new(config: Config) -> Bench {
        let now = Instant::now();
        Bench { breaker: Breaker::new(config, now), now, rng: StdRng::seed_from_u64(1) }
    }

    fn acquire(&mut self) -> Admission {
        self.breaker.try_acquire(self.now)
    }

    fn permit(&mut self) -> Permit {
        self.acquire().permit.expect("the breaker admits")
    }

    fn settle(&mut self, permit: Permit, class: Class) -> Option<Transition> {
        self.breaker.on_result(permit, class, self.now, &mut self.rng)
    }

    fn head(&mut self, permit: &mut Permit) {
        self.breaker.on_head(permit, self.now);
    }

    /// As before an attempt, where requests can go elsewhere.
    fn open_by_ratio(&mut self) -> Option<Transition> {
        self.breaker.open_by_ratio(self.now, || true, &mut self.rng)
    }

    /// Results in the window, failures among them, and failures in a row.
    fn counts(&self) -> (u32, u32, u32) {
        let snapshot = self.breaker.snapshot(self.now);
        (snapshot.results, snapshot.failures, snapshot.consecutive_failures)
    }

    fn attempt(&mut self, class: Class) -> Option<Transition> {
        let permit = self.permit();
        self.settle(permit, class)
    }

    fn trip(&mut self) -> Transition {
        (0..5).find_map(|_| self.attempt(Class::Failure)).expect("five failures in a row trip it")
    }

    fn pass(&mut self, time: Duration) {
        self.now += time;
    }

    fn state(&self) -> State {
        self.breaker.snapshot(self.now).state
    }
}

#[test]
fn failures_in_a_row_trip_it_and_a_success_starts_the_count_again() {
    let mut bench = Bench::new(config());
    for _ in 0..4 {
        assert_eq!(bench.attempt(Class::Failure), None);
    }
    assert_eq!(bench.attempt(Class::Success), None);
    for _ in 0..4 {
        assert_eq!(bench.attempt(Class::Failure), None);
    }
    let moved = bench.attempt(Class::Failure).expect("the fifth in a row");
    assert_eq!((moved.from, moved.to, moved.reason), (State::Closed, State::Open, Reason::ConsecutiveFailures));
    assert_eq!(moved.open_for, Some(SECOND));
    let snapshot = bench.breaker.snapshot(bench.now);
    assert_eq!((snapshot.results, snapshot.failures, snapshot.consecutive_failures), (10, 9, 5), "why it is open");
}

#[test]
fn the_ratio_trips_at_its_boundary_and_only_with_enough_volume() {
    let mut bench = Bench::new(config());
    for n in 0..20 {
        assert_eq!(bench.open_by_ratio(), None, "{n} results: below the volume");
        let class = if n % 2 == 0 { Class::Failure } else { Class::Success };
        assert_eq!(bench.attempt(class), None, "result {n}: the ratio alone opens nothing");
    }
    // 10 failures of 20: exactly half.
    assert_eq!(bench.breaker.open_by_ratio(bench.now, || false, &mut bench.rng), None, "the last endpoint");
    assert_eq!(bench.state(), State::Closed);
    let moved = bench.open_by_ratio().expect("10 of 20 reach one half");
    assert_eq!((moved.from, moved.to, moved.reason), (State::Closed, State::Open, Reason::FailureRatio));
    assert_eq!(bench.open_by_ratio(), None, "it is open");
}

#[test]
fn nobody_is_asked_whether_requests_can_go_elsewhere_below_the_ratio_or_after_its_window() {
    let asked = || panic!("nobody wants to know");
    let mut bench = Bench::new(Config { consecutive_failures: NonZeroU32::MAX, ..config() });
    assert_eq!(bench.breaker.open_by_ratio(bench.now, asked, &mut bench.rng), None);
    for class in [Class::Failure; 9].into_iter().chain([Class::Success; 11]) {
        bench.attempt(class);
    }
    assert_eq!(bench.breaker.open_by_ratio(bench.now, asked, &mut bench.rng), None, "9 of 20");
    for _ in 0..20 {
        assert_eq!(bench.attempt(Class::Failure), None);
    }
    bench.pass(10 * SECOND);
    assert_eq!(bench.breaker.open_by_ratio(bench.now, asked, &mut bench.rng), None, "29 of 40, a window ago");
}

#[test]
fn a_healthy_head_ends_a_row_and_counts_at_once_whatever_becomes_of_its_body() {
    for end in [Some(Class::Success), Some(Class::Neutral), Some(Class::Overload), None] {
        let mut bench = Bench::new(config());
        for _ in 0..4 {
            assert_eq!(bench.attempt(Class::Failure), None);
        }
        let mut stream = bench.permit();
        assert_eq!(bench.counts(), (4, 4, 4), "a permit says nothing");
        bench.head(&mut stream);
        bench.head(&mut stream);
        assert_eq!(bench.counts(), (5, 4, 0), "by its head, once");
        bench.pass(60 * SECOND);
        match end {
            Some(class) => assert_eq!(bench.settle(stream, class), None),
            None => drop(stream),
        }
        assert_eq!(bench.counts(), (0, 0, 0), "{end:?} adds nothing");
    }
}

#[test]
fn a_body_that_breaks_off_turns_the_success_of_its_head_into_one_failure_of_that_moment() {
    for (after, results) in [(Duration::ZERO, 3), (9 * SECOND, 3), (10 * SECOND, 1), (3_600 * SECOND, 1)] {
        let mut bench = Bench::new(config());
        bench.attempt(Class::Success);
        let mut stream = bench.permit();
        bench.head(&mut stream);
        bench.attempt(Class::Success);
        assert_eq!(bench.counts(), (3, 0, 0));
        bench.pass(after);
        assert_eq!(bench.settle(stream, Class::Failure), None);
        assert_eq!(bench.counts(), (results, 1, 1), "after {after:?}");
        bench.pass(9 * SECOND);
        assert_eq!((bench.counts().0 > 0, bench.counts().1), (true, 1), "the failure is as old as the break");
    }
}

#[test]
fn bodies_that_all_break_off_open_it_although_their_heads_are_healthy() {
    let mut bench = Bench::new(config());
    let broken = |bench: &mut Bench| {
        let mut stream = bench.permit();
        bench.head(&mut stream);
        bench.settle(stream, Class::Failure)
    };
    for end in [Class::Success, Class::Neutral] {
        for _ in 0..4 {
            assert_eq!(broken(&mut bench), None);
        }
        assert_eq!(bench.counts().2, 4);
        let mut whole = bench.permit();
        bench.head(&mut whole);
        assert_eq!(bench.counts().2, 4, "bodies break off after healthy heads");
        assert_eq!(bench.settle(whole, end), None);
        assert_eq!(bench.counts().2, 0, "one that does not break off ends the row");
    }
    let moved = (0..5).find_map(|_| broken(&mut bench)).expect("five in a row");
    assert_eq!((moved.to, moved.reason), (State::Open, Reason::ConsecutiveFailures));
}

#[test]
fn failures_are_in_a_row_only_if_each_comes_within_a_window_of_the_one_before() {
    for (wait, is_trip) in [(10 * SECOND, true), (10 * SECOND + Duration::from_nanos(1), false)] {
        let mut bench = Bench::new(config());
        for _ in 0..4 {
            assert_eq!(bench.attempt(Class::Failure), None);
            bench.pass(wait);
        }
        assert_eq!(bench.attempt(Class::Failure).is_some(), is_trip, "one each {wait:?}");
        assert_eq!(bench.counts().2, if is_trip { 5 } else { 1 });
        bench.pass(11 * SECOND);
        assert_eq!(bench.counts().2, if is_trip { 5 } else { 0 }, "an old row is shown only where it is the reason");
    }
}

#[test]
fn a_head_or_a_correction_from_before_a_trip_counts_in_no_later_closed_time() {
    let mut bench = Bench::new(config());
    let (mut with_head, mut without, mut late_head) = (bench.permit(), bench.permit(), bench.permit());
    bench.head(&mut with_head);
    bench.trip();
    bench.head(&mut without);
    bench.pass(SECOND);
    assert_eq!(bench.attempt(Class::Success).map(|m| m.to), Some(State::Closed));
    bench.head(&mut late_head);
    assert_eq!(bench.counts(), (0, 0, 0));
    for late in [with_head, without, late_head] {
        assert_eq!(bench.settle(late, Class::Failure), None);
    }
    assert_eq!((bench.state(), bench.counts()), (State::Closed, (0, 0, 0)));
}

#[test]
fn failures_older_than_the_window_are_forgotten() {
    let mut bench = Bench::new(Config { consecutive_failures: NonZeroU32::MAX, ..config() });
    assert!(!bench.permit().is_probe());
    for _ in 0..19 {
        assert_eq!(bench.attempt(Class::Failure), None);
    }
    bench.pass(10 * SECOND);
    assert_eq!(bench.attempt(Class::Failure), None);
    assert_eq!(bench.breaker.snapshot(bench.now).results, 1);
}

#[test]
fn overload_and_neutral_results_are_not_in_the_ratio_and_only_overload_ends_a_row() {
    let mut bench = Bench::new(config());
    bench.attempt(Class::Failure);
    for _ in 0..100 {
        assert_eq!(bench.attempt(Class::Neutral), None);
    }
    assert_eq!(bench.counts(), (1, 1, 1));
    for _ in 0..100 {
        assert_eq!(bench.attempt(Class::Overload), None);
    }
    assert_eq!(bench.counts(), (1, 1, 0), "it is alive");
}

#[test]
fn open_refuses_until_its_time_is_over_and_says_when_that_is() {
    let mut bench = Bench::new(config());
    assert_eq!(bench.breaker.snapshot(bench.now).retry_at, None);
    bench.trip();
    let reopen_at = bench.now + SECOND;
    assert_eq!(bench.breaker.snapshot(bench.now).retry_at, Some(reopen_at));
    bench.pass(SECOND - Duration::from_nanos(1));
    let refusal = bench.acquire().permit.expect_err("still open");
    assert_eq!(refusal.retry_at, reopen_at);
    assert!(!bench.breaker.admits(bench.now));
    bench.pass(Duration::from_nanos(1));
    assert!(bench.breaker.admits(bench.now));
    let admission = bench.acquire();
    assert!(admission.permit.is_ok_and(|p| p.is_probe()));
    assert_eq!(admission.moved.map(|m| (m.to, m.reason)), Some((State::HalfOpen, Reason::OpenTimeOver)));
}

#[test]
fn one_probe_closes_it_and_the_old_failures_are_gone() {
    let mut bench = Bench::new(config());
    bench.trip();
    bench.pass(SECOND);
    let moved = bench.attempt(Class::Success).expect("the probe closes it");
    assert_eq!((moved.from, moved.to, moved.reason), (State::HalfOpen, State::Closed, Reason::ProbesSucceeded));
    assert_eq!(bench.breaker.snapshot(bench.now).failures, 0);
    for _ in 0..4 {
        assert_eq!(bench.attempt(Class::Failure), None);
    }
}

#[test]
fn a_failed_or_overloaded_probe_opens_it_again_for_twice_the_time_up_to_the_cap() {
    let mut bench = Bench::new(config());
    assert_eq!(bench.trip().open_for, Some(SECOND));
    for (class, seconds) in [
        (Class::Failure, 2),
        (Class::Overload, 4),
        (Class::Failure, 8),
        (Class::Failure, 16),
        (Class::Failure, 30),
        (Class::Failure, 30),
    ] {
        bench.pass(30 * SECOND);
        let moved = bench.attempt(class).expect("a failed probe opens it");
        assert_eq!((moved.reason, moved.open_for), (Reason::ProbeFailed, Some(seconds * SECOND)));
    }
}

#[test]
fn the_open_time_starts_over_only_after_a_calm_window() {
    for (calm, expected) in [(9 * SECOND, 2 * SECOND), (10 * SECOND, SECOND)] {
        let mut bench = Bench::new(config());
        bench.trip();
        bench.pass(SECOND);
        assert_eq!(bench.attempt(Class::Success).map(|m| m.to), Some(State::Closed));
        bench.pass(calm);
        assert_eq!(bench.trip().open_for, Some(expected), "after {calm:?} closed");
    }
}

#[test]
fn jitter_only_shortens_the_open_time_and_by_all_of_its_share() {
    let mut bench = Bench::new(Config { open_jitter: Ratio::from_ppm(200_000).expect("in range"), ..config() });
    let mut halves = [0; 2];
    for _ in 0..50 {
        bench.pass(60 * SECOND);
        bench.breaker = Breaker::new(bench.breaker.config(), bench.now);
        let open_for = bench.trip().open_for.expect("a trip has an open time");
        assert!((SECOND * 4 / 5..=SECOND).contains(&open_for), "{open_for:?}");
        halves[usize::from(open_for >= SECOND * 9 / 10)] += 1;
    }
    assert!(halves.iter().all(|times| *times > 10), "it fills its share of the open time: {halves:?}");
}

#[test]
fn late_result_from_before_the_trip_is_ignored() {
    let mut bench = Bench::new(config());
    let (early, late) = (bench.permit(), bench.permit());
    bench.trip();
    assert_eq!(bench.settle(early, Class::Success), None);
    assert_eq!(bench.state(), State::Open);
    bench.pass(SECOND);
    let probe = bench.permit();
    assert_eq!(bench.settle(late, Class::Failure), None);
    assert_eq!(bench.state(), State::HalfOpen);
    assert_eq!(bench.settle(probe, Class::Success).map(|m| m.to), Some(State::Closed));
}

#[test]
fn a_result_from_before_a_trip_counts_in_no_later_closed_time() {
    let mut bench = Bench::new(config());
    let mut late = Vec::new();
    for _ in 0..40 {
        late.push(bench.permit());
        bench.trip();
        bench.pass(30 * SECOND);
        assert_eq!(bench.attempt(Class::Success).map(|m| m.to), Some(State::Closed));
    }
    for permit in late {
        assert_eq!(bench.settle(permit, Class::Failure), None);
    }
    let snapshot = bench.breaker.snapshot(bench.now);
    assert_eq!((snapshot.state, snapshot.results, snapshot.consecutive_failures), (State::Closed, 0, 0));
}

#[test]
fn half_open_admits_no_more_than_its_probes_at_once_and_closes_after_as_many_successes() {
    let mut bench = Bench::new(Config { probes: NonZeroU32::new(3).expect("not zero"), ..config() });
    bench.trip();
    bench.pass(SECOND);
    let mut probes = Vec::new();
    for _ in 0..3 {
        assert!(bench.breaker.admits(bench.now));
        probes.push(bench.permit());
    }
    assert!(!bench.breaker.admits(bench.now));
    let refusal = bench.acquire().permit.expect_err("all places are taken");
    assert_eq!(refusal.retry_at, bench.now + SECOND, "one spacing after the youngest");
    let first = probes.pop().expect("three");
    assert_eq!(bench.settle(first, Class::Success), None);
    assert!(bench.acquire().permit.is_err(), "one passed and two out are three");
    let second = probes.pop().expect("two");
    assert_eq!(bench.settle(second, Class::Success), None);
    let third = probes.pop().expect("one");
    assert_eq!(bench.settle(third, Class::Success).map(|m| m.to), Some(State::Closed));
}

#[test]
fn a_place_that_is_given_back_without_a_verdict_is_free_one_spacing_after_the_last_probe() {
    let mut bench = Bench::new(config());
    bench.trip();
    bench.pass(SECOND);
    for is_dropped in [true, false] {
        let probe = bench.permit();
        let due = bench.now + SECOND;
        bench.pass(SECOND / 10);
        if is_dropped {
            drop(probe);
        } else {
            assert_eq!(bench.settle(probe, Class::Neutral), None);
        }
        assert_eq!(bench.breaker.snapshot(bench.now).probes_out, 0);
        assert!(!bench.breaker.admits(bench.now));
        assert_eq!(bench.acquire().permit.expect_err("too soon").retry_at, due, "dropped: {is_dropped}");
        bench.pass(SECOND * 9 / 10);
        assert!(bench.breaker.admits(bench.now));
    }
    assert_eq!(bench.attempt(Class::Success).map(|m| m.to), Some(State::Closed));
}

#[test]
fn callers_that_leave_at_once_send_no_more_probes_than_one_for_each_spacing() {
    for probes in [1, 3] {
        let mut bench = Bench::new(Config { probes: NonZeroU32::new(probes).expect("not zero"), ..config() });
        bench.trip();
        bench.pass(SECOND);
        let mut sent = 0;
        for _ in 0..1_000 {
            sent += u32::from(bench.acquire().permit.is_ok()); // and dropped
            bench.pass(SECOND / 100);
        }
        assert_eq!(sent, 10, "{probes} at once");
    }
}

#[test]
fn behind_probes_that_take_long_others_go_after_waits_that_grow() {
    let mut bench = Bench::new(Config { probe_lease: 60 * SECOND, ..config() });
    bench.trip();
    bench.pass(SECOND);
    let mut slow = vec![bench.permit()];
    for wait in 1..=4 {
        bench.pass(wait * SECOND - Duration::from_nanos(1));
        assert!(!bench.breaker.admits(bench.now), "{wait} are out");
        let due = bench.now + Duration::from_nanos(1);
        assert_eq!(bench.acquire().permit.expect_err("too soon").retry_at, due, "{wait} are out");
        assert_eq!(bench.breaker.open(bench.now).retry_at, due, "{wait} are out");
        bench.pass(Duration::from_nanos(1));
        assert!(bench.breaker.admits(bench.now), "{wait} are out");
        slow.push(bench.permit());
    }
    assert_eq!(bench.breaker.snapshot(bench.now).probes_out, 5);
    let last = slow.pop().expect("five");
    assert_eq!(bench.settle(last, Class::Success).map(|m| m.to), Some(State::Closed), "the slow ones hold nothing up");
    for late in slow {
        assert_eq!(bench.settle(late, Class::Failure), None, "without a head it is from before the closing");
    }
}

#[test]
fn the_spacing_is_the_shortest_open_time_and_a_second_at_most() {
    for (open_base, spacing) in [(SECOND / 10, SECOND / 10), (SECOND, SECOND), (60 * SECOND, SECOND)] {
        assert_eq!(Config { open_base, ..config() }.probe_spacing(), spacing);
    }
}

#[test]
fn an_expired_lease_gives_up_its_place_and_is_no_verdict_but_its_late_result_is_one() {
    for (class, to, reason) in
        [(Class::Success, State::Closed, Reason::ProbesSucceeded), (Class::Failure, State::Open, Reason::ProbeFailed)]
    {
        let mut bench = Bench::new(Config { probe_lease: SECOND / 2, ..config() });
        bench.trip();
        bench.pass(SECOND);
        let slow = bench.permit();
        let lease_end = bench.now + SECOND / 2;
        assert_eq!(bench.acquire().permit.expect_err("the lease is still running").retry_at, lease_end);
        bench.pass(SECOND / 2);
        assert!(bench.breaker.admits(bench.now));
        let admission = bench.acquire();
        assert_eq!((admission.moved, bench.state()), (None, State::HalfOpen));
        assert!(admission.permit.is_ok_and(|permit| permit.is_probe()));
        let moved = bench.settle(slow, class).expect("a verdict, however late");
        assert_eq!((moved.to, moved.reason), (to, reason));
    }
}

#[test]
fn no_time_passes_a_probe_but_a_piece_of_its_body_one_spacing_after_its_head_does() {
    let mut bench = Bench::new(config());
    bench.trip();
    bench.pass(SECOND);
    let mut stream = bench.permit();
    stream.on_piece(bench.now);
    bench.head(&mut stream);
    bench.pass(SECOND - Duration::from_nanos(1));
    stream.on_piece(bench.now);
    let due = bench.now + Duration::from_nanos(1);
    assert_eq!(bench.acquire().permit.expect_err("the body is too young").retry_at, due);
    bench.pass(Duration::from_nanos(1));
    let other = bench.permit();
    assert!(other.is_probe(), "the head alone, however old, is no success");
    drop(other);
    stream.on_piece(bench.now);
    assert!(bench.breaker.admits(bench.now));
    let admission = bench.acquire();
    let moved = admission.moved.expect("the body goes on");
    assert_eq!((moved.from, moved.to, moved.reason), (State::HalfOpen, State::Closed, Reason::ProbesSucceeded));
    assert!(admission.permit.is_ok_and(|permit| !permit.is_probe()));
    stream.on_piece(bench.now);
    assert_eq!(bench.settle(stream, Class::Success), None);
}

#[test]
fn a_body_that_goes_on_after_its_probes_lease_passes_too_but_not_in_another_era() {
    for is_late in [false, true] {
        let mut bench = Bench::new(config());
        bench.trip();
        bench.pass(SECOND);
        let mut stream = bench.permit();
        bench.head(&mut stream);
        bench.pass(10 * SECOND);
        if is_late {
            assert_eq!(bench.attempt(Class::Failure).map(|m| m.to), Some(State::Open));
            bench.pass(30 * SECOND);
            drop(bench.permit());
        }
        stream.on_piece(bench.now);
        bench.pass(SECOND);
        assert_eq!(bench.permit().is_probe(), is_late);
    }
}

#[test]
fn a_response_that_breaks_off_right_after_its_head_fails_its_probe() {
    let mut bench = Bench::new(config());
    assert_eq!(bench.trip().open_for, Some(SECOND));
    for seconds in [2, 4, 8] {
        bench.pass(30 * SECOND);
        let mut probe = bench.permit();
        bench.head(&mut probe);
        let moved = bench.settle(probe, Class::Failure).expect("it fails");
        assert_eq!((moved.from, moved.reason), (State::HalfOpen, Reason::ProbeFailed));
        assert_eq!(moved.open_for, Some(seconds * SECOND));
    }
}

#[test]
fn a_probe_whose_body_breaks_off_after_it_closed_the_breaker_trips_it_at_once() {
    for (closed_for, is_trip) in [(Duration::ZERO, true), (9 * SECOND, true), (10 * SECOND, false)] {
        let mut bench = Bench::new(config());
        bench.trip();
        bench.pass(SECOND);
        let mut stream = bench.permit();
        bench.head(&mut stream);
        bench.pass(SECOND);
        stream.on_piece(bench.now);
        assert_eq!(bench.attempt(Class::Success), None);
        assert_eq!(bench.state(), State::Closed);
        bench.pass(closed_for);
        let moved = bench.settle(stream, Class::Failure);
        let expected = is_trip.then_some((State::Closed, State::Open, Reason::ProbeFailed, Some(2 * SECOND)));
        assert_eq!(moved.map(|m| (m.from, m.to, m.reason, m.open_for)), expected, "closed for {closed_for:?}");
        let failures = bench.breaker.snapshot(bench.now).consecutive_failures;
        assert!(is_trip || failures == 1, "after a calm window it is one failure of many");
    }
}

#[test]
fn a_body_that_goes_on_passes_once_and_not_again_when_it_is_whole() {
    let mut bench = Bench::new(Config { probes: NonZeroU32::new(2).expect("not zero"), ..config() });
    bench.trip();
    bench.pass(SECOND);
    let mut stream = bench.permit();
    bench.head(&mut stream);
    bench.pass(SECOND);
    stream.on_piece(bench.now);
    stream.on_piece(bench.now);
    let second = bench.permit();
    assert_eq!(bench.settle(stream, Class::Success), None, "one of two");
    assert_eq!(bench.settle(second, Class::Success).map(|m| m.to), Some(State::Closed));
}

#[test]
fn responses_that_are_always_slow_close_it_one_after_the_other() {
    let mut bench = Bench::new(Config { probes: NonZeroU32::new(2).expect("not zero"), ..config() });
    bench.trip();
    bench.pass(SECOND);
    let slow = [bench.permit(), bench.permit()];
    bench.pass(60 * SECOND);
    let moved = slow.map(|permit| bench.settle(permit, Class::Success).map(|m| m.to));
    assert_eq!(moved, [None, Some(State::Closed)], "although both leases are over");
}

#[test]
fn many_cores_trip_one_breaker_once() {
    let breaker = Breaker::new(config(), Instant::now());
    let now = Instant::now();
    let trips: usize = std::thread::scope(|scope| {
        let attempt = |seed| {
            let mut rng = StdRng::seed_from_u64(seed);
            let attempts = (0..2_000).filter_map(|_| {
                let permit = breaker.try_acquire(now).permit.ok()?;
                breaker.on_result(permit, Class::Failure, now, &mut rng)
            });
            attempts.count()
        };
        let threads: Vec<_> = (0..4).map(|seed| scope.spawn(move || attempt(seed))).collect();
        threads.into_iter().map(|t| t.join().expect("no thread panics")).sum()
    });
    assert_eq!(trips, 1);
}
