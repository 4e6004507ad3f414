//! What a [`Call`](super::Call) works with: the policies of a route, the scene of a decision, and the steps that it asks for.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::balance::Lease;
use crate::breaker::Breaker;
use crate::budget::Budget;
use crate::deadline::Timeouts;
use crate::endpoint::Endpoint;
use crate::limit::InFlight;
use crate::outcome::{Outcome, Pushback};
use crate::rejection::Rejection;
use crate::retry;
use crate::upload::Upload;

/// The policies of a route, with the state that its requests share.
#[derive(Clone, Debug)]
pub struct Policies {
    /// How many requests may be in flight, and how many may wait besides.
    pub in_flight_max: u32,
    /// The requests in flight, and those that wait.
    pub in_flight: Arc<InFlight>,
    /// The breaker of calls; `None` when switched off.
    pub breaker: Option<Arc<Breaker>>,
    /// The budget of extra attempts.
    pub budget: Arc<Budget>,
    /// The timeouts.
    pub timeouts: Timeouts,
    /// Which outcomes are retried, and when.
    pub retry: retry::Config,
    /// After this long without a response a second attempt begins beside the first, if the request may be repeated; `None` for never.
    pub hedge: Option<Duration>,
    /// How long a request waits for an endpoint when none admits; `None` for not at all.
    pub hold: Option<Duration>,
}

impl Policies {
    /// How many requests may wait, if one more is to wait after `outcome`. A wait that the upstream asked for may take many seconds, and finds only half of the
    /// places: so the short waits of other retries find some.
    pub(super) fn waiting_max(&self, outcome: &Outcome) -> u32 {
        match outcome.pushback() {
            Pushback::None | Pushback::Unreadable => self.in_flight_max,
            Pushback::After(_) => self.in_flight_max.div_ceil(2),
        }
    }
}

/// The surroundings of a decision. The endpoints and the state of the body change during a request; the policies do not.
pub struct Scene<'a, T> {
    /// The policies of the route.
    pub policies: &'a Policies,
    /// The current endpoints of the upstream.
    pub endpoints: &'a [Arc<Endpoint<T>>],
    /// The current state of the request's body.
    pub upload: &'a Upload,
    /// How much of the scheduling lag since its beginning is forgiven to the request. Asked only when a deadline decides, which is rare.
    pub forgiven: &'a dyn Fn() -> Duration,
}

/// What the driver has to do next.
#[derive(Debug)]
pub enum Step<T> {
    /// Send the request to this endpoint, and wait for a head until [`Timeouts::attempt_end`].
    Attempt {
        /// 1 is the first.
        number: u32,
        /// The endpoint, in use from now on.
        lease: Lease<T>,
    },
    /// A retry has been decided. Read the response that it supersedes to its end, or give it up by this moment; then poll again. The request has its slot until then.
    Supersede {
        /// When the retry is due.
        until: Instant,
    },
    /// Wait until this moment or the end of an attempt; with `None` until the end of an attempt.
    Wait {
        /// When to poll again.
        until: Option<Instant>,
    },
    /// No endpoint admits, so wait for one. Poll again at this moment, and as soon as the endpoints change.
    Hold {
        /// When to poll again.
        until: Instant,
    },
    /// All slots are taken, so queue for one. Poll again at this moment, and as soon as [`Call::poll_slot`](super::Call::poll_slot) is ready.
    Queue {
        /// When to poll again.
        until: Instant,
    },
    /// Cancel this attempt; its outcome is [`Outcome::Superseded`].
    Cancel {
        /// 1 is the first.
        number: u32,
    },
    /// End the request with the result of this attempt.
    Return {
        /// 1 is the first.
        number: u32,
    },
    /// Refuse the request, because no attempt can be made.
    Reject(Rejection),
}
