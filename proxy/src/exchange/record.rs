//! What is known of one exchange, and the guard that settles it: whatever happens, when the record is dropped the call's permit has its result,
//! the slot is free, and the exchange is counted and told, once.

use std::net::SocketAddr;
use std::rc::Rc;
use std::time::{Duration, Instant};

use http::Method;
use outrigger_http1::head::ResponseHead;
use outrigger_policy::breaker::Permit;
use outrigger_policy::outcome::Class;
use outrigger_policy::retry::Refused;

use super::attempt::Busy;
use super::body::{Down, Passing, Source};
use super::tunnel::Passage;
use super::{Answer, Reply};
use crate::clock;
use crate::error::{ProxyError, Side};
use crate::events::{self, Event, Exchange};
use crate::http::body::{TooSlow, Upload};
use crate::http::conn::Conn;
use crate::http::io::Ending;
use crate::http::problem;
use crate::http::server::Caller;
use crate::lane::Lane;
use crate::upstream::Slot;
use crate::worker::ticks;

/// An exchange under way.
pub(super) struct Record {
    pub(super) caller: Rc<Caller>,
    pub(super) started: Instant,
    pub(super) slot: Option<Slot>,
    /// The right to make this call, until it has a result.
    pub(super) permit: Option<Permit>,
    pub(super) attempts: u32,
    pub(super) endpoint: Option<SocketAddr>,
    /// The caller's body.
    pub(super) upload: Option<Upload>,
    method: &'static str,
    lane: Option<Rc<Lane>>,
    status: u16,
    given_up: Option<Refused>,
    state: State,
    /// The exchange has been counted.
    is_told: bool,
}

/// How far an exchange has come.
#[derive(Clone, Copy)]
enum State {
    /// No answer yet: who leaves now leaves without one.
    Waiting,
    /// The endpoint's answer is on its way.
    Passing(Class),
    /// It has gone down whole.
    Passed(Class),
    /// It broke off on the endpoint's side.
    BrokenOff,
    /// The answer is ours.
    Refused(&'static str, Class),
}

impl Record {
    pub(super) fn begin(caller: Rc<Caller>, method: Option<&Method>, now: Instant) -> Record {
        caller.progress.enter_exchange(!caller.conn.borrow().has_body_ended());
        caller.worker.begin_request();
        Record {
            caller,
            started: now,
            slot: None,
            permit: None,
            attempts: 0,
            endpoint: None,
            upload: None,
            method: method.map_or("other", method_label),
            lane: None,
            status: 0,
            given_up: None,
            state: State::Waiting,
            is_told: false,
        }
    }

    pub(super) fn routed(&mut self, lane: &Rc<Lane>) {
        self.lane = Some(Rc::clone(lane));
    }

    /// A retry was called for and is not made.
    pub(super) fn given_up(&mut self, lane: &Lane, why: Refused) {
        self.given_up = Some(why);
        lane.count_retry_refused(&self.caller.worker.shared.metrics, why);
    }

    /// The endpoint's answer goes down.
    pub(super) fn answer(mut self, mut passing: Passing, is_last: bool) -> Reply {
        self.status = passing.head.status.as_u16();
        self.state = State::Passing(passing.class);
        if self.permit.as_ref().is_some_and(Permit::is_probe) {
            self.settle(passing.class);
        }
        if let Some(why) = self.given_up {
            problem::mark_given_up(&mut passing.head, events::refused(why));
        }
        problem::mark_attempts(&mut passing.head.fields, self.attempts);
        match passing.body {
            Source::Tunnel(through) => Reply::Tunnel(self.into_tunnel(passing.head, passing.class, *through)),
            body => Reply::Answer(Answer { head: passing.head, body: self.into_body(body), is_last }),
        }
    }

    /// The tunnel is what was asked for: with its beginning the exchange has succeeded and is counted. Its slot is taken until its end.
    fn into_tunnel(mut self, head: ResponseHead, class: Class, (conn, busy): (Conn, Busy)) -> Passage {
        self.state = State::Passed(class);
        self.settle(class);
        self.tell();
        let idle = self.lane.as_ref().map_or(u32::MAX, |lane| ticks(lane.policies.timeouts.tunnel_idle));
        self.caller.progress.enter_tunnel(idle);
        Passage::new(head, conn, busy, self)
    }

    /// An answer of our own goes down.
    pub(super) fn refuse(mut self, error: &ProxyError, is_last: bool) -> Answer {
        let row = error.row();
        // Without an attempt nothing was learnt about the upstream.
        let class = if row.side == Side::Upstream && self.attempts > 0 { Class::Failure } else { Class::Neutral };
        self.status = row.status.as_u16();
        self.state = State::Refused(row.reason, class);
        self.settle(class);
        let upstream = self.lane.as_ref().map_or("", |lane| &lane.upstream.config.name);
        let (mut head, bytes) = problem::answer(error, upstream, self.attempts, self.given_up.map(events::refused));
        problem::mark_attempts(&mut head.fields, self.attempts);
        Answer { head, body: self.into_body(Source::Whole(bytes)), is_last }
    }

    fn into_body(self, source: Source) -> Down {
        // From here nothing is repeated.
        self.upload.iter().for_each(Upload::stop_keeping);
        let idle_body = self.lane.as_ref().map(|lane| lane.policies.timeouts.idle_body);
        self.caller.progress.enter_body(idle_body.map_or(u32::MAX, ticks));
        Down::new(source, self)
    }

    /// A piece of the body has gone on.
    pub(super) fn body_moved(&self) {
        self.caller.progress.set_awaits_endpoint(false);
        self.caller.progress.moved();
    }

    /// The endpoint has no piece of the body ready.
    pub(super) fn body_awaited(&self) {
        self.caller.progress.set_awaits_endpoint(true);
    }

    /// The endpoint still takes the request. Its caller may have become too slow, and nobody can tell it any more; an endpoint that takes nothing is
    /// held to its answer alone.
    pub(super) fn request_awaited(&self) {
        let too_slow = self.upload.as_ref().and_then(|upload| upload.too_slow(self.caller.worker.absent()));
        if let Some(TooSlow { at, is_by_caller: true }) = too_slow
            && at <= clock::now()
        {
            self.caller.progress.end(Ending::CallerStalled);
        }
    }

    /// How long the rest of the request may take.
    pub(super) fn upload_left(&self) -> Duration {
        let whole_by = self.upload.as_ref().and_then(|upload| upload.whole_by(self.caller.worker.absent()));
        whole_by.map_or(Duration::ZERO, |at| at.saturating_duration_since(clock::now()))
    }

    /// The body has been handed over whole.
    pub(super) fn body_ended(&mut self) {
        if let State::Passing(class) = self.state {
            self.state = State::Passed(class);
        }
    }

    /// The endpoint broke it off: the caller's connection must not end cleanly.
    pub(super) fn body_broke_off(&mut self) {
        self.state = State::BrokenOff;
        self.caller.progress.end(Ending::Truncated);
    }

    /// Whether the connection is ended because the endpoint stopped sending.
    pub(super) fn is_endpoint_stalled(&self) -> bool {
        self.caller.progress.ending() == Ending::EndpointStalled
    }

    fn settle(&mut self, class: Class) {
        let (Some(lane), Some(permit)) = (&self.lane, self.permit.take()) else {
            return;
        };
        let Some(breaker) = &lane.breaker else { return };
        let worker = &self.caller.worker;
        let moved = breaker.on_result(permit, class, clock::now(), &mut *worker.dice());
        if let Some(moved) = moved {
            worker.shared.tell(&Event::BreakerMoved { route: lane, endpoint: None, moved });
        }
    }

    /// The word for how it ended, and how the breaker of calls counts that.
    fn ending(&self) -> (&'static str, Class) {
        match self.state {
            State::Passed(class) => (events::class(class), class),
            State::BrokenOff => ("truncated", Class::Failure),
            State::Refused(reason, class) => (reason, class),
            State::Waiting | State::Passing(_) => match self.caller.progress.ending() {
                Ending::EndpointStalled => ("stalled", Class::Failure),
                _ => ("caller_gone", Class::Neutral),
            },
        }
    }

    /// Counts the exchange, once.
    fn tell(&mut self) {
        if std::mem::replace(&mut self.is_told, true) {
            return;
        }
        let (outcome, _) = self.ending();
        let worker = &self.caller.worker;
        let exchange = Exchange {
            route: self.lane.as_ref().map(|lane| &***lane),
            method: self.method,
            status: self.status,
            outcome,
            attempts: self.attempts,
            endpoint: self.endpoint,
            given_up: self.given_up,
            took: clock::now().saturating_duration_since(self.started),
        };
        match &self.lane {
            Some(lane) => lane.count_exchange(&worker.shared.metrics, &worker.unflushed, &exchange),
            None => worker.shared.count_unrouted(&exchange),
        }
        if worker.live().config.log.access {
            worker.shared.log_exchange(&exchange);
        }
    }
}

impl Drop for Record {
    fn drop(&mut self) {
        let (_, class) = self.ending();
        self.settle(class);
        self.slot = None;
        self.tell();
        self.caller.worker.end_request();
        self.caller.progress.leave(!self.caller.conn.borrow().has_body_ended());
    }
}

fn method_label(method: &Method) -> &'static str {
    match *method {
        Method::GET => "GET",
        Method::HEAD => "HEAD",
        Method::POST => "POST",
        Method::PUT => "PUT",
        Method::PATCH => "PATCH",
        Method::DELETE => "DELETE",
        Method::OPTIONS => "OPTIONS",
        Method::CONNECT => "CONNECT",
        Method::TRACE => "TRACE",
        _ => "other",
    }
}
