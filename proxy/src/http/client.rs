//! Connections to endpoints: one pool per worker, without a lock.
//!
//! A connection is taken from the pool (the last one put back is the first one taken, so that the others may age and go) or made; it carries one exchange at a
//! time and comes back only after that exchange ended exactly: answer read to its end, nothing broken off. Nothing here retries.

use std::cell::{Cell, RefCell};
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use outrigger_policy::outcome::Outcome;
use rustc_hash::FxHashMap;
use rustix::io::Errno;
use tokio::net::TcpStream;

use super::conn::{Conn, SendFailure};
use super::io::Stream;
use crate::clock;
use crate::config;
use crate::error::ProxyError;
use crate::upstream::Endpoint;

/// A request that must not be sent twice takes no connection that has been idle for longer: the endpoint may be closing it at this moment.
const UNREPEATABLE_IDLE_MAX: Duration = Duration::from_secs(1);
/// An endpoint that announces when it closes idle connections is believed, less this.
const KEEP_ALIVE_MARGIN: Duration = Duration::from_secs(1);

/// How a connection is made; tests put an in-memory network in its place.
pub trait Dial {
    /// Connects to `address`.
    fn dial(&self, address: SocketAddr) -> Pin<Box<dyn Future<Output = io::Result<Stream>>>>;
}

/// The real network.
pub struct Tcp;

impl Dial for Tcp {
    fn dial(&self, address: SocketAddr) -> Pin<Box<dyn Future<Output = io::Result<Stream>>>> {
        Box::pin(async move {
            let tcp = TcpStream::connect(address).await?;
            tcp.set_nodelay(true)?;
            Ok(Stream::Tcp(tcp))
        })
    }
}

/// A worker's idle connections, and how it makes new ones.
pub struct Pool {
    dial: Box<dyn Dial>,
    idle: RefCell<FxHashMap<u64, Vec<Idle>>>,
    /// Nothing will be asked for any more.
    is_closed: Cell<bool>,
}

struct Idle {
    conn: Conn,
    since: Instant,
    expires_at: Instant,
}

/// Which pooled connections may be taken.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Reuse {
    /// Any that still lives.
    Any,
    /// Only one that was busy a moment ago: the request cannot be repeated.
    Fresh,
}

/// Whether the system had no socket for us, before anything went to the endpoint: no descriptors, no memory, no port.
fn is_our_own(error: &io::Error) -> bool {
    let lacks = [Errno::MFILE, Errno::NFILE, Errno::NOBUFS, Errno::NOMEM, Errno::ADDRNOTAVAIL];
    lacks.iter().any(|lack| error.raw_os_error() == Some(lack.raw_os_error()))
}

impl Pool {
    /// An empty pool.
    pub fn new(dial: Box<dyn Dial>) -> Pool {
        Pool { dial, idle: RefCell::default(), is_closed: Cell::new(false) }
    }

    /// The connection last put back that still lives.
    pub fn take(&self, endpoint: &Endpoint, reuse: Reuse, now: Instant) -> Option<Conn> {
        let mut idle = self.idle.borrow_mut();
        let waiting = idle.get_mut(&endpoint.id)?;
        while let Some(Idle { mut conn, since, expires_at }) = waiting.pop() {
            endpoint.idle.fetch_sub(1, Relaxed);
            if !conn.is_alive() || now >= expires_at {
                continue;
            }
            if reuse == Reuse::Fresh && now.saturating_duration_since(since) > UNREPEATABLE_IDLE_MAX {
                // Still good for others, and all below it are older.
                endpoint.idle.fetch_add(1, Relaxed);
                waiting.push(Idle { conn, since, expires_at });
                return None;
            }
            return Some(conn);
        }
        None
    }

    /// Makes a connection.
    ///
    /// # Errors
    /// The outcome is always one that proves that nothing was sent.
    pub async fn connect(&self, endpoint: &Arc<Endpoint>, timeout: Duration) -> Result<Conn, SendFailure> {
        let started = clock::now();
        let failed = |error| SendFailure { outcome: Outcome::ConnectFailed, error };
        let stream = match clock::until(started + timeout, self.dial.dial(endpoint.address)).await {
            None => return Err(failed(ProxyError::ConnectTimeout)),
            Some(Err(error)) if error.kind() == io::ErrorKind::ConnectionRefused => {
                return Err(failed(ProxyError::ConnectRefused));
            }
            // Nobody was asked: neither the endpoint nor the call has failed.
            Some(Err(error)) if is_our_own(&error) => {
                return Err(SendFailure { outcome: Outcome::Unsent, error: ProxyError::NoSocket });
            }
            Some(Err(_)) => return Err(failed(ProxyError::ConnectFailed)),
            Some(Ok(stream)) => stream,
        };
        Ok(Conn::new(stream, endpoint, started))
    }

    /// Keeps `conn` for the next request, if it may be kept.
    pub fn put_back(&self, mut conn: Conn, limits: &config::Pool, keep_alive: Option<Duration>, now: Instant) {
        let hinted = keep_alive.map(|hint| hint.saturating_sub(KEEP_ALIVE_MARGIN));
        let idle_time = hinted.unwrap_or(limits.idle_timeout).min(limits.idle_timeout);
        let expires_at = (now + idle_time).min(conn.born() + limits.age_max);
        if self.is_closed.get() || !conn.is_reusable() || expires_at <= now {
            return;
        }
        let mut idle = self.idle.borrow_mut();
        let waiting = idle.entry(conn.endpoint().id).or_default();
        if waiting.len() < limits.idle_max {
            conn.release_buffer();
            conn.endpoint().idle.fetch_add(1, Relaxed);
            waiting.push(Idle { conn, since: now, expires_at });
        }
    }

    /// Closes what has waited too long or was closed by the endpoint.
    pub fn reap(&self, now: Instant) {
        self.idle.borrow_mut().retain(|_, waiting| {
            waiting.retain_mut(|idle| {
                let is_kept = idle.conn.is_alive() && now < idle.expires_at;
                if !is_kept {
                    idle.conn.endpoint().idle.fetch_sub(1, Relaxed);
                }
                is_kept
            });
            !waiting.is_empty()
        });
    }

    /// Closes all idle connections, and from now on those that would become idle.
    pub fn close(&self) {
        self.is_closed.set(true);
        for idle in self.idle.borrow_mut().drain().flat_map(|(_, waiting)| waiting) {
            idle.conn.endpoint().idle.fetch_sub(1, Relaxed);
        }
    }
}
