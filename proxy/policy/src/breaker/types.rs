//! What goes into a breaker and what comes out: its numbers, its states, the changes it reports.

use std::num::NonZeroU32;
use std::time::{Duration, Instant};

use crate::units::Ratio;

/// When a breaker trips, how long it stays open, and how it finds its way back.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Config {
    /// The time over which the ratio is counted.
    pub window: Duration,
    /// Failures among the results in the window that trip it.
    pub failure_ratio: Ratio,
    /// Results in the window below which the ratio says nothing.
    pub volume_min: u32,
    /// Failures in a row that trip it whatever the ratio is.
    pub consecutive_failures: NonZeroU32,
    /// The first open time.
    pub open_base: Duration,
    /// The longest open time.
    pub open_cap: Duration,
    /// The share of the open time that is drawn at random: 0.2 gives 80 to 100 % of it.
    pub open_jitter: Ratio,
    /// Probes let through at a time, and successes in a row that close it.
    pub probes: NonZeroU32,
    /// After this long without a verdict a probe counts as failed.
    pub probe_lease: Duration,
}

/// What a breaker does with requests.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum State {
    /// Admits.
    Closed,
    /// Refuses.
    Open,
    /// Admits probes.
    HalfOpen,
}

/// Which rule changed the state.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Reason {
    /// The ratio of failures in the window reached its limit.
    FailureRatio,
    /// So many failures came in a row.
    ConsecutiveFailures,
    /// The open time is over.
    OpenTimeOver,
    /// A probe failed.
    ProbeFailed,
    /// A probe got no verdict within its lease.
    ProbeExpired,
    /// Enough probes succeeded.
    ProbesSucceeded,
}

impl State {
    /// As it is written in labels and logs.
    pub fn word(self) -> &'static str {
        match self {
            State::Closed => "closed",
            State::Open => "open",
            State::HalfOpen => "half_open",
        }
    }
}

impl Reason {
    /// As it is written in labels and logs.
    pub fn word(self) -> &'static str {
        match self {
            Reason::FailureRatio => "failure_ratio",
            Reason::ConsecutiveFailures => "consecutive_failures",
            Reason::OpenTimeOver => "open_time_over",
            Reason::ProbeFailed => "probe_failed",
            Reason::ProbeExpired => "probe_expired",
            Reason::ProbesSucceeded => "probes_succeeded",
        }
    }
}

/// One change of state, for the floor above to count and log.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Transition {
    /// The state it left.
    pub from: State,
    /// The state it is in now.
    pub to: State,
    /// The rule that moved it.
    pub reason: Reason,
    /// How long it will refuse; `None` unless `to` is open.
    pub open_for: Option<Duration>,
}

/// What a breaker is doing and the numbers behind it, for people.
#[derive(Clone, Copy, Debug)]
pub struct Snapshot {
    /// The state.
    pub state: State,
    /// Since when.
    pub since: Instant,
    /// The rule that brought it there; `None` if it never moved.
    pub reason: Option<Reason>,
    /// Results in the window.
    pub results: u32,
    /// Failures among them.
    pub failures: u32,
    /// Failures in a row.
    pub consecutive_failures: u32,
    /// Trips without a calm window between them.
    pub trips: u32,
    /// Probes under way.
    pub probes_out: u32,
    /// When the open time ends; `None` unless open.
    pub reopen_at: Option<Instant>,
}

/// Why a breaker refuses, and until when.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Open {
    /// The rule that opened it; `None` if it never moved.
    pub reason: Option<Reason>,
    /// Since when.
    pub since: Instant,
    /// When asking again makes sense.
    pub retry_at: Instant,
    /// Results in the window.
    pub results: u32,
    /// Failures among them.
    pub failures: u32,
    /// Failures in a row.
    pub consecutive_failures: u32,
}
