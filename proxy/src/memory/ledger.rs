//! What the configurations in use need of the heap: routes, upstreams, endpoints, series.
//!
//! Nobody estimates it. Whatever lives as long as a configuration is made within [`Ledger::enter`], which counts what its thread has allocated meanwhile and not
//! freed again. The [`Entry`] stays with what was made and takes the bytes out when that ends. So during a reload both generations count, and what the next one
//! takes over counts once.
//!
//! It does not count what comes with traffic, such as a series for a status that no response had before.

use std::cell::Cell;
use std::sync::Arc;
use std::sync::atomic::AtomicI64;
use std::sync::atomic::Ordering::Relaxed;

use super::Counts;

thread_local! {
    static COUNTS: Option<Counts> = Counts::of_this_thread();
    /// The bytes of all entries that this thread has made, so that an entry within another one counts once.
    static ENTERED: Cell<i64> = const { Cell::new(0) };
}

/// The sum of all entries that are left.
#[derive(Clone, Default, Debug)]
pub struct Ledger(Arc<AtomicI64>);

/// The bytes of something that lives as long as this.
#[derive(Debug)]
pub struct Entry {
    sum: Arc<AtomicI64>,
    bytes: i64,
}

impl Ledger {
    /// Runs `make`, and enters what it keeps of the heap, without what has an entry of its own.
    pub fn enter<T>(&self, make: impl FnOnce() -> T) -> (T, Entry) {
        let unentered = || COUNTS.with(|counts| counts.as_ref().map_or(0, Counts::held)) - ENTERED.get();
        let before = unentered();
        let made = make();
        let bytes = unentered() - before;
        ENTERED.set(ENTERED.get() + bytes);
        self.0.fetch_add(bytes, Relaxed);
        (made, Entry { sum: Arc::clone(&self.0), bytes })
    }

    /// The bytes of all entries.
    pub fn bytes(&self) -> usize {
        usize::try_from(self.0.load(Relaxed)).unwrap_or(0)
    }
}

#[cfg(test)]
impl Entry {
    /// The bytes of this one.
    pub fn bytes(&self) -> usize {
        usize::try_from(self.bytes).unwrap_or(0)
    }
}

impl Drop for Entry {
    fn drop(&mut self) {
        self.sum.fetch_sub(self.bytes, Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: usize = 1 << 20;

    #[test]
    fn an_entry_counts_what_is_kept_once_and_for_as_long_as_it_lives() {
        let ledger = Ledger::default();
        let ((outer, inner), entry) = ledger.enter(|| {
            drop(Vec::<u8>::with_capacity(8 * MIB));
            let inner = ledger.enter(|| Vec::<u8>::with_capacity(2 * MIB));
            (Vec::<u8>::with_capacity(4 * MIB), inner)
        });
        let near = |bytes: usize, expected: usize| bytes.abs_diff(expected) < MIB / 4;
        assert!(near(ledger.bytes(), 6 * MIB), "{}", ledger.bytes());
        drop((outer, entry));
        assert!(near(ledger.bytes(), 2 * MIB), "{}", ledger.bytes());
        drop(inner);
        assert_eq!(ledger.bytes(), 0);
    }
}
