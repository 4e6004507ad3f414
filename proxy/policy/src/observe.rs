//! The decisions that the policies emit, each with the rule and the numbers behind it.
//!
//! This crate neither logs nor counts. The driver of a call passes an [`Observer`] along. `()` is an observer that ignores everything, and with it the compiler
//! removes the code that emits. A decision borrows its parts; an observer copies what it wants to keep.

use std::time::{Duration, Instant};

use rand::Rng;

use crate::breaker::Transition;
use crate::endpoint::Endpoint;
use crate::outcome::Outcome;
use crate::rejection::Rejection;
use crate::retry::{Reason, Refused};

/// What every decision needs: the moment, the rng, and the observer.
pub struct Context<'a, R, O> {
    /// The moment of the decision.
    pub now: Instant,
    /// The source of all random draws.
    pub rng: &'a mut R,
    /// Gets every decision.
    pub observer: &'a mut O,
}

/// Gets the decisions about requests to endpoints that carry a `T`.
pub trait Observer<T> {
    /// `decision` was made at `now`.
    fn on(&mut self, now: Instant, decision: Decision<'_, T>);
}

/// Ignores everything.
impl<T> Observer<T> for () {
    #[inline]
    fn on(&mut self, _: Instant, _: Decision<'_, T>) {}
}

/// What a breaker counts.
#[derive(Debug)]
pub enum Scope<'a, T> {
    /// Requests, however many attempts each took.
    Calls,
    /// Attempts at this endpoint.
    Endpoint(&'a Endpoint<T>),
}

/// One decision.
#[derive(Debug)]
pub enum Decision<'a, T> {
    /// A breaker changed its state.
    BreakerMoved {
        /// What the breaker counts.
        scope: Scope<'a, T>,
        /// The change, with its rule.
        transition: Transition,
    },
    /// The request has a slot and the permit of the breaker of calls.
    Admitted {
        /// Whether it is a probe of that breaker.
        is_probe: bool,
    },
    /// The request is refused without another attempt.
    Rejected(&'a Rejection),
    /// An attempt begins.
    Attempt {
        /// 1 is the first.
        number: u32,
        /// The endpoint of the attempt.
        endpoint: &'a Endpoint<T>,
        /// Whether another attempt is still in flight beside it.
        is_hedge: bool,
    },
    /// An attempt has ended, by the head of its response or without one.
    Ended {
        /// 1 is the first.
        number: u32,
        /// How the attempt ended.
        outcome: Outcome,
    },
    /// A retry will be made. The budget pays for it when it is sent.
    Retry {
        /// The attempt that is retried.
        number: u32,
        /// Why it is retried.
        reason: Reason,
        /// The wait before the retry.
        wait: Duration,
    },
    /// A retry was due, but is not made.
    NoRetry {
        /// The attempt that is not retried.
        number: u32,
        /// Why not, with the numbers.
        why: Refused,
    },
    /// A second attempt beside this one was due, but is not made.
    NoHedge {
        /// The attempt that goes on alone.
        number: u32,
        /// Why not, with the numbers.
        why: Refused,
    },
    /// No endpoint admits; the request waits for one, at most until this moment.
    Held {
        /// The end of the hold.
        until: Instant,
    },
    /// The request has waited, and no slot is free; it queues for one, at most until this moment.
    Queued {
        /// The end of the wait.
        until: Instant,
    },
    /// An attempt in flight is cancelled, because another one was faster.
    Cancelled {
        /// 1 is the first.
        number: u32,
    },
}

impl<R: Rng, O> Context<'_, R, O> {
    pub(crate) fn emit<T>(&mut self, decision: Decision<'_, T>)
    where
        O: Observer<T>,
    {
        self.observer.on(self.now, decision);
    }

    /// Emits that a breaker changed its state, if it did.
    pub(crate) fn moved<T>(&mut self, scope: Scope<'_, T>, transition: Option<Transition>)
    where
        O: Observer<T>,
    {
        if let Some(transition) = transition {
            self.emit(Decision::BreakerMoved { scope, transition });
        }
    }
}
