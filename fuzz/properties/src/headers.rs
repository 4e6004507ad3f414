//! The sanitiser of heads: what ends at this hop goes, what does not stays whatever `Connection` says, no framing is copied, and a second time changes nothing.

use http::{HeaderMap, HeaderName, HeaderValue, Request, request};
use outrigger::http::headers;

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
    let before = head(bytes).headers;
    let mut head = head(bytes);
    headers::forward_request(&mut head);
    for name in GONE {
        assert!(!head.headers.contains_key(name), "{name} went on: {before:?}");
    }
    for name in KEPT {
        assert_eq!(all(&head.headers, name), all(&before, name), "{name}: {before:?}");
    }
    let named = named_by_connection(&before);
    let is_untouched = |name: &&HeaderName| {
        let name = name.as_str();
        !named.iter().any(|other| other == name) && !GONE.contains(&name) && !OURS.contains(&name)
    };
    for name in before.keys().filter(is_untouched) {
        assert_eq!(all(&head.headers, name.as_str()), all(&before, name.as_str()), "{before:?}");
    }
    let once = head.headers.clone();
    headers::forward_request(&mut head);
    assert_eq!(head.headers.keys_len(), once.keys_len(), "{before:?}");
    for name in once.keys().filter(|name| *name != "via") {
        assert_eq!(all(&head.headers, name.as_str()), all(&once, name.as_str()), "{before:?}");
    }
}

fn head(bytes: &[u8]) -> request::Parts {
    let mut head = Request::new(()).into_parts().0;
    head.method = if bytes.len().is_multiple_of(2) { http::Method::GET } else { http::Method::POST };
    for line in bytes.split(|b| *b == b'\n') {
        let Some(colon) = line.iter().position(|b| *b == b':') else { continue };
        let value = HeaderValue::from_bytes(line[colon + 1..].trim_ascii());
        if let (Ok(name), Ok(value)) = (HeaderName::from_bytes(&line[..colon]), value) {
            head.headers.append(name, value);
        }
    }
    head
}

fn all<'h>(headers: &'h HeaderMap, name: &str) -> Vec<&'h [u8]> {
    headers.get_all(name).iter().map(HeaderValue::as_bytes).collect()
}

fn named_by_connection(headers: &HeaderMap) -> Vec<String> {
    let values = headers.get_all("connection").iter().flat_map(|value| value.as_bytes().split(|b| *b == b','));
    values.map(|name| String::from_utf8_lossy(name.trim_ascii()).to_ascii_lowercase()).collect()
}
