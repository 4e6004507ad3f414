//! Connections to endpoints: one pool per worker, without a lock.
//!
//! A connection is taken from the pool (the last one put back is the first one taken, so that the others may age and go) or made; it carries one exchange at a
//! time and comes back only after that exchange ended exactly: answer read to its end, nothing broken off. Whoever waits for a connection drives it
//! ([`Driven`]).
//!
//! Nothing here retries. What hyper does not tell about a failure, whether a byte was written and whether one came back, is read from the connection's [`Meter`].

use std::cell::RefCell;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use hyper::body::{Body, Frame, Incoming};
use hyper::client::conn::http1::{self, Connection, SendRequest};
use hyper_util::rt::TokioIo;
use outrigger_policy::outcome::Outcome;
use rustc_hash::FxHashMap;
use tokio::net::TcpStream;

use super::body::Replay;
use super::drive::Driven;
use super::io::{Meter, Stream, Watched};
use crate::clock;
use crate::config;
use crate::error::ProxyError;
use crate::upstream::Endpoint;

/// A head of an answer may be as large as a head of a request by default.
const ANSWER_HEAD_BYTES_MAX: usize = 32 * 1024;
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
}

struct Idle {
    conn: Conn,
    since: Instant,
    expires_at: Instant,
}

/// A connection that carries one exchange; dropped, it is closed at once.
pub struct Conn(Box<Parts>);

struct Parts {
    sender: SendRequest<Replay>,
    driven: Driven<Connection<TokioIo<Watched<Arc<Meter>>>, Replay>>,
    meter: Arc<Meter>,
    endpoint: Counted,
    born: Instant,
    is_reused: bool,
}

/// How long an answer is waited for.
pub trait Patience {
    /// Ready once it is over.
    fn poll_over(&mut self, cx: &mut Context<'_>) -> Poll<SendFailure>;
}

/// An attempt that got no answer's head.
pub struct SendFailure {
    /// For the policies.
    pub outcome: Outcome,
    /// For the caller.
    pub error: ProxyError,
}

/// Which pooled connections may be taken.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Reuse {
    /// Any that still lives.
    Any,
    /// Only one that was busy a moment ago: the request cannot be repeated.
    Fresh,
}

impl Pool {
    /// An empty pool.
    pub fn new(dial: Box<dyn Dial>) -> Pool {
        Pool { dial, idle: RefCell::default() }
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
            conn.0.meter.reset();
            conn.0.is_reused = true;
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
            Some(Err(_)) => return Err(failed(ProxyError::ConnectFailed)),
            Some(Ok(stream)) => stream,
        };
        let meter = Arc::new(Meter::default());
        let io = TokioIo::new(Watched::new(stream, Arc::clone(&meter)));
        let handshake = http1::Builder::new().max_buf_size(ANSWER_HEAD_BYTES_MAX).handshake(io).await;
        let Ok((mut sender, connection)) = handshake else {
            return Err(failed(ProxyError::ConnectFailed));
        };
        let mut driven = Driven::new(connection);
        if std::future::poll_fn(|cx| driven.poll_with(cx, |cx| sender.poll_ready(cx))).await.is_err() {
            return Err(failed(ProxyError::ConnectFailed));
        }
        let endpoint = Counted::new(endpoint);
        Ok(Conn(Box::new(Parts { sender, driven, meter, endpoint, born: started, is_reused: false })))
    }

    /// Keeps `conn` for the next request, if it may be kept.
    pub fn put_back(&self, mut conn: Conn, limits: &config::Pool, keep_alive: Option<Duration>, now: Instant) {
        let hinted = keep_alive.map(|hint| hint.saturating_sub(KEEP_ALIVE_MARGIN));
        let idle_time = hinted.unwrap_or(limits.idle_timeout).min(limits.idle_timeout);
        let expires_at = (now + idle_time).min(conn.0.born + limits.age_max);
        if !conn.is_ready() || expires_at <= now {
            return;
        }
        let mut idle = self.idle.borrow_mut();
        let endpoint = &conn.0.endpoint.0;
        let waiting = idle.entry(endpoint.id).or_default();
        if waiting.len() < limits.idle_max {
            endpoint.idle.fetch_add(1, Relaxed);
            waiting.push(Idle { conn, since: now, expires_at });
        }
    }

    /// The answer came before its request was whole: lets the upload go on, but not for ever.
    pub fn let_finish(conn: Conn, at_most: Duration) {
        let Parts { sender, driven, endpoint, .. } = *conn.0;
        // Without its sender the connection ends when the upload has.
        drop(sender);
        // The task ends with it, at the latest when its time is over.
        tokio::task::spawn_local(async move {
            let _counted = endpoint;
            let _in_time = clock::until(clock::now() + at_most, driven).await;
        });
    }

    /// Closes what has waited too long or was closed by the endpoint.
    pub fn reap(&self, now: Instant) {
        self.idle.borrow_mut().retain(|_, waiting| {
            waiting.retain_mut(|idle| {
                let is_kept = idle.conn.is_alive() && now < idle.expires_at;
                if !is_kept {
                    idle.conn.0.endpoint.0.idle.fetch_sub(1, Relaxed);
                }
                is_kept
            });
            !waiting.is_empty()
        });
    }

    /// Closes all idle connections.
    pub fn close(&self) {
        for idle in self.idle.borrow_mut().drain().flat_map(|(_, waiting)| waiting) {
            idle.conn.0.endpoint.0.idle.fetch_sub(1, Relaxed);
        }
    }
}

impl Conn {
    /// Whether the last exchange on it has ended exactly, so that another may begin.
    fn is_ready(&mut self) -> bool {
        if !self.0.sender.is_ready() {
            self.0.driven.catch_up();
        }
        self.0.sender.is_ready()
    }

    /// Whether it is still good after a time in which nobody looked.
    fn is_alive(&mut self) -> bool {
        self.0.driven.catch_up();
        self.0.sender.is_ready()
    }

    /// Whether the request is still being sent.
    pub fn is_sending(&self) -> bool {
        !self.0.sender.is_ready() && !self.0.sender.is_closed()
    }

    /// Sends a request and waits for the answer's head as long as `patience` lasts. The connection is lost when this fails or is dropped.
    ///
    /// # Errors
    /// The outcome says what is proven about the request.
    pub async fn send(
        mut self,
        request: http::Request<Replay>,
        patience: &mut impl Patience,
    ) -> Result<(http::Response<Incoming>, Conn), SendFailure> {
        let Parts { sender, driven, .. } = &mut *self.0;
        let mut answer = std::pin::pin!(sender.try_send_request(request));
        // The answer goes first: one that is there is taken even at the last moment.
        let answered = std::future::poll_fn(|cx| match driven.poll_with(cx, |cx| answer.as_mut().poll(cx)) {
            Poll::Ready(answered) => Poll::Ready(Ok(answered)),
            Poll::Pending => patience.poll_over(cx).map(Err),
        });
        match answered.await? {
            Ok(answer) => Ok((answer, self)),
            Err(mut failure) => {
                let was_returned = failure.take_message().is_some();
                Err(self.explain(was_returned, &failure.into_error()))
            }
        }
    }

    /// Polls the body of the answer that came over this connection.
    pub fn poll_frame(
        &mut self,
        cx: &mut Context<'_>,
        body: &mut Incoming,
    ) -> Poll<Option<hyper::Result<Frame<bytes::Bytes>>>> {
        self.0.driven.poll_with(cx, |cx| Pin::new(&mut *body).poll_frame(cx))
    }

    fn explain(&self, was_returned: bool, error: &hyper::Error) -> SendFailure {
        // The caller's fault first: it may well show before a byte was written.
        let (outcome, error) = if error.is_user() {
            (Outcome::CallerFault, ProxyError::CallerBodyBroken)
        } else if was_returned || !self.0.meter.has_written() {
            (Outcome::Unsent, ProxyError::Reset)
        } else if self.0.meter.has_read() {
            (Outcome::Garbled, ProxyError::Garbled)
        } else {
            (Outcome::Reset { reused: self.0.is_reused }, ProxyError::Reset)
        };
        SendFailure { outcome, error }
    }
}

/// One of an endpoint's open connections.
struct Counted(Arc<Endpoint>);

impl Counted {
    fn new(endpoint: &Arc<Endpoint>) -> Counted {
        endpoint.connections.fetch_add(1, Relaxed);
        Counted(Arc::clone(endpoint))
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.connections.fetch_sub(1, Relaxed);
    }
}
