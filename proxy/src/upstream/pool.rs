//! Connections to endpoints: one pool per worker, without a lock.
//!
//! The pool lends a [`Stream`] for one exchange, over an idle connection or a new one. The connection given back last is taken first, so that the others can
//! age and close. After the exchange the pool takes the stream back. It keeps the connection only if the response was read to its exact end and nothing broke
//! off. Nothing here retries.
//!
//! There may be many endpoints, so the connections over all of them are bounded too ([`Sockets`]): where none is left, the connection that has been idle for
//! longest is closed, whatever its endpoint.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use outrigger_http1::transport::Room;
use outrigger_policy::outcome::Outcome;
use rustc_hash::FxHashMap;

use super::connect::{self, Dial};
use super::endpoint::Endpoint;
use super::sockets::{Socket, Sockets};
use super::stream::{SendFailure, Stream};
use crate::clock;
use crate::config;
use crate::error::ProxyError;

/// A request that is not idempotent takes no connection that has been idle for longer, because the endpoint may be closing it at this moment.
const NOT_IDEMPOTENT_IDLE_MAX: Duration = Duration::from_secs(1);
/// How much earlier than the endpoint announces a connection counts as too old.
const KEEP_ALIVE_MARGIN: Duration = Duration::from_secs(1);
/// How long other workers get to close an idle connection for one of this worker: they look ten times a second.
const ASKED_WAIT: Duration = Duration::from_millis(150);

/// A worker's idle connections, and how it makes new ones.
pub struct Pool {
    dial: Box<dyn Dial>,
    sockets: Arc<Sockets>,
    room: Rc<dyn Room>,
    idle: RefCell<FxHashMap<u64, Vec<Idle>>>,
    /// Whether the pool keeps no more idle connections.
    is_closed: Cell<bool>,
}

struct Idle {
    stream: Stream,
    since: Instant,
    expires_at: Instant,
}

/// Which pooled connections may be taken.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Reuse {
    /// Any that is still alive.
    Any,
    /// Only one that was in use a moment ago, because the request is not idempotent.
    Fresh,
}

impl Pool {
    /// An empty pool. It connects by `dial` as long as `sockets` are left, and its connections read as much at once as `room` says.
    pub fn new(dial: Box<dyn Dial>, sockets: Arc<Sockets>, room: Rc<dyn Room>) -> Pool {
        Pool { dial, sockets, room, idle: RefCell::default(), is_closed: Cell::new(false) }
    }

    /// A stream over the connection last given back that is still alive and that `reuse` allows.
    pub fn reuse(&self, endpoint: &Endpoint, reuse: Reuse, now: Instant) -> Option<Stream> {
        let mut idle = self.idle.borrow_mut();
        let waiting = idle.get_mut(&endpoint.id)?;
        while let Some(Idle { mut stream, since, expires_at }) = waiting.pop() {
            endpoint.at.idle.fetch_sub(1, Relaxed);
            if !stream.is_alive() || now >= expires_at {
                continue;
            }
            if reuse == Reuse::Fresh && now.saturating_duration_since(since) > NOT_IDEMPOTENT_IDLE_MAX {
                // It is still good for other requests, and all below it are older.
                endpoint.at.idle.fetch_add(1, Relaxed);
                waiting.push(Idle { stream, since, expires_at });
                return None;
            }
            return Some(stream);
        }
        None
    }

    /// A stream over a new connection to `endpoint`.
    ///
    /// # Errors
    /// The outcome is always one that proves that nothing was sent.
    pub async fn connect(&self, endpoint: &Arc<Endpoint>, timeout: Duration) -> Result<Stream, SendFailure> {
        let started = clock::now();
        let until = started + timeout;
        let socket = self
            .socket(until)
            .await
            .ok_or(SendFailure { outcome: Outcome::NoLocalSocket, error: ProxyError::NoLocalSocket })?;
        let mut dialed = connect::within(self.dial.dial(&endpoint.at), until).await;
        // Others may have taken the descriptors that were counted on.
        if matches!(&dialed, Err(failure) if failure.outcome == Outcome::NoLocalSocket) && self.close_oldest() {
            dialed = connect::within(self.dial.dial(&endpoint.at), until).await;
        }
        Ok(Stream::http1(dialed?, endpoint, socket, started).reading(&self.room))
    }

    /// A socket for another connection, for which an idle one is closed if need be.
    async fn socket(&self, until: Instant) -> Option<Socket> {
        loop {
            if let Some(socket) = self.sockets.take() {
                return Some(socket);
            }
            if !self.close_oldest() {
                break;
            }
        }
        self.sockets.ask();
        clock::sleep_until((clock::now() + ASKED_WAIT).min(until)).await;
        self.sockets.take()
    }

    /// Closes the connection that has been idle for longest. Returns whether there was one.
    pub fn close_oldest(&self) -> bool {
        let mut idle = self.idle.borrow_mut();
        // In each list the first is the oldest. This looks at every endpoint, which is rare enough.
        let oldest = idle.values_mut().filter(|waiting| !waiting.is_empty()).min_by_key(|waiting| waiting[0].since);
        let Some(waiting) = oldest else { return false };
        waiting.remove(0).stream.endpoint().at.idle.fetch_sub(1, Relaxed);
        true
    }

    /// Closes idle connections that another worker or the acceptor needs the sockets of. The acceptor gets none that was in use a moment ago, because that one
    /// serves a connection that has been accepted.
    pub fn close_asked(&self, now: Instant) {
        while self.sockets.is_asked() && self.close_oldest() {
            self.sockets.answered();
        }
        if self.sockets.is_asked_for_downstream() {
            let oldest = self.idle.borrow().values().filter_map(|waiting| Some(waiting.first()?.since)).min();
            if oldest.is_some_and(|since| now.saturating_duration_since(since) > NOT_IDEMPOTENT_IDLE_MAX) {
                self.close_oldest();
            }
        }
    }

    /// Takes back a stream whose exchange is over, and keeps its connection for the next request if it may be kept.
    pub fn give_back(&self, mut stream: Stream, limits: &config::Pool, keep_alive: Option<Duration>, now: Instant) {
        let hinted = keep_alive.map(|hint| hint.saturating_sub(KEEP_ALIVE_MARGIN));
        let idle_time = hinted.unwrap_or(limits.idle_timeout).min(limits.idle_timeout);
        let expires_at = (now + idle_time).min(stream.born() + limits.age_max);
        if self.is_closed.get() || !stream.is_reusable() || expires_at <= now {
            return;
        }
        let mut idle = self.idle.borrow_mut();
        let waiting = idle.entry(stream.endpoint().id).or_default();
        if waiting.len() < limits.idle_max {
            stream.release_buffer();
            stream.endpoint().at.idle.fetch_add(1, Relaxed);
            waiting.push(Idle { stream, since: now, expires_at });
        }
    }

    /// Closes connections that have been idle for too long or that the endpoint has closed.
    pub fn reap(&self, now: Instant) {
        self.idle.borrow_mut().retain(|_, waiting| {
            waiting.retain_mut(|idle| {
                let is_kept = idle.stream.is_alive() && now < idle.expires_at;
                if !is_kept {
                    idle.stream.endpoint().at.idle.fetch_sub(1, Relaxed);
                }
                is_kept
            });
            !waiting.is_empty()
        });
    }

    /// Closes all idle connections, and from now on every connection that becomes idle.
    pub fn close(&self) {
        self.is_closed.set(true);
        self.close_idle();
    }

    /// Closes all idle connections.
    pub fn close_idle(&self) {
        for idle in self.idle.borrow_mut().drain().flat_map(|(_, waiting)| waiting) {
            idle.stream.endpoint().at.idle.fetch_sub(1, Relaxed);
        }
    }
}
