//! The loop step by step: which steps it asks for, and which decisions it emits.

use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use rand::SeedableRng;
use rand::rngs::StdRng;

use super::*;
use crate::backoff::Backoff;
use crate::breaker::{self, Breaker};
use crate::budget::{self, Budget, Withdrawal};
use crate::deadline::Timeouts;
use crate::endpoint::Endpoint;
use crate::limit::InFlight;
use crate::observe::Scope;
use crate::outcome::{Class, Pushback};
use crate::retry;
use crate::units::Ratio;

const OK: Outcome = Outcome::Response { status: 200, pushback: Pushback::None };
const FAILED: Outcome = Outcome::Response { status: 503, pushback: Pushback::None };

/// One upstream, one request, and a log of all decisions, one line each.
pub(super) struct World {
    pub(super) policies: Policies,
    pub(super) endpoints: Vec<Arc<Endpoint<&'static str>>>,
    pub(super) now: Instant,
    pub(super) rng: StdRng,
    pub(super) log: Log,
    pub(super) upload: Upload,
    pub(super) forgiven: Duration,
}

#[derive(Default)]
pub(super) struct Log(pub(super) Vec<String>);

impl Observer<&'static str> for Log {
    fn on(&mut self, _: Instant, decision: Decision<'_, &'static str>) {
        self.0.push(match decision {
            Decision::BreakerMoved { scope: Scope::Calls, transition } => format!("calls {:?}", transition.to),
            Decision::BreakerMoved { scope: Scope::Endpoint(endpoint), transition } => {
                format!("{} {:?}", endpoint.at, transition.to)
            }
            Decision::Admitted { is_probe: false } => "admitted".to_owned(),
            Decision::Admitted { is_probe: true } => "admitted as a probe".to_owned(),
            Decision::Rejected(why) => format!("rejected: {why:?}"),
            Decision::Attempt { number, endpoint, is_hedge } => {
                format!("{} {number} at {}", if is_hedge { "hedge" } else { "attempt" }, endpoint.at)
            }
            Decision::Ended { number, outcome } => format!("{number} ended: {outcome:?}"),
            Decision::Retry { number, reason, .. } => format!("{number} again: {reason:?}"),
            Decision::NoRetry { number, why } => format!("{number} not again: {why:?}"),
            Decision::NoHedge { number, why } => format!("{number} goes on alone: {why:?}"),
            Decision::Held { .. } => "held".to_owned(),
            Decision::Queued { .. } => "queued".to_owned(),
            Decision::Cancelled { number } => format!("{number} cancelled"),
        });
    }
}

pub(super) fn breaker_config() -> breaker::Config {
    breaker::Config {
        window: Duration::from_secs(10),
        failure_ratio: Ratio::ONE,
        volume_min: 1_000,
        admitting_min: Ratio::ZERO,
        consecutive_failures: NonZeroU32::new(2).expect("not zero"),
        open_base: Duration::from_millis(500),
        open_cap: Duration::from_secs(2),
        open_jitter: Ratio::ZERO,
        probes: NonZeroU32::MIN,
        probe_lease: Duration::from_secs(35),
    }
}

impl World {
    /// With breakers that trip at the second failure in a row.
    pub(super) fn new(endpoints: &[&'static str]) -> World {
        let now = Instant::now();
        let breaker = || Some(Breaker::new(breaker_config(), now));
        let endpoint = |(id, at): (usize, &&'static str)| Arc::new(Endpoint::new(id as u64, breaker(), *at));
        let on = retry::Conditions { connect_failure: true, reset: true, attempt_timeout: true, statuses: vec![503] };
        let backoff = Backoff { base: Duration::from_millis(25), cap: Duration::from_millis(250) };
        let budget = budget::Config { ratio: Ratio::ZERO, floor_per_second: 1, window: Duration::from_secs(10) };
        let policies = Policies {
            in_flight_max: 2,
            in_flight: InFlight::new(2),
            breaker: breaker(),
            budget: Arc::new(Budget::new(budget, now)),
            timeouts: Timeouts {
                request: Duration::from_secs(30),
                attempt: Duration::from_secs(10),
                idle_body: Duration::from_secs(5),
            },
            retry: retry::Config { max_attempts: 3, on, backoff },
            hedge: None,
            hold: None,
        };
        let endpoints = endpoints.iter().enumerate().map(endpoint).collect();
        let rng = StdRng::seed_from_u64(1);
        World { policies, endpoints, now, rng, log: Log::default(), upload: Upload::NONE, forgiven: Duration::ZERO }
    }

    pub(super) fn limit(&mut self, in_flight_max: u32) {
        self.policies.in_flight_max = in_flight_max;
        self.policies.in_flight.set_max(in_flight_max);
    }

    pub(super) fn begin(&mut self, is_idempotent: bool) -> Result<Call, Rejection> {
        let mut cx = Context { now: self.now, rng: &mut self.rng, observer: &mut self.log };
        Call::begin(&self.policies, is_idempotent, &mut cx)
    }

    pub(super) fn poll(&mut self, call: &mut Call) -> Step<&'static str> {
        let mut cx = Context { now: self.now, rng: &mut self.rng, observer: &mut self.log };
        let forgiven = &|| self.forgiven;
        let scene = Scene { policies: &self.policies, endpoints: &self.endpoints, upload: &self.upload, forgiven };
        call.poll(&scene, &mut cx)
    }

    pub(super) fn ended(&mut self, call: &mut Call, number: u32, lease: Lease<&'static str>, outcome: Outcome) {
        let mut cx = Context { now: self.now, rng: &mut self.rng, observer: &mut self.log };
        lease.settle(outcome.class(), &mut cx);
        let forgiven = &|| self.forgiven;
        let scene = Scene { policies: &self.policies, endpoints: &self.endpoints, upload: &self.upload, forgiven };
        call.ended(number, outcome, &scene, &mut cx);
    }

    fn attempt(&mut self, call: &mut Call) -> (u32, Lease<&'static str>) {
        match self.poll(call) {
            Step::Attempt { number, lease } => (number, lease),
            step => panic!("an attempt was expected, not {step:?}"),
        }
    }

    /// Lets the time of the call's wait pass.
    fn wait(&mut self, call: &mut Call) -> Duration {
        let until = match self.poll(call) {
            Step::Supersede { until } | Step::Wait { until: Some(until) } => until,
            Step::Queue { until } | Step::Hold { until } => until,
            step => panic!("{step:?} is no wait"),
        };
        if until > self.now {
            // The wait itself: a superseded response has ended at once.
            let _wait = self.poll(call);
        }
        let wait = until - self.now;
        self.now = until;
        wait
    }
}

#[test]
fn a_request_that_is_answered_takes_one_attempt_and_no_more() {
    let mut world = World::new(&["a"]);
    let mut call = world.begin(true).expect("admitted");
    let (number, lease) = world.attempt(&mut call);
    assert!(matches!(world.poll(&mut call), Step::Wait { until: None }), "the attempt is in flight");
    world.ended(&mut call, number, lease, OK);
    assert!(matches!(world.poll(&mut call), Step::Return { number: 1 }));
    assert!(call.further.is_none(), "nothing is allocated on the plain path");
    assert_eq!(world.policies.in_flight.count(), 1, "its slot is taken until the response has ended");
    drop(call.into_admission());
    assert_eq!(world.policies.in_flight.count(), 0);
    let ended = format!("1 ended: {OK:?}");
    assert_eq!(world.log.0, ["admitted", "attempt 1 at a", ended.as_str()]);
}

#[test]
fn a_failed_attempt_is_followed_by_another_at_another_endpoint_after_a_wait() {
    let mut world = World::new(&["a", "b"]);
    let mut call = world.begin(true).expect("admitted");
    let (_, lease) = world.attempt(&mut call);
    let first = lease.endpoint().at;
    world.ended(&mut call, 1, lease, FAILED);
    assert!(world.wait(&mut call) <= Duration::from_millis(25));
    let (number, lease) = world.attempt(&mut call);
    assert_eq!((number, call.attempts()), (2, 2));
    assert_ne!(lease.endpoint().at, first);
    world.ended(&mut call, 2, lease, OK);
    assert!(matches!(world.poll(&mut call), Step::Return { number: 2 }));
}

#[test]
fn a_refused_retry_is_emitted_with_its_numbers_and_the_failure_is_returned() {
    for (is_idempotent, max_attempts, why) in [
        (false, 3, "NotIdempotent".to_owned()),
        (true, 3, "NoEndpoint".to_owned()),
        (true, 2, "Attempts { max: 2 }".to_owned()),
    ] {
        let mut world = World::new(&["a"]);
        world.policies.retry.max_attempts = max_attempts;
        let mut call = world.begin(is_idempotent).expect("admitted");
        let last = loop {
            match world.poll(&mut call) {
                Step::Attempt { number, lease } => world.ended(&mut call, number, lease, FAILED),
                Step::Wait { until: Some(until) } | Step::Supersede { until } => world.now = until,
                Step::Return { number } => break number,
                step => panic!("{step:?}"),
            }
        };
        let expected = format!("{last} not again: {why}");
        assert_eq!(world.log.0.last(), Some(&expected), "the endpoint's breaker opens at the second failure");
    }
}

#[test]
fn a_kept_response_is_returned_when_no_endpoint_can_be_had_for_the_retry() {
    for is_kept in [true, false] {
        let mut world = World::new(&["a"]);
        let mut call = world.begin(true).expect("admitted");
        let (_, lease) = world.attempt(&mut call);
        world.ended(&mut call, 1, lease, FAILED);
        world.wait(&mut call);
        if is_kept {
            call.kept(1);
        }
        world.endpoints.clear();
        match world.poll(&mut call) {
            Step::Return { number: 1 } => assert!(is_kept),
            Step::Reject(Rejection::NoEndpoints) => assert!(!is_kept),
            step => panic!("{step:?}"),
        }
    }
}

#[test]
fn a_request_is_refused_at_the_limit_and_by_an_open_breaker_and_holds_nothing() {
    let mut world = World::new(&["a"]);
    let calls: Vec<_> = (0..2).map(|_| world.begin(true).expect("admitted")).collect();
    assert_eq!(world.begin(true).err(), Some(Rejection::InFlightLimit { max: 2 }));
    for call in calls {
        let mut admission = call.into_admission();
        let mut cx = Context { now: world.now, rng: &mut world.rng, observer: &mut world.log };
        admission.settle(Class::Failure, &world.policies, &mut cx);
    }
    let Err(Rejection::BreakerOpen(open)) = world.begin(true) else { panic!("two failures in a row") };
    assert_eq!(open.reason, Some(breaker::Reason::ConsecutiveFailures));
    assert_eq!((open.since, open.retry_at), (world.now, world.now + breaker_config().open_base));
    assert_eq!(world.policies.in_flight.count(), 0);
    assert_eq!(world.log.0.iter().filter(|line| *line == "admitted").count(), 2);
    world.now = open.retry_at;
    let _call = world.begin(true).expect("the breaker's open time is over");
    assert_eq!(world.log.0.last().map(String::as_str), Some("admitted as a probe"));
}

#[test]
fn a_failure_ratio_opens_the_breaker_of_calls_only_if_several_endpoints_take_requests() {
    for (endpoints, open, is_refused) in [(1, 0, false), (2, 0, true), (2, 1, false), (3, 1, true), (0, 0, false)] {
        let mut world = World::new(&["a", "b", "c"][..endpoints]);
        let half = Ratio::from_ppm(500_000).expect("in range");
        let config = breaker::Config { failure_ratio: half, volume_min: 2, ..breaker_config() };
        let breaker = Breaker::new(config, world.now);
        for class in [Class::Success, Class::Failure] {
            let permit = breaker.try_acquire(world.now).permit.expect("closed");
            assert_eq!(breaker.on_result(permit, class, world.now, &mut world.rng), None);
        }
        for endpoint in &world.endpoints[..open] {
            let breaker = endpoint.breaker.as_ref().expect("it is on");
            for _ in 0..2 {
                let permit = breaker.try_acquire(world.now).permit.expect("closed");
                breaker.on_result(permit, Class::Failure, world.now, &mut world.rng);
            }
        }
        world.policies.breaker = Some(breaker);
        let mut call = world.begin(true).expect("nobody has looked yet");
        let step = world.poll(&mut call);
        let what = format!("{open} of {endpoints} open: {step:?}");
        match step {
            Step::Reject(Rejection::BreakerOpen(open)) => {
                assert!(is_refused && open.reason == Some(breaker::Reason::FailureRatio), "{what}");
                assert_eq!(open.retry_at, world.now + breaker_config().open_base);
                assert_eq!(world.log.0[1], "calls Open");
                drop(call);
                assert!(matches!(world.begin(true), Err(Rejection::BreakerOpen(_))));
                assert_eq!(world.policies.in_flight.count(), 0);
            }
            Step::Attempt { .. } => assert!(!is_refused && endpoints > 0, "{what}"),
            Step::Reject(Rejection::NoEndpoints) => assert_eq!(endpoints, 0),
            step => panic!("{step:?}"),
        }
    }
}

#[test]
fn a_request_holds_its_slot_until_it_waits_and_gets_one_again_before_its_next_attempt() {
    let mut world = World::new(&["a", "b"]);
    world.limit(1);
    let mut call = world.begin(true).expect("admitted");
    let (_, lease) = world.attempt(&mut call);
    world.ended(&mut call, 1, lease, FAILED);
    let Step::Supersede { until } = world.poll(&mut call) else { panic!("the failed response comes first") };
    assert_eq!((world.policies.in_flight.count(), world.policies.in_flight.waiting()), (1, 1));
    assert!(matches!(world.poll(&mut call), Step::Wait { .. }));
    assert_eq!(world.policies.in_flight.count(), 0);
    let other = world.begin(true).expect("there is a slot");
    world.now = until;
    let Step::Queue { until } = world.poll(&mut call) else { panic!("the slot is taken") };
    assert_eq!(until, call.begun() + Duration::from_secs(30), "until the deadline");
    drop(other);
    assert!(world.begin(true).is_err(), "a new request does not overtake it");
    let (_, lease) = world.attempt(&mut call);
    assert_eq!((world.policies.in_flight.count(), world.policies.in_flight.waiting()), (1, 0));
    drop((call, lease));
    assert_eq!(world.policies.in_flight.count(), 0);
}

#[test]
fn the_deadline_of_a_retry_leaves_out_what_is_forgiven() {
    for (forgiven, is_retried) in [(0, false), (4, false), (5, true)] {
        let mut world = World::new(&["a", "b"]);
        world.forgiven = Duration::from_secs(forgiven);
        let mut call = world.begin(true).expect("admitted");
        let (_, lease) = world.attempt(&mut call);
        world.now += Duration::from_secs(34);
        world.ended(&mut call, 1, lease, FAILED);
        let is_due = matches!(world.poll(&mut call), Step::Supersede { .. });
        assert_eq!(is_due, is_retried, "34 s of 30 s, and {forgiven} s are forgiven");
    }
}

#[test]
fn a_request_whose_turn_does_not_come_returns_what_was_kept_or_is_refused() {
    for is_kept in [true, false] {
        let mut world = World::new(&["a", "b"]);
        world.limit(1);
        let mut call = world.begin(true).expect("admitted");
        let (_, lease) = world.attempt(&mut call);
        world.ended(&mut call, 1, lease, FAILED);
        world.wait(&mut call);
        let _other = world.begin(true).expect("there is a slot");
        if is_kept {
            call.kept(1);
        }
        world.wait(&mut call);
        match world.poll(&mut call) {
            Step::Return { number: 1 } => assert!(is_kept),
            Step::Reject(Rejection::InFlightLimit { max: 1 }) => assert!(!is_kept),
            step => panic!("{step:?}"),
        }
        drop(call);
        assert_eq!(world.policies.in_flight.waiting(), 0);
    }
}

#[test]
fn a_retry_is_refused_when_too_many_requests_wait_and_a_long_wait_finds_half_of_the_places() {
    let later = Outcome::Response { status: 503, pushback: Pushback::After(Duration::from_secs(9)) };
    for (waiting, outcome, refused) in [
        (3, FAILED, None),
        (4, FAILED, Some("1 not again: WaitingLimit { max: 4 }")),
        (1, later, None),
        (2, later, Some("1 not again: WaitingLimit { max: 2 }")),
    ] {
        let mut world = World::new(&["a", "b"]);
        world.limit(4);
        let _others: Vec<_> = (0..waiting).filter_map(|_| world.policies.in_flight.wait(4)).collect();
        let mut call = world.begin(true).expect("admitted");
        let (_, lease) = world.attempt(&mut call);
        world.ended(&mut call, 1, lease, outcome);
        let last = world.log.0.last().expect("a decision");
        assert_eq!(last == "1 again: Status", refused.is_none(), "{waiting} wait: {last}");
        assert!(refused.is_none_or(|refused| last == refused), "{waiting} wait: {last}");
    }
}

#[test]
fn a_request_that_is_not_sent_deposits_nothing_and_a_retry_that_is_not_sent_costs_nothing() {
    let mut world = World::new(&["a", "b"]);
    let budget = budget::Config { ratio: Ratio::ONE, floor_per_second: 0, window: Duration::from_secs(10) };
    world.policies.budget = Arc::new(Budget::new(budget, world.now));
    let endpoints = std::mem::take(&mut world.endpoints);
    let mut call = world.begin(true).expect("admitted");
    assert!(matches!(world.poll(&mut call), Step::Reject(Rejection::NoEndpoints)));
    assert_eq!(world.policies.budget.balance(world.now).as_f64(), 0.0);
    world.endpoints = endpoints;
    let mut call = world.begin(true).expect("admitted");
    let (_, lease) = world.attempt(&mut call);
    assert_eq!(world.policies.budget.balance(world.now).as_f64(), 1.0);
    world.ended(&mut call, 1, lease, FAILED);
    assert_eq!(world.policies.budget.balance(world.now).as_f64(), 0.0);
    drop(call);
    assert_eq!(world.policies.budget.balance(world.now).as_f64(), 1.0);
}

#[test]
fn the_deposit_of_a_request_is_made_once_however_many_attempts_it_takes() {
    let mut world = World::new(&["a", "b"]);
    let budget = budget::Config { ratio: Ratio::ONE, floor_per_second: 0, window: Duration::from_secs(10) };
    world.policies.budget = Arc::new(Budget::new(budget, world.now));
    let mut call = world.begin(true).expect("admitted");
    let (_, lease) = world.attempt(&mut call);
    world.ended(&mut call, 1, lease, FAILED);
    world.wait(&mut call);
    let (_, lease) = world.attempt(&mut call);
    assert_eq!(world.policies.budget.balance(world.now).as_f64(), 0.0, "one deposit, one withdrawal");
    world.ended(&mut call, 2, lease, FAILED);
    assert!(world.log.0.last().is_some_and(|line| line.starts_with("2 not again: Budget")), "{:?}", world.log.0);
}

/// A world with a hedge after 50 ms, and a call whose hedge has just gone out.
fn hedged() -> (World, Call, Lease<&'static str>, Lease<&'static str>) {
    let mut world = World::new(&["a", "b", "c"]);
    world.policies.hedge = Some(Duration::from_millis(50));
    let mut call = world.begin(true).expect("admitted");
    let (_, first) = world.attempt(&mut call);
    assert_eq!(world.wait(&mut call), Duration::from_millis(50));
    let (number, second) = world.attempt(&mut call);
    assert_eq!(number, 2);
    assert_ne!(first.endpoint().at, second.endpoint().at);
    assert!(matches!(world.poll(&mut call), Step::Wait { until: None }), "there is no third");
    (world, call, first, second)
}

#[test]
fn of_two_attempts_in_flight_the_first_response_wins_and_the_other_is_cancelled() {
    for winner in [1, 2] {
        let (mut world, mut call, first, second) = hedged();
        let (won, lost) = if winner == 1 { (first, second) } else { (second, first) };
        world.ended(&mut call, winner, won, OK);
        let loser = 3 - winner;
        assert!(matches!(world.poll(&mut call), Step::Cancel { number } if number == loser));
        world.ended(&mut call, loser, lost, Outcome::Superseded);
        assert!(matches!(world.poll(&mut call), Step::Return { number } if number == winner));
        assert!(
            world.endpoints.iter().all(|endpoint| endpoint.in_flight.load(std::sync::atomic::Ordering::Relaxed) == 0)
        );
        assert!(
            world.endpoints.iter().all(|endpoint| endpoint.admits(world.now)),
            "the cancelled attempt fails no endpoint"
        );
    }
}

#[test]
fn when_one_of_two_fails_the_other_is_waited_for_and_only_its_end_decides() {
    let (mut world, mut call, first, second) = hedged();
    world.ended(&mut call, 1, first, FAILED);
    assert!(matches!(world.poll(&mut call), Step::Wait { until: None }), "the second may still be answered");
    let attempted = second.endpoint().id;
    world.ended(&mut call, 2, second, FAILED);
    world.wait(&mut call);
    let (number, third) = world.attempt(&mut call);
    assert_eq!(number, 3);
    assert!(
        third.endpoint().id != attempted && !call.further().attempted.contains(&third.endpoint().id),
        "the retry goes to the endpoint without an attempt"
    );
}

#[test]
fn a_hedge_is_paid_for_and_not_sent_where_a_retry_would_not_be() {
    for (what, reason) in [
        ("idempotent", ""),
        ("attempts", "Attempts"),
        ("body", "Body"),
        ("endpoint", "NoEndpoint"),
        ("budget", "Budget"),
    ] {
        let mut world = World::new(if what == "endpoint" { &["a"] } else { &["a", "b"] });
        world.policies.hedge = Some(Duration::from_millis(50));
        match what {
            "attempts" => world.policies.retry.max_attempts = 1,
            "body" => world.upload.is_replayable = false,
            "budget" => while world.policies.budget.withdraw(world.now).map(Withdrawal::spend).is_ok() {},
            _ => {}
        }
        let mut call = world.begin(what != "idempotent").expect("admitted");
        let (_, _lease) = world.attempt(&mut call);
        if what == "idempotent" {
            assert!(matches!(world.poll(&mut call), Step::Wait { until: None }), "no hedge is even planned");
            continue;
        }
        world.wait(&mut call);
        assert!(matches!(world.poll(&mut call), Step::Wait { until: None }), "{what}");
        let expected = format!("1 goes on alone: {reason}");
        assert!(world.log.0.last().is_some_and(|line| line.starts_with(&expected)), "{what}: {:?}", world.log.0);
    }
}

#[test]
fn a_request_is_held_until_an_endpoint_admits_or_its_time_is_over() {
    for comes_back in [true, false] {
        let mut world = World::new(&["a"]);
        world.policies.hold = Some(Duration::from_secs(3));
        let endpoints = std::mem::take(&mut world.endpoints);
        let mut call = world.begin(true).expect("admitted");
        if comes_back {
            let Step::Hold { until } = world.poll(&mut call) else { panic!("none admits") };
            assert_eq!(until - world.now, Duration::from_secs(3));
            world.now += Duration::from_secs(1);
            world.endpoints = endpoints;
            let (number, _lease) = world.attempt(&mut call);
            assert_eq!(number, 1, "being held is no attempt");
        } else {
            assert_eq!(world.wait(&mut call), Duration::from_secs(3));
            assert!(matches!(world.poll(&mut call), Step::Reject(Rejection::NoEndpoints)));
        }
    }
}

#[test]
fn a_request_held_for_an_open_breaker_goes_when_its_open_time_is_over() {
    let mut world = World::new(&["a"]);
    world.policies.hold = Some(Duration::from_secs(3));
    for _ in 0..2 {
        let mut cx = Context { now: world.now, rng: &mut world.rng, observer: &mut world.log };
        balance::choose(&world.endpoints, &[], &mut cx).expect("it admits").settle(Class::Failure, &mut cx);
    }
    let mut call = world.begin(true).expect("admitted");
    assert_eq!(world.wait(&mut call), breaker_config().open_base);
    let (_, lease) = world.attempt(&mut call);
    assert!(lease.is_probe());
}
