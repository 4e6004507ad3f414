//! State that the control thread and the workers share: the generation in force, the metrics, a few counts.

use std::sync::Arc;
use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize};
use std::time::Duration;

use arc_swap::ArcSwap;
use tokio::sync::Notify;

use crate::clock;
use crate::downstream::memory::ReplayMemory;
use crate::live::Live;
use crate::memory::Memory;
use crate::telemetry::events::Event;
use crate::telemetry::metrics::Metrics;
use crate::upstream::sockets::Sockets;

/// The shared state; one per process.
pub struct Shared {
    live: ArcSwap<Live>,
    /// Number of the generation in `live`. With one plain read of it a worker sees whether its own is still in force.
    generation: AtomicU64,
    /// All families of metrics.
    pub metrics: Arc<Metrics>,
    /// The limit of downstream connections, which the control thread fits to the system.
    connections_max: AtomicUsize,
    /// The memory of the process.
    pub memory: Arc<Memory>,
    /// The connections to endpoints.
    pub sockets: Arc<Sockets>,
    /// The memory of all replay buffers.
    pub replay: Arc<ReplayMemory>,
    /// One per worker, written by that worker and by the acceptor.
    pub workers: Vec<Load>,
    draining: AtomicBool,
    quit: Notify,
    /// Counts up while the control thread runs, which writes it.
    beats: AtomicU64,
    /// How many times in a row the admin thread has found `beats` unchanged; it writes it.
    beats_missed: AtomicU64,
}

/// The time between two signs of life of the control thread.
const BEAT_INTERVAL: Duration = Duration::from_secs(1);
/// So many missing signs of life are a dead thread: half a minute. Nothing that it does takes a second, but a machine under load may stop it for some.
const BEATS_MISSED_MAX: u64 = 30;

/// The counts of one worker.
#[derive(Default)]
pub struct Load {
    /// Open downstream connections. The acceptor adds, the worker subtracts.
    pub connections: AtomicUsize,
    /// Requests that have begun.
    pub begun: AtomicU64,
    /// Requests that have ended, bodies included.
    pub ended: AtomicU64,
    /// Tunnels that are open.
    pub tunnels: AtomicUsize,
    /// Whether the worker's thread has ended by a panic.
    pub is_lost: AtomicBool,
}

impl Shared {
    /// The state with `live` as the first generation. Memory and sockets have no limit yet.
    pub fn new(live: Live, metrics: Metrics, workers: usize) -> Shared {
        let memory = Arc::new(Memory::new(usize::MAX, workers));
        let replay = Arc::new(ReplayMemory::new(live.config.replay_memory_bytes_max, &memory));
        let workers = (0..workers).map(|_| Load::default()).collect();
        let generation = AtomicU64::new(live.generation);
        let connections_max = AtomicUsize::new(live.config.listen.connections_max);
        Shared {
            live: ArcSwap::from_pointee(live),
            generation,
            connections_max,
            metrics: Arc::new(metrics),
            memory,
            sockets: Sockets::new(usize::MAX),
            replay,
            workers,
            draining: AtomicBool::new(false),
            quit: Notify::new(),
            beats: AtomicU64::new(0),
            beats_missed: AtomicU64::new(0),
        }
    }

    /// Counts and logs `event`.
    pub fn emit(&self, event: &Event) {
        event.emit(&self.metrics);
    }

    /// The generation in force.
    pub fn live(&self) -> Arc<Live> {
        self.live.load_full()
    }

    /// The number of the generation in force.
    pub fn generation(&self) -> u64 {
        self.generation.load(Acquire)
    }

    /// Puts another generation in force.
    pub fn swap(&self, live: Live) {
        self.replay.set_max(live.config.replay_memory_bytes_max);
        let generation = live.generation;
        self.live.store(Arc::new(live));
        // Release, after the store: a worker that reads this number finds that generation, or a later one.
        self.generation.store(generation, Release);
    }

    /// Asks the control thread to stop in order. The request is kept until the control thread sees it.
    pub fn ask_to_quit(&self) {
        self.quit.notify_one();
    }

    /// Waits for [`Shared::ask_to_quit`].
    pub async fn asked_to_quit(&self) {
        self.quit.notified().await;
    }

    /// Begins the stop: from now on `/readyz` fails.
    pub fn begin_drain(&self) {
        self.draining.store(true, Relaxed);
    }

    /// Whether the stop has begun.
    pub fn is_draining(&self) -> bool {
        self.draining.load(Relaxed)
    }

    /// Whether a worker has ended by a panic.
    pub fn has_lost_a_worker(&self) -> bool {
        self.workers.iter().any(|load| load.is_lost.load(Relaxed))
    }

    /// Shows that the control thread runs, for as long as it runs this.
    pub async fn keep_beating(&self) {
        loop {
            self.beats.fetch_add(1, Relaxed);
            clock::sleep(BEAT_INTERVAL).await;
        }
    }

    /// Watches, from another thread, whether the control thread runs. It counts its own turns instead of time: when the machine stops, both threads stop.
    pub async fn watch_beats(&self) {
        let mut seen = self.beats.load(Relaxed);
        loop {
            clock::sleep(BEAT_INTERVAL).await;
            let beats = self.beats.load(Relaxed);
            let missed = if beats == seen { self.beats_missed.load(Relaxed) + 1 } else { 0 };
            self.beats_missed.store(missed, Relaxed);
            seen = beats;
        }
    }

    /// Whether the control thread has not run for so long that nothing accepts connections any more.
    pub fn control_stands_still(&self) -> bool {
        self.beats_missed.load(Relaxed) > BEATS_MISSED_MAX
    }

    /// The limit of downstream connections.
    pub fn connections_max(&self) -> usize {
        self.connections_max.load(Relaxed)
    }

    /// Sets the limits of connections to what the system allows.
    pub fn fit_connections(&self, downstream: usize, upstream: usize) {
        self.connections_max.store(downstream, Relaxed);
        self.sockets.set_max(upstream);
    }

    /// Open downstream connections.
    pub fn connections(&self) -> usize {
        self.workers.iter().map(|load| load.connections.load(Relaxed)).sum()
    }

    /// Open tunnels.
    pub fn tunnels(&self) -> usize {
        self.workers.iter().map(|load| load.tunnels.load(Relaxed)).sum()
    }

    /// How many requests have begun, and how many of them have not ended.
    pub fn requests(&self) -> (u64, u64) {
        // `ended` is read first: so a request that ends between the two readings counts as under way, and the difference is never negative.
        let ended: u64 = self.workers.iter().map(|load| load.ended.load(Relaxed)).sum();
        let begun: u64 = self.workers.iter().map(|load| load.begun.load(Relaxed)).sum();
        (begun, begun.saturating_sub(ended))
    }
}
