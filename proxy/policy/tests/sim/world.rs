//! The world: a heap of events in time, the callers that make requests, and the wires between sidecars and endpoints.
//!
//! Two events of one moment happen in the order in which they were planned, so a seed fixes the whole run. At the end of the given length no new
//! request comes; those under way are played to their end, so that the laws can be checked on a world at rest.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::time::{Duration, Instant};

use outrigger_policy::outcome::Outcome;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use crate::endpoint::{Endpoint, Job, Model, Reaction};
use crate::laws;
use crate::report::{Ended, Moved, Report, Sent};
use crate::sidecar::{Call, Ending, Scene, Settings, Sidecar, Step};

/// An app behind a sidecar: requests at random moments, whatever becomes of those before (an open loop).
pub(crate) struct Caller {
    pub(crate) sidecar: usize,
    /// Requests a second, by the time since the start.
    pub(crate) rate: Box<dyn Fn(Duration) -> f64>,
    /// The share of requests whose caller leaves early.
    pub(crate) leaves: f64,
    /// The share of requests whose task gets stuck for good.
    pub(crate) is_lost: f64,
    /// How early, at most.
    pub(crate) within: Duration,
}

pub(crate) struct World {
    now: Instant,
    start: Instant,
    length: Duration,
    rng: StdRng,
    agenda: BinaryHeap<Reverse<(Instant, u64, Event)>>,
    planned: u64,
    callers: Vec<Caller>,
    pub(crate) sidecars: Vec<Sidecar>,
    endpoints: Vec<Endpoint>,
    /// By number; `None` when it has ended.
    calls: Vec<Option<Call>>,
    /// What stuck tasks hold.
    lost: Vec<Call>,
    pub(crate) report: Report,
}

#[derive(Debug)]
enum Event {
    /// A caller's next request is due.
    Due { caller: usize },
    /// The wait before a retry is over.
    Again { call: usize },
    /// An attempt ends without having cost a worker.
    TurnedAway(Job),
    /// A worker is done.
    Served { endpoint: usize, job: Job },
    /// Nobody waits for this attempt any longer.
    TimedOut { call: usize, attempt: u32 },
    /// The caller leaves, or the task gets stuck.
    Departs { call: usize, how: Ending },
}

impl Caller {
    /// A patient one.
    pub(crate) fn steady(sidecar: usize, per_second: f64) -> Caller {
        Caller::varying(sidecar, move |_| per_second)
    }

    /// A patient one whose rate changes with time.
    pub(crate) fn varying(sidecar: usize, rate: impl Fn(Duration) -> f64 + 'static) -> Caller {
        Caller { sidecar, rate: Box::new(rate), leaves: 0.0, is_lost: 0.0, within: Duration::ZERO }
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
            callers: Vec::new(),
            sidecars: Vec::new(),
            endpoints: Vec::new(),
            calls: Vec::new(),
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

    pub(crate) fn caller(&mut self, caller: Caller) -> usize {
        self.callers.push(caller);
        self.callers.len() - 1
    }

    /// So many equal sidecars, each with one steady caller.
    pub(crate) fn fleet(&mut self, sidecars: usize, settings: &Settings, endpoints: &[usize], per_second: f64) {
        for _ in 0..sidecars {
            let sidecar = self.sidecar(settings, endpoints);
            self.caller(Caller::steady(sidecar, per_second));
        }
    }

    /// Lets callers call for `length`, plays everything to its end, and checks the laws.
    pub(crate) fn run(mut self, length: Duration) -> Report {
        self.length = length;
        self.report.length = length;
        (0..self.callers.len()).for_each(|caller| self.plan_next_request(caller));
        while let Some(Reverse((at, _, event))) = self.agenda.pop() {
            self.now = at;
            self.happen(event);
        }
        laws::check(&self, self.now);
        self.report
    }

    /// How many tasks of this sidecar are stuck.
    pub(crate) fn lost_at(&self, sidecar: usize) -> usize {
        self.lost.iter().filter(|call| self.callers[call.caller].sidecar == sidecar).count()
    }

    fn happen(&mut self, event: Event) {
        match event {
            Event::Due { caller } => self.request(caller),
            Event::Again { call } => {
                let sent = self.report.sent.len();
                self.act(call, Sidecar::attempt);
                self.report.unused += usize::from(self.report.sent.len() == sent);
            }
            Event::TurnedAway(job) => self.deliver(job.call, job.attempt, job.outcome),
            Event::Served { endpoint, job } => {
                if let Some((work, job)) = self.endpoints[endpoint].next(&mut self.rng) {
                    self.plan(self.now + work, Event::Served { endpoint, job });
                }
                self.deliver(job.call, job.attempt, job.outcome);
            }
            Event::TimedOut { call, attempt } => self.deliver(call, attempt, Outcome::AttemptTimedOut),
            Event::Departs { call, how } => {
                if let Some(departing) = self.calls[call].take() {
                    self.end(departing, how);
                }
            }
        }
    }

    fn request(&mut self, caller: usize) {
        self.plan_next_request(caller);
        self.report.begun += 1;
        let sidecar = self.callers[caller].sidecar;
        let begun = self.in_scene(sidecar, |sidecar, scene| sidecar.begin(caller, scene));
        let call = match begun {
            Ok(call) => call,
            Err(refusal) => {
                let (begun, ended) = (self.elapsed(), self.elapsed());
                return self.report.ended.push(Ended { caller, begun, ended, attempts: 0, ending: refusal });
            }
        };
        self.report.deposits[sidecar] += 1;
        let number = self.calls.len();
        self.calls.push(Some(call));
        self.plan_departure(number, caller);
        self.act(number, Sidecar::attempt);
    }

    /// An outcome reaches the sidecar, unless nobody waits for it any more.
    fn deliver(&mut self, number: usize, attempt: u32, outcome: Outcome) {
        if self.calls[number].as_ref().is_some_and(|call| call.awaits(attempt)) {
            self.act(number, |sidecar, call, scene| sidecar.ended(call, outcome, scene));
        }
    }

    /// The sidecar decides about a call, and the world does it. A call that has ended does nothing.
    fn act(&mut self, number: usize, decide: impl FnOnce(&mut Sidecar, &mut Call, &mut Scene<'_>) -> Step) {
        let Some(mut call) = self.calls[number].take() else { return };
        let sidecar = self.callers[call.caller].sidecar;
        match self.in_scene(sidecar, |sidecar, scene| decide(sidecar, &mut call, scene)) {
            Step::End(ending) => return self.end(call, ending),
            Step::Again { at } => {
                self.report.withdrawals[sidecar] += 1;
                self.plan(at, Event::Again { call: number });
            }
            Step::Send { endpoint, until, is_probe } => {
                laws::check_attempt(&self.report, call.deadline, self.now);
                let (at, attempt) = (self.elapsed(), call.attempts);
                self.report.sent.push(Sent { at, endpoint, attempt, is_probe });
                self.plan(until, Event::TimedOut { call: number, attempt });
                let arriving = (number, attempt);
                match self.endpoints[endpoint].receive(arriving, call.caller, at, &mut self.rng) {
                    Reaction::TurnedAway(after, job) => self.plan(self.now + after, Event::TurnedAway(job)),
                    Reaction::Begun(work, job) => self.plan(self.now + work, Event::Served { endpoint, job }),
                    Reaction::Silence => {}
                }
            }
        }
        self.calls[number] = Some(call);
    }

    fn end(&mut self, call: Call, ending: Ending) {
        laws::check_ending(&self.report, call.deadline, self.now);
        let (begun, ended) = (call.begun - self.start, self.elapsed());
        self.report.ended.push(Ended { caller: call.caller, begun, ended, attempts: call.attempts, ending });
        if ending == Ending::Lost {
            return self.lost.push(call);
        }
        let sidecar = self.callers[call.caller].sidecar;
        self.in_scene(sidecar, |sidecar, scene| sidecar.end(call, ending, scene));
    }

    fn in_scene<T>(&mut self, sidecar: usize, act: impl FnOnce(&mut Sidecar, &mut Scene<'_>) -> T) -> T {
        let mut scene = Scene { now: self.now, rng: &mut self.rng, moves: Vec::new(), given_up: None };
        let done = act(&mut self.sidecars[sidecar], &mut scene);
        let at = self.now - self.start;
        let moves = scene.moves.into_iter().map(|(level, to)| Moved { at, sidecar, level, moved: to });
        self.report.moves.extend(moves);
        self.report.given_up.extend(scene.given_up);
        done
    }

    fn plan_next_request(&mut self, caller: usize) {
        let rate = (self.callers[caller].rate)(self.elapsed());
        let gap = -(1.0 - self.rng.random::<f64>()).ln() / rate;
        let at = self.now + Duration::from_secs_f64(gap.min(86_400.0));
        if at < self.start + self.length {
            self.plan(at, Event::Due { caller });
        }
    }

    fn plan_departure(&mut self, call: usize, caller: usize) {
        let Caller { leaves, is_lost, within, .. } = self.callers[caller];
        if leaves + is_lost == 0.0 {
            return;
        }
        let (fate, after) = (self.rng.random::<f64>(), within.mul_f64(self.rng.random::<f64>()));
        let how = if fate < is_lost { Ending::Lost } else { Ending::CallerGone };
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

/// Events are ordered by their moment and number, which are never equal for two of them.
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
