//! The open downstream connections of a worker, and which of them are overdue.
//!
//! The list has each connection with its progress and the waker of its task. The worker's tick goes through it, ends what has stood still for too long, and
//! wakes tasks that wait for something without a waker of its own. Where exchanges share a connection, each of them is an entry.

use std::cell::{Cell, RefCell};
use std::cmp::Reverse;
use std::collections::HashMap;
use std::rc::Rc;
use std::task::Waker;
use std::time::Duration;

use outrigger_http1::transport::Delivery;
use outrigger_policy::upload::Side;

use crate::config::Listen;
use crate::downstream::progress::{Ending, Phase, Progress};
use crate::memory::{Level, Meter};

/// Length of a tick.
pub const TICK: Duration = Duration::from_millis(100);
/// The list is checked once a second: its limits are seconds, and there may be ten thousand entries.
pub const TICKS_PER_LOOK: u32 = 10;
/// What the end of a connection frees at least, in bytes: its task, its buffers where it has some.
const CONNECTION_BYTES: usize = 4 * 1024;
/// At most this share of the connections loses its exchange at once: if something else has the memory, others must go on.
const EXCHANGES_SHARE: usize = 16;
/// What the end of an exchange frees, or of a connection whose client does not read: pieces of bodies on their way.
const EXCHANGE_BYTES: usize = 32 * 1024;

/// The list of open connections.
#[derive(Default)]
pub struct Connections {
    entries: RefCell<HashMap<u64, Rc<Entry>>>,
    next: Cell<u64>,
}

/// A connection, or an exchange that shares one.
pub struct Entry {
    number: u64,
    progress: Rc<Progress>,
    /// Wakes its task, so that it notices what was decided about it.
    waker: RefCell<Option<Waker>>,
    /// Bytes that its end was counted as, if memory asked for its end.
    promised: Cell<usize>,
}

impl Connections {
    /// Adds an entry.
    pub fn enter(&self, progress: Rc<Progress>) -> Rc<Entry> {
        let number = self.next.get();
        self.next.set(number + 1);
        let entry = Rc::new(Entry { number, progress, waker: RefCell::new(None), promised: Cell::new(0) });
        self.entries.borrow_mut().insert(number, Rc::clone(&entry));
        entry
    }

    /// Removes an entry.
    pub fn leave(&self, entry: &Entry, memory: &Meter) {
        self.entries.borrow_mut().remove(&entry.number);
        memory.keep_promise(entry.promised.take());
    }

    /// Ends the connections that deserve their memory least, until enough is promised or none of them is left.
    ///
    /// First heads that have not come whole, the largest first. Then connections whose clients do not read, and idle ones, each by how long they have stood still. A
    /// [`Level::Critical`] ends exchanges as well.
    pub fn shed(&self, memory: &Meter, level: Level) {
        if memory.excess() == 0 {
            return;
        }
        let entries = self.entries.borrow();
        let mut ranked: Vec<_> =
            entries.values().filter_map(|entry| Some((merit(&entry.progress, level)?, entry))).collect();
        ranked.sort_unstable_by_key(|(merit, _)| *merit);
        let mut exchanges = entries.len().div_ceil(EXCHANGES_SHARE);
        for (Merit { class, bytes, .. }, entry) in ranked {
            if memory.excess() == 0 || class == Class::Exchange && exchanges == 0 {
                return;
            }
            exchanges -= usize::from(class == Class::Exchange);
            entry.progress.end(Ending::MemoryLimit);
            entry.promised.set(bytes);
            memory.promise(bytes);
            entry.wake();
        }
    }

    /// Wakes every task, so that it checks whether it has to end.
    pub fn wake_all(&self) {
        self.entries.borrow().values().for_each(|entry| entry.wake());
    }

    /// Ends all connections.
    pub fn cut_off(&self) {
        for entry in self.entries.borrow().values() {
            entry.progress.end(Ending::CutOff);
            entry.wake();
        }
    }

    /// Ends the connections that have stood still for too long, and wakes the tasks that only this check wakes. `forgiven` ticks count against none of them.
    pub fn look(&self, limits: &Listen, forgiven: u32) {
        for entry in self.entries.borrow().values() {
            if let Some(why) = overdue(&entry.progress, limits, forgiven) {
                entry.progress.end(why);
                entry.wake();
            } else if entry.progress.is_watched() {
                entry.wake();
            }
        }
    }
}

impl Entry {
    /// Remembers the waker of the task.
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

/// How much a connection deserves its memory; the least ends first.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Merit {
    class: Class,
    /// Within a class: the larger head, and of equal ones the one that has stood still for longer.
    rank: Reverse<(usize, u32)>,
    /// What its end frees.
    bytes: usize,
}

/// From the one that ends first.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Class {
    /// A long head that has not come whole.
    PartialHead,
    /// Its client does not read.
    Blocked,
    /// Between requests, or with little of a head. For a second at least below [`Level::Critical`]: the request of a younger one may be on its way.
    Idle,
    /// An exchange that moves.
    Exchange,
}

/// What the connection deserves; `None` if memory at this `level` does not end it.
fn merit(progress: &Progress, level: Level) -> Option<Merit> {
    let (still, head) = (progress.ticks_still(), progress.head_bytes());
    let (class, size, bytes) = match progress.phase() {
        _ if progress.ending().is_some() => return None,
        Phase::Head if head > CONNECTION_BYTES => (Class::PartialHead, head, head),
        _ if progress.is_blocked() => (Class::Blocked, 0, EXCHANGE_BYTES),
        Phase::Head | Phase::Idle if still < TICKS_PER_LOOK && level < Level::Critical => return None,
        Phase::Head | Phase::Idle => (Class::Idle, 0, CONNECTION_BYTES),
        Phase::Exchange | Phase::Body | Phase::Tunnel if level < Level::Critical => return None,
        Phase::Exchange | Phase::Body | Phase::Tunnel => (Class::Exchange, 0, EXCHANGE_BYTES),
    };
    Some(Merit { class, rank: Reverse((size, still)), bytes })
}

/// Why the connection has to end now, if it has to.
fn overdue(progress: &Progress, limits: &Listen, forgiven: u32) -> Option<Ending> {
    let (limit, why) = match progress.phase() {
        Phase::Idle if progress.is_blocked() => {
            (progress.body_limit_ticks(), Ending::BodyIdleTimeout(Side::Downstream))
        }
        Phase::Idle => (ticks(limits.idle_timeout), Ending::Idle),
        Phase::Head => (ticks(limits.head_timeout), Ending::HeaderTimeout),
        Phase::Exchange => return None,
        Phase::Body => (progress.body_limit_ticks(), Ending::BodyIdleTimeout(progress.awaited_side())),
        Phase::Tunnel => (progress.body_limit_ticks(), Ending::TunnelIdle),
    };
    let is_over = || progress.ticks_still() >= limit.saturating_add(forgiven);
    // A downstream that reads from the kernel's buffer goes forward although nothing is written.
    let is_read_from = matches!(why, Ending::Idle | Ending::TunnelIdle | Ending::BodyIdleTimeout(Side::Downstream));
    if is_over() && is_read_from {
        note_delivery(progress, progress.delivery());
    }
    // An endpoint may read from the kernel's buffer too. Only the task can see that.
    let must_ask = is_over() && matches!(why, Ending::TunnelIdle | Ending::BodyIdleTimeout(Side::Endpoint));
    let was_asked = progress.ask(must_ask);
    (is_over() && (was_asked || !must_ask)).then_some(why)
}

/// Notes when a byte last left for a peer.
pub fn note_delivery(progress: &Progress, delivery: Option<Delivery>) {
    if let Some(delivery) = delivery {
        progress.moved_before(ticks(delivery.still_for));
    }
}

/// A time in ticks, rounded up.
pub fn ticks(time: Duration) -> u32 {
    u32::try_from(time.as_millis().div_ceil(TICK.as_millis())).unwrap_or(u32::MAX)
}
