//! How many connections to endpoints all workers together may have open, busy and idle ones, over all endpoints.
//!
//! The number is what the descriptors of the process leave when the connections of the app and the proxy's own files have theirs. A worker that needs another
//! connection beyond it closes an idle one first: its own that has been idle for longest, or else it asks the other workers, which look at each of their ticks.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::atomic::{AtomicBool, AtomicUsize};

/// How many idle connections are closed for one that was asked for in vain, so that the next ones need not ask.
const ASKED: usize = 8;

/// The sockets of all workers.
#[derive(Debug)]
pub struct Sockets {
    open: AtomicUsize,
    max: AtomicUsize,
    /// How many idle connections workers are asked to close.
    asked: AtomicUsize,
    /// Whether the acceptor has no descriptor.
    is_wanted_downstream: AtomicBool,
}

/// One socket, for as long as its connection is being made or is open.
#[derive(Debug)]
pub struct Socket(Arc<Sockets>);

impl Sockets {
    /// Up to `max` of them.
    pub fn new(max: usize) -> Arc<Sockets> {
        Arc::new(Sockets {
            open: AtomicUsize::new(0),
            max: AtomicUsize::new(max),
            asked: AtomicUsize::new(0),
            is_wanted_downstream: AtomicBool::new(false),
        })
    }

    /// Changes the limit. Connections beyond a lower one stay open.
    pub fn set_max(&self, max: usize) {
        self.max.store(max, Relaxed);
    }

    /// How many there may be.
    pub fn max(&self) -> usize {
        self.max.load(Relaxed)
    }

    /// How many there are.
    pub fn open(&self) -> usize {
        self.open.load(Relaxed)
    }

    /// Takes one, if one is left.
    pub(super) fn take(self: &Arc<Sockets>) -> Option<Socket> {
        let taken = Socket(Arc::clone(self));
        // Dropping it gives back what was too much.
        (self.open.fetch_add(1, Relaxed) < self.max()).then_some(taken)
    }

    /// Asks for the descriptor of a connection that has been idle for a while, for one of the app that was not accepted.
    pub fn ask_for_downstream(&self) {
        self.is_wanted_downstream.store(true, Relaxed);
    }

    /// Whether [`Sockets::ask_for_downstream`] was called and no worker has seen it yet.
    pub(super) fn is_asked_for_downstream(&self) -> bool {
        // Read first: a worker's tick must not write what all of them share.
        self.is_wanted_downstream.load(Relaxed) && self.is_wanted_downstream.swap(false, Relaxed)
    }

    /// Asks all workers to close idle connections at their next tick, whatever their age, for one of another worker.
    pub(super) fn ask(&self) {
        self.asked.fetch_max(ASKED, Relaxed);
    }

    /// Whether a worker should close an idle connection.
    pub(super) fn is_asked(&self) -> bool {
        self.asked.load(Relaxed) > 0
    }

    /// An idle connection was closed because of [`Sockets::ask`].
    pub(super) fn answered(&self) {
        // Another worker may have been faster; then nothing is left to subtract.
        let _ = self.asked.fetch_update(Relaxed, Relaxed, |asked| asked.checked_sub(1));
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        self.0.open.fetch_sub(1, Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_was_asked_for_is_answered_once() {
        let sockets = Sockets::new(0);
        assert!(!sockets.is_asked());
        sockets.ask();
        sockets.ask();
        for _ in 0..ASKED {
            assert!(sockets.is_asked());
            sockets.answered();
        }
        sockets.answered();
        assert!(!sockets.is_asked(), "not below nothing");
        sockets.ask_for_downstream();
        assert!(sockets.is_asked_for_downstream() && !sockets.is_asked_for_downstream());
    }

    proptest! {
        #[test]
        fn there_are_never_more_than_the_limit_and_every_one_comes_back(steps in prop::collection::vec(any::<bool>(), 0..60), max in 0_usize..8) {
            let sockets = Sockets::new(max);
            let mut held = Vec::new();
            for takes in steps {
                if takes {
                    let had = held.len();
                    let taken = sockets.take();
                    prop_assert_eq!(taken.is_some(), had < max);
                    held.extend(taken);
                } else {
                    held.pop();
                }
                prop_assert_eq!(sockets.open(), held.len());
            }
            held.clear();
            prop_assert_eq!(sockets.open(), 0);
        }
    }
}
