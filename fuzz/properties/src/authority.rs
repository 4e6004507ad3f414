//! Whom a request is for: a `Host` is taken if and only if it is a host with or without a port, and then the proxy, the inspector and a plain reader understand the same host, in both forms of a target.

use std::net::Ipv6Addr;

use http::Request;
use outrigger::http::headers;
use outrigger::http::strict::{Inspector, Limits};

/// Panics if the property does not hold for `bytes`, taken for the value of a `Host`.
pub fn check(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    if text.len() > 255 || text.trim_ascii() != text || text.contains(['\r', '\n']) {
        return;
    }
    let expected = host_of(text);
    let origin_form = format!("GET / HTTP/1.1\r\nHost: {text}\r\n\r\n");
    let absolute_form = format!("GET http://{text}/ HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_eq!(is_taken(&origin_form), expected.is_some(), "{text:?}");
    if !text.contains(['/', '?', '#', ' ']) {
        assert_eq!(is_taken(&absolute_form), expected.is_some(), "{text:?}");
    }
    let Some(expected) = expected else { return };
    for (uri, host) in [("/".to_owned(), text), (format!("http://{text}/"), "a")] {
        let head = Request::get(uri).header("host", host).body(()).expect("what was taken can be built").into_parts().0;
        let target =
            headers::target(&head).unwrap_or_else(|error| panic!("{text:?} is taken and then refused: {error}"));
        assert_eq!(target.host, expected);
    }
}

fn is_taken(head: &str) -> bool {
    let passage = Inspector::requests(Limits::default()).feed(head.as_bytes());
    passage.bytes == head.len() && passage.refused.is_none()
}

/// The host of an authority, without its port and brackets.
fn host_of(text: &str) -> Option<&str> {
    let (host, port) = match text.strip_prefix('[') {
        Some(rest) => {
            let (address, port) = rest.split_once(']')?;
            address.parse::<Ipv6Addr>().ok()?;
            (address, port)
        }
        None => {
            let (host, port) = text.split_at(text.find(':').unwrap_or(text.len()));
            let is_name = !host.is_empty() && host.bytes().all(|b| b.is_ascii_alphanumeric() || b"-._~".contains(&b));
            (is_name.then_some(host)?, port)
        }
    };
    let is_number =
        |digits: &str| digits.bytes().all(|b| b.is_ascii_digit()) && digits.parse::<u16>().is_ok_and(|port| port > 0);
    (port.is_empty() || port.strip_prefix(':').is_some_and(is_number)).then_some(host)
}
