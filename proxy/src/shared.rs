//! What the control thread and the workers share: the generation in force, the metrics, a few counts.

use std::sync::Arc;
use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize};

use arc_swap::ArcSwap;
use tokio::sync::Notify;

use crate::downstream::memory::ReplayMemory;
use crate::live::Live;
use crate::telemetry::events::Event;
use crate::telemetry::metrics::Metrics;

/// One per process.
pub struct Shared {
    live: ArcSwap<Live>,
    /// Number of the generation in `live`, so that workers see with one plain read that theirs is still in force.
    generation: AtomicU64,
    /// All families.
    pub metrics: Arc<Metrics>,
    /// Connections that the app may have; written once, before the first of them.
    connections_max: AtomicUsize,
    /// Bytes that replay buffers may keep.
    pub replay: Arc<ReplayMemory>,
    /// One per worker, written by that worker and by the acceptor.
    pub workers: Vec<Load>,
    draining: AtomicBool,
    quit: Notify,
}

/// How busy a worker is.
#[derive(Default)]
pub struct Load {
    /// Open connections from the app; the acceptor adds, the worker subtracts.
    pub connections: AtomicUsize,
    /// Requests that have begun.
    pub begun: AtomicU64,
    /// Requests that have ended, bodies included.
    pub ended: AtomicU64,
    /// Tunnels that are open.
    pub tunnels: AtomicUsize,
    /// Its thread has ended by a panic; it serves nobody any more.
    pub is_lost: AtomicBool,
}

impl Shared {
    /// For a first generation.
    pub fn new(live: Live, metrics: Metrics, workers: usize) -> Shared {
        let replay = Arc::new(ReplayMemory::new(live.config.replay_memory_bytes_max));
        let workers = (0..workers).map(|_| Load::default()).collect();
        let generation = AtomicU64::new(live.generation);
        let connections_max = AtomicUsize::new(live.config.listen.connections_max);
        Shared {
            live: ArcSwap::from_pointee(live),
            generation,
            connections_max,
            metrics: Arc::new(metrics),
            replay,
            workers,
            draining: AtomicBool::new(false),
            quit: Notify::new(),
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

    /// Its number.
    pub fn generation(&self) -> u64 {
        self.generation.load(Acquire)
    }

    /// Puts another generation in force.
    pub fn swap(&self, live: Live) {
        self.replay.set_max(live.config.replay_memory_bytes_max);
        let generation = live.generation;
        self.live.store(Arc::new(live));
        // Release, after the store: whoever reads this number finds that generation, or a later one.
        self.generation.store(generation, Release);
    }

    /// Asks the control thread to stop in order; kept until it listens.
    pub fn ask_to_quit(&self) {
        self.quit.notify_one();
    }

    /// Until somebody has asked for that.
    pub async fn asked_to_quit(&self) {
        self.quit.notified().await;
    }

    /// From now on `/readyz` says no.
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

    /// Connections that the app may have.
    pub fn connections_max(&self) -> usize {
        self.connections_max.load(Relaxed)
    }

    /// Fewer than configured, because the system does not carry more.
    pub fn lower_connections_max(&self, max: usize) {
        self.connections_max.fetch_min(max, Relaxed);
    }

    /// Open connections from the app.
    pub fn connections(&self) -> usize {
        self.workers.iter().map(|load| load.connections.load(Relaxed)).sum()
    }

    /// Open tunnels.
    pub fn tunnels(&self) -> usize {
        self.workers.iter().map(|load| load.tunnels.load(Relaxed)).sum()
    }

    /// Requests that have begun, and those of them that have not ended.
    pub fn requests(&self) -> (u64, u64) {
        // Ended first: a request that ends between the two readings may be counted as under way, never the other way round.
        let ended: u64 = self.workers.iter().map(|load| load.ended.load(Relaxed)).sum();
        let begun: u64 = self.workers.iter().map(|load| load.begun.load(Relaxed)).sum();
        (begun, begun.saturating_sub(ended))
    }
}
