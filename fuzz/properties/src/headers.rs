//! Forwarding of heads: hop-by-hop fields are removed, end-to-end fields stay whatever `Connection` says, no framing is copied, and forwarding twice changes
//! nothing more.

use outrigger::exchange::forward;
use outrigger_http1::head::{Fields, RequestHead};
use outrigger_http1::parse::{Heads, Limits};

const GONE: [&str; 8] = [
    "content-length",
    "transfer-encoding",
    "keep-alive",
    "proxy-connection",
    "proxy-authorization",
    "proxy-authenticate",
    "http2-settings",
    "upgrade",
];
const KEPT: [&str; 5] = ["host", "authorization", "cookie", "idempotency-key", "x-forwarded-for"];
/// Made anew on each hop, or only allowed with one value.
const OURS: [&str; 4] = ["connection", "te", "via", "expect"];

/// Panics if the property does not hold for `bytes`, read as lines of fields.
pub fn check(bytes: &[u8]) {
    let Some(mut head) = head(bytes) else { return };
    let before = head.fields.clone();
    forward::forward_request(&mut head);
    let after = head.fields.clone();
    for name in GONE {
        assert!(all(&after, name).is_empty(), "{name} went on: {before:?}");
    }
    for name in KEPT {
        assert_eq!(all(&after, name), all(&before, name), "{name}: {before:?}");
    }
    let named = named_by_connection(&before);
    let is_untouched =
        |name: &String| !named.contains(name) && !GONE.contains(&name.as_str()) && !OURS.contains(&name.as_str());
    for name in names(&before).iter().filter(|name| is_untouched(name)) {
        assert_eq!(all(&after, name), all(&before, name), "{before:?}");
    }
    forward::forward_request(&mut head);
    for name in names(&after).iter().filter(|name| *name != "via") {
        assert_eq!(all(&head.fields, name), all(&after, name), "{before:?}");
    }
    assert_eq!(names(&head.fields).len(), names(&after).len() + 1, "one more hop, and nothing else: {before:?}");
}

/// A head of those lines that can be fields of one.
fn head(bytes: &[u8]) -> Option<RequestHead> {
    let mut text = b"POST / HTTP/1.1\r\n".to_vec();
    for line in bytes.split(|b| *b == b'\n') {
        let one = [b"GET / HTTP/1.0\r\n", line.trim_ascii_end(), b"\r\n\r\n"].concat();
        let is_field =
            line.contains(&b':') && Heads::requests(Limits::default()).request(&one).is_ok_and(|it| it.is_some());
        if is_field {
            text.extend_from_slice(line.trim_ascii_end());
            text.extend_from_slice(b"\r\n");
        }
    }
    if !text.windows(5).any(|window| window.eq_ignore_ascii_case(b"host:")) {
        text.extend_from_slice(b"host: a\r\n");
    }
    text.extend_from_slice(b"\r\n");
    // Fields that are fine alone may contradict each other.
    Heads::requests(Limits::default()).request(&text).ok().flatten().map(|taken| taken.head)
}

fn names(fields: &Fields) -> Vec<String> {
    fields.iter().map(|(_, name, _)| String::from_utf8_lossy(name).to_ascii_lowercase()).collect()
}

fn all<'f>(fields: &'f Fields, name: &str) -> Vec<&'f [u8]> {
    fields
        .iter()
        .filter(|(_, found, _)| found.eq_ignore_ascii_case(name.as_bytes()))
        .map(|(_, _, value)| value)
        .collect()
}

fn named_by_connection(fields: &Fields) -> Vec<String> {
    let values = all(fields, "connection").into_iter().flat_map(|value| value.split(|b| *b == b','));
    // What follows a semicolon is a parameter, and no part of the name.
    let names = values.map(|name| name.split(|b| *b == b';').next().unwrap_or_default());
    names.map(|name| String::from_utf8_lossy(name.trim_ascii()).to_ascii_lowercase()).collect()
}
