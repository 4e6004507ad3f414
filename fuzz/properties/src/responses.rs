//! Bytes from an endpoint. A response that the client takes for a whole response of the endpoint is one, with the same status and the same body. All other
//! bytes end in a response of the proxy's own, or in a connection that breaks off.

use crate::reference::{self, Message, Reading};
use crate::whole::{self, Origin};

const GET: &[u8] = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n";

/// Panics if the property does not hold for `bytes`.
pub fn check(bytes: &[u8]) {
    let size = 1 + bytes.iter().fold(0, |sum, byte| (sum + usize::from(*byte)) % 61);
    let played = whole::play(GET, GET.len(), Origin::Sends(bytes.to_vec(), size));
    let Some(to_client) = last(&played.to_downstream) else { return };
    let is_ours = to_client.values("proxy-status").any(|value| value.starts_with(b"outrigger; error="));
    if is_ours {
        assert!(to_client.line[1].starts_with('5'), "{to_client:?}");
        return;
    }
    let Some(from_endpoint) = last(bytes) else {
        panic!("the client got {to_client:?}\nwhere the endpoint sent no response: {}", bytes.escape_ascii());
    };
    assert_eq!(to_client.line[1], from_endpoint.line[1], "{}", bytes.escape_ascii());
    assert_eq!(to_client.body, from_endpoint.body, "{}", bytes.escape_ascii());
    let is_bodiless = to_client.line[1] == "204" && to_client.values("content-length").any(|length| length != b"0");
    assert!(!is_bodiless, "a length where there is no body: {to_client:?}");
    assert!(!to_client.is_open_ended, "an end that looks like a break: {to_client:?}");
}

/// The first whole final response in `bytes`, after informational ones.
fn last(mut bytes: &[u8]) -> Option<Message> {
    loop {
        let Reading::Message(message) = reference::response(bytes) else { return None };
        if !message.line[1].starts_with('1') {
            return Some(message);
        }
        bytes = &bytes[message.length..];
    }
}
