//! The one random generator, and the plan that each request is drawn from.
//!
//! Plan, generator and arrival number change together under one lock, so that every request is drawn from exactly one
//! plan and the order of arrival is the order of the draws. The lock is held for one draw: no allocation, no waiting.

use std::sync::{Mutex, MutexGuard};

use rand::SeedableRng;
use rand::rngs::Xoshiro256PlusPlus;

use crate::faults::Faults;
use crate::plan::{Draw, Plan};

/// Decides what the next request meets.
#[derive(Debug)]
pub(crate) struct Draws {
    inner: Mutex<Inner>,
}

#[derive(Debug)]
struct Inner {
    plan: Plan,
    /// A named algorithm, where `StdRng` may change with the library: a seed must mean the same draws next year.
    rng: Xoshiro256PlusPlus,
    /// Requests since the start; neither new faults nor a new seed take it back.
    arrivals: u64,
}

impl Draws {
    pub(crate) fn new(plan: Plan, seed: u64) -> Self {
        let rng = Xoshiro256PlusPlus::seed_from_u64(seed);
        Self { inner: Mutex::new(Inner { plan, rng, arrivals: 0 }) }
    }

    /// The arrival number of this request, from 1, and what it meets.
    pub(crate) fn next(&self) -> (u64, Draw) {
        let inner = &mut *self.lock();
        inner.arrivals += 1;
        (inner.arrivals, inner.plan.draw(&mut inner.rng))
    }

    /// The next request meets this plan; with a seed, the generator starts over.
    pub(crate) fn replace(&self, plan: Plan, seed: Option<u64>) {
        let inner = &mut *self.lock();
        inner.plan = plan;
        if let Some(seed) = seed {
            inner.rng = Xoshiro256PlusPlus::seed_from_u64(seed);
        }
    }

    pub(crate) fn faults(&self) -> Faults {
        self.lock().plan.faults().clone()
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().expect("no code under this lock panics")
    }
}
