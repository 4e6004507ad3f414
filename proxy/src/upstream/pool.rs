//! Connections to endpoints: one pool per worker, without a lock.
//!
//! The pool lends a [`Stream`] for one exchange, over an idle connection or a new one. The connection given back last is taken first, so that the others can
//! age and close. After the exchange the pool takes the stream back. It keeps the connection only if the response was read to its exact end and nothing broke
//! off. Nothing here retries.

use std::cell::{Cell, RefCell};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use rustc_hash::FxHashMap;

use super::connect::{self, Dial};
use super::endpoint::Endpoint;
use super::stream::{SendFailure, Stream};
use crate::clock;
use crate::config;

/// A request that is not idempotent takes no connection that has been idle for longer, because the endpoint may be closing it at this moment.
const NOT_IDEMPOTENT_IDLE_MAX: Duration = Duration::from_secs(1);
/// How much earlier than the endpoint announces a connection counts as too old.
const KEEP_ALIVE_MARGIN: Duration = Duration::from_secs(1);

/// A worker's idle connections, and how it makes new ones.
pub struct Pool {
    dial: Box<dyn Dial>,
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
    /// An empty pool.
    pub fn new(dial: Box<dyn Dial>) -> Pool {
        Pool { dial, idle: RefCell::default(), is_closed: Cell::new(false) }
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
        let bytes = connect::within(self.dial.dial(&endpoint.at), started + timeout).await?;
        Ok(Stream::http1(bytes, endpoint, started))
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
        for idle in self.idle.borrow_mut().drain().flat_map(|(_, waiting)| waiting) {
            idle.stream.endpoint().at.idle.fetch_sub(1, Relaxed);
        }
    }
}
