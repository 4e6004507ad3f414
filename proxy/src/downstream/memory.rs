//! The limit on the memory of all replay buffers together.

use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering::Relaxed;

/// Counts the bytes of all replay buffers against one limit.
#[derive(Debug)]
pub struct ReplayMemory {
    kept: AtomicUsize,
    max: AtomicUsize,
}

impl ReplayMemory {
    /// A limit of `max` bytes.
    pub fn new(max: usize) -> ReplayMemory {
        ReplayMemory { kept: AtomicUsize::new(0), max: AtomicUsize::new(max) }
    }

    /// Changes the limit. What is kept beyond a lower one stays until its request ends.
    pub fn set_max(&self, max: usize) {
        self.max.store(max, Relaxed);
    }

    /// The bytes that are kept now.
    pub fn kept(&self) -> usize {
        self.kept.load(Relaxed)
    }

    /// Reserves `bytes`, if the limit allows.
    pub(super) fn reserve(&self, bytes: usize) -> bool {
        let after = self.kept.fetch_add(bytes, Relaxed).saturating_add(bytes);
        let fits = after <= self.max.load(Relaxed);
        if !fits {
            self.release(bytes);
        }
        fits
    }

    /// Gives back `bytes` that were reserved.
    pub(super) fn release(&self, bytes: usize) {
        self.kept.fetch_sub(bytes, Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_buffers_share_one_bound() {
        let memory = ReplayMemory::new(100);
        assert!(memory.reserve(60) && !memory.reserve(41) && memory.reserve(40));
        memory.release(60);
        assert_eq!(memory.kept(), 40);
    }
}
