//! A worker: one thread, its connections from the app, its pool of connections to endpoints.
//!
//! A connection lives and dies on one worker, so nothing on a request's way is locked against another thread; what must be one for all of them
//! (breakers, budgets, counts) lives in atomics on the floor below.
//!
//! The **tick** every 100 ms does three things. It closes what has waited too long. It is the coarse clock by which connections are watched, so that no
//! request has to read a clock for every packet. And it must stay even if it had nothing to do: with one timer always pending close by, the timers of
//! requests do not have to wake the driver to arm themselves, which costs a system call each.

use std::cell::{Cell, RefCell, RefMut};
use std::collections::HashMap;
use std::net::TcpStream as StdTcpStream;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::AtomicU32;
use std::sync::atomic::Ordering::Relaxed;
use std::task::Waker;
use std::time::{Duration, Instant};

use rustc_hash::FxHashMap;
use tokio::sync::{mpsc, watch};

use crate::clock::{self, Dice};
use crate::events::Event;
use crate::http::client::{Dial, Pool};
use crate::http::io::{Ending, Phase, Progress, Stream};
use crate::http::server;
use crate::lane::{Lane, Unflushed};
use crate::live::Live;
use crate::route::Route;
use crate::shared::{Load, Shared};

/// Length of a tick.
pub const TICK: Duration = Duration::from_millis(100);
/// Connections are looked at once a second: their limits are seconds, and ten thousand of them are ten thousand looks.
pub const TICKS_PER_LOOK: u32 = 10;

/// A worker whose ticks come so far apart was stopped with its machine, or starved: what it waited for may have come long ago.
const ABSENT_MIN: Duration = TICK.saturating_mul(3);

/// What a worker is told from outside.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Order {
    /// Serve.
    Serve,
    /// Finish what is under way and take nothing more.
    Finish,
    /// End every connection now, and so that no reader takes a part of an answer for the whole.
    CutOff,
}

/// One worker; everything in it belongs to its thread.
pub struct Worker {
    /// What all workers share.
    pub shared: Arc<Shared>,
    /// Connections to endpoints.
    pub pool: Pool,
    number: usize,
    #[expect(clippy::redundant_allocation, reason = "cloning the Rc does not touch the count that all workers share")]
    live: RefCell<Rc<Arc<Live>>>,
    dice: RefCell<Dice>,
    /// Routes of the generation in force that have been used here.
    lanes: RefCell<FxHashMap<u32, Rc<Lane>>>,
    /// Lanes with counts that are not in the metrics yet.
    pub unflushed: Unflushed,
    tick: Arc<AtomicU32>,
    /// When this thread was last known to run, and for how long it did not, in all.
    awake_at: Cell<Instant>,
    absent: Cell<Duration>,
    is_finishing: Cell<bool>,
    connections: RefCell<HashMap<u64, Rc<Connection>>>,
    next_connection: Cell<u64>,
}

/// A connection of the app, as its worker sees it.
pub struct Connection {
    /// How far it has come.
    pub progress: Arc<Progress>,
    /// Wakes its task, so that it notices what was decided about it.
    waker: RefCell<Option<Waker>>,
}

impl Worker {
    /// Worker `number` of `shared`.
    pub fn new(shared: Arc<Shared>, number: usize, dial: Box<dyn Dial>) -> Rc<Worker> {
        Rc::new(Worker {
            live: RefCell::new(Rc::new(shared.live())),
            shared,
            pool: Pool::new(dial),
            number,
            dice: RefCell::new(clock::dice()),
            lanes: RefCell::default(),
            unflushed: Unflushed::default(),
            tick: Arc::new(AtomicU32::new(0)),
            awake_at: Cell::new(clock::now()),
            absent: Cell::default(),
            is_finishing: Cell::new(false),
            connections: RefCell::default(),
            next_connection: Cell::new(0),
        })
    }

    /// Serves the connections it is handed until it is told to finish and the last of them has ended.
    pub async fn run(
        self: Rc<Self>,
        mut connections: mpsc::Receiver<StdTcpStream>,
        mut orders: watch::Receiver<Order>,
    ) {
        let mut tick = tokio::time::interval(TICK);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            // Each branch only waits; what it was given is handled whole before the next turn.
            tokio::select! {
                Some(stream) = connections.recv() => self.adopt(stream),
                _ = tick.tick() => self.on_tick(),
                changed = orders.changed() => {
                    // Whoever gave orders is gone: nobody will say more.
                    let order = if changed.is_err() { Order::CutOff } else { *orders.borrow() };
                    self.obey(order);
                    if changed.is_err() {
                        return;
                    }
                }
            }
            if self.is_finishing.get() {
                // Handed over before the order was given, and so taken before it is obeyed.
                while let Ok(stream) = connections.try_recv() {
                    self.adopt(stream);
                }
            }
            if self.is_finishing.get() && self.load().connections.load(Relaxed) == 0 {
                return;
            }
        }
    }

    /// Starts serving one connection.
    pub fn serve(self: &Rc<Self>, stream: Stream) {
        // The task ends with its connection: by the peer, by a limit of the tick, or by an order. A panic in it stays in it.
        tokio::task::spawn_local(server::serve(Rc::clone(self), stream));
    }

    fn adopt(self: &Rc<Self>, stream: StdTcpStream) {
        match tokio::net::TcpStream::from_std(stream) {
            Ok(tcp) => self.serve(Stream::Tcp(tcp)),
            Err(error) => {
                self.load().connections.fetch_sub(1, Relaxed);
                self.shared.tell(&Event::AcceptFailed(&error));
            }
        }
    }

    /// The generation in force.
    pub fn live(&self) -> Rc<Arc<Live>> {
        let mut live = self.live.borrow_mut();
        if live.generation != self.shared.generation() {
            *live = Rc::new(self.shared.live());
            self.lanes.borrow_mut().clear();
        }
        Rc::clone(&live)
    }

    /// The worker's dice.
    pub fn dice(&self) -> RefMut<'_, Dice> {
        self.dice.borrow_mut()
    }

    /// `route` of the generation in force, as this worker sees it.
    pub fn lane(&self, route: &Arc<Route>) -> Rc<Lane> {
        let mut lanes = self.lanes.borrow_mut();
        Rc::clone(lanes.entry(route.id).or_insert_with(|| Lane::new(Arc::clone(route))))
    }

    /// A request begins.
    pub fn begin_request(&self) {
        // Only this worker's thread writes it: no read-modify-write is needed.
        let load = self.load();
        load.begun.store(load.begun.load(Relaxed) + 1, Relaxed);
    }

    /// A request has ended, its body included.
    pub fn end_request(&self) {
        let load = self.load();
        let ended = load.ended.load(Relaxed) + 1;
        load.ended.store(ended, Relaxed);
        if ended == load.begun.load(Relaxed) {
            self.unflushed.flush();
        }
    }

    /// A tunnel begins.
    pub fn begin_tunnel(&self) {
        self.load().tunnels.fetch_add(1, Relaxed);
    }

    /// A tunnel has ended.
    pub fn end_tunnel(&self) {
        self.load().tunnels.fetch_sub(1, Relaxed);
    }

    /// How busy this worker is.
    pub fn load(&self) -> &Load {
        &self.shared.workers[self.number]
    }

    /// How long this worker has been stopped or starved in all, as far as it has noticed.
    pub fn absent(&self) -> Duration {
        self.absent.get()
    }

    /// Notices that time has passed without it.
    pub fn wake_up(&self, now: Instant) {
        let since = now.saturating_duration_since(self.awake_at.replace(now));
        if since > ABSENT_MIN {
            self.absent.set(self.absent.get() + since);
        }
    }

    /// The coarse clock of this worker's connections.
    pub fn tick(&self) -> Arc<AtomicU32> {
        Arc::clone(&self.tick)
    }

    /// Whether connections are to be closed as soon as they are idle.
    pub fn is_finishing(&self) -> bool {
        self.is_finishing.get()
    }

    /// Enters a connection into the list that the tick looks at.
    pub fn enlist(&self, progress: Arc<Progress>) -> (u64, Rc<Connection>) {
        let number = self.next_connection.get();
        self.next_connection.set(number + 1);
        let connection = Rc::new(Connection { progress, waker: RefCell::new(None) });
        self.connections.borrow_mut().insert(number, Rc::clone(&connection));
        (number, connection)
    }

    /// Takes it out again.
    pub fn delist(&self, number: u64) {
        self.connections.borrow_mut().remove(&number);
        self.load().connections.fetch_sub(1, Relaxed);
    }

    fn on_tick(&self) {
        let tick = self.tick.load(Relaxed).wrapping_add(1);
        self.tick.store(tick, Relaxed);
        self.unflushed.flush();
        let now = clock::now();
        self.wake_up(now);
        self.pool.reap(now);
        if self.is_finishing() {
            // Each of them looks for itself whether it is to end now.
            self.connections.borrow().values().for_each(|connection| connection.wake());
        }
        if tick.is_multiple_of(TICKS_PER_LOOK) {
            let live = self.live();
            for connection in self.connections.borrow().values() {
                if let Some(why) = overdue(&connection.progress, &live) {
                    connection.progress.end(why);
                    connection.wake();
                } else if connection.progress.is_watched() {
                    connection.wake();
                }
            }
        }
    }

    fn obey(&self, order: Order) {
        if order == Order::Serve {
            return;
        }
        self.is_finishing.set(true);
        self.pool.close();
        for connection in self.connections.borrow().values() {
            if order == Order::CutOff {
                connection.progress.end(Ending::CutOff);
            }
            connection.wake();
        }
    }
}

impl Connection {
    /// Whom to wake.
    pub fn remember(&self, waker: &Waker) {
        let mut known = self.waker.borrow_mut();
        if !known.as_ref().is_some_and(|known| known.will_wake(waker)) {
            *known = Some(waker.clone());
        }
    }

    fn wake(&self) {
        if let Some(waker) = &*self.waker.borrow() {
            waker.wake_by_ref();
        }
    }
}

/// Why a connection has to end now, if it has.
fn overdue(progress: &Progress, live: &Live) -> Option<Ending> {
    let listen = &live.config.listen;
    let (limit, why) = match progress.phase() {
        Phase::Idle if progress.is_blocked() => (progress.body_limit_ticks(), Ending::CallerStalled),
        Phase::Idle => (ticks(listen.idle_timeout), Ending::Idle),
        Phase::Head => (ticks(listen.head_timeout), Ending::SlowHead),
        Phase::Exchange => return None,
        Phase::Body => (progress.body_limit_ticks(), progress.stalled_side()),
        Phase::Tunnel => (progress.body_limit_ticks(), Ending::TunnelIdle),
    };
    (progress.ticks_still() >= limit).then_some(why)
}

/// A time in ticks, rounded up.
pub fn ticks(time: Duration) -> u32 {
    u32::try_from(time.as_millis().div_ceil(TICK.as_millis())).unwrap_or(u32::MAX)
}
