//! The model of one address of an upstream: a fixed number of workers, a queue before them, and a state of health.
//!
//! An attempt that the sidecar has given up is worked on all the same, because a server rarely notices that nobody waits any more. That
//! wasted work is what turns an overload into a collapse which outlives its cause.

use std::collections::VecDeque;
use std::time::Duration;

use outrigger_policy::outcome::{Outcome, Pushback};
use rand::RngExt;
use rand::rngs::StdRng;

/// What an endpoint without a free place takes to say so; also a refused connection.
const TURNED_AWAY_AFTER: Duration = Duration::from_millis(1);

/// How an endpoint feels about a request of a certain caller at a certain time.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Health {
    /// It answers 200.
    Works,
    /// It does the work, and this share of its answers is an error.
    Errs { share: f64, status: u16, pushback: Pushback },
    /// No connection can be made.
    Refuses,
    /// It takes the request and is never heard of again.
    Hangs,
}

/// What an endpoint can do.
pub(crate) struct Model {
    /// Requests it works on at a time.
    pub(crate) workers: u32,
    /// Requests that wait for a worker; the next one is answered 503 at once.
    pub(crate) queue_max: usize,
    /// The shortest time of work.
    pub(crate) work_least: Duration,
    /// The mean time of work; what is above the shortest is exponential, so it has a tail.
    pub(crate) work_mean: Duration,
    /// How much longer everything takes per request in the queue: 0.01 doubles it at a hundred.
    pub(crate) strain: f64,
    /// By the time since the start, and by caller.
    pub(crate) health: Box<dyn Fn(Duration, usize) -> Health>,
}

/// One attempt as the endpoint sees it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Job {
    pub(crate) call: usize,
    pub(crate) attempt: u32,
    pub(crate) outcome: Outcome,
}

/// What becomes of an attempt that has just arrived.
pub(crate) enum Reaction {
    /// It ends after this time without any work.
    TurnedAway(Duration, Job),
    /// A worker has begun; it is done after this time.
    Begun(Duration, Job),
    /// It waits for a worker, or for ever.
    Silence,
}

pub(crate) struct Endpoint {
    model: Model,
    busy: u32,
    queue: VecDeque<Job>,
}

impl Health {
    /// All answers are this error.
    pub(crate) const BROKEN: Health = Health::errs(1.0);

    /// A share of plain 500s.
    pub(crate) const fn errs(share: f64) -> Health {
        Health::Errs { share, status: 500, pushback: Pushback::None }
    }
}

impl Model {
    /// Never short of workers: 10 ms in the mean, 2 ms at least.
    pub(crate) fn quick(health: impl Fn(Duration) -> Health + 'static) -> Model {
        Model {
            workers: u32::MAX,
            queue_max: 0,
            work_least: Duration::from_millis(2),
            work_mean: Duration::from_millis(10),
            strain: 0.0,
            health: Box::new(move |elapsed, _| health(elapsed)),
        }
    }
}

impl Endpoint {
    pub(crate) fn new(model: Model) -> Endpoint {
        Endpoint { model, busy: 0, queue: VecDeque::new() }
    }

    /// An attempt of `caller` arrives, `elapsed` after the start.
    pub(crate) fn receive(
        &mut self,
        (call, attempt): (usize, u32),
        caller: usize,
        elapsed: Duration,
        rng: &mut StdRng,
    ) -> Reaction {
        let job = |outcome| Job { call, attempt, outcome };
        let answered = |status, pushback| job(Outcome::Response { status, pushback });
        let done = match (self.model.health)(elapsed, caller) {
            Health::Refuses => return Reaction::TurnedAway(TURNED_AWAY_AFTER, job(Outcome::ConnectFailed)),
            Health::Hangs => return Reaction::Silence,
            Health::Errs { share, status, pushback } if rng.random_bool(share) => answered(status, pushback),
            Health::Errs { .. } | Health::Works => answered(200, Pushback::None),
        };
        if self.busy < self.model.workers {
            self.busy += 1;
            Reaction::Begun(self.work(rng), done)
        } else if self.queue.len() < self.model.queue_max {
            self.queue.push_back(done);
            Reaction::Silence
        } else {
            Reaction::TurnedAway(TURNED_AWAY_AFTER, answered(503, Pushback::None))
        }
    }

    /// A worker is done; it goes on with the next job of the queue, which takes the time returned.
    pub(crate) fn next(&mut self, rng: &mut StdRng) -> Option<(Duration, Job)> {
        let Some(job) = self.queue.pop_front() else {
            self.busy -= 1;
            return None;
        };
        Some((self.work(rng), job))
    }

    fn work(&self, rng: &mut StdRng) -> Duration {
        let Model { work_least, work_mean, strain, .. } = self.model;
        let exponential = -(1.0 - rng.random::<f64>()).ln();
        let time = work_least + work_mean.saturating_sub(work_least).mul_f64(exponential);
        time.mul_f64(1.0 + strain * self.queue.len() as f64)
    }
}
