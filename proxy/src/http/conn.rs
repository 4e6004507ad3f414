//! A connection to an endpoint, as the pool keeps it: the HTTP/1.1 connection, where it goes, and since when it is open.
//!
//! What went wrong with a request is said here in the words of the policies and of the caller, at one place: [`SendFailure`].

use std::ops::{Deref, DerefMut};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Instant;

use outrigger_http1::client::{ClientConn, SendError, SendErrorKind};
use outrigger_http1::parse::Refusal;
use outrigger_policy::outcome::Outcome;

use super::body::Replay;
use super::io::Stream;
use crate::error::ProxyError;
use crate::upstream::Endpoint;

/// A connection to an endpoint, which counts it as long as it is open; dropped, it is closed at once.
pub struct Conn(Box<Parts>);

struct Parts {
    http: ClientConn<Stream, Replay>,
    endpoint: Counted,
    born: Instant,
}

/// An attempt that got no answer's head.
pub struct SendFailure {
    /// For the policies.
    pub outcome: Outcome,
    /// For the caller.
    pub error: ProxyError,
}

impl Conn {
    /// Over a `stream` that has just been connected to `endpoint`.
    pub fn new(stream: Stream, endpoint: &Arc<Endpoint>, born: Instant) -> Conn {
        Conn(Box::new(Parts { http: ClientConn::new(stream), endpoint: Counted::new(endpoint), born }))
    }

    /// Where it goes.
    pub fn endpoint(&self) -> &Endpoint {
        &self.0.endpoint.0
    }

    /// When it was made.
    pub fn born(&self) -> Instant {
        self.0.born
    }
}

impl Deref for Conn {
    type Target = ClientConn<Stream, Replay>;

    fn deref(&self) -> &ClientConn<Stream, Replay> {
        &self.0.http
    }
}

impl DerefMut for Conn {
    fn deref_mut(&mut self) -> &mut ClientConn<Stream, Replay> {
        &mut self.0.http
    }
}

impl From<SendError> for SendFailure {
    fn from(SendError { kind, wrote, read, reused }: SendError) -> SendFailure {
        let (outcome, error) = match kind {
            SendErrorKind::Malformed(Refusal::UnexpectedUpgrade) => (Outcome::Garbled, ProxyError::UnaskedUpgrade),
            SendErrorKind::Malformed(_) => (Outcome::Garbled, ProxyError::Garbled),
            // The caller's fault first: it may well show before a byte was written.
            SendErrorKind::Body => (Outcome::CallerFault, ProxyError::CallerBodyBroken),
            SendErrorKind::Closed if !wrote => (Outcome::Unsent, ProxyError::Reset),
            SendErrorKind::Closed if read => (Outcome::Garbled, ProxyError::Garbled),
            SendErrorKind::Closed => (Outcome::Reset { reused }, ProxyError::Reset),
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
