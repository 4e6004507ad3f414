//! The load, in a process of its own: closed loop (each connection's next request when its turn comes) or open (requests fall due at a rate, and
//! latency counts from then; the pacer is the client's), and the processor time that the proxy used between two moments of it.
//!
//! Written by hand over one thread, as the origin is, because the time that the load uses is missing to the proxy. There is no load before every connection has
//! made a request, and nothing counts before the warm-up is over; the proxy's time is read by this process at the very moments that bound the count.
//!
//! With more connections than requests under way, each worker uses its share of them in turn.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::io::{self, Write as _};
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use client::clock::Clock;
use client::load::{End, Rate};
use client::tickets::{Pacer, Queue, Tickets};
use lab::clock::Stopwatch;
use report::quantile::quantile;
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpSocket, TcpStream};
use tokio::task::{JoinHandle, LocalSet};

use crate::cli::LoadArgs;
use crate::{message, proc};

/// Connections from one source address: far fewer than the ports it has.
const CONNECTIONS_PER_SOURCE: usize = 5_000;
/// Requests that may wait for a connection in open loop: seconds of them, so that a stall is measured and not hidden.
const QUEUE_MAX: usize = 100_000;
/// How long all connections together may take to make their first requests.
const OPENING_MAX: Duration = Duration::from_secs(60);
/// How long the last responses may take to arrive.
const ENDING_MAX: Duration = Duration::from_secs(2);
/// The quantiles that are reported.
const SHARES: [f64; 10] = [0.1, 0.25, 0.5, 0.75, 0.9, 0.95, 0.99, 0.995, 0.999, 1.0];

/// What was measured.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(crate) struct Measured {
    /// Requests that ended, in whatever way.
    pub(crate) requests: u64,
    /// Complete responses of 200.
    pub(crate) succeeded: u64,
    /// Seconds between the two moments.
    pub(crate) seconds: f64,
    /// Of the watched process and its children, in seconds.
    pub(crate) cpu_s: f64,
    /// 0 to 1 of it, outside the kernel.
    pub(crate) user_share: f64,
    /// 0 to 1: the share of its one core that the load or the origin used, whichever used more. Near 1 that was the bottleneck, not the proxy.
    pub(crate) busy: f64,
    /// Other responses by status, and requests without a response by the system's error.
    pub(crate) failures: BTreeMap<String, u64>,
    /// In open loop: (share of requests, none of them took longer, in µs), by rising share.
    pub(crate) latency_us: Vec<(f64, f64)>,
}

/// Runs the load and writes what was measured to stdout, as JSON.
pub(crate) fn run(args: &LoadArgs) -> io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let measured = LocalSet::new().block_on(&runtime, measure(args))?;
    serde_json::to_writer(io::stdout(), &measured)?;
    writeln!(io::stdout())
}

async fn measure(args: &LoadArgs) -> io::Result<Measured> {
    let shared = Rc::new(Shared::new(args));
    let workers = shared.start(args);
    shared.all_open(args.connections).await?;
    let clock = Clock::start();
    shared.clock.set(clock);
    let pacer = match (&shared.tickets, args.rate.and_then(Rate::per_second)) {
        // A refused ticket stays a request that was due and not made: the counts miss it, and the checks of success see that.
        (Some(tickets), Some(rate)) => Some(Pacer::start(Arc::clone(tickets), clock, rate, End::default(), |_| {})?),
        _ => None,
    };
    tokio::time::sleep(Duration::from_millis(args.warm_ms)).await;

    let pids = args.watch.map(proc::tree).unwrap_or_default();
    let cpu = proc::cpu(&pids)?;
    let own = own_cpu(args)?;
    let (requests, succeeded) = (shared.requests.get(), shared.succeeded.get());
    shared.failures.borrow_mut().clear();
    shared.latencies_us.borrow_mut().clear();
    shared.counts_from.set(clock.now());
    let watch = Stopwatch::start();
    tokio::time::sleep(Duration::from_millis(args.measure_ms)).await;
    let cpu = proc::cpu(&pids)? - cpu;
    let own = own_cpu(args)?.into_iter().zip(own).map(|(after, before)| after - before).fold(0.0, f64::max);
    let seconds = watch.elapsed().as_secs_f64();
    let mut measured = Measured {
        requests: shared.requests.get() - requests,
        succeeded: shared.succeeded.get() - succeeded,
        seconds,
        cpu_s: cpu.total_s,
        user_share: cpu.user_share(),
        busy: own / seconds,
        failures: shared.failures.borrow().clone(),
        latency_us: Vec::new(),
    };
    shared.is_over.set(true);
    drop(pacer);
    // Requests under way end in order, so that no proxy sees a client disconnect early. A request that never ends is dropped with its worker.
    let _ = tokio::time::timeout(ENDING_MAX, async {
        for worker in workers {
            // A panic has been printed.
            let _ = worker.await;
        }
    })
    .await;
    let latencies = shared.latencies_us.take();
    let of = |share: f64| Some((share, quantile(latencies.clone(), share)?));
    measured.latency_us = SHARES.into_iter().filter_map(of).collect();
    Ok(measured)
}

/// Seconds on processors of load and origin.
fn own_cpu(args: &LoadArgs) -> io::Result<Vec<f64>> {
    [Some(std::process::id()), args.origin].into_iter().flatten().map(|pid| Ok(proc::cpu(&[pid])?.total_s)).collect()
}

/// What all workers have; they share a thread, so plain cells do.
struct Shared {
    to: SocketAddr,
    /// Ready to be written, one after the other.
    texts: Vec<Vec<u8>>,
    next: Cell<usize>,
    /// `None` in closed loop.
    tickets: Option<Arc<Tickets>>,
    /// The one that the pacer uses.
    clock: Cell<Clock>,
    /// Latencies of requests that fell due before are not kept.
    counts_from: Cell<Duration>,
    is_over: Cell<bool>,
    /// Connections that have made a request.
    opened: Cell<usize>,
    requests: Cell<u64>,
    succeeded: Cell<u64>,
    failures: RefCell<BTreeMap<String, u64>>,
    latencies_us: RefCell<Vec<f64>>,
}

impl Shared {
    fn new(args: &LoadArgs) -> Self {
        Self {
            to: args.to,
            texts: texts(args),
            next: Cell::default(),
            tickets: args.rate.map(|_| Arc::new(Tickets::Open(Queue::new(QUEUE_MAX)))),
            clock: Cell::new(Clock::start()),
            counts_from: Cell::default(),
            is_over: Cell::default(),
            opened: Cell::default(),
            requests: Cell::default(),
            succeeded: Cell::default(),
            failures: RefCell::default(),
            latencies_us: RefCell::default(),
        }
    }

    /// One worker for each request that is to be under way, with its share of the connections.
    fn start(self: &Rc<Self>, args: &LoadArgs) -> Vec<JoinHandle<()>> {
        let active = args.active.unwrap_or(args.connections).min(args.connections);
        let worker = |worker| {
            let lines =
                (worker..args.connections).step_by(active).map(|number| Line { number, stream: None }).collect();
            let worker = Worker { lines, bytes: Vec::with_capacity(64 * 1024), shared: Rc::clone(self) };
            tokio::task::spawn_local(worker.work())
        };
        (0..active).map(worker).collect()
    }

    async fn all_open(&self, connections: usize) -> io::Result<()> {
        let opening = Stopwatch::start();
        while self.opened.get() < connections {
            if opening.elapsed() > OPENING_MAX {
                let (opened, failures) = (self.opened.get(), self.failures.borrow());
                let text =
                    format!("only {opened} of {connections} connections had a response of 200; failures: {failures:?}");
                return Err(io::Error::other(text));
            }
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        Ok(())
    }

    fn text(&self) -> &[u8] {
        let next = self.next.get();
        self.next.set((next + 1) % self.texts.len());
        &self.texts[next]
    }

    /// Counts how a request ended; whether it was a response of 200.
    fn count(&self, outcome: &io::Result<u16>) -> bool {
        self.requests.set(self.requests.get() + 1);
        let failure = match outcome {
            Ok(200) => {
                self.succeeded.set(self.succeeded.get() + 1);
                return true;
            }
            Ok(status) => status.to_string(),
            Err(error) => error.to_string(),
        };
        *self.failures.borrow_mut().entry(failure).or_default() += 1;
        false
    }
}

/// One for each pair of host and path.
fn texts(args: &LoadArgs) -> Vec<Vec<u8>> {
    let body = "i".repeat(args.body_bytes);
    let text = |path: &str, host: &str| {
        let method = &args.method;
        let length = if body.is_empty() { String::new() } else { format!("content-length: {}\r\n", body.len()) };
        let head =
            format!("{method} {path} HTTP/1.1\r\nhost: {host}\r\nuser-agent: bench\r\naccept: */*\r\n{length}\r\n");
        [head.as_bytes(), body.as_bytes()].concat()
    };
    args.hosts.iter().flat_map(|host| args.paths.iter().map(move |path| text(path, host))).collect()
}

/// Makes one request at a time.
struct Worker {
    lines: Vec<Line>,
    bytes: Vec<u8>,
    shared: Rc<Shared>,
}

/// A connection, or the place of one.
struct Line {
    number: usize,
    stream: Option<TcpStream>,
}

impl Worker {
    async fn work(mut self) {
        let shared = Rc::clone(&self.shared);
        for line in &mut self.lines {
            while !shared.count(&line.exchange(&shared, &mut self.bytes).await) {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
            shared.opened.set(shared.opened.get() + 1);
        }
        match &shared.tickets {
            None => self.in_turn(&shared).await,
            Some(tickets) => self.when_due(&shared, tickets).await,
        }
    }

    /// Goes round its connections.
    async fn in_turn(&mut self, shared: &Shared) {
        while !shared.is_over.get() {
            for line in &mut self.lines {
                if shared.is_over.get() {
                    break;
                }
                shared.count(&line.exchange(shared, &mut self.bytes).await);
            }
        }
    }

    /// Takes what falls due, on its first connection.
    async fn when_due(&mut self, shared: &Shared, tickets: &Tickets) {
        let [line, ..] = self.lines.as_mut_slice() else { return };
        while let Some(ticket) = tickets.next().await {
            shared.count(&line.exchange(shared, &mut self.bytes).await);
            if ticket.due >= shared.counts_from.get() {
                let latency = shared.clock.get().now().saturating_sub(ticket.due);
                shared.latencies_us.borrow_mut().push(latency.as_secs_f64() * 1e6);
            }
            if shared.is_over.get() {
                break;
            }
        }
    }
}

impl Line {
    /// The response's status; a connection that broke, or that the peer closes, is made anew next time.
    async fn exchange(&mut self, shared: &Shared, bytes: &mut Vec<u8>) -> io::Result<u16> {
        let mut stream = match self.stream.take() {
            Some(stream) => stream,
            None => connect(self.number, shared.to).await?,
        };
        bytes.clear();
        stream.write_all(shared.text()).await?;
        let head = message::head(&mut stream, bytes).await?.ok_or(io::ErrorKind::UnexpectedEof)?;
        let status = message::status(&bytes[..head.bytes]).ok_or(io::ErrorKind::InvalidData)?;
        let is_last = message::is_last(&bytes[..head.bytes]);
        let mut left = head.body_bytes.saturating_sub(bytes.len() - head.bytes);
        while left > 0 {
            // The bytes of a large body are not kept.
            bytes.clear();
            match stream.read_buf(bytes).await? {
                0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                read => left = left.saturating_sub(read),
            }
        }
        self.stream = (!is_last).then_some(stream);
        Ok(status)
    }
}

async fn connect(number: usize, to: SocketAddr) -> io::Result<TcpStream> {
    let socket = TcpSocket::new_v4()?;
    let source =
        u8::try_from(1 + number / CONNECTIONS_PER_SOURCE).map_err(|_| io::Error::other("too many connections"))?;
    if source > 1 {
        // Loopback is all of 127.0.0.0/8: a further address has ports of its own.
        socket.bind(SocketAddr::from(([127, 0, 0, source], 0)))?;
    }
    let stream = socket.connect(to).await?;
    stream.set_nodelay(true)?;
    Ok(stream)
}
