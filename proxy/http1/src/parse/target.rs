//! Request targets and authorities (RFC 9112 §3.2, RFC 3986 §3.2), read by the letter.

use std::net::Ipv6Addr;

use super::class::{self, HOST, PATH, QUERY};
use super::refusal::Refusal;

/// Where a target ends and its form is one that `method` may have.
///
/// # Errors
/// What is wrong with it; `None` if `bytes` end before it does.
pub(super) fn end(method: &[u8], bytes: &[u8]) -> Result<usize, Option<Refusal>> {
    if bytes.first() == Some(&b'/') && method != b"CONNECT" {
        return path_end(bytes);
    }
    // The rarer forms: their end first, their parts after it.
    let end = bytes.iter().position(|byte| !byte.is_ascii_graphic()).ok_or(None)?;
    let target = bytes.get(..end).unwrap_or_default();
    let is_valid = match method {
        _ if bytes.get(end) != Some(&b' ') => Err(not_ended(bytes.get(end))),
        b"CONNECT" => authority_form(target),
        b"OPTIONS" if target == b"*" => Ok(()),
        _ => absolute_form(target),
    };
    is_valid.map(|()| end).map_err(Some)
}

/// Where a path and its query end: at a blank.
fn path_end(bytes: &[u8]) -> Result<usize, Option<Refusal>> {
    let mut end = class::path_end(bytes);
    if bytes.get(end) == Some(&b'?') {
        end = class::end_of(bytes, end, QUERY);
    }
    match bytes.get(end) {
        Some(b' ') => Ok(end),
        None => Err(None),
        other => Err(Some(not_ended(other))),
    }
}

/// What is wrong where a target is followed by something else than a blank.
fn not_ended(next: Option<&u8>) -> Refusal {
    if matches!(next, Some(b'\r' | b'\n')) { Refusal::BadRequestLine } else { Refusal::BadTarget }
}

fn authority_form(target: &[u8]) -> Result<(), Refusal> {
    if target.contains(&b'@') {
        return Err(Refusal::UserInformation);
    }
    match authority(target) {
        Some(Port::Given) => Ok(()),
        Some(Port::Default) | None => Err(Refusal::BadAuthority),
    }
}

fn absolute_form(target: &[u8]) -> Result<(), Refusal> {
    let scheme_end = target.windows(3).position(|window| window == b"://").ok_or(Refusal::BadTarget)?;
    let (scheme, rest) =
        (target.get(..scheme_end).unwrap_or_default(), target.get(scheme_end + 3..).unwrap_or_default());
    if !scheme.eq_ignore_ascii_case(b"http") && !scheme.eq_ignore_ascii_case(b"https") {
        return Err(Refusal::BadTarget);
    }
    let authority_end = rest.iter().position(|byte| matches!(byte, b'/' | b'?' | b'#')).unwrap_or(rest.len());
    let (host, path) = rest.split_at_checked(authority_end).unwrap_or((rest, b""));
    if host.contains(&b'@') {
        return Err(Refusal::UserInformation);
    }
    authority(host).ok_or(Refusal::BadAuthority)?;
    let query_at = class::end_of(path, 0, PATH);
    let is_query =
        path.get(query_at).is_none_or(|first| *first == b'?') && class::end_of(path, query_at, QUERY) == path.len();
    if is_query { Ok(()) } else { Err(Refusal::BadTarget) }
}

/// Whether an authority names its port.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Port {
    /// It does.
    Given,
    /// It leaves it to the scheme.
    Default,
}

/// Reads a host with or without a port; `None` if it is not exactly that. An empty port, port 0 and user information are none.
pub(super) fn authority(text: &[u8]) -> Option<Port> {
    let host_end = match text.first()? {
        b'[' => {
            let end = text.iter().position(|byte| *byte == b']')?;
            let address = std::str::from_utf8(text.get(1..end)?).ok()?;
            address.parse::<Ipv6Addr>().ok()?;
            end + 1
        }
        first if !class::is(*first, HOST) => return None,
        _ => class::end_of(text, 1, HOST),
    };
    match text.get(host_end..)? {
        [] => Some(Port::Default),
        [b':', digits @ ..] if digits.iter().all(u8::is_ascii_digit) => {
            // A port of zeros, of none and of more than 16 bits names nothing.
            let add = |port: u16, digit: &u8| port.checked_mul(10)?.checked_add(u16::from(digit - b'0'));
            digits.iter().try_fold(0, add).filter(|port| *port > 0).map(|_| Port::Given)
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_authority_is_a_host_and_perhaps_a_port() {
        for text in ["a", "a.b-c_d~1", "10.0.0.1", "[::1]", "[2001:db8::1.2.3.4]", "A."] {
            assert_eq!(authority(text.as_bytes()), Some(Port::Default), "{text}");
            for port in ["1", "80", "65535", "0080"] {
                assert_eq!(authority(format!("{text}:{port}").as_bytes()), Some(Port::Given), "{text}:{port}");
            }
            for tail in
                [":", ":0", ":65536", ":-1", ":+1", ":8 0", ":80:80", ":a", " ", "/", ",b", "@b", "%41", "\t", "#"]
            {
                assert_eq!(authority(format!("{text}{tail}").as_bytes()), None, "{text}{tail}");
            }
        }
        for text in
            ["", ":80", "[", "[]", "[::1", "::1", "[::1%25lo]", "[v1.a]", "[::1]a", "a b", "user@a", "\u{e4}", "a,b"]
        {
            assert_eq!(authority(text.as_bytes()), None, "{text}");
        }
    }

    #[test]
    fn a_target_has_a_form_that_its_method_has() {
        use Refusal::{BadAuthority, BadTarget, UserInformation};
        for (method, target, expected) in [
            ("GET", "/", Ok(())),
            ("GET", "/a?b=c&d=`?/", Ok(())),
            ("GET", "//a/../b;c|{d}[e]%zz\\", Ok(())),
            ("GET", "/a#b", Err(BadTarget)),
            ("GET", "/a?b#c", Err(BadTarget)),
            ("GET", "/\u{e4}", Err(BadTarget)),
            ("GET", "/a\x7f", Err(BadTarget)),
            ("GET", "/a\tb", Err(BadTarget)),
            ("GET", "/a<b", Err(BadTarget)),
            ("GET", "*", Err(BadTarget)),
            ("OPTIONS", "*", Ok(())),
            ("OPTIONS", "**", Err(BadTarget)),
            ("OPTIONS", "/", Ok(())),
            ("GET", "a", Err(BadTarget)),
            ("GET", "?a", Err(BadTarget)),
            ("GET", "", Err(BadTarget)),
            ("GET", "a:80", Err(BadTarget)),
            ("CONNECT", "a:80", Ok(())),
            ("CONNECT", "[::1]:80", Ok(())),
            ("CONNECT", "a", Err(BadAuthority)),
            ("CONNECT", "a:99999", Err(BadAuthority)),
            ("CONNECT", "u@a:80", Err(UserInformation)),
            ("CONNECT", "/", Err(BadAuthority)),
            ("CONNECT", "http://a/", Err(BadAuthority)),
            ("GET", "http://a", Ok(())),
            ("GET", "HTTP://a:80/b?c", Ok(())),
            ("GET", "http://a?b", Ok(())),
            ("GET", "https://[::1]/", Ok(())),
            ("GET", "http://", Err(BadAuthority)),
            ("GET", "http:///a", Err(BadAuthority)),
            ("GET", "http://u:p@a/", Err(UserInformation)),
            ("GET", "http://a:/", Err(BadAuthority)),
            ("GET", "http://a:x/", Err(BadAuthority)),
            ("GET", "http://a:65536/", Err(BadAuthority)),
            ("GET", "http://a#b", Err(BadTarget)),
            ("GET", "http://a/b#c", Err(BadTarget)),
            ("GET", "http://a/b?c#d", Err(BadTarget)),
            ("GET", "http:/a", Err(BadTarget)),
            ("GET", "ftp://a/", Err(BadTarget)),
            ("GET", "ht tp://a/", Err(BadTarget)),
        ] {
            let line = format!("{target} HTTP/1.1");
            let found = end(method.as_bytes(), line.as_bytes());
            match expected {
                Ok(()) => assert_eq!(found, Ok(target.len()), "{method} {target}"),
                Err(refusal) => assert_eq!(found, Err(Some(refusal)), "{method} {target}"),
            }
        }
        assert_eq!(end(b"GET", b"/a"), Err(None));
    }
}
