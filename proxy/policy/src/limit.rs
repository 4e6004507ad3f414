//! The limit on the requests that an upstream has in flight, and on those that wait.
//!
//! A request that sleeps before a retry, or waits for an endpoint, is not at the upstream, so it holds no slot. It exchanges its [`Slot`] for a place among the
//! waiting requests ([`Waiting`]), which have a limit of their own. When it goes on, it needs a slot again. If none is free, it queues for one: every
//! slot that is given back goes to the queue in the order of arrival, and a new request finds one only if there is one for everybody in the queue too.
//!
//! All cores and all generations of configuration share the counts. A reload changes the limit but not the counts: a request that has a slot keeps it, and the queue goes by
//! the limit in force, whichever generation its requests are of.
//!
//! **Cores.** A request that does not wait takes and gives back its slot with one atomic step each. The mutex is locked only by requests that have waited, and by
//! one that gives its slot back while the queue is not empty. Nothing here waits: whoever queues leaves a [`Waker`].

use std::collections::BTreeMap;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::atomic::{AtomicU32, AtomicU64};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

/// One slot, and one request in the queue, in [`InFlight::counts`].
const SLOT: u64 = 1;
const QUEUED: u64 = 1 << 32;

/// Requests in flight, and requests that wait.
#[derive(Debug)]
pub struct InFlight {
    /// How many slots there are for the queue.
    max: AtomicU32,
    /// Slots in the lower half, requests in the queue in the upper one: a new request has to see both at once.
    counts: AtomicU64,
    /// Requests that wait, those in the queue included.
    waiting: AtomicU32,
    /// Changes together with its count in `counts`, under this lock.
    queue: Mutex<Queue>,
}

/// Requests that have waited and need a slot again, in the order in which they asked.
#[derive(Debug, Default)]
struct Queue {
    next: u64,
    wakers: BTreeMap<u64, Waker>,
}

/// A place among the requests in flight. Its drop gives it back.
#[derive(Debug)]
#[must_use = "a slot that is dropped is given back at once"]
pub struct Slot(Arc<InFlight>);

/// A place among the requests that wait. Its drop gives it back, and with it the place in the queue, or a slot that was granted and not taken.
#[derive(Debug)]
#[must_use = "a place that is dropped is given back at once"]
pub struct Waiting {
    of: Arc<InFlight>,
    /// The place in the queue. A slot has been granted when the queue does not have it any more.
    ticket: Option<u64>,
}

impl InFlight {
    /// None in flight, of at most `max`.
    pub fn new(max: u32) -> Arc<InFlight> {
        let (counts, waiting, queue) = (AtomicU64::new(0), AtomicU32::new(0), Mutex::default());
        Arc::new(InFlight { max: AtomicU32::new(max), counts, waiting, queue })
    }

    /// Another limit is in force. The queue gets the slots that a higher one adds.
    pub fn set_max(&self, max: u32) {
        self.max.store(max, Relaxed);
        self.grant();
    }

    /// Takes a slot, unless `max` are taken or due to the requests in the queue.
    pub fn enter(self: &Arc<Self>, max: u32) -> Option<Slot> {
        let is_free = |counts: u64| slots(counts).saturating_add(queued(counts)) < max;
        let entered = self.counts.fetch_update(Relaxed, Relaxed, |counts| is_free(counts).then_some(counts + SLOT));
        entered.ok().map(|_| Slot(Arc::clone(self)))
    }

    /// Takes a place among the waiting requests, unless `max` are taken.
    pub fn wait(self: &Arc<Self>, max: u32) -> Option<Waiting> {
        let entered = self.waiting.fetch_update(Relaxed, Relaxed, |waiting| (waiting < max).then_some(waiting + 1));
        entered.ok().map(|_| Waiting { of: Arc::clone(self), ticket: None })
    }

    /// Requests in flight now.
    pub fn count(&self) -> u32 {
        slots(self.counts.load(Relaxed))
    }

    /// Requests that wait now, those in the queue for a slot included.
    pub fn waiting(&self) -> u32 {
        self.waiting.load(Relaxed)
    }

    /// Adds a request to the queue; its ticket.
    fn queue_up(&self) -> u64 {
        let mut queue = self.queue();
        let ticket = queue.next;
        queue.next += 1;
        queue.wakers.insert(ticket, Waker::noop().clone());
        self.counts.fetch_add(QUEUED, Relaxed);
        ticket
    }

    /// Removes a request from the queue. False if it is not there any more, because it was granted a slot.
    fn leave_queue(&self, ticket: u64) -> bool {
        let mut queue = self.queue();
        let was_queued = queue.wakers.remove(&ticket).is_some();
        if was_queued {
            self.counts.fetch_sub(QUEUED, Relaxed);
        }
        was_queued
    }

    /// Gives the free slots to the first requests in the queue.
    fn grant(&self) {
        while let Some(waker) = self.grant_one() {
            waker.wake(); // without the lock
        }
    }

    fn grant_one(&self) -> Option<Waker> {
        let mut queue = self.queue();
        let first = queue.wakers.first_entry()?;
        let max = self.max.load(Relaxed);
        let granted = self.counts.fetch_update(Relaxed, Relaxed, |counts| {
            (slots(counts) < max).then(|| counts + SLOT - QUEUED) // it leaves the queue with its slot
        });
        granted.ok().map(|_| first.remove())
    }

    fn queue(&self) -> MutexGuard<'_, Queue> {
        // No panic can come between two changes under the lock.
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Waiting {
    /// Takes a slot, if one is free and nobody else has waited for it longer. Without one, the request is in the queue from now on; [`Waiting::poll_slot`] says when
    /// to ask again.
    pub fn resume(&mut self) -> Option<Slot> {
        if self.ticket.is_none() {
            self.ticket = Some(self.of.queue_up());
            self.of.grant();
        }
        if self.is_queued() {
            return None;
        }
        self.ticket = None;
        Some(Slot(Arc::clone(&self.of)))
    }

    /// Ready when [`Waiting::resume`] gives a slot. A request that has not asked for one is never ready.
    pub fn poll_slot(&self, cx: &mut Context<'_>) -> Poll<()> {
        let Some(ticket) = self.ticket else { return Poll::Pending };
        match self.of.queue().wakers.get_mut(&ticket) {
            None => Poll::Ready(()),
            Some(waker) => {
                waker.clone_from(cx.waker());
                Poll::Pending
            }
        }
    }

    fn is_queued(&self) -> bool {
        self.ticket.is_some_and(|ticket| self.of.queue().wakers.contains_key(&ticket))
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        let before = self.0.counts.fetch_sub(SLOT, Relaxed);
        if queued(before) > 0 {
            self.0.grant();
        }
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        self.of.waiting.fetch_sub(1, Relaxed);
        let Some(ticket) = self.ticket else { return };
        if !self.of.leave_queue(ticket) {
            // The slot that was granted goes to the next in the queue.
            drop(Slot(Arc::clone(&self.of)));
        }
    }
}

fn slots(counts: u64) -> u32 {
    counts as u32 // the lower half
}

fn queued(counts: u64) -> u32 {
    (counts >> 32) as u32
}

#[cfg(test)]
mod tests;
