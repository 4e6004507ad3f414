//! Every response that the proxy makes itself, in one table.
//!
//! A new variant of [`ProxyError`] does not compile until the table has its status, its RFC 9209 error token, its reason (a label of metrics and a part of the
//! response) and the side that has to act. Rejections happen before anything is sent; failures happen after.

use std::sync::Arc;
use std::time::{Duration, Instant};

use http::StatusCode;
use outrigger_http1::parse::Refusal;
use outrigger_policy::breaker::{self, Open};
use outrigger_policy::rejection::Rejection;

/// Why the downstream gets a response of the proxy instead of the upstream's. Each message is one sentence for a person, lower case, without a full stop.
#[derive(Clone, Debug, thiserror::Error)]
pub enum ProxyError {
    /// The request's head has no single meaning.
    #[error("{0}")]
    BadRequest(&'static str),
    /// The request's target is longer than the limit.
    #[error("{0}")]
    TargetTooLong(&'static str),
    /// The request's head is longer than the limit, or has too many fields.
    #[error("{0}")]
    HeadTooLarge(&'static str),
    /// The request has a version of HTTP that the proxy does not speak.
    #[error("{0}")]
    VersionNotSupported(&'static str),
    /// The proxy does not forward this method, or not to this upstream.
    #[error("TRACE is not forwarded, nor is CONNECT to an upstream that does not allow it")]
    MethodNotAllowed,
    /// An OPTIONS has no hops left in its `Max-Forwards`.
    #[error("Max-Forwards is 0: this proxy answers itself")]
    MaxForwardsReached,
    /// No upstream has this name.
    #[error("no upstream is called \"{host}\"; known: {known}")]
    UnknownHost {
        /// The host that the request asked for.
        host: String,
        /// The hosts that are configured.
        known: Arc<str>,
    },
    /// The upstream has as many requests in flight as its limit allows.
    #[error("{max} requests are in flight, as many as the upstream may have")]
    InFlightLimit {
        /// The limit.
        max: u32,
    },
    /// The proxy uses as much memory as it may.
    #[error("the proxy uses as much memory as it may")]
    MemoryLimit,
    /// The breaker that counts calls is open.
    #[error("{0}")]
    BreakerOpen(Box<OpenBreaker>),
    /// Every endpoint's breaker is open.
    #[error("{0}")]
    AllEndpointsOpen(Box<OpenBreaker>),
    /// No address is known, because the name does not resolve.
    #[error("the upstream's name has no address")]
    NoEndpoints,
    /// The connection was refused.
    #[error("the endpoint refused the connection")]
    ConnectRefused,
    /// The connection was not established in time.
    #[error("the endpoint did not accept the connection in time")]
    ConnectTimeout,
    /// The system had no socket left for another connection.
    #[error("the system has no socket left for another connection")]
    NoLocalSocket,
    /// The connection failed for another reason.
    #[error("the endpoint cannot be reached")]
    ConnectFailed,
    /// The connection broke before a response.
    #[error("the endpoint closed the connection before it responded")]
    Reset,
    /// No response came within the attempt's timeout.
    #[error("the endpoint did not respond in time")]
    AttemptTimeout,
    /// No response came within the request's timeout, over all attempts.
    #[error("the request's time ran out before an endpoint responded")]
    RequestTimeout,
    /// The upstream sent something that is no valid HTTP response.
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
    /// The endpoint did not wait any longer for a body that came too slowly.
    #[error("the endpoint closed the connection while the rest of the request's body was awaited")]
    EndedAwaitingBody,
}

/// Which breaker is open, why, and for how long. Its text is for people.
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
    /// How long until the next probe may be sent.
    pub retry_after: Duration,
}

/// The side that has to act.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Side {
    /// The client, which is the app.
    Downstream,
    /// The proxy itself: it refused to protect one of the sides.
    Proxy,
    /// The upstream, or the way to it.
    Upstream,
}

/// One row of the table.
#[derive(Clone, Copy, Debug)]
pub struct Row {
    /// Status of the response.
    pub status: StatusCode,
    /// Error type of RFC 9209 §2.3.
    pub token: &'static str,
    /// The proxy's own word for it: a label of metrics, and the reason in the response.
    pub word: &'static str,
    /// The side that has to act.
    pub side: Side,
}

macro_rules! table {
    ($($name:ident: $status:literal, $token:literal, $word:literal, $side:ident;)+) => {
        /// The name of an error, without its details.
        #[derive(Clone, Copy, PartialEq, Eq, Debug)]
        #[expect(missing_docs, reason = "each has the name of its error")]
        pub enum Reason {
            $($name,)+
        }

        impl Reason {
            /// All reasons.
            pub const ALL: &'static [Reason] = &[$(Reason::$name,)+];

            /// The row of this reason.
            pub fn row(self) -> Row {
                let (status, token, word, side) = match self {
                    $(Reason::$name => ($status, $token, $word, Side::$side),)+
                };
                let status = StatusCode::from_u16(status).expect("the table holds valid codes");
                Row { status, token, word, side }
            }

            /// The reason as metrics and responses write it.
            pub fn word(self) -> &'static str {
                self.row().word
            }
        }

        impl ProxyError {
            /// The reason of this error.
            pub fn reason(&self) -> Reason {
                match self {
                    $(ProxyError::$name { .. } => Reason::$name,)+
                }
            }
        }
    };
}

table! {
    BadRequest: 400, "http_request_error", "bad_request", Downstream;
    TargetTooLong: 414, "http_request_error", "target_too_long", Downstream;
    HeadTooLarge: 431, "http_request_error", "head_too_large", Downstream;
    VersionNotSupported: 505, "http_request_error", "version_not_supported", Downstream;
    MethodNotAllowed: 405, "http_request_denied", "method_not_allowed", Downstream;
    MaxForwardsReached: 200, "proxy_internal_response", "max_forwards_reached", Proxy;
    UnknownHost: 421, "destination_not_found", "unknown_host", Downstream;
    InFlightLimit: 503, "connection_limit_reached", "in_flight_limit", Proxy;
    MemoryLimit: 503, "proxy_internal_error", "memory_limit", Proxy;
    BreakerOpen: 503, "destination_unavailable", "breaker_open", Proxy;
    AllEndpointsOpen: 503, "destination_unavailable", "all_endpoints_open", Proxy;
    NoLocalSocket: 503, "connection_limit_reached", "no_local_socket", Proxy;
    NoEndpoints: 502, "dns_error", "no_endpoints", Upstream;
    ConnectRefused: 502, "connection_refused", "connect_refused", Upstream;
    ConnectTimeout: 504, "connection_timeout", "connect_timeout", Upstream;
    ConnectFailed: 502, "destination_ip_unroutable", "connect_failed", Upstream;
    Reset: 502, "connection_terminated", "reset", Upstream;
    AttemptTimeout: 504, "http_response_timeout", "attempt_timeout", Upstream;
    RequestTimeout: 504, "http_response_timeout", "request_timeout", Upstream;
    MalformedResponse: 502, "http_protocol_error", "malformed_response", Upstream;
    UnexpectedUpgrade: 502, "http_upgrade_failed", "unexpected_upgrade", Upstream;
    MalformedRequestBody: 400, "http_request_error", "malformed_request_body", Downstream;
    UploadTimeout: 408, "http_request_error", "upload_timeout", Downstream;
    EndedAwaitingBody: 408, "connection_terminated", "ended_awaiting_body", Downstream;
}

impl ProxyError {
    /// The error for what the policies rejected at `now`. `scope` is what the breaker of calls covers: `upstream` or `route`.
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

    #[test]
    fn every_row_has_its_own_word_and_a_status_of_its_side() {
        for reason in Reason::ALL {
            let row = reason.row();
            // The one 5xx that means the downstream.
            let blames_downstream =
                row.status.is_client_error() || row.status == StatusCode::HTTP_VERSION_NOT_SUPPORTED;
            assert_eq!(blames_downstream, row.side == Side::Downstream, "{reason:?}");
        }
        let mut words: Vec<_> = Reason::ALL.iter().map(|reason| reason.word()).collect();
        words.sort_unstable();
        words.dedup();
        assert_eq!(words.len(), Reason::ALL.len());
    }
}
