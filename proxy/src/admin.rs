//! The admin port, on its own listener: `/livez`, `/readyz`, `/metrics`, `/status`, and `/quitquitquit` where it is allowed.
//!
//! It has a thread of its own, on which nothing takes long: so a probe is answered at once when workers are overloaded, when the control thread builds a
//! large configuration, and when a scrape is made ([`scrapes`], on yet another thread). People and Prometheus read the same [`status::Snapshot`]. Only
//! `/quitquitquit` changes anything. hyper speaks HTTP, and each connection gets a tower stack: the count of requests, the [`gate`], a timeout, the routes.
//!
//! It has limits of its own, so that it takes little from the data path and no client can block a probe: the number of connections ([`places`]), the time for a
//! head, the time for a whole exchange, the bytes that the kernel buffers, and the time and memory for [`scrapes`]. Probes share no limit with scrapes.

use std::cell::Cell;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;
use std::{io, thread};

use http::{Method, Request, StatusCode};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use socket2::SockRef;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::runtime::{Builder, LocalOptions};
use tokio::sync::{oneshot, watch};
use tokio::task::JoinSet;
use tower::load_shed::error::Overloaded;
use tower::timeout::error::Elapsed;
use tower::{BoxError, Service, ServiceBuilder, ServiceExt as _};

use self::gate::{Gate, QUIT};
use self::places::{Places, SILENT_MIN, Stage};
use self::response::{Response, reply};
use self::scrapes::{Scrape, Scrapes};
use self::text::Pieces;
use crate::clock;
use crate::downstream::listeners::{Acceptor, Listener};
use crate::shared::Shared;
use crate::telemetry::events::Event;

mod gate;
mod places;
mod response;
mod scrapes;
mod status;
mod text;

/// The time limit of a head. A probe's head arrives with its first packet.
const HEAD_MAX: Duration = Duration::from_secs(5);
/// The time limit of the rest. Then the connection is closed, whether the client has read its response or not.
const RESPONSE_MAX: Duration = Duration::from_secs(10);
/// The time limit of making a response, with the wait for a scrape's turn.
const MAKE_MAX: Duration = Duration::from_secs(5);
/// The size limit of a head.
const HEAD_BYTES_MAX: usize = 16 * 1024;
/// How long the acceptor waits after the system failed to give it a connection.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
/// So many connections are accepted until those that are there have their turn. Fewer than are safe in silence, so a head that has come with its connection is
/// read before another one can need the place.
const ACCEPTS_IN_A_ROW: usize = 16;
const _: () = assert!(ACCEPTS_IN_A_ROW < SILENT_MIN);
/// How much of a response the kernel may buffer. By default it keeps megabytes for a client that does not read. Linux takes it twice.
const SEND_BYTES: usize = 32 * 1024;

/// The label of all other paths, and of connections that ended without a request.
const OTHER: &str = "other";

/// Serves on a thread of its own until `closing` becomes true and the last exchange has ended. The receiver ends with the thread.
///
/// # Errors
/// The thread cannot be created.
pub fn start(
    shared: Arc<Shared>,
    listener: Listener,
    closing: watch::Receiver<bool>,
) -> io::Result<oneshot::Receiver<()>> {
    let (alive, ended) = oneshot::channel();
    thread::Builder::new().name("admin".to_owned()).spawn(move || {
        // Dropped at the end of the thread, also if it is a panic.
        let _alive: oneshot::Sender<()> = alive;
        // One thread besides this one: it makes the texts of scrapes.
        let mut builder = Builder::new_current_thread();
        let runtime = builder.enable_all().max_blocking_threads(1).build_local(LocalOptions::default());
        let Ok(runtime) = runtime else { return };
        runtime.block_on(async {
            let Ok(acceptor) = listener.open(closing) else { return };
            // Neither branch ends before the listener is closed, and then there is nothing left to lose.
            tokio::select! {
                () = serve(Arc::clone(&shared), acceptor) => {}
                () = shared.watch_beats() => {}
            }
        });
    })?;
    Ok(ended)
}

/// Serves each connection until the listener is closed and the last exchange has ended.
async fn serve(shared: Arc<Shared>, mut acceptor: Acceptor) {
    let scrapes = scrapes::limited(written(&shared));
    let (mut places, mut exchanges) = (Places::default(), JoinSet::new());
    let mut in_a_row = 0;
    while let Some(accepted) = acceptor.next().await {
        let Ok(tcp) = accepted else {
            clock::sleep(ACCEPT_PAUSE).await;
            continue;
        };
        while exchanges.try_join_next().is_some() {}
        if places.make_room() == Some(Stage::Silent) {
            shared.emit(&Event::Asked { path: OTHER, status: 0 });
        }
        let socket = SockRef::from(&tcp);
        // If the system refuses, its own sizes stay.
        let _ = (socket.set_send_buffer_size(SEND_BYTES), socket.set_recv_buffer_size(HEAD_BYTES_MAX));
        // A request over loopback comes from a container of this pod.
        let is_local = tcp.peer_addr().is_ok_and(|peer| peer.ip().to_canonical().is_loopback());
        let gate = Gate { shared: Arc::clone(&shared), is_local };
        let stage = Rc::default();
        places.add(exchanges.spawn_local(exchange(tcp, gate, scrapes.clone(), Rc::clone(&stage))), stage);
        in_a_row = (in_a_row + 1) % ACCEPTS_IN_A_ROW;
        if in_a_row == 0 {
            tokio::task::yield_now().await;
        }
    }
    // Each exchange has time limits.
    while exchanges.join_next().await.is_some() {}
}

/// Serves one exchange and closes its connection.
async fn exchange(io: impl AsyncRead + AsyncWrite + Unpin, gate: Gate, scrapes: impl Scrapes, stage: Rc<Cell<Stage>>) {
    let shared = Arc::clone(&gate.shared);
    let service = TowerToHyperService::new(stack(gate, scrapes, Rc::clone(&stage)));
    let mut builder = http1::Builder::new();
    builder.keep_alive(false).max_buf_size(HEAD_BYTES_MAX).timer(TokioTimer::new()).header_read_timeout(HEAD_MAX);
    let served = builder.serve_connection(TokioIo::new(io), service);
    // A client that disconnects or sends no valid HTTP needs no handling.
    let _ = clock::until(clock::now() + HEAD_MAX + RESPONSE_MAX, served).await;
    if stage.get() == Stage::Silent {
        shared.emit(&Event::Asked { path: OTHER, status: 0 });
    }
}

/// The layers that a request of one connection goes through, from the outside in.
fn stack(
    gate: Gate,
    scrapes: impl Scrapes,
    stage: Rc<Cell<Stage>>,
) -> impl Service<Request<Incoming>, Response = Response, Error = BoxError> + Clone {
    let shared = Arc::clone(&gate.shared);
    let (emitting, asked) = (Arc::clone(&shared), Rc::clone(&stage));
    let path = Rc::new(Cell::new(OTHER));
    let counted = Rc::clone(&path);
    ServiceBuilder::new()
        .map_request(move |request: Request<Incoming>| {
            asked.set(Stage::Asked);
            path.set(label(request.uri().path()));
            request
        })
        .map_response(move |response: Response| {
            stage.set(Stage::Responded);
            emitting.emit(&Event::Asked { path: counted.get(), status: response.status().as_u16() });
            response
        })
        .layer(gate)
        .map_result(|made: Result<Response, BoxError>| Ok(made.unwrap_or_else(|error| not_made(&*error))))
        .timeout(MAKE_MAX)
        .service_fn(move |request: Request<Incoming>| {
            let (shared, scrapes) = (Arc::clone(&shared), scrapes.clone());
            async move {
                match route(&shared, request.method(), request.uri().path()) {
                    Route::Ready(response) => Ok(response),
                    Route::Scrape(scrape) => scrapes.oneshot(scrape).await,
                }
            }
        })
}

/// What a path leads to: a response that is made at once, or a scrape.
enum Route {
    Ready(Response),
    Scrape(Scrape),
}

fn route(shared: &Shared, method: &Method, path: &str) -> Route {
    let ready = |status, sentence| Route::Ready(reply(status, sentence));
    match path {
        "/livez" if shared.has_lost_a_worker() => {
            ready(StatusCode::INTERNAL_SERVER_ERROR, "a worker has ended by a panic\n")
        }
        "/livez" if shared.control_stands_still() => {
            ready(StatusCode::INTERNAL_SERVER_ERROR, "the thread that accepts connections stands still\n")
        }
        "/livez" => ready(StatusCode::OK, "ok\n"),
        "/readyz" if shared.is_draining() => ready(StatusCode::SERVICE_UNAVAILABLE, "draining\n"),
        "/readyz" => ready(StatusCode::OK, "ok\n"),
        "/metrics" => Route::Scrape(Scrape::Metrics),
        "/status" => Route::Scrape(Scrape::Status),
        // The gate admits no other POST, and this one only where it is allowed.
        QUIT if method == Method::POST => {
            shared.ask_to_quit();
            ready(StatusCode::OK, "draining\n")
        }
        "/" => ready(StatusCode::OK, "/livez\n/readyz\n/metrics\n/status\n"),
        _ => ready(StatusCode::NOT_FOUND, "not here; / lists what is\n"),
    }
}

/// The label of a path: a known path, or [`OTHER`].
fn label(path: &str) -> &'static str {
    ["/livez", "/readyz", "/metrics", "/status", QUIT].into_iter().find(|known| *known == path).unwrap_or(OTHER)
}

/// Writes the texts of scrapes.
fn written(shared: &Arc<Shared>) -> impl Fn(Scrape) -> Pieces + Clone + Send + 'static {
    let shared = Arc::clone(shared);
    move |scrape| {
        let snapshot = status::Snapshot::take(&shared);
        let mut pieces = Pieces::default();
        match scrape {
            Scrape::Metrics => {
                snapshot.mirror(&shared.metrics);
                shared.metrics.write_text(&mut pieces).expect("families can be encoded, and pieces do not fail");
            }
            Scrape::Status => {
                snapshot.write_json(&mut pieces).expect("numbers and strings can be written, and pieces do not fail");
            }
        }
        pieces
    }
}

/// The response to a request that the stack shed or timed out.
fn not_made(error: &(dyn std::error::Error + Send + Sync + 'static)) -> Response {
    if error.is::<Overloaded>() {
        reply(StatusCode::SERVICE_UNAVAILABLE, "too many ask at once\n")
    } else if error.is::<Elapsed>() {
        reply(StatusCode::SERVICE_UNAVAILABLE, "it took too long; ask again\n")
    } else {
        reply(StatusCode::INTERNAL_SERVER_ERROR, "it could not be made; the log says why\n")
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read as _, Write as _};
    use std::net::SocketAddr;

    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream, duplex};
    use tokio::task::{JoinHandle, LocalSet};

    use super::places::CONNECTIONS_MAX;
    use super::scrapes::SCRAPES_MAX;
    use super::scrapes::tests::held;
    use super::*;
    use crate::config::Config;
    use crate::downstream::listeners::Listeners;
    use crate::live::Live;
    use crate::telemetry::metrics::Metrics;
    use crate::upstream::resolve::Addresses;

    /// The shared state of a proxy with this configuration.
    pub(super) fn shared(more: &str) -> Arc<Shared> {
        let text = format!("{more}\n[upstreams.backend]\nendpoints = [\"127.0.0.1:9\"]\n");
        let config = Config::parse("test.toml", &text).unwrap_or_else(|faults| panic!("{faults}"));
        let metrics = Metrics::new();
        let live = Live::build(config, None, &Addresses::new(), &metrics, clock::now());
        Arc::new(Shared::new(live, metrics, 1))
    }

    fn request(path: &str) -> String {
        format!("GET {path} HTTP/1.1\r\nhost: localhost\r\n\r\n")
    }

    /// A connection and the task that serves it.
    fn connected(shared: &Arc<Shared>, scrapes: impl Scrapes, pipe_bytes: usize) -> (DuplexStream, JoinHandle<()>) {
        let (ours, theirs) = duplex(pipe_bytes);
        let gate = Gate { shared: Arc::clone(shared), is_local: true };
        (ours, tokio::task::spawn_local(exchange(theirs, gate, scrapes, Rc::default())))
    }

    /// The whole response to `request`.
    async fn asked(shared: &Arc<Shared>, scrapes: impl Scrapes, request: &str) -> String {
        let (mut ours, _) = connected(shared, scrapes, 64 * 1024);
        ours.write_all(request.as_bytes()).await.expect("it listens");
        let mut response = String::new();
        ours.read_to_string(&mut response).await.expect("text");
        response
    }

    fn count(shared: &Shared, path: &str, code: &str) -> u64 {
        shared.metrics.admin_requests.with_label_values(&[path, code]).get()
    }

    /// Scrapes whose turn never comes.
    fn stuck() -> impl Scrapes {
        tower::service_fn(|_| std::future::pending())
    }

    #[tokio::test(start_paused = true)]
    async fn probes_are_answered_at_once_while_a_text_is_made_and_as_many_scrapes_wait_as_may() {
        let test = async {
            let shared = shared("");
            let (write, mut held) = held();
            let (scrapes, start, mut waiting) = (scrapes::limited(write), clock::now(), Vec::new());
            for _ in 0..SCRAPES_MAX {
                let (mut ours, _) = connected(&shared, scrapes.clone(), 64 * 1024);
                ours.write_all(request("/metrics").as_bytes()).await.expect("it listens");
                waiting.push(ours);
            }
            held.begun().await;
            for path in ["/livez", "/readyz", "/"] {
                let response = asked(&shared, scrapes.clone(), &request(path)).await;
                assert!(response.starts_with("HTTP/1.1 200 "), "{path}: {response}");
            }
            for path in ["/metrics", "/status"] {
                let response = asked(&shared, scrapes.clone(), &request(path)).await;
                assert!(response.starts_with("HTTP/1.1 503 ") && response.contains("retry-after: 1\r\n"), "{response}");
                assert!(response.ends_with("\r\n\r\ntoo many ask at once\n"), "{response}");
                assert_eq!(count(&shared, path, "5xx"), 1);
            }
            assert_eq!(clock::now(), start, "nobody has waited");
            held.go_on(2);
            for mut ours in waiting {
                let mut response = String::new();
                ours.read_to_string(&mut response).await.expect("text");
                assert!(
                    response.starts_with("HTTP/1.1 200 ") && response.contains("content-length: 6\r\n"),
                    "{response}"
                );
                assert!(response.contains("\r\n\r\ntext "), "{response}");
            }
            assert_eq!(count(&shared, "/metrics", "2xx"), SCRAPES_MAX as u64);
        };
        LocalSet::new().run_until(test).await;
    }

    #[tokio::test(start_paused = true)]
    async fn a_control_thread_that_stands_still_makes_the_proxy_dead_until_it_runs_again() {
        let test = async {
            let shared = shared("");
            let livez = async || asked(&shared, stuck(), &request("/livez")).await[..13].to_owned();
            let watching = async {
                let half = Duration::from_millis(500);
                for _ in 0..60 {
                    assert_eq!(livez().await, "HTTP/1.1 200 ");
                    clock::sleep(half).await;
                }
                clock::sleep(2 * half).await;
                assert_eq!(livez().await, "HTTP/1.1 500 ");
                // It runs again for as long as this is polled.
                let _ = clock::until(clock::now() + 3 * half, shared.keep_beating()).await;
                assert_eq!(livez().await, "HTTP/1.1 200 ");
            };
            tokio::select! {
                () = shared.watch_beats() => {}
                () = watching => {}
            }
        };
        LocalSet::new().run_until(test).await;
    }

    #[tokio::test(start_paused = true)]
    async fn a_response_that_is_not_made_in_time_is_a_503_that_says_so() {
        let test = async {
            let (shared, start) = (shared(""), clock::now());
            let response = asked(&shared, stuck(), &request("/status")).await;
            assert!(
                response.starts_with("HTTP/1.1 503 ") && response.ends_with("it took too long; ask again\n"),
                "{response}"
            );
            let took = clock::now() - start;
            assert!(took >= MAKE_MAX && took < MAKE_MAX + Duration::from_millis(20), "{took:?}");
            assert_eq!(count(&shared, "/status", "5xx"), 1);
        };
        LocalSet::new().run_until(test).await;
    }

    #[tokio::test(start_paused = true)]
    async fn a_peer_that_sends_no_head_or_does_not_read_is_ended_in_its_time() {
        let test = async {
            let shared = shared("");
            let scrapes = scrapes::limited(written(&shared));
            let (whole, total) = (request("/metrics"), HEAD_MAX + RESPONSE_MAX);
            for (sent, ends_after, without_response) in
                [("", HEAD_MAX, 1), ("GET /livez HT", HEAD_MAX, 2), (&whole, total, 2)]
            {
                let start = clock::now();
                // The response does not fit into the pipe.
                let (mut ours, served) = connected(&shared, scrapes.clone(), 64);
                ours.write_all(sent.as_bytes()).await.expect("it listens");
                served.await.expect("it does not panic");
                let took = clock::now() - start;
                assert!(took >= ends_after && took < ends_after + Duration::from_millis(20), "{sent:?}: {took:?}");
                assert_eq!(count(&shared, OTHER, "none"), without_response, "{sent:?}");
            }
            assert_eq!(count(&shared, "/metrics", "2xx"), 1);
        };
        LocalSet::new().run_until(test).await;
    }

    fn connect(address: SocketAddr, path: &str) -> std::net::TcpStream {
        let mut stream = std::net::TcpStream::connect(address).expect("it listens");
        stream.write_all(request(path).as_bytes()).expect("there is room");
        stream
    }

    /// Runs on one thread, which stands for the control thread: all the while it does nothing for the admin listener.
    #[test]
    fn scrapers_that_do_not_read_keep_no_probe_and_no_scraper_from_its_response() {
        let routes = (0..300).map(|n| format!("[[upstreams.many.routes]]\nname = \"r{n}\"\npath_prefix = \"/r{n}\"\n"));
        let many = format!("[upstreams.many]\nendpoints = [\"127.0.0.1:9\"]\n{}", routes.collect::<String>());
        let shared = shared(&format!("[listen]\napp = \"127.0.0.1:0\"\nadmin = \"127.0.0.1:0\"\n{many}"));
        let listeners = Listeners::open(&shared.live().config.listen).expect("free ports");
        let address = listeners.admin.address().expect("bound");
        let (close, closing) = watch::channel(false);
        let ended = start(Arc::clone(&shared), listeners.admin, closing).expect("a thread");
        let mut unread = Vec::new();
        while count(&shared, "/metrics", "2xx") < 2 * CONNECTIONS_MAX as u64 {
            unread.extend((0..20).map(|_| connect(address, "/metrics")));
            for path in ["/livez", "/readyz"] {
                let mut response = String::new();
                connect(address, path).read_to_string(&mut response).expect("a response");
                assert!(response.starts_with("HTTP/1.1 200 "), "{path}: {response}");
            }
        }
        // A scrape beyond the bound of those that wait says so; the others are made in turn.
        let mut whole = String::new();
        while !whole.starts_with("HTTP/1.1 200 ") {
            whole.clear();
            connect(address, "/metrics").read_to_string(&mut whole).expect("a response");
        }
        let (head, body) = whole.split_once("\r\n\r\n").expect("a head");
        assert!(body.len() > 400_000 && head.contains(&format!("content-length: {}\r\n", body.len())), "{head}");
        drop(unread);
        close.send(true).expect("it is there");
        assert!(ended.blocking_recv().is_err(), "the thread has ended");
    }
}
