//! Answers of our own: RFC 9457 problem bodies with an RFC 9209 `Proxy-Status`.
//!
//! The field is for machines that know nothing of Outrigger, the body for the person who ran `curl`: which upstream, which rule, since when, and when to
//! try again.

use bytes::Bytes;
use http::header::{self, HeaderName};
use http::{HeaderValue, Response, response};
use serde::Serialize;

use crate::clock;
use crate::error::{OpenBreaker, ProxyError};

const PROXY_STATUS: HeaderName = HeaderName::from_static("proxy-status");
/// How often the request was sent, on answers that took more than one attempt.
pub const ATTEMPTS: HeaderName = HeaderName::from_static("outrigger-attempts");

/// The body, in the order in which a person wants to read it.
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
    /// What stood in the way of another attempt.
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

/// The answer for `error`; `upstream` is empty where none was found, `attempts` counts what was sent, `no_retry` says why there were not more.
pub fn answer(error: &ProxyError, upstream: &str, attempts: u32, no_retry: Option<&'static str>) -> Response<Bytes> {
    let row = error.row();
    let breaker = error.open_breaker();
    let problem = Problem {
        r#type: "about:blank",
        title: row.status.canonical_reason().unwrap_or("Error"),
        status: row.status.as_u16(),
        detail: format!("outrigger: {error}"),
        reason: row.reason,
        upstream,
        attempts,
        no_retry,
        breaker: breaker.map(BreakerPart::of),
    };
    let mut body = serde_json::to_vec(&problem).expect("a struct of strings and numbers can be written");
    body.push(b'\n');
    let mut answer = Response::new(Bytes::from(body));
    *answer.status_mut() = row.status;
    let headers = answer.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
    let next_hop = if upstream.is_empty() { String::new() } else { format!("; next-hop=\"{upstream}\"") };
    let status = format!("outrigger; error={}; details=\"{}\"{next_hop}", row.token, row.reason);
    if let Ok(value) = HeaderValue::from_str(&status) {
        headers.insert(PROXY_STATUS, value);
    }
    if let Some(open) = breaker {
        headers.insert(header::RETRY_AFTER, HeaderValue::from(retry_after_seconds(open.retry_after)));
    }
    if matches!(error, ProxyError::MethodRefused) {
        headers.insert(header::ALLOW, HeaderValue::from_static("GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS"));
    }
    answer
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

/// Marks an upstream's answer that went down although a retry was called for: `why` is the word for what stood in the way.
pub fn mark_given_up(head: &mut response::Parts, why: &str) {
    let status = head.status.as_u16();
    if let Ok(value) =
        HeaderValue::from_str(&format!("outrigger; received-status={status}; details=\"no retry: {why}\""))
    {
        head.headers.append(PROXY_STATUS, value);
    }
}

/// Marks an answer that took more than one attempt.
pub fn mark_attempts(headers: &mut http::HeaderMap, attempts: u32) {
    if attempts > 1 {
        headers.insert(ATTEMPTS, HeaderValue::from(attempts));
    }
}

/// Whole seconds, rounded up: who comes back at the second named finds the probe due.
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
        let answer = answer(&ProxyError::BreakerOpen(Box::new(open)), "checkout", 0, None);
        assert_eq!(answer.status(), 503);
        assert_eq!(answer.headers()["retry-after"], "2");
        assert_eq!(
            answer.headers()["proxy-status"],
            "outrigger; error=destination_unavailable; details=\"breaker_open\"; next-hop=\"checkout\""
        );
        let problem: serde_json::Value = serde_json::from_slice(answer.body()).expect("JSON");
        assert_eq!(problem["upstream"], "checkout");
        assert_eq!(problem["breaker"]["rule"], "failure_ratio");
        assert!(problem["breaker"]["since"].as_str().is_some_and(|since| since.ends_with("GMT")));
    }
}
