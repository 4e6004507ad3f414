//! How long an attempt may take.
//!
//! It measures the endpoint, not the caller: while the caller is still uploading it is pushed along with the upload, which has limits of its own: stillness, rate and the whole. Nor does it measure ourselves: time
//! for which the whole worker stood still (a stopped container, a starved machine) does not count, or a hundred healthy answers would be told as timeouts and open a breaker.

use std::pin::pin;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use outrigger_http1::head::ResponseHead;
use outrigger_policy::deadline::Deadline;
use outrigger_policy::outcome::Outcome;

use super::attempt::Call;
use crate::clock;
use crate::error::ProxyError;
use crate::http::body::{TooSlow, Upstate};
use crate::http::conn::{Patience, SendFailure};
use crate::http::headers;

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
}

impl Patience for AttemptPatience<'_> {
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

    /// The caller may make use of it, whatever comes of the attempt.
    fn on_interim(&mut self, mut head: ResponseHead) {
        headers::forward_answer(&mut head);
        self.call.caller.conn.borrow_mut().send_informational(&head);
    }
}
