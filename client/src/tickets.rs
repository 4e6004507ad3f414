//! Hands due requests to free workers, as tickets.
//!
//! In open loop a thread of its own waits for each due moment and puts the ticket into a bounded queue. It is a thread
//! because tokio's timers have a grain of a millisecond, which would be added to every latency; the kernel wakes a thread
//! within about 0.1 ms. Workers take tickets in order; what a ticket waits for a free worker is part of its latency.
//! A full queue refuses the newest ticket. In closed loop a worker that asks gets the next number at once.
//!
//! After [`Tickets::close`] nothing new falls due, and what is queued is still handed out, because it was due.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use tokio::sync::Semaphore;

use crate::clock::Clock;
use crate::load::{End, Rate, Ticket};

/// The source of tickets, shared by all workers.
#[derive(Debug)]
pub enum Tickets {
    /// Filled by a [`Pacer`].
    Open(Queue),
    /// Numbers on demand.
    Closed(Counter),
}

impl Tickets {
    /// The next request for a free worker; `None` when there will be no more.
    pub async fn next(&self) -> Option<Ticket> {
        match self {
            Self::Open(queue) => queue.pop().await,
            Self::Closed(counter) => counter.next(),
        }
    }

    /// Nothing more falls due.
    pub fn close(&self) {
        match self {
            Self::Open(queue) => queue.close(),
            Self::Closed(counter) => counter.closed.store(true, Ordering::Relaxed),
        }
    }
}

/// The numbers of closed loop.
#[derive(Debug)]
pub struct Counter {
    /// Raised by every worker that asks.
    next: AtomicU64,
    closed: AtomicBool,
    clock: Clock,
    end: End,
}

impl Counter {
    /// Counts from 0 to the end.
    #[must_use]
    pub fn new(clock: Clock, end: End) -> Self {
        Self { next: AtomicU64::new(0), closed: AtomicBool::new(false), clock, end }
    }

    fn next(&self) -> Option<Ticket> {
        let ticket = Ticket { n: self.next.fetch_add(1, Ordering::Relaxed), due: self.clock.now() };
        let over = self.closed.load(Ordering::Relaxed) || self.end.reached(ticket.n, ticket.due);
        (!over).then_some(ticket)
    }
}

/// The bounded queue of open loop: written by the pacer's thread, read by the workers.
#[derive(Debug)]
pub struct Queue {
    /// Locked for one push or pop.
    waiting: Mutex<VecDeque<Ticket>>,
    /// One permit for each ticket waiting; closed when no more will come.
    ready: Semaphore,
    tickets_max: usize,
}

impl Queue {
    /// An empty queue for at most so many tickets.
    #[must_use]
    pub fn new(tickets_max: usize) -> Self {
        Self { waiting: Mutex::default(), ready: Semaphore::new(0), tickets_max }
    }

    /// `false` if the queue is full: the ticket is refused.
    #[must_use]
    fn push(&self, ticket: Ticket) -> bool {
        let mut waiting = self.waiting.lock().expect("no holder of this lock can panic");
        let room = waiting.len() < self.tickets_max;
        if room {
            waiting.push_back(ticket);
            self.ready.add_permits(1);
        }
        room
    }

    async fn pop(&self) -> Option<Ticket> {
        // An error means closed; what is left is then handed out without permits until the queue is empty.
        if let Ok(permit) = self.ready.acquire().await {
            permit.forget();
        }
        self.waiting.lock().expect("no holder of this lock can panic").pop_front()
    }

    fn close(&self) {
        self.ready.close();
    }
}

/// The thread that puts each ticket into the queue at its due moment. Dropping it ends the thread.
#[derive(Debug)]
pub struct Pacer {
    /// Set once, by drop.
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Pacer {
    /// Begins to pace; closes the tickets at the end. `refused` gets every ticket that found the queue full.
    ///
    /// # Errors
    /// If the system gives no thread.
    pub fn start(
        tickets: Arc<Tickets>,
        clock: Clock,
        rate: Rate,
        end: End,
        refused: impl Fn(Ticket) + Send + 'static,
    ) -> std::io::Result<Self> {
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let pace = move || {
            for n in 0.. {
                let due = rate.due(n);
                if end.reached(n, due) || !wait_until(due, clock, &stopped) {
                    break;
                }
                let ticket = Ticket { n, due };
                if let Tickets::Open(queue) = &*tickets
                    && !queue.push(ticket)
                {
                    refused(ticket);
                }
            }
            tickets.close();
        };
        let thread = thread::Builder::new().name("pacer".to_owned()).spawn(pace)?;
        Ok(Self { stop, thread: Some(thread) })
    }
}

impl Drop for Pacer {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            thread.thread().unpark();
            // Its panic has already been printed, and there is nothing to undo.
            let _ = thread.join();
        }
    }
}

/// Waits for the moment; `false` if the pacer is dropped before.
fn wait_until(due: Duration, clock: Clock, stop: &AtomicBool) -> bool {
    while !stop.load(Ordering::Relaxed) {
        let left = due.saturating_sub(clock.now());
        if left.is_zero() {
            return true;
        }
        thread::park_timeout(left);
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ticket(n: u64) -> Ticket {
        Ticket { n, due: Duration::ZERO }
    }

    #[tokio::test]
    async fn a_full_queue_refuses_the_newest_ticket() {
        let queue = Queue::new(2);
        assert!(queue.push(ticket(0)));
        assert!(queue.push(ticket(1)));
        assert!(!queue.push(ticket(2)));
        assert_eq!(queue.pop().await, Some(ticket(0)));
        assert!(queue.push(ticket(3)));
    }

    #[tokio::test]
    async fn a_closed_queue_hands_out_what_is_left_and_then_ends() {
        let queue = Queue::new(2);
        assert!(queue.push(ticket(0)));
        assert!(queue.push(ticket(1)));
        queue.close();
        assert_eq!(queue.pop().await, Some(ticket(0)));
        assert_eq!(queue.pop().await, Some(ticket(1)));
        assert_eq!(queue.pop().await, None);
    }

    #[tokio::test]
    async fn closed_loop_never_gives_a_number_twice_and_stops_at_the_end() {
        let tickets = Tickets::Closed(Counter::new(Clock::start(), End { after: None, requests: Some(2) }));
        let numbers = [tickets.next().await, tickets.next().await, tickets.next().await].map(|t| t.map(|t| t.n));
        assert_eq!(numbers, [Some(0), Some(1), None]);
    }
}
