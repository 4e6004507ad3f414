//! The world: a heap of events in time, the clients that make requests, and the network between sidecars and endpoints.
//!
//! Two events of one moment happen in the order in which they were planned, so a seed determines the whole run. After the given length no new
//! requests begin. Those under way are played to their end, so that the laws can be checked on a world at rest.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::time::{Duration, Instant};

use outrigger_policy::deadline::Deadline;
use outrigger_policy::outcome::Outcome;
use outrigger_policy::upload::Upload;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use crate::endpoint::{Endpoint, Job, Model, Reaction};
use crate::laws;
use crate::report::{Ended, Moved, Report, Sent};
use crate::sidecar::{Ending, Flight, Next, Observed, Settings, Sidecar, Stage};

/// A client of a sidecar. It sends requests at random moments, whatever becomes of earlier ones (an open loop).
pub(crate) struct Client {
    pub(crate) sidecar: usize,
    /// The requests a second, by the time since the start.
    pub(crate) rate: Box<dyn Fn(Duration) -> f64>,
    /// The share of requests whose client disconnects early.
    pub(crate) leaves: f64,
    /// The share of requests whose task gets stuck for good.
    pub(crate) is_lost: f64,
    /// Until when it has disconnected, at the latest, since the request began.
    pub(crate) within: Duration,
}

pub(crate) struct World {
    now: Instant,
    start: Instant,
    length: Duration,
    rng: StdRng,
    agenda: BinaryHeap<Reverse<(Instant, u64, Event)>>,
    planned: u64,
    clients: Vec<Client>,
    pub(crate) sidecars: Vec<Sidecar>,
    endpoints: Vec<Endpoint>,
    /// By number; `None` when it has ended.
    flights: Vec<Option<Flight>>,
    /// The flights that stuck tasks hold.
    lost: Vec<Flight>,
    pub(crate) report: Report,
}

#[derive(Debug)]
enum Event {
    /// A client's next request is due.
    Due { client: usize },
    /// The wait of a request is over.
    Waited { call: usize },
    /// An attempt ends without work.
    TurnedAway(Job),
    /// A worker is done.
    Served { endpoint: usize, job: Job },
    /// An attempt times out.
    TimedOut { call: usize, attempt: u32 },
    /// The client disconnects, or the task gets stuck.
    Departs { call: usize, how: Ending },
}

impl Client {
    /// A client that always waits for its response.
    pub(crate) fn steady(sidecar: usize, per_second: f64) -> Client {
        Client::varying(sidecar, move |_| per_second)
    }

    /// Such a client with a rate that changes with time.
    pub(crate) fn varying(sidecar: usize, rate: impl Fn(Duration) -> f64 + 'static) -> Client {
        Client { sidecar, rate: Box::new(rate), leaves: 0.0, is_lost: 0.0, within: Duration::ZERO }
    }
}

impl World {
    pub(crate) fn new(seed: u64) -> World {
        #[expect(clippy::disallowed_methods, reason = "one moment to start from; it is only counted on")]
        let start = Instant::now();
        World {
            now: start,
            start,
            length: Duration::ZERO,
            rng: StdRng::seed_from_u64(seed),
            agenda: BinaryHeap::new(),
            planned: 0,
            clients: Vec::new(),
            sidecars: Vec::new(),
            endpoints: Vec::new(),
            flights: Vec::new(),
            lost: Vec::new(),
            report: Report::new(seed),
        }
    }

    pub(crate) fn endpoint(&mut self, model: Model) -> usize {
        self.endpoints.push(Endpoint::new(model));
        self.endpoints.len() - 1
    }

    pub(crate) fn sidecar(&mut self, settings: &Settings, endpoints: &[usize]) -> usize {
        self.sidecars.push(Sidecar::new(settings.clone(), endpoints, self.start));
        self.report.deposits.push(0);
        self.report.withdrawals.push(0);
        self.sidecars.len() - 1
    }

    pub(crate) fn client(&mut self, client: Client) -> usize {
        self.clients.push(client);
        self.clients.len() - 1
    }

    /// Adds equal sidecars, each with one steady client.
    pub(crate) fn fleet(&mut self, sidecars: usize, settings: &Settings, endpoints: &[usize], per_second: f64) {
        for _ in 0..sidecars {
            let sidecar = self.sidecar(settings, endpoints);
            self.client(Client::steady(sidecar, per_second));
        }
    }

    /// Lets clients send for `length`, plays everything to its end, and checks the laws.
    pub(crate) fn run(mut self, length: Duration) -> Report {
        self.length = length;
        self.report.length = length;
        (0..self.clients.len()).for_each(|client| self.plan_next_request(client));
        while let Some(Reverse((at, _, event))) = self.agenda.pop() {
            self.now = at;
            self.happen(event);
        }
        laws::check(&self, self.now);
        self.report
    }

    /// How many tasks of this sidecar are stuck.
    pub(crate) fn lost_at(&self, sidecar: usize) -> usize {
        self.lost.iter().filter(|flight| self.clients[flight.client].sidecar == sidecar).count()
    }

    fn happen(&mut self, event: Event) {
        match event {
            Event::Due { client } => self.request(client),
            Event::Waited { call } => self.drive(call),
            Event::TurnedAway(job) => self.deliver(job.call, job.attempt, job.outcome),
            Event::Served { endpoint, job } => {
                if let Some((work, job)) = self.endpoints[endpoint].next(&mut self.rng) {
                    self.plan(self.now + work, Event::Served { endpoint, job });
                }
                self.deliver(job.call, job.attempt, job.outcome);
            }
            Event::TimedOut { call, attempt } => self.deliver(call, attempt, Outcome::AttemptTimedOut),
            Event::Departs { call, how } => {
                if let Some(departing) = self.flights[call].take() {
                    self.end(departing, how);
                }
            }
        }
    }

    fn request(&mut self, client: usize) {
        self.plan_next_request(client);
        self.report.begun += 1;
        let sidecar = self.clients[client].sidecar;
        let flight = match self.on_stage(sidecar, |sidecar, stage| sidecar.begin(client, stage)) {
            Ok(flight) => flight,
            Err(refusal) => {
                let (begun, ended) = (self.elapsed(), self.elapsed());
                return self.report.ended.push(Ended { client, begun, ended, attempts: 0, ending: refusal });
            }
        };
        let number = self.flights.len();
        self.flights.push(Some(flight));
        self.plan_departure(number, client);
        self.drive(number);
    }

    /// An outcome reaches the sidecar, unless the request or the attempt has ended before.
    fn deliver(&mut self, number: usize, attempt: u32, outcome: Outcome) {
        let Some(mut flight) = self.flights[number].take_if(|flight| flight.awaits(attempt)) else { return };
        let sidecar = self.clients[flight.client].sidecar;
        self.on_stage(sidecar, |sidecar, stage| sidecar.ended(&mut flight, attempt, outcome, stage));
        self.flights[number] = Some(flight);
        self.drive(number);
    }

    /// Performs the steps that the sidecar decides for a request. A request that has ended has none.
    fn drive(&mut self, number: usize) {
        let Some(mut flight) = self.flights[number].take() else { return };
        let sidecar = self.clients[flight.client].sidecar;
        loop {
            match self.on_stage(sidecar, |sidecar, stage| sidecar.next(&mut flight, stage)) {
                Next::End(ending) => return self.end(flight, ending),
                Next::Wait { until } => {
                    if let Some(at) = until {
                        self.plan(at, Event::Waited { call: number });
                    }
                    break;
                }
                Next::Send { endpoint, attempt, until, is_probe } => {
                    let sent = Sent { at: self.elapsed(), endpoint, attempt, is_probe };
                    self.send(number, &flight, sent);
                    self.plan(until, Event::TimedOut { call: number, attempt });
                }
            }
        }
        self.flights[number] = Some(flight);
    }

    fn send(&mut self, number: usize, flight: &Flight, sent: Sent) {
        laws::check_attempt(&self.report, self.deadline(flight), self.now);
        let arriving = (number, sent.attempt);
        match self.endpoints[sent.endpoint].receive(arriving, flight.client, sent.at, &mut self.rng) {
            Reaction::TurnedAway(after, job) => self.plan(self.now + after, Event::TurnedAway(job)),
            Reaction::Begun(work, job) => {
                self.plan(self.now + work, Event::Served { endpoint: sent.endpoint, job });
            }
            Reaction::Silence => {}
        }
        self.report.sent.push(sent);
    }

    fn end(&mut self, flight: Flight, ending: Ending) {
        laws::check_ending(&self.report, self.deadline(&flight), self.now);
        let (begun, ended) = (flight.call.begun() - self.start, self.elapsed());
        let attempts = flight.call.attempts();
        self.report.ended.push(Ended { client: flight.client, begun, ended, attempts, ending });
        let sidecar = self.clients[flight.client].sidecar;
        let is_retry_due = flight.is_retry_due;
        if ending == Ending::Lost {
            self.report.unused += usize::from(is_retry_due);
            return self.lost.push(flight);
        }
        // What was withdrawn for a retry that is never sent goes back.
        self.report.withdrawals[sidecar] -= u32::from(is_retry_due);
        self.on_stage(sidecar, |sidecar, stage| sidecar.end(flight, ending, stage));
    }

    fn deadline(&self, flight: &Flight) -> Deadline {
        let policies = &self.sidecars[self.clients[flight.client].sidecar].policies;
        flight.call.deadline(policies, &Upload::NONE, self.now)
    }

    fn on_stage<T>(&mut self, sidecar: usize, act: impl FnOnce(&Sidecar, &mut Stage<'_>) -> T) -> T {
        let mut stage = Stage { now: self.now, rng: &mut self.rng, observed: Observed::default() };
        let done = act(&self.sidecars[sidecar], &mut stage);
        let Observed { moves, refused, deposits, withdrawals, .. } = stage.observed;
        let at = self.now - self.start;
        let moves = moves.into_iter().map(|(level, to)| Moved { at, sidecar, level, moved: to });
        self.report.moves.extend(moves);
        self.report.refused.extend(refused);
        self.report.deposits[sidecar] += deposits;
        self.report.withdrawals[sidecar] += withdrawals;
        done
    }

    fn plan_next_request(&mut self, client: usize) {
        let rate = (self.clients[client].rate)(self.elapsed());
        let gap = -(1.0 - self.rng.random::<f64>()).ln() / rate;
        let at = self.now + Duration::from_secs_f64(gap.min(86_400.0));
        if at < self.start + self.length {
            self.plan(at, Event::Due { client });
        }
    }

    fn plan_departure(&mut self, call: usize, client: usize) {
        let Client { leaves, is_lost, within, .. } = self.clients[client];
        if leaves + is_lost == 0.0 {
            return;
        }
        let (fate, after) = (self.rng.random::<f64>(), within.mul_f64(self.rng.random::<f64>()));
        let how = if fate < is_lost { Ending::Lost } else { Ending::Left };
        if fate < is_lost + leaves {
            self.plan(self.now + after, Event::Departs { call, how });
        }
    }

    fn plan(&mut self, at: Instant, event: Event) {
        self.planned += 1;
        self.agenda.push(Reverse((at, self.planned, event)));
    }

    fn elapsed(&self) -> Duration {
        self.now - self.start
    }
}

/// Events are ordered by their moment and number. No two events are equal in both.
impl Ord for Event {
    fn cmp(&self, _: &Event) -> std::cmp::Ordering {
        std::cmp::Ordering::Equal
    }
}

impl PartialOrd for Event {
    fn partial_cmp(&self, other: &Event) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Event {
    fn eq(&self, other: &Event) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Event {}
