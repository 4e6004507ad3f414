//! What the policies tell while they decide: every decision, with the rule and the numbers behind it.
//!
//! The core neither logs nor counts. Whoever drives it hands an [`Observer`] along; `()` is one that listens to nothing, and then the compiler removes
//! what would have been told. A decision borrows what it speaks of; an observer copies what it wants to keep.

use std::time::{Duration, Instant};

use rand::Rng;

use crate::breaker::Transition;
use crate::endpoint::Endpoint;
use crate::outcome::Outcome;
use crate::rejection::Rejection;
use crate::retry::{Reason, Refused};

/// The moment in which something is decided, the chance it may draw from, and who listens.
pub struct Context<'a, R, O> {
    /// Now.
    pub now: Instant,
    /// Where every draw comes from.
    pub rng: &'a mut R,
    /// Who is told.
    pub observer: &'a mut O,
}

/// Listens to decisions about requests to endpoints that carry a `T`.
pub trait Observer<T> {
    /// `decision` has just been made, at `now`.
    fn on(&mut self, now: Instant, decision: Decision<'_, T>);
}

/// Listens to nothing.
impl<T> Observer<T> for () {
    #[inline]
    fn on(&mut self, _: Instant, _: Decision<'_, T>) {}
}

/// What a breaker counts.
#[derive(Debug)]
pub enum Scope<'a, T> {
    /// Requests, whatever number of attempts each took.
    Calls,
    /// Attempts at this endpoint.
    Endpoint(&'a Endpoint<T>),
}

/// One decision.
#[derive(Debug)]
pub enum Decision<'a, T> {
    /// A breaker changed its state.
    BreakerMoved {
        /// What it counts.
        scope: Scope<'a, T>,
        /// From where to where, and by which rule.
        transition: Transition,
    },
    /// The request has a slot and the permit of the breaker of calls.
    Admitted {
        /// The breaker waits for its verdict in order to close.
        is_probe: bool,
    },
    /// The request is refused without another attempt.
    Rejected(&'a Rejection),
    /// An attempt begins.
    Attempt {
        /// 1 is the first.
        number: u32,
        /// Where it goes.
        endpoint: &'a Endpoint<T>,
        /// It goes out beside another one that is still in flight.
        is_hedge: bool,
    },
    /// An attempt has ended, as far as its head tells.
    Ended {
        /// 1 is the first.
        number: u32,
        /// How.
        outcome: Outcome,
    },
    /// Another attempt will be made. The budget has been charged.
    Retry {
        /// The attempt that made it necessary.
        number: u32,
        /// What about it.
        reason: Reason,
        /// The wait before it.
        wait: Duration,
    },
    /// Another attempt was called for, and is not made.
    NoRetry {
        /// The attempt that called for it.
        number: u32,
        /// What stood in the way, with its numbers.
        why: Refused,
    },
    /// A second attempt beside this one was due, and is not made.
    NoHedge {
        /// The attempt that goes on alone.
        number: u32,
        /// What stood in the way, with its numbers.
        why: Refused,
    },
    /// No endpoint admits; the request waits for one, at most until this moment.
    Held {
        /// Then it is looked again.
        until: Instant,
    },
    /// An attempt in flight is not waited for any longer: another one was faster.
    Cancelled {
        /// 1 is the first.
        number: u32,
    },
}

impl<R: Rng, O> Context<'_, R, O> {
    pub(crate) fn tell<T>(&mut self, decision: Decision<'_, T>)
    where
        O: Observer<T>,
    {
        self.observer.on(self.now, decision);
    }

    /// Tells that a breaker moved, if it did.
    pub(crate) fn moved<T>(&mut self, scope: Scope<'_, T>, transition: Option<Transition>)
    where
        O: Observer<T>,
    {
        if let Some(transition) = transition {
            self.tell(Decision::BreakerMoved { scope, transition });
        }
    }
}
