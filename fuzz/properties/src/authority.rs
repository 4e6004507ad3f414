//! The host of a request. A `Host` is accepted if and only if it is a host with or without a port. Then the proxy and a plain reader understand the same host,
//! in both forms of a target.

use std::net::Ipv6Addr;

use outrigger::exchange::forward;
use outrigger_http1::head::RequestHead;
use outrigger_http1::parse::{Heads, Limits};

/// Panics if the property does not hold for `bytes`, taken for the value of a `Host`.
pub fn check(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    if text.len() > 255 || text.trim_ascii() != text || text.contains(['\r', '\n']) {
        return;
    }
    let expected = host_of(text);
    let origin_form = format!("GET / HTTP/1.1\r\nHost: {text}\r\n\r\n");
    let absolute_form = format!("GET http://{text}/ HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_eq!(taken(&origin_form).is_some(), expected.is_some(), "{text:?}");
    if !text.contains(['/', '?', '#', ' ']) {
        assert_eq!(taken(&absolute_form).is_some(), expected.is_some(), "{text:?}");
    }
    let Some(expected) = expected else { return };
    for head in [&origin_form, &absolute_form].into_iter().filter_map(|head| taken(head)) {
        let wanted =
            forward::destination(&head).unwrap_or_else(|error| panic!("{text:?} is taken and refused: {error}"));
        assert_eq!(wanted.host, expected);
    }
}

fn taken(head: &str) -> Option<RequestHead> {
    let taken = Heads::requests(Limits::default()).request(head.as_bytes()).ok()??;
    (taken.bytes == head.len()).then_some(taken.head)
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
