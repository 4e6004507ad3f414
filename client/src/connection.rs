//! One HTTP/1.1 connection: made when needed, used for one request at a time, replaced when dead.
//!
//! Built on hyper's bare connection, because a pooled client resends by itself when a connection closes under a request, and then
//! the number of requests sent is no longer the number measured. Here a request is handed to a connection exactly once; if
//! the connection dies under it, that is the request's result. Connecting is part of the exchange and of its latency.
//!
//! It does not look at the status: a response of 500 is a response.

use std::error::Error;
use std::io;
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::client::conn::http1::{self, SendRequest};
use hyper::header::HeaderMap;
use hyper::{Request, StatusCode};
use hyper_util::rt::TokioIo;
use report::run::Failure;
use tokio::net::TcpStream;
use tokio::task::JoinHandle;

use crate::target::Target;

/// The header by which the proxy says how many attempts a response took. Only reported, never acted on.
const ATTEMPTS_HEADER: &str = "outrigger-attempts";

/// What became of one request. A status and a failure together: the response began and did not end well.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Outcome {
    /// From the response's head, if it came.
    pub status: Option<StatusCode>,
    /// From the response's `outrigger-attempts`, if it is a small number.
    pub attempts: Option<u8>,
    /// Absent if the response is complete.
    pub failure: Option<Failure>,
}

impl Outcome {
    /// No response, for this reason.
    #[must_use]
    pub fn failed(failure: Failure) -> Self {
        Self { failure: Some(failure), ..Self::default() }
    }

    /// A complete response of 2xx or 3xx.
    #[must_use]
    pub fn is_success(&self) -> bool {
        self.failure.is_none() && self.status.is_some_and(|status| status.is_success() || status.is_redirection())
    }
}

/// A connection to one peer, possibly not made yet.
#[derive(Debug)]
pub struct Connection {
    peer: Arc<Target>,
    live: Option<Live>,
}

impl Connection {
    /// Will connect to `peer` (the target, or the proxy) when first used.
    #[must_use]
    pub fn new(peer: Arc<Target>) -> Self {
        Self { peer, live: None }
    }

    /// Sends the request once and reads the response to its end, both before the deadline.
    pub async fn exchange(&mut self, request: Request<Full<Bytes>>, deadline: Instant) -> Outcome {
        let mut outcome = Outcome::default();
        let exchange = self.exchange_unbounded(request, &mut outcome);
        outcome.failure = match tokio::time::timeout_at(deadline.into(), exchange).await {
            Ok(Ok(())) => None,
            Ok(Err(failure)) => Some(failure),
            Err(_elapsed) => Some(Failure::Timeout),
        };
        if outcome.failure.is_some() {
            self.live = None;
        }
        outcome
    }

    /// Writes what is known of the response into `outcome` as it comes, so that a timeout does not lose it.
    async fn exchange_unbounded(
        &mut self,
        request: Request<Full<Bytes>>,
        outcome: &mut Outcome,
    ) -> Result<(), Failure> {
        let sender = &mut self.ready().await?.sender;
        let response = sender.send_request(request).await.map_err(|error| classify(&error, Failure::Closed))?;
        outcome.status = Some(response.status());
        outcome.attempts = attempts(response.headers());
        let mut body = response.into_body();
        while let Some(frame) = body.frame().await {
            frame.map_err(|error| classify(&error, Failure::Truncated))?;
        }
        Ok(())
    }

    /// The connection that is open and idle, or a new one. Nothing of the request has been written yet.
    async fn ready(&mut self) -> Result<&mut Live, Failure> {
        let reusable = match self.live.take() {
            Some(mut live) => live.sender.ready().await.is_ok().then_some(live),
            None => None,
        };
        let live = match reusable {
            Some(live) => live,
            None => Live::connect(&self.peer).await?,
        };
        Ok(self.live.insert(live))
    }
}

/// An open connection and the task that drives it; dropping it closes the socket.
#[derive(Debug)]
struct Live {
    sender: SendRequest<Full<Bytes>>,
    driver: JoinHandle<()>,
}

impl Live {
    async fn connect(peer: &Target) -> Result<Self, Failure> {
        let stream = TcpStream::connect(peer.address()).await.map_err(|_| Failure::Refused)?;
        // Without it a request with a body may wait for the peer's delayed ACK: 40 ms that are not the server's.
        stream.set_nodelay(true).map_err(|_| Failure::Reset)?;
        let (sender, connection) =
            http1::handshake(TokioIo::new(stream)).await.map_err(|error| classify(&error, Failure::Closed))?;
        let driver = tokio::spawn(async move {
            // The request under way gets the same error. Without one the error means nothing.
            let _ = connection.await;
        });
        Ok(Self { sender, driver })
    }
}

impl Drop for Live {
    fn drop(&mut self) {
        self.driver.abort();
    }
}

fn attempts(headers: &HeaderMap) -> Option<u8> {
    headers.get(ATTEMPTS_HEADER)?.to_str().ok()?.parse().ok()
}

/// Which failure an error of hyper is; `at_end` is what a connection closed in good order means at this stage.
fn classify(error: &hyper::Error, at_end: Failure) -> Failure {
    let io_kind = std::iter::successors(error.source(), |&inner| inner.source())
        .find_map(|inner| inner.downcast_ref::<io::Error>())
        .map(io::Error::kind);
    match io_kind {
        // A write after the peer's RST gives a broken pipe.
        Some(io::ErrorKind::ConnectionReset | io::ErrorKind::ConnectionAborted | io::ErrorKind::BrokenPipe) => {
            Failure::Reset
        }
        Some(io::ErrorKind::UnexpectedEof) => at_end,
        _ if error.is_incomplete_message() || error.is_canceled() || error.is_closed() => at_end,
        _ => Failure::Protocol,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_complete_response_of_2xx_or_3xx_is_a_success() {
        let check = |status: u16, failure: Option<Failure>, expected: bool| {
            let status = StatusCode::from_u16(status).ok();
            let outcome = Outcome { status, failure, ..Outcome::default() };
            assert_eq!(outcome.is_success(), expected, "{outcome:?}");
        };
        check(200, None, true);
        check(302, None, true);
        check(404, None, false);
        check(503, None, false);
        check(200, Some(Failure::Truncated), false);
        check(0, Some(Failure::Refused), false);
    }

    #[test]
    fn an_attempts_header_that_is_no_small_number_is_not_counted() {
        let check = |value: &'static str, expected: Option<u8>| {
            let headers = HeaderMap::from_iter([(
                hyper::header::HeaderName::from_static(ATTEMPTS_HEADER),
                hyper::header::HeaderValue::from_static(value),
            )]);
            assert_eq!(attempts(&headers), expected, "{value}");
        };
        check("3", Some(3));
        check("300", None);
        check("many", None);
        assert_eq!(attempts(&HeaderMap::new()), None);
    }
}
