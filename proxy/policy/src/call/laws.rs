//! Laws for every list of events: nothing is lost, nothing is sent twice that must not be, and every request ends.

use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use proptest::prelude::*;

use super::tests::World;
use super::*;
use crate::outcome::{Processed, Pushback};

/// An event in the world.
#[derive(Clone, Copy, Debug)]
enum Act {
    /// The oldest attempt in flight, or the newest, ends with this outcome.
    End { is_oldest: bool, outcome: Outcome },
    /// So many milliseconds pass.
    Pass(u64),
    /// From now on the body can, or cannot, be replayed.
    Body { is_replayable: bool },
}

fn outcomes() -> impl Strategy<Value = Outcome> {
    let status = prop::sample::select(vec![200, 404, 429, 500, 503]);
    let pushback = prop::sample::select(vec![
        Pushback::None,
        Pushback::After(Duration::ZERO),
        Pushback::After(Duration::from_secs(40)),
        Pushback::Unreadable,
    ]);
    prop_oneof![
        4 => (status, pushback).prop_map(|(status, pushback)| Outcome::Response { status, pushback }),
        1 => Just(Outcome::ConnectFailed),
        1 => Just(Outcome::NoLocalSocket),
        1 => Just(Outcome::Unsent),
        1 => any::<bool>().prop_map(|reused| Outcome::Reset { reused }),
        1 => Just(Outcome::AttemptTimedOut),
        1 => Just(Outcome::MalformedResponse),
        1 => Just(Outcome::DownstreamError),
    ]
}

fn acts() -> impl Strategy<Value = Vec<Act>> {
    let act = prop_oneof![
        4 => (any::<bool>(), outcomes()).prop_map(|(is_oldest, outcome)| Act::End { is_oldest, outcome }),
        2 => (0u64..400).prop_map(Act::Pass),
        1 => any::<bool>().prop_map(|is_replayable| Act::Body { is_replayable }),
    ];
    prop::collection::vec(act, 1..40)
}

/// Plays one request; whether it ended.
fn play(world: &mut World, is_idempotent: bool, acts: &[Act]) -> Result<bool, TestCaseError> {
    let Ok(mut call) = world.begin(is_idempotent) else { return Ok(true) };
    let deadline = call.deadline(&world.policies, &Upload::NONE, world.now).at();
    let mut in_flight: Vec<(u32, Lease<&'static str>)> = Vec::new();
    let mut ended: Vec<(u32, Outcome)> = Vec::new();
    let mut acts = acts.iter();
    for _ in 0..200 {
        match world.poll(&mut call) {
            Step::Attempt { number, lease } => {
                prop_assert!(world.now < deadline, "an attempt begins after the deadline");
                prop_assert!(number <= world.policies.retry.max_attempts);
                prop_assert_eq!(number as usize, ended.len() + in_flight.len() + 1, "attempts are numbered one by one");
                let may_have_acted = |(_, outcome): &(u32, Outcome)| outcome.processed() == Processed::Perhaps;
                prop_assert!(is_idempotent || (in_flight.is_empty() && !ended.iter().any(may_have_acted)));
                in_flight.push((number, lease));
                prop_assert!(in_flight.len() <= IN_FLIGHT_MAX);
            }
            Step::Cancel { number } => {
                let at = in_flight.iter().position(|(attempt, _)| *attempt == number);
                prop_assert!(at.is_some(), "only what is in flight is cancelled");
                let (number, _lease) = in_flight.swap_remove(at.expect("just seen"));
                ended.push((number, Outcome::Superseded));
            }
            Step::Return { number } => {
                prop_assert!(in_flight.is_empty(), "what is in flight was cancelled before");
                prop_assert!(
                    ended.iter().any(|(attempt, outcome)| *attempt == number && *outcome != Outcome::Superseded)
                );
                return Ok(true);
            }
            Step::Reject(_) => {
                prop_assert!(in_flight.is_empty());
                return Ok(true);
            }
            Step::Supersede { until } => prop_assert!(until >= world.now),
            Step::Queue { until } | Step::Hold { until } => world.now = until,
            Step::Wait { until } => match acts.next() {
                Some(Act::End { is_oldest, outcome }) if !in_flight.is_empty() => {
                    let (number, lease) = in_flight.remove(if *is_oldest { 0 } else { in_flight.len() - 1 });
                    ended.push((number, *outcome));
                    world.ended(&mut call, number, lease, *outcome);
                }
                Some(Act::Pass(millis)) => world.now += Duration::from_millis(*millis),
                Some(Act::Body { is_replayable }) => world.upload.is_replayable = *is_replayable,
                Some(Act::End { .. }) | None => match until {
                    Some(until) => world.now = until.max(world.now),
                    None if in_flight.is_empty() => return Ok(false),
                    // No events are left: the downstream disconnects with an attempt in flight.
                    None => return Ok(true),
                },
            },
        }
    }
    Ok(false)
}

proptest! {
    #[test]
    fn every_request_ends_and_gives_back_what_it_held(
        requests in prop::collection::vec((any::<bool>(), acts()), 1..8),
        hedge_ms in prop::option::of(1u64..300),
        hold_ms in prop::option::of(1u64..3_000),
        endpoints in 0usize..4,
    ) {
        let mut world = World::new(&["a", "b", "c"][..endpoints.min(3)]);
        world.policies.hedge = hedge_ms.map(Duration::from_millis);
        world.policies.hold = hold_ms.map(Duration::from_millis);
        for (is_idempotent, acts) in requests {
            world.upload = Upload::NONE;
            prop_assert!(play(&mut world, is_idempotent, &acts)?, "it waits for nothing: {:?}", world.log.0);
            prop_assert_eq!(world.policies.in_flight.count(), 0, "the slot came back");
            for endpoint in &world.endpoints {
                prop_assert_eq!(endpoint.in_flight.load(Relaxed), 0, "every lease came back");
                let probes = endpoint.breaker.as_ref().map_or(0, |breaker| breaker.snapshot(world.now).probes_out);
                prop_assert_eq!(probes, 0, "every probe came back");
            }
        }
    }

    /// The extra attempts are those that the budget has paid for, and no more than it has: ten, in the window.
    #[test]
    fn every_extra_attempt_is_paid_for_once(
        requests in prop::collection::vec(acts(), 1..12),
        hedge_ms in prop::option::of(1u64..300),
    ) {
        let mut world = World::new(&["a", "b", "c"]);
        world.policies.hedge = hedge_ms.map(Duration::from_millis);
        let before = world.policies.budget.balance(world.now).as_f64();
        let begun = world.now;
        for acts in requests {
            let now = world.now;
            world.upload = Upload::NONE;
            play(&mut world, true, &acts)?;
            world.now = now; // all within one window
        }
        let lines = |word: &str| world.log.0.iter().filter(|line| line.contains(word)).count();
        let (hedges, retries) = (lines("hedge "), lines(" again: ") - lines(" not again: "));
        let extra = hedges + lines("attempt ") - lines("attempt 1 ");
        let paid = hedges + retries;
        prop_assert!(extra <= paid, "{} extra attempts, {} paid for", extra, paid);
        prop_assert!(paid as f64 <= before, "{} paid for out of {}", paid, before);
        // Withdrawals that have left the window are not in the balance any more.
        let spent = before - world.policies.budget.balance(begun).as_f64();
        prop_assert!(spent <= paid as f64, "{} withdrawn, {} paid for", spent, paid);
    }
}

/// What happens to one of several requests.
#[derive(Clone, Copy, Debug)]
enum Event {
    Begins,
    /// It is polled, as its driver may do at any time.
    Polled(usize),
    /// Its attempt in flight ends.
    Ends(usize, Outcome),
    /// Its downstream disconnects.
    Leaves(usize),
    Passes(u64),
}

/// A request, and the endpoint that it has in use.
struct Flight {
    call: Call,
    lease: Option<(u32, Lease<&'static str>)>,
    /// Whether its last step was to wait for something else than an attempt.
    is_waiting: bool,
}

impl Flight {
    /// Polls once; whether it goes on.
    fn poll(&mut self, world: &mut World) -> bool {
        match world.poll(&mut self.call) {
            Step::Attempt { number, lease } => self.lease = Some((number, lease)),
            Step::Wait { .. } | Step::Hold { .. } | Step::Queue { .. } if self.lease.is_none() => {
                self.is_waiting = true;
                return true;
            }
            Step::Wait { .. } | Step::Hold { .. } | Step::Queue { .. } | Step::Supersede { .. } => {}
            Step::Return { .. } | Step::Reject(_) | Step::Cancel { .. } => return false,
        }
        self.is_waiting = false;
        true
    }
}

fn events() -> impl Strategy<Value = Vec<Event>> {
    let pushback = prop::sample::select(vec![Pushback::None, Pushback::After(Duration::from_secs(2))]);
    let status = prop::sample::select(vec![200, 503, 503]);
    let outcome = (status, pushback).prop_map(|(status, pushback)| Outcome::Response { status, pushback });
    let event = prop_oneof![
        3 => Just(Event::Begins),
        5 => any::<usize>().prop_map(Event::Polled),
        4 => (any::<usize>(), outcome).prop_map(|(n, outcome)| Event::Ends(n, outcome)),
        1 => any::<usize>().prop_map(Event::Leaves),
        2 => (0u64..3_000).prop_map(Event::Passes),
    ];
    prop::collection::vec(event, 1..150)
}

proptest! {
    /// Who waits holds no slot, there are never more slots than the limit, nor more who wait, and everything comes back.
    #[test]
    fn slots_belong_to_requests_that_are_not_waiting(
        events in events(),
        in_flight_max in 1u32..4,
        endpoints in 0usize..3,
        hold_ms in prop::option::of(1u64..3_000),
    ) {
        let mut world = World::new(&["a", "b"][..endpoints]);
        world.limit(in_flight_max);
        world.policies.hold = hold_ms.map(Duration::from_millis);
        let mut flights: Vec<Flight> = Vec::new();
        for event in events {
            match event {
                Event::Begins => {
                    let begun = world.begin(true);
                    flights.extend(begun.map(|call| Flight { call, lease: None, is_waiting: false }));
                }
                Event::Polled(n) if !flights.is_empty() => {
                    let n = n % flights.len();
                    if !flights[n].poll(&mut world) {
                        flights.swap_remove(n);
                    }
                }
                Event::Ends(n, outcome) if !flights.is_empty() => {
                    let n = n % flights.len();
                    if let Some((number, lease)) = flights[n].lease.take() {
                        world.ended(&mut flights[n].call, number, lease, outcome);
                    }
                }
                Event::Leaves(n) if !flights.is_empty() => drop(flights.swap_remove(n % flights.len())),
                Event::Passes(millis) => world.now += Duration::from_millis(millis),
                _ => {}
            }
            let waiting = flights.iter().filter(|flight| flight.is_waiting).count() as u32;
            let in_flight = &world.policies.in_flight;
            prop_assert!(in_flight.count() <= in_flight_max && in_flight.waiting() <= in_flight_max);
            prop_assert!(in_flight.waiting() >= waiting, "somebody waits without a place");
            // One in the queue may have been granted a slot that it has not taken yet.
            let others = flights.len() as u32 - waiting;
            let granted = flights.iter().filter(|flight| {
                flight.is_waiting && flight.call.admission.slot.is_none()
                    && flight.call.poll_slot(&mut task::Context::from_waker(task::Waker::noop())).is_ready()
            });
            prop_assert_eq!(in_flight.count(), others + granted.count() as u32, "{:?}", world.log.0);
        }
        drop(flights);
        let in_flight = &world.policies.in_flight;
        prop_assert_eq!((in_flight.count(), in_flight.waiting()), (0, 0));
    }
}
