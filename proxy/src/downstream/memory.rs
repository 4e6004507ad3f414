//! The bound on what all replay buffers together may keep.

use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering::Relaxed;

/// Bytes that all replay buffers together may keep.
#[derive(Debug)]
pub struct ReplayMemory {
    kept: AtomicUsize,
    max: AtomicUsize,
}

impl ReplayMemory {
    /// Room for `max` bytes.
    pub fn new(max: usize) -> ReplayMemory {
        ReplayMemory { kept: AtomicUsize::new(0), max: AtomicUsize::new(max) }
    }

    /// Changes the bound; what is kept beyond it stays until its request ends.
    pub fn set_max(&self, max: usize) {
        self.max.store(max, Relaxed);
    }

    /// Bytes kept now.
    pub fn kept(&self) -> usize {
        self.kept.load(Relaxed)
    }

    /// Takes room for `bytes`, if there is so much.
    pub(super) fn reserve(&self, bytes: usize) -> bool {
        let after = self.kept.fetch_add(bytes, Relaxed).saturating_add(bytes);
        let fits = after <= self.max.load(Relaxed);
        if !fits {
            self.release(bytes);
        }
        fits
    }

    /// Gives it back.
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
