//! The record of what happened in a world, and the queries that scenarios make.
//!
//! It keeps every event, so that a scenario can compute what it needs. Moments are times since the start.

use std::fmt::Debug;
use std::ops::{Range, RangeBounds};
use std::time::Duration;

use outrigger_policy::breaker::{State, Transition};
use outrigger_policy::retry::Refused;

use crate::sidecar::{Ending, Level};

/// A request and its end.
pub(crate) struct Ended {
    pub(crate) client: usize,
    pub(crate) begun: Duration,
    pub(crate) ended: Duration,
    pub(crate) attempts: u32,
    pub(crate) ending: Ending,
}

/// An attempt as it leaves the sidecar.
pub(crate) struct Sent {
    pub(crate) at: Duration,
    pub(crate) endpoint: usize,
    /// 1 is the first attempt of its request.
    pub(crate) attempt: u32,
    pub(crate) is_probe: bool,
}

/// A breaker's change of state.
#[derive(Debug)]
pub(crate) struct Moved {
    pub(crate) at: Duration,
    pub(crate) sidecar: usize,
    pub(crate) level: Level,
    pub(crate) moved: Transition,
}

pub(crate) struct Report {
    pub(crate) seed: u64,
    pub(crate) length: Duration,
    pub(crate) begun: usize,
    pub(crate) ended: Vec<Ended>,
    pub(crate) sent: Vec<Sent>,
    pub(crate) moves: Vec<Moved>,
    /// Why retries were refused.
    pub(crate) refused: Vec<Refused>,
    /// Requests that a budget has counted, by sidecar.
    pub(crate) deposits: Vec<u32>,
    /// Retries that a budget has paid for, by sidecar.
    pub(crate) withdrawals: Vec<u32>,
    /// How many of those were not sent, because the client had disconnected or no endpoint admitted when the wait was over.
    pub(crate) unused: usize,
}

impl Report {
    pub(crate) fn new(seed: u64) -> Report {
        Report {
            seed,
            length: Duration::ZERO,
            begun: 0,
            ended: Vec::new(),
            sent: Vec::new(),
            moves: Vec::new(),
            refused: Vec::new(),
            deposits: Vec::new(),
            withdrawals: Vec::new(),
            unused: 0,
        }
    }

    /// Checks that a number lies in a band. Prints it in any case, so that a failure shows all numbers before it.
    #[track_caller]
    pub(crate) fn expect(&self, what: &str, number: f64, band: impl RangeBounds<f64> + Debug) {
        println!("seed {}: {what}: {number:.4} (band {band:?})", self.seed);
        assert!(band.contains(&number), "seed {}: {what} is {number:.4}, not in {band:?}", self.seed);
    }

    /// The share of successes among the requests begun in this time, of which there must be some.
    pub(crate) fn success(&self, during: Range<Duration>) -> f64 {
        let of_time = self.ended.iter().filter(|request| during.contains(&request.begun));
        share(of_time.map(|request| request.ending.is_success()))
    }

    /// Attempts per request.
    pub(crate) fn amplification(&self) -> f64 {
        self.sent.len() as f64 / self.begun as f64
    }

    /// The attempts sent in this time.
    pub(crate) fn sent_during(&self, during: Range<Duration>) -> impl Iterator<Item = &Sent> {
        self.sent.iter().filter(move |sent| during.contains(&sent.at))
    }

    /// The most attempts that left in any second of this time, counted by whole seconds.
    pub(crate) fn busiest_second(&self, during: Range<Duration>) -> usize {
        let mut seconds = vec![0; during.end.as_secs() as usize + 1];
        self.sent_during(during).for_each(|sent| seconds[sent.at.as_secs() as usize] += 1);
        seconds.into_iter().max().unwrap_or(0)
    }

    /// How often breakers tripped, without failed probes.
    pub(crate) fn trips(&self) -> usize {
        self.moves.iter().filter(|to| to.moved.from == State::Closed).count()
    }

    /// When a breaker of this kind tripped first.
    pub(crate) fn first_trip(&self, level: Level) -> Option<Duration> {
        self.moves.iter().find(|to| to.level == level && to.moved.to == State::Open).map(|to| to.at)
    }

    /// The open times that began during this time, in order.
    pub(crate) fn open_times(&self, level: Level, during: Range<Duration>) -> Vec<f64> {
        let of_time = self.moves.iter().filter(|to| to.level == level && during.contains(&to.at));
        of_time.filter_map(|to| to.moved.open_for).map(|time| time.as_secs_f64()).collect()
    }

    /// How many requests had such an ending.
    pub(crate) fn endings(&self, is_so: impl Fn(Ending) -> bool) -> usize {
        self.ended.iter().filter(|request| is_so(request.ending)).count()
    }

    /// From which moment on every second until the end has at least this share of successes; `None` if the last second has less.
    pub(crate) fn well_from(&self, least: f64) -> Option<Duration> {
        let mut seconds = vec![(0u32, 0u32); self.length.as_secs() as usize];
        for request in &self.ended {
            let (all, good) = &mut seconds[request.begun.as_secs() as usize];
            (*all, *good) = (*all + 1, *good + u32::from(request.ending.is_success()));
        }
        let is_ill = |(all, good): &(u32, u32)| f64::from(*good) < least * f64::from(*all);
        let first_well = seconds.iter().rposition(is_ill).map_or(0, |last_ill| last_ill + 1);
        (first_well < seconds.len()).then(|| Duration::from_secs(first_well as u64))
    }
}

/// The share of `true`. There must be at least one value: with none, every bound would hold.
pub(crate) fn share(of: impl Iterator<Item = bool>) -> f64 {
    let (all, yes) = of.fold((0u32, 0u32), |(all, yes), is| (all + 1, yes + u32::from(is)));
    assert!(all > 0, "there is nothing to take a share of");
    f64::from(yes) / f64::from(all)
}
