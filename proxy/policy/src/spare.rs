//! Whether an upstream can do without one more endpoint.
//!
//! An endpoint that fails half of its attempts is worth more than none, so the failure ratio alone takes out neither the last endpoint nor so many that the others would have to bear too much
//! ([`Config::admitting_min`](crate::breaker::Config::admitting_min)). For the breaker of calls the same holds of all endpoints together: where only one is left, its partial failure must not become a total one.
//!
//! Cores do not wait for each other here. Two of them that decide at the same moment may take out one endpoint too many, for one open time.

use std::sync::Arc;
use std::time::Instant;

use crate::endpoint::Endpoint;
use crate::units::Ratio;

/// Whether others than the endpoint with the id `out` take requests: at least one, and at least `share` of all endpoints.
pub(crate) fn can_spare<T>(endpoints: &[Arc<Endpoint<T>>], out: u64, share: Ratio, now: Instant) -> bool {
    suffice(endpoints, 1, share, |endpoint| endpoint.id != out && endpoint.takes_requests(now))
}

/// Whether more than one endpoint takes requests, and at least `share` of all.
pub(crate) fn has_several<T>(endpoints: &[Arc<Endpoint<T>>], share: Ratio, now: Instant) -> bool {
    suffice(endpoints, 2, share, |endpoint| endpoint.takes_requests(now))
}

fn suffice<T>(
    endpoints: &[Arc<Endpoint<T>>],
    least: usize,
    share: Ratio,
    counts: impl Fn(&Endpoint<T>) -> bool,
) -> bool {
    let count = endpoints.iter().filter(|endpoint| counts(endpoint)).count();
    let [count_u32, all] = [count, endpoints.len()].map(|n| u32::try_from(n).unwrap_or(u32::MAX));
    count >= least && share.is_reached_by(count_u32, all)
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU32;
    use std::time::Duration;

    use rand::SeedableRng;
    use rand::rngs::StdRng;

    use super::*;
    use crate::balance;
    use crate::breaker::{Breaker, Config, State};
    use crate::observe::Context;
    use crate::outcome::Class;

    const SECOND: Duration = Duration::from_secs(1);

    fn config(admitting_min: Ratio) -> Config {
        Config {
            window: 10 * SECOND,
            failure_ratio: Ratio::from_ppm(500_000).expect("in range"),
            volume_min: 1,
            admitting_min,
            consecutive_failures: NonZeroU32::MAX,
            open_base: SECOND,
            open_cap: SECOND,
            open_jitter: Ratio::ZERO,
            probes: NonZeroU32::MIN,
            probe_lease: 5 * SECOND,
        }
    }

    /// Endpoints that fail every attempt, of which so many are sent.
    fn failing(count: u64, share: f64, attempts: u32, now: Instant) -> Vec<Arc<Endpoint<()>>> {
        let config = config(Ratio::from_f64(share).expect("in range"));
        let endpoints: Vec<_> =
            (0..count).map(|id| Arc::new(Endpoint::new(id, Some(Breaker::new(config, now)), ()))).collect();
        let mut rng = StdRng::seed_from_u64(1);
        for _ in 0..attempts {
            let mut cx = Context { now, rng: &mut rng, observer: &mut () };
            balance::choose(&endpoints, &[], &mut cx).expect("one is left").settle(Class::Failure, &mut cx);
        }
        endpoints
    }

    fn closed<T>(endpoints: &[Arc<Endpoint<T>>], now: Instant) -> usize {
        endpoints.iter().filter(|endpoint| endpoint.takes_requests(now)).count()
    }

    #[test]
    fn the_ratio_takes_out_endpoints_until_their_share_is_left_and_never_the_last() {
        let now = Instant::now();
        for (count, share, left) in
            [(1, 0.0, 1), (2, 0.0, 1), (3, 0.0, 1), (2, 0.5, 1), (3, 0.5, 2), (10, 0.5, 5), (3, 1.0, 3)]
        {
            let endpoints = failing(count, share, 200, now);
            assert_eq!(closed(&endpoints, now), left, "of {count}, {share}");
        }
    }

    #[test]
    fn a_half_open_endpoint_is_no_place_to_go() {
        let now = Instant::now();
        let later = now + SECOND;
        // Whichever of the two is drawn first.
        for seed in 0..8 {
            let endpoints = failing(2, 0.0, 200, now);
            assert!(endpoints.iter().all(|endpoint| endpoint.admits(later)));
            let mut rng = StdRng::seed_from_u64(seed);
            let mut cx = Context { now: later, rng: &mut rng, observer: &mut () };
            let leases: Vec<_> =
                (0..50).map(|_| balance::choose(&endpoints, &[], &mut cx).expect("one is left")).collect();
            let states = endpoints.iter().filter_map(|endpoint| endpoint.breaker.as_ref());
            let mut states: Vec<_> = states.map(|breaker| breaker.snapshot(later).state).collect();
            states.sort_by_key(|state| *state == State::HalfOpen);
            assert_eq!(states, [State::Closed, State::HalfOpen], "while one is probed, the other one takes everything");
            assert_eq!(leases.iter().filter(|lease| lease.is_probe()).count(), 1);
        }
    }
}
