//! The types of a breaker's interface: its configuration, its states, and the changes it reports.

use std::num::NonZeroU32;
use std::time::{Duration, Instant};

use rand::Rng;

use crate::backoff::{doubled, draw_up_to};
use crate::outcome::PROBE_SPACING_MAX;
use crate::units::Ratio;

/// When a breaker trips, how long it stays open, and what closes it again.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Config {
    /// The time over which the ratio is counted.
    pub window: Duration,
    /// The share of failures among the results in the window that trips it.
    pub failure_ratio: Ratio,
    /// With fewer results than this in the window the ratio does not trip it.
    pub volume_min: u32,
    /// The ratio trips it only while at least this share of the endpoints, and one at least, still takes requests. Whoever asks it to open by its ratio counts them.
    pub admitting_min: Ratio,
    /// This many failures in a row trip it, whatever the ratio is. Two failures are in a row if there is no success and no longer time than a window between them.
    pub consecutive_failures: NonZeroU32,
    /// The first open time.
    pub open_base: Duration,
    /// The longest open time.
    pub open_cap: Duration,
    /// The share of the open time that is drawn at random: 0.2 gives 80 to 100 % of it.
    pub open_jitter: Ratio,
    /// How many probes are admitted at once, and how many successes in a row close it.
    pub probes: NonZeroU32,
    /// After this long without a head a probe's place is free for another one. That is no verdict about it.
    pub probe_lease: Duration,
}

impl Config {
    /// How long a probe has the upstream to itself. It is the shortest open time: that is how often the operator lets the breaker look.
    pub fn probe_spacing(&self) -> Duration {
        self.open_base.min(PROBE_SPACING_MAX)
    }

    /// How long the breaker stays open after so many trips, 1 or more.
    pub(super) fn draw_open_time(&self, trips: u32, rng: &mut impl Rng) -> Duration {
        let longest = doubled(self.open_base, trips - 1, self.open_cap);
        let jitter = longest.as_nanos() * u128::from(self.open_jitter.ppm()) / u128::from(Ratio::ONE.ppm());
        longest.saturating_sub(draw_up_to(Duration::from_nanos(u64::try_from(jitter).unwrap_or(u64::MAX)), rng))
    }
}

/// The state of a breaker.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum State {
    /// Admits everything.
    Closed,
    /// Refuses everything.
    Open,
    /// Admits a limited number of probes.
    HalfOpen,
}

/// Which rule changed the state.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Reason {
    /// The ratio of failures in the window reached its limit.
    FailureRatio,
    /// The failures in a row reached their limit.
    ConsecutiveFailures,
    /// The open time is over.
    OpenTimeOver,
    /// A probe failed, or its response broke off after it had closed the breaker.
    ProbeFailed,
    /// Enough probes succeeded.
    ProbesSucceeded,
}

impl State {
    /// The word for labels and logs.
    pub fn word(self) -> &'static str {
        match self {
            State::Closed => "closed",
            State::Open => "open",
            State::HalfOpen => "half_open",
        }
    }
}

impl Reason {
    /// The word for labels and logs.
    pub fn word(self) -> &'static str {
        match self {
            Reason::FailureRatio => "failure_ratio",
            Reason::ConsecutiveFailures => "consecutive_failures",
            Reason::OpenTimeOver => "open_time_over",
            Reason::ProbeFailed => "probe_failed",
            Reason::ProbesSucceeded => "probes_succeeded",
        }
    }
}

/// One change of state, for the caller to count and log.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Transition {
    /// The state before.
    pub from: State,
    /// The state now.
    pub to: State,
    /// The rule that changed it.
    pub reason: Reason,
    /// How long it will refuse; `None` unless `to` is open.
    pub open_for: Option<Duration>,
}

/// The state of a breaker and the numbers behind it, for people.
#[derive(Clone, Copy, Debug)]
pub struct Snapshot {
    /// The state.
    pub state: State,
    /// When the state began.
    pub since: Instant,
    /// The rule behind the last change of state; `None` if there was none.
    pub reason: Option<Reason>,
    /// Results in the window.
    pub results: u32,
    /// Failures among them.
    pub failures: u32,
    /// Failures in a row, or bodies that broke off in a row if they are more.
    pub consecutive_failures: u32,
    /// Trips since the breaker last stayed closed for a whole window.
    pub trips: u32,
    /// Probes under way.
    pub probes_out: u32,
    /// When the open time ends, or, half-open, when the next probe may go; `None` if a request is admitted at once.
    pub retry_at: Option<Instant>,
}

/// Why a breaker refuses, and until when.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Open {
    /// The rule behind the last change of state; `None` if there was none.
    pub reason: Option<Reason>,
    /// When the state began.
    pub since: Instant,
    /// When a retry makes sense.
    pub retry_at: Instant,
    /// Results in the window.
    pub results: u32,
    /// Failures among them.
    pub failures: u32,
    /// Failures in a row.
    pub consecutive_failures: u32,
}
