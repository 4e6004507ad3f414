//! Every answer that the proxy makes itself, in one table.
//!
//! A variant of [`ProxyError`] does not compile until the table says its status, its RFC 9209 error token, its own reason word (a metric's label and
//! the caller's explanation) and on whose side it lies. Rejections happen before anything is sent; failures after.

use std::sync::Arc;
use std::time::Duration;

use http::StatusCode;
use outrigger_http1::parse::Refusal;

/// Why the caller gets an answer of ours instead of the upstream's. Each is one sentence for a person, lower case, without a full stop.
#[derive(Clone, Debug, thiserror::Error)]
pub enum ProxyError {
    /// The request's head has no single meaning.
    #[error("{0}")]
    BadRequest(&'static str),
    /// Its target is longer than the limit.
    #[error("{0}")]
    TargetTooLong(&'static str),
    /// Its head is longer than the limit, or has more fields.
    #[error("{0}")]
    HeadTooLarge(&'static str),
    /// It is of another version of HTTP.
    #[error("{0}")]
    VersionRefused(&'static str),
    /// A method that an HTTP sidecar does not forward, or not to this upstream.
    #[error("TRACE is not forwarded, nor is CONNECT to an upstream that does not allow it")]
    MethodRefused,
    /// An OPTIONS that may not be forwarded any further.
    #[error("Max-Forwards is 0: this proxy answers itself")]
    LastForward,
    /// No upstream has this name.
    #[error("no upstream is called \"{host}\"; known: {known}")]
    UnknownHost {
        /// What the caller asked for.
        host: String,
        /// What it could have asked for.
        known: Arc<str>,
    },
    /// The upstream has all the requests under way that it may have.
    #[error("{max} requests are under way, as many as the upstream may have")]
    InFlightLimit {
        /// The limit.
        max: u32,
    },
    /// The breaker that counts calls is open.
    #[error("{0}")]
    BreakerOpen(Box<OpenBreaker>),
    /// Every endpoint's breaker is open.
    #[error("{0}")]
    EndpointsOpen(Box<OpenBreaker>),
    /// No address is known: the name does not resolve.
    #[error("the upstream's name has no address")]
    NoAddress,
    /// The connection was refused.
    #[error("the endpoint refused the connection")]
    ConnectRefused,
    /// There was no connection in time.
    #[error("the endpoint did not accept the connection in time")]
    ConnectTimeout,
    /// The system had no socket for another connection.
    #[error("the system has no socket left for another connection")]
    NoSocket,
    /// There was no connection for another reason.
    #[error("the endpoint cannot be reached")]
    ConnectFailed,
    /// The connection broke before an answer.
    #[error("the endpoint closed the connection before it answered")]
    Reset,
    /// No answer within the attempt's time.
    #[error("the endpoint did not answer in time")]
    AttemptTimeout,
    /// No answer within the request's time, all attempts together.
    #[error("the request's time ran out before an endpoint answered")]
    RequestTimeout,
    /// What came back is no HTTP answer.
    #[error("the endpoint's answer is not valid HTTP")]
    Garbled,
    /// The upstream switched protocols without being asked.
    #[error("the endpoint switched protocols without being asked")]
    UnaskedUpgrade,
    /// The caller's body broke off.
    #[error("the request's body broke off or is malformed")]
    CallerBodyBroken,
    /// The caller's body came too slowly.
    #[error("the request's body did not arrive in time")]
    CallerTooSlow,
}

/// What is open, why, and until when: for the caller's eyes.
#[derive(Clone, Debug, thiserror::Error)]
#[error(
    "{}: {rule} for {:.1} s, next probe in {:.1} s",
    if *.scope == "endpoint" { "every endpoint's breaker is open" } else { "the breaker is open" },
    .open_for.as_secs_f64(),
    .retry_after.as_secs_f64()
)]
pub struct OpenBreaker {
    /// `upstream`, `route` or `endpoint`.
    pub scope: &'static str,
    /// The rule that opened it.
    pub rule: &'static str,
    /// How long it has been open.
    pub open_for: Duration,
    /// Until the next probe may go.
    pub retry_after: Duration,
}

/// Who has to act on it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Side {
    /// The app.
    Caller,
    /// The proxy refused, to protect somebody.
    Proxy,
    /// The upstream, or the way to it.
    Upstream,
}

/// One row of the table.
#[derive(Clone, Copy, Debug)]
pub struct Row {
    /// Status of the answer.
    pub status: StatusCode,
    /// Error type of RFC 9209 §2.3.
    pub token: &'static str,
    /// Our own word, unique per row.
    pub reason: &'static str,
    /// Who has to act.
    pub side: Side,
}

impl ProxyError {
    /// The table.
    pub fn row(&self) -> Row {
        use Side::{Caller, Proxy, Upstream};
        let (status, token, reason, side) = match self {
            ProxyError::BadRequest(_) => (400, "http_request_error", "bad_request", Caller),
            ProxyError::TargetTooLong(_) => (414, "http_request_error", "target_too_long", Caller),
            ProxyError::HeadTooLarge(_) => (431, "http_request_error", "head_too_large", Caller),
            ProxyError::VersionRefused(_) => (505, "http_request_error", "version_refused", Caller),
            ProxyError::MethodRefused => (405, "http_request_denied", "method_refused", Caller),
            ProxyError::LastForward => (200, "proxy_internal_response", "last_forward", Proxy),
            ProxyError::UnknownHost { .. } => (421, "destination_not_found", "unknown_host", Caller),
            ProxyError::InFlightLimit { .. } => (503, "connection_limit_reached", "in_flight_limit", Proxy),
            ProxyError::BreakerOpen(_) => (503, "destination_unavailable", "breaker_open", Proxy),
            ProxyError::EndpointsOpen(_) => (503, "destination_unavailable", "endpoints_open", Proxy),
            ProxyError::NoSocket => (503, "connection_limit_reached", "no_socket", Proxy),
            ProxyError::NoAddress => (502, "dns_error", "no_address", Upstream),
            ProxyError::ConnectRefused => (502, "connection_refused", "connect_refused", Upstream),
            ProxyError::ConnectTimeout => (504, "connection_timeout", "connect_timeout", Upstream),
            ProxyError::ConnectFailed => (502, "destination_ip_unroutable", "connect_failed", Upstream),
            ProxyError::Reset => (502, "connection_terminated", "reset", Upstream),
            ProxyError::AttemptTimeout => (504, "http_response_timeout", "attempt_timeout", Upstream),
            ProxyError::RequestTimeout => (504, "http_response_timeout", "request_timeout", Upstream),
            ProxyError::Garbled => (502, "http_protocol_error", "garbled", Upstream),
            ProxyError::UnaskedUpgrade => (502, "http_upgrade_failed", "unasked_upgrade", Upstream),
            ProxyError::CallerBodyBroken => (400, "http_request_error", "caller_body_broken", Caller),
            ProxyError::CallerTooSlow => (408, "http_request_error", "caller_too_slow", Caller),
        };
        let status = StatusCode::from_u16(status).expect("the table holds valid codes");
        Row { status, token, reason, side }
    }

    /// The breaker that refused, if one did.
    pub fn open_breaker(&self) -> Option<&OpenBreaker> {
        match self {
            ProxyError::BreakerOpen(open) | ProxyError::EndpointsOpen(open) => Some(open),
            _ => None,
        }
    }
}

impl From<Refusal> for ProxyError {
    fn from(refusal: Refusal) -> ProxyError {
        let what = refusal.sentence();
        match refusal.status() {
            StatusCode::URI_TOO_LONG => ProxyError::TargetTooLong(what),
            StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE => ProxyError::HeadTooLarge(what),
            StatusCode::HTTP_VERSION_NOT_SUPPORTED => ProxyError::VersionRefused(what),
            _ => ProxyError::BadRequest(what),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// One of each. The match is never run: it does not compile as long as a variant is missing from the list.
    macro_rules! one_of_each {
        ($($variant:ident $(($value:expr))? $({ $($fields:tt)* })?),* $(,)?) => {{
            let _ = |error: &ProxyError| match error {
                $(ProxyError::$variant { .. } => {})*
            };
            vec![$(ProxyError::$variant $(($value))? $({ $($fields)* })?),*]
        }};
    }

    fn all() -> Vec<ProxyError> {
        let open = OpenBreaker {
            scope: "upstream",
            rule: "failure_ratio",
            open_for: Duration::ZERO,
            retry_after: Duration::ZERO,
        };
        one_of_each![
            BadRequest("x"),
            TargetTooLong("x"),
            HeadTooLarge("x"),
            VersionRefused("x"),
            MethodRefused,
            LastForward,
            UnknownHost { host: String::new(), known: Arc::from("") },
            InFlightLimit { max: 1 },
            BreakerOpen(Box::new(open.clone())),
            EndpointsOpen(Box::new(open)),
            NoAddress,
            ConnectRefused,
            ConnectTimeout,
            NoSocket,
            ConnectFailed,
            Reset,
            AttemptTimeout,
            RequestTimeout,
            Garbled,
            UnaskedUpgrade,
            CallerBodyBroken,
            CallerTooSlow,
        ]
    }

    #[test]
    fn every_row_has_its_own_reason_and_a_status_of_its_side() {
        let mut reasons: Vec<_> = all().iter().map(|e| e.row().reason).collect();
        for error in all() {
            let row = error.row();
            // The one 5xx that means the caller.
            let blames_caller = row.status.is_client_error() || row.status == StatusCode::HTTP_VERSION_NOT_SUPPORTED;
            assert_eq!(blames_caller, row.side == Side::Caller, "{error:?}");
        }
        reasons.sort_unstable();
        reasons.dedup();
        assert_eq!(reasons.len(), all().len());
    }
}
