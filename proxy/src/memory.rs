//! How much memory the proxy uses and may use, over all heads, buffers, kept bodies, connections and tables together.
//!
//! Each part of the proxy has a limit of its own, but the sum of those limits is more than any container has. So this does not add up parts, because a part could be
//! forgotten. It reads the allocator's own counts: the bytes of the whole process ten times a second ([`Memory::measure`]), and between two measures what each
//! worker has added, which is exact at every moment and costs two plain reads ([`Meter::level`]).
//!
//! The limit of the heap is a share of what the container may use (`container` reads that). [`Budget`] has the shares. What the allocator holds and cannot use again
//! is measured too, because callers can make it large: where a few small things are left of many, each keeps its pages from all other uses. What follows from a level is decided
//! elsewhere: from [`Level::Scarce`] on nothing is kept for retries and bodies are read in small pieces; at [`Level::Full`] the connections that deserve it least end
//! and further requests are refused; at [`Level::Critical`] exchanges end too.
//!
//! A program with another allocator counts nothing, so it has no limit here.

pub mod container;
pub mod ledger;

use std::cell::Cell;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, AtomicUsize};

use outrigger_http1::transport::Room;
use tikv_jemalloc_ctl::thread::ThreadLocal;
use tikv_jemalloc_ctl::{epoch, stats, thread};

const KIB: usize = 1024;
const MIB: usize = 1024 * KIB;

/// What the process needs apart from its heap and its sockets: the program, stacks, the allocator's own tables.
const PROCESS_BYTES: usize = 16 * MIB;
/// What the kernel holds for a downstream connection and the one upstream that may belong to it, without the data in their buffers.
const CONNECTION_BYTES: usize = 8 * KIB;
/// What the proxy assumes at least, however small the container is: with less it could not serve at all.
const MEMORY_MIN: usize = 32 * MIB;
/// Pieces of a body are at most this long while memory is scarce.
const SMALL_READ: usize = 8 * KIB;

/// What the memory of the process is divided into.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Budget {
    /// Bytes of the heap.
    pub heap: usize,
    /// Downstream connections whose sockets fit beside it.
    pub connections: usize,
    /// Bytes for what the allocator holds besides and cannot use again at once.
    pub unused: usize,
}

/// How far the heap is from its limit.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Level {
    /// There is enough.
    Free,
    /// Three quarters are used.
    Scarce,
    /// The limit is reached.
    Full,
    /// It is exceeded by an eighth.
    Critical,
}

/// The heap of the process and its limit; all threads share it.
#[derive(Debug)]
pub struct Memory {
    max: AtomicUsize,
    /// The heap at the last measure, which the control thread writes.
    measured: AtomicUsize,
    /// What of the pages that the heap uses was not in use then.
    unused: AtomicUsize,
    /// How many measures there have been.
    measures: AtomicU64,
    /// What each worker has added since the last measure. The worker writes it, and the control thread resets it.
    grown: Vec<AtomicI64>,
    /// Whether a worker has found the memory full.
    was_full: AtomicBool,
}

/// A worker's view of the [`Memory`]; it belongs to the worker's thread.
pub struct Meter {
    memory: Arc<Memory>,
    number: usize,
    counts: Option<Counts>,
    /// The thread's count at the last measure.
    mark: Cell<i64>,
    measures: Cell<u64>,
    /// What connections that are about to end will free.
    promised: Cell<usize>,
}

/// What this thread has allocated and freed in all.
struct Counts {
    allocated: ThreadLocal<u64>,
    freed: ThreadLocal<u64>,
}

impl Budget {
    /// The parts of `memory` bytes, of which `sockets` are held by the data in the buffers of sockets, where the container is charged for them.
    ///
    /// Beside the process's own need, a half is the heap's. A quarter is for sockets and what the kernel keeps with them. The last quarter is for what the allocator
    /// cannot use again at once. Data in sockets beyond half of that comes out of the heap's share.
    pub fn new(memory: usize, sockets: usize) -> Budget {
        let shared = memory.max(MEMORY_MIN) - PROCESS_BYTES;
        let heap = (shared / 2).saturating_sub(sockets.saturating_sub(shared / 8));
        Budget { heap: heap.max(shared / 4), connections: shared / 4 / CONNECTION_BYTES, unused: shared / 4 }
    }

    /// Bytes that the heap may have, where `needed` are in use before the first request, and of its pages `unused` bytes are not in use.
    ///
    /// However much the configurations in use need, requests find a half of the heap's share beside it. What is unused beyond its quarter comes out of that, but an
    /// eighth stays: a proxy that refused everything would not be better than one that is ended and started again.
    pub fn heap_max(self, needed: usize, unused: usize) -> usize {
        let beyond = unused.saturating_sub(self.unused);
        let max = self.heap.max(needed + self.heap / 2);
        max.saturating_sub(beyond).max(needed + self.heap / 8)
    }
}

impl Memory {
    /// A heap of at most `max` bytes, for so many workers.
    pub fn new(max: usize, workers: usize) -> Memory {
        let grown = (0..workers).map(|_| AtomicI64::new(0)).collect();
        Memory {
            max: AtomicUsize::new(max),
            measured: AtomicUsize::new(0),
            unused: AtomicUsize::new(0),
            measures: AtomicU64::new(0),
            grown,
            was_full: AtomicBool::new(false),
        }
    }

    /// Changes the limit.
    pub fn set_max(&self, max: usize) {
        self.max.store(max, Relaxed);
    }

    /// Bytes that the heap may have.
    pub fn max(&self) -> usize {
        self.max.load(Relaxed)
    }

    /// Bytes that the heap has.
    pub fn used(&self) -> usize {
        let grown: i64 = self.grown.iter().map(|grown| grown.load(Relaxed)).sum();
        let measured = i64::try_from(self.measured.load(Relaxed)).unwrap_or(i64::MAX);
        usize::try_from(measured.saturating_add(grown)).unwrap_or(0)
    }

    /// Bytes of the heap's pages that were not in use at the last measure. They serve only what has the size of what is left on its page.
    pub fn unused(&self) -> usize {
        self.unused.load(Relaxed)
    }

    /// Counts the heap of the whole process anew. Only the control thread calls it.
    pub fn measure(&self) {
        // Fails only if another allocator is in use, whose counts nobody knows.
        if epoch::advance().is_err() {
            return;
        }
        let allocated = stats::allocated::read().unwrap_or(0);
        self.measured.store(allocated, Relaxed);
        // Not what is resident: pages without anything in use on them serve everything, and go back to the system within a second.
        self.unused.store(stats::active::read().unwrap_or(0).saturating_sub(allocated), Relaxed);
        // Release: a worker that sees the number begins to count from here on.
        self.measures.fetch_add(1, Release);
        self.grown.iter().for_each(|grown| grown.store(0, Relaxed));
    }

    /// Notes that a worker has found the memory full.
    pub fn set_was_full(&self) {
        self.was_full.store(true, Relaxed);
    }

    /// Whether a worker has found the memory full since the last call.
    pub fn take_was_full(&self) -> bool {
        self.was_full.swap(false, Relaxed)
    }

    /// The level of the heap.
    pub fn level(&self) -> Level {
        self.level_of(self.used())
    }

    fn level_of(&self, used: usize) -> Level {
        let max = self.max();
        match used {
            _ if used >= max.saturating_add(max / 8) => Level::Critical,
            _ if used >= max => Level::Full,
            _ if used >= max / 4 * 3 => Level::Scarce,
            _ => Level::Free,
        }
    }
}

impl Meter {
    /// For worker `number`, on its thread.
    pub fn new(memory: &Arc<Memory>, number: usize) -> Rc<Meter> {
        let meter = Meter {
            memory: Arc::clone(memory),
            number,
            counts: Counts::of_this_thread(),
            mark: Cell::new(0),
            measures: Cell::new(memory.measures.load(Acquire)),
            promised: Cell::new(0),
        };
        meter.mark.set(meter.count());
        Rc::new(meter)
    }

    /// The level of the heap as it is. What connections will free when they end is not free yet, so it lets nothing else in.
    pub fn level(&self) -> Level {
        self.memory.level_of(self.used())
    }

    /// How many bytes are to be freed, so that a sixteenth of the limit is free again, beside those that are promised. Freeing some more at once makes it rarer.
    pub fn excess(&self) -> usize {
        let max = self.memory.max();
        self.used().saturating_sub(self.promised.get()).saturating_sub(max - max / 16)
    }

    /// Notes that a connection of `bytes` is about to end.
    pub fn promise(&self, bytes: usize) {
        self.promised.set(self.promised.get() + bytes);
    }

    /// Notes that a connection of `bytes` has ended as promised.
    pub fn keep_promise(&self, bytes: usize) {
        self.promised.set(self.promised.get().saturating_sub(bytes));
    }

    fn used(&self) -> usize {
        let (count, measures) = (self.count(), self.memory.measures.load(Acquire));
        if self.measures.replace(measures) != measures {
            self.mark.set(count);
        }
        if let Some(grown) = self.memory.grown.get(self.number) {
            grown.store(count - self.mark.get(), Relaxed);
        }
        self.memory.used()
    }

    /// What the thread has allocated and not freed. What another thread frees stays in it, until the next measure.
    fn count(&self) -> i64 {
        self.counts.as_ref().map_or(0, Counts::held)
    }
}

impl Counts {
    /// `None` if another allocator is in use.
    fn of_this_thread() -> Option<Counts> {
        let (allocated, freed) = (thread::allocatedp::read().ok()?, thread::deallocatedp::read().ok()?);
        Some(Counts { allocated, freed })
    }

    fn held(&self) -> i64 {
        self.allocated.get().wrapping_sub(self.freed.get()).cast_signed()
    }
}

impl Room for Meter {
    fn read_bytes(&self, wanted: usize) -> usize {
        if self.level() >= Level::Scarce { wanted.min(SMALL_READ) } else { wanted }
    }

    fn has_room(&self) -> bool {
        self.level() < Level::Full
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_the_manifest_gives_is_divided_so_that_the_parts_fit_into_it() {
        let parts = Budget::new(128 * MIB, 0);
        assert_eq!(parts, Budget { heap: 56 * MIB, connections: 3_584, unused: 28 * MIB });
        assert_eq!(Budget::new(128 * MIB, 24 * MIB).heap, 46 * MIB, "full sockets come out of the heap's share");
        assert_eq!(Budget::new(128 * MIB, 500 * MIB).heap, 28 * MIB, "and leave it a half");
    }

    proptest! {
        #[test]
        fn the_parts_never_exceed_the_whole(memory in 32 * MIB..64 * 1024 * MIB, sockets in 0..1024 * MIB) {
            let Budget { heap, connections, unused } = Budget::new(memory, sockets);
            prop_assert!(heap > 0 && connections > 0);
            prop_assert!(PROCESS_BYTES + heap + connections * CONNECTION_BYTES + unused <= memory);
        }

        #[test]
        fn the_heap_and_what_it_cannot_use_again_stay_within_their_shares_until_little_is_left(
            memory in 32 * MIB..64 * 1024 * MIB, needed in 0..8 * MIB, unused in 0..64 * 1024 * MIB,
        ) {
            let budget = Budget::new(memory, 0);
            let max = budget.heap_max(needed, unused);
            prop_assert!(max >= needed + budget.heap / 8, "some of it is always left for requests");
            prop_assert!(max <= needed + budget.heap / 8 || max + unused.max(budget.unused) <= budget.heap_max(needed, 0) + budget.unused);
        }

        #[test]
        fn whatever_a_thread_allocates_is_used_and_what_it_frees_is_not(sizes in prop::collection::vec(64 * KIB..MIB, 1..20)) {
            let memory = Arc::new(Memory::new(usize::MAX, 1));
            let meter = Meter::new(&memory, 0);
            let before = meter.used();
            let held: Vec<Vec<u8>> = sizes.iter().map(|size| Vec::with_capacity(*size)).collect();
            let all: usize = sizes.iter().sum();
            let used = meter.used() - before;
            // The allocator rounds up, by a quarter at most.
            prop_assert!((all..all + all / 4 + 64 * KIB).contains(&used), "{} for {}", used, all);
            drop(held);
            prop_assert!(meter.used() - before < 64 * KIB);
        }
    }

    #[test]
    fn a_level_begins_at_its_share_of_the_limit() {
        let memory = Memory::new(800, 1);
        for (used, level) in [
            (599, Level::Free),
            (600, Level::Scarce),
            (799, Level::Scarce),
            (800, Level::Full),
            (899, Level::Full),
            (900, Level::Critical),
        ] {
            assert_eq!(memory.level_of(used), level, "{used}");
        }
    }

    #[test]
    fn a_measure_counts_the_growth_of_a_worker_once() {
        let memory = Arc::new(Memory::new(usize::MAX, 1));
        let meter = Meter::new(&memory, 0);
        let held: Vec<u8> = Vec::with_capacity(32 * MIB);
        assert!(meter.used() >= 32 * MIB);
        memory.measure();
        let (measured, used) = (memory.measured.load(Relaxed), meter.used());
        assert!(measured >= 32 * MIB, "the process has what the thread has");
        assert!(used.abs_diff(measured) < 16 * MIB, "{used} of {measured}");
        drop(held);
        assert!(meter.used() + 16 * MIB < measured, "what is freed shows at once");
    }

    #[test]
    fn pages_on_which_little_is_left_are_unused_and_lower_the_limit() {
        let memory = Memory::new(usize::MAX, 1);
        let mut pieces: Vec<Box<[u8; 448]>> = (0..100_000).map(|_| Box::new([0; 448])).collect();
        memory.measure();
        let before = memory.unused();
        let mut number = 0;
        pieces.retain(|_| {
            number += 1;
            number % 64 == 0
        });
        memory.measure();
        let unused = memory.unused().saturating_sub(before);
        assert!(unused > 24 * MIB, "{unused} of 42 MiB, of which one in 64 pieces is left");
        let budget = Budget::new(128 * MIB, 0);
        for (unused, max) in [(0, 56), (28, 56), (29, 55), (48, 36), (500, 11)] {
            assert_eq!(budget.heap_max(4 * MIB, unused * MIB), max * MIB, "{unused}");
        }
        assert_eq!(budget.heap_max(40 * MIB, 30 * MIB), 66 * MIB, "what the configurations need raises it first");
    }

    #[test]
    fn what_is_promised_asks_for_no_more_and_lets_nothing_in_before_it_is_free() {
        let memory = Arc::new(Memory::new(10 * MIB, 1));
        let meter = Meter::new(&memory, 0);
        let held: Vec<u8> = Vec::with_capacity(10 * MIB);
        assert_eq!(meter.level(), Level::Full);
        let excess = meter.excess();
        assert!(excess > MIB / 2, "{excess}");
        meter.promise(excess);
        assert_eq!((meter.level(), meter.excess()), (Level::Full, 0));
        drop(held);
        meter.keep_promise(excess);
        assert_eq!(meter.level(), Level::Free);
    }
}
