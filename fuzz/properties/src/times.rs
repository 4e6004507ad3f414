//! `Retry-After`: seconds, a date, or unreadable; never a panic, never a wait that the value does not ask for.

use std::time::{Duration, SystemTime};

use http::HeaderValue;
use outrigger::exchange::forward;
use outrigger_policy::outcome::Pushback;

/// Panics if the property does not hold for `bytes`, taken for the field's value.
pub fn check(bytes: &[u8]) {
    let Ok(value) = HeaderValue::from_bytes(bytes) else { return };
    // What is not plain text is unreadable, blanks of other alphabets among it.
    let text = value.to_str().map(|text| text.trim_matches([' ', '\t']).to_owned()).unwrap_or_default();
    let now = SystemTime::UNIX_EPOCH + Duration::from_secs(784_111_777);
    let found = forward::pushback(Some(value.as_bytes()), || now);
    let is_number = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    match (found, text.parse::<u64>(), httpdate::parse_http_date(&text)) {
        (Pushback::After(wait), Ok(seconds), _) if is_number => assert_eq!(wait, Duration::from_secs(seconds)),
        (Pushback::After(wait), Err(_), _) if is_number => assert!(wait >= Duration::from_secs(u64::from(u32::MAX))),
        (Pushback::After(wait), _, Ok(date)) => assert_eq!(wait, date.duration_since(now).unwrap_or(Duration::ZERO)),
        (Pushback::Unreadable, _, Err(_)) if !is_number => {}
        (found, ..) => panic!("{text:?}: {found:?}"),
    }
}
