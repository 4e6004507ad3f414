//! What happened to an attempt, and how the policies count it.
//!
//! Every outcome has three separate facts, because systems that fold them into `success: bool` get them wrong: how it counts
//! ([`Class`]), whether the upstream may have processed the request ([`Processed`]), and what the upstream asks of us ([`Pushback`]).
//!
//! The class of a response is provisional at its head, and counts from then on. [`Class::at_end`] makes it final when the body has ended: a body that breaks off
//! turns a success into a failure.

use std::time::{Duration, Instant};

/// The longest spacing of probes, whatever the open time is: callers wait for it while the upstream may be well.
pub(crate) const PROBE_SPACING_MAX: Duration = Duration::from_secs(1);

/// How one attempt ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Outcome {
    /// The head of a final response arrived.
    Response {
        /// Its status code: 200 to 999, or 101.
        status: u16,
        /// What its `Retry-After` asks for.
        pushback: Pushback,
    },
    /// No connection: refused, unreachable, name unknown, or not established in time.
    ConnectFailed,
    /// The proxy's own system had no socket for a connection, so nothing reached the endpoint.
    NoLocalSocket,
    /// The connection was dead before the first byte of the request was written.
    Unsent,
    /// The connection ended after the request was (partly) written and before a byte of the response came.
    Reset {
        /// The connection had served a request before: most likely the upstream closed it for idleness at the same moment.
        reused: bool,
    },
    /// No response came within the attempt's timeout.
    AttemptTimedOut,
    /// The bytes that came back are no valid HTTP response, or only a part of its head.
    MalformedResponse,
    /// The downstream disconnected before there was a response.
    DownstreamDisconnect,
    /// The downstream's own request body broke off or came too slowly.
    DownstreamError,
    /// The connection ended while the endpoint waited for a part of the request's body that the downstream had delayed.
    EndedAwaitingBody,
    /// Another attempt of the same request was faster: this one was cancelled, or the other one has read what it needed of the body.
    Superseded,
    /// The proxy had no memory for the rest of the response's head.
    MemoryLimit,
}

/// How the body of a response ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum BodyEnd {
    /// Exactly as it was announced.
    Whole,
    /// The endpoint broke it off, or framed it wrongly.
    BrokenOff,
    /// It ended early, in any way, after the downstream had delayed the exchange: it did not read the response, or did not send its own body on.
    Delayed,
    /// The proxy or the downstream left it soon after its head, or when nothing had come for too long. The endpoint had not broken it off, and nobody knows whether it would have.
    Abandoned,
    /// The same, but the body had gone on for so long ([`goes_on`]) that the endpoint has done its part.
    AbandonedGoingOn,
}

/// Whether a body goes on, by a piece of it that came at `now`. It is the same time after which such a piece is a success of a breaker's probe, at most.
pub fn goes_on(head_at: Instant, now: Instant) -> bool {
    now.saturating_duration_since(head_at) >= PROBE_SPACING_MAX
}

/// How a policy counts an outcome.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Class {
    /// The upstream did its work. A mistake of the downstream (4xx) is a success too, because the upstream was there to find it.
    Success,
    /// The upstream failed.
    Failure,
    /// The upstream is alive and asks for less load: 429, or 503 with `Retry-After`. A closed breaker does not count it as a failure.
    Overload,
    /// It says nothing about the upstream.
    Neutral,
}

/// Whether the upstream may have processed the request. RFC 9110 §9.2.2 makes every automatic retry depend on this.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Processed {
    /// The upstream provably never got the request.
    Never,
    /// The upstream may have processed it.
    Perhaps,
}

/// What an upstream asks for with `Retry-After` (RFC 9110 §10.2.3).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Pushback {
    /// There is no `Retry-After`.
    #[default]
    None,
    /// Wait for this long.
    After(Duration),
    /// A value that we cannot read. The safe reading is not to retry at all, as gRPC A6 has it.
    Unreadable,
}

impl Class {
    /// The word for labels and logs.
    pub fn word(self) -> &'static str {
        match self {
            Class::Success => "success",
            Class::Failure => "failure",
            Class::Overload => "overload",
            Class::Neutral => "neutral",
        }
    }

    /// The final class of a response whose class at the head was `self`. The endpoint is judged by what it did, so a downstream that leaves a stream in the middle
    /// takes nothing from it. [`Class::Neutral`] leaves a closed breaker with the success that the head was; a probe has to show more than a head.
    pub fn at_end(self, end: BodyEnd) -> Class {
        match end {
            BodyEnd::Whole | BodyEnd::AbandonedGoingOn => self,
            BodyEnd::BrokenOff => Class::Failure,
            BodyEnd::Abandoned if self == Class::Success => Class::Neutral,
            BodyEnd::Abandoned => self,
            BodyEnd::Delayed => Class::Neutral,
        }
    }
}

impl Outcome {
    /// The word for labels and logs; for a response it is that of its class.
    pub fn word(&self) -> &'static str {
        match self {
            Outcome::Response { .. } => self.class().word(),
            Outcome::ConnectFailed => "connect_failed",
            Outcome::NoLocalSocket => "no_local_socket",
            Outcome::Unsent => "unsent",
            Outcome::Reset { .. } => "reset",
            Outcome::AttemptTimedOut => "attempt_timeout",
            Outcome::MalformedResponse => "malformed_response",
            Outcome::DownstreamDisconnect => "downstream_disconnect",
            Outcome::DownstreamError => "downstream_error",
            Outcome::EndedAwaitingBody => "ended_awaiting_body",
            Outcome::Superseded => "superseded",
            Outcome::MemoryLimit => "memory_limit",
        }
    }

    /// How the breaker of the endpoint counts this outcome.
    pub fn class(&self) -> Class {
        match self {
            Outcome::Response { status: 429, .. } => Class::Overload,
            Outcome::Response { status: 503, pushback } if *pushback != Pushback::None => Class::Overload,
            Outcome::Response { status, .. } if *status >= 500 => Class::Failure,
            Outcome::Response { .. } => Class::Success,
            Outcome::ConnectFailed | Outcome::AttemptTimedOut | Outcome::MalformedResponse => Class::Failure,
            Outcome::Reset { reused: false } => Class::Failure,
            // The keep-alive race is no failure: the upstream was free to close an idle connection.
            Outcome::Unsent | Outcome::Reset { reused: true } => Class::Neutral,
            Outcome::NoLocalSocket | Outcome::Superseded | Outcome::MemoryLimit => Class::Neutral,
            Outcome::DownstreamDisconnect | Outcome::DownstreamError | Outcome::EndedAwaitingBody => Class::Neutral,
        }
    }

    /// How the breaker of calls counts a request that ends with this outcome. Some outcomes are excused at one endpoint, but the request has still failed.
    pub fn call_class(&self) -> Class {
        match self {
            Outcome::Unsent | Outcome::Reset { .. } => Class::Failure,
            _ => self.class(),
        }
    }

    /// Whether the upstream may have processed the request.
    pub fn processed(&self) -> Processed {
        match self {
            Outcome::ConnectFailed | Outcome::NoLocalSocket | Outcome::Unsent => Processed::Never,
            Outcome::Response { .. }
            | Outcome::Reset { .. }
            | Outcome::AttemptTimedOut
            | Outcome::MalformedResponse
            | Outcome::DownstreamDisconnect
            | Outcome::DownstreamError
            | Outcome::EndedAwaitingBody
            | Outcome::Superseded
            | Outcome::MemoryLimit => Processed::Perhaps,
        }
    }

    /// What the upstream asked for.
    pub fn pushback(&self) -> Pushback {
        match self {
            Outcome::Response { pushback, .. } => *pushback,
            _ => Pushback::None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn overload_is_not_failure_and_a_mistake_of_the_downstream_is_success() {
        let asked = Pushback::After(Duration::from_secs(1));
        for (status, pushback, class) in [
            (200, Pushback::None, Class::Success),
            (404, Pushback::None, Class::Success),
            (429, Pushback::None, Class::Overload),
            (429, asked, Class::Overload),
            (500, asked, Class::Failure),
            (503, Pushback::None, Class::Failure),
            (503, asked, Class::Overload),
            (503, Pushback::Unreadable, Class::Overload),
            (599, Pushback::None, Class::Failure),
        ] {
            assert_eq!(Outcome::Response { status, pushback }.class(), class, "{status} {pushback:?}");
        }
    }

    #[test]
    fn only_what_never_left_is_proven_unprocessed() {
        for outcome in [Outcome::ConnectFailed, Outcome::NoLocalSocket, Outcome::Unsent] {
            assert_eq!(outcome.processed(), Processed::Never, "{outcome:?}");
        }
        for outcome in [
            Outcome::Reset { reused: true },
            Outcome::AttemptTimedOut,
            Outcome::MalformedResponse,
            Outcome::DownstreamDisconnect,
        ] {
            assert_eq!(outcome.processed(), Processed::Perhaps, "{outcome:?}");
        }
    }

    #[test]
    fn a_lost_keep_alive_race_is_excused_at_the_endpoint_and_not_for_the_call() {
        for outcome in [Outcome::Unsent, Outcome::Reset { reused: true }] {
            assert_eq!((outcome.class(), outcome.call_class()), (Class::Neutral, Class::Failure), "{outcome:?}");
        }
        for outcome in [
            Outcome::NoLocalSocket,
            Outcome::DownstreamError,
            Outcome::EndedAwaitingBody,
            Outcome::Superseded,
            Outcome::MemoryLimit,
        ] {
            assert_eq!((outcome.class(), outcome.call_class()), (Class::Neutral, Class::Neutral), "{outcome:?}");
        }
    }

    #[test]
    fn a_body_that_breaks_off_makes_a_failure_of_any_head() {
        for class in [Class::Success, Class::Failure, Class::Overload] {
            assert_eq!(class.at_end(BodyEnd::Whole), class);
            assert_eq!(class.at_end(BodyEnd::BrokenOff), Class::Failure);
            assert_eq!(class.at_end(BodyEnd::Delayed), Class::Neutral);
            assert_eq!(class.at_end(BodyEnd::AbandonedGoingOn), class, "the endpoint has done its part so far");
            let by_head = if class == Class::Success { Class::Neutral } else { class };
            assert_eq!(
                class.at_end(BodyEnd::Abandoned),
                by_head,
                "to a probe a head is half a success and a whole failure"
            );
        }
    }
}
