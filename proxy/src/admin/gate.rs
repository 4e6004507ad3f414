//! Decides which requests may use the admin port. A browser that can reach it may show a page of another site, and that page must not use it.
//!
//! An attacker can make a name of theirs point here (DNS rebinding). Then the browser takes our responses for those of the attacker's site, but it still sends
//! the attacker's name in `Host`. So the gate admits only requests to an IP address, to `localhost`, or to a configured name. Probes and scrapers use a pod's
//! address and pass; pages do not. A request that changes something must also be a POST, and must not come from another site.
//!
//! [`Gate`] is a layer of the stack: a request that it refuses never reaches the layers below.

use std::future::ready;
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use http::uri::Authority;
use http::{HeaderName, Method, Request, StatusCode, Version, header};
use tower::{Layer, Service};

use super::response::{Response, reply};
use crate::shared::Shared;

const FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");

/// A refusal: its status and a sentence for a person.
type Refusal = (StatusCode, &'static str);

/// Ends the proxy in order: for a Job whose sidecar Kubernetes would not end.
pub(super) const QUIT: &str = "/quitquitquit";

/// The gate for one connection. It asks the configuration that is in force when the request comes.
#[derive(Clone)]
pub(super) struct Gate {
    /// Has the configuration in force.
    pub(super) shared: Arc<Shared>,
    /// Whether the peer is a container of this pod.
    pub(super) is_local: bool,
}

impl<S> Layer<S> for Gate {
    type Service = Gated<S>;

    fn layer(&self, inner: S) -> Gated<S> {
        Gated { gate: self.clone(), inner }
    }
}

/// A service behind the gate.
#[derive(Clone)]
pub(super) struct Gated<S> {
    gate: Gate,
    inner: S,
}

impl<S, B> Service<Request<B>> for Gated<S>
where
    S: Service<Request<B>, Response = Response>,
    S::Error: 'static,
    S::Future: 'static,
{
    type Response = Response;
    type Error = S::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Response, S::Error>>>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        match self.gate.admit(&request) {
            Ok(()) => Box::pin(self.inner.call(request)),
            Err((status, sentence)) => Box::pin(ready(Ok(reply(status, sentence)))),
        }
    }
}

impl Gate {
    fn admit<B>(&self, request: &Request<B>) -> Result<(), Refusal> {
        let live = self.shared.live();
        let may_change = self.is_local && live.config.drain.quit && request.uri().path() == QUIT;
        admit(request, &live.config.listen.admin_hosts, may_change)
    }
}

/// Admits a request or says why not. `names` are the hosts besides addresses; `may_change` says that the target accepts a POST from this peer.
fn admit<B>(request: &Request<B>, names: &[String], may_change: bool) -> Result<(), Refusal> {
    let host = host(request)?;
    if !host.as_ref().is_none_or(|host| is_ours(host.host(), names)) {
        return Err((
            StatusCode::MISDIRECTED_REQUEST,
            "this host is not served: ask by address, as localhost, or by a name of listen.admin_hosts\n",
        ));
    }
    if is_read(request.method()) {
        return Ok(());
    }
    if is_cross_site(request, host.as_ref()) {
        return Err((StatusCode::FORBIDDEN, "not for pages of other sites\n"));
    }
    if may_change && request.method() == Method::POST {
        return Ok(());
    }
    Err((StatusCode::METHOD_NOT_ALLOWED, "only GET and HEAD\n"))
}

fn is_read(method: &Method) -> bool {
    method == Method::GET || method == Method::HEAD
}

/// The one host that a request is for. Only HTTP/1.0 may leave it out, which no browser speaks.
fn host<B>(request: &Request<B>) -> Result<Option<Authority>, Refusal> {
    if let Some(authority) = request.uri().authority() {
        return Ok(Some(authority.clone()));
    }
    let mut given = request.headers().get_all(header::HOST).iter();
    match (given.next(), given.next()) {
        (None, _) if request.version() == Version::HTTP_10 => Ok(None),
        (Some(host), None) => match Authority::try_from(host.as_bytes()) {
            Ok(authority) if !authority.as_str().contains('@') => Ok(Some(authority)),
            _ => Err((StatusCode::BAD_REQUEST, "no valid host\n")),
        },
        _ => Err((StatusCode::BAD_REQUEST, "not one host\n")),
    }
}

fn is_ours(host: &str, names: &[String]) -> bool {
    let bare = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(host);
    bare.parse::<IpAddr>().is_ok() || names.iter().any(|name| name.eq_ignore_ascii_case(host))
}

/// Whether a browser says that a page of another site sent the request. Other clients do not send these fields.
fn is_cross_site<B>(request: &Request<B>, host: Option<&Authority>) -> bool {
    let headers = request.headers();
    let is_foreign_fetch = headers.get(FETCH_SITE).is_some_and(|site| site != "same-origin" && site != "none");
    let own = host.map(|host| format!("http://{host}"));
    let is_foreign_origin =
        headers.get(header::ORIGIN).is_some_and(|origin| own.as_deref().is_none_or(|own| origin != own));
    is_foreign_fetch || is_foreign_origin
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The one target that takes a POST.
    const CHANGES: &str = "/change";

    fn asked(method: &str, target: &str, headers: &[(&str, &str)]) -> Result<(), u16> {
        let mut builder = Request::builder().method(method).uri(target);
        for (name, value) in headers {
            builder = builder.header(*name, *value);
        }
        let names = ["localhost".to_owned(), "scrape.internal".to_owned()];
        admit(&builder.body(()).expect("a request"), &names, target == CHANGES).map_err(|(status, _)| status.as_u16())
    }

    #[tokio::test]
    async fn only_admitted_requests_reach_the_service_below() {
        let drain = |quit: &str| super::super::tests::shared(&format!("[drain]\nquit = {quit}\n"));
        let passed = |shared: &Arc<Shared>, is_local, method, target, host| {
            let mut passed = false;
            let gate = Gate { shared: Arc::clone(shared), is_local };
            let mut below = gate.layer(tower::service_fn(|_: Request<()>| {
                passed = true;
                ready(Ok::<_, std::convert::Infallible>(reply(StatusCode::OK, "below")))
            }));
            let request = Request::builder().method(method).uri(target).header(header::HOST, host).body(());
            let responding = below.call(request.expect("a request"));
            drop(below);
            (passed, responding)
        };
        let (open, closed) = (drain("true"), drain("false"));
        for (shared, is_local, method, target, host, wanted) in [
            (&closed, true, "GET", "/metrics", "127.0.0.1", 200),
            (&closed, false, "GET", "/metrics", "127.0.0.1", 200),
            (&closed, true, "GET", "/metrics", "evil.example", 421),
            (&closed, true, "POST", QUIT, "127.0.0.1", 405),
            (&open, false, "POST", QUIT, "127.0.0.1", 405),
            (&open, true, "POST", "/metrics", "127.0.0.1", 405),
            (&open, true, "POST", QUIT, "evil.example", 421),
            (&open, true, "POST", QUIT, "127.0.0.1", 200),
        ] {
            let (passed, responding) = passed(shared, is_local, method, target, host);
            let status = responding.await.map(|response| response.status().as_u16());
            assert_eq!((status, passed), (Ok(wanted), wanted == 200), "{method} {target} for {host}");
        }
    }

    #[test]
    fn a_request_is_addressed_to_an_address_or_a_known_name() {
        for (target, host, wanted) in [
            ("/metrics", "127.0.0.1:4191", Ok(())),
            ("/metrics", "10.2.3.4", Ok(())),
            ("/metrics", "[::1]:4191", Ok(())),
            ("/metrics", "[fd00::7]", Ok(())),
            ("/metrics", "localhost:4191", Ok(())),
            ("/metrics", "LOCALHOST", Ok(())),
            ("/metrics", "scrape.internal:80", Ok(())),
            ("/metrics", "evil.example:4191", Err(421)),
            ("/metrics", "127.0.0.1.evil.example", Err(421)),
            ("/metrics", "localhost.evil.example", Err(421)),
            ("/metrics", "", Err(400)),
            ("/metrics", "127.0.0.1 evil", Err(400)),
            ("/metrics", "localhost@evil.example", Err(400)),
            ("http://evil.example/metrics", "localhost", Err(421)),
            ("http://127.0.0.1/metrics", "evil.example", Ok(())),
        ] {
            assert_eq!(asked("GET", target, &[("host", host)]), wanted, "{target} {host:?}");
        }
        assert_eq!(asked("GET", "/", &[]), Err(400));
        assert_eq!(asked("GET", "/", &[("host", "localhost"), ("host", "localhost")]), Err(400));
    }

    #[test]
    fn a_change_takes_a_post_and_none_from_another_site() {
        let host = ("host", "127.0.0.1:4191");
        for (method, header, wanted) in [
            ("POST", ("accept", "*/*"), Ok(())),
            ("POST", ("origin", "http://127.0.0.1:4191"), Ok(())),
            ("POST", ("origin", "http://rebound.example"), Err(403)),
            ("POST", ("origin", "null"), Err(403)),
            ("POST", ("sec-fetch-site", "cross-site"), Err(403)),
            ("PUT", ("accept", "*/*"), Err(405)),
            ("DELETE", ("accept", "*/*"), Err(405)),
        ] {
            assert_eq!(asked(method, CHANGES, &[host, header]), wanted, "{method} {header:?}");
        }
        assert_eq!(asked("POST", CHANGES, &[("host", "rebound.example")]), Err(421));
    }

    #[test]
    fn a_method_that_does_not_read_is_a_405_and_from_another_site_a_403() {
        let host = ("host", "127.0.0.1:4191");
        for (header, wanted) in [
            (("accept", "*/*"), 405),
            (("sec-fetch-site", "same-origin"), 405),
            (("sec-fetch-site", "none"), 405),
            (("sec-fetch-site", "cross-site"), 403),
            (("sec-fetch-site", "same-site"), 403),
            (("origin", "http://127.0.0.1:4191"), 405),
            (("origin", "http://127.0.0.1"), 403),
            (("origin", "https://127.0.0.1:4191"), 403),
            (("origin", "null"), 403),
        ] {
            for method in ["POST", "PUT", "DELETE", "OPTIONS", "TRACE"] {
                assert_eq!(asked(method, "/", &[host, header]), Err(wanted), "{method} {header:?}");
            }
            assert_eq!(asked("GET", "/", &[host, header]), Ok(()), "a page cannot read the response: {header:?}");
        }
    }
}
