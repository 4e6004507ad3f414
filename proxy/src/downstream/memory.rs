//! The limit on the memory of all replay buffers together. They give way first: while memory is scarce nothing more is kept.

use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering::Relaxed;

use crate::memory::{Level, Memory};

/// Counts the bytes of all replay buffers against one limit.
#[derive(Debug)]
pub struct ReplayMemory {
    kept: AtomicUsize,
    max: AtomicUsize,
    memory: Arc<Memory>,
}

impl ReplayMemory {
    /// A limit of `max` bytes, a part of all `memory`.
    pub fn new(max: usize, memory: &Arc<Memory>) -> ReplayMemory {
        ReplayMemory { kept: AtomicUsize::new(0), max: AtomicUsize::new(max), memory: Arc::clone(memory) }
    }

    /// Changes the limit. What is kept beyond a lower one stays until its request ends.
    pub fn set_max(&self, max: usize) {
        self.max.store(max, Relaxed);
    }

    /// The bytes that are kept now.
    pub fn kept(&self) -> usize {
        self.kept.load(Relaxed)
    }

    /// Reserves `bytes`, if the limit allows and memory is not scarce.
    pub(super) fn reserve(&self, bytes: usize) -> bool {
        let after = self.kept.fetch_add(bytes, Relaxed).saturating_add(bytes);
        let fits = after <= self.max.load(Relaxed) && self.memory.level() == Level::Free;
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
        let memory = ReplayMemory::new(100, &Arc::new(Memory::new(1_000, 1)));
        assert!(memory.reserve(60) && !memory.reserve(41) && memory.reserve(40));
        memory.release(60);
        assert_eq!(memory.kept(), 40);
    }

    #[test]
    fn nothing_is_kept_while_memory_is_scarce() {
        let whole = Arc::new(Memory::new(0, 1));
        let memory = ReplayMemory::new(100, &whole);
        assert!(!memory.reserve(1) && memory.kept() == 0);
        whole.set_max(1_000);
        assert!(memory.reserve(1));
    }
}
