//! The operator's side, on its own listener: `/livez`, `/readyz`, `/metrics`, `/status`, and `/quitquitquit` where it is allowed.
//!
//! It runs on the control thread, so that workers that are busy or stuck do not hide what they do, and reads one [`status::Snapshot`] for both people
//! and Prometheus. Nothing else here changes anything. It has limits of its own, so that it neither takes much from the data path nor can be kept from a probe: connections, the time for
//! a head, the time for the whole, and [`turns`] for what costs something. When all places are taken, the longest-silent connection makes room.

use std::cell::Cell;
use std::collections::VecDeque;
use std::convert::Infallible;
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderName, Method, Request, Response, StatusCode, header};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::task::AbortHandle;

use self::turns::Turns;
use crate::clock;
use crate::events::Event;
use crate::listeners::Door;
use crate::shared::Shared;

mod gate;
mod status;
mod turns;

/// Probes, one or two scrapers, a person with curl.
const CONNECTIONS_MAX: usize = 64;
/// For a head; a probe's comes with its first packet.
const HEAD_MAX: Duration = Duration::from_secs(5);
/// For the rest, after which the connection is closed: who does not read gives its place to the next.
const ANSWER_MAX: Duration = Duration::from_secs(10);
/// Of a head.
const HEAD_BYTES_MAX: usize = 16 * 1024;
/// When the system gives no connection.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
const TEXT: &str = "text/plain; charset=utf-8";
/// Ends the proxy in order: for a Job whose sidecar Kubernetes would not end.
const QUIT: &str = "/quitquitquit";
/// The text format that every Prometheus reads.
const EXPOSITION: &str = "text/plain; version=0.0.4; charset=utf-8";
/// No page of another site may have our answers in it, not even as a script or a picture.
const RESOURCE_POLICY: HeaderName = HeaderName::from_static("cross-origin-resource-policy");

/// Answers whoever comes in until the door is closed.
pub async fn serve(shared: Arc<Shared>, mut door: Door) {
    let turns = Rc::new(Turns::new(clock::now()));
    let mut places = Places::default();
    while let Some(accepted) = door.next().await {
        let Ok(tcp) = accepted else {
            clock::sleep(ACCEPT_PAUSE).await;
            continue;
        };
        let room = places.make_room();
        if room != Room::Free {
            // Somebody goes without an answer.
            shared.tell(&Event::Asked { path: "other", status: 0 });
        }
        if room == Room::None {
            continue;
        }
        let has_asked = Rc::new(Cell::new(false));
        let talk = talk(Arc::clone(&shared), Rc::clone(&turns), tcp, Rc::clone(&has_asked));
        // Ends with its connection, which has a limit.
        let task = tokio::task::spawn_local(talk).abort_handle();
        places.0.push_back(Place { task, has_asked });
    }
}

/// The connections there are, in the order in which they came.
#[derive(Default)]
struct Places(VecDeque<Place>);

struct Place {
    task: AbortHandle,
    has_asked: Rc<Cell<bool>>,
}

/// For one connection more.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Room {
    Free,
    /// By the end of the one that had been there the longest without asking anything.
    Made,
    /// Everybody is being answered: the new one has to come back.
    None,
}

impl Places {
    fn make_room(&mut self) -> Room {
        self.0.retain(|place| !place.task.is_finished());
        if self.0.len() < CONNECTIONS_MAX {
            return Room::Free;
        }
        let silent = self.0.iter().position(|place| !place.has_asked.get());
        let Some(place) = silent.and_then(|at| self.0.remove(at)) else { return Room::None };
        place.task.abort();
        Room::Made
    }
}

/// One exchange, whose connection is closed then.
async fn talk(shared: Arc<Shared>, turns: Rc<Turns>, tcp: TcpStream, has_asked: Rc<Cell<bool>>) {
    let asked = Rc::clone(&has_asked);
    // What is asked over loopback comes from a container of this pod.
    let is_local = tcp.peer_addr().is_ok_and(|peer| peer.ip().to_canonical().is_loopback());
    let telling = Arc::clone(&shared);
    let service = service_fn(move |request: Request<Incoming>| {
        asked.set(true);
        let (shared, turns) = (Arc::clone(&shared), Rc::clone(&turns));
        async move {
            let answer = answer(&shared, &turns, &request, is_local).await;
            shared.tell(&Event::Asked { path: path(&request), status: answer.status().as_u16() });
            Ok::<_, Infallible>(answer)
        }
    });
    let mut builder = http1::Builder::new();
    builder.keep_alive(false).max_buf_size(HEAD_BYTES_MAX);
    let mut served = pin!(builder.serve_connection(TokioIo::new(tcp), service));
    // A peer that leaves or talks nonsense is its own affair.
    if clock::until(clock::now() + HEAD_MAX, &mut served).await.is_none() && has_asked.get() {
        let _ = clock::until(clock::now() + ANSWER_MAX, served).await;
    }
    if !has_asked.get() {
        telling.tell(&Event::Asked { path: "other", status: 0 });
    }
}

/// The path as a label: those that there are, no others.
fn path(request: &Request<Incoming>) -> &'static str {
    ["/livez", "/readyz", "/metrics", "/status", QUIT]
        .into_iter()
        .find(|path| *path == request.uri().path())
        .unwrap_or("other")
}

async fn answer(shared: &Shared, turns: &Turns, request: &Request<Incoming>, is_local: bool) -> Response<Full<Bytes>> {
    let live = shared.live();
    let is_quit = is_local && live.config.drain.quit && request.uri().path() == QUIT;
    if let Err((status, sentence)) = gate::admit(request, &live.config.listen.admin_hosts, is_quit) {
        return reply(status, TEXT, sentence.to_owned());
    }
    match request.uri().path() {
        QUIT if is_quit && request.method() == Method::POST => {
            shared.ask_to_quit();
            reply(StatusCode::OK, TEXT, "draining\n".to_owned())
        }
        "/livez" if shared.has_lost_a_worker() => {
            reply(StatusCode::INTERNAL_SERVER_ERROR, TEXT, "a worker has ended by a panic\n".to_owned())
        }
        "/livez" => reply(StatusCode::OK, TEXT, "ok\n".to_owned()),
        "/readyz" if shared.is_draining() => reply(StatusCode::SERVICE_UNAVAILABLE, TEXT, "draining\n".to_owned()),
        "/readyz" => reply(StatusCode::OK, TEXT, "ok\n".to_owned()),
        "/metrics" => {
            in_turn(turns, || {
                status::Snapshot::take(shared).mirror(&shared.metrics);
                reply(StatusCode::OK, EXPOSITION, shared.metrics.text())
            })
            .await
        }
        "/status" => {
            in_turn(turns, || reply(StatusCode::OK, "application/json", status::Snapshot::take(shared).json())).await
        }
        "/" => reply(StatusCode::OK, TEXT, "/livez\n/readyz\n/metrics\n/status\n".to_owned()),
        _ => reply(StatusCode::NOT_FOUND, TEXT, "not here; / lists what is\n".to_owned()),
    }
}

async fn in_turn(turns: &Turns, answer: impl FnOnce() -> Response<Full<Bytes>>) -> Response<Full<Bytes>> {
    let Some(turn) = turns.next(clock::now()) else {
        return reply(StatusCode::SERVICE_UNAVAILABLE, TEXT, "too many ask at once\n".to_owned());
    };
    clock::sleep_until(turn).await;
    answer()
}

fn reply(status: StatusCode, content_type: &str, body: String) -> Response<Full<Bytes>> {
    let mut builder = Response::builder().status(status).header(header::CONTENT_TYPE, content_type);
    builder = match status {
        StatusCode::METHOD_NOT_ALLOWED => builder.header(header::ALLOW, "GET, HEAD"),
        StatusCode::SERVICE_UNAVAILABLE => builder.header(header::RETRY_AFTER, "1"),
        _ => builder,
    };
    builder
        .header(header::CACHE_CONTROL, "no-store")
        .header(header::X_CONTENT_TYPE_OPTIONS, "nosniff")
        .header(RESOURCE_POLICY, "same-origin")
        .body(Full::new(Bytes::from(body)))
        .expect("the fields above are valid")
}
