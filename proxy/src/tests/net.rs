//! A worker without a network: in-memory pipes on both sides, scripted endpoints, and a clock that moves only when every task waits.

use std::cell::{Cell, RefCell};
use std::collections::{HashMap, VecDeque};
use std::future::Future;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use http::HeaderValue;
use outrigger_policy::breaker;
use outrigger_policy::call::Policies;
use rand::SeedableRng;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::runtime::{Builder, LocalOptions};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;

use crate::clock;
use crate::config::Config;
use crate::live::Live;
use crate::live::reload::{LOOKUP_MAX, put_in_force};
use crate::shared::Shared;
use crate::telemetry::metrics::Metrics;
use crate::transport::{ByteStream, MemoryPipe};
use crate::upstream::connect::{Dial, Dialing};
use crate::upstream::endpoint::{Found, Target};
use crate::upstream::names::{Ask, Asking, POOL_THREADS, Resolver};
use crate::upstream::resolve;
use crate::worker::context::Context;
use crate::worker::{Order, Worker};

/// The pages that name every metric and the values of its labels.
const METRICS: &str = include_str!("../../../docs/metrics.md");
const ERRORS: &str = include_str!("../../../docs/errors.md");

/// What a pipe holds in each direction.
pub(super) const PIPE_BYTES: usize = 16 * 1024;

/// What an endpoint does with its n-th connection (from 0).
type Script = Rc<dyn Fn(usize, Peer) -> Pin<Box<dyn Future<Output = ()>>>>;

/// The endpoints of a test.
#[derive(Clone, Default)]
pub(super) struct Net(Rc<Inner>);

#[derive(Default)]
struct Inner {
    scripts: RefCell<HashMap<SocketAddr, (Script, usize)>>,
    arrived: RefCell<Vec<String>>,
    dialed: Cell<usize>,
    dial_faults: RefCell<VecDeque<DialFault>>,
    names: RefCell<HashMap<String, Named>>,
    /// Look-ups under way, and how many have begun.
    look_ups: Cell<(usize, usize)>,
    /// What a pipe to an endpoint holds beyond [`PIPE_BYTES`].
    more_pipe_bytes: Cell<usize>,
}

/// What the resolver says about a name.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Named {
    /// It has these addresses, and the answer takes this time.
    At(Vec<IpAddr>, Duration),
    /// No server answers, and the resolver gives up after this time.
    Silent(Duration),
}

/// What can go wrong with a connection before it carries a byte.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum DialFault {
    Refused,
    Unreachable,
    /// No reply comes, neither yes nor no.
    Silent,
    /// The process has as many descriptors as it may.
    NoDescriptor,
    /// The connection opens and is gone before anything can be written.
    DeadOnArrival,
    /// Connecting panics, as a defect in the proxy would.
    Panic,
}

/// An endpoint's end of a connection. A script reads and writes HTTP on it.
pub(super) struct Peer {
    pipe: MemoryPipe,
    unread: Vec<u8>,
    net: Net,
    name: String,
}

/// The app's side of a connection.
pub(super) struct Client {
    pipe: MemoryPipe,
    unread: Vec<u8>,
}

/// A running worker.
pub(super) struct Bench {
    pub(super) shared: Arc<Shared>,
    resolver: Rc<Resolver>,
    watches: RefCell<JoinSet<()>>,
    pub(super) worker: Rc<Worker>,
    orders: watch::Sender<Order>,
    _handoff: mpsc::Sender<std::net::TcpStream>,
}

/// A response as the app saw it.
#[derive(Debug)]
pub(super) struct Seen {
    pub(super) status: u16,
    pub(super) head: String,
    pub(super) body: String,
}

thread_local! {
    /// Whether a script of the test in this thread has panicked.
    static SCRIPT_PANICKED: Cell<bool> = const { Cell::new(false) };
}

/// Runs a test in a runtime whose clock is paused. A panic in an endpoint's script fails the test too; otherwise tokio would swallow it with the script's task.
pub(super) fn paused<F: Future<Output = ()>>(test: F) {
    let runtime = Builder::new_current_thread().enable_all().start_paused(true).build_local(LocalOptions::default());
    runtime.expect("a runtime").block_on(test);
    assert!(!SCRIPT_PANICKED.take(), "an endpoint's script panicked; its message stands above");
}

/// Calls the function when a panic drops it.
pub(super) struct OnPanic<F: Fn()>(pub(super) F);

impl<F: Fn()> Drop for OnPanic<F> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            (self.0)();
        }
    }
}

impl Net {
    /// The endpoint at `address` runs `script` on each of its connections.
    pub(super) fn endpoint<F>(&self, address: &str, script: impl Fn(usize, Peer) -> F + 'static)
    where
        F: Future<Output = ()> + 'static,
    {
        let script: Script = Rc::new(move |n, peer| {
            let script = script(n, peer);
            Box::pin(async move {
                let _guard = OnPanic(|| SCRIPT_PANICKED.set(true));
                script.await;
            })
        });
        self.0.scripts.borrow_mut().insert(address.parse().expect("an address"), (script, 0));
    }

    /// The endpoint at `address` sends the responses in turn, over any number of connections, and then repeats the last one.
    pub(super) fn responds(&self, address: &str, responses: &[&str]) {
        let responses: Rc<Vec<String>> = Rc::new(responses.iter().map(|response| (*response).to_owned()).collect());
        let next = Rc::new(Cell::new(0));
        self.endpoint(address, move |_, mut peer| {
            let (responses, next) = (Rc::clone(&responses), Rc::clone(&next));
            async move {
                while peer.request().await.is_some() {
                    let at = next.get().min(responses.len() - 1);
                    next.set(next.get() + 1);
                    peer.say(&responses[at]).await;
                }
            }
        });
    }

    /// The endpoint at `address` records every byte it gets, and sends the next response whenever the bytes so far end in `end`.
    pub(super) fn raw_requests(&self, address: &str, end: &'static str, responses: &[&str]) -> Rc<RefCell<String>> {
        let responses: Vec<String> = responses.iter().map(|response| (*response).to_owned()).collect();
        let (text, next) = (Rc::new(RefCell::new(String::new())), Rc::new(Cell::new(0)));
        let written = Rc::clone(&text);
        self.endpoint(address, move |_, mut peer| {
            let (responses, next, written) = (responses.clone(), Rc::clone(&next), Rc::clone(&written));
            async move {
                let mut piece = vec![0; 4096];
                while let Ok(n @ 1..) = peer.pipe.read(&mut piece).await {
                    written.borrow_mut().push_str(&String::from_utf8_lossy(&piece[..n]));
                    if !written.borrow().ends_with(end) {
                        continue;
                    }
                    if let Some(response) = responses.get(next.replace(next.get() + 1)) {
                        peer.say(response).await;
                    }
                }
            }
        });
        text
    }

    /// The pipes to endpoints hold `bytes` more, as a kernel's send buffer does.
    pub(super) fn buffers(&self, bytes: usize) {
        self.0.more_pipe_bytes.set(bytes);
    }

    /// The next attempts to connect meet these faults, one each.
    pub(super) fn next_dials(&self, faults: impl IntoIterator<Item = DialFault>) {
        self.0.dial_faults.borrow_mut().extend(faults);
    }

    /// Clears the list of what has arrived.
    pub(super) fn forget(&self) {
        self.0.arrived.borrow_mut().clear();
    }

    /// Requests that endpoints have read whole: `"address METHOD path body"`.
    pub(super) fn arrived(&self) -> Vec<String> {
        self.0.arrived.borrow().clone()
    }

    /// From now on `name` resolves to `addresses`, and the answer takes `time`.
    pub(super) fn name(&self, name: &str, addresses: &[&str], time: Duration) {
        let addresses = addresses.iter().map(|address| address.parse().expect("an address")).collect();
        self.0.names.borrow_mut().insert(name.to_owned(), Named::At(addresses, time));
    }

    /// From now on no server answers for `name`; the resolver gives up after `time`.
    pub(super) fn silent_name(&self, name: &str, time: Duration) {
        self.0.names.borrow_mut().insert(name.to_owned(), Named::Silent(time));
    }

    /// How many look-ups are under way, and how many have begun.
    pub(super) fn look_ups(&self) -> (usize, usize) {
        self.0.look_ups.get()
    }

    /// How many times the proxy has tried to connect.
    pub(super) fn dialed(&self) -> usize {
        self.0.dialed.get()
    }
}

impl Dial for Net {
    fn dial(&self, target: &Target) -> Dialing {
        let (inner, address) = (&self.0, target.address);
        inner.dialed.set(inner.dialed.get() + 1);
        match inner.dial_faults.borrow_mut().pop_front() {
            Some(DialFault::Refused) => return Box::pin(async { Err(io::ErrorKind::ConnectionRefused.into()) }),
            Some(DialFault::Unreachable) => return Box::pin(async { Err(io::ErrorKind::HostUnreachable.into()) }),
            Some(DialFault::NoDescriptor) => return Box::pin(async { Err(rustix::io::Errno::MFILE.into()) }),
            Some(DialFault::Silent) => return Box::pin(std::future::pending()),
            // The other end is dropped here.
            Some(DialFault::DeadOnArrival) => {
                return Box::pin(async { Ok(ByteStream::Memory(MemoryPipe::pair(1024).0)) });
            }
            Some(DialFault::Panic) => panic!("on purpose, to see what it takes with it"),
            None => {}
        }
        let mut scripts = inner.scripts.borrow_mut();
        let result = match scripts.get_mut(&address) {
            None => Err(io::ErrorKind::ConnectionRefused.into()),
            Some((script, n)) => {
                let (ours, theirs) = MemoryPipe::pair(PIPE_BYTES + inner.more_pipe_bytes.get());
                let peer = Peer { pipe: theirs, unread: Vec::new(), net: self.clone(), name: address.to_string() };
                tokio::task::spawn_local(script(*n, peer));
                *n += 1;
                Ok(ByteStream::Memory(ours))
            }
        };
        Box::pin(async move { result })
    }
}

impl Ask for Net {
    fn ask(&self, host: &str) -> Asking {
        let (net, named) = (self.clone(), self.0.names.borrow().get(host).cloned());
        let (under_way, begun) = net.look_ups();
        net.0.look_ups.set((under_way + 1, begun + 1));
        Box::pin(async move {
            let answer = match named {
                Some(Named::At(addresses, time)) => {
                    pass(time).await;
                    Ok(addresses)
                }
                Some(Named::Silent(time)) => {
                    pass(time).await;
                    Err(io::ErrorKind::TimedOut.into())
                }
                None => Err(io::ErrorKind::NotFound.into()),
            };
            let (under_way, begun) = net.look_ups();
            net.0.look_ups.set((under_way - 1, begun));
            answer
        })
    }
}

impl Peer {
    /// Reads a whole request; `None` when the connection has ended.
    pub(super) async fn request(&mut self) -> Option<String> {
        let head = self.head().await?;
        let body = self.body(&head).await?;
        let line = head.lines().next().unwrap_or_default().trim_end_matches(" HTTP/1.1").to_owned();
        let text = format!("{} {line} {body}", self.name).trim_end().to_owned();
        self.net.0.arrived.borrow_mut().push(text);
        Some(head)
    }

    /// Reads the head of a request and no more of it than came with it; `None` when the connection has ended.
    pub(super) async fn head(&mut self) -> Option<String> {
        read_head(&mut self.pipe, &mut self.unread).await
    }

    /// Reads the body that belongs to `head`; `None` when the connection ends before it is whole.
    pub(super) async fn body(&mut self, head: &str) -> Option<String> {
        read_body(&mut self.pipe, &mut self.unread, head).await
    }

    /// Reads up to `most` bytes and returns how many came, 0 at the end.
    pub(super) async fn take(&mut self, most: usize) -> usize {
        take(&mut self.pipe, &mut self.unread, most).await
    }

    /// Writes bytes as they are.
    pub(super) async fn say(&mut self, bytes: &str) {
        // The proxy may have closed. Then the test sees that on the other side.
        let _ = self.pipe.write_all(bytes.as_bytes()).await;
    }

    /// Reads what comes next; `None` at the end.
    pub(super) async fn piece(&mut self) -> Option<String> {
        read_piece(&mut self.pipe, &mut self.unread).await
    }

    /// Shuts down the sending side.
    pub(super) async fn end(&mut self) {
        let _ = self.pipe.shutdown().await;
    }

    /// Waits until the proxy closes the connection.
    pub(super) async fn closed(&mut self) {
        let mut rest = Vec::new();
        let _ = self.pipe.read_to_end(&mut rest).await;
    }
}

impl Bench {
    /// A worker for `config`, whose upstream endpoints are those of `net`.
    pub(super) async fn new(net: &Net, config: &str) -> Bench {
        Bench::start((Box::new(net.clone()), net), config, |_| {}).await
    }

    /// A worker for `config` that connects by `dial`.
    pub(super) async fn over(dial: Box<dyn Dial>, config: &str) -> Bench {
        Bench::start((dial, &Net::default()), config, |_| {}).await
    }

    /// A worker for `config`, whose upstream's policies `edit` then changes: not all of them have a key.
    pub(super) async fn edited(net: &Net, config: &str, edit: impl Fn(&mut Policies)) -> Bench {
        Bench::start((Box::new(net.clone()), net), config, edit).await
    }

    async fn start((dial, names): (Box<dyn Dial>, &Net), config: &str, edit: impl Fn(&mut Policies)) -> Bench {
        let config = Config::parse("test.toml", config).unwrap_or_else(|faults| panic!("{faults}"));
        let (metrics, resolver) = (Metrics::new(), Resolver::new(Box::new(names.clone()), POOL_THREADS));
        let resolved = resolve::find(&resolver, &config.upstreams, LOOKUP_MAX).await;
        let mut live = Live::build(config, None, &resolved.addresses, &metrics, clock::now());
        live.table.edit_policies(edit);
        let shared = Arc::new(Shared::new(live, metrics, 1));
        resolved.emit(shared.live().upstreams(), &shared.metrics);
        let worker = Worker::new(Arc::clone(&shared), 0, dial);
        let (orders, order) = watch::channel(Order::Serve);
        let (handoff, connections) = mpsc::channel(1);
        tokio::task::spawn_local(Rc::clone(&worker).run(connections, order));
        let watches = RefCell::new(resolve::watch(&resolver, shared.live().upstreams(), &shared.metrics));
        Bench { shared, resolver, watches, worker, orders, _handoff: handoff }
    }

    /// Applies another configuration, as a reload does.
    pub(super) async fn reload(&self, config: &str) {
        let config = Config::parse("test.toml", config).unwrap_or_else(|faults| panic!("{faults}"));
        put_in_force(&self.shared, &self.resolver, config).await;
        self.watches.replace(resolve::watch(&self.resolver, self.shared.live().upstreams(), &self.shared.metrics));
        self.order(Order::Serve);
    }

    /// A connection of the app.
    pub(super) fn connect(&self) -> Client {
        self.connect_over(PIPE_BYTES)
    }

    /// A connection of the app over a pipe that holds `bytes`.
    pub(super) fn connect_over(&self, bytes: usize) -> Client {
        let (ours, theirs) = MemoryPipe::pair(bytes);
        self.shared.workers[0].connections.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        self.worker.serve(ByteStream::Memory(theirs));
        Client { pipe: ours, unread: Vec::new() }
    }

    /// A connection of the app, as a bare pipe.
    pub(super) fn connect_bare(&self) -> MemoryPipe {
        self.connect().pipe
    }

    /// Gives the worker an order.
    pub(super) fn order(&self, order: Order) {
        // The send fails only if the worker has ended already.
        let _ = self.orders.send(order);
    }

    /// Seeds the worker's rng anew.
    pub(super) fn reseed(&self, seed: u64) {
        *self.worker.context().rng() = clock::Rng::seed_from_u64(seed);
    }

    /// Sends one GET over a connection of its own.
    pub(super) async fn get(&self, path: &str) -> Seen {
        self.send(&format!("GET {path} HTTP/1.1\r\nhost: backend\r\n\r\n")).await
    }

    /// Sends one POST over a connection of its own.
    pub(super) async fn post(&self, path: &str, body: &str) -> Seen {
        let length = body.len();
        self.send(&format!("POST {path} HTTP/1.1\r\nhost: backend\r\ncontent-length: {length}\r\n\r\n{body}")).await
    }

    async fn send(&self, request: &str) -> Seen {
        let mut client = self.connect();
        client.say(request).await;
        client.response().await.expect("a response")
    }

    /// The sum of the samples of `name` whose lines contain all of `labels`, 0 if there are none. Panics at names and values that the documentation does not have,
    /// because no sample could ever match them.
    pub(super) fn metric(&self, name: &str, labels: &[&str]) -> f64 {
        assert!(METRICS.contains(&format!("| `{name}` |")), "{name} is no metric");
        for label in labels {
            let value = label.split('"').nth(1).unwrap_or(label);
            let is_known = [METRICS, ERRORS].iter().any(|page| page.contains(&format!("`{value}`")));
            assert!(is_known, "{label} is nowhere a label's value");
        }
        let mut text = Vec::new();
        self.shared.metrics.write_text(&mut text).expect("memory");
        let text = String::from_utf8(text).expect("text");
        let lines =
            text.lines().filter(|line| line.starts_with(name) && labels.iter().all(|label| line.contains(label)));
        lines.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).sum()
    }

    /// From now on the upstream has these endpoints.
    pub(super) fn replace_endpoints(&self, addresses: &[&str]) {
        let found = |address: &&str| Found {
            address: address.parse().expect("an address"),
            server_name: Arc::from("backend"),
            authority: HeaderValue::from_static("backend"),
        };
        let live = self.shared.live();
        let upstream = live.upstreams().next().expect("one upstream");
        let found: Vec<Found> = addresses.iter().map(found).collect();
        upstream.endpoints.replace(&found, upstream.config.endpoint_breaker, clock::now());
    }

    /// Results that the breakers of the upstream's endpoints have heard of.
    pub(super) fn endpoint_results(&self) -> u32 {
        self.endpoint_breakers().iter().map(|breaker| breaker.results).sum()
    }

    /// Failures among them.
    pub(super) fn endpoint_failures(&self) -> u32 {
        self.endpoint_breakers().iter().map(|breaker| breaker.failures).sum()
    }

    fn endpoint_breakers(&self) -> Vec<breaker::Snapshot> {
        let live = self.shared.live();
        let upstream = live.upstreams().next().expect("one upstream");
        let endpoints = upstream.endpoints.load();
        endpoints.iter().filter_map(|endpoint| Some(endpoint.breaker.as_ref()?.snapshot(clock::now()))).collect()
    }

    /// What an exchange of the worker may use.
    pub(super) fn context(&self) -> Rc<Context> {
        Rc::clone(self.worker.context())
    }

    /// Requests that wait: before a retry, for an endpoint, or for a slot.
    pub(super) fn waiting(&self) -> u32 {
        self.shared.live().upstreams().next().expect("one upstream").in_flight.waiting()
    }

    /// What the upstream's budget would pay for now.
    pub(super) fn balance(&self) -> f64 {
        self.shared.live().table.all()[0].default.policies.budget.balance(clock::now()).as_f64()
    }

    /// Requests under way on the upstream, attempts under way on its endpoints.
    pub(super) fn under_way(&self) -> (u32, u32) {
        let live = self.shared.live();
        let upstream = live.upstreams().next().expect("one upstream");
        let endpoints = upstream.endpoints.load();
        let attempts = endpoints.iter().map(|e| e.in_flight.load(std::sync::atomic::Ordering::Relaxed)).sum();
        (upstream.in_flight.count(), attempts)
    }
}

impl Seen {
    fn new(head: &str, body: String) -> Option<Seen> {
        let status = head.split(' ').nth(1)?.parse().ok()?;
        Some(Seen { status, head: head.to_ascii_lowercase(), body })
    }
}

impl Client {
    /// Writes bytes as they are.
    pub(super) async fn say(&mut self, bytes: &str) {
        let _ = self.pipe.write_all(bytes.as_bytes()).await;
    }

    /// Shuts down the sending side and goes on reading.
    pub(super) async fn shut_down(&mut self) {
        let _ = self.pipe.shutdown().await;
    }

    /// Reads a whole response; `None` if the connection ended before it was whole.
    pub(super) async fn response(&mut self) -> Option<Seen> {
        let head = read_head(&mut self.pipe, &mut self.unread).await?;
        let body = read_body(&mut self.pipe, &mut self.unread, &head).await?;
        Seen::new(&head, body)
    }

    /// Reads a response to HEAD, which has no body whatever its head announces.
    pub(super) async fn response_to_head(&mut self) -> Option<Seen> {
        let head = read_head(&mut self.pipe, &mut self.unread).await?;
        Seen::new(&head, String::new())
    }

    /// Reads what comes next; `None` at the end.
    pub(super) async fn piece(&mut self) -> Option<String> {
        read_piece(&mut self.pipe, &mut self.unread).await
    }

    /// Reads up to `most` bytes and returns how many came, 0 at the end.
    pub(super) async fn take(&mut self, most: usize) -> usize {
        take(&mut self.pipe, &mut self.unread, most).await
    }

    /// Shuts down the sending side.
    pub(super) async fn end(&mut self) {
        let _ = self.pipe.shutdown().await;
    }
}

async fn take(pipe: &mut (impl AsyncRead + Unpin), unread: &mut Vec<u8>, most: usize) -> usize {
    if unread.is_empty() {
        let mut piece = vec![0; most];
        return pipe.read(&mut piece).await.unwrap_or(0);
    }
    unread.drain(..most.min(unread.len())).count()
}

async fn read_piece(pipe: &mut (impl AsyncRead + Unpin), unread: &mut Vec<u8>) -> Option<String> {
    if unread.is_empty() {
        fill(pipe, unread).await?;
    }
    Some(String::from_utf8_lossy(&std::mem::take(unread)).into_owned())
}

/// `None` if the stream ends before the head is whole.
pub(super) async fn read_head(pipe: &mut (impl AsyncRead + Unpin), unread: &mut Vec<u8>) -> Option<String> {
    let head_end = loop {
        if let Some(at) = find(unread, b"\r\n\r\n") {
            break at + 4;
        }
        fill(pipe, unread).await?;
    };
    String::from_utf8(unread.drain(..head_end).collect()).ok()
}

/// `None` if the stream ends before the body is whole that `head` announces. Panics where a body is framed wrongly.
pub(super) async fn read_body(pipe: &mut (impl AsyncRead + Unpin), unread: &mut Vec<u8>, head: &str) -> Option<String> {
    let lower = head.to_ascii_lowercase();
    let body = if lower.contains("transfer-encoding: chunked") {
        read_chunks(pipe, unread).await?
    } else {
        let length = lower.lines().find_map(|line| line.strip_prefix("content-length: "));
        let length = length.map_or(0, |length| length.parse().unwrap_or_else(|_| panic!("{length:?} is no length")));
        read_bytes(pipe, unread, length).await?
    };
    String::from_utf8(body).ok()
}

/// The data of all chunks, up to the last one and behind its trailers.
async fn read_chunks(pipe: &mut (impl AsyncRead + Unpin), unread: &mut Vec<u8>) -> Option<Vec<u8>> {
    let mut data = Vec::new();
    loop {
        let line = read_line(pipe, unread).await?;
        let size = line.split(';').next().unwrap_or_default();
        assert!(size.bytes().all(|byte| byte.is_ascii_hexdigit()), "{line:?} does not begin with a chunk's size");
        match usize::from_str_radix(size, 16).unwrap_or_else(|error| panic!("{line:?}: {error}")) {
            0 => break,
            size => data.append(&mut read_bytes(pipe, unread, size).await?),
        }
        let end = read_line(pipe, unread).await?;
        assert!(end.is_empty(), "a chunk of {size:?} bytes goes on with {end:?}");
    }
    loop {
        let trailer = read_line(pipe, unread).await?;
        if trailer.is_empty() {
            return Some(data);
        }
        assert!(trailer.contains(':'), "{trailer:?} is no trailer");
    }
}

/// A line, without its CRLF.
async fn read_line(pipe: &mut (impl AsyncRead + Unpin), unread: &mut Vec<u8>) -> Option<String> {
    let length = loop {
        if let Some(at) = find(unread, b"\r\n") {
            break at;
        }
        fill(pipe, unread).await?;
    };
    let line = String::from_utf8_lossy(&unread[..length]).into_owned();
    unread.drain(..length + 2);
    Some(line)
}

async fn read_bytes(pipe: &mut (impl AsyncRead + Unpin), unread: &mut Vec<u8>, length: usize) -> Option<Vec<u8>> {
    while unread.len() < length {
        fill(pipe, unread).await?;
    }
    Some(unread.drain(..length).collect())
}

fn find(bytes: &[u8], what: &[u8]) -> Option<usize> {
    memchr::memmem::find(bytes, what)
}

async fn fill(pipe: &mut (impl AsyncRead + Unpin), unread: &mut Vec<u8>) -> Option<()> {
    unread.reserve(4096);
    let n = pipe.read_buf(unread).await.ok()?;
    (n > 0).then_some(())
}

/// Runs all tasks as far as they get without time passing.
pub(super) async fn settle() {
    for _ in 0..50 {
        tokio::task::yield_now().await;
    }
}

/// Lets `duration` pass on the paused clock.
pub(super) async fn pass(time: Duration) {
    clock::sleep(time).await;
}
