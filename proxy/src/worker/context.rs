//! What an exchange may use of its worker: the generation in force, the pool, the rng, counters, and the scheduling lag.
//!
//! All of it belongs to one thread. State that all threads share (breakers, budgets, counts) lives in atomics on the floors below.

use std::cell::{Cell, RefCell, RefMut};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use outrigger_policy::lag::Lag;
use rustc_hash::FxHashMap;

use super::connections::{Connections, TICK, TICKS_PER_LOOK};
use super::handle::{RouteHandle, Unflushed};
use crate::clock::{self, Rng};
use crate::live::Live;
use crate::live::route::Route;
use crate::memory::{Level, Meter};
use crate::shared::{Load, Shared};
use crate::upstream::connect::Dial;
use crate::upstream::pool::Pool;

/// Ticks this far apart mean that the worker was starved or its machine stopped. What it waited for may have arrived long ago.
const LAG_MIN: Duration = TICK.saturating_mul(3);
/// A request head up to this many bytes is small. Nearly all are.
pub const SMALL_HEAD: usize = 4 * 1024;

/// The context of one worker.
pub struct Context {
    /// What all workers share.
    pub shared: Arc<Shared>,
    /// Connections to endpoints.
    pub pool: Pool,
    memory: Rc<Meter>,
    /// Connections of the downstream.
    pub connections: Connections,
    /// Handles with counts that are not in the metrics yet.
    pub unflushed: Unflushed,
    number: usize,
    #[expect(clippy::redundant_allocation, reason = "cloning the Rc does not touch the count that all workers share")]
    live: RefCell<Rc<Arc<Live>>>,
    rng: RefCell<Rng>,
    /// Routes of the generation in force that have been used here.
    handles: RefCell<FxHashMap<u32, Rc<RouteHandle>>>,
    tick: Rc<Cell<u32>>,
    /// The moment up to which `tick` counts.
    ticked_at: Cell<Instant>,
    /// When this thread was last known to run.
    awake_at: Cell<Instant>,
    /// For how long it did not run.
    lag: Cell<Lag>,
    is_finishing: Cell<bool>,
}

impl Context {
    /// For worker `number` of `shared`, which connects by `dial`.
    pub fn new(shared: Arc<Shared>, number: usize, dial: Box<dyn Dial>) -> Rc<Context> {
        let memory = Meter::new(&shared.memory, number);
        let pool = Pool::new(dial, Arc::clone(&shared.sockets), Rc::<Meter>::clone(&memory));
        Rc::new(Context {
            live: RefCell::new(Rc::new(shared.live())),
            shared,
            pool,
            memory,
            connections: Connections::default(),
            unflushed: Unflushed::default(),
            number,
            rng: RefCell::new(clock::rng()),
            handles: RefCell::default(),
            tick: Rc::default(),
            ticked_at: Cell::new(clock::now()),
            awake_at: Cell::new(clock::now()),
            lag: Cell::default(),
            is_finishing: Cell::new(false),
        })
    }

    /// The generation in force.
    pub fn live(&self) -> Rc<Arc<Live>> {
        let mut live = self.live.borrow_mut();
        if live.generation != self.shared.generation() {
            *live = Rc::new(self.shared.live());
            self.handles.borrow_mut().clear();
        }
        Rc::clone(&live)
    }

    /// The worker's random generator.
    pub fn rng(&self) -> RefMut<'_, Rng> {
        self.rng.borrow_mut()
    }

    /// `route` of the generation in force, as this worker sees it.
    pub fn handle(&self, route: &Arc<Route>) -> Rc<RouteHandle> {
        let mut handles = self.handles.borrow_mut();
        Rc::clone(handles.entry(route.id).or_insert_with(|| RouteHandle::new(Arc::clone(route))))
    }

    /// Counts a request that begins.
    pub fn begin_request(&self) {
        // Only this worker's thread writes it, so no read-modify-write is needed.
        let load = self.load();
        load.begun.store(load.begun.load(Relaxed) + 1, Relaxed);
    }

    /// Counts a request that has ended, including its bodies.
    pub fn end_request(&self) {
        let load = self.load();
        let ended = load.ended.load(Relaxed) + 1;
        load.ended.store(ended, Relaxed);
        if ended == load.begun.load(Relaxed) {
            self.unflushed.flush();
        }
    }

    /// Counts a tunnel that begins.
    pub fn begin_tunnel(&self) {
        self.load().tunnels.fetch_add(1, Relaxed);
    }

    /// Counts a tunnel that has ended.
    pub fn end_tunnel(&self) {
        self.load().tunnels.fetch_sub(1, Relaxed);
    }

    /// The counts of this worker.
    pub fn load(&self) -> &Load {
        &self.shared.workers[self.number]
    }

    /// The scheduling lag: for how long this worker was stopped or starved, as far as it has noticed.
    pub fn lag(&self) -> Lag {
        self.lag.get()
    }

    /// Adds to the lag if the worker has not run for a while before `now`.
    pub fn notice_lag(&self, now: Instant) {
        let since = now.saturating_duration_since(self.awake_at.replace(now));
        if since > LAG_MIN {
            let mut lag = self.lag.get();
            // A tick would have been enough.
            lag.add(since - TICK);
            self.lag.set(lag);
        }
    }

    /// The worker's view of the memory.
    pub fn memory(&self) -> &Rc<Meter> {
        &self.memory
    }

    /// Whether a further request with a head of `head_bytes` finds memory. At the limit the connections that deserve theirs least end first. What is beyond the
    /// limit is for requests with small heads, so that large ones do not keep them out.
    pub fn has_memory(&self, head_bytes: usize) -> bool {
        if self.memory.level() < Level::Full {
            return true;
        }
        let level = self.relieve(Level::Full);
        level < if head_bytes <= SMALL_HEAD { Level::Critical } else { Level::Full }
    }

    /// Frees memory, of which `level` is reached. Returns the level that is left.
    pub fn relieve(&self, level: Level) -> Level {
        self.shared.memory.set_was_full();
        self.pool.close_idle();
        self.connections.shed(&self.memory, level);
        self.memory.level()
    }

    /// The coarse clock by which this worker watches its connections.
    pub fn tick(&self) -> Rc<Cell<u32>> {
        Rc::clone(&self.tick)
    }

    /// Whether connections are to be closed as soon as they are idle.
    pub fn is_finishing(&self) -> bool {
        self.is_finishing.get()
    }

    /// Closes connections as soon as they are idle, from now on.
    pub fn finish(&self) {
        self.is_finishing.set(true);
        self.pool.close();
        self.connections.wake_all();
    }

    /// Does the work of one tick.
    pub fn on_tick(&self) {
        let now = clock::now();
        let before = self.tick.get();
        let tick = before.wrapping_add(self.ticks_since(now));
        self.tick.set(tick);
        self.unflushed.flush();
        self.notice_lag(now);
        self.pool.reap(now);
        self.pool.close_asked(now);
        // A request that begins ends no other exchange. So they end one by one, if what is left has to.
        match self.memory.level() {
            Level::Free | Level::Scarce => {}
            level @ (Level::Full | Level::Critical) => _ = self.relieve(level),
        }
        if self.is_finishing() {
            self.connections.wake_all();
        }
        if tick / TICKS_PER_LOOK != before / TICKS_PER_LOOK {
            // What came while the worker stood still has not been read.
            let forgiven = tick.wrapping_sub(before) - 1;
            self.connections.look(&self.live().config.listen, forgiven);
        }
    }

    /// How many ticks the coarse clock goes on at `now`. A starved worker's clock keeps up with time, or nothing would ever be overdue. A long standstill counts as
    /// no more than a second, because what connections sent meanwhile has not been read.
    fn ticks_since(&self, now: Instant) -> u32 {
        let ticked_at = self.ticked_at.get();
        let since = now.saturating_duration_since(ticked_at);
        let ticks = u32::try_from(since.as_nanos() / TICK.as_nanos()).unwrap_or(u32::MAX).clamp(1, TICKS_PER_LOOK);
        // Parts of a tick count at the next one.
        self.ticked_at.set(if ticks < TICKS_PER_LOOK { ticked_at + TICK * ticks } else { now });
        ticks
    }
}
