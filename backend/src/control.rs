//! The control port: faults in, counts out.
//!
//! Small JSON over HTTP, meant for curl and for the lab. Every refusal is a JSON object with one key, `error`. There is
//! no access control: bind it to loopback, or to a pod's own address.

use std::convert::Infallible;
use std::sync::Arc;

use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use hyper::header::{ALLOW, CONTENT_TYPE, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use serde::Serialize;
use tokio::net::TcpStream;

use crate::data::Shared;
use crate::faults::FaultsError;
use crate::plan::Plan;
use crate::received::IdFilter;

/// The faults of the contract, all written out, take about 600 bytes.
const BODY_BYTES_MAX: usize = 64 * 1024;

type JsonResponse = Response<Full<Bytes>>;

/// Why a request was refused.
#[derive(Debug, thiserror::Error)]
enum Refusal {
    #[error("{0}: no such path, there are /faults, /received and /livez")]
    Path(String),
    #[error("{method} {path}: method not allowed, allowed are {allowed}")]
    Method { method: Method, path: &'static str, allowed: &'static str },
    #[error("query: {0}: unknown key")]
    QueryKey(String),
    #[error("query: {key}: {found:?} is not {allowed}")]
    QueryValue { key: &'static str, found: String, allowed: &'static str },
    #[error("body: cut off, or larger than {BODY_BYTES_MAX} bytes")]
    Body,
    #[error(transparent)]
    Faults(#[from] FaultsError),
}

impl Refusal {
    fn status(&self) -> StatusCode {
        match self {
            Self::Path(_) => StatusCode::NOT_FOUND,
            Self::Method { .. } => StatusCode::METHOD_NOT_ALLOWED,
            Self::QueryKey(_) | Self::QueryValue { .. } | Self::Body | Self::Faults(_) => StatusCode::BAD_REQUEST,
        }
    }
}

/// Serves one connection to its end.
pub(crate) async fn serve(stream: TcpStream, shared: Arc<Shared>) {
    let service = service_fn(|request| {
        let shared = Arc::clone(&shared);
        async move { Ok::<_, Infallible>(route(request, &shared).await.unwrap_or_else(|refusal| refused(&refusal))) }
    });
    // An error means that the client left or spoke no HTTP. Neither needs an action.
    let _ = http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
}

async fn route(request: Request<Incoming>, shared: &Shared) -> Result<JsonResponse, Refusal> {
    let query = request.uri().query().unwrap_or_default().to_owned();
    let method = request.method().clone();
    match request.uri().path() {
        "/faults" => faults(request, &query, shared).await,
        "/received" => received(&method, &query, shared),
        "/livez" if method == Method::GET => Ok(Response::new(Full::from("ok\n"))),
        "/livez" => Err(Refusal::Method { method, path: "/livez", allowed: "GET" }),
        other => Err(Refusal::Path(other.to_owned())),
    }
}

async fn faults(request: Request<Incoming>, query: &str, shared: &Shared) -> Result<JsonResponse, Refusal> {
    let seed = parse_seed(query)?;
    match *request.method() {
        Method::GET => {}
        Method::PUT => {
            let body = Limited::new(request.into_body(), BODY_BYTES_MAX).collect().await.map_err(|_| Refusal::Body)?;
            shared.draws.replace(Plan::from_json(&body.to_bytes())?, seed);
        }
        Method::DELETE => shared.draws.replace(Plan::default(), seed),
        _ => {
            let method = request.method().clone();
            return Err(Refusal::Method { method, path: "/faults", allowed: "GET, PUT, DELETE" });
        }
    }
    Ok(json(StatusCode::OK, &shared.draws.faults()))
}

fn received(method: &Method, query: &str, shared: &Shared) -> Result<JsonResponse, Refusal> {
    let filter = parse_filter(query)?;
    match *method {
        Method::GET => {}
        Method::DELETE => shared.received.reset(),
        _ => return Err(Refusal::Method { method: method.clone(), path: "/received", allowed: "GET, DELETE" }),
    }
    Ok(json(StatusCode::OK, &shared.received.report(filter)))
}

fn parse_seed(query: &str) -> Result<Option<u64>, Refusal> {
    let mut seed = None;
    for (key, value) in pairs(query) {
        match key {
            "seed" => {
                let refusal =
                    |_| Refusal::QueryValue { key: "seed", found: value.to_owned(), allowed: "a whole number" };
                seed = Some(value.parse().map_err(refusal)?);
            }
            _ => return Err(Refusal::QueryKey(key.to_owned())),
        }
    }
    Ok(seed)
}

fn parse_filter(query: &str) -> Result<IdFilter, Refusal> {
    let (mut ids, mut repeated) = (true, false);
    for (key, value) in pairs(query) {
        match key {
            "ids" => ids = parse_bool("ids", value)?,
            "repeated" => repeated = parse_bool("repeated", value)?,
            _ => return Err(Refusal::QueryKey(key.to_owned())),
        }
    }
    Ok(match (ids, repeated) {
        (false, _) => IdFilter::Omit,
        (true, true) => IdFilter::Repeated,
        (true, false) => IdFilter::All,
    })
}

fn parse_bool(key: &'static str, value: &str) -> Result<bool, Refusal> {
    value.parse().map_err(|_| Refusal::QueryValue { key, found: value.to_owned(), allowed: "true or false" })
}

/// No percent-decoding: no key or value of ours needs it.
fn pairs(query: &str) -> impl Iterator<Item = (&str, &str)> {
    query.split('&').filter(|pair| !pair.is_empty()).map(|pair| pair.split_once('=').unwrap_or((pair, "")))
}

fn refused(refusal: &Refusal) -> JsonResponse {
    #[derive(Serialize)]
    struct Body {
        error: String,
    }
    let mut response = json(refusal.status(), &Body { error: refusal.to_string() });
    if let Refusal::Method { allowed, .. } = refusal {
        response.headers_mut().insert(ALLOW, HeaderValue::from_static(allowed));
    }
    response
}

fn json(status: StatusCode, value: &impl Serialize) -> JsonResponse {
    let mut text = serde_json::to_vec(value).expect("our types have text keys and cannot fail to serialise");
    text.push(b'\n');
    let mut response = Response::new(Full::from(text));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}
