//! The circuit breaker. Closed, it admits everything; open, nothing; half-open, a limited number of probes.
//!
//! ```text
//!            consecutive failures, or failure ratio over the window
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
//! **A head is a success, until its body breaks off.** A closed breaker counts a healthy head at once ([`Breaker::on_head`]), and a body that breaks off turns that success into a failure.
//! Whatever else happens to the body takes nothing back: a caller may leave a stream, and a stream may be quiet.
//!
//! **The ratio opens no last endpoint.** A row of failures opens the breaker when it is counted, because nothing works. The ratio means that something still works, which is worth more
//! than a refusal. So it opens the breaker only if requests can go elsewhere, and only their sender knows that: it asks with [`Breaker::open_by_ratio`] before each attempt.
//!
//! **Only the endpoint decides.** No time that passes is a verdict: an expired lease says nothing, and its result still counts when it comes. A probe that takes
//! long (a slow upload, a long poll) does not keep the others out: after [`Config::probe_spacing`] another one goes, after twice the spacing one more, and so on.
//! The growing waits bound how many are out. A request is never refused for longer than the wait that is due.
//!
//! **To a probe a head is half a success.** It succeeds when its response has come whole, or when a byte of its body comes one spacing or more after its head: a long
//! stream must not keep the breaker half-open, and neither a response that breaks off soon nor one that its downstream leaves soon may close it. If the body of a probe breaks off after that, the closing was
//! wrong, and the breaker trips at once, with the next longer open time.
//!
//! **The open time doubles** with each trip up to a cap. Jitter shortens it, so that a fleet of sidecars does not probe in step. It
//! starts over only after the breaker has stayed closed for a whole window, so that a backend that passes its probe and fails again does not get
//! the shortest open time each time.
//!
//! **Cores.** All cores share one breaker. While it is closed, a request only reads the gate word and counts in the window, both atomics. A refusal while it is open
//! reads two words. Only changes of state and probes take the mutex, and these are rare by definition.

use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use rand::Rng;

use crate::outcome::Class;
use crate::units::Epoch;

mod counts;
mod gate;
mod probes;
mod report;
mod types;
use counts::{Counts, Failed};
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

/// The right to send one attempt. [`Breaker::on_head`] counts a healthy head, and [`Breaker::on_result`] settles the permit. Dropped, it changes nothing that was counted.
///
/// A probe's permit counts in its own half-open era. A failure after its head counts in the closed era that follows it, too.
#[derive(Debug)]
#[must_use = "a permit that is not handed back by on_result says nothing about what happened"]
pub struct Permit {
    era: u64,
    /// When a healthy head was counted as a success, in nanoseconds since the breaker's epoch, or [`UNCOUNTED`].
    counted_at: u64,
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

/// No head was counted.
const UNCOUNTED: u64 = u64::MAX;

/// A breaker shared by all cores.
#[derive(Debug)]
pub struct Breaker {
    config: Config,
    epoch: Epoch,
    /// The state and the number of its era in one word. Written under `turn`, read without it.
    gate: AtomicU64,
    /// Nanoseconds since `epoch` at which the open time ends; written under `turn` before the gate opens.
    reopen_at: AtomicU64,
    /// Of the closed era.
    counts: Counts,
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
            counts: Counts::new(epoch, &config),
            turn: Mutex::new(turn),
        })
    }

    /// The configuration it was made with.
    pub fn config(&self) -> Config {
        self.config
    }

    /// Whether it is closed, so that it admits everything.
    pub fn is_closed(&self) -> bool {
        self.gate().state == State::Closed
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
            State::Closed => Admission { permit: Ok(Permit::closed(gate.era)), moved: None },
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

    /// Opens the breaker if its failure ratio is reached and `can_spare` says that requests have somewhere else to go. Ask before each attempt. It is
    /// cheap, and asks `can_spare` only if the ratio is reached.
    pub fn open_by_ratio(
        &self,
        now: Instant,
        can_spare: impl FnOnce() -> bool,
        rng: &mut impl Rng,
    ) -> Option<Transition> {
        if !self.counts.has_ever_failed() {
            return None; // the common case
        }
        let gate = self.gate();
        if gate.state != State::Closed || !self.counts.is_ratio_reached(&self.config, now) || !can_spare() {
            return None;
        }
        let mut turn = self.turn();
        // Another core may have been faster.
        (self.gate() == gate).then(|| self.trip(&mut turn, Reason::FailureRatio, now, rng))
    }

    /// A healthy head came. A closed breaker counts a success. A probe only takes note: it passes when its body goes on.
    pub fn on_head(&self, permit: &mut Permit, now: Instant) {
        if let Some(probe) = &mut permit.probe {
            probe.head_at = Some(now);
        } else if self.is_closed_in(permit.era) && permit.counted_at == UNCOUNTED {
            permit.counted_at = self.counts.on_head(now);
        }
    }

    /// Settles a permit. Results of another era are ignored. If a head was counted, only a failure changes the count.
    pub fn on_result(&self, permit: Permit, class: Class, now: Instant, rng: &mut impl Rng) -> Option<Transition> {
        if permit.is_probe() {
            return self.on_probe_result(permit, class, now, rng);
        }
        let Permit { era, counted_at, .. } = permit;
        if !self.is_closed_in(era) {
            return None;
        }
        let counted_at = (counted_at != UNCOUNTED).then_some(counted_at);
        match class {
            Class::Failure => {
                let failed = counted_at.map_or(Failed::AtHead, |at| Failed::InBody { counted_at: Some(at) });
                return self.count_failure(era, failed, now, rng);
            }
            Class::Success | Class::Overload | Class::Neutral if counted_at.is_some() => self.counts.on_end(),
            Class::Success => self.counts.on_success(now),
            // It is alive. How busy it is does not belong into the ratio.
            Class::Overload => self.counts.on_sign_of_life(),
            Class::Neutral => {}
        }
        None
    }

    /// Counts a failure of the closed era `era`, and trips the breaker if it is the last of a long row.
    fn count_failure(&self, era: u64, failed: Failed, now: Instant, rng: &mut impl Rng) -> Option<Transition> {
        let row = self.counts.on_failure(failed, now);
        if row < self.config.consecutive_failures.get() {
            return None;
        }
        let mut turn = self.turn();
        // Another core may have tripped the breaker between our count and the lock.
        self.is_closed_in(era).then(|| self.trip(&mut turn, Reason::ConsecutiveFailures, now, rng))
    }

    fn is_closed_in(&self, era: u64) -> bool {
        self.gate() == Gate { state: State::Closed, era }
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
            State::Closed => return Admission { permit: Ok(Permit::closed(gate.era)), moved },
            State::Open => Some(self.epoch.at(self.reopen_at.load(Relaxed))),
            State::HalfOpen => turn.probes.admit_from(&self.config).filter(|at| *at > now),
        };
        if let Some(retry_at) = retry_at {
            return Admission { permit: Err(Refusal { retry_at }), moved };
        }
        let number = turn.probes.add(now, self.config.probe_lease);
        let probe = Box::new(Probe { breaker: Arc::clone(self), number, head_at: None });
        Admission { permit: Ok(Permit { probe: Some(probe), ..Permit::closed(gate.era) }), moved }
    }

    fn on_probe_result(&self, permit: Permit, class: Class, now: Instant, rng: &mut impl Rng) -> Option<Transition> {
        let Permit { era, probe: Some(probe), .. } = permit else { return None };
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
        self.count_failure(opened.era, Failed::InBody { counted_at: None }, now, rng)
    }

    fn close_if_passed(&self, turn: &mut Turn, now: Instant) -> Option<Transition> {
        turn.probes.have_passed(&self.config).then(|| self.turn_to(turn, State::Closed, Reason::ProbesSucceeded, now))
    }

    fn trip(&self, turn: &mut Turn, reason: Reason, now: Instant, rng: &mut impl Rng) -> Transition {
        let was_calm =
            self.gate().state == State::Closed && now.saturating_duration_since(turn.since) >= self.config.window;
        turn.trips = if was_calm { 1 } else { turn.trips.saturating_add(1) };
        let open_for = self.config.draw_open_time(turn.trips, rng);
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
            self.counts.clear();
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
    fn closed(era: u64) -> Permit {
        Permit { era, counted_at: UNCOUNTED, probe: None }
    }

    /// Whether this is a probe's permit. The breaker waits for its result, so settle it as soon as one is known.
    pub fn is_probe(&self) -> bool {
        self.probe.is_some()
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
