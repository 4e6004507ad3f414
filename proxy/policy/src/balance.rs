//! Chooses the endpoint of an attempt: the less loaded of two drawn at random, among those whose breaker admits.
//!
//! This is the power of two choices (Mitzenmacher 2001) on requests in flight. Two random draws already avoid the queues that one random draw builds. And unlike
//! with "least loaded of all", many sidecars do not send to the same idle endpoint at once.
//!
//! A choice is a [`Lease`]: the endpoint counts one more request in flight and its breaker has given a permit, until the lease is settled or dropped.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Instant;

use rand::{Rng, RngExt};

use crate::breaker::{Open, Permit};
use crate::endpoint::Endpoint;
use crate::observe::{Context, Observer, Scope};
use crate::outcome::Class;
use crate::spare;

/// An endpoint in use by one attempt. It counts as in flight until this is dropped. A permit that is dropped unsettled changes nothing that was counted.
#[derive(Debug)]
#[must_use = "a lease that is dropped at once is an attempt that says nothing"]
pub struct Lease<T> {
    endpoint: Arc<Endpoint<T>>,
    permit: Option<Permit>,
}

/// Why no endpoint can be chosen.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum NoEndpoint {
    /// The upstream has no endpoints.
    Unknown,
    /// Every breaker refuses; this is the one that admits first.
    AllOpen(Open),
}

/// Chooses among `endpoints`. One whose id is not in `attempted` is preferred.
///
/// # Errors
/// There is no endpoint, or no breaker admits.
pub fn choose<T, R: Rng, O: Observer<T>>(
    endpoints: &[Arc<Endpoint<T>>],
    attempted: &[u64],
    cx: &mut Context<'_, R, O>,
) -> Result<Lease<T>, NoEndpoint> {
    let now = cx.now;
    let admits = |at: usize| endpoints[at].admits(now);
    let is_new = |at: usize| !attempted.contains(&endpoints[at].id) && admits(at);
    let load = |at: usize| endpoints[at].in_flight.load(Relaxed);
    // A permit can still be refused when another core was faster. Each refusal takes one endpoint out.
    for _ in 0..endpoints.len() {
        let choice = pick(endpoints.len(), is_new, load, cx.rng).or_else(|| {
            // Without attempted endpoints the second search would be the same as the first.
            if attempted.is_empty() { None } else { pick(endpoints.len(), admits, load, cx.rng) }
        });
        let Some(endpoint) = choice.map(|at| &endpoints[at]) else { break };
        if let Some(lease) = Lease::take(endpoint, endpoints, cx) {
            return Ok(lease);
        }
    }
    // The breaker that admits first decides when a retry makes sense.
    let breakers = endpoints.iter().filter_map(|endpoint| endpoint.breaker.as_ref());
    let first = breakers.map(|breaker| breaker.open(now)).min_by_key(|open| open.retry_at);
    Err(first.map_or(NoEndpoint::Unknown, NoEndpoint::AllOpen))
}

impl<T> Lease<T> {
    /// Takes a lease on `endpoint`, one of `endpoints`, if its breaker gives a permit.
    fn take<R: Rng, O: Observer<T>>(
        endpoint: &Arc<Endpoint<T>>,
        endpoints: &[Arc<Endpoint<T>>],
        cx: &mut Context<'_, R, O>,
    ) -> Option<Lease<T>> {
        let permit = match &endpoint.breaker {
            None => None,
            Some(breaker) => {
                let now = cx.now;
                let can_spare = || spare::can_spare(endpoints, endpoint.id, breaker.config().admitting_min, now);
                let moved = breaker.open_by_ratio(now, can_spare, cx.rng);
                cx.moved(Scope::Endpoint(endpoint), moved);
                let admission = breaker.try_acquire(cx.now);
                cx.moved(Scope::Endpoint(endpoint), admission.moved);
                Some(admission.permit.ok()?)
            }
        };
        endpoint.in_flight.fetch_add(1, Relaxed);
        Some(Lease { endpoint: Arc::clone(endpoint), permit })
    }

    /// The endpoint in use.
    pub fn endpoint(&self) -> &Arc<Endpoint<T>> {
        &self.endpoint
    }

    /// Whether the permit is a probe's, whose result may close the breaker.
    pub fn is_probe(&self) -> bool {
        self.permit.as_ref().is_some_and(Permit::is_probe)
    }

    /// The head of a response has come. It settles the permit unless the class is a success: that counts, and its body may still break off.
    pub fn on_head<R: Rng, O: Observer<T>>(&mut self, class: Class, cx: &mut Context<'_, R, O>) {
        if class != Class::Success {
            self.settle_breaker(class, cx);
        } else if let (Some(breaker), Some(permit)) = (&self.endpoint.breaker, &mut self.permit) {
            breaker.on_head(permit, cx.now);
        }
    }

    /// A piece of the response's body came.
    pub fn on_piece(&mut self, now: Instant) {
        if let Some(permit) = &mut self.permit {
            permit.on_piece(now);
        }
    }

    /// Settles the permit. The endpoint stays in use.
    pub fn settle_breaker<R: Rng, O: Observer<T>>(&mut self, class: Class, cx: &mut Context<'_, R, O>) {
        let (Some(breaker), Some(permit)) = (&self.endpoint.breaker, self.permit.take()) else { return };
        let moved = breaker.on_result(permit, class, cx.now, cx.rng);
        cx.moved(Scope::Endpoint(&self.endpoint), moved);
    }

    /// The attempt is over: settles the permit and gives the endpoint back.
    pub fn settle<R: Rng, O: Observer<T>>(mut self, class: Class, cx: &mut Context<'_, R, O>) {
        self.settle_breaker(class, cx);
    }
}

impl<T> Drop for Lease<T> {
    fn drop(&mut self) {
        self.endpoint.in_flight.fetch_sub(1, Relaxed);
    }
}

/// The index of the chosen endpoint among `0..len`, or `None` if none is eligible.
///
/// `eligible(i)` says whether endpoint `i` may be chosen at all, and `load(i)` how much work it has. Each draw scans from a random index to the next
/// eligible endpoint, in constant time when most are eligible and in linear time when few are. An endpoint behind a gap is drawn more often; the
/// comparison of loads evens that out.
fn pick(
    len: usize,
    eligible: impl Fn(usize) -> bool,
    load: impl Fn(usize) -> u32,
    rng: &mut impl Rng,
) -> Option<usize> {
    match len {
        0 => return None,
        1 => return eligible(0).then_some(0),
        _ => {}
    }
    let mut scan = |taken: Option<usize>| {
        let start = rng.random_range(0..len);
        (start..len).chain(0..start).find(|i| Some(*i) != taken && eligible(*i))
    };
    let one = scan(None)?;
    match scan(Some(one)) {
        Some(other) if load(other) < load(one) => Some(other),
        _ => Some(one),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::SeedableRng;
    use rand::rngs::StdRng;

    #[test]
    fn only_eligible_endpoints_are_chosen() {
        let mut rng = StdRng::seed_from_u64(3);
        for len in 0..6usize {
            for mask in 0..1u32 << len {
                let eligible = |i: usize| mask & (1 << i) != 0;
                match pick(len, eligible, |_| 0, &mut rng) {
                    Some(i) => assert!(i < len && eligible(i), "{i} of {len}, mask {mask:b}"),
                    None => assert_eq!(mask, 0, "an eligible endpoint was overlooked"),
                }
            }
        }
    }

    #[test]
    fn equal_endpoints_get_equal_shares() {
        let mut rng = StdRng::seed_from_u64(4);
        let mut hits = [0u32; 4];
        for _ in 0..40_000 {
            hits[pick(4, |_| true, |_| 0, &mut rng).expect("all are eligible")] += 1;
        }
        assert!(hits.iter().all(|h| (9_500..=10_500).contains(h)), "{hits:?}");
    }

    #[test]
    fn the_most_loaded_endpoint_is_never_chosen_while_another_lives() {
        let mut rng = StdRng::seed_from_u64(5);
        let loads = [3, 9, 1];
        assert!((0..1_000).all(|_| pick(3, |_| true, |i| loads[i], &mut rng) != Some(1)));
    }

    #[test]
    fn an_endpoint_that_has_had_an_attempt_is_chosen_only_when_no_other_admits() {
        let endpoints: Vec<_> = (0..3).map(|id| Arc::new(Endpoint::new(id, None, ()))).collect();
        let mut rng = StdRng::seed_from_u64(6);
        let mut cx = Context { now: Instant::now(), rng: &mut rng, observer: &mut () };
        for _ in 0..100 {
            let lease = choose(&endpoints, &[0, 2], &mut cx).expect("all admit");
            assert_eq!((lease.endpoint().id, endpoints[1].in_flight.load(Relaxed)), (1, 1));
        }
        assert_eq!(endpoints[1].in_flight.load(Relaxed), 0, "a lease gives its place back");
        let lease = choose(&endpoints, &[0, 1, 2], &mut cx);
        assert!(lease.is_ok(), "all have had an attempt, so any may be chosen");
        assert_eq!(choose::<(), _, _>(&[], &[], &mut cx).err(), Some(NoEndpoint::Unknown));
    }
}
