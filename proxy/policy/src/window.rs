//! Two counters over a sliding stretch of time, shared by all cores without a lock.
//!
//! The window is a ring of ten buckets, each one atomic word `tick | first | second`. A bucket contains the tick that it counts, so it
//! expires when it is read at a later tick. Nothing has to sweep: a window that is not used for an hour is empty when it is next read.
//! The same ring serves the breaker (results, failures) and the budget (deposits, withdrawals).
//!
//! A sum reads ten words one after the other, so under concurrent writes it may miss counts of the last nanoseconds. A budget's withdrawal
//! must be exact, so it takes its own lock around sum and add.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use crate::units::Epoch;

/// Ten buckets: the window's edge moves in steps of a tenth, and one breaker's ring fits two cache lines.
const BUCKETS: u64 = 10;
/// 28 bits of tick: with the shortest bucket (10 ms) a stale bucket could be taken for a live one after 31 days, for one bucket's time.
const TICK_BITS: u32 = 28;
/// 18 bits a counter. A full bucket takes no more: 262 143 samples in a tenth of a window are enough to know a ratio by.
const COUNT_BITS: u32 = 18;
const TICK_MASK: u64 = (1 << TICK_BITS) - 1;
const COUNT_MASK: u64 = (1 << COUNT_BITS) - 1;

/// The sums over the live buckets.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct Sums {
    pub(crate) first: u32,
    pub(crate) second: u32,
}

#[derive(Debug)]
pub(crate) struct Window {
    epoch: Epoch,
    bucket_nanos: u64,
    buckets: [AtomicU64; BUCKETS as usize],
}

impl Window {
    /// An empty window of length `span` (at least 100 ms is sensible; shorter ones are taken as ten nanoseconds or more).
    pub(crate) fn new(epoch: Epoch, span: Duration) -> Window {
        let span_nanos = u64::try_from(span.as_nanos()).unwrap_or(u64::MAX);
        Window { epoch, bucket_nanos: (span_nanos / BUCKETS).max(1), buckets: Default::default() }
    }

    /// Adds to both counters of the bucket of `now`.
    pub(crate) fn add(&self, now: Instant, first: u32, second: u32) {
        self.add_at(self.epoch.nanos(now), first, second);
    }

    /// The same for a moment in nanoseconds since the epoch.
    pub(crate) fn add_at(&self, nanos: u64, first: u32, second: u32) {
        let number = nanos / self.bucket_nanos;
        let (tick, slot) = (number & TICK_MASK, &self.buckets[(number % BUCKETS) as usize]);
        // `Err` means that the bucket is full; the sample is dropped on purpose.
        let _full = slot.fetch_update(Relaxed, Relaxed, |word| {
            let bucket = Bucket::unpack(word);
            let age = tick.wrapping_sub(bucket.tick) & TICK_MASK;
            // A bucket from the "future" belongs to a core that took its `now` a moment later than this one: count into it.
            let is_live = age == 0 || age > TICK_MASK / 2;
            let base = if is_live { bucket } else { Bucket { tick, first: 0, second: 0 } };
            base.plus(first, second).map(Bucket::pack)
        });
    }

    /// Takes back what was added at `then`, if its bucket is still there. It may have been reused, for a later time.
    pub(crate) fn take_back(&self, then: Instant, first: u32, second: u32) {
        self.take_back_at(self.epoch.nanos(then), first, second);
    }

    /// The same for a moment in nanoseconds since the epoch.
    pub(crate) fn take_back_at(&self, nanos: u64, first: u32, second: u32) {
        let number = nanos / self.bucket_nanos;
        let (tick, slot) = (number & TICK_MASK, &self.buckets[(number % BUCKETS) as usize]);
        // `Err` means that nothing is left to take back.
        let _expired = slot.fetch_update(Relaxed, Relaxed, |word| {
            let bucket = Bucket::unpack(word);
            (bucket.tick == tick).then(|| bucket.minus(first, second).pack())
        });
    }

    /// The sums over the live buckets: the last 0.9 to 1.0 spans before `now`.
    pub(crate) fn sums(&self, now: Instant) -> Sums {
        let tick = self.number(now) & TICK_MASK;
        let (mut first, mut second) = (0, 0);
        for slot in &self.buckets {
            let word = slot.load(Relaxed);
            let age = tick.wrapping_sub(word >> (2 * COUNT_BITS)) & TICK_MASK;
            // Without a branch, because during an outage every result computes these sums.
            let is_live = u64::from(!(BUCKETS..=TICK_MASK / 2).contains(&age));
            let counts = word & is_live.wrapping_neg();
            first += (counts >> COUNT_BITS) & COUNT_MASK;
            second += counts & COUNT_MASK;
        }
        // Ten counters of 18 bits fit into 32.
        Sums { first: first as u32, second: second as u32 }
    }

    /// Forgets everything.
    pub(crate) fn clear(&self) {
        for slot in &self.buckets {
            slot.store(0, Relaxed);
        }
    }

    fn number(&self, now: Instant) -> u64 {
        self.epoch.nanos(now) / self.bucket_nanos
    }
}

#[derive(Clone, Copy)]
struct Bucket {
    tick: u64,
    first: u64,
    second: u64,
}

impl Bucket {
    fn unpack(word: u64) -> Bucket {
        Bucket { tick: word >> (2 * COUNT_BITS), first: (word >> COUNT_BITS) & COUNT_MASK, second: word & COUNT_MASK }
    }

    fn pack(self) -> u64 {
        (self.tick << (2 * COUNT_BITS)) | (self.first << COUNT_BITS) | self.second
    }

    fn plus(self, first: u32, second: u32) -> Option<Bucket> {
        let (first, second) = (self.first + u64::from(first), self.second + u64::from(second));
        (first <= COUNT_MASK && second <= COUNT_MASK).then_some(Bucket { first, second, ..self })
    }

    fn minus(self, first: u32, second: u32) -> Bucket {
        let (first, second) = (self.first.saturating_sub(first.into()), self.second.saturating_sub(second.into()));
        Bucket { first, second, ..self }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn window(span: Duration) -> (Window, Instant) {
        let origin = Instant::now();
        (Window::new(Epoch::new(origin), span), origin)
    }

    #[test]
    fn a_sample_lives_for_ten_buckets_and_no_longer() {
        let (window, origin) = window(Duration::from_secs(10));
        window.add(origin, 1, 1);
        for (after_ms, alive) in [(0, 1), (9_999, 1), (10_000, 0), (25_000, 0)] {
            assert_eq!(window.sums(origin + Duration::from_millis(after_ms)).first, alive, "{after_ms} ms");
        }
    }

    #[test]
    fn what_is_taken_back_leaves_its_own_bucket_and_no_later_one() {
        let (window, origin) = window(Duration::from_secs(10));
        window.add(origin, 2, 2);
        window.take_back(origin, 0, 1);
        assert_eq!(window.sums(origin), Sums { first: 2, second: 1 });
        let later = origin + Duration::from_secs(10); // the same slot of the ring
        window.add(later, 1, 1);
        window.take_back(origin, 0, 1);
        assert_eq!(window.sums(later), Sums { first: 1, second: 1 });
    }

    #[test]
    fn a_full_bucket_takes_no_more_and_spoils_nothing() {
        let (window, origin) = window(Duration::from_secs(10));
        window.add(origin, COUNT_MASK as u32, 7);
        window.add(origin, 1, 1);
        assert_eq!(window.sums(origin), Sums { first: COUNT_MASK as u32, second: 7 });
    }

    #[test]
    fn a_core_with_an_older_now_counts_into_the_newer_bucket_and_sees_it() {
        let (window, origin) = window(Duration::from_secs(10));
        let newer = origin + Duration::from_secs(10);
        window.add(newer, 1, 0);
        window.add(origin, 1, 0); // the same slot, ten ticks earlier
        assert_eq!(window.sums(newer).first, 2);
        assert_eq!(window.sums(newer - Duration::from_secs(1)).first, 2, "nor does it overlook what is newer");
    }

    #[test]
    fn no_count_is_lost_between_cores() {
        let (window, origin) = window(Duration::from_secs(10));
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| (0..5_000).for_each(|n| window.add(origin + Duration::from_micros(n), 1, 1)));
            }
        });
        assert_eq!(window.sums(origin + Duration::from_millis(5)), Sums { first: 20_000, second: 20_000 });
    }

    proptest! {
        /// Against the obvious model: keep every sample, sum those whose bucket is one of the last ten.
        #[test]
        fn sums_agree_with_a_list_of_all_samples(steps in prop::collection::vec((0u64..400, 0u32..3, 0u32..3), 1..200)) {
            let (window, origin) = window(Duration::from_millis(1_000));
            let (mut now_ms, mut samples) = (0, Vec::new());
            for (wait_ms, first, second) in steps {
                now_ms += wait_ms;
                window.add(origin + Duration::from_millis(now_ms), first, second);
                samples.push((now_ms / 100, first, second));
                let live = samples.iter().filter(|(bucket, ..)| now_ms / 100 - bucket < BUCKETS);
                let model = live.fold(Sums::default(), |s, (_, f, g)| Sums { first: s.first + f, second: s.second + g });
                prop_assert_eq!(window.sums(origin + Duration::from_millis(now_ms)), model);
            }
        }
    }
}
