//! The probes of one half-open time: who is out, how far each has come, and when the next one may go.
//!
//! It is a plain value under the breaker's lock, and decides nothing about the state. Probes have numbers that never come again, so what arrives late for one
//! finds nothing.

use std::time::{Duration, Instant};

use super::types::Config;

/// The probes since the breaker became half-open.
#[derive(Debug, Default)]
pub(super) struct Probes {
    leases: Vec<Lease>,
    next: u64,
    passed: u32,
    /// When the last one was given, while a place is free whose probe has said nothing.
    respaced_from: Option<Instant>,
    last_given_at: Option<Instant>,
}

#[derive(Debug)]
struct Lease {
    number: u64,
    given_at: Instant,
    stage: Stage,
}

/// How far a probe has come.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Stage {
    /// There is no verdict yet. The probe loses its place at this moment.
    Out { expires_at: Instant },
    /// It was counted among those that passed.
    Passed,
}

impl Probes {
    /// Forgets all probes.
    pub(super) fn clear(&mut self) {
        *self = Probes { next: self.next, ..Probes::default() };
    }

    /// Applies what time has done: leases expire. No probe passes by time.
    pub(super) fn catch_up(&mut self, now: Instant) {
        self.leases.retain(|lease| match lease.stage {
            Stage::Out { expires_at } => expires_at > now,
            Stage::Passed => true,
        });
    }

    /// Adds a probe with a lease of `lease`, and returns its number.
    pub(super) fn add(&mut self, now: Instant, lease: Duration) -> u64 {
        let number = self.next;
        self.next += 1;
        let expires_at = now.checked_add(lease).unwrap_or(now);
        self.leases.push(Lease { number, given_at: now, stage: Stage::Out { expires_at } });
        (self.last_given_at, self.respaced_from) = (Some(now), None);
        number
    }

    /// The body of this probe's response goes on. It passes, if its lease has expired, too, but never twice.
    pub(super) fn on_going_on(&mut self, number: u64, now: Instant) {
        if self.remove(number) != Some(Stage::Passed) {
            self.passed += 1;
        }
        self.leases.push(Lease { number, given_at: now, stage: Stage::Passed });
    }

    /// This probe has succeeded. It counts if its lease has expired, too, but never twice.
    pub(super) fn on_success(&mut self, number: u64) {
        if self.remove(number) != Some(Stage::Passed) {
            self.passed += 1;
        }
    }

    /// This probe has ended and says nothing. Its place is free one spacing after the last probe was given: or whoever comes next would take it at once, and callers
    /// that leave early would send all that they have to an upstream that hangs.
    pub(super) fn give_back(&mut self, number: u64) {
        // Its lease may have expired.
        if matches!(self.remove(number), Some(Stage::Out { .. })) {
            self.respaced_from = self.last_given_at;
        }
    }

    /// Whether enough of them have passed.
    pub(super) fn have_passed(&self, config: &Config) -> bool {
        self.passed >= config.probes.get()
    }

    /// How many have no verdict yet.
    pub(super) fn count_out(&self) -> u32 {
        u32::try_from(self.out().count()).unwrap_or(u32::MAX)
    }

    /// When the next request is admitted; `None` if one is at once. The waits grow with the number of probes that are out, so that it stays small however long they take.
    pub(super) fn admit_from(&self, config: &Config) -> Option<Instant> {
        if self.have_passed(config) {
            return None;
        }
        let spacing = config.probe_spacing();
        let taken = self.count_out().saturating_add(self.passed);
        let Some(over) = taken.checked_sub(config.probes.get()) else {
            return self.respaced_from?.checked_add(spacing);
        };
        let youngest = self.out().map(|lease| lease.given_at).max()?;
        let spaced = youngest.checked_add(spacing * over.saturating_add(1));
        // A lease that expires may come first.
        let expiries = self.out().filter_map(|lease| match lease.stage {
            Stage::Out { expires_at } => Some(expires_at),
            Stage::Passed => None,
        });
        expiries.chain(spaced).min()
    }

    fn out(&self) -> impl Iterator<Item = &Lease> {
        self.leases.iter().filter(|lease| lease.stage != Stage::Passed)
    }

    fn remove(&mut self, number: u64) -> Option<Stage> {
        let place = self.leases.iter().position(|lease| lease.number == number)?;
        Some(self.leases.swap_remove(place).stage)
    }
}
