//! The admin port, on its own listener: `/livez`, `/readyz`, `/metrics`, `/status`, and `/quitquitquit` where it is allowed.
//!
//! It runs on the control thread, so that it responds even when workers are overloaded or stuck. People and Prometheus read the same [`status::Snapshot`]. Only
//! `/quitquitquit` changes anything. hyper speaks HTTP, and each connection gets a tower stack: the count of requests, the [`gate`], a timeout, the routes.
//!
//! It has limits of its own, so that it takes little from the data path and no client can block a probe: the number of connections ([`places`]), the time for a
//! head, the time for a whole exchange, and a rate for expensive requests ([`scrapes`]). Probes share no limit with scrapes.

use std::cell::Cell;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use http::{Method, Request, StatusCode};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite};
use tower::load_shed::error::Overloaded;
use tower::timeout::error::Elapsed;
use tower::{BoxError, Service, ServiceBuilder, ServiceExt as _};

use self::gate::{Gate, QUIT};
use self::places::{CONNECTIONS_MAX, Places, Stage};
use self::response::{Response, TEXT, reply};
use self::scrapes::{SCRAPES_MAX, Scrape, Scrapes};
use crate::clock;
use crate::downstream::listeners::Acceptor;
use crate::shared::Shared;
use crate::telemetry::events::Event;

mod gate;
mod places;
mod response;
mod scrapes;
mod status;

/// The time limit of a head. A probe's head arrives with its first packet.
const HEAD_MAX: Duration = Duration::from_secs(5);
/// The time limit of the rest. Then the connection is closed, whether the client has read its response or not.
const RESPONSE_MAX: Duration = Duration::from_secs(10);
/// The time limit of making a response, with the wait for a scrape's turn. The last scrape that may wait has its turn in less than half of it.
const MAKE_MAX: Duration = Duration::from_secs(5);
/// The size limit of a head.
const HEAD_BYTES_MAX: usize = 16 * 1024;
/// How long the acceptor waits after the system failed to give it a connection.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
/// The text format that every Prometheus reads.
const EXPOSITION: &str = "text/plain; version=0.0.4; charset=utf-8";

/// The label of all other paths, and of connections that ended without a request.
const OTHER: &str = "other";

/// Scrapes alone can never take all connections.
const _: () = assert!(SCRAPES_MAX < CONNECTIONS_MAX);

/// Serves each connection until the listener is closed.
pub async fn serve(shared: Arc<Shared>, mut acceptor: Acceptor) {
    let scrapes = scrapes::limited(scraped(&shared));
    let mut places = Places::default();
    while let Some(accepted) = acceptor.next().await {
        let Ok(tcp) = accepted else {
            clock::sleep(ACCEPT_PAUSE).await;
            continue;
        };
        if places.make_room() == Some(Stage::Silent) {
            shared.emit(&Event::Asked { path: OTHER, status: 0 });
        }
        // A request over loopback comes from a container of this pod.
        let is_local = tcp.peer_addr().is_ok_and(|peer| peer.ip().to_canonical().is_loopback());
        let gate = Gate { shared: Arc::clone(&shared), is_local };
        let stage = Rc::default();
        // The task ends with its connection, which has time limits.
        let task = tokio::task::spawn_local(exchange(tcp, gate, scrapes.clone(), Rc::clone(&stage))).abort_handle();
        places.add(task, stage);
    }
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
    let ready = |status, sentence: &'static str| Route::Ready(reply(status, TEXT, sentence));
    match path {
        "/livez" if shared.has_lost_a_worker() => {
            ready(StatusCode::INTERNAL_SERVER_ERROR, "a worker has ended by a panic\n")
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

/// Makes the responses to scrapes.
fn scraped(shared: &Arc<Shared>) -> impl Fn(Scrape) -> Response + Clone + Send + 'static {
    let shared = Arc::clone(shared);
    move |scrape| {
        let snapshot = status::Snapshot::take(&shared);
        match scrape {
            Scrape::Metrics => {
                snapshot.mirror(&shared.metrics);
                reply(StatusCode::OK, EXPOSITION, shared.metrics.text())
            }
            Scrape::Status => reply(StatusCode::OK, "application/json", snapshot.json()),
        }
    }
}

/// The response to a request that the stack shed or timed out.
fn not_made(error: &(dyn std::error::Error + Send + Sync + 'static)) -> Response {
    if error.is::<Overloaded>() {
        reply(StatusCode::SERVICE_UNAVAILABLE, TEXT, "too many ask at once\n")
    } else if error.is::<Elapsed>() {
        reply(StatusCode::SERVICE_UNAVAILABLE, TEXT, "it took too long; ask again\n")
    } else {
        reply(StatusCode::INTERNAL_SERVER_ERROR, TEXT, "scrapes are not served any more\n")
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream, duplex};
    use tokio::task::{JoinHandle, LocalSet};

    use super::scrapes::RATE;
    use super::*;
    use crate::config::Config;
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
    async fn probes_are_answered_at_once_while_as_many_scrapes_wait_as_may() {
        let local = LocalSet::new();
        let test = async {
            let shared = shared("");
            let scrapes = scrapes::limited(scraped(&shared));
            let (start, mut waiting) = (clock::now(), Vec::new());
            for _ in 0..RATE.0 {
                asked(&shared, scrapes.clone(), &request("/metrics")).await;
            }
            for _ in 0..SCRAPES_MAX {
                let (mut ours, _) = connected(&shared, scrapes.clone(), 64 * 1024);
                ours.write_all(request("/metrics").as_bytes()).await.expect("it listens");
                waiting.push(ours);
            }
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
            for mut ours in waiting {
                let mut response = String::new();
                ours.read_to_string(&mut response).await.expect("text");
                assert!(response.starts_with("HTTP/1.1 200 ") && response.contains("outrigger_"), "{response}");
            }
            assert!(clock::now() - start < MAKE_MAX / 2);
            assert_eq!(count(&shared, "/metrics", "2xx"), RATE.0 + SCRAPES_MAX as u64);
        };
        local.run_until(test).await;
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
            let scrapes = scrapes::limited(scraped(&shared));
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
}
