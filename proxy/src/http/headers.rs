//! One clear meaning of a head, in both directions (RFC 9110 §7, RFC 9112).
//!
//! A request leaves as `HTTP/1.1` with an origin-form target, exactly one `Host`, no hop-by-hop field, and framing that comes from what we know of the
//! body, never from a copied field. What has two meanings is refused. The same holds for answers: where `Transfer-Encoding` stood beside `Content-Length`,
//! the length goes, since a cut body would otherwise look whole.

use std::time::{Duration, SystemTime};

use http::header::{self, HeaderName};
use http::{HeaderMap, HeaderValue, Method, Uri, Version, request, response, uri};
use outrigger_policy::outcome::Pushback;

use crate::clock;
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

/// Which of the fields that matter here are in a head, found by one look over its names: a look-up costs as much as the whole walk.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Seen(u32);

impl Seen {
    const CONNECTION: u32 = 1 << 0;
    const TRANSFER_ENCODING: u32 = 1 << 1;
    const KEEP_ALIVE: u32 = 1 << 7;
    /// All of [`HOP_BY_HOP`], a bit each in their order.
    const HOP_BY_HOP: u32 = (1 << 10) - 1;
    const CONTENT_LENGTH: u32 = 1 << 10;
    const RETRY_AFTER: u32 = 1 << 11;

    fn of(headers: &HeaderMap) -> Seen {
        Seen(headers.keys().fold(0, |seen, name| {
            seen | match name.as_str() {
                "connection" => Self::CONNECTION,
                "transfer-encoding" => Self::TRANSFER_ENCODING,
                "upgrade" => 1 << 2,
                "te" => 1 << 3,
                "proxy-authorization" => 1 << 4,
                "proxy-authenticate" => 1 << 5,
                "expect" => 1 << 6,
                "keep-alive" => Self::KEEP_ALIVE,
                "proxy-connection" => 1 << 8,
                "http2-settings" => 1 << 9,
                "content-length" => Self::CONTENT_LENGTH,
                "retry-after" => Self::RETRY_AFTER,
                _ => 0,
            }
        }))
    }

    fn has(self, which: u32) -> bool {
        self.0 & which != 0
    }
}

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
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Target<'a> {
    /// Host without port, as the caller wrote it.
    pub host: &'a str,
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
pub fn target(head: &request::Parts) -> Result<Target<'_>, ProxyError> {
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
        return Ok(Target { host: without_brackets(authority.host()), is_absolute: true });
    }
    let host = host.map_or(Ok(""), |host| host_of(host.as_bytes()))?;
    Ok(Target { host, is_absolute: false })
}

/// The name or address in a `Host` field, without its port.
fn host_of(field: &[u8]) -> Result<&str, ProxyError> {
    let invalid = ProxyError::BadRequest("the request's Host is not valid");
    let Ok(field) = std::str::from_utf8(field) else {
        return Err(invalid);
    };
    // What nearly every Host looks like; the others are worth a parser.
    let is_plain = |b: u8| b.is_ascii_alphanumeric() || b == b'.' || b == b'-';
    let name = field.bytes().position(|b| !is_plain(b)).map_or(field, |end| &field[..end]);
    let port = &field[name.len()..];
    if !name.is_empty() && (port.is_empty() || is_port(port)) {
        return Ok(name);
    }
    match field.parse::<uri::Authority>() {
        Ok(authority) if authority.as_str().contains('@') => {
            Err(ProxyError::BadRequest("the request's Host carries user information"))
        }
        // The authority is the field itself, so its host is a part of it.
        Ok(authority) => Ok(without_brackets(&field[..authority.host().len()])),
        Err(_) => Err(invalid),
    }
}

/// `:` and up to five digits.
fn is_port(text: &str) -> bool {
    text.strip_prefix(':').is_some_and(|port| port.len() <= 5 && port.bytes().all(|b| b.is_ascii_digit()))
}

fn without_brackets(host: &str) -> &str {
    host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host)
}

/// What is known of a request's body.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum BodyLength {
    /// There is none.
    None,
    /// It has so many bytes.
    Known(u64),
    /// It goes on until it ends.
    Unknown,
}

/// Turns a caller's head into the one that is sent on, framing apart; the host of an absolute target becomes its `Host`.
pub fn forward_request(head: &mut request::Parts) {
    let seen = Seen::of(&head.headers);
    strip_hop_by_hop(&mut head.headers, seen);
    if let Some(authority) = head.uri.authority() {
        // A host that was parsed is a field value too.
        if let Ok(host) = HeaderValue::from_str(authority.as_str()) {
            head.headers.insert(header::HOST, host);
        }
        let path = head.uri.path_and_query().cloned().unwrap_or_else(|| uri::PathAndQuery::from_static("/"));
        head.uri = Uri::from(path);
    }
    head.version = Version::HTTP_11;
    if seen.has(Seen::CONTENT_LENGTH) {
        head.headers.remove(header::CONTENT_LENGTH);
    }
    head.headers.append(header::VIA, VIA);
}

/// Turns an endpoint's head into the one that is handed down. Its framing has one meaning already ([`super::answer`]).
pub fn forward_answer(head: &mut response::Parts) -> AnswerNotes {
    let seen = Seen::of(&head.headers);
    let keep_alive = seen.has(Seen::KEEP_ALIVE).then(|| head.headers.get("keep-alive").and_then(keep_alive_timeout));
    let pushback = if seen.has(Seen::RETRY_AFTER) { pushback(&head.headers, clock::wall()) } else { Pushback::None };
    strip_hop_by_hop(&mut head.headers, seen);
    head.version = Version::HTTP_11;
    head.headers.append(header::VIA, VIA);
    AnswerNotes { pushback, keep_alive: keep_alive.flatten() }
}

/// Removes what ends at this hop.
fn strip_hop_by_hop(headers: &mut HeaderMap, seen: Seen) {
    if !seen.has(Seen::HOP_BY_HOP) {
        return;
    }
    if seen.has(Seen::CONNECTION) {
        for name in named_by_connection(headers) {
            headers.remove(name);
        }
    }
    for (at, name) in HOP_BY_HOP.iter().enumerate() {
        if seen.has(1 << at) {
            headers.remove(name);
        }
    }
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
            ("/", vec![("host", "a_b~c:80")], Ok(("a_b~c", false))),
            ("http://backend:80/x", vec![("host", "other")], Ok(("backend", true))),
            ("/", vec![], Err("the request has no Host")),
            ("/", vec![("host", "a"), ("host", "a")], Err("the request has more than one Host")),
            ("/", vec![("host", "a b")], Err("the request's Host is not valid")),
            ("/", vec![("host", "user@a")], Err("the request's Host carries user information")),
            ("http://user@a/", vec![], Err("the target carries user information")),
            ("https://a/", vec![], Err("only http:// targets can be forwarded")),
        ] {
            let head = request(uri, &headers);
            match (target(&head), expected) {
                (Ok(t), Ok((host, is_absolute))) => {
                    assert_eq!((t.host, t.is_absolute), (host, is_absolute), "{uri} {headers:?}");
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
        forward_request(&mut head);
        let mut names: Vec<_> = head.headers.keys().map(HeaderName::as_str).collect();
        names.sort_unstable();
        assert_eq!(names, ["authorization", "host", "via", "x-kept"]);
        assert_eq!(head.headers["host"], "backend");
        assert_eq!(head.uri, "/a?b=c");
    }

    #[test]
    fn an_endpoint_that_says_when_it_closes_is_believed() {
        let head = Response::builder().header("keep-alive", "timeout=5, max=9").header("transfer-encoding", "chunked");
        let mut head = head.body(()).expect("a valid head").into_parts().0;
        assert_eq!(forward_answer(&mut head).keep_alive, Some(Duration::from_secs(5)));
        assert_eq!(head.headers.keys().map(HeaderName::as_str).collect::<Vec<_>>(), ["via"]);
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
