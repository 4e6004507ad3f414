//! Driving an endpoint's connection from inside the request that uses it.
//!
//! hyper's connection is a future that somebody has to poll. A task of its own would cost a request two more trips through the scheduler; so whoever waits
//! for something of the connection drives it while waiting. The connection wakes a [`Bell`]: it remembers that it rang, and passes the ring on only
//! while somebody waits. Rings that driving itself causes stay within; between two requests nobody is woken at all, and the bell tells at the next use
//! whether the endpoint has closed or said something unasked.

use std::pin::Pin;
use std::sync::atomic::AtomicU8;
use std::sync::atomic::Ordering::{AcqRel, Acquire, Release};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Wake, Waker};

/// Turns that a connection may take while somebody waits for it, before other tasks have theirs.
const TURNS_MAX: u32 = 8;

/// A connection and the bell it rings.
pub(super) struct Driven<C> {
    /// `None` once it is over.
    connection: Option<C>,
    bell: Arc<Bell>,
    waker: Waker,
}

/// What a connection wakes. One thread uses it; it is `Sync` because wakers are.
struct Bell {
    state: AtomicU8,
    listener: Mutex<Option<Waker>>,
}

/// Nobody waits, nothing happened.
const QUIET: u8 = 0;
/// A task waits for the next ring.
const AWAITED: u8 = 1;
/// Something happened since the connection was last polled.
const RUNG: u8 = 2;

impl<C: Future + Unpin> Driven<C> {
    /// A connection that has not been polled yet.
    pub(super) fn new(connection: C) -> Driven<C> {
        let bell = Arc::new(Bell { state: AtomicU8::new(RUNG), listener: Mutex::new(None) });
        Driven { connection: Some(connection), waker: Waker::from(Arc::clone(&bell)), bell }
    }

    /// Polls `work`, which waits for something of the connection, and lets the connection go on as long as one moves the other.
    pub(super) fn poll_with<T>(
        &mut self,
        cx: &mut Context<'_>,
        mut work: impl FnMut(&mut Context<'_>) -> Poll<T>,
    ) -> Poll<T> {
        for _ in 0..TURNS_MAX {
            // Under the bell too: what the connection hands over rings here, and does not wake the task that is running already.
            let polled = work(&mut Context::from_waker(&self.waker));
            if polled.is_ready() {
                return polled;
            }
            self.bell.set_listener(cx.waker());
            if self.bell.wait() {
                return Poll::Pending;
            }
            self.drive();
        }
        // Not done, but others have waited long enough. It may be tokio that stopped the connection, for the same reason.
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    /// Lets the connection notice what happened while nobody waited. Cheap if nothing did.
    pub(super) fn catch_up(&mut self) {
        if self.bell.state.load(Acquire) == RUNG {
            self.drive();
        }
    }

    fn drive(&mut self) {
        // Quiet first: what happens from here on rings anew.
        self.bell.state.store(QUIET, Release);
        if let Some(connection) = &mut self.connection
            && Pin::new(connection).poll(&mut Context::from_waker(&self.waker)).is_ready()
        {
            self.connection = None;
        }
    }
}

/// Drives the connection to its end.
impl<C: Future + Unpin> Future for Driven<C> {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let this = &mut *self;
        this.connection.as_mut().map_or(Poll::Ready(()), |connection| Pin::new(connection).poll(cx).map(|_| ()))
    }
}

impl Bell {
    fn set_listener(&self, waker: &Waker) {
        let mut listener = self.listener.lock().unwrap_or_else(PoisonError::into_inner);
        match &mut *listener {
            Some(listener) => listener.clone_from(waker), // no copy if it is the same
            None => *listener = Some(waker.clone()),
        }
    }

    /// Whether there is something to wait for: nothing has happened yet.
    fn wait(&self) -> bool {
        self.state.compare_exchange(QUIET, AWAITED, AcqRel, Acquire).map_or_else(|now| now == AWAITED, |_| true)
    }
}

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        if self.state.swap(RUNG, AcqRel) == AWAITED {
            let listener = self.listener.lock().unwrap_or_else(PoisonError::into_inner);
            listener.iter().for_each(Waker::wake_by_ref);
        }
    }
}
