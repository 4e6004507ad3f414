//! The right to be in flight.

use std::sync::Arc;
use std::time::Instant;

use rand::Rng;

use super::types::Policies;
use crate::breaker::{Open, Permit};
use crate::endpoint::Endpoint;
use crate::limit::Slot;
use crate::observe::{Context, Observer, Scope};
use crate::outcome::Class;
use crate::rejection::Rejection;
use crate::spare;

/// The right to be in flight: a slot, and the permit of the breaker of calls until that has its result. Its drop gives both back.
#[derive(Debug)]
#[must_use = "an admission that is dropped unsettled says nothing about what happened"]
pub struct Admission {
    /// `None` while the request waits, and after it if there was no slot again.
    pub(super) slot: Option<Slot>,
    pub(super) permit: Option<Permit>,
}

impl Admission {
    pub(super) fn new<T, R: Rng, O: Observer<T>>(
        policies: &Policies,
        cx: &mut Context<'_, R, O>,
    ) -> Result<Admission, Rejection> {
        let max = policies.in_flight_max;
        let slot = policies.in_flight.enter(max).ok_or(Rejection::InFlightLimit { max })?;
        let Some(breaker) = &policies.breaker else { return Ok(Admission { slot: Some(slot), permit: None }) };
        let admission = breaker.try_acquire(cx.now);
        cx.moved(Scope::Calls, admission.moved);
        match admission.permit {
            Ok(permit) => Ok(Admission { slot: Some(slot), permit: Some(permit) }),
            Err(refusal) => {
                let open = Open { retry_at: refusal.retry_at, ..breaker.open(cx.now) };
                Err(Rejection::BreakerOpen(open))
            }
        }
    }

    /// Whether the breaker waits for its verdict in order to close.
    pub fn is_probe(&self) -> bool {
        self.permit.as_ref().is_some_and(Permit::is_probe)
    }

    /// Before the first attempt: if the failure ratio of the breaker of calls is reached, and more than one endpoint takes requests, the breaker opens and
    /// the request is refused.
    pub(super) fn review<T, R: Rng, O: Observer<T>>(
        &mut self,
        policies: &Policies,
        endpoints: &[Arc<Endpoint<T>>],
        cx: &mut Context<'_, R, O>,
    ) -> Option<Rejection> {
        let breaker = policies.breaker.as_ref()?;
        let now = cx.now;
        let has_several = || spare::has_several(endpoints, breaker.config().admitting_min, now);
        let moved = breaker.open_by_ratio(now, has_several, cx.rng)?;
        cx.moved(Scope::Calls, Some(moved));
        Some(Rejection::BreakerOpen(breaker.open(now)))
    }

    /// The head of the response goes downstream, and its body follows. A head that is no success settles the permit.
    pub fn on_head<T, R: Rng, O: Observer<T>>(
        &mut self,
        class: Class,
        policies: &Policies,
        cx: &mut Context<'_, R, O>,
    ) {
        if class != Class::Success {
            self.settle(class, policies, cx);
        } else if let (Some(breaker), Some(permit)) = (&policies.breaker, &mut self.permit) {
            breaker.on_head(permit, cx.now);
        }
    }

    /// A piece of the response's body came at `now`.
    pub fn on_piece(&mut self, now: Instant) {
        if let Some(permit) = &mut self.permit {
            permit.on_piece(now);
        }
    }

    /// Settles the permit with the class of the request. Only the first call counts. The slot stays taken until the drop.
    pub fn settle<T, R: Rng, O: Observer<T>>(&mut self, class: Class, policies: &Policies, cx: &mut Context<'_, R, O>) {
        let (Some(breaker), Some(permit)) = (&policies.breaker, self.permit.take()) else { return };
        let moved = breaker.on_result(permit, class, cx.now, cx.rng);
        cx.moved(Scope::Calls, moved);
    }
}
