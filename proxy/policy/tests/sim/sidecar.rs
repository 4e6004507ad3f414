//! One sidecar: the real policies, in the order in which `proxy/src/exchange.rs` and `exchange/attempt.rs` apply them.
//!
//! It decides and keeps count; the world sends, waits and brings the outcomes back. Whoever changes the order there changes it here.
//! Left out: connections and their reuse, bodies (an answer is whole when its head is there), uploads.

use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::{Duration, Instant};

use outrigger_policy::backoff::Backoff;
use outrigger_policy::balance;
use outrigger_policy::breaker::{self, Breaker, Permit, Transition};
use outrigger_policy::budget::{self, Budget};
use outrigger_policy::deadline::Deadline;
use outrigger_policy::outcome::{Class, Outcome};
use outrigger_policy::retry::{self, Ask, Refused, Verdict};
use outrigger_policy::units::Ratio;
use rand::rngs::StdRng;

/// The numbers of an upstream.
#[derive(Clone)]
pub(crate) struct Settings {
    pub(crate) request: Duration,
    pub(crate) attempt: Duration,
    pub(crate) in_flight_max: u32,
    pub(crate) retry: retry::Config,
    pub(crate) budget: budget::Config,
    /// Counts calls.
    pub(crate) breaker: Option<breaker::Config>,
    /// Counts attempts at one endpoint.
    pub(crate) endpoint_breaker: Option<breaker::Config>,
}

pub(crate) struct Sidecar {
    pub(crate) settings: Settings,
    pub(crate) budget: Budget,
    pub(crate) breaker: Option<Arc<Breaker>>,
    pub(crate) peers: Vec<Peer>,
    pub(crate) in_flight: u32,
}

/// An endpoint as this sidecar sees it.
pub(crate) struct Peer {
    pub(crate) endpoint: usize,
    pub(crate) breaker: Option<Arc<Breaker>>,
    pub(crate) in_flight: u32,
}

impl Peer {
    fn admits(&self, now: Instant) -> bool {
        self.breaker.as_ref().is_none_or(|breaker| breaker.admits(now))
    }
}

/// A request under way.
#[derive(Debug)]
pub(crate) struct Call {
    pub(crate) caller: usize,
    pub(crate) begun: Instant,
    pub(crate) deadline: Deadline,
    pub(crate) attempts: u32,
    permit: Option<Permit>,
    busy: Option<Busy>,
    tried: Vec<usize>,
    last_answer: Option<Outcome>,
}

/// An attempt under way.
#[derive(Debug)]
struct Busy {
    peer: usize,
    permit: Option<Permit>,
}

/// What a call does next.
pub(crate) enum Step {
    /// Send an attempt, and wait for it until then.
    Send { endpoint: usize, until: Instant, is_probe: bool },
    /// A retry is paid for; make it at that moment.
    Again { at: Instant },
    /// It is over.
    End(Ending),
}

/// How a request ended for its caller.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Ending {
    /// With what the last attempt brought.
    Brought(Outcome),
    /// The upstream has all the requests under way that it may have.
    InFlightLimit,
    /// The breaker of calls is open.
    BreakerOpen,
    /// No endpoint's breaker admits.
    EndpointsOpen,
    /// The caller left.
    CallerGone,
    /// Its task got stuck with everything it holds, and nobody ever hears of it again.
    Lost,
}

/// What a breaker counts.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) enum Level {
    Calls,
    /// Attempts at this endpoint.
    Attempts(usize),
}

/// The moment in which a sidecar acts, and what it tells about it.
pub(crate) struct Scene<'a> {
    pub(crate) now: Instant,
    pub(crate) rng: &'a mut StdRng,
    pub(crate) moves: Vec<(Level, Transition)>,
    pub(crate) given_up: Option<Refused>,
}

impl Settings {
    /// The defaults of `config.toml`.
    pub(crate) fn defaults() -> Settings {
        let (millis, secs) = (Duration::from_millis, Duration::from_secs);
        let breaker = breaker::Config {
            window: secs(10),
            failure_ratio: ratio(0.5),
            volume_min: 100,
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

    /// With another number of results below which a ratio says nothing.
    pub(crate) fn volume_min(mut self, volume_min: u32) -> Settings {
        self.breaker = self.breaker.map(|config| breaker::Config { volume_min, ..config });
        self.endpoint_breaker = self.endpoint_breaker.map(|config| breaker::Config { volume_min, ..config });
        self
    }

    /// With a budget that no caller can exhaust.
    pub(crate) fn no_budget(self) -> Settings {
        self.budget(1_000.0, 10_000)
    }

    pub(crate) fn no_breakers(self) -> Settings {
        Settings { breaker: None, endpoint_breaker: None, ..self }
    }
}

impl Sidecar {
    pub(crate) fn new(settings: Settings, endpoints: &[usize], now: Instant) -> Sidecar {
        let peer = |&endpoint| Peer {
            endpoint,
            breaker: settings.endpoint_breaker.map(|config| Breaker::new(config, now)),
            in_flight: 0,
        };
        Sidecar {
            budget: Budget::new(settings.budget, now),
            breaker: settings.breaker.map(|config| Breaker::new(config, now)),
            peers: endpoints.iter().map(peer).collect(),
            in_flight: 0,
            settings,
        }
    }

    /// A request comes in: in-flight limit, breaker of calls, deposit.
    pub(crate) fn begin(&mut self, caller: usize, scene: &mut Scene<'_>) -> Result<Call, Ending> {
        if self.in_flight >= self.settings.in_flight_max {
            return Err(Ending::InFlightLimit);
        }
        let permit = match &self.breaker {
            None => None,
            Some(breaker) => {
                let admission = breaker.try_acquire(scene.now, scene.rng);
                scene.moves.extend(admission.moved.map(|moved| (Level::Calls, moved)));
                Some(admission.permit.map_err(|_| Ending::BreakerOpen)?)
            }
        };
        self.in_flight += 1;
        self.budget.deposit(scene.now);
        Ok(Call {
            caller,
            begun: scene.now,
            deadline: Deadline::after(scene.now, self.settings.request),
            attempts: 0,
            permit,
            busy: None,
            tried: Vec::new(),
            last_answer: None,
        })
    }

    /// Chooses an endpoint for the next attempt.
    pub(crate) fn attempt(&mut self, call: &mut Call, scene: &mut Scene<'_>) -> Step {
        let Some(busy) = self.choose(call, scene) else {
            return Step::End(call.last_answer.map_or(Ending::EndpointsOpen, Ending::Brought));
        };
        let endpoint = self.peers[busy.peer].endpoint;
        let is_probe = busy.permit.as_ref().is_some_and(Permit::is_probe);
        call.attempts += 1;
        call.tried.push(busy.peer);
        call.busy = Some(busy);
        let until = Deadline::after(scene.now, self.settings.attempt).min(call.deadline).at();
        Step::Send { endpoint, until, is_probe }
    }

    /// Power of two choices among the endpoints whose breaker admits; one that has not been tried yet goes first.
    fn choose(&mut self, call: &Call, scene: &mut Scene<'_>) -> Option<Busy> {
        let now = scene.now;
        let peers = &self.peers;
        let admits = |at: usize| peers[at].admits(now);
        let is_new = |at: usize| !call.tried.contains(&at) && admits(at);
        let load = |at: usize| peers[at].in_flight;
        for _ in 0..peers.len() {
            let choice = balance::pick(peers.len(), is_new, load, scene.rng)
                .or_else(|| balance::pick(peers.len(), admits, load, scene.rng))?;
            let permit = match &peers[choice].breaker {
                None => Ok(None),
                Some(breaker) => {
                    let admission = breaker.try_acquire(now, scene.rng);
                    let level = Level::Attempts(peers[choice].endpoint);
                    scene.moves.extend(admission.moved.map(|moved| (level, moved)));
                    admission.permit.map(Some)
                }
            };
            if let Ok(permit) = permit {
                self.peers[choice].in_flight += 1;
                return Some(Busy { peer: choice, permit });
            }
        }
        None
    }

    /// The attempt under way has ended.
    pub(crate) fn ended(&mut self, call: &mut Call, outcome: Outcome, scene: &mut Scene<'_>) -> Step {
        self.settle_attempt(call, outcome.class(), scene);
        let ask = Ask {
            outcome,
            attempts: call.attempts,
            is_repeatable: true,
            is_replayable: true,
            deadline: call.deadline,
            has_endpoint: self.peers.iter().any(|peer| peer.admits(scene.now)),
        };
        match self.settings.retry.decide(&ask, &self.budget, scene.now, scene.rng) {
            Verdict::Return => Step::End(Ending::Brought(outcome)),
            Verdict::GiveUp(why) => {
                scene.given_up = Some(why);
                Step::End(Ending::Brought(outcome))
            }
            Verdict::Again { wait, .. } => {
                call.last_answer = matches!(outcome, Outcome::Answered { .. }).then_some(outcome);
                Step::Again { at: scene.now + wait }
            }
        }
    }

    /// The request is over: everything it holds goes back. An attempt still under way (its caller has left) is dropped with its permit.
    pub(crate) fn end(&mut self, mut call: Call, ending: Ending, scene: &mut Scene<'_>) {
        if let Some(busy) = call.busy.take() {
            self.peers[busy.peer].in_flight -= 1;
        }
        if let (Some(breaker), Some(permit)) = (&self.breaker, call.permit.take()) {
            let moved = breaker.on_result(permit, ending.class(), scene.now, scene.rng);
            scene.moves.extend(moved.map(|moved| (Level::Calls, moved)));
        }
        self.in_flight -= 1;
    }

    fn settle_attempt(&mut self, call: &mut Call, class: Class, scene: &mut Scene<'_>) {
        let Some(busy) = call.busy.take() else { return };
        let peer = &mut self.peers[busy.peer];
        peer.in_flight -= 1;
        if let (Some(breaker), Some(permit)) = (&peer.breaker, busy.permit) {
            let moved = breaker.on_result(permit, class, scene.now, scene.rng);
            scene.moves.extend(moved.map(|moved| (Level::Attempts(peer.endpoint), moved)));
        }
    }

    /// Every breaker and what it counts.
    pub(crate) fn breakers(&self) -> impl Iterator<Item = (Level, &Arc<Breaker>)> {
        let of_attempts = self.peers.iter().map(|peer| (Level::Attempts(peer.endpoint), &peer.breaker));
        let all = std::iter::once((Level::Calls, &self.breaker)).chain(of_attempts);
        all.filter_map(|(level, breaker)| breaker.as_ref().map(|breaker| (level, breaker)))
    }
}

impl Call {
    /// Whether this attempt is the one that is waited for.
    pub(crate) fn awaits(&self, attempt: u32) -> bool {
        self.busy.is_some() && self.attempts == attempt
    }
}

impl Ending {
    /// The caller has what it came for.
    pub(crate) fn is_success(self) -> bool {
        matches!(self, Ending::Brought(outcome @ Outcome::Answered { .. }) if outcome.class() == Class::Success)
    }

    /// How the breaker of calls counts it (`Record::ending` and the sides of `ProxyError`).
    fn class(self) -> Class {
        match self {
            Ending::Brought(outcome @ Outcome::Answered { .. }) => outcome.class(),
            Ending::Brought(_) => Class::Failure,
            Ending::InFlightLimit | Ending::BreakerOpen | Ending::EndpointsOpen => Class::Neutral,
            Ending::CallerGone | Ending::Lost => Class::Neutral,
        }
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
