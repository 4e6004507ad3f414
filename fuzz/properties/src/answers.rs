//! Bytes of an endpoint: what the caller takes for a whole answer of the endpoint is one, with the same status and the same body. Anything else ends in an answer of the proxy's own, or in a
//! connection that breaks off.

use crate::reference::{self, Message, Reading};
use crate::whole::{self, Origin};

const GET: &[u8] = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n";

/// Panics if the property does not hold for `bytes`.
pub fn check(bytes: &[u8]) {
    let size = 1 + bytes.iter().fold(0, |sum, byte| (sum + usize::from(*byte)) % 61);
    let played = whole::play(GET, GET.len(), Origin::Says(bytes.to_vec(), size));
    let Some(down) = last(&played.to_downstream) else { return };
    let is_ours = down.values("proxy-status").any(|value| value.starts_with(b"outrigger; error="));
    if is_ours {
        assert!(down.line[1].starts_with('5'), "{down:?}");
        return;
    }
    let Some(up) = last(bytes) else {
        panic!("the caller got {down:?}\nwhere the endpoint gave no answer: {}", bytes.escape_ascii());
    };
    assert_eq!(down.line[1], up.line[1], "{}", bytes.escape_ascii());
    assert_eq!(down.body, up.body, "{}", bytes.escape_ascii());
    let is_bodiless = down.line[1] == "204" && down.values("content-length").any(|length| length != b"0");
    assert!(!is_bodiless, "a length where there is no body: {down:?}");
    assert!(!down.is_open_ended, "an end that cannot be told from a break: {down:?}");
}

/// The whole answer at the beginning of `bytes`, after those that are interim.
fn last(mut bytes: &[u8]) -> Option<Message> {
    loop {
        let Reading::Message(message) = reference::answer(bytes) else { return None };
        if !message.line[1].starts_with('1') {
            return Some(message);
        }
        bytes = &bytes[message.length..];
    }
}
