//! The composition root: from a configuration to running listeners, and in order to a stop.
//!
//! One **control thread** (the caller's) accepts, watches the configuration, resolves names and answers the operator; **workers** do
//! the requests. A connection is handed to the worker with the fewest: an app holds few, long-lived connections, which the
//! kernel's hashing would spread badly.
//!
//! The stop follows what an egress sidecar is for: the app may still need it after SIGTERM. So readiness goes first, serving goes on until the
//! app has been silent for a while or the time is nearly over, then what is under way finishes, then it is over.

use std::net::{SocketAddr, TcpStream as StdTcpStream};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};
use std::{io, panic, thread};

use rustix::process::{Resource, getrlimit, setrlimit};
use tokio::net::TcpStream;
use tokio::runtime::{Builder, LocalOptions, LocalRuntime};
use tokio::sync::{mpsc, watch};
use tokio::task::{AbortHandle, JoinSet};

use crate::config::{Config, Drain};
use crate::downstream::h1::CONNECTIONS_MAX;
use crate::downstream::listeners::{Acceptor, Listeners, Successor};
use crate::live::Live;
use crate::live::reload::{FileWatch, LOOK_INTERVAL, LOOKUP_MAX};
use crate::shared::{Load, Shared};
use crate::telemetry::events::Event;
use crate::telemetry::metrics::Metrics;
use crate::upstream::connect::Tcp;
use crate::upstream::resolve;
use crate::worker::{Order, Worker};
use crate::{admin, clock};

/// When the system gives no connection (no descriptors left), the acceptor waits so long before it asks again.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
/// Connections on their way to a worker.
const HANDOFF_MAX: usize = 1024;
/// Beside two for each connection of the app: listeners, runtimes, files, the operator's connections.
const OWN_DESCRIPTORS: u64 = 128;
/// The last connections are reset within this, then the process ends.
const CUT_OFF_MAX: Duration = Duration::from_millis(200);
/// How often the drain looks whether it is over.
const DRAIN_LOOK: Duration = Duration::from_millis(20);

/// What the running proxy can be told.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Command {
    /// Load the configuration file again.
    Reload,
    /// Drain, then end.
    Stop,
    /// End now.
    StopNow,
}

/// A proxy whose listeners are bound.
pub struct App {
    config: Config,
    path: Option<PathBuf>,
    listeners: Listeners,
}

impl App {
    /// Binds the listeners of `config`, save those that a service manager has passed. `path` is the file it came from, watched for changes.
    ///
    /// # Errors
    /// An address cannot be bound, or what was passed is no listener; the error names it.
    pub fn bind(config: Config, path: Option<PathBuf>) -> io::Result<App> {
        let listeners = Listeners::open(&config.listen)?;
        Ok(App { config, path, listeners })
    }

    /// Where the app is served.
    ///
    /// # Errors
    /// The system does not tell.
    pub fn app_address(&self) -> io::Result<SocketAddr> {
        self.listeners.app.address()
    }

    /// Where the operator is served.
    ///
    /// # Errors
    /// The system does not tell.
    pub fn admin_address(&self) -> io::Result<SocketAddr> {
        self.listeners.admin.address()
    }

    /// Serves until it is told to stop; the calling thread becomes the control thread.
    ///
    /// # Errors
    /// A thread or a runtime cannot be had.
    pub fn run(self, commands: mpsc::Receiver<Command>) -> io::Result<()> {
        let workers = worker_count(self.config.listen.workers);
        let metrics = Metrics::new();
        let runtime = runtime()?;
        let ended = runtime.block_on(async {
            let live = Live::build(self.config.clone(), None, &metrics, clock::now());
            let shared = Arc::new(Shared::new(live, metrics, workers));
            report_panics(&shared);
            self.control(shared, workers, commands).await
        });
        // A look-up that the system's resolver does not answer must not hold up the end.
        runtime.shutdown_background();
        ended
    }

    async fn control(
        self,
        shared: Arc<Shared>,
        workers: usize,
        mut commands: mpsc::Receiver<Command>,
    ) -> io::Result<()> {
        let addresses = (self.app_address()?, self.admin_address()?);
        let mut threads = Workers::start(&shared, workers)?;
        resolve::find(shared.live().upstreams(), &shared.metrics, LOOKUP_MAX).await.apply(clock::now());
        let mut watches = watch_names(&shared);
        fit_to_descriptors(&shared);
        let mut listening = Listening::open(&shared, self.listeners, &threads)?;
        shared.emit(&Event::Ready { app: addresses.0, admin: addresses.1, workers });

        let mut file = self.path.map(FileWatch::new);
        let mut look = tokio::time::interval(LOOK_INTERVAL);
        loop {
            // Each branch only waits; what it brings is handled whole before the next turn.
            let is_reload = tokio::select! {
                command = commands.recv() => match command {
                    Some(Command::Reload) => true,
                    Some(Command::Stop) => break,
                    Some(Command::StopNow) | None => {
                        threads.cut_off().await;
                        return Ok(());
                    }
                },
                () = shared.asked_to_quit() => break,
                // Only a panic ends them; a proxy that takes no connections must not look alive.
                _ = listening.tasks.join_next() => return Err(io::Error::other("no connections are taken any more")),
                _ = look.tick() => file.as_mut().is_some_and(FileWatch::look),
            };
            let Some(file) = file.as_mut().filter(|_| is_reload) else { continue };
            if file.reload(&shared).await {
                watches = watch_names(&shared);
            }
        }
        let drain = shared.live().config.drain;
        // Whichever is first; a second signal cuts the drain short.
        tokio::select! {
            () = drain_all(&shared, drain, &mut listening, &mut threads) => {}
            () = stop_now(&mut commands) => {}
        }
        threads.cut_off().await;
        drop(watches);
        Ok(())
    }
}

/// Where connections come in.
struct Listening {
    /// Both; aborted with this set, at the latest when the control thread returns.
    tasks: JoinSet<()>,
    accepting: AbortHandle,
    close_app: watch::Sender<bool>,
    close_admin: watch::Sender<bool>,
    /// `None` when the ports have been left to it, or if it cannot be looked for.
    successor: Option<Successor>,
}

impl Listening {
    fn open(shared: &Arc<Shared>, listeners: Listeners, threads: &Workers) -> io::Result<Listening> {
        let (app, successor) = (listeners.app.address()?, listeners.app.successor().ok());
        if successor.as_ref().is_some_and(Successor::is_there) {
            shared.emit(&Event::PortShared(app));
        }
        let ((close_app, app_closes), (close_admin, admin_closes)) = (watch::channel(false), watch::channel(false));
        let mut tasks = JoinSet::new();
        let accepting =
            tasks.spawn_local(accept(Arc::clone(shared), listeners.app.open(app_closes)?, threads.handoffs.clone()));
        tasks.spawn_local(admin::serve(Arc::clone(shared), listeners.admin.open(admin_closes)?));
        Ok(Listening { tasks, accepting, close_app, close_admin, successor })
    }

    /// Until the app's acceptor is closed and whoever stood before it has been let in.
    async fn close_app(&mut self) {
        // Nobody hears it only if the acceptor is closed already.
        let _ = self.close_app.send(true);
        while !self.accepting.is_finished() && self.tasks.join_next().await.is_some() {}
    }

    /// Begins to close both listening if another process stands beside them; returns whether it does so now.
    fn leave_to_successor(&mut self) -> bool {
        let is_there = self.successor.take_if(|successor| successor.is_there()).is_some();
        if is_there {
            // Nobody hears it only if the acceptor is closed already.
            let _ = (self.close_app.send(true), self.close_admin.send(true));
        }
        is_there
    }
}

/// Worker threads and the ways to reach them.
struct Workers {
    handoffs: Vec<mpsc::Sender<StdTcpStream>>,
    orders: watch::Sender<Order>,
    /// One message, without content, from each worker that has ended.
    ended: mpsc::Receiver<()>,
    running: usize,
}

impl Workers {
    fn start(shared: &Arc<Shared>, workers: usize) -> io::Result<Workers> {
        let (orders, order) = watch::channel(Order::Serve);
        let (end, ended) = mpsc::channel(workers);
        let mut handoffs = Vec::with_capacity(workers);
        for number in 0..workers {
            let (handoff, connections) = mpsc::channel(HANDOFF_MAX);
            let (shared, order, end) = (Arc::clone(shared), order.clone(), end.clone());
            thread::Builder::new().name(format!("worker-{number}")).spawn(move || {
                let _told_if_lost = Lost(&shared.workers[number]);
                // Without a runtime there is no worker; its channel closes, and connections go to the others.
                let Ok(runtime) = runtime() else { return };
                runtime.block_on(async {
                    Worker::new(Arc::clone(&shared), number, Box::new(Tcp)).run(connections, order).await;
                });
                // Nobody may be listening any more when the drain was cut short.
                let _ = end.try_send(());
            })?;
            handoffs.push(handoff);
        }
        Ok(Workers { handoffs, orders, ended, running: workers })
    }

    /// Until every worker has ended.
    async fn all_ended(&mut self) {
        while self.running > 0 {
            // `None`: the rest ended without a word.
            self.running = if self.ended.recv().await.is_some() { self.running - 1 } else { 0 };
        }
    }

    /// Ends what is left of connections so that nobody takes a part of an answer for the whole.
    async fn cut_off(&mut self) {
        // No receiver is left only if every worker has ended already.
        let _ = self.orders.send(Order::CutOff);
        let _in_time = clock::until(clock::now() + CUT_OFF_MAX, self.all_ended()).await;
    }
}

/// Marks a worker whose thread ends by a panic.
struct Lost<'a>(&'a Load);

impl Drop for Lost<'_> {
    fn drop(&mut self) {
        self.0.is_lost.store(thread::panicking(), Relaxed);
    }
}

/// Panics are counted wherever they happen. What was said is told to nobody: it may hold a part of a request.
fn report_panics(shared: &Arc<Shared>) {
    let shared = Arc::clone(shared);
    panic::set_hook(Box::new(move |info| {
        let place = info.location().map(ToString::to_string).unwrap_or_default();
        shared.emit(&Event::Panicked { place: &place });
    }));
}

/// So many connections that descriptors do not run out before places do: then one too many is told so instead of waiting in the queue.
fn fit_to_descriptors(shared: &Shared) {
    let Some(descriptors) = raise_descriptor_limit() else { return };
    let carried = (descriptors.saturating_sub(OWN_DESCRIPTORS) / 2).max(descriptors / 4).max(1);
    let carried = usize::try_from(carried).unwrap_or(usize::MAX);
    if carried < shared.connections_max() {
        shared.lower_connections_max(carried);
        shared.emit(&Event::FewDescriptors { descriptors, connections_max: carried });
    }
}

/// Takes as many descriptors as the system grants; returns how many that is. The usual soft limit of 1024 is a tenth of the connections that are allowed by default.
fn raise_descriptor_limit() -> Option<u64> {
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    // Without the right to it the old limit stays, and is what the second look tells.
    let _ = setrlimit(Resource::Nofile, limit);
    getrlimit(Resource::Nofile).current
}

fn runtime() -> io::Result<LocalRuntime> {
    Builder::new_current_thread().enable_all().build_local(LocalOptions::default())
}

/// 0 asks for what suits a sidecar: one on a single core, else two.
fn worker_count(configured: usize) -> usize {
    match configured {
        0 => thread::available_parallelism().map_or(1, |cores| cores.get().min(2)),
        count => count,
    }
}

/// One task per upstream that has names; aborted when dropped.
fn watch_names(shared: &Arc<Shared>) -> JoinSet<()> {
    let mut watches = JoinSet::new();
    for upstream in shared.live().upstreams() {
        watches.spawn_local(resolve::watch(Arc::clone(upstream), Arc::clone(&shared.metrics)));
    }
    watches
}

async fn accept(shared: Arc<Shared>, mut acceptor: Acceptor, handoffs: Vec<mpsc::Sender<StdTcpStream>>) {
    while let Some(accepted) = acceptor.next().await {
        match accepted {
            Ok(tcp) if shared.connections() >= shared.connections_max() => {
                // One short write into an empty socket buffer: it goes out or the peer is gone.
                let _ = tcp.try_write(CONNECTIONS_MAX);
                shared.emit(&Event::ConnectionRefused);
            }
            Ok(tcp) => hand_over(&shared, tcp, &handoffs).await,
            Err(error) => {
                shared.emit(&Event::AcceptFailed(&error));
                clock::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

/// To the living worker with the fewest connections.
async fn hand_over(shared: &Shared, tcp: TcpStream, handoffs: &[mpsc::Sender<StdTcpStream>]) {
    let living = (0..handoffs.len()).filter(|number| !handoffs[*number].is_closed());
    let Some(fewest) = living.min_by_key(|number| shared.workers[*number].connections.load(Relaxed)) else { return };
    let Ok(stream) = tcp.set_nodelay(true).and_then(|()| tcp.into_std()) else {
        return; // the peer has gone already
    };
    shared.workers[fewest].connections.fetch_add(1, Relaxed);
    if handoffs[fewest].send(stream).await.is_err() {
        shared.workers[fewest].connections.fetch_sub(1, Relaxed);
    }
}

async fn drain_all(shared: &Shared, drain: Drain, listening: &mut Listening, threads: &mut Workers) {
    let started = clock::now();
    let end = started + drain.timeout;
    shared.begin_drain();
    shared.emit(&Event::Draining { in_flight: shared.requests().1 });
    wait_for_silence(shared, drain, started, listening).await;
    // Whoever is in the queue is let in before the workers are told that nobody comes any more. What is late is reset with the rest.
    let _in_time = clock::until(end, listening.close_app()).await;
    // No receiver is left only if every worker has ended already.
    let _ = threads.orders.send(Order::Finish);
    let in_time = clock::until(end, threads.all_ended()).await;
    let cut_off = if in_time.is_some() { 0 } else { shared.requests().1 };
    shared.emit(&Event::Drained { cut_off, took: clock::now().saturating_duration_since(started) });
}

/// Until no request has begun or been under way for `silence`, or only `grace` is left. As soon as a successor listens on our ports, they are left to it.
async fn wait_for_silence(shared: &Shared, drain: Drain, started: Instant, listening: &mut Listening) {
    let latest = started + drain.timeout.saturating_sub(drain.grace);
    let (mut begun_before, _) = shared.requests();
    let (mut silent_since, mut next_look) = (started, started);
    loop {
        let now = clock::now();
        let (begun, in_flight) = shared.requests();
        if begun != begun_before || in_flight > 0 {
            (begun_before, silent_since) = (begun, now);
        }
        if now >= latest || now.saturating_duration_since(silent_since) >= drain.silence {
            return;
        }
        if now >= next_look {
            next_look = now + LOOK_INTERVAL;
            if listening.leave_to_successor() {
                shared.emit(&Event::HandedOver);
            }
        }
        clock::sleep(DRAIN_LOOK).await;
    }
}

async fn stop_now(commands: &mut mpsc::Receiver<Command>) {
    loop {
        match commands.recv().await {
            Some(Command::Stop | Command::StopNow) => return,
            Some(Command::Reload) => {}
            // Nobody can say anything any more: let the drain take its time.
            None => std::future::pending().await,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_of_any_thread_is_counted_and_a_worker_that_ends_by_one_is_lost() {
        let config = Config::parse("test.toml", "upstreams.a.endpoints = [\"127.0.0.1:1\"]").expect("valid");
        let metrics = Metrics::new();
        let live = Live::build(config, None, &metrics, clock::now());
        let shared = Arc::new(Shared::new(live, metrics, 2));
        let before = panic::take_hook();
        report_panics(&shared);
        let worker = Arc::clone(&shared);
        let ended = thread::spawn(move || {
            let _told_if_lost = Lost(&worker.workers[1]);
            panic!("on purpose");
        });
        assert!(ended.join().is_err());
        drop(panic::take_hook());
        panic::set_hook(before);
        // Not exactly one: other tests of this process may panic meanwhile.
        assert!(shared.metrics.panics.get() >= 1 && shared.has_lost_a_worker());
        drop(Lost(&shared.workers[1]));
        assert!(!shared.has_lost_a_worker(), "an end in good order");
    }
}
