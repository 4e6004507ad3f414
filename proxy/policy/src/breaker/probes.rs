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
    /// There is no head yet. The probe loses its place at this moment.
    Awaited { expires_at: Instant },
    /// The head has come. The probe passes at this moment, if its body has not broken off.
    Responding { passes_at: Instant },
    /// It was counted among those that passed.
    Passed,
}

impl Probes {
    /// Forgets all probes.
    pub(super) fn clear(&mut self) {
        self.leases.clear();
        self.passed = 0;
    }

    /// Applies what time has done: leases expire, and probes pass whose body has gone on for long enough.
    pub(super) fn catch_up(&mut self, now: Instant) {
        let passed = &mut self.passed;
        self.leases.retain_mut(|lease| match lease.stage {
            Stage::Awaited { expires_at } => expires_at > now,
            Stage::Responding { passes_at } => {
                if passes_at <= now {
                    lease.stage = Stage::Passed;
                    *passed += 1;
                }
                true
            }
            Stage::Passed => true,
        });
    }

    /// Adds a probe with a lease of `lease`, and returns its number.
    pub(super) fn add(&mut self, now: Instant, lease: Duration) -> u64 {
        let number = self.next;
        self.next += 1;
        let expires_at = now.checked_add(lease).unwrap_or(now);
        self.leases.push(Lease { number, given_at: now, stage: Stage::Awaited { expires_at } });
        number
    }

    /// The head of a success has come for this probe. Without an end of its body it passes after one spacing.
    pub(super) fn on_head(&mut self, number: u64, now: Instant, spacing: Duration) {
        if let Some(lease) = self.leases.iter_mut().find(|lease| lease.number == number) {
            lease.stage = Stage::Responding { passes_at: now.checked_add(spacing).unwrap_or(now) };
        }
    }

    /// This probe has succeeded. It counts if its lease has expired, too, but never twice.
    pub(super) fn on_success(&mut self, number: u64) {
        if self.remove(number) != Some(Stage::Passed) {
            self.passed += 1;
        }
    }

    /// This probe has ended and says nothing.
    pub(super) fn give_back(&mut self, number: u64) {
        // Its lease may have expired.
        let _ = self.remove(number);
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
        let taken = self.count_out().saturating_add(self.passed);
        let surplus = taken.checked_sub(config.probes.get())?.saturating_add(1);
        let youngest = self.out().map(|lease| lease.given_at).max()?;
        let spaced = youngest.checked_add(config.probe_spacing() * surplus);
        // A lease that expires, or a body that goes on for long enough, may come first.
        let changes = self.out().filter_map(|lease| match lease.stage {
            Stage::Awaited { expires_at: at } | Stage::Responding { passes_at: at } => Some(at),
            Stage::Passed => None,
        });
        changes.chain(spaced).min()
    }

    fn out(&self) -> impl Iterator<Item = &Lease> {
        self.leases.iter().filter(|lease| lease.stage != Stage::Passed)
    }

    fn remove(&mut self, number: u64) -> Option<Stage> {
        let place = self.leases.iter().position(|lease| lease.number == number)?;
        Some(self.leases.swap_remove(place).stage)
    }
}
