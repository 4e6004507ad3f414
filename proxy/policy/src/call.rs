//! One request, from its admission to the response that goes downstream: the loop in which every policy has its place.
//!
//! ```text
//! slot ─▶ permit of the breaker of calls ─▶ endpoint and its breaker ─▶ deposit ─▶ attempt ─▶ outcome
//!                                               ▲         ▲                                       │
//!                                               │         └── hold: none admits                   ▼
//!                                               └── slot ◀── wait ◀── retry: condition, attempts, safety, body, pushback,
//!                                                                     deadline, endpoint, room to wait, budget
//! ```
//!
//! A [`Call`] only decides: it never sleeps, sends or reads a clock. Its driver asks [`Call::poll`] for the next step, performs it, and
//! reports the result with [`Call::ended`] and [`Call::kept`]. The proxy drives it with sockets, the simulation of a fleet with an event heap, and the laws with
//! random lists of events. No second copy of this order exists. (quinn-proto's `Connection` is built the same way.)
//!
//! **Two attempts may be in flight.** With [`Policies::hedge`] a second attempt begins when the first has no response in time. The first result that is no
//! candidate for a retry wins, and the other attempt is cancelled. **A request may be held.** With [`Policies::hold`] it
//! waits for an endpoint when none admits. Without these two a call is a chain: attempt, wait, attempt.
//!
//! **A request that waits holds no slot.** It has a place among the waiting requests instead, before a retry and while it is held. When it goes on, it gets a slot
//! before any new request does; until one is free it queues ([`crate::limit`]).
//!
//! **Drops undo.** Slot and permit are an [`Admission`], an endpoint in use is a [`Lease`], a place to wait is a [`Waiting`], and a retry that is paid for and not
//! sent yet is a [`Withdrawal`]. Dropped at any time, they give back exactly what was taken. On the plain path (one attempt, with a response) nothing is allocated.

mod admission;
mod types;

use std::task::{self, Poll};
use std::time::Instant;

use rand::Rng;

use crate::balance::{self, Lease, NoEndpoint};
use crate::budget::Withdrawal;
use crate::deadline::Deadline;
use crate::limit::Waiting;
use crate::observe::{Context, Decision, Observer};
use crate::outcome::Outcome;
use crate::rejection::Rejection;
use crate::retry::{Ask, Refused, Verdict};
use crate::upload::Upload;

pub use self::admission::Admission;
pub use self::types::{Policies, Scene, Step};

/// How many attempts may be in flight at once.
const IN_FLIGHT_MAX: usize = 2;

/// One request on its way through the policies.
#[derive(Debug)]
pub struct Call {
    admission: Admission,
    begun: Instant,
    is_idempotent: bool,
    /// Attempts made, with those in flight.
    attempts: u32,
    in_flight: [Option<InFlightAttempt>; IN_FLIGHT_MAX],
    /// Boxed, because a call moves several times and most end with their first attempt.
    further: Option<Box<Further>>,
    next: Next,
}

/// What a call has beyond its first attempt.
#[derive(Debug, Default)]
struct Further {
    /// The ids of the endpoints of earlier attempts.
    attempted: Vec<u64>,
    /// The attempt whose response can still be returned if no better one comes.
    kept: Option<u32>,
    /// The place among the waiting requests: from the decision to wait until the next attempt.
    waiting: Option<Waiting>,
    /// What the budget pays for the retry that is due.
    withdrawal: Option<Withdrawal>,
    held_since: Option<Instant>,
    /// When a request that queues for a slot gives up.
    queues_until: Option<Instant>,
}

#[derive(Clone, Copy, Debug)]
struct InFlightAttempt {
    number: u32,
    endpoint: u64,
}

#[derive(Clone, Copy, Debug)]
enum Next {
    /// A retry has just been decided. The response that it supersedes is given back first.
    Retry { at: Instant },
    /// An attempt is due at this moment.
    Attempt { at: Instant },
    /// Attempts are in flight. A hedge is due at this moment, if it is not `None`.
    Outcome { hedge_at: Option<Instant> },
    /// All other attempts are cancelled, then this one is returned.
    Return { number: u32 },
}

impl Call {
    /// Admits a request: takes a slot and a permit of the breaker of calls. `is_idempotent` says that the request may be sent again
    /// although it may have been processed, by its method (RFC 9110 §9.2.2) or by the route's configuration.
    ///
    /// # Errors
    /// The request is refused, and nothing is taken.
    pub fn begin<T, R: Rng, O: Observer<T>>(
        policies: &Policies,
        is_idempotent: bool,
        cx: &mut Context<'_, R, O>,
    ) -> Result<Call, Rejection> {
        let admission = Admission::new(policies, cx).inspect_err(|why| cx.emit(Decision::Rejected(why)))?;
        cx.emit(Decision::Admitted { is_probe: admission.is_probe() });
        Ok(Call {
            admission,
            begun: cx.now,
            is_idempotent,
            attempts: 0,
            in_flight: [None; IN_FLIGHT_MAX],
            further: None,
            next: Next::Attempt { at: cx.now },
        })
    }

    /// The next step. Call it first, after each [`Call::ended`], and when a moment that it returned has come.
    pub fn poll<T, R: Rng, O: Observer<T>>(&mut self, scene: &Scene<'_, T>, cx: &mut Context<'_, R, O>) -> Step<T> {
        match self.next {
            Next::Retry { at } => {
                self.next = Next::Attempt { at };
                Step::Supersede { until: at }
            }
            Next::Attempt { at } if cx.now < at => {
                self.admission.slot = None;
                Step::Wait { until: Some(at) }
            }
            Next::Attempt { .. } if self.has_slot() => self.attempt(scene, cx),
            Next::Attempt { .. } => self.resume(scene, cx),
            Next::Outcome { hedge_at: Some(at) } if cx.now >= at => self.hedge(scene, cx),
            Next::Outcome { hedge_at } => Step::Wait { until: hedge_at },
            Next::Return { number } => match self.take_in_flight() {
                Some(InFlightAttempt { number, .. }) => {
                    cx.emit(Decision::Cancelled { number });
                    Step::Cancel { number }
                }
                None => Step::Return { number },
            },
        }
    }

    /// Attempt `number` has ended, by the head of its response or without one. The outcome of a cancelled attempt may be reported but changes nothing.
    pub fn ended<T, R: Rng, O: Observer<T>>(
        &mut self,
        number: u32,
        outcome: Outcome,
        scene: &Scene<'_, T>,
        cx: &mut Context<'_, R, O>,
    ) {
        let ended = self.in_flight.iter_mut().find(|slot| slot.is_some_and(|attempt| attempt.number == number));
        let Some(InFlightAttempt { endpoint, .. }) = ended.and_then(Option::take) else { return };
        cx.emit(Decision::Ended { number, outcome });
        // An attempt that gives way to another one says nothing about the result.
        let is_alone = self.in_flight.iter().all(Option::is_none);
        let gives_way = outcome == Outcome::Superseded && !is_alone;
        if !gives_way && !scene.policies.retry.is_candidate(&outcome) {
            self.next = Next::Return { number };
            return;
        }
        if !is_alone {
            self.further().attempted.push(endpoint);
            self.next = Next::Outcome { hedge_at: None }; // the other attempt may still have a better result
            return;
        }
        let waiting_max = scene.policies.waiting_max(&outcome);
        let waiting = scene.policies.in_flight.wait(waiting_max);
        let ask = Ask {
            outcome,
            attempts: self.attempts,
            is_idempotent: self.is_idempotent,
            is_replayable: scene.upload.is_replayable,
            deadline: self.deadline_in(scene, cx.now),
            has_endpoint: scene.endpoints.iter().any(|endpoint| endpoint.admits(cx.now)),
            waiting_limit: waiting.is_none().then_some(waiting_max),
        };
        self.next = match scene.policies.retry.decide(&ask, &scene.policies.budget, cx.now, cx.rng) {
            Verdict::Return => Next::Return { number },
            Verdict::Refuse(why) => {
                cx.emit(Decision::NoRetry { number, why });
                Next::Return { number }
            }
            Verdict::Retry { wait, reason, withdrawal } => {
                cx.emit(Decision::Retry { number, reason, wait });
                let further = self.further();
                further.attempted.push(endpoint);
                further.kept = None;
                (further.waiting, further.withdrawal) = (waiting, Some(withdrawal));
                Next::Retry { at: cx.now + wait }
            }
        };
    }

    /// Ready when a request that queues for a slot ([`Step::Queue`]) has one.
    pub fn poll_slot(&self, cx: &mut task::Context<'_>) -> Poll<()> {
        let waiting = self.further.as_ref().and_then(|further| further.waiting.as_ref());
        waiting.map_or(Poll::Ready(()), |waiting| waiting.poll_slot(cx))
    }

    /// Attempt `number` is superseded by a retry, and its response was read whole, or it failed without one. If the retry finds no endpoint or no slot, this is
    /// returned instead of a rejection.
    pub fn kept(&mut self, number: u32) {
        self.further().kept = Some(number);
    }

    /// When the request has to be over, by the state of its body at `now`, if nothing is forgiven to it.
    pub fn deadline(&self, policies: &Policies, upload: &Upload, now: Instant) -> Deadline {
        policies.timeouts.request_deadline(self.begun, upload, now)
    }

    /// When the request was admitted.
    pub fn begun(&self) -> Instant {
        self.begun
    }

    /// Attempts made so far, with those in flight.
    pub fn attempts(&self) -> u32 {
        self.attempts
    }

    /// Ends the decisions. What is left is the right to be in flight, which lasts until the response has ended.
    pub fn into_admission(self) -> Admission {
        self.admission
    }

    /// When the request has to be over. Time for which the process stood still does not count, as in [`Timeouts::attempt_end`](crate::deadline::Timeouts::attempt_end).
    fn deadline_in<T>(&self, scene: &Scene<'_, T>, now: Instant) -> Deadline {
        scene.policies.timeouts.request_deadline(self.begun + (scene.forgiven)(), scene.upload, now)
    }

    fn further(&mut self) -> &mut Further {
        self.further.get_or_insert_default()
    }

    fn has_slot(&self) -> bool {
        self.admission.slot.is_some()
    }

    /// Goes on after a wait, with a slot. If there is none, the request queues for one until its deadline.
    fn resume<T, R: Rng, O: Observer<T>>(&mut self, scene: &Scene<'_, T>, cx: &mut Context<'_, R, O>) -> Step<T> {
        let max = scene.policies.in_flight_max;
        let further = self.further();
        let is_over = further.queues_until.is_some_and(|until| until <= cx.now);
        let slot = further.waiting.as_mut().filter(|_| !is_over).and_then(Waiting::resume);
        self.admission.slot = slot;
        if self.has_slot() {
            self.further().queues_until = None;
            return self.attempt(scene, cx);
        }
        let deadline = self.deadline_in(scene, cx.now).at();
        // The deadline of a request whose body still arrives moves. The end of the queue does not.
        let until = *self.further().queues_until.get_or_insert(deadline);
        if cx.now < until {
            cx.emit(Decision::Queued { until });
            return Step::Queue { until };
        }
        self.give_up(Rejection::InFlightLimit { max }, cx)
    }

    fn attempt<T, R: Rng, O: Observer<T>>(&mut self, scene: &Scene<'_, T>, cx: &mut Context<'_, R, O>) -> Step<T> {
        if self.attempts == 0
            && let Some(why) = self.admission.review(scene.policies, scene.endpoints, cx)
        {
            return self.give_up(why, cx);
        }
        let attempted = self.further.as_ref().map_or(&[][..], |further| &further.attempted);
        match balance::choose(scene.endpoints, attempted, cx) {
            Ok(lease) => self.send(lease, scene, cx),
            Err(none) => {
                if let Some(until) = self.hold_until(none, scene, cx.now) {
                    cx.emit(Decision::Held { until });
                    self.admission.slot = None;
                    return Step::Hold { until };
                }
                let why = match none {
                    NoEndpoint::Unknown => Rejection::NoEndpoints,
                    NoEndpoint::AllOpen(open) => Rejection::AllEndpointsOpen(open),
                };
                self.give_up(why, cx)
            }
        }
    }

    /// No further attempt can be made: returns what was kept of an earlier one, or else rejects the request.
    fn give_up<T, R: Rng, O: Observer<T>>(&mut self, why: Rejection, cx: &mut Context<'_, R, O>) -> Step<T> {
        if let Some(number) = self.further.as_ref().and_then(|further| further.kept) {
            return Step::Return { number };
        }
        cx.emit(Decision::Rejected(&why));
        Step::Reject(why)
    }

    fn send<T, R: Rng, O: Observer<T>>(
        &mut self,
        lease: Lease<T>,
        scene: &Scene<'_, T>,
        cx: &mut Context<'_, R, O>,
    ) -> Step<T> {
        if self.attempts == 0 {
            scene.policies.budget.deposit(cx.now);
        }
        if let Some(further) = &mut self.further {
            further.waiting = None;
            if let Some(withdrawal) = further.withdrawal.take() {
                withdrawal.spend();
            }
        }
        self.attempts += 1;
        let (number, is_hedge) = (self.attempts, self.in_flight.iter().any(Option::is_some));
        let attempt = InFlightAttempt { number, endpoint: lease.endpoint().id };
        if let Some(slot) = self.in_flight.iter_mut().find(|slot| slot.is_none()) {
            *slot = Some(attempt);
        }
        let hedge_at = scene.policies.hedge.filter(|_| !is_hedge && self.is_idempotent).map(|after| cx.now + after);
        self.next = Next::Outcome { hedge_at };
        cx.emit(Decision::Attempt { number, endpoint: lease.endpoint(), is_hedge });
        Step::Attempt { number, lease }
    }

    /// The attempt in flight has no response in time. Begins another one beside it, if the policies and the endpoints allow.
    fn hedge<T, R: Rng, O: Observer<T>>(&mut self, scene: &Scene<'_, T>, cx: &mut Context<'_, R, O>) -> Step<T> {
        self.next = Next::Outcome { hedge_at: None };
        let in_flight = self.in_flight.iter().flatten().next();
        let Some(InFlightAttempt { number, endpoint }) = in_flight.copied() else { return Step::Wait { until: None } };
        let others = scene.endpoints.iter().any(|other| other.id != endpoint && other.admits(cx.now));
        let refused = if self.attempts >= scene.policies.retry.max_attempts {
            Some(Refused::Attempts { max: scene.policies.retry.max_attempts })
        } else if !scene.upload.is_replayable {
            Some(Refused::BodyNotBuffered)
        } else if !others {
            Some(Refused::NoEndpoint)
        } else {
            match scene.policies.budget.withdraw(cx.now) {
                Ok(withdrawal) => {
                    self.further().withdrawal = Some(withdrawal);
                    None
                }
                Err(exhausted) => Some(Refused::Budget(exhausted)),
            }
        };
        if let Some(why) = refused {
            cx.emit(Decision::NoHedge { number, why });
            return Step::Wait { until: None };
        }
        self.further().attempted.push(endpoint);
        match balance::choose(scene.endpoints, &self.further().attempted, cx) {
            Ok(lease) => self.send(lease, scene, cx),
            // No permit can be had, so the attempt in flight goes on alone.
            Err(_) => {
                self.further().withdrawal = None;
                Step::Wait { until: None }
            }
        }
    }

    /// Until when a request is held for an endpoint; `None` if it is not. One that is held has a place to wait.
    fn hold_until<T>(&mut self, none: NoEndpoint, scene: &Scene<'_, T>, now: Instant) -> Option<Instant> {
        let hold = scene.policies.hold?;
        let since = *self.further().held_since.get_or_insert(now);
        let last = Deadline::after(since, hold).min(self.deadline_in(scene, now)).at();
        let next = match none {
            NoEndpoint::Unknown => last,
            NoEndpoint::AllOpen(open) => open.retry_at.min(last),
        };
        if next <= now {
            return None;
        }
        let waiting = &mut self.further().waiting;
        if waiting.is_none() {
            *waiting = Some(scene.policies.in_flight.wait(scene.policies.in_flight_max)?);
        }
        Some(next)
    }

    fn take_in_flight(&mut self) -> Option<InFlightAttempt> {
        self.in_flight.iter_mut().find_map(Option::take)
    }
}

#[cfg(test)]
mod laws;
#[cfg(test)]
mod tests;
