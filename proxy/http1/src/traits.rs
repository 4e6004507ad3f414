//! What a head says about the connection it came over, not about the message itself (RFC 9110 §7.6.1, §7.8, §10.1; RFC 9112 §9).

use std::time::Duration;

use http::Method;

use crate::head::{Fields, Name, Names, RequestHead, ResponseHead};

/// Fields that say something about the connection. Most requests have none of them.
const CONNECTION_FIELDS: Names = Names::new(&[Name::Connection, Name::Expect, Name::Te]);

/// What a request says about its connection, and about the form in which its sender wants the response.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct RequestTraits {
    /// It is HTTP/1.0: its sender knows neither chunks nor informational responses.
    pub is_http10: bool,
    /// It is a HEAD: the response has no body whatever it says.
    pub is_head: bool,
    /// No further request follows on this connection.
    pub closes: bool,
    /// `Expect: 100-continue`: the sender holds the body back until it gets a 100.
    pub expects_continue: bool,
    /// `TE: trailers`: its sender can make use of trailers.
    pub accepts_trailers: bool,
}

impl RequestTraits {
    /// Reads them from a head as it came, before any field of it is removed.
    pub fn of(head: &RequestHead) -> RequestTraits {
        let fields = &head.fields;
        let is_http10 = head.is_http10;
        let mut traits = RequestTraits {
            is_http10,
            is_head: head.method == Method::HEAD,
            closes: is_http10,
            ..RequestTraits::default()
        };
        if !fields.has_any(CONNECTION_FIELDS) {
            return traits;
        }
        traits.closes = says_close(fields) || (is_http10 && !has_token(fields, Name::Connection, b"keep-alive"));
        traits.expects_continue = !is_http10 && has_token(fields, Name::Expect, b"100-continue");
        traits.accepts_trailers = !is_http10 && has_token(fields, Name::Te, b"trailers");
        traits
    }
}

/// Whether the connection ends with this message: `Connection: close`.
#[inline]
pub fn says_close(fields: &Fields) -> bool {
    has_token(fields, Name::Connection, b"close")
}

/// The protocols that a request asks to go on with (RFC 9110 §7.8) and that are `allowed`, as the value of an `Upgrade` field; `None` if it asks for no such
/// protocol.
pub fn requested_upgrade(head: &RequestHead, allowed: &[String]) -> Option<Vec<u8>> {
    if allowed.is_empty() || head.is_http10 || !has_token(&head.fields, Name::Connection, b"upgrade") {
        return None;
    }
    let mut listed: Vec<&str> = Vec::new();
    for requested in tokens(&head.fields, Name::Upgrade) {
        let found = allowed.iter().find(|protocol| requested.eq_ignore_ascii_case(protocol.as_bytes()));
        listed.extend(found.map(String::as_str).filter(|protocol| !listed.contains(protocol)));
    }
    (!listed.is_empty()).then(|| listed.join(", ").into_bytes())
}

/// The protocol that a 101 response goes on with, if it is exactly one of those `requested` with the value of an `Upgrade` field.
pub fn switched_protocol<'a>(head: &ResponseHead, requested: &'a [u8]) -> Option<&'a [u8]> {
    let mut named = tokens(&head.fields, Name::Upgrade);
    let (Some(protocol), None) = (named.next(), named.next()) else { return None };
    requested.split(|byte| *byte == b',').map(<[u8]>::trim_ascii).find(|found| found.eq_ignore_ascii_case(protocol))
}

/// After how long without a request the peer will close the connection, if it says so: `Keep-Alive: timeout=`, in seconds.
pub fn keep_alive_timeout(fields: &Fields) -> Option<Duration> {
    let parameters = std::str::from_utf8(fields.get(Name::KeepAlive)?).ok()?.split(',');
    let seconds = parameters.filter_map(|parameter| parameter.trim().strip_prefix("timeout=")).next()?;
    Some(Duration::from_secs(seconds.trim().parse().ok()?))
}

/// Whether the fields `name` list `token`, in any case.
#[inline]
pub fn has_token(fields: &Fields, name: Name, token: &[u8]) -> bool {
    tokens(fields, name).any(|found| found.eq_ignore_ascii_case(token))
}

/// What the fields `name` list between their commas, without blanks and parameters.
#[inline]
pub fn tokens(fields: &Fields, name: Name) -> impl Iterator<Item = &[u8]> {
    let listed = fields.all(name).flat_map(|value| value.split(|byte| *byte == b','));
    listed.map(|token| token.split(|byte| *byte == b';').next().unwrap_or_default().trim_ascii())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::parse::{Heads, Limits, RequestKind};

    fn request(text: &str) -> RequestHead {
        let parsed = Heads::requests(Limits::default()).request(format!("{text}\r\n\r\n").as_bytes());
        parsed.expect("a valid head").expect("a whole one").head
    }

    fn response(text: &str) -> ResponseHead {
        let mut heads = Heads::responses(Limits::default());
        heads.expect_response(RequestKind::default());
        let parsed = heads.response(format!("HTTP/1.1 200 OK\r\n{text}\r\n\r\n").as_bytes());
        parsed.expect("a valid head").expect("a whole one").head
    }

    #[test]
    fn a_connection_is_kept_as_its_version_and_its_fields_say() {
        for (text, closes) in [
            ("GET / HTTP/1.1\r\nHost: a", false),
            ("GET / HTTP/1.1\r\nHost: a\r\nConnection: x, Close", true),
            ("GET / HTTP/1.0\r\nHost: a", true),
            ("GET / HTTP/1.0\r\nHost: a\r\nConnection: Keep-Alive", false),
            ("GET / HTTP/1.0\r\nHost: a\r\nConnection: keep-alive, close", true),
        ] {
            assert_eq!(RequestTraits::of(&request(text)).closes, closes, "{text}");
        }
    }

    #[test]
    fn expectations_and_trailers_are_for_http_1_1_alone() {
        let fields = "Host: a\r\nExpect: 100-Continue\r\nTE: gzip, trailers;q=1\r\nConnection: te";
        let traits = RequestTraits::of(&request(&format!("HEAD / HTTP/1.1\r\n{fields}")));
        let expected =
            RequestTraits { is_head: true, expects_continue: true, accepts_trailers: true, ..RequestTraits::default() };
        assert_eq!(traits, expected);
        let traits = RequestTraits::of(&request(&format!("GET / HTTP/1.0\r\n{fields}")));
        assert_eq!(traits, RequestTraits { is_http10: true, closes: true, ..RequestTraits::default() });
    }

    #[test]
    fn only_allowed_protocols_are_requested_and_only_a_requested_one_may_come() {
        let allowed = ["websocket".to_owned(), "mine".to_owned()];
        for (fields, expected) in [
            ("Connection: Upgrade\r\nUpgrade: WebSocket", Some("websocket")),
            (
                "Connection: keep-alive, upgrade\r\nUpgrade: h2c, mine\r\nUpgrade: TLS/1.3, websocket, mine",
                Some("mine, websocket"),
            ),
            ("Connection: upgrade\r\nUpgrade: h2c", None),
            ("Connection: upgrade", None),
            ("Upgrade: websocket", None),
        ] {
            let head = request(&format!("GET / HTTP/1.1\r\nHost: a\r\n{fields}"));
            assert_eq!(requested_upgrade(&head, &allowed), expected.map(|text| text.as_bytes().to_vec()), "{fields}");
            assert_eq!(requested_upgrade(&head, &[]), None);
        }
        let old = request("GET / HTTP/1.0\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket");
        assert_eq!(requested_upgrade(&old, &allowed), None);
        for (fields, expected) in [
            ("Upgrade: WebSocket", Some(&b"websocket"[..])),
            ("Upgrade: h2c", None),
            ("Upgrade: mine, websocket", None),
            ("Upgrade:", None),
            ("x: y", None),
        ] {
            assert_eq!(switched_protocol(&response(fields), b"mine, websocket"), expected, "{fields}");
        }
    }

    #[test]
    fn a_timeout_is_read_from_among_other_parameters() {
        for (fields, seconds) in [
            ("Keep-Alive: timeout=5, max=9", Some(5)),
            ("Keep-Alive: max=9, timeout=7", Some(7)),
            ("Keep-Alive: timeout=x", None),
            ("Keep-Alive: max=9", None),
            ("x: y", None),
        ] {
            assert_eq!(keep_alive_timeout(&response(fields).fields), seconds.map(Duration::from_secs), "{fields}");
        }
    }
}
