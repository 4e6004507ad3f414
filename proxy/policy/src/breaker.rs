//! The circuit breaker. Closed, it admits everything; open, nothing; half-open, a limited number of probes.
//!
//! ```text
//!            failure ratio over the window, or consecutive failures
//!   closed ────────────────────────────────────────────────────────▶ open ◀──────────┐
//!      ▲                                                              │ open time    │ a probe failed
//!      │                 enough probes succeeded                      ▼ is over      │
//!      └───────────────────────────────────────────────────────── half-open ─────────┘
//! ```
//!
//! **A permit is a lease.** An attempt needs a [`Permit`]. The permit carries the era in which it was given, and every change of state begins a
//! new era, so a result from before a trip changes nothing after it. A probe's permit also expires: one that is not settled within `probe_lease`
//! (a task is stuck or lost, or the downstream is slow) loses its place, and one that is dropped gives it back, for one spacing after the last probe. So half-open cannot
//! stick, a defect that keeps coming back in breakers (resilience4j#935, opossum#388, linkerd2-proxy#4561).
//!
//! **Only the endpoint decides.** No time that passes is a verdict: an expired lease says nothing, and its result still counts when it comes. A probe that takes
//! long (a slow upload, a long poll) does not keep the others out: after [`Config::probe_spacing`] another one goes, after twice the spacing one more, and so on.
//! The growing waits bound how many are out. A request is never refused for longer than the wait that is due.
//!
//! **A head is half a success.** A probe succeeds when its response has come whole, or when a byte of its body comes one spacing or more after its head: a long
//! stream must not keep the breaker half-open, and neither a response that breaks off soon nor one that its downstream leaves soon may close it. If the body of a probe breaks off after that, the closing was
//! wrong, and the breaker trips at once, with the next longer open time.
//!
//! **The open time doubles** with each trip up to a cap. Jitter shortens it, so that a fleet of sidecars does not probe in step. It
//! starts over only after the breaker has stayed closed for a whole window, so that a backend that passes its probe and fails again does not get
//! the shortest open time each time.
//!
//! **Cores.** All cores share one breaker. While it is closed, a request only reads the gate word and counts in the window, both atomics. A refusal while it is open
//! reads two words. Only changes of state and probes take the mutex, and these are rare by definition.

use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};
use std::sync::atomic::{AtomicU32, AtomicU64};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rand::Rng;

use crate::backoff::{doubled, draw_up_to};
use crate::outcome::Class;
use crate::units::{Epoch, Ratio};
use crate::window::Window;

mod gate;
mod probes;
mod types;
use gate::Gate;
use probes::Probes;
pub use types::{Config, Open, Reason, Snapshot, State, Transition};

/// The result of [`Breaker::try_acquire`]: the permit or a refusal, and the change of state that the call may have caused.
#[derive(Debug)]
pub struct Admission {
    /// The permit, or when to retry.
    pub permit: Result<Permit, Refusal>,
    /// The change of state, when an open time or a lease was over.
    pub moved: Option<Transition>,
}

/// No permit: the breaker is open, or its probes are under way.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Refusal {
    /// When the next probe may be sent.
    pub retry_at: Instant,
}

/// The right to send one attempt. [`Breaker::on_result`] settles it; a dropped permit counts as [`Class::Neutral`].
///
/// A probe's permit counts in its own half-open era. A failure after its head counts in the closed era that follows it, too.
#[derive(Debug)]
#[must_use = "a permit that is not handed back by on_result says nothing about what happened"]
pub struct Permit {
    era: u64,
    /// Boxed, because permits move with every request and few are a probe's.
    probe: Option<Box<Probe>>,
}

/// A place among the probes; given back when dropped.
#[derive(Debug)]
struct Probe {
    breaker: Arc<Breaker>,
    number: u64,
    /// When the head of a successful response came.
    head_at: Option<Instant>,
}

/// No failure was counted yet.
const NEVER: u64 = u64::MAX;

/// A breaker shared by all cores.
#[derive(Debug)]
pub struct Breaker {
    config: Config,
    epoch: Epoch,
    /// The state and the number of its era in one word. Written under `turn`, read without it.
    gate: AtomicU64,
    /// Nanoseconds since `epoch` at which the open time ends; written under `turn` before the gate opens.
    reopen_at: AtomicU64,
    /// Failures since the last success while closed.
    streak: AtomicU32,
    /// Nanoseconds since `epoch` of the last counted failure. Without one in the window no rule can trip, so the sums are not needed.
    failed_at: AtomicU64,
    /// The first counter has the results, the second the failures.
    window: Window,
    turn: Mutex<Turn>,
}

/// What only changes of state and probes need.
#[derive(Debug)]
struct Turn {
    since: Instant,
    reason: Option<Reason>,
    /// Trips since the breaker last stayed closed for a whole window: the exponent of the open time.
    trips: u32,
    probes: Probes,
}

impl Breaker {
    /// A closed breaker.
    pub fn new(config: Config, now: Instant) -> Arc<Breaker> {
        let epoch = Epoch::new(now);
        let turn = Turn { since: now, reason: None, trips: 0, probes: Probes::default() };
        Arc::new(Breaker {
            config,
            epoch,
            gate: AtomicU64::new(Gate { state: State::Closed, era: 0 }.pack()),
            reopen_at: AtomicU64::new(0),
            streak: AtomicU32::new(0),
            failed_at: AtomicU64::new(NEVER),
            window: Window::new(epoch, config.window),
            turn: Mutex::new(turn),
        })
    }

    /// The configuration it was made with.
    pub fn config(&self) -> Config {
        self.config
    }

    /// Whether [`Breaker::try_acquire`] would probably admit, for choosing among endpoints. Only a permit makes it certain.
    pub fn admits(&self, now: Instant) -> bool {
        match self.gate().state {
            State::Closed => true,
            State::Open => self.epoch.nanos(now) >= self.reopen_at.load(Relaxed),
            State::HalfOpen => {
                let mut turn = self.turn();
                turn.probes.catch_up(now);
                turn.probes.admit_from(&self.config).is_none_or(|at| at <= now)
            }
        }
    }

    /// Asks for the right to send one attempt.
    pub fn try_acquire(self: &Arc<Self>, now: Instant) -> Admission {
        let gate = self.gate();
        match gate.state {
            State::Closed => Admission { permit: Ok(Permit { era: gate.era, probe: None }), moved: None },
            State::Open => {
                let reopen_at = self.reopen_at.load(Relaxed);
                if self.epoch.nanos(now) < reopen_at {
                    return Admission { permit: Err(Refusal { retry_at: self.epoch.at(reopen_at) }), moved: None };
                }
                self.acquire_probe(now)
            }
            State::HalfOpen => self.acquire_probe(now),
        }
    }

    /// Settles a permit. Results of another era are ignored.
    pub fn on_result(&self, permit: Permit, class: Class, now: Instant, rng: &mut impl Rng) -> Option<Transition> {
        if permit.is_probe() {
            return self.on_probe_result(permit, class, now, rng);
        }
        let is_failure = match class {
            Class::Success => false,
            Class::Failure => true,
            Class::Overload | Class::Neutral => return None,
        };
        self.count_in(permit.era, is_failure, now, rng)
    }

    /// The state and the numbers behind it.
    pub fn snapshot(&self, now: Instant) -> Snapshot {
        let mut turn = self.turn();
        turn.probes.catch_up(now);
        let state = self.gate().state;
        let sums = self.window.sums(now);
        let retry_at = match state {
            State::Closed => None,
            State::Open => Some(self.epoch.at(self.reopen_at.load(Relaxed))),
            State::HalfOpen => turn.probes.admit_from(&self.config),
        };
        Snapshot {
            state,
            since: turn.since,
            reason: turn.reason,
            results: sums.first,
            failures: sums.second,
            consecutive_failures: self.streak.load(Relaxed),
            trips: turn.trips,
            probes_out: turn.probes.count_out(),
            retry_at,
        }
    }

    /// Why the breaker refuses, and when it probably admits again.
    pub fn open(&self, now: Instant) -> Open {
        let Snapshot { since, reason, results, failures, consecutive_failures, retry_at, .. } = self.snapshot(now);
        let retry_at = retry_at.map_or(now, |at| at.max(now));
        Open { reason, since, retry_at, results, failures, consecutive_failures }
    }

    /// Counts a result of a closed era, if that is still the current one.
    #[inline]
    fn count_in(&self, era: u64, is_failure: bool, now: Instant, rng: &mut impl Rng) -> Option<Transition> {
        if self.gate() != (Gate { state: State::Closed, era }) {
            return None;
        }
        let streak = self.count(is_failure, now);
        let reason = self.broken_rule(streak, now)?;
        let mut turn = self.turn();
        // Another core may have tripped the breaker between our count and the lock.
        (self.gate().era == era).then(|| self.trip(&mut turn, reason, now, rng))
    }

    /// Counts a result of the closed era and returns the failures in a row.
    fn count(&self, is_failure: bool, now: Instant) -> u32 {
        self.window.add(now, 1, u32::from(is_failure));
        if is_failure {
            self.failed_at.store(self.epoch.nanos(now), Relaxed);
            return self.streak.fetch_add(1, Relaxed).saturating_add(1);
        }
        // Read before writing: most results are successes after successes, and a store would move the cache line from core to core.
        if self.streak.load(Relaxed) != 0 {
            self.streak.store(0, Relaxed);
        }
        0
    }

    fn broken_rule(&self, streak: u32, now: Instant) -> Option<Reason> {
        if streak >= self.config.consecutive_failures.get() {
            return Some(Reason::ConsecutiveFailures);
        }
        if !self.has_lately_failed(now) {
            return None; // the common case, without the sums
        }
        let sums = self.window.sums(now);
        let is_reached =
            sums.first >= self.config.volume_min && self.config.failure_ratio.is_reached_by(sums.second, sums.first);
        is_reached.then_some(Reason::FailureRatio)
    }

    fn has_lately_failed(&self, now: Instant) -> bool {
        let failed_at = self.failed_at.load(Relaxed);
        failed_at != NEVER
            && u128::from(self.epoch.nanos(now).saturating_sub(failed_at)) <= self.config.window.as_nanos()
    }

    fn acquire_probe(self: &Arc<Self>, now: Instant) -> Admission {
        let mut turn = self.turn();
        let mut moved = None;
        match self.gate().state {
            // Another core has just tripped or closed the breaker.
            State::Open if self.epoch.nanos(now) < self.reopen_at.load(Relaxed) => {}
            State::Closed => {}
            State::Open => moved = Some(self.turn_to(&mut turn, State::HalfOpen, Reason::OpenTimeOver, now)),
            State::HalfOpen => {
                turn.probes.catch_up(now);
                moved = self.close_if_passed(&mut turn, now);
            }
        }
        let gate = self.gate();
        let retry_at = match gate.state {
            State::Closed => return Admission { permit: Ok(Permit { era: gate.era, probe: None }), moved },
            State::Open => Some(self.epoch.at(self.reopen_at.load(Relaxed))),
            State::HalfOpen => turn.probes.admit_from(&self.config).filter(|at| *at > now),
        };
        if let Some(retry_at) = retry_at {
            return Admission { permit: Err(Refusal { retry_at }), moved };
        }
        let number = turn.probes.add(now, self.config.probe_lease);
        let probe = Box::new(Probe { breaker: Arc::clone(self), number, head_at: None });
        Admission { permit: Ok(Permit { era: gate.era, probe: Some(probe) }), moved }
    }

    fn on_probe_result(&self, permit: Permit, class: Class, now: Instant, rng: &mut impl Rng) -> Option<Transition> {
        let Permit { era, probe: Some(probe) } = permit else { return None };
        let mut turn = self.turn();
        let gate = self.gate();
        if gate == (Gate { state: State::HalfOpen, era }) {
            turn.probes.catch_up(now);
            return match class {
                Class::Neutral => {
                    turn.probes.give_back(probe.number);
                    None
                }
                Class::Failure | Class::Overload => Some(self.trip(&mut turn, Reason::ProbeFailed, now, rng)),
                Class::Success => {
                    turn.probes.on_success(probe.number);
                    self.close_if_passed(&mut turn, now)
                }
            };
        }
        // Every change of state adds one, so this is the closed era that the probes of `era` have opened.
        let opened = Gate { state: State::Closed, era: era + 1 };
        if class != Class::Failure || probe.head_at.is_none() || gate != opened {
            return None;
        }
        if now.saturating_duration_since(turn.since) < self.config.window {
            return Some(self.trip(&mut turn, Reason::ProbeFailed, now, rng));
        }
        // It has stayed closed on other results since, so the failure is one of many.
        drop(turn);
        self.count_in(opened.era, true, now, rng)
    }

    fn close_if_passed(&self, turn: &mut Turn, now: Instant) -> Option<Transition> {
        turn.probes.have_passed(&self.config).then(|| self.turn_to(turn, State::Closed, Reason::ProbesSucceeded, now))
    }

    fn trip(&self, turn: &mut Turn, reason: Reason, now: Instant, rng: &mut impl Rng) -> Transition {
        let was_calm =
            self.gate().state == State::Closed && now.saturating_duration_since(turn.since) >= self.config.window;
        turn.trips = if was_calm { 1 } else { turn.trips.saturating_add(1) };
        let longest = doubled(self.config.open_base, turn.trips - 1, self.config.open_cap);
        let jitter = Duration::from_nanos(
            u64::try_from(
                longest.as_nanos() * u128::from(self.config.open_jitter.ppm()) / u128::from(Ratio::ONE.ppm()),
            )
            .unwrap_or(u64::MAX),
        );
        let open_for = longest.saturating_sub(draw_up_to(jitter, rng));
        let open_nanos = u64::try_from(open_for.as_nanos()).unwrap_or(u64::MAX);
        self.reopen_at.store(self.epoch.nanos(now).saturating_add(open_nanos), Relaxed);
        Transition { open_for: Some(open_for), ..self.turn_to(turn, State::Open, reason, now) }
    }

    /// Changes the state. This is the only place that does; a new era begins, and the counts of the old one are cleared.
    fn turn_to(&self, turn: &mut Turn, to: State, reason: Reason, now: Instant) -> Transition {
        let from = self.gate();
        turn.since = now;
        turn.reason = Some(reason);
        turn.probes.clear();
        if to == State::Closed {
            self.window.clear();
            self.streak.store(0, Relaxed);
        }
        // Release: a core that reads the new gate also reads the `reopen_at` written before it.
        self.gate.store(Gate { state: to, era: from.era + 1 }.pack(), Release);
        Transition { from: from.state, to, reason, open_for: None }
    }

    fn gate(&self) -> Gate {
        Gate::unpack(self.gate.load(Acquire))
    }

    fn turn(&self) -> MutexGuard<'_, Turn> {
        // Nothing under this lock can panic halfway, so a poisoned one still holds a whole state.
        self.turn.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Permit {
    /// Whether this is a probe's permit. The breaker waits for its result, so settle it as soon as one is known.
    pub fn is_probe(&self) -> bool {
        self.probe.is_some()
    }

    /// The head of a successful response came at `now`, and its body is under way. Only a probe's permit takes note: it passes if the body goes on.
    pub fn on_head(&mut self, now: Instant) {
        if let Some(probe) = &mut self.probe {
            probe.head_at = Some(now);
        }
    }

    /// A piece of the response's body came at `now`. Late enough after the head the probe passes by it, and the next request finds the breaker closed.
    pub fn on_piece(&mut self, now: Instant) {
        let Some(Probe { breaker, number, head_at: Some(head_at) }) = self.probe.as_deref() else { return };
        if now.saturating_duration_since(*head_at) < breaker.config.probe_spacing() {
            return;
        }
        let mut turn = breaker.turn();
        if breaker.gate() == (Gate { state: State::HalfOpen, era: self.era }) {
            turn.probes.on_going_on(*number, now);
        }
    }
}

impl Drop for Probe {
    fn drop(&mut self) {
        self.breaker.turn().probes.give_back(self.number);
    }
}

#[cfg(test)]
mod laws;
#[cfg(test)]
mod tests;
