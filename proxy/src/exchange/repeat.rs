//! Whether a request may be sent again although the first time may have been acted on.
//!
//! By its method (RFC 9110 §9.2.2), or by the word of its route. Both are bytes that the endpoint may read in another way than we do, so the strictest reading
//! counts. A method that a field may override promises nothing. Every route that the endpoint could find by path and method has to agree, also that there are
//! retries after these outcomes at all; these are routes for other methods, too, if the method is not certain, and all routes, if a field may replace the path.

use http::Method;
use outrigger_http1::head::{Fields, Name, Names, RequestHead};

use crate::live::route::{Route, Routes};
use crate::path::RequestPath;

/// Fields by which some frameworks replace the method.
const METHOD_OVERRIDES: Names = Names::new(&[Name::MethodOverride]);

/// Fields by which some servers replace the path or a part of it.
const PATH_OVERRIDES: Names = Names::new(&[Name::PathOverride]);

/// Whether a request may be repeated that gets `route`, one of `routes`.
pub(super) fn is_idempotent(routes: &Routes, route: &Route, head: &RequestHead) -> bool {
    let is_by_method =
        matches!(head.method, Method::GET | Method::HEAD | Method::OPTIONS | Method::PUT | Method::DELETE);
    let is_overridden = head.fields.has_any(METHOD_OVERRIDES);
    let is_by_method = is_by_method && !is_overridden;
    let has_key = has_key(&head.fields);
    let promises = |route: &Route| {
        let repeat = &route.config.repeat;
        is_by_method || repeat.idempotent || repeat.idempotency_key && has_key
    };
    if !promises(route) {
        return false;
    }
    // Nobody else needs to be asked about a CONNECT, which has no path, or where the answer is known.
    if route.is_single_attempt() || is_by_method && !routes.has_stricter || head.method == Method::CONNECT {
        return true;
    }
    let agrees = |other: &Route| promises(other) && other.retries_as_much_as(route);
    if head.fields.has_any(PATH_OVERRIDES) {
        return routes.all().all(|other| agrees(other));
    }
    let method = Some(&head.method).filter(|method| !is_overridden && routes.knows(method));
    routes.every_reading(RequestPath::new(head.path()), method, agrees)
}

/// Whether there is an `Idempotency-Key`: exactly one field, whose value is one key. That is a string in quotes (draft-ietf-httpapi-idempotency-key-header) which
/// is not blank, or visible ASCII as most services have it, without what would make it a list, a parameter or half a string.
fn has_key(fields: &Fields) -> bool {
    let mut values = fields.all(Name::IdempotencyKey);
    match (values.next(), values.next()) {
        (Some([b'"', rest @ ..]), None) => is_rest_of_string(rest),
        (Some(key), None) => {
            !key.is_empty() && key.iter().all(|byte| byte.is_ascii_graphic() && !b"\",;\\".contains(byte))
        }
        _ => false,
    }
}

/// Whether `rest` is what follows the first quote of a structured field's string (RFC 8941 §3.3.3), not blank, and nothing more.
fn is_rest_of_string(rest: &[u8]) -> bool {
    let Some((b'"', text)) = rest.split_last() else { return false };
    let mut is_blank = true;
    let mut bytes = text.iter();
    while let Some(byte) = bytes.next() {
        let is_text = match byte {
            b'\\' => matches!(bytes.next(), Some(b'"' | b'\\')),
            b'"' => false,
            byte => *byte == b' ' || byte.is_ascii_graphic(),
        };
        if !is_text {
            return false;
        }
        is_blank &= *byte == b' ';
    }
    !is_blank
}

#[cfg(test)]
mod tests {
    use outrigger_http1::parse::{Heads, Limits};

    use super::*;

    #[test]
    fn a_key_is_one_field_with_one_value_that_is_not_blank() {
        for (fields, expected) in [
            ("Idempotency-Key: 7", true),
            ("idempotency-key: \t 8e03978e-40d5-43dd-bc93-6894a57f9324 ", true),
            ("Idempotency-Key: urn:x/y+z==", true),
            ("Idempotency-Key: \"8e03978e\"", true),
            ("Idempotency-Key: \"a, b\"", true),
            (r#"Idempotency-Key: "\"\\""#, true),
            ("", false),
            ("Idempotency-Key:", false),
            ("Idempotency-Key: \t ", false),
            ("Idempotency-Key: \"\"", false),
            ("Idempotency-Key: \"  \"", false),
            ("Idempotency-Key: \"", false),
            ("Idempotency-Key: \"a", false),
            ("Idempotency-Key: a\"", false),
            ("Idempotency-Key: \"a\"b\"", false),
            (r#"Idempotency-Key: "a\""#, false),
            (r#"Idempotency-Key: "\a""#, false),
            ("Idempotency-Key: \"\t\"", false),
            ("Idempotency-Key: a, b", false),
            ("Idempotency-Key: a,", false),
            ("Idempotency-Key: \"a\", \"b\"", false),
            ("Idempotency-Key: \"a\";b", false),
            ("Idempotency-Key: a;b", false),
            ("Idempotency-Key: a b", false),
            ("Idempotency-Key: \u{e4}", false),
            ("Idempotency-Key: \"\u{e4}\"", false),
            ("Idempotency-Key: a\r\nIdempotency-Key: a", false),
            ("Idempotency-Key: a\r\nidempotency-key:", false),
        ] {
            let text = format!(
                "POST / HTTP/1.1\r\nHost: a\r\n{fields}{}",
                if fields.is_empty() { "\r\n" } else { "\r\n\r\n" }
            );
            let taken = Heads::requests(Limits::default()).request(text.as_bytes());
            let head = taken.expect("a valid head").expect("a whole one").head;
            assert_eq!(has_key(&head.fields), expected, "{fields:?}");
        }
    }
}
