//! What happened to an attempt, and how the policies count it.
//!
//! Three facts of every outcome are kept apart, because systems that fold them into `success: bool` get them wrong: how it counts
//! ([`Class`]), whether the upstream may have acted on it ([`Processed`]), and what the upstream asks of us ([`Pushback`]).

use std::time::Duration;

/// How one attempt ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Outcome {
    /// An answer's head arrived.
    Answered {
        /// Status code of the final answer, 200 to 999, or 101.
        status: u16,
        /// What its `Retry-After` asks for.
        pushback: Pushback,
    },
    /// No connection: refused, unreachable, name unknown, or not established in time.
    ConnectFailed,
    /// The connection was dead before the first byte of the request was written.
    Unsent,
    /// The connection ended after the request was (partly) written and before a byte of the answer came.
    Reset {
        /// The connection had served a request before: most likely the upstream closed it for idleness at the same moment.
        reused: bool,
    },
    /// No answer within the attempt's time.
    AttemptTimedOut,
    /// Bytes came back that are no HTTP answer, or only a part of one's head.
    Garbled,
    /// The caller went away before there was an answer.
    CallerGone,
    /// The caller's own request body broke off or came too slowly.
    CallerFault,
}

/// How a policy counts an outcome.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Class {
    /// The upstream did its work. A caller's own mistake (4xx) is one too: the upstream was there to find it.
    Success,
    /// The upstream failed.
    Failure,
    /// The upstream is alive and asks for less: 429, or 503 with `Retry-After`. Never counted as a failure of a closed breaker.
    Overload,
    /// Says nothing about the upstream.
    Neutral,
}

/// Whether the upstream may have acted on the request (RFC 9110 §9.2.2 makes this the question for every automatic retry).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Processed {
    /// It provably never got the request.
    Never,
    /// It may have.
    Perhaps,
}

/// What an upstream asks by `Retry-After` (RFC 9110 §10.2.3).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Pushback {
    /// Nothing.
    #[default]
    None,
    /// To wait so long.
    After(Duration),
    /// Something we cannot read: then the safe reading is not to come back by ourselves (as gRPC A6 has it).
    Unreadable,
}

impl Outcome {
    /// How breakers count this outcome.
    pub fn class(&self) -> Class {
        match self {
            Outcome::Answered { status: 429, .. } => Class::Overload,
            Outcome::Answered { status: 503, pushback } if *pushback != Pushback::None => Class::Overload,
            Outcome::Answered { status, .. } if *status >= 500 => Class::Failure,
            Outcome::Answered { .. } => Class::Success,
            Outcome::ConnectFailed | Outcome::AttemptTimedOut | Outcome::Garbled => Class::Failure,
            Outcome::Reset { reused: false } => Class::Failure,
            // The keep-alive race is nobody's illness: the upstream was free to close an idle connection.
            Outcome::Unsent | Outcome::Reset { reused: true } => Class::Neutral,
            Outcome::CallerGone | Outcome::CallerFault => Class::Neutral,
        }
    }

    /// Whether the upstream may have acted on the request.
    pub fn processed(&self) -> Processed {
        match self {
            Outcome::ConnectFailed | Outcome::Unsent => Processed::Never,
            Outcome::Answered { .. } | Outcome::Reset { .. } | Outcome::AttemptTimedOut | Outcome::Garbled => {
                Processed::Perhaps
            }
            Outcome::CallerGone | Outcome::CallerFault => Processed::Perhaps,
        }
    }

    /// What the upstream asked for.
    pub fn pushback(&self) -> Pushback {
        match self {
            Outcome::Answered { pushback, .. } => *pushback,
            _ => Pushback::None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn overload_is_not_failure_and_a_callers_mistake_is_success() {
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
            assert_eq!(Outcome::Answered { status, pushback }.class(), class, "{status} {pushback:?}");
        }
    }

    #[test]
    fn only_what_never_left_is_proven_unprocessed() {
        for outcome in [Outcome::ConnectFailed, Outcome::Unsent] {
            assert_eq!(outcome.processed(), Processed::Never, "{outcome:?}");
        }
        for outcome in
            [Outcome::Reset { reused: true }, Outcome::AttemptTimedOut, Outcome::Garbled, Outcome::CallerGone]
        {
            assert_eq!(outcome.processed(), Processed::Perhaps, "{outcome:?}");
        }
    }
}
