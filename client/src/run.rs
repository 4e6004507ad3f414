//! One run: workers, each with a connection of its own, take tickets and send requests until there are no more.
//!
//! A request's timeout begins when it is due, as does its latency. A request that spends its whole timeout in the client's queue
//! counts as a timeout without having been sent. So a run ends at most one timeout after its last request was due.
//!
//! A first SIGTERM or SIGINT stops the schedule and lets the requests under way end; a second abandons them, uncounted.

use std::io;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use hyper::header::{HOST, HeaderMap, HeaderName, HeaderValue};
use hyper::{Method, Request, Uri};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::task::JoinSet;
use tokio::time::MissedTickBehavior;

use crate::clock::Clock;
use crate::connection::{Connection, Outcome};
use crate::csv;
use crate::load::{End, Load, Ticket};
use crate::progress::Progress;
use crate::record::{Recorder, Sample};
use crate::target::Target;
use crate::tickets::{Counter, Pacer, Queue, Tickets};
use report::run::Failure;
use report::run::{Mode, Report, SCHEMA, Setting};

/// Carries the request's id, by which the backend can count how often it came.
pub const ID_HEADER: HeaderName = HeaderName::from_static("x-request-id");

/// Everything that a run needs to know.
#[derive(Debug, Clone)]
pub struct Plan {
    /// The URL to request.
    pub target: Arc<Target>,
    /// The proxy to send it through.
    pub via: Option<Arc<Target>>,
    /// What makes requests fall due.
    pub load: Load,
    /// When to make no more.
    pub end: End,
    /// How many workers, each with one connection.
    pub connections: usize,
    /// How many requests may wait for a worker in open loop.
    pub queue_max: usize,
    /// From due to giving up.
    pub timeout: Duration,
    /// The request's method.
    pub method: Method,
    /// Its headers, but for `host` (if not given here) and the id.
    pub headers: HeaderMap,
    /// The same body for every request; may be empty.
    pub body: Bytes,
    /// Request n has the id `<id_prefix>-n`; fit for a header.
    pub id_prefix: String,
}

/// Where the results of a run are gathered; under one lock, held for one sample at a time.
#[derive(Debug, Default)]
struct Ledger {
    recorder: Recorder,
    rows: Option<csv::Rows>,
    /// The first error of the CSV file; nothing is written to it after.
    rows_error: Option<io::Error>,
}

impl Ledger {
    fn enter(&mut self, sample: &Sample) {
        self.recorder.record(sample);
        if let Some(rows) = &mut self.rows
            && let Err(error) = rows.write(sample)
        {
            self.rows_error = Some(error);
            self.rows = None;
        }
    }

    fn finish_rows(&mut self) -> io::Result<()> {
        match (self.rows_error.take(), self.rows.take()) {
            (Some(error), _) => Err(error),
            (None, Some(rows)) => rows.finish(),
            (None, None) => Ok(()),
        }
    }
}

type SharedLedger = Arc<Mutex<Ledger>>;

fn enter(ledger: &SharedLedger, sample: &Sample) {
    ledger.lock().expect("no holder of this lock can panic").enter(sample);
}

/// Carries the plan out. `rows` gets a line for each request.
///
/// # Errors
/// If the system gives no thread or no signals, or the CSV file cannot be written. Failed requests are results.
pub async fn run(plan: Plan, clock: Clock, rows: Option<csv::Rows>, progress: Progress) -> io::Result<Report> {
    let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    let setting = setting(&plan, clock);
    let ledger: SharedLedger = Arc::new(Mutex::new(Ledger { rows, ..Ledger::default() }));
    let tickets = Arc::new(match plan.load {
        Load::Open(_) => Tickets::Open(Queue::new(plan.queue_max)),
        Load::Closed => Tickets::Closed(Counter::new(clock, plan.end)),
    });
    let mut pacer = match plan.load {
        Load::Open(rate) => {
            let refused = refuser(Arc::clone(&ledger));
            Some(Pacer::start(Arc::clone(&tickets), clock, rate, plan.end, refused)?)
        }
        Load::Closed => None,
    };
    let mut workers = spawn_workers(Arc::new(plan), clock, &tickets, &ledger);
    let mut seconds = tokio::time::interval(Duration::from_secs(1));
    seconds.set_missed_tick_behavior(MissedTickBehavior::Skip);
    // The first tick is immediate.
    seconds.tick().await;
    let mut stopping = false;
    loop {
        // Each branch only waits for an event that stays pending if another is first.
        tokio::select! {
            ended = workers.join_next() => match ended {
                Some(Ok(())) => {}
                Some(Err(error)) => return Err(io::Error::other(error)),
                None => break,
            },
            _ = seconds.tick() => {
                let second = ledger.lock().expect("no holder of this lock can panic")
                    .recorder.take_interval(clock.now().as_secs());
                progress.show(&second)?;
            }
            () = either(&mut terminate, &mut interrupt) => {
                if stopping {
                    workers.abort_all();
                    break;
                }
                stopping = true;
                // The pacer first: tickets that it put into a closed queue would stay there.
                pacer = None;
                tickets.close();
            }
        }
    }
    drop(pacer);
    progress.end()?;
    let mut ledger = ledger.lock().expect("no holder of this lock can panic");
    ledger.finish_rows()?;
    Ok(ledger.recorder.report(setting))
}

fn setting(plan: &Plan, clock: Clock) -> Setting {
    let started_unix_ms = u64::try_from(clock.started_unix().as_millis()).unwrap_or(u64::MAX);
    let (mode, rate) = match plan.load {
        Load::Open(rate) => (Mode::Open, Some(rate.get())),
        Load::Closed => (Mode::Closed, None),
    };
    Setting {
        schema: SCHEMA,
        target: plan.target.to_string(),
        via: plan.via.as_ref().map(ToString::to_string),
        mode,
        rate,
        connections: plan.connections,
        started_unix_ms,
    }
}

fn refuser(ledger: SharedLedger) -> impl Fn(Ticket) + Send + 'static {
    move |ticket| enter(&ledger, &Sample { ticket, latency: None, outcome: Outcome::failed(Failure::Overload) })
}

async fn either(a: &mut Signal, b: &mut Signal) {
    tokio::select! {
        _ = a.recv() => {}
        _ = b.recv() => {}
    }
}

fn spawn_workers(plan: Arc<Plan>, clock: Clock, tickets: &Arc<Tickets>, ledger: &SharedLedger) -> JoinSet<()> {
    let template = Arc::new(Template::new(&plan));
    let workers = (0..plan.connections).map(|_| {
        let (template, tickets, ledger) = (Arc::clone(&template), Arc::clone(tickets), Arc::clone(ledger));
        let mut connection = Connection::new(Arc::clone(plan.via.as_ref().unwrap_or(&plan.target)));
        let timeout = plan.timeout;
        async move {
            while let Some(ticket) = tickets.next().await {
                let deadline = ticket.due + timeout;
                let outcome = if clock.now() < deadline {
                    connection.exchange(template.request(ticket.n), clock.instant(deadline)).await
                } else {
                    Outcome::failed(Failure::Timeout)
                };
                let latency = clock.now().saturating_sub(ticket.due);
                enter(&ledger, &Sample { ticket, latency: Some(latency), outcome });
            }
        }
    });
    workers.collect()
}

/// What is the same in all requests of a run.
#[derive(Debug)]
struct Template {
    method: Method,
    uri: Uri,
    headers: HeaderMap,
    body: Bytes,
    id_prefix: String,
}

impl Template {
    fn new(plan: &Plan) -> Self {
        let mut headers = plan.headers.clone();
        headers.entry(HOST).or_insert_with(|| {
            HeaderValue::from_str(plan.target.authority()).expect("a URL's authority has no character a header forbids")
        });
        Self {
            method: plan.method.clone(),
            uri: if plan.via.is_some() { plan.target.absolute().clone() } else { plan.target.origin() },
            headers,
            body: plan.body.clone(),
            id_prefix: plan.id_prefix.clone(),
        }
    }

    fn request(&self, n: u64) -> Request<Full<Bytes>> {
        let mut request = Request::new(Full::new(self.body.clone()));
        *request.method_mut() = self.method.clone();
        *request.uri_mut() = self.uri.clone();
        *request.headers_mut() = self.headers.clone();
        let id = HeaderValue::from_str(&format!("{}-{n}", self.id_prefix)).expect("the prefix is fit for a header");
        request.headers_mut().insert(ID_HEADER, id);
        request
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// Of a run in closed loop over one connection, through a proxy.
    pub(crate) fn setting() -> Setting {
        Setting {
            schema: SCHEMA,
            target: "http://127.0.0.1:5001/".to_owned(),
            via: Some("http://127.0.0.1:4140/".to_owned()),
            mode: Mode::Closed,
            rate: None,
            connections: 1,
            started_unix_ms: 0,
        }
    }
}
