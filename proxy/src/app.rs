//! The composition root: builds the running proxy from a configuration, and stops it in order.
//!
//! One **control thread** (the calling one) accepts connections, watches the configuration and resolves names. **Workers** serve the requests. The **admin
//! thread** serves the operator. A new connection goes to the worker with the fewest: an app holds few, long-lived connections, which the
//! kernel's hashing would spread badly.
//!
//! The app may still need its sidecar after SIGTERM, so the proxy stops in this order:
//!
//! 1. `/readyz` fails.
//! 2. The proxy goes on serving until the app has been silent for a while or the drain's time is nearly over.
//! 3. Requests under way finish, and no new connections are accepted.
//! 4. What is left is cut off.

mod commands;
mod limits;

use std::net::{SocketAddr, TcpStream as StdTcpStream};
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};
use std::{io, panic, thread};

use tokio::net::TcpStream;
use tokio::runtime::{Builder, LocalOptions, LocalRuntime};
use tokio::sync::{mpsc, watch};
use tokio::task::{AbortHandle, JoinSet};

pub use self::commands::{Commands, Orders, orders};
use self::limits::SystemLimits;
use crate::config::{Config, Drain};
use crate::downstream::h1::CONNECTIONS_MAX;
use crate::downstream::listeners::{Acceptor, Listeners, Successor};
use crate::live::Live;
use crate::live::reload::{FileWatch, LOOK_INTERVAL, LOOKUP_MAX};
use crate::shared::{Load, Shared};
use crate::telemetry::events::Event;
use crate::telemetry::metrics::Metrics;
use crate::upstream::connect::Tcp;
use crate::upstream::names::{Resolver, System};
use crate::upstream::resolve;
use crate::worker::{Order, Worker};
use crate::{admin, clock};

/// How long the acceptor waits after the system failed to give it a connection, for example because no descriptors were left.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
/// How many connections may queue on their way to a worker.
const HANDOFF_MAX: usize = 1024;
/// How often the limits are fitted to what the system grants.
const FIT_INTERVAL: Duration = Duration::from_millis(100);
/// How long the workers may take to reset the last connections before the process ends.
const CUT_OFF_MAX: Duration = Duration::from_millis(200);
/// How often the drain checks whether it is over.
const DRAIN_LOOK: Duration = Duration::from_millis(20);

/// A proxy whose listeners are bound.
pub struct App {
    config: Config,
    path: Option<PathBuf>,
    listeners: Listeners,
}

impl App {
    /// Binds the listeners of `config`, except those that a service manager has passed. `path` is the file of `config`, which is watched for changes.
    ///
    /// # Errors
    /// An address cannot be bound, or a passed descriptor is no listener; the error names it.
    pub fn bind(config: Config, path: Option<PathBuf>) -> io::Result<App> {
        let listeners = Listeners::open(&config.listen)?;
        Ok(App { config, path, listeners })
    }

    /// The address that serves the app.
    ///
    /// # Errors
    /// The system does not report the address.
    pub fn app_address(&self) -> io::Result<SocketAddr> {
        self.listeners.app.address()
    }

    /// The address of the admin port.
    ///
    /// # Errors
    /// The system does not report the address.
    pub fn admin_address(&self) -> io::Result<SocketAddr> {
        self.listeners.admin.address()
    }

    /// Serves until a command to stop comes. The calling thread becomes the control thread.
    ///
    /// # Errors
    /// A thread or a runtime cannot be created.
    pub fn run(self, commands: Commands) -> io::Result<()> {
        let workers = worker_count(self.config.listen.workers);
        let metrics = Metrics::new();
        let runtime = runtime()?;
        let limits = SystemLimits::find(&self.config.listen);
        let ended = runtime.block_on(async {
            let resolver = Resolver::new(Box::new(System), limits.lookups(&self.config.listen));
            let resolved = resolve::find(&resolver, &self.config.upstreams, LOOKUP_MAX).await;
            let live = Live::build(self.config.clone(), None, &resolved.addresses, &metrics, clock::now());
            let shared = Arc::new(Shared::new(live, metrics, workers));
            report_panics(&shared);
            resolved.emit(shared.live().upstreams(), &shared.metrics);
            self.control(shared, (resolver, limits), workers, commands).await
        });
        // A look-up that hangs in the system's resolver must not delay the exit.
        runtime.shutdown_background();
        ended
    }

    async fn control(
        self,
        shared: Arc<Shared>,
        (resolver, mut limits): (Rc<Resolver>, SystemLimits),
        workers: usize,
        commands: Commands,
    ) -> io::Result<()> {
        let addresses = (self.app_address()?, self.admin_address()?);
        let mut threads = Workers::start(&shared, workers)?;
        let mut watches = resolve::watch(&resolver, shared.live().upstreams(), &shared.metrics);
        limits.fit(&shared);
        let mut listening = Listening::open(&shared, self.listeners, &threads)?;
        shared.emit(&Event::Ready { app: addresses.0, admin: addresses.1, workers });

        let mut file = self.path.map(FileWatch::new);
        let mut look = tokio::time::interval(LOOK_INTERVAL);
        let mut fit = tokio::time::interval(FIT_INTERVAL);
        fit.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let Commands { mut stop, mut reload } = commands;
        let serving = async {
            loop {
                // Each branch only waits, so dropping it loses nothing. What it brings is handled to the end before the next turn.
                let is_reload = tokio::select! {
                    Some(()) = reload.recv() => true,
                    // Only a panic ends an acceptor. A proxy that accepts no connections must not look alive.
                    _ = listening.tasks.join_next() => return io::Error::other("no connections are accepted any more"),
                    _ = look.tick() => file.as_mut().is_some_and(FileWatch::look),
                    _ = fit.tick() => {
                        limits.fit(&shared);
                        false
                    }
                };
                let Some(file) = file.as_mut().filter(|_| is_reload) else { continue };
                if file.reload(&shared, &resolver).await {
                    watches = resolve::watch(&resolver, shared.live().upstreams(), &shared.metrics);
                    threads.let_go();
                }
            }
        };
        let is_drain = tokio::select! {
            biased;
            // A stop also ends a reload under way, which may wait for names. The reload does not wait any more once it puts the generation in force.
            ordered = stop.recv() => ordered.is_some(),
            () = shared.asked_to_quit() => true,
            error = serving => return Err(error),
        };
        if !is_drain {
            threads.cut_off().await;
            return Ok(());
        }
        let drain = shared.live().config.drain;
        // A second signal cuts the drain short.
        tokio::select! {
            () = drain_all(&shared, drain, &mut listening, &mut threads) => {}
            Some(()) = stop.recv() => {}
        }
        threads.cut_off().await;
        drop(watches);
        Ok(())
    }
}

/// The acceptors of both ports.
struct Listening {
    /// The app's acceptor, the heartbeat, and a task that ends with the admin thread; aborted with this set, at the latest when the control thread returns.
    tasks: JoinSet<()>,
    accepting: AbortHandle,
    close_app: watch::Sender<bool>,
    close_admin: watch::Sender<bool>,
    /// Finds a process that takes over our ports. `None` when we have left the ports to it, or if the system cannot report one.
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
        let beating = Arc::clone(shared);
        tasks.spawn_local(async move { beating.keep_beating().await });
        let admin = admin::start(Arc::clone(shared), listeners.admin, admin_closes)?;
        // It reports nothing but its end.
        tasks.spawn_local(async { drop(admin.await) });
        Ok(Listening { tasks, accepting, close_app, close_admin, successor })
    }

    /// Closes the app's acceptor and waits until it has accepted the connections in its queue.
    async fn close_app(&mut self) {
        // The send fails only if the acceptor is closed already.
        let _ = self.close_app.send(true);
        while !self.accepting.is_finished() && self.tasks.join_next().await.is_some() {}
    }

    /// Begins to close both acceptors if another process listens on the same ports. Returns whether it does so now.
    fn leave_to_successor(&mut self) -> bool {
        let is_there = self.successor.take_if(|successor| successor.is_there()).is_some();
        if is_there {
            // The send fails only if the acceptor is closed already.
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
                let _marks_if_lost = Lost(&shared.workers[number]);
                // Without a runtime there is no worker. Its channel closes, and connections go to the other workers.
                let Ok(runtime) = runtime() else { return };
                runtime.block_on(async {
                    Worker::new(Arc::clone(&shared), number, Box::new(Tcp)).run(connections, order).await;
                });
                // The receiver may be gone if the drain was cut short.
                let _ = end.try_send(());
            })?;
            handoffs.push(handoff);
        }
        Ok(Workers { handoffs, orders, ended, running: workers })
    }

    /// Has even idle workers let go of the generation that a reload has replaced.
    fn let_go(&self) {
        // The send fails only if every worker has ended already.
        let _ = self.orders.send(Order::Serve);
    }

    /// Waits until every worker has ended.
    async fn all_ended(&mut self) {
        while self.running > 0 {
            // `None`: all senders are gone, so the other workers have ended too.
            self.running = if self.ended.recv().await.is_some() { self.running - 1 } else { 0 };
        }
    }

    /// Ends the connections that are left, so that no reader takes a part of a response for the whole.
    async fn cut_off(&mut self) {
        // The send fails only if every worker has ended already.
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

/// Counts panics of all threads and logs their places. The message of a panic is dropped, because it may contain a part of a request.
fn report_panics(shared: &Arc<Shared>) {
    let shared = Arc::clone(shared);
    panic::set_hook(Box::new(move |info| {
        let place = info.location().map(ToString::to_string).unwrap_or_default();
        shared.emit(&Event::Panicked { place: &place });
    }));
}

fn runtime() -> io::Result<LocalRuntime> {
    Builder::new_current_thread().enable_all().build_local(LocalOptions::default())
}

/// 0 means the default for a sidecar: one worker on a single core, else two.
fn worker_count(configured: usize) -> usize {
    match configured {
        0 => thread::available_parallelism().map_or(1, |cores| cores.get().min(2)),
        count => count,
    }
}

async fn accept(shared: Arc<Shared>, mut acceptor: Acceptor, handoffs: Vec<mpsc::Sender<StdTcpStream>>) {
    while let Some(accepted) = acceptor.next().await {
        match accepted {
            Ok(tcp) if shared.connections() >= shared.connections_max() => {
                // The socket's buffer is empty, so this short write fails only if the peer is gone.
                let _ = tcp.try_write(CONNECTIONS_MAX);
                shared.emit(&Event::ConnectionRefused);
            }
            Ok(tcp) => hand_over(&shared, tcp, &handoffs).await,
            Err(error) => {
                // An idle connection to an endpoint may have the descriptor that is missing.
                shared.sockets.ask_for_downstream();
                shared.emit(&Event::AcceptFailed(&error));
                clock::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

/// Hands a connection to the living worker with the fewest connections.
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
    // Connections in the queue are accepted before the workers get the order to finish. Later ones are reset with the rest.
    let _in_time = clock::until(end, listening.close_app()).await;
    // The send fails only if every worker has ended already.
    let _ = threads.orders.send(Order::Finish);
    let in_time = clock::until(end, threads.all_ended()).await;
    let cut_off = if in_time.is_some() { 0 } else { shared.requests().1 };
    shared.emit(&Event::Drained { cut_off, took: clock::now().saturating_duration_since(started) });
}

/// Waits until no request has begun or been under way for `silence`, or only `grace` is left. Leaves the ports to a successor as soon as one listens on them.
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::upstream::resolve::Addresses;

    #[test]
    fn a_panic_of_any_thread_is_counted_and_a_worker_that_ends_by_one_is_lost() {
        let config = Config::parse("test.toml", "upstreams.a.endpoints = [\"127.0.0.1:1\"]").expect("valid");
        let metrics = Metrics::new();
        let live = Live::build(config, None, &Addresses::new(), &metrics, clock::now());
        let shared = Arc::new(Shared::new(live, metrics, 2));
        let before = panic::take_hook();
        report_panics(&shared);
        let worker = Arc::clone(&shared);
        let ended = thread::spawn(move || {
            let _marks_if_lost = Lost(&worker.workers[1]);
            panic!("on purpose");
        });
        assert!(ended.join().is_err());
        drop(panic::take_hook());
        panic::set_hook(before);
        // At least one, because other tests of this process may panic meanwhile.
        assert!(shared.metrics.panics.get() >= 1 && shared.has_lost_a_worker());
        drop(Lost(&shared.workers[1]));
        assert!(!shared.has_lost_a_worker(), "a worker that ends in order is not lost");
    }
}
