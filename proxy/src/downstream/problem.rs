//! The proxy's own responses: RFC 9457 problem bodies with an RFC 9209 `Proxy-Status`.
//!
//! The field is for machines that know nothing of Outrigger. The body is for the person who ran `curl`: it says which upstream, which rule, since when, and when
//! to retry.

use bytes::Bytes;
use outrigger_http1::head::{Fields, ResponseHead};
use serde::Serialize;

use crate::clock;
use crate::error::{OpenBreaker, ProxyError};

const PROXY_STATUS: &str = "proxy-status";
/// The field that says how many attempts a response took, if more than one.
const ATTEMPTS: &str = "outrigger-attempts";
const METHODS: &[u8] = b"GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS";

/// The body. Its members are in the order in which a person wants to read them.
#[derive(Serialize)]
struct Problem<'a> {
    r#type: &'static str,
    title: &'static str,
    status: u16,
    detail: String,
    reason: &'static str,
    #[serde(skip_serializing_if = "str::is_empty")]
    upstream: &'a str,
    attempts: u32,
    /// Why there was no further retry.
    #[serde(skip_serializing_if = "Option::is_none")]
    no_retry: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    breaker: Option<BreakerPart>,
}

#[derive(Serialize)]
struct BreakerPart {
    scope: &'static str,
    state: &'static str,
    rule: &'static str,
    since: String,
    retry_after_seconds: f64,
}

/// The response for `error`. `upstream` is empty if none was found; `attempts` is the number of attempts made; `no_retry` says why there was no further one.
pub fn response(
    error: &ProxyError,
    upstream: &str,
    attempts: u32,
    no_retry: Option<&'static str>,
) -> (ResponseHead, Bytes) {
    let row = error.reason().row();
    let breaker = error.open_breaker();
    let problem = Problem {
        r#type: "about:blank",
        title: row.status.canonical_reason().unwrap_or("Error"),
        status: row.status.as_u16(),
        detail: format!("outrigger: {error}"),
        reason: row.word,
        upstream,
        attempts,
        no_retry,
        breaker: breaker.map(BreakerPart::of),
    };
    let mut body = serde_json::to_vec(&problem).expect("a struct of strings and numbers can be written");
    body.push(b'\n');
    let mut head = ResponseHead::from_status(row.status);
    head.fields.append("content-type", b"application/problem+json");
    let next_hop = if upstream.is_empty() { String::new() } else { format!("; next-hop=\"{upstream}\"") };
    let status = format!("outrigger; error={}; details=\"{}\"{next_hop}", row.token, row.word);
    head.fields.append(PROXY_STATUS, status.as_bytes());
    if let Some(open) = breaker {
        head.fields.append("retry-after", retry_after_seconds(open.retry_after).to_string().as_bytes());
    }
    if matches!(error, ProxyError::MemoryLimit) {
        head.fields.append("retry-after", b"1");
    }
    if matches!(error, ProxyError::MethodNotAllowed | ProxyError::MaxForwardsReached) {
        head.fields.append("allow", METHODS);
    }
    (head, Bytes::from(body))
}

impl BreakerPart {
    fn of(open: &OpenBreaker) -> BreakerPart {
        let wall = clock::wall();
        BreakerPart {
            scope: open.scope,
            state: "open",
            rule: open.rule,
            since: httpdate::fmt_http_date(wall.checked_sub(open.open_for).unwrap_or(wall)),
            retry_after_seconds: (open.retry_after.as_secs_f64() * 1e3).round() / 1e3,
        }
    }
}

/// Marks an upstream's response that would have been retried, had it not been for `why`.
pub fn mark_retry_refused(head: &mut ResponseHead, why: &str) {
    let status = head.status.as_u16();
    let mark = format!("outrigger; received-status={status}; details=\"no retry: {why}\"");
    head.fields.append(PROXY_STATUS, mark.as_bytes());
}

/// Marks a response that took more than one attempt.
pub fn mark_attempts(fields: &mut Fields, attempts: u32) {
    if attempts > 1 {
        fields.append(ATTEMPTS, attempts.to_string().as_bytes());
    }
}

/// Whole seconds, rounded up: a client that comes back at the second named finds the probe due.
fn retry_after_seconds(wait: std::time::Duration) -> u64 {
    wait.as_millis().div_ceil(1_000).max(1).try_into().unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn an_open_breaker_says_which_rule_since_when_and_when_to_come_back() {
        let open = OpenBreaker {
            scope: "upstream",
            rule: "failure_ratio",
            open_for: Duration::from_secs(2),
            retry_after: Duration::from_millis(1_200),
        };
        let (head, body) = response(&ProxyError::BreakerOpen(Box::new(open)), "checkout", 0, None);
        assert_eq!(head.status, 503);
        let fields: Vec<_> = head.fields.iter().map(|(_, name, value)| [name, value].concat()).collect();
        assert_eq!(fields[2], b"retry-after2");
        assert_eq!(
            fields[1].escape_ascii().to_string(),
            r#"proxy-statusoutrigger; error=destination_unavailable; details=\"breaker_open\"; next-hop=\"checkout\""#
        );
        let problem: serde_json::Value = serde_json::from_slice(&body).expect("JSON");
        assert_eq!(problem["upstream"], "checkout");
        assert_eq!(problem["breaker"]["rule"], "failure_ratio");
        assert!(problem["breaker"]["since"].as_str().is_some_and(|since| since.ends_with("GMT")));
    }
}
