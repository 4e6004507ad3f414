//! Label values that are not the policies' own. All of them come from enums, never from a request.

use http::Method;
use outrigger_policy::outcome::Class;

use crate::error::Reason;

/// How a request ended, as the downstream saw it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum RequestOutcome {
    /// With a whole response of the upstream, and its class.
    Response(Class),
    /// With a response of the proxy.
    Error(Reason),
    /// The endpoint broke its response off.
    Truncated,
    /// The endpoint stopped in the middle of its response.
    BodyIdleTimeout,
    /// The downstream disconnected.
    DownstreamDisconnect,
}

impl RequestOutcome {
    /// The value of the label.
    pub fn word(self) -> &'static str {
        match self {
            RequestOutcome::Response(class) => class.word(),
            RequestOutcome::Error(reason) => reason.word(),
            RequestOutcome::Truncated => "truncated",
            RequestOutcome::BodyIdleTimeout => "body_idle_timeout",
            RequestOutcome::DownstreamDisconnect => "downstream_disconnect",
        }
    }
}

/// The label of a method.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum MethodLabel {
    /// `GET`.
    Get,
    /// `HEAD`.
    Head,
    /// `POST`.
    Post,
    /// `PUT`.
    Put,
    /// `PATCH`.
    Patch,
    /// `DELETE`.
    Delete,
    /// `OPTIONS`.
    Options,
    /// `CONNECT`.
    Connect,
    /// `TRACE`.
    Trace,
    /// Any other method, and heads that were no valid request.
    Other,
}

impl MethodLabel {
    /// The label of `method`.
    pub fn of(method: &Method) -> MethodLabel {
        match *method {
            Method::GET => MethodLabel::Get,
            Method::HEAD => MethodLabel::Head,
            Method::POST => MethodLabel::Post,
            Method::PUT => MethodLabel::Put,
            Method::PATCH => MethodLabel::Patch,
            Method::DELETE => MethodLabel::Delete,
            Method::OPTIONS => MethodLabel::Options,
            Method::CONNECT => MethodLabel::Connect,
            Method::TRACE => MethodLabel::Trace,
            _ => MethodLabel::Other,
        }
    }

    /// The value of the label.
    pub fn word(self) -> &'static str {
        match self {
            MethodLabel::Get => "GET",
            MethodLabel::Head => "HEAD",
            MethodLabel::Post => "POST",
            MethodLabel::Put => "PUT",
            MethodLabel::Patch => "PATCH",
            MethodLabel::Delete => "DELETE",
            MethodLabel::Options => "OPTIONS",
            MethodLabel::Connect => "CONNECT",
            MethodLabel::Trace => "TRACE",
            MethodLabel::Other => "other",
        }
    }
}

/// The label of a status: its hundreds.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum CodeClass {
    /// There was no response.
    None,
    /// 1xx to 5xx, as 1 to 5.
    Hundreds(u8),
    /// A status from 600 on.
    Other,
}

impl CodeClass {
    /// The label of `status`, which is 0 if there was no response.
    pub fn of(status: u16) -> CodeClass {
        match status / 100 {
            0 => CodeClass::None,
            hundreds @ 1..=5 => CodeClass::Hundreds(hundreds as u8),
            _ => CodeClass::Other,
        }
    }

    /// The value of the label.
    pub fn word(self) -> &'static str {
        match self {
            CodeClass::None => "none",
            CodeClass::Hundreds(1) => "1xx",
            CodeClass::Hundreds(2) => "2xx",
            CodeClass::Hundreds(3) => "3xx",
            CodeClass::Hundreds(4) => "4xx",
            CodeClass::Hundreds(5) => "5xx",
            CodeClass::Hundreds(_) | CodeClass::Other => "other",
        }
    }
}
