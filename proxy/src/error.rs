//! Every response that the proxy makes itself, in one table.
//!
//! A variant of [`ProxyError`] does not compile until the table says its status, its RFC 9209 error token, its own word (a metric's label, and
//! the explanation downstream) and on whose side it lies. Rejections happen before anything is sent; failures after.

use std::sync::Arc;
use std::time::{Duration, Instant};

use http::StatusCode;
use outrigger_http1::parse::Refusal;
use outrigger_policy::breaker::{self, Open};
use outrigger_policy::rejection::Rejection;

/// Why the downstream gets a response of ours instead of the upstream's. Each is one sentence for a person, lower case, without a full stop.
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
    VersionNotSupported(&'static str),
    /// A method that an HTTP sidecar does not forward, or not to this upstream.
    #[error("TRACE is not forwarded, nor is CONNECT to an upstream that does not allow it")]
    MethodNotAllowed,
    /// An OPTIONS that may not be forwarded any further.
    #[error("Max-Forwards is 0: this proxy answers itself")]
    MaxForwardsReached,
    /// No upstream has this name.
    #[error("no upstream is called \"{host}\"; known: {known}")]
    UnknownHost {
        /// What was asked for.
        host: String,
        /// What it could have asked for.
        known: Arc<str>,
    },
    /// The upstream has all the requests in flight that it may have.
    #[error("{max} requests are in flight, as many as the upstream may have")]
    InFlightLimit {
        /// The limit.
        max: u32,
    },
    /// The breaker that counts calls is open.
    #[error("{0}")]
    BreakerOpen(Box<OpenBreaker>),
    /// Every endpoint's breaker is open.
    #[error("{0}")]
    AllEndpointsOpen(Box<OpenBreaker>),
    /// No address is known: the name does not resolve.
    #[error("the upstream's name has no address")]
    NoEndpoints,
    /// The connection was refused.
    #[error("the endpoint refused the connection")]
    ConnectRefused,
    /// There was no connection in time.
    #[error("the endpoint did not accept the connection in time")]
    ConnectTimeout,
    /// The system had no socket for another connection.
    #[error("the system has no socket left for another connection")]
    NoLocalSocket,
    /// There was no connection for another reason.
    #[error("the endpoint cannot be reached")]
    ConnectFailed,
    /// The connection broke before a response.
    #[error("the endpoint closed the connection before it responded")]
    Reset,
    /// No response within the attempt's time.
    #[error("the endpoint did not respond in time")]
    AttemptTimeout,
    /// No response within the request's time, all attempts together.
    #[error("the request's time ran out before an endpoint responded")]
    RequestTimeout,
    /// What came back is no HTTP response.
    #[error("the endpoint's response is not valid HTTP")]
    MalformedResponse,
    /// The upstream switched protocols without being asked.
    #[error("the endpoint switched protocols without being asked")]
    UnexpectedUpgrade,
    /// The request's body broke off, or is malformed.
    #[error("the request's body broke off or is malformed")]
    MalformedRequestBody,
    /// The request's body came too slowly.
    #[error("the request's body did not arrive in time")]
    UploadTimeout,
}

/// What is open, why, and until when: for people.
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
    Downstream,
    /// The proxy refused, to protect somebody.
    Proxy,
    /// The upstream, or the way to it.
    Upstream,
}

/// The words for the rows of the table: a label of metrics, and the reason that is told downstream.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[expect(missing_docs, reason = "each is the word of the error of the same name")]
pub enum Reason {
    BadRequest,
    TargetTooLong,
    HeadTooLarge,
    VersionNotSupported,
    MethodNotAllowed,
    MaxForwardsReached,
    UnknownHost,
    InFlightLimit,
    BreakerOpen,
    AllEndpointsOpen,
    NoLocalSocket,
    NoEndpoints,
    ConnectRefused,
    ConnectTimeout,
    ConnectFailed,
    Reset,
    AttemptTimeout,
    RequestTimeout,
    MalformedResponse,
    UnexpectedUpgrade,
    MalformedRequestBody,
    UploadTimeout,
}

impl Reason {
    /// As it is written.
    pub fn word(self) -> &'static str {
        match self {
            Reason::BadRequest => "bad_request",
            Reason::TargetTooLong => "target_too_long",
            Reason::HeadTooLarge => "head_too_large",
            Reason::VersionNotSupported => "version_not_supported",
            Reason::MethodNotAllowed => "method_not_allowed",
            Reason::MaxForwardsReached => "max_forwards_reached",
            Reason::UnknownHost => "unknown_host",
            Reason::InFlightLimit => "in_flight_limit",
            Reason::BreakerOpen => "breaker_open",
            Reason::AllEndpointsOpen => "all_endpoints_open",
            Reason::NoLocalSocket => "no_local_socket",
            Reason::NoEndpoints => "no_endpoints",
            Reason::ConnectRefused => "connect_refused",
            Reason::ConnectTimeout => "connect_timeout",
            Reason::ConnectFailed => "connect_failed",
            Reason::Reset => "reset",
            Reason::AttemptTimeout => "attempt_timeout",
            Reason::RequestTimeout => "request_timeout",
            Reason::MalformedResponse => "malformed_response",
            Reason::UnexpectedUpgrade => "unexpected_upgrade",
            Reason::MalformedRequestBody => "malformed_request_body",
            Reason::UploadTimeout => "upload_timeout",
        }
    }
}

/// One row of the table.
#[derive(Clone, Copy, Debug)]
pub struct Row {
    /// Status of the response.
    pub status: StatusCode,
    /// Error type of RFC 9209 §2.3.
    pub token: &'static str,
    /// Our own word for it.
    pub reason: Reason,
    /// Who has to act.
    pub side: Side,
}

impl ProxyError {
    /// The table.
    pub fn row(&self) -> Row {
        use Side::{Downstream, Proxy, Upstream};
        let (status, token, reason, side) = match self {
            ProxyError::BadRequest(_) => (400, "http_request_error", Reason::BadRequest, Downstream),
            ProxyError::TargetTooLong(_) => (414, "http_request_error", Reason::TargetTooLong, Downstream),
            ProxyError::HeadTooLarge(_) => (431, "http_request_error", Reason::HeadTooLarge, Downstream),
            ProxyError::VersionNotSupported(_) => (505, "http_request_error", Reason::VersionNotSupported, Downstream),
            ProxyError::MethodNotAllowed => (405, "http_request_denied", Reason::MethodNotAllowed, Downstream),
            ProxyError::MaxForwardsReached => (200, "proxy_internal_response", Reason::MaxForwardsReached, Proxy),
            ProxyError::UnknownHost { .. } => (421, "destination_not_found", Reason::UnknownHost, Downstream),
            ProxyError::InFlightLimit { .. } => (503, "connection_limit_reached", Reason::InFlightLimit, Proxy),
            ProxyError::BreakerOpen(_) => (503, "destination_unavailable", Reason::BreakerOpen, Proxy),
            ProxyError::AllEndpointsOpen(_) => (503, "destination_unavailable", Reason::AllEndpointsOpen, Proxy),
            ProxyError::NoLocalSocket => (503, "connection_limit_reached", Reason::NoLocalSocket, Proxy),
            ProxyError::NoEndpoints => (502, "dns_error", Reason::NoEndpoints, Upstream),
            ProxyError::ConnectRefused => (502, "connection_refused", Reason::ConnectRefused, Upstream),
            ProxyError::ConnectTimeout => (504, "connection_timeout", Reason::ConnectTimeout, Upstream),
            ProxyError::ConnectFailed => (502, "destination_ip_unroutable", Reason::ConnectFailed, Upstream),
            ProxyError::Reset => (502, "connection_terminated", Reason::Reset, Upstream),
            ProxyError::AttemptTimeout => (504, "http_response_timeout", Reason::AttemptTimeout, Upstream),
            ProxyError::RequestTimeout => (504, "http_response_timeout", Reason::RequestTimeout, Upstream),
            ProxyError::MalformedResponse => (502, "http_protocol_error", Reason::MalformedResponse, Upstream),
            ProxyError::UnexpectedUpgrade => (502, "http_upgrade_failed", Reason::UnexpectedUpgrade, Upstream),
            ProxyError::MalformedRequestBody => (400, "http_request_error", Reason::MalformedRequestBody, Downstream),
            ProxyError::UploadTimeout => (408, "http_request_error", Reason::UploadTimeout, Downstream),
        };
        let status = StatusCode::from_u16(status).expect("the table holds valid codes");
        Row { status, token, reason, side }
    }

    /// For what the policies refused at `now`; `scope` is what the breaker of calls counts.
    pub fn rejected(why: Rejection, scope: &'static str, now: Instant) -> ProxyError {
        match why {
            Rejection::InFlightLimit { max } => ProxyError::InFlightLimit { max },
            Rejection::BreakerOpen(open) => ProxyError::BreakerOpen(Box::new(OpenBreaker::new(scope, &open, now))),
            Rejection::AllEndpointsOpen(open) => {
                ProxyError::AllEndpointsOpen(Box::new(OpenBreaker::new("endpoint", &open, now)))
            }
            Rejection::NoEndpoints => ProxyError::NoEndpoints,
        }
    }

    /// The breaker that refused, if one did.
    pub fn open_breaker(&self) -> Option<&OpenBreaker> {
        match self {
            ProxyError::BreakerOpen(open) | ProxyError::AllEndpointsOpen(open) => Some(open),
            _ => None,
        }
    }
}

impl OpenBreaker {
    fn new(scope: &'static str, open: &Open, now: Instant) -> OpenBreaker {
        OpenBreaker {
            scope,
            rule: open.reason.map_or("", breaker::Reason::word),
            open_for: now.saturating_duration_since(open.since),
            retry_after: open.retry_at.saturating_duration_since(now),
        }
    }
}

impl From<Refusal> for ProxyError {
    fn from(refusal: Refusal) -> ProxyError {
        let what = refusal.sentence();
        match refusal.status() {
            StatusCode::URI_TOO_LONG => ProxyError::TargetTooLong(what),
            StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE => ProxyError::HeadTooLarge(what),
            StatusCode::HTTP_VERSION_NOT_SUPPORTED => ProxyError::VersionNotSupported(what),
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
            VersionNotSupported("x"),
            MethodNotAllowed,
            MaxForwardsReached,
            UnknownHost { host: String::new(), known: Arc::from("") },
            InFlightLimit { max: 1 },
            BreakerOpen(Box::new(open.clone())),
            AllEndpointsOpen(Box::new(open)),
            NoEndpoints,
            ConnectRefused,
            ConnectTimeout,
            NoLocalSocket,
            ConnectFailed,
            Reset,
            AttemptTimeout,
            RequestTimeout,
            MalformedResponse,
            UnexpectedUpgrade,
            MalformedRequestBody,
            UploadTimeout,
        ]
    }

    #[test]
    fn every_row_has_its_own_reason_and_a_status_of_its_side() {
        let mut reasons: Vec<_> = all().iter().map(|e| e.row().reason.word()).collect();
        for error in all() {
            let row = error.row();
            // The one 5xx that means the downstream.
            let blames_downstream =
                row.status.is_client_error() || row.status == StatusCode::HTTP_VERSION_NOT_SUPPORTED;
            assert_eq!(blames_downstream, row.side == Side::Downstream, "{error:?}");
        }
        reasons.sort_unstable();
        reasons.dedup();
        assert_eq!(reasons.len(), all().len());
    }
}
