//! How long an attempt may take.
//!
//! It measures the endpoint, not the caller: while the caller is still uploading it is pushed along with the upload, which has limits of its own: stillness, rate and the whole. Nor does it measure ourselves: time
//! for which the whole worker stood still (a stopped container, a starved machine) does not count, or a hundred healthy answers would be told as timeouts and open a breaker.

use std::pin::pin;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use http::StatusCode;
use outrigger_http1::client::{OutgoingRequest, ResponseEvent};
use outrigger_http1::head::ResponseHead;
use outrigger_policy::deadline::Deadline;
use outrigger_policy::outcome::Outcome;

use super::attempt::Call;
use crate::clock::{self, Alarm};
use crate::error::ProxyError;
use crate::http::body::{Replay, TooSlow, Upstate};
use crate::http::conn::{Conn, SendFailure};
use crate::http::headers;

/// How long an endpoint is waited for that does not say 100 before the body is sent all the same (RFC 9110 §10.1.1 leaves it to us; as curl does).
const CONTINUE_MAX: Duration = Duration::from_secs(1);

/// The patience with one attempt.
pub(super) struct AttemptPatience<'a> {
    call: &'a Call,
    started: Instant,
    /// How long the worker had been absent by then.
    absent_before: Duration,
}

impl<'a> AttemptPatience<'a> {
    /// With the attempt of `call` that began at `started`.
    pub(super) fn new(call: &'a Call, started: Instant) -> AttemptPatience<'a> {
        AttemptPatience { call, started, absent_before: call.worker.absent() }
    }

    /// The output of `work`, if it comes in time. Work is dropped when it does not.
    pub(super) async fn bound<F: Future>(&mut self, work: F) -> Result<F::Output, SendFailure> {
        let mut work = pin!(work);
        std::future::poll_fn(|cx| match work.as_mut().poll(cx) {
            Poll::Ready(done) => Poll::Ready(Ok(done)),
            Poll::Pending => self.poll_over(cx).map(Err),
        })
        .await
    }

    /// Sends `request` over `conn` and waits for its answer's head. The connection is lost when this fails or is dropped.
    ///
    /// # Errors
    /// The outcome says what is proven about the request.
    pub(super) async fn response(
        &mut self,
        mut conn: Conn,
        request: OutgoingRequest<'_, Replay>,
    ) -> Result<(ResponseHead, Conn), SendFailure> {
        conn.begin(request);
        let release_at = conn.is_held().then(|| clock::now() + CONTINUE_MAX);
        let release = Alarm::default();
        let head = std::future::poll_fn(|cx| {
            loop {
                if let Some(at) = release_at.filter(|_| conn.is_held())
                    && release.poll_until(at, cx).is_ready()
                {
                    conn.release_body();
                }
                match conn.poll_response(cx) {
                    Poll::Ready(Ok(ResponseEvent::Final(head))) => return Poll::Ready(Ok(head)),
                    Poll::Ready(Ok(ResponseEvent::Informational(head))) => self.on_informational(head),
                    Poll::Ready(Err(error)) => return Poll::Ready(Err(error.into())),
                    // The answer goes first: one that is there is taken even at the last moment.
                    Poll::Pending => return self.poll_over(cx).map(Err),
                }
            }
        })
        .await?;
        Ok((head, conn))
    }

    /// The caller may make use of it, whatever comes of the attempt. A 100 ends at this hop.
    fn on_informational(&self, mut head: ResponseHead) {
        if head.status != StatusCode::CONTINUE {
            headers::forward_answer(&mut head);
            self.call.caller.conn.borrow_mut().send_informational(&head);
        }
    }

    /// Until when the attempt may take as things stand, and whose fault it will be. `absent` is how long the worker has been absent by now.
    fn ends_at(&self, absent: Duration) -> (Instant, Outcome) {
        let Call { lane, upload, .. } = self.call;
        let timeouts = &lane.policies.timeouts;
        let (end, fault) = match upload.state() {
            Upstate::Ended(whole_at) => {
                let begins = whole_at.map_or(self.started, |at| at.max(self.started));
                (Deadline::after(begins, timeouts.attempt).min(self.call.deadline()), Outcome::AttemptTimedOut)
            }
            Upstate::Broken => {
                (Deadline::after(self.started, timeouts.attempt).min(self.call.deadline()), Outcome::AttemptTimedOut)
            }
            Upstate::AwaitingEndpoint(since) => {
                (Deadline::after(since.max(self.started), timeouts.attempt), Outcome::AttemptTimedOut)
            }
            Upstate::AwaitingCaller(since) => (Deadline::after(since, timeouts.idle_body), Outcome::CallerFault),
        };
        let end = end.at() + (absent - self.absent_before);
        match upload.too_slow(absent) {
            Some(TooSlow { at, is_by_caller: true }) if at < end => (at, Outcome::CallerFault),
            Some(TooSlow { at, is_by_caller: false }) if at < end => (at, Outcome::AttemptTimedOut),
            _ => (end, fault),
        }
    }

    /// Ready once it is over.
    fn poll_over(&mut self, cx: &mut Context<'_>) -> Poll<SendFailure> {
        // Looked at anew each time: when the upload has ended, the endpoint's time begins.
        let outcome = loop {
            let worker = &self.call.worker;
            let absent = worker.absent();
            let (end, outcome) = self.ends_at(absent);
            std::task::ready!(self.call.caller.alarm.poll_until(end, cx));
            // It may have rung before the tick could notice.
            worker.wake_up(clock::now());
            if worker.absent() == absent {
                break outcome;
            }
        };
        let error = match outcome {
            Outcome::CallerFault => ProxyError::CallerTooSlow,
            _ if self.call.deadline().at() <= clock::now() => ProxyError::RequestTimeout,
            _ => ProxyError::AttemptTimeout,
        };
        Poll::Ready(SendFailure { outcome, error })
    }
}
