//! The rest of a request whose response has come already. An endpoint may respond before it has read the request, and read on (RFC 9112 §9.5).
//!
//! An exchange lives until both directions have ended. So the rest has the limits of every upload: a least rate and a time for the whole, which `too_slow` checks here,
//! and `idle_body` between two pieces, which the worker's tick checks by the exchange's progress. What the kernel has of a long body is not there yet: if the process
//! or its pod ended then, it would be lost. So the exchange lives until the endpoint has taken that too. No verdict follows from the rest, because the response gave it.

use std::task::{Context as Cx, Poll};

use outrigger_policy::upload::Side;

use super::record::Record;
use crate::clock;
use crate::downstream::progress::Ending;
use crate::upstream::stream::Stream;
use crate::worker::connections::note_delivery;

/// Why no more of a request is sent after its response.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum UploadEnd {
    /// The endpoint has all of it, or one side has broken it off.
    Over,
    /// A time limit has passed. The downstream connection must end, because its request did not arrive whole.
    TooSlow,
}

/// How far the request has come.
enum Sent {
    /// All of it is sent, or no more can be sent.
    Over,
    Going,
    /// A limit has passed, because of this side.
    TooSlow(Side),
}

/// Sends more of the request while its response is under way. If the downstream sends it too slowly, it is too late for a 408, so the connection ends. If the endpoint
/// reads it too slowly, it gets no more of it and is judged by its response alone.
pub(super) fn send_beside(stream: &mut Stream, record: &Record, cx: &mut Cx<'_>) {
    match send(stream, record, cx) {
        Sent::TooSlow(side @ Side::Downstream) => record.downstream.progress.end(Ending::BodyIdleTimeout(side)),
        Sent::Over | Sent::Going | Sent::TooSlow(Side::Endpoint) => {}
    }
}

/// Sends more of the request after its response has ended.
pub(super) fn send_rest(stream: &mut Stream, record: &Record, cx: &mut Cx<'_>) -> Poll<UploadEnd> {
    let progress = &record.downstream.progress;
    match send(stream, record, cx) {
        Sent::Over => {
            let Some(delivery) = stream.undelivered() else { return Poll::Ready(UploadEnd::Over) };
            note_delivery(progress, Some(delivery));
            progress.set_awaits_endpoint(true);
            // Nothing wakes the task when the kernel has delivered the rest, so the worker's tick does.
            progress.set_watched();
            Poll::Pending
        }
        Sent::Going => {
            progress.set_awaits_endpoint(!record.upload.awaits_downstream());
            Poll::Pending
        }
        Sent::TooSlow(side) => {
            progress.end(Ending::BodyIdleTimeout(side));
            Poll::Ready(UploadEnd::TooSlow)
        }
    }
}

fn send(stream: &mut Stream, record: &Record, cx: &mut Cx<'_>) -> Sent {
    if let Some(side) = too_slow(record) {
        return Sent::TooSlow(side);
    }
    let before = stream.written();
    let polled = stream.poll_finish_sending(cx);
    let progress = &record.downstream.progress;
    if stream.written() > before {
        progress.moved();
    } else if progress.is_asked() {
        note_delivery(progress, stream.delivery());
    }
    if polled.is_ready() { Sent::Over } else { Sent::Going }
}

/// The side that is to blame if the upload has passed a limit. A body that has arrived whole may be written for `idle_body` longer than it may arrive.
fn too_slow(record: &Record) -> Option<Side> {
    let now = clock::now();
    let limit = || {
        let lag = record.context.lag();
        let arriving = record.upload.standing(lag).too_slow.map(|slow| (slow.at, slow.by));
        let idle_body = record.handle()?.config.timeouts.idle_body;
        arriving.or_else(|| Some((record.upload.whole_by()? + idle_body, Side::Endpoint)))
    };
    limit().filter(|(at, _)| *at <= now)?;
    // The tick may not have noticed yet that the worker stood still.
    record.context.notice_lag(now);
    limit().filter(|(at, _)| *at <= now).map(|(_, side)| side)
}
