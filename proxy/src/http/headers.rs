//! One clear meaning of a head, in both directions (RFC 9110 §7, RFC 9112).
//!
//! A request leaves as `HTTP/1.1` with an origin-form target, exactly one `Host`, no hop-by-hop field, and framing that comes from what we know of the
//! body, never from a copied field. What has two meanings is refused. The same holds for answers: where `Transfer-Encoding` stood beside `Content-Length`,
//! the length goes, since a cut body would otherwise look whole.

use std::time::{Duration, SystemTime};

use http::header::{self, HeaderName};
use http::{HeaderMap, HeaderValue, Method, Uri, Version, request, response, uri};
use outrigger_policy::outcome::Pushback;

use crate::error::ProxyError;

/// Fields that end at each hop whether `Connection` names them or not, and framing, which each hop makes anew.
static HOP_BY_HOP: [HeaderName; 10] = [
    header::CONNECTION,
    header::TRANSFER_ENCODING,
    header::UPGRADE,
    header::TE,
    header::PROXY_AUTHORIZATION,
    header::PROXY_AUTHENTICATE,
    header::EXPECT,
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
    HeaderName::from_static("http2-settings"),
];
const CONNECTION: usize = 0;
const TRANSFER_ENCODING: usize = 1;
const KEEP_ALIVE: usize = 7;

/// Fields that a `Connection` header must not take away: a caller could otherwise strip what the next hop decides by.
static END_TO_END: [HeaderName; 9] = [
    header::HOST,
    header::CONTENT_LENGTH,
    header::AUTHORIZATION,
    header::COOKIE,
    header::VIA,
    header::FORWARDED,
    header::CACHE_CONTROL,
    HeaderName::from_static("idempotency-key"),
    HeaderName::from_static("x-forwarded-for"),
];

const VIA: HeaderValue = HeaderValue::from_static("1.1 outrigger");

/// Whom the caller wants to reach.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Target {
    /// Host without port, as the caller wrote it.
    pub host: String,
    /// The target was absolute: the caller uses us as its proxy and meant exactly this host.
    pub is_absolute: bool,
}

/// What an answer's head says beyond its fields.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct AnswerNotes {
    /// `Retry-After`.
    pub pushback: Pushback,
    /// `Keep-Alive: timeout=`: the endpoint closes idle connections after this.
    pub keep_alive: Option<Duration>,
}

/// Reads whom a request is for, and refuses heads with more than one meaning.
///
/// # Errors
/// [`ProxyError::BadRequest`] and [`ProxyError::MethodRefused`].
pub fn target(head: &request::Parts) -> Result<Target, ProxyError> {
    if head.method == Method::CONNECT || head.method == Method::TRACE {
        return Err(ProxyError::MethodRefused);
    }
    let mut hosts = head.headers.get_all(header::HOST).iter();
    let host = match (hosts.next(), hosts.next()) {
        (Some(host), None) => Some(host),
        (None, _) if head.version == Version::HTTP_11 && head.uri.authority().is_none() => {
            return Err(ProxyError::BadRequest("the request has no Host"));
        }
        (None, _) => None,
        (Some(_), Some(_)) => return Err(ProxyError::BadRequest("the request has more than one Host")),
    };
    if let Some(authority) = head.uri.authority() {
        if head.uri.scheme() != Some(&uri::Scheme::HTTP) {
            return Err(ProxyError::BadRequest("only http:// targets can be forwarded"));
        }
        if authority.as_str().contains('@') {
            return Err(ProxyError::BadRequest("the target carries user information"));
        }
        return Ok(Target { host: without_brackets(authority.host()).to_owned(), is_absolute: true });
    }
    let Some(host) = host else {
        return Ok(Target { host: String::new(), is_absolute: false });
    };
    let authority: uri::Authority = host
        .to_str()
        .ok()
        .and_then(|host| host.parse().ok())
        .ok_or(ProxyError::BadRequest("the request's Host is not valid"))?;
    if authority.as_str().contains('@') {
        return Err(ProxyError::BadRequest("the request's Host carries user information"));
    }
    Ok(Target { host: without_brackets(authority.host()).to_owned(), is_absolute: false })
}

fn without_brackets(host: &str) -> &str {
    host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host)
}

/// What is known of a request's body.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum BodyLength {
    /// There is none.
    None,
    /// It has a length; hyper writes it.
    Known,
    /// It goes on until it ends.
    Unknown,
}

/// Turns a caller's head into the one that is sent on; the host of an absolute target becomes its `Host`.
pub fn forward_request(head: &mut request::Parts, length: BodyLength) {
    strip_hop_by_hop(&mut head.headers);
    if let Some(host) = head.uri.authority().and_then(|authority| HeaderValue::from_str(authority.as_str()).ok()) {
        head.headers.insert(header::HOST, host);
    }
    let path = head.uri.path_and_query().cloned().unwrap_or_else(|| uri::PathAndQuery::from_static("/"));
    head.uri = Uri::from(path);
    head.version = Version::HTTP_11;
    head.headers.remove(header::CONTENT_LENGTH);
    match length {
        BodyLength::None if matches!(head.method, Method::POST | Method::PUT | Method::PATCH) => {
            head.headers.insert(header::CONTENT_LENGTH, HeaderValue::from_static("0"));
        }
        BodyLength::None | BodyLength::Known => {}
        // hyper sends no body with a GET unless it is told how that is framed.
        BodyLength::Unknown => {
            head.headers.insert(header::TRANSFER_ENCODING, HeaderValue::from_static("chunked"));
        }
    }
    head.headers.append(header::VIA, VIA);
}

/// Whether an answer's framing has one meaning. hyper takes any other coding than `chunked` for "until the connection ends", and the coding's name is lost on
/// the way.
pub fn has_clear_framing(head: &response::Parts) -> bool {
    let mut codings = head.headers.get_all(header::TRANSFER_ENCODING).iter();
    match (codings.next(), codings.next()) {
        (None, _) => true,
        (Some(coding), None) => coding.as_bytes().trim_ascii().eq_ignore_ascii_case(b"chunked"),
        (Some(_), Some(_)) => false,
    }
}

/// Turns an endpoint's head into the one that is handed down.
pub fn forward_answer(head: &mut response::Parts, now: SystemTime) -> AnswerNotes {
    let keep_alive = head.headers.get("keep-alive").and_then(keep_alive_timeout);
    let pushback = pushback(&head.headers, now);
    let seen = strip_hop_by_hop(&mut head.headers);
    if seen & (1 << TRANSFER_ENCODING) != 0 {
        head.headers.remove(header::CONTENT_LENGTH);
    }
    head.version = Version::HTTP_11;
    head.headers.append(header::VIA, VIA);
    AnswerNotes { pushback, keep_alive: keep_alive.filter(|_| seen & (1 << KEEP_ALIVE) != 0) }
}

/// Removes what ends at this hop; returns which of [`HOP_BY_HOP`] were there, a bit each.
fn strip_hop_by_hop(headers: &mut HeaderMap) -> u32 {
    let mut seen = 0u32;
    for name in headers.keys() {
        if let Some(at) = HOP_BY_HOP.iter().position(|hop| hop == name) {
            seen |= 1 << at;
        }
    }
    if seen == 0 {
        return 0;
    }
    if seen & (1 << CONNECTION) != 0 {
        for name in named_by_connection(headers) {
            headers.remove(name);
        }
    }
    for (at, name) in HOP_BY_HOP.iter().enumerate() {
        if seen & (1 << at) != 0 {
            headers.remove(name);
        }
    }
    seen
}

fn named_by_connection(headers: &HeaderMap) -> Vec<HeaderName> {
    let values = headers.get_all(header::CONNECTION).iter().filter_map(|value| value.to_str().ok());
    let names = values.flat_map(|value| value.split(',')).filter_map(|name| name.trim().parse::<HeaderName>().ok());
    names.filter(|name| !END_TO_END.contains(name)).collect()
}

/// What `Retry-After` asks for, in both its forms (RFC 9110 §10.2.3); a date that has passed asks for no wait.
pub fn pushback(headers: &HeaderMap, now: SystemTime) -> Pushback {
    let Some(value) = headers.get(header::RETRY_AFTER) else {
        return Pushback::None;
    };
    let Ok(text) = value.to_str() else {
        return Pushback::Unreadable;
    };
    let text = text.trim();
    if !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit()) {
        // Only overflow can fail here, and who asks for so long asks for ever.
        return Pushback::After(Duration::from_secs(text.parse().unwrap_or(u64::from(u32::MAX))));
    }
    match httpdate::parse_http_date(text) {
        Ok(date) => Pushback::After(date.duration_since(now).unwrap_or(Duration::ZERO)),
        Err(_) => Pushback::Unreadable,
    }
}

fn keep_alive_timeout(value: &HeaderValue) -> Option<Duration> {
    let parameters = value.to_str().ok()?.split(',');
    let seconds = parameters.filter_map(|parameter| parameter.trim().strip_prefix("timeout=")).next()?;
    Some(Duration::from_secs(seconds.trim().parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::{Request, Response};

    fn request(target: &str, headers: &[(&str, &str)]) -> request::Parts {
        let mut request = Request::builder().uri(target);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        request.body(()).expect("a valid head").into_parts().0
    }

    #[test]
    fn a_target_has_one_host_or_is_refused() {
        for (uri, headers, expected) in [
            ("/", vec![("host", "backend")], Ok(("backend", false))),
            ("/", vec![("host", "Backend:5001")], Ok(("Backend", false))),
            ("/", vec![("host", "[::1]:4140")], Ok(("::1", false))),
            ("http://backend:80/x", vec![("host", "other")], Ok(("backend", true))),
            ("/", vec![], Err("the request has no Host")),
            ("/", vec![("host", "a"), ("host", "a")], Err("the request has more than one Host")),
            ("/", vec![("host", "a b")], Err("the request's Host is not valid")),
            ("/", vec![("host", "user@a")], Err("the request's Host carries user information")),
            ("http://user@a/", vec![], Err("the target carries user information")),
            ("https://a/", vec![], Err("only http:// targets can be forwarded")),
        ] {
            let found = target(&request(uri, &headers));
            match (found, expected) {
                (Ok(t), Ok((host, is_absolute))) => {
                    assert_eq!((t.host.as_str(), t.is_absolute), (host, is_absolute), "{uri} {headers:?}");
                }
                (Err(error), Err(wanted)) => assert_eq!(error.to_string(), wanted, "{uri} {headers:?}"),
                (found, expected) => panic!("{uri} {headers:?}: {found:?} where {expected:?} was expected"),
            }
        }
    }

    #[test]
    fn what_ends_at_this_hop_is_removed_and_what_does_not_stays() {
        let mut head = request(
            "http://backend/a?b=c",
            &[
                ("connection", "close, X-Private, host, authorization, content-length"),
                ("x-private", "1"),
                ("authorization", "secret"),
                ("keep-alive", "timeout=5"),
                ("proxy-connection", "keep-alive"),
                ("te", "trailers"),
                ("upgrade", "h2c"),
                ("expect", "100-continue"),
                ("transfer-encoding", "chunked"),
                ("content-length", "7"),
                ("x-kept", "1"),
            ],
        );
        forward_request(&mut head, BodyLength::Known);
        let mut names: Vec<_> = head.headers.keys().map(HeaderName::as_str).collect();
        names.sort_unstable();
        assert_eq!(names, ["authorization", "host", "via", "x-kept"]);
        assert_eq!(head.headers["host"], "backend");
        assert_eq!(head.uri, "/a?b=c");
    }

    #[test]
    fn a_length_beside_an_encoding_never_reaches_the_caller() {
        let head = Response::builder()
            .header("transfer-encoding", "chunked")
            .header("content-length", "50")
            .header("keep-alive", "timeout=5, max=9");
        let mut head = head.body(()).expect("a valid head").into_parts().0;
        let notes = forward_answer(&mut head, SystemTime::UNIX_EPOCH);
        assert!(!head.headers.contains_key("content-length"));
        assert_eq!(notes.keep_alive, Some(Duration::from_secs(5)));
    }

    #[test]
    fn retry_after_is_read_in_both_its_forms() {
        let now = httpdate::parse_http_date("Sun, 06 Nov 1994 08:49:37 GMT").expect("a date");
        for (text, expected) in [
            ("0", Pushback::After(Duration::ZERO)),
            (" 120 ", Pushback::After(Duration::from_secs(120))),
            ("99999999999999999999999", Pushback::After(Duration::from_secs(u64::from(u32::MAX)))),
            ("Sun, 06 Nov 1994 08:49:40 GMT", Pushback::After(Duration::from_secs(3))),
            ("Sun, 06 Nov 1994 08:49:00 GMT", Pushback::After(Duration::ZERO)),
            ("-1", Pushback::Unreadable),
            ("soon", Pushback::Unreadable),
            ("", Pushback::Unreadable),
            ("1.5", Pushback::Unreadable),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert("retry-after", HeaderValue::from_str(text).expect("a valid value"));
            assert_eq!(pushback(&headers, now), expected, "{text:?}");
        }
        assert_eq!(pushback(&HeaderMap::new(), now), Pushback::None);
    }
}
