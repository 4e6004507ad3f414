//! One request: drives [`Call`], the loop that decides, and performs its steps.
//!
//! `outrigger_policy::call` decides what happens to a request, and in which order. This file performs the steps with sockets and timers: it sends an attempt,
//! sleeps through a wait, drops a cancelled attempt. Guards do what must happen however a request ends: the [`Record`] counts and logs it once, the admission
//! gives its slot and permit back, and a lease gives its endpoint back. So a downstream that disconnects halfway undoes exactly what was done.
//!
//! `attempt` makes one attempt, `repeat` says which requests may be sent again, `forward` prepares heads for the next hop, `response` sends the response
//! downstream, `uploading` sends what is left of the request
//! after it, `tunnel` takes over after an upgrade or a CONNECT, and `record` does the accounting.

mod attempt;
pub mod forward;
pub mod received;
mod record;
mod repeat;
pub mod response;
mod tunnel;
pub mod uploading;

use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::sync::Arc;
use std::task::Poll;
use std::time::{Duration, Instant};

use arc_swap::Guard;
use http::Method;
use outrigger_http1::head::RequestHead;
use outrigger_http1::parse::Refusal;
use outrigger_policy::call::{Call, Scene, Step};
use outrigger_policy::outcome::{Class, Outcome};
use outrigger_policy::rejection::Rejection;

use self::attempt::{AttemptAlarm, Attempted, HostField, Sender};
use self::received::{Received, Source};
use self::record::{Decide, Record};
use self::response::{Reply, Response};
use crate::clock::{self, Alarm};
use crate::downstream::stream::Downstream;
use crate::downstream::upload::Upload;
use crate::error::ProxyError;
use crate::path::RequestPath;
use crate::upstream::endpoint::{Endpoint, Target};
use crate::upstream::pool::Reuse;
use crate::worker::context::Context;
use crate::worker::handle::RouteHandle;

/// How long a superseded response may take to end. The request has its slot meanwhile, because the endpoint is still at work.
const SUPERSEDED_MAX: Duration = Duration::from_secs(1);
/// How much longer than the wait before the retry it may take.
const SUPERSEDED_GRACE: Duration = Duration::from_millis(5);

/// Carries out one request.
pub async fn run(context: &Rc<Context>, downstream: &Rc<Downstream>, head: RequestHead) -> Reply {
    let mut record = Record::begin(context, downstream, Some(&head.method), clock::now());
    let is_last = || context.shared.is_draining();
    // A connection costs memory too.
    let is_last_after = |error: &ProxyError| is_last() || matches!(error, ProxyError::MemoryLimit);
    let admitted = admit(&mut record, &head);
    let Admitted { call, handle, sending } = match admitted {
        Ok(admitted) => admitted,
        Err(error) => return Reply::Response(response::refuse(record, &error, None, is_last_after(&error))),
    };
    let sender = Sender::new(&mut record, handle, head, sending);
    let mut exchange = Exchange { call, sender: &sender, endpoints: None, last: None };
    let result = exchange.carry_out(&mut record).await;
    let admission = exchange.call.into_admission();
    match result {
        Ok(received) => response::pass_on(record, received, admission, is_last()),
        Err(Failure { error, class }) => {
            Reply::Response(response::refuse(record, &error, Some((admission, class)), is_last_after(&error)))
        }
    }
}

/// Responds to a head that is not a valid request.
pub fn refuse(context: &Rc<Context>, downstream: &Rc<Downstream>, why: Refusal) -> Response {
    let record = Record::begin(context, downstream, None, clock::now());
    response::refuse(record, &ProxyError::from(why), None, true)
}

/// A request that its policies have admitted, and what its head says about how to send it.
struct Admitted {
    call: Call,
    handle: Rc<RouteHandle>,
    sending: (HostField, Reuse),
}

/// What a head leads to.
struct Routed {
    handle: Rc<RouteHandle>,
    host: HostField,
    is_idempotent: bool,
}

/// A request that gets no response from its upstream.
struct Failure {
    error: ProxyError,
    /// How the breaker that counts calls classifies it.
    class: Class,
}

/// Finds the route, and asks its policies.
fn admit(record: &mut Record, head: &RequestHead) -> Result<Admitted, ProxyError> {
    if !record.context.has_memory(head.fields.capacity()) {
        return Err(ProxyError::MemoryLimit);
    }
    let Routed { handle, host, is_idempotent } = find_route(&record.context, head)?;
    record.routed(&handle);
    if forward::max_forwards(head) == Some(0) {
        return Err(ProxyError::MaxForwardsReached);
    }
    let started = record.started;
    let begun = record.decide(started, |cx| Call::begin(&handle.policies, is_idempotent, cx));
    let call = begun.map_err(|why| ProxyError::rejected(why, handle.breaker_scope, started))?;
    let reuse = if is_idempotent { Reuse::Any } else { Reuse::Fresh };
    Ok(Admitted { call, handle, sending: (host, reuse) })
}

/// A request that has been admitted.
struct Exchange<'s> {
    call: Call,
    sender: &'s Sender,
    /// The endpoints of the upstream. Released before every wait, so that a wait keeps no outdated list alive.
    endpoints: Option<Guard<Arc<Vec<Arc<Endpoint>>>>>,
    /// The attempt that ended last with its outcome and its response, while it may still be the result.
    last: Option<(u32, Outcome, Result<Received, ProxyError>)>,
}

impl Exchange<'_> {
    /// Performs the steps of the loop until there is a result.
    async fn carry_out(&mut self, record: &mut Record) -> Result<Received, Failure> {
        let sender = self.sender;
        // The first attempt in flight lives in this future. A second one beside it is rare, so it is boxed.
        let (mut first, mut second) = (pin!(None), None);
        let mut first_number = 0;
        let mut now = record.started;
        loop {
            let step = self.decide(record, now, Call::poll);
            if !matches!(step, Step::Attempt { .. } | Step::Hold { .. }) {
                self.endpoints = None;
            }
            match step {
                Step::Attempt { number, lease } if first.is_none() => {
                    first_number = number;
                    first.set(Some(sender.attempt(number, lease, now, AttemptAlarm::Shared)));
                }
                Step::Attempt { number, lease } => {
                    let alarm = AttemptAlarm::Own(Alarm::default());
                    second = Some(Box::pin(sender.attempt(number, lease, now, alarm)));
                }
                Step::Wait { until } if first.is_some() || second.is_some() => {
                    let ended = first_to_end(first.as_mut(), &mut second, until, &sender.upload).await;
                    now = ended.as_ref().map_or_else(clock::now, |attempted| attempted.at);
                    if let Some(attempted) = ended {
                        self.ended(record, attempted);
                    }
                }
                // Boxed, like all waits: they are rare and would make the future of every request larger.
                Step::Wait { until } => {
                    Box::pin(clock::sleep_until(until.unwrap_or(now))).await;
                    now = clock::now();
                }
                Step::Supersede { until } => {
                    Box::pin(self.supersede(record, until)).await;
                    now = clock::now();
                }
                Step::Queue { until } => {
                    // The loop is polled again in both cases.
                    let _in_time = Box::pin(clock::until(until, poll_fn(|cx| self.call.poll_slot(cx)))).await;
                    now = clock::now();
                }
                Step::Hold { until } => {
                    Box::pin(self.hold(until)).await;
                    now = clock::now();
                }
                Step::Cancel { number } if number == first_number => first.set(None),
                Step::Cancel { .. } => second = None,
                Step::Return { number } => return self.result_of(number),
                // The loop rejects only when no attempt says anything about the upstream.
                Step::Reject(why) => {
                    // Its name may have got an address since it was last looked up.
                    if why == Rejection::NoEndpoints {
                        sender.handle.upstream.endpoints.ask_for_lookup();
                    }
                    let error = ProxyError::rejected(why, sender.handle.breaker_scope, now);
                    return Err(Failure { error, class: Class::Neutral });
                }
            }
        }
    }

    /// Runs `decide` on the loop, at `now`.
    fn decide<T>(
        &mut self,
        record: &mut Record,
        now: Instant,
        decide: impl FnOnce(&mut Call, &Scene<'_, Target>, &mut Decide<'_>) -> T,
    ) -> T {
        let Exchange { call, sender, endpoints, .. } = self;
        let endpoints = endpoints.get_or_insert_with(|| sender.handle.upstream.endpoints.load());
        let upload = sender.upload.standing(sender.context.lag());
        let forgiven = &|| {
            // The tick may not have noticed yet.
            sender.context.notice_lag(clock::now());
            sender.forgiven(sender.context.lag())
        };
        let scene = Scene { policies: &sender.handle.policies, endpoints, upload: &upload, forgiven };
        record.decide(now, |cx| decide(call, &scene, cx))
    }

    /// Reports the outcome of an attempt, provisional until the body has ended, to the endpoint's breaker and to the loop.
    fn ended(&mut self, record: &mut Record, attempted: Attempted) {
        let Attempted { number, lease, outcome, result, at } = attempted;
        let class = outcome.class();
        let result = match result {
            Ok(arrived) => Ok(Received::new(record, arrived, lease, class, at)),
            Err(error) => {
                record.decide(at, |cx| lease.settle(class, cx));
                Err(error)
            }
        };
        self.last = Some((number, outcome, result));
        self.decide(record, at, |call, scene, cx| call.ended(number, outcome, scene, cx));
    }

    /// Reads the superseded response to its end, so that the connection can be reused, but not for long and not beyond `retry_at`. A response that was read whole
    /// is kept as a possible result, and so is a failure.
    async fn supersede(&mut self, record: &mut Record, retry_at: Instant) {
        let now = clock::now();
        self.sender.upload.cut_off_readers(now);
        let Some((number, outcome, result)) = self.last.take() else { return };
        let kept = match result {
            Err(error) => Some(Err(error)),
            Ok(Received { head, body }) => {
                let give_up_at = retry_at.min(now + SUPERSEDED_MAX) + SUPERSEDED_GRACE;
                let whole = clock::until(give_up_at, body.read_whole(record)).await.flatten();
                whole.map(|whole| Ok(Received { head, body: Source::Whole(whole, outcome.class()) }))
            }
        };
        if let Some(result) = kept {
            self.last = Some((number, outcome, result));
            self.call.kept(number);
        }
    }

    /// Waits until `moment`, or until the endpoints change.
    async fn hold(&mut self, moment: Instant) {
        let endpoints = &self.sender.handle.upstream.endpoints;
        let changed = endpoints.changed.notified();
        // Another thread may have changed the endpoints since the loop looked at them.
        let are_seen = self.endpoints.take().is_some_and(|seen| Arc::ptr_eq(&seen, &endpoints.load()));
        if are_seen {
            // The loop is polled again in both cases.
            let _in_time = clock::until(moment, changed).await;
        }
    }

    /// The result of attempt `number`, which is the last one that ended.
    fn result_of(&mut self, number: u32) -> Result<Received, Failure> {
        let (last, outcome, result) = self.last.take().expect("the loop returns only attempts that have ended");
        debug_assert_eq!(last, number, "the loop returns only the last attempt that ended");
        result.map_err(|error| Failure { error, class: outcome.call_class() })
    }
}

/// Waits for the attempt that ends first and removes it; `None` if neither ends before `until`.
async fn first_to_end<F: Future<Output = Attempted>>(
    mut first: Pin<&mut Option<F>>,
    second: &mut Option<Pin<Box<F>>>,
    until: Option<Instant>,
    upload: &Upload,
) -> Option<Attempted> {
    let mut timer = pin!(until.map(clock::sleep_until));
    poll_fn(|cx| {
        let drawn = upload.drawn();
        if let Some(attempt) = first.as_mut().as_pin_mut()
            && let Poll::Ready(attempted) = attempt.poll(cx)
        {
            first.set(None);
            return Poll::Ready(Some(attempted));
        }
        if let Some(attempt) = second {
            if let Poll::Ready(attempted) = attempt.as_mut().poll(cx) {
                *second = None;
                return Poll::Ready(Some(attempted));
            }
            // One attempt has read more of the body, so the other one has more to send.
            if first.is_some() && upload.drawn() != drawn {
                cx.waker().wake_by_ref();
            }
        }
        let is_time = timer.as_mut().as_pin_mut().is_some_and(|timer| timer.poll(cx).is_ready());
        if is_time { Poll::Ready(None) } else { Poll::Pending }
    })
    .await
}

/// Finds the upstream by host and the route by path and method. Only a relative target may fall back to the default upstream; an absolute one, such as that of a
/// CONNECT, means exactly the host it names.
fn find_route(context: &Context, head: &RequestHead) -> Result<Routed, ProxyError> {
    let live = context.live();
    let destination = forward::destination(head)?;
    let by_default = || live.table.by_default().filter(|_| !destination.is_absolute);
    let unknown =
        || ProxyError::UnknownHost { host: destination.host.to_owned(), known: Arc::clone(&live.table.known) };
    let found = live.table.by_name(destination.host).or_else(by_default).ok_or_else(unknown)?;
    let route = match head.method {
        // A CONNECT has no path, so it gets the default route.
        Method::CONNECT if found.routes.default.upstream.config.connect => &found.routes.default,
        Method::CONNECT => return Err(ProxyError::MethodNotAllowed),
        _ => found.routes.find(RequestPath::new(head.path()), &head.method),
    };
    let host = if found.is_by_name { HostField::Kept } else { HostField::OfEndpoint };
    let is_idempotent = repeat::is_idempotent(found.routes, route, head);
    Ok(Routed { handle: context.handle(route), host, is_idempotent })
}
