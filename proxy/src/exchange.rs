//! THE file: one request through all policies, from top to bottom.
//!
//! ```text
//! route → in-flight limit → breaker of calls → budget deposit ─▶ attempt: endpoint and its breaker → connection → send → classify
//!                                                                   ▲                                            │
//!                                                                   └── wait ◀── retry.decide: condition, safety, │ deadline, budget
//! ```
//!
//! The order of the policies is the order of the lines of [`through_policies`]; it is not configurable. What must happen however a request ends (slots
//! and permits given back, the exchange counted and logged) hangs on the [`Record`] and the guards in it, so that a caller who leaves halfway undoes
//! exactly what had been done.

mod attempt;
mod body;
mod patience;
mod record;
mod tunnel;

use std::rc::Rc;
use std::sync::Arc;
use std::time::Instant;

use http::Method;
use outrigger_http1::encode::BodyLength;
use outrigger_http1::head::{RequestHead, ResponseHead};
use outrigger_http1::parse::Refusal;
use outrigger_http1::traits::requested_upgrade;
use outrigger_policy::breaker::Permit;
use outrigger_policy::retry::{Ask, Verdict};

use self::attempt::{Attempt, Call};
use self::body::Passing;
pub use self::body::{BrokenOff, Down, Unfinished};
use self::record::Record;
pub use self::tunnel::Passage;
use crate::clock;
use crate::error::ProxyError;
use crate::events::Event;
use crate::http::body::{Pace, Upload};
use crate::http::headers;
use crate::http::server::Caller;
use crate::lane::Lane;
use crate::route::Route;
use crate::worker::Worker;

/// What a request comes to.
pub enum Reply {
    /// An answer.
    Answer(Answer),
    /// A tunnel, with the answer that begins it.
    Tunnel(Passage),
}

/// What goes down.
pub struct Answer {
    /// Its head; framing is made where it is written.
    pub head: ResponseHead,
    /// Its body, and the exchange's end with it.
    pub body: Down,
    /// The caller's next request is better off with our successor.
    pub is_last: bool,
}

/// Answers one request.
pub async fn run(caller: Rc<Caller>, head: RequestHead) -> Reply {
    let mut record = Record::begin(caller, Some(&head.method), clock::now());
    let passed = through_policies(&mut record, head).await;
    let is_last = record.caller.worker.shared.is_draining();
    match passed {
        Ok(passing) => record.answer(passing, is_last),
        Err(error) => Reply::Answer(record.refuse(&error, is_last)),
    }
}

/// Answers what is no request.
pub fn refuse(caller: Rc<Caller>, why: Refusal) -> Answer {
    Record::begin(caller, None, clock::now()).refuse(&ProxyError::from(why), true)
}

async fn through_policies(record: &mut Record, mut head: RequestHead) -> Result<Passing, ProxyError> {
    let worker = Rc::clone(&record.caller.worker);
    let mut now = record.started;

    let (lane, is_by_name) = find_route(&worker, &head)?;
    record.routed(&lane);
    let upstream = &lane.upstream;
    let in_flight_max = upstream.config.in_flight_max;
    record.slot = Some(upstream.enter().ok_or(ProxyError::InFlightLimit { max: in_flight_max })?);
    record.permit = call_permit(&worker, &lane, now)?;
    lane.budget.deposit(now);

    let is_repeatable = attempt::is_repeatable(&lane.policies.repeat, &head);
    // Kept also for what may not be repeated: it may have to be sent again when it provably never left.
    let timeouts = &lane.policies.timeouts;
    let pace = Pace::new(now, worker.absent(), timeouts.upload, timeouts.upload_bytes_per_second_min);
    let upload = Upload::new(&record.caller.conn, lane.policies.repeat.replay_bytes_max, &worker.shared.replay, pace);
    record.upload = Some(upload.clone());
    if let Some(left) = headers::max_forwards(&head) {
        if left == 0 {
            return Err(ProxyError::LastForward);
        }
        headers::forward_one_fewer(&mut head, left);
    }
    // Who has a body to send goes on with HTTP.
    let has_body = upload.length() != BodyLength::None;
    let upgrade = requested_upgrade(&head, &lane.policies.upgrade).filter(|_| !has_body);
    headers::forward_request(&mut head);
    let mut call = Call::new(&record.caller, &lane, head, upload, now);
    (call.names_endpoint, call.is_repeatable, call.upgrade) = (!is_by_name, is_repeatable, upgrade);

    let mut last_answer = None;
    loop {
        let Attempt { outcome, result, endpoint, at } = match call.attempt(record, now).await {
            Ok(attempt) => attempt,
            // The last endpoint closed during the wait: what the last attempt brought is truer than a refusal of ours.
            Err(refusal) => return last_answer.ok_or(refusal),
        };
        if !lane.policies.retry.is_candidate(&outcome) {
            return result;
        }
        let ask = Ask {
            outcome,
            attempts: record.attempts,
            is_repeatable,
            is_replayable: call.upload.is_replayable(),
            deadline: call.deadline(),
            has_endpoint: call.has_endpoint(),
        };
        let verdict = lane.policies.retry.decide(&ask, &lane.budget, at, &mut *worker.dice());
        match verdict {
            Verdict::Return => return result,
            Verdict::GiveUp(why) => {
                record.given_up(&lane, why);
                return result; // with the reason beside it
            }
            Verdict::Again { wait, reason } => {
                lane.count_retry(&worker.shared.metrics, reason);
                call.tried.push(endpoint);
                // Boxed: it is rare, and would make the future of every request half as large again.
                last_answer = Box::pin(attempt::pause(result.ok(), at + wait)).await;
                now = clock::now();
            }
        }
    }
}

/// Host → upstream, path and method → route. An absolute target, as that of a CONNECT, means exactly the host it names; a `Host` may fall to the default upstream.
fn find_route(worker: &Worker, head: &RequestHead) -> Result<(Rc<Lane>, bool), ProxyError> {
    let live = worker.live();
    let wanted = headers::wanted(head)?;
    let by_default = || live.table.by_default().filter(|_| !wanted.is_absolute);
    let unknown = || ProxyError::UnknownHost { host: wanted.host.to_owned(), known: Arc::clone(&live.table.known) };
    let found = live.table.by_name(wanted.host).or_else(by_default).ok_or_else(unknown)?;
    let route = match head.method {
        // It has no path.
        Method::CONNECT if found.routes.default.upstream.config.connect => &found.routes.default,
        Method::CONNECT => return Err(ProxyError::MethodRefused),
        _ => found.routes.find(head.path(), &head.method),
    };
    Ok((worker.lane(route), found.is_by_name))
}

/// The right to make this call; `None` where no breaker counts calls.
fn call_permit(worker: &Worker, route: &Route, now: Instant) -> Result<Option<Permit>, ProxyError> {
    let Some(breaker) = &route.breaker else {
        return Ok(None);
    };
    let admission = breaker.try_acquire(now, &mut *worker.dice());
    if let Some(moved) = admission.moved {
        worker.shared.tell(&Event::BreakerMoved { route, endpoint: None, moved });
    }
    match admission.permit {
        Ok(permit) => Ok(Some(permit)),
        Err(refusal) => {
            Err(ProxyError::BreakerOpen(attempt::open_breaker(route.breaker_scope, breaker, refusal.retry_at, now)))
        }
    }
}
