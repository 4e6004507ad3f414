//! Which parts of a head are forwarded, in both directions (RFC 9110 §7, RFC 9112).
//!
//! A request leaves with an origin-form target, exactly one `Host`, no hop-by-hop field, and framing that comes from what we know of the
//! body, never from a copied field. The same holds for responses. The parser has already refused heads with more than one meaning.

use std::time::{Duration, SystemTime};

use http::Method;
use outrigger_http1::head::{Fields, Name, Names, RequestHead, ResponseHead, Target};
use outrigger_http1::traits::{keep_alive_timeout, tokens};
use outrigger_policy::outcome::Pushback;

use crate::clock;
use crate::error::ProxyError;

/// Fields that end at each hop whether `Connection` names them or not, and framing, which each hop makes anew.
const HOP_BY_HOP: Names = Names::new(&[
    Name::Connection,
    Name::TransferEncoding,
    Name::ContentLength,
    Name::Upgrade,
    Name::Te,
    Name::ProxyAuthorization,
    Name::ProxyAuthenticate,
    Name::Expect,
    Name::KeepAlive,
    Name::ProxyConnection,
    Name::Http2Settings,
    Name::Attempts,
]);
/// The same for responses. Their length stays, because in the response to a HEAD it is information and not framing.
const HOP_BY_HOP_IN_RESPONSES: Names = HOP_BY_HOP.without(Name::ContentLength);

/// Fields that a `Connection` header must not remove. Otherwise a client could strip fields by which the next hop decides.
const END_TO_END: [&str; 9] = [
    "host",
    "content-length",
    "authorization",
    "cookie",
    "via",
    "forwarded",
    "cache-control",
    "idempotency-key",
    "x-forwarded-for",
];
/// The prefix of more such fields.
const END_TO_END_PREFIX: &[u8] = b"x-forwarded-";

/// The host that a request is for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Destination<'a> {
    /// Host without port, as it was written.
    pub host: &'a str,
    /// The target was absolute: the client uses this proxy explicitly and means exactly this host.
    pub is_absolute: bool,
}

/// What a response's head says beyond its fields.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ResponseNotes {
    /// `Retry-After`.
    pub pushback: Pushback,
    /// `Keep-Alive: timeout=`: the endpoint closes idle connections after this.
    pub keep_alive: Option<Duration>,
}

/// Reads which host a request is for.
///
/// # Errors
/// [`ProxyError::BadRequest`] and [`ProxyError::MethodNotAllowed`].
pub fn destination(head: &RequestHead) -> Result<Destination<'_>, ProxyError> {
    if head.method == Method::TRACE {
        return Err(ProxyError::MethodNotAllowed);
    }
    if !head.is_origin_form() {
        match head.target() {
            Target::Authority(authority) => return Ok(Destination { host: host_of(authority), is_absolute: true }),
            Target::Absolute { scheme, authority, .. } if scheme.eq_ignore_ascii_case("http") => {
                return Ok(Destination { host: host_of(authority), is_absolute: true });
            }
            Target::Absolute { .. } => return Err(ProxyError::BadRequest("only http:// targets can be forwarded")),
            Target::Origin(_) | Target::Asterisk => {}
        }
    }
    // The parser has made sure that there is at most one, that it is valid, and that only HTTP/1.0 lacks it.
    let host = head.fields.get(Name::Host).and_then(|host| std::str::from_utf8(host).ok()).unwrap_or_default();
    Ok(Destination { host: host_of(host), is_absolute: false })
}

/// The name or address of an authority, without port and brackets.
fn host_of(authority: &str) -> &str {
    match authority.strip_prefix('[') {
        Some(rest) => rest.split(']').next().unwrap_or_default(),
        None => authority.bytes().position(|byte| byte == b':').map_or(authority, |at| &authority[..at]),
    }
}

/// Turns a request's head into the one to forward, without its framing. The host of an absolute target becomes its `Host`.
pub fn forward_request(head: &mut RequestHead) {
    strip(&mut head.fields, HOP_BY_HOP);
    if !head.is_origin_form()
        && let Target::Absolute { authority, .. } = head.target()
    {
        let authority = authority.to_owned();
        head.fields.remove(Names::new(&[Name::Host]));
        head.fields.append("host", authority.as_bytes());
    }
    head.fields.append("via", via(head.is_http10));
}

/// How many more hops may forward an OPTIONS (RFC 9110 §7.6.2). A value that is not a number has no effect.
pub fn max_forwards(head: &RequestHead) -> Option<u64> {
    let value = head.fields.get(Name::MaxForwards).filter(|_| head.method == Method::OPTIONS)?;
    let is_number = !value.is_empty() && value.iter().all(u8::is_ascii_digit);
    std::str::from_utf8(value).ok().filter(|_| is_number)?.parse().ok()
}

/// Lowers `Max-Forwards` by one.
pub fn forward_one_fewer(head: &mut RequestHead, before: u64) {
    head.fields.remove(Names::new(&[Name::MaxForwards]));
    head.fields.append("max-forwards", before.saturating_sub(1).to_string().as_bytes());
}

/// Turns a response's head into the one to send downstream. Its framing has one meaning already ([`outrigger_http1::parse`]).
pub fn forward_response(head: &mut ResponseHead) -> ResponseNotes {
    let keep_alive = keep_alive_timeout(&head.fields);
    let pushback = pushback(head.fields.get(Name::RetryAfter), clock::wall);
    strip(&mut head.fields, HOP_BY_HOP_IN_RESPONSES);
    head.fields.append("via", via(head.is_http10));
    ResponseNotes { pushback, keep_alive }
}

/// The value of `Via`: the version in which the message came, and this proxy's name.
fn via(is_http10: bool) -> &'static [u8] {
    if is_http10 { b"1.0 outrigger" } else { b"1.1 outrigger" }
}

/// Removes the fields that end at this hop.
fn strip(fields: &mut Fields, always: Names) {
    if fields.has(Name::Connection) {
        let named: Vec<Vec<u8>> =
            tokens(fields, Name::Connection).filter(|name| may_be_named(name)).map(<[u8]>::to_vec).collect();
        if !named.is_empty() {
            fields.retain(|_, text| !named.iter().any(|name| name.eq_ignore_ascii_case(text)));
        }
    }
    fields.remove(always);
}

/// Whether `Connection` may remove the field `name`. False also for names that are options and for fields that are removed anyway.
fn may_be_named(name: &[u8]) -> bool {
    let is_option =
        [&b"keep-alive"[..], b"close", b"te", b"upgrade"].iter().any(|option| name.eq_ignore_ascii_case(option));
    let begins = name.get(..END_TO_END_PREFIX.len()).unwrap_or_default();
    let is_end_to_end = begins.eq_ignore_ascii_case(END_TO_END_PREFIX)
        || END_TO_END.iter().any(|kept| name.eq_ignore_ascii_case(kept.as_bytes()));
    !name.is_empty() && !is_option && !is_end_to_end
}

/// What `Retry-After` asks for, in both its forms (RFC 9110 §10.2.3); a date that has passed asks for no wait.
pub fn pushback(value: Option<&[u8]>, now: impl FnOnce() -> SystemTime) -> Pushback {
    let Some(value) = value else {
        return Pushback::None;
    };
    let Ok(text) = std::str::from_utf8(value.trim_ascii()) else {
        return Pushback::Unreadable;
    };
    if !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit()) {
        // Only an overflow can fail here, and a number that large means "never".
        return Pushback::After(Duration::from_secs(text.parse().unwrap_or(u64::from(u32::MAX))));
    }
    match httpdate::parse_http_date(text) {
        Ok(date) => Pushback::After(date.duration_since(now()).unwrap_or(Duration::ZERO)),
        Err(_) => Pushback::Unreadable,
    }
}

#[cfg(test)]
mod tests {
    use outrigger_http1::parse::{Heads, Limits, RequestKind};
    use outrigger_http1::traits::{RequestTraits, requested_upgrade};

    use super::*;

    fn request(text: &str) -> RequestHead {
        let taken = Heads::requests(Limits::default()).request(format!("{text}\r\n\r\n").as_bytes());
        taken.expect("a valid head").expect("a whole one").head
    }

    fn response(text: &str) -> ResponseHead {
        let mut heads = Heads::responses(Limits::default());
        heads.expect_response(RequestKind::default());
        let taken = heads.response(format!("HTTP/1.1 200 OK\r\n{text}\r\n\r\n").as_bytes());
        taken.expect("a valid head").expect("a whole one").head
    }

    fn names(fields: &Fields) -> Vec<String> {
        let mut names: Vec<_> = fields.iter().map(|(_, name, _)| name.escape_ascii().to_string()).collect();
        names.sort_unstable();
        names
    }

    #[test]
    fn a_target_has_one_host_or_is_refused() {
        for (text, expected) in [
            ("GET / HTTP/1.1\r\nHost: backend", Ok(("backend", false))),
            ("GET / HTTP/1.1\r\nHost: Backend:5001", Ok(("Backend", false))),
            ("GET / HTTP/1.1\r\nHost: [::1]:4140", Ok(("::1", false))),
            ("GET / HTTP/1.1\r\nHost: a_b~c:80", Ok(("a_b~c", false))),
            ("GET http://backend:80/x HTTP/1.1\r\nHost: other", Ok(("backend", true))),
            ("GET http://[::1]?x HTTP/1.1\r\nHost: other", Ok(("::1", true))),
            ("GET / HTTP/1.0\r\nx: y", Ok(("", false))),
            ("GET https://a/ HTTP/1.1\r\nHost: a", Err("only http:// targets can be forwarded")),
            ("CONNECT a:1 HTTP/1.1\r\nHost: b", Ok(("a", true))),
            ("CONNECT [::1]:1 HTTP/1.1\r\nHost: b", Ok(("::1", true))),
            (
                "TRACE / HTTP/1.1\r\nHost: a",
                Err("TRACE is not forwarded, nor is CONNECT to an upstream that does not allow it"),
            ),
        ] {
            let head = request(text);
            let found = destination(&head).map(|to| (to.host, to.is_absolute));
            assert_eq!(found.map_err(|error| error.to_string()), expected.map_err(str::to_owned), "{text}");
        }
    }

    #[test]
    fn what_ends_at_this_hop_is_removed_and_what_does_not_stays() {
        let mut head = request(
            "GET http://backend/a?b=c HTTP/1.1\r\nHost: other\r\nConnection: close, X-Private, host, authorization, content-length, x-forwarded-proto\r\n\
             x-private: 1\r\nAuthorization: secret\r\nKeep-Alive: timeout=5\r\nProxy-Connection: keep-alive\r\nTE: trailers\r\nUpgrade: h2c\r\n\
             Expect: 100-continue\r\nContent-Length: 7\r\nX-Kept: 1\r\nX-Forwarded-Proto: https\r\nOutrigger-Attempts: 9",
        );
        let expected =
            RequestTraits { closes: true, expects_continue: true, accepts_trailers: true, ..RequestTraits::default() };
        assert_eq!(
            (RequestTraits::of(&head), requested_upgrade(&head, &["h2c".to_owned()])),
            (expected, None),
            "only with `Connection: upgrade`"
        );
        forward_request(&mut head);
        assert_eq!(names(&head.fields), ["Authorization", "X-Forwarded-Proto", "X-Kept", "host", "via"]);
        assert_eq!(head.fields.get(Name::Host), Some(&b"backend"[..]));
    }

    #[test]
    fn options_go_no_further_than_max_forwards_allows() {
        let with = |text: &str| request(&format!("{text} / HTTP/1.1\r\nHost: a\r\nMax-Forwards: 3"));
        assert_eq!((max_forwards(&with("OPTIONS")), max_forwards(&with("GET"))), (Some(3), None));
        let mut head = with("OPTIONS");
        forward_one_fewer(&mut head, 3);
        assert_eq!(head.fields.all(Name::MaxForwards).collect::<Vec<_>>(), [b"2"]);
        assert_eq!(max_forwards(&request("OPTIONS * HTTP/1.1\r\nHost: a\r\nMax-Forwards: +1")), None);
    }

    #[test]
    fn the_idle_timeout_that_an_endpoint_announces_is_read() {
        let mut head = response("Keep-Alive: timeout=5, max=9\r\nTransfer-Encoding: chunked");
        assert_eq!(forward_response(&mut head).keep_alive, Some(Duration::from_secs(5)));
        assert_eq!(names(&head.fields), ["via"]);
    }

    #[test]
    fn retry_after_is_read_in_both_its_forms() {
        let now = || httpdate::parse_http_date("Sun, 06 Nov 1994 08:49:37 GMT").expect("a date");
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
            assert_eq!(pushback(Some(text.as_bytes()), now), expected, "{text:?}");
        }
        assert_eq!(pushback(None, now), Pushback::None);
    }
}
