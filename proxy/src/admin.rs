//! The operator's side, on its own listener: `/livez`, `/readyz`, `/metrics`, `/status`.
//!
//! It runs on the control thread, so that workers that are busy or stuck do not hide what they do, and reads one [`status::Snapshot`] for both people
//! and Prometheus. Nothing here changes anything.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode, header};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::sync::Semaphore;

use crate::clock;
use crate::listeners::Door;
use crate::shared::Shared;

mod status;

/// Probes, one or two scrapers, a person with curl.
const CONNECTIONS_MAX: usize = 64;
/// For one request and its answer, after which the connection is closed: who does not read gives its place to the next.
const EXCHANGE_MAX: Duration = Duration::from_secs(10);
const TEXT: &str = "text/plain; charset=utf-8";
/// The text format that every Prometheus reads.
const EXPOSITION: &str = "text/plain; version=0.0.4; charset=utf-8";

/// Answers whoever comes in until the door is closed.
pub async fn serve(shared: Arc<Shared>, mut door: Door) {
    let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    loop {
        // The semaphore is never closed, so this only waits for a place.
        let Ok(place) = Arc::clone(&places).acquire_owned().await else { return };
        let Some(accepted) = door.next().await else { return };
        let Ok(tcp) = accepted else {
            clock::sleep(Duration::from_millis(50)).await;
            continue;
        };
        let shared = Arc::clone(&shared);
        // Ends with its connection, which has a limit.
        tokio::task::spawn_local(async move {
            let _place = place;
            let service = service_fn(move |request| {
                let answer = answer(&shared, &request);
                async move { Ok::<_, Infallible>(answer) }
            });
            let served = http1::Builder::new().keep_alive(false).serve_connection(TokioIo::new(tcp), service);
            // A peer that leaves or talks nonsense is its own affair.
            let _ = clock::until(clock::now() + EXCHANGE_MAX, served).await;
        });
    }
}

fn answer(shared: &Shared, request: &Request<Incoming>) -> Response<Full<Bytes>> {
    if request.method() != Method::GET && request.method() != Method::HEAD {
        return reply(StatusCode::METHOD_NOT_ALLOWED, TEXT, "only GET\n".to_owned());
    }
    match request.uri().path() {
        "/livez" if shared.has_lost_a_worker() => {
            reply(StatusCode::INTERNAL_SERVER_ERROR, TEXT, "a worker has ended by a panic\n".to_owned())
        }
        "/livez" => reply(StatusCode::OK, TEXT, "ok\n".to_owned()),
        "/readyz" if shared.is_draining() => reply(StatusCode::SERVICE_UNAVAILABLE, TEXT, "draining\n".to_owned()),
        "/readyz" => reply(StatusCode::OK, TEXT, "ok\n".to_owned()),
        "/metrics" => {
            status::Snapshot::take(shared).mirror(&shared.metrics);
            reply(StatusCode::OK, EXPOSITION, shared.metrics.text())
        }
        "/status" => reply(StatusCode::OK, "application/json", status::Snapshot::take(shared).json()),
        "/" => reply(StatusCode::OK, TEXT, "/livez\n/readyz\n/metrics\n/status\n".to_owned()),
        _ => reply(StatusCode::NOT_FOUND, TEXT, "not here; / lists what is\n".to_owned()),
    }
}

fn reply(status: StatusCode, content_type: &str, body: String) -> Response<Full<Bytes>> {
    let builder = Response::builder().status(status).header(header::CONTENT_TYPE, content_type);
    builder
        .header(header::CACHE_CONTROL, "no-store")
        .body(Full::new(Bytes::from(body)))
        .expect("the fields above are valid")
}
