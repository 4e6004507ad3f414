//! The model of one address of an upstream: a fixed number of workers, a queue before them, and a state of health.
//!
//! The endpoint also works on attempts that the sidecar has given up, because a server rarely notices that its client has gone. This
//! wasted work turns an overload into a collapse that outlives its cause.

use std::collections::VecDeque;
use std::time::Duration;

use outrigger_policy::outcome::{Outcome, Pushback};
use rand::RngExt;
use rand::rngs::StdRng;

/// How long an endpoint with a full queue takes to refuse an attempt, and a host to refuse a connection.
const TURNED_AWAY_AFTER: Duration = Duration::from_millis(1);

/// How an endpoint treats a request of a certain client at a certain time.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Health {
    /// It responds with 200.
    Works,
    /// It does the work, and this share of its responses is an error.
    Errs { share: f64, status: u16, pushback: Pushback },
    /// No connection can be made.
    Refuses,
    /// It accepts the request and never responds.
    Hangs,
}

/// The capacity of an endpoint.
pub(crate) struct Model {
    /// How many requests it works on at a time.
    pub(crate) workers: u32,
    /// How many requests may wait for a worker. The next one gets a 503 at once.
    pub(crate) queue_max: usize,
    /// The shortest time of work.
    pub(crate) work_least: Duration,
    /// The mean time of work. The part above the shortest time is exponential, so it has a tail.
    pub(crate) work_mean: Duration,
    /// How much longer work takes per request in the queue: 0.01 doubles it at a hundred.
    pub(crate) strain: f64,
    /// The health by the time since the start and by client.
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
    /// It is refused after this time without any work.
    TurnedAway(Duration, Job),
    /// A worker has begun and is done after this time.
    Begun(Duration, Job),
    /// It waits for a worker, or for ever.
    Silence,
}

pub(crate) struct Endpoint {
    model: Model,
    working: u32,
    queue: VecDeque<Job>,
}

impl Health {
    /// All responses are errors.
    pub(crate) const BROKEN: Health = Health::errs(1.0);

    /// This share of the responses is a plain 500.
    pub(crate) const fn errs(share: f64) -> Health {
        Health::Errs { share, status: 500, pushback: Pushback::None }
    }
}

impl Model {
    /// An endpoint with enough workers, which takes 10 ms in the mean and 2 ms at least.
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
        Endpoint { model, working: 0, queue: VecDeque::new() }
    }

    /// An attempt of `client` arrives, `elapsed` after the start.
    pub(crate) fn receive(
        &mut self,
        (call, attempt): (usize, u32),
        client: usize,
        elapsed: Duration,
        rng: &mut StdRng,
    ) -> Reaction {
        let job = |outcome| Job { call, attempt, outcome };
        let responded = |status, pushback| job(Outcome::Response { status, pushback });
        let done = match (self.model.health)(elapsed, client) {
            Health::Refuses => return Reaction::TurnedAway(TURNED_AWAY_AFTER, job(Outcome::ConnectFailed)),
            Health::Hangs => return Reaction::Silence,
            Health::Errs { share, status, pushback } if rng.random_bool(share) => responded(status, pushback),
            Health::Errs { .. } | Health::Works => responded(200, Pushback::None),
        };
        if self.working < self.model.workers {
            self.working += 1;
            Reaction::Begun(self.work(rng), done)
        } else if self.queue.len() < self.model.queue_max {
            self.queue.push_back(done);
            Reaction::Silence
        } else {
            Reaction::TurnedAway(TURNED_AWAY_AFTER, responded(503, Pushback::None))
        }
    }

    /// A worker is done and takes the next job of the queue. Returns that job and how long it takes.
    pub(crate) fn next(&mut self, rng: &mut StdRng) -> Option<(Duration, Job)> {
        let Some(job) = self.queue.pop_front() else {
            self.working -= 1;
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
