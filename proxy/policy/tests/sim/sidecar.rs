//! One sidecar: [`Call`], the very loop that the proxy runs, driven by the events of a simulated world.
//!
//! It keeps the leases and counts the decisions. The world sends, waits and reports the outcomes.
//! It leaves out connections and their reuse, bodies (a response is whole when its head is there), and uploads.

use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::{Duration, Instant};

use outrigger_policy::backoff::Backoff;
use outrigger_policy::balance::Lease;
use outrigger_policy::breaker::{self, Breaker, Transition};
use outrigger_policy::budget::{self, Budget};
use outrigger_policy::call::{Call, Policies, Scene, Step};
use outrigger_policy::deadline::{Attempt, Timeouts};
use outrigger_policy::endpoint::Endpoint;
use outrigger_policy::limit::InFlight;
use outrigger_policy::observe::{Context, Decision, Observer, Scope};
use outrigger_policy::outcome::{Class, Outcome};
use outrigger_policy::rejection::Rejection;
use outrigger_policy::retry::{self, Refused};
use outrigger_policy::units::Ratio;
use outrigger_policy::upload::Upload;
use rand::rngs::StdRng;

/// The configuration of an upstream.
#[derive(Clone)]
pub(crate) struct Settings {
    pub(crate) request: Duration,
    pub(crate) attempt: Duration,
    pub(crate) in_flight_max: u32,
    pub(crate) retry: retry::Config,
    pub(crate) budget: budget::Config,
    /// The breaker that counts calls.
    pub(crate) breaker: Option<breaker::Config>,
    /// The breaker that counts attempts at one endpoint.
    pub(crate) endpoint_breaker: Option<breaker::Config>,
    pub(crate) hedge: Option<Duration>,
    pub(crate) hold: Option<Duration>,
}

/// How often a request in the queue asks whether it has a slot. The simulation has no wakers.
const QUEUE_LOOK: Duration = Duration::from_millis(1);

pub(crate) struct Sidecar {
    pub(crate) settings: Settings,
    pub(crate) policies: Policies,
    pub(crate) endpoints: Vec<Arc<Endpoint<usize>>>,
}

/// A request under way, with the endpoints that it has in use.
#[derive(Debug)]
pub(crate) struct Flight {
    pub(crate) client: usize,
    pub(crate) call: Call,
    leases: Vec<(u32, Lease<usize>)>,
    outcomes: Vec<(u32, Outcome)>,
    /// Whether a retry has been paid for and is not sent yet.
    pub(crate) is_retry_due: bool,
}

/// What a flight does next.
pub(crate) enum Next {
    /// Send an attempt, which times out at `until`.
    Send { endpoint: usize, attempt: u32, until: Instant, is_probe: bool },
    /// Call [`Sidecar::next`] again at that moment, or when an attempt has ended.
    Wait { until: Option<Instant> },
    /// It is over.
    End(Ending),
}

/// How a request ended for its client.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Ending {
    /// With the outcome of an attempt.
    Returned(Outcome),
    /// With a rejection.
    Refused(Rejection),
    /// The client disconnected.
    Left,
    /// Its task got stuck for ever, with everything it holds.
    Lost,
}

/// What a breaker counts.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) enum Level {
    Calls,
    /// Attempts at this endpoint.
    Attempts(usize),
}

/// The moment in which a sidecar acts, and the decisions that its policies make.
pub(crate) struct Stage<'a> {
    pub(crate) now: Instant,
    pub(crate) rng: &'a mut StdRng,
    pub(crate) observed: Observed,
}

/// The decisions of the policies, as the observer counts them.
#[derive(Default)]
pub(crate) struct Observed {
    pub(crate) moves: Vec<(Level, Transition)>,
    pub(crate) refused: Vec<Refused>,
    /// Requests of which a first attempt was sent.
    pub(crate) deposits: u32,
    /// Extra attempts that the budget has paid for.
    pub(crate) withdrawals: u32,
    is_retry_due: Option<bool>,
}

impl Observer<usize> for Observed {
    fn on(&mut self, _: Instant, decision: Decision<'_, usize>) {
        match decision {
            Decision::BreakerMoved { scope: Scope::Calls, transition } => self.moves.push((Level::Calls, transition)),
            Decision::BreakerMoved { scope: Scope::Endpoint(endpoint), transition } => {
                self.moves.push((Level::Attempts(endpoint.at), transition));
            }
            Decision::Attempt { number, is_hedge, .. } => {
                self.deposits += u32::from(number == 1);
                self.withdrawals += u32::from(is_hedge);
                self.is_retry_due = Some(false);
            }
            Decision::Retry { .. } => {
                self.withdrawals += 1;
                self.is_retry_due = Some(true);
            }
            Decision::NoRetry { why, .. } => self.refused.push(why),
            Decision::Rejected(_) | Decision::Ended { .. } | Decision::Cancelled { .. } => {}
            Decision::Admitted { .. } | Decision::NoHedge { .. } | Decision::Held { .. } | Decision::Queued { .. } => {}
        }
    }
}

impl Settings {
    /// The defaults of `config.toml`.
    pub(crate) fn defaults() -> Settings {
        let (millis, secs) = (Duration::from_millis, Duration::from_secs);
        let breaker = breaker::Config {
            window: secs(10),
            failure_ratio: ratio(0.5),
            volume_min: 100,
            admitting_min: ratio(0.5),
            consecutive_failures: NonZeroU32::new(20).expect("not zero"),
            open_base: millis(500),
            open_cap: secs(2),
            open_jitter: ratio(0.2),
            probes: NonZeroU32::MIN,
            probe_lease: secs(35),
        };
        let on = retry::Conditions {
            connect_failure: true,
            reset: true,
            attempt_timeout: true,
            statuses: vec![500, 502, 503, 504],
        };
        Settings {
            request: secs(30),
            attempt: secs(10),
            in_flight_max: 1_024,
            retry: retry::Config { max_attempts: 3, on, backoff: Backoff { base: millis(25), cap: millis(250) } },
            budget: budget::Config { ratio: ratio(0.2), floor_per_second: 10, window: secs(10) },
            breaker: Some(breaker),
            endpoint_breaker: Some(breaker::Config { probe_lease: secs(15), ..breaker }),
            hedge: None,
            hold: None,
        }
    }

    /// With other timeouts, and the leases that follow from them.
    pub(crate) fn timeouts(mut self, request: Duration, attempt: Duration) -> Settings {
        let margin = Duration::from_secs(5);
        (self.request, self.attempt) = (request, attempt);
        self.breaker = self.breaker.map(|config| breaker::Config { probe_lease: request + margin, ..config });
        self.endpoint_breaker =
            self.endpoint_breaker.map(|config| breaker::Config { probe_lease: attempt + margin, ..config });
        self
    }

    /// With another budget.
    pub(crate) fn budget(mut self, share: f64, floor_per_second: u32) -> Settings {
        self.budget = budget::Config { ratio: ratio(share), floor_per_second, ..self.budget };
        self
    }

    /// With another `volume_min` in both breakers.
    pub(crate) fn volume_min(mut self, volume_min: u32) -> Settings {
        self.breaker = self.breaker.map(|config| breaker::Config { volume_min, ..config });
        self.endpoint_breaker = self.endpoint_breaker.map(|config| breaker::Config { volume_min, ..config });
        self
    }

    /// With a budget that no client can exhaust.
    pub(crate) fn no_budget(self) -> Settings {
        self.budget(1_000.0, 10_000)
    }

    pub(crate) fn no_breakers(self) -> Settings {
        Settings { breaker: None, endpoint_breaker: None, ..self }
    }
}

impl Sidecar {
    pub(crate) fn new(settings: Settings, endpoints: &[usize], now: Instant) -> Sidecar {
        let breaker = |config: Option<breaker::Config>| config.map(|config| Breaker::new(config, now));
        let endpoint =
            |(id, &at): (usize, &usize)| Arc::new(Endpoint::new(id as u64, breaker(settings.endpoint_breaker), at));
        let policies = Policies {
            in_flight_max: settings.in_flight_max,
            in_flight: InFlight::new(settings.in_flight_max),
            breaker: breaker(settings.breaker),
            budget: Arc::new(Budget::new(settings.budget, now)),
            timeouts: Timeouts { request: settings.request, attempt: settings.attempt, idle_body: Duration::MAX },
            retry: settings.retry.clone(),
            hedge: settings.hedge,
            hold: settings.hold,
        };
        Sidecar { policies, endpoints: endpoints.iter().enumerate().map(endpoint).collect(), settings }
    }

    /// Begins a request.
    pub(crate) fn begin(&self, client: usize, stage: &mut Stage<'_>) -> Result<Flight, Ending> {
        let begun = Call::begin(&self.policies, true, &mut stage.context());
        let call = begun.map_err(Ending::Refused)?;
        Ok(Flight { client, call, leases: Vec::new(), outcomes: Vec::new(), is_retry_due: false })
    }

    /// The next step of a request.
    pub(crate) fn next(&self, flight: &mut Flight, stage: &mut Stage<'_>) -> Next {
        loop {
            let step = flight.call.poll(&self.scene(), &mut stage.context());
            flight.is_retry_due = stage.observed.is_retry_due.take().unwrap_or(flight.is_retry_due);
            return match step {
                Step::Attempt { number, lease } => {
                    let (endpoint, is_probe) = (lease.endpoint().at, lease.is_probe());
                    flight.leases.push((number, lease));
                    let begun = flight.call.begun();
                    let timeouts = &self.policies.timeouts;
                    let (until, _) = timeouts.attempt_end(begun, &Attempt::begun(stage.now), &Upload::NONE);
                    Next::Send { endpoint, attempt: number, until, is_probe }
                }
                Step::Supersede { .. } => continue, // a response is whole with its head
                Step::Wait { until } => Next::Wait { until },
                Step::Queue { until } => Next::Wait { until: Some(until.min(stage.now + QUEUE_LOOK)) },
                Step::Hold { until } => Next::Wait { until: Some(until) },
                Step::Cancel { number } => {
                    flight.leases.retain(|(attempt, _)| *attempt != number);
                    continue;
                }
                Step::Return { number } => Next::End(Ending::Returned(flight.outcome(number))),
                Step::Reject(why) => Next::End(Ending::Refused(why)),
            };
        }
    }

    /// An attempt in flight has ended. A response is whole with its head.
    pub(crate) fn ended(&self, flight: &mut Flight, attempt: u32, outcome: Outcome, stage: &mut Stage<'_>) {
        let Some(at) = flight.leases.iter().position(|(number, _)| *number == attempt) else { return };
        let (_, lease) = flight.leases.swap_remove(at);
        lease.settle(outcome.class(), &mut stage.context());
        flight.outcomes.push((attempt, outcome));
        flight.call.ended(attempt, outcome, &self.scene(), &mut stage.context());
        flight.is_retry_due = stage.observed.is_retry_due.take().unwrap_or(flight.is_retry_due);
        if flight.is_retry_due && matches!(outcome, Outcome::Response { .. }) {
            flight.call.kept(attempt);
        }
    }

    /// Ends a request and gives back everything it holds. An attempt still in flight, because its client disconnected, is dropped with its lease.
    pub(crate) fn end(&self, flight: Flight, ending: Ending, stage: &mut Stage<'_>) {
        let class = if let Ending::Returned(outcome) = ending { outcome.call_class() } else { Class::Neutral };
        flight.call.into_admission().settle(class, &self.policies, &mut stage.context());
    }

    fn scene(&self) -> Scene<'_, usize> {
        Scene {
            policies: &self.policies,
            endpoints: &self.endpoints,
            upload: &Upload::NONE,
            forgiven: &|| Duration::ZERO,
        }
    }

    /// Every breaker and what it counts.
    pub(crate) fn breakers(&self) -> impl Iterator<Item = (Level, &Arc<Breaker>)> {
        let of_attempts = self.endpoints.iter().map(|endpoint| (Level::Attempts(endpoint.at), &endpoint.breaker));
        let all = std::iter::once((Level::Calls, &self.policies.breaker)).chain(of_attempts);
        all.filter_map(|(level, breaker)| breaker.as_ref().map(|breaker| (level, breaker)))
    }
}

impl Flight {
    /// Whether this attempt is in flight.
    pub(crate) fn awaits(&self, attempt: u32) -> bool {
        self.leases.iter().any(|(number, _)| *number == attempt)
    }

    fn outcome(&self, attempt: u32) -> Outcome {
        let found = self.outcomes.iter().find(|(number, _)| *number == attempt);
        found.map(|(_, outcome)| *outcome).expect("only what has ended is returned")
    }
}

impl Stage<'_> {
    fn context(&mut self) -> Context<'_, StdRng, Observed> {
        Context { now: self.now, rng: self.rng, observer: &mut self.observed }
    }
}

impl Ending {
    /// Whether the client got a success.
    pub(crate) fn is_success(self) -> bool {
        matches!(self, Ending::Returned(outcome @ Outcome::Response { .. }) if outcome.class() == Class::Success)
    }
}

fn ratio(share: f64) -> Ratio {
    Ratio::from_f64(share).expect("a scenario's ratio is in range")
}

#[test]
fn the_defaults_here_are_those_of_the_reference_configuration() {
    let reference = include_str!("../../../../config.toml");
    let keys = [
        "in_flight_max = 1024",
        "request = \"30s\"",
        "attempt = \"10s\"",
        "max_attempts = 3",
        "statuses = [500, 502, 503, 504]",
        "backoff_base = \"25ms\"",
        "backoff_cap = \"250ms\"",
        "ratio = 0.2",
        "floor_per_second = 10",
        "window = \"10s\"",
        "failure_ratio = 0.5",
        "volume_min = 100",
        "admitting_min = 0.5",
        "consecutive_failures = 20",
        "open_base = \"500ms\"",
        "open_cap = \"2s\"",
        "open_jitter = 0.2",
        "probes = 1",
        "probe_lease = \"35s\"",
        "probe_lease = \"15s\"",
    ];
    for key in keys {
        assert!(reference.lines().any(|line| line.starts_with(key)), "config.toml does not say {key}");
    }
}
