//! Decides whether a failed attempt is retried, and after which wait.
//!
//! The checks have a fixed order, and the first one that fails is the reason why there is no retry:
//! condition → attempts → safety (RFC 9110 §9.2.2) → body → pushback → deadline → endpoint → room to wait → budget. The budget comes last, because it is the
//! only step that spends something. So nothing is withdrawn for a retry that another check forbids.

use std::sync::Arc;
use std::time::{Duration, Instant};

use rand::Rng;

use crate::backoff::{Backoff, draw_up_to};
use crate::budget::{Budget, Exhausted, Withdrawal};
use crate::deadline::Deadline;
use crate::outcome::{Outcome, Processed, Pushback};

/// The retry policy of a route.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Config {
    /// The limit of attempts, with the first one; 1 switches retries off.
    pub max_attempts: u32,
    /// Which outcomes are retried.
    pub on: Conditions,
    /// The wait before a retry for which the upstream sent no `Retry-After`.
    pub backoff: Backoff,
}

/// Which outcomes are retried.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Conditions {
    /// No connection could be made.
    pub connect_failure: bool,
    /// The connection broke before a response, or what came was no valid response.
    pub reset: bool,
    /// The attempt's time ran out.
    pub attempt_timeout: bool,
    /// Responses with one of these status codes.
    pub statuses: Vec<u16>,
}

/// Why an attempt is retried.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Reason {
    /// No connection could be made.
    ConnectFailure,
    /// The connection broke before a response.
    Reset,
    /// The attempt's time ran out.
    AttemptTimeout,
    /// The response's status is one that the route retries.
    Status,
    /// The connection was dead before the first byte. (If it came from the pool, the same attempt goes on over another one instead.)
    Unsent,
}

/// Why a candidate for a retry is not retried, with the numbers that were compared.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Refused {
    /// All attempts have been made.
    Attempts {
        /// The limit of attempts.
        max: u32,
    },
    /// The request may have been processed and is not safe to repeat.
    NotIdempotent,
    /// The request's body did not fit the replay buffer.
    BodyNotBuffered,
    /// The upstream sent a `Retry-After` that we cannot read.
    Pushback,
    /// The wait would not leave time for another attempt.
    Deadline {
        /// The wait before the retry.
        wait: Duration,
        /// The time left until the request's deadline.
        left: Duration,
    },
    /// No endpoint admits another attempt.
    NoEndpoint,
    /// As many requests wait as may wait.
    WaitingLimit {
        /// The limit.
        max: u32,
    },
    /// The budget is exhausted.
    Budget(Exhausted),
}

/// The decision.
#[derive(Debug)]
pub enum Verdict {
    /// Return this outcome downstream, because it is no candidate for a retry.
    Return,
    /// Return this outcome downstream, although it was a candidate.
    Refuse(Refused),
    /// Wait, then retry.
    Retry {
        /// The wait before the next attempt.
        wait: Duration,
        /// Why the attempt is retried.
        reason: Reason,
        /// What the budget pays for it.
        withdrawal: Withdrawal,
    },
}

/// The facts that a decision depends on.
#[derive(Clone, Copy, Debug)]
pub struct Ask {
    /// How the last attempt ended.
    pub outcome: Outcome,
    /// Attempts made so far, with the last one.
    pub attempts: u32,
    /// Whether the request may be repeated, by its method or by the route's configuration.
    pub is_idempotent: bool,
    /// Whether the whole body can be sent once more.
    pub is_replayable: bool,
    /// When the request has to be over.
    pub deadline: Deadline,
    /// Whether some endpoint would admit another attempt.
    pub has_endpoint: bool,
    /// The limit on waiting requests, if it is reached.
    pub waiting_limit: Option<u32>,
}

impl Reason {
    /// The word for labels and logs.
    pub fn word(self) -> &'static str {
        match self {
            Reason::ConnectFailure => "connect_failure",
            Reason::Reset => "reset",
            Reason::AttemptTimeout => "attempt_timeout",
            Reason::Status => "status",
            Reason::Unsent => "unsent",
        }
    }
}

impl Refused {
    /// The word for labels and logs.
    pub fn word(self) -> &'static str {
        match self {
            Refused::Attempts { .. } => "attempts",
            Refused::NotIdempotent => "not_idempotent",
            Refused::BodyNotBuffered => "body_not_buffered",
            Refused::Pushback => "pushback",
            Refused::Deadline { .. } => "deadline",
            Refused::NoEndpoint => "no_endpoint",
            Refused::WaitingLimit { .. } => "waiting_limit",
            Refused::Budget(_) => "budget",
        }
    }
}

impl Config {
    /// Whether an outcome is a candidate for a retry, so that a decision is needed.
    pub fn is_candidate(&self, outcome: &Outcome) -> bool {
        self.max_attempts > 1 && self.on.reason(outcome).is_some()
    }

    /// Decides about one attempt that has ended. With [`Verdict::Retry`] one attempt has been withdrawn from `budget`.
    pub fn decide(&self, ask: &Ask, budget: &Arc<Budget>, now: Instant, rng: &mut impl Rng) -> Verdict {
        let Some(reason) = self.on.reason(&ask.outcome).filter(|_| self.max_attempts > 1) else {
            return Verdict::Return;
        };
        if ask.attempts >= self.max_attempts {
            return Verdict::Refuse(Refused::Attempts { max: self.max_attempts });
        }
        if !ask.is_idempotent && ask.outcome.processed() == Processed::Perhaps {
            return Verdict::Refuse(Refused::NotIdempotent);
        }
        if !ask.is_replayable {
            return Verdict::Refuse(Refused::BodyNotBuffered);
        }
        let wait = match ask.outcome.pushback() {
            Pushback::Unreadable => return Verdict::Refuse(Refused::Pushback),
            // Spread over half as much again, so that the clients that were sent away do not all come back at once.
            Pushback::After(asked) => asked.saturating_add(draw_up_to(asked / 2, rng)),
            Pushback::None => self.backoff.draw(ask.attempts, rng),
        };
        if !ask.deadline.has_room_after(now, wait) {
            return Verdict::Refuse(Refused::Deadline { wait, left: ask.deadline.remaining(now) });
        }
        if !ask.has_endpoint {
            return Verdict::Refuse(Refused::NoEndpoint);
        }
        if let Some(max) = ask.waiting_limit {
            return Verdict::Refuse(Refused::WaitingLimit { max });
        }
        match budget.withdraw(now) {
            Ok(withdrawal) => Verdict::Retry { wait, reason, withdrawal },
            Err(exhausted) => Verdict::Refuse(Refused::Budget(exhausted)),
        }
    }
}

impl Conditions {
    /// Whether these retry each outcome that `others` retry although the endpoint may have acted.
    pub fn include(&self, others: &Conditions) -> bool {
        self.reset >= others.reset
            && self.attempt_timeout >= others.attempt_timeout
            && others.statuses.iter().all(|status| self.statuses.contains(status))
    }

    fn reason(&self, outcome: &Outcome) -> Option<Reason> {
        match outcome {
            Outcome::Response { status, .. } => self.statuses.contains(status).then_some(Reason::Status),
            Outcome::ConnectFailed => self.connect_failure.then_some(Reason::ConnectFailure),
            Outcome::Unsent | Outcome::NoLocalSocket => Some(Reason::Unsent),
            Outcome::Reset { .. } | Outcome::EndedAwaitingBody | Outcome::MalformedResponse => {
                self.reset.then_some(Reason::Reset)
            }
            Outcome::AttemptTimedOut => self.attempt_timeout.then_some(Reason::AttemptTimeout),
            Outcome::DownstreamDisconnect | Outcome::DownstreamError | Outcome::Superseded | Outcome::MemoryLimit => {
                None
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::budget::{self, Balance};
    use crate::units::Ratio;
    use rand::SeedableRng;
    use rand::rngs::StdRng;

    const SERVER_ERROR: Outcome = Outcome::Response { status: 503, pushback: Pushback::None };

    fn config() -> Config {
        Config {
            max_attempts: 3,
            on: Conditions { connect_failure: true, reset: true, attempt_timeout: true, statuses: vec![503] },
            backoff: Backoff { base: Duration::from_millis(25), cap: Duration::from_millis(250) },
        }
    }

    struct Case {
        config: Config,
        ask: Ask,
        floor: u32,
    }

    /// A first attempt of an idempotent request that failed with 503, with every resource at hand.
    fn case(now: Instant) -> Case {
        let deadline = Deadline::after(now, Duration::from_secs(30));
        let ask = Ask {
            outcome: SERVER_ERROR,
            attempts: 1,
            is_idempotent: true,
            is_replayable: true,
            deadline,
            has_endpoint: true,
            waiting_limit: None,
        };
        Case { config: config(), ask, floor: 1 }
    }

    fn check(change: impl FnOnce(&mut Case), expected: Result<Reason, Option<Refused>>) {
        let now = Instant::now();
        let mut case = case(now);
        change(&mut case);
        let budget =
            budget::Config { ratio: Ratio::ZERO, floor_per_second: case.floor, window: Duration::from_secs(1) };
        let budget = Arc::new(Budget::new(budget, now));
        let verdict = case.config.decide(&case.ask, &budget, now, &mut StdRng::seed_from_u64(1));
        assert_eq!(case.config.is_candidate(&case.ask.outcome), !matches!(verdict, Verdict::Return));
        let spent = f64::from(case.floor) - budget.balance(now).as_f64();
        match (&verdict, expected) {
            (Verdict::Retry { reason, .. }, Ok(wanted)) => assert_eq!((*reason, spent), (wanted, 1.0)),
            (Verdict::Refuse(refused), Err(Some(wanted))) => assert_eq!((*refused, spent), (wanted, 0.0)),
            (Verdict::Return, Err(None)) => assert_eq!(spent, 0.0),
            (verdict, expected) => panic!("{verdict:?} where {expected:?} was expected"),
        }
    }

    #[test]
    fn each_condition_has_its_reason_and_can_be_switched_off() {
        for (outcome, reason) in [
            (SERVER_ERROR, Reason::Status),
            (Outcome::ConnectFailed, Reason::ConnectFailure),
            (Outcome::Reset { reused: false }, Reason::Reset),
            (Outcome::MalformedResponse, Reason::Reset),
            (Outcome::AttemptTimedOut, Reason::AttemptTimeout),
        ] {
            check(|c| c.ask.outcome = outcome, Ok(reason));
            let off = Conditions { connect_failure: false, reset: false, attempt_timeout: false, statuses: vec![] };
            check(|c| (c.ask.outcome, c.config.on) = (outcome, off), Err(None));
        }
        check(|c| c.ask.outcome = Outcome::DownstreamDisconnect, Err(None));
        check(|c| c.ask.outcome = Outcome::Response { status: 200, pushback: Pushback::None }, Err(None));
    }

    #[test]
    fn the_first_thing_in_the_way_is_the_reason() {
        check(|c| c.ask.attempts = 3, Err(Some(Refused::Attempts { max: 3 })));
        check(|c| c.ask.attempts = 2, Ok(Reason::Status));
        check(|c| c.ask.is_idempotent = false, Err(Some(Refused::NotIdempotent)));
        check(|c| (c.ask.is_idempotent, c.ask.outcome) = (false, Outcome::ConnectFailed), Ok(Reason::ConnectFailure));
        check(|c| (c.ask.is_idempotent, c.ask.outcome) = (false, Outcome::Unsent), Ok(Reason::Unsent));
        check(|c| c.ask.is_replayable = false, Err(Some(Refused::BodyNotBuffered)));
        check(|c| c.ask.has_endpoint = false, Err(Some(Refused::NoEndpoint)));
        let full = Some(Refused::WaitingLimit { max: 7 });
        check(|c| (c.floor, c.ask.waiting_limit) = (0, Some(7)), Err(full));
        check(|c| c.floor = 0, Err(Some(Refused::Budget(Exhausted { balance: Balance::default() }))));
        check(|c| (c.floor, c.ask.attempts) = (0, 3), Err(Some(Refused::Attempts { max: 3 })));
    }

    #[test]
    fn retries_switched_off_are_no_refusals() {
        check(|c| c.config.max_attempts = 1, Err(None));
    }

    #[test]
    fn retry_after_replaces_the_backoff_and_ends_the_retries_when_it_does_not_fit() {
        let asking = |pushback| Outcome::Response { status: 503, pushback };
        check(|c| c.ask.outcome = asking(Pushback::After(Duration::from_secs(1))), Ok(Reason::Status));
        let now = Instant::now();
        let ask = Ask { outcome: asking(Pushback::After(Duration::from_secs(30))), ..case(now).ask };
        let budget = Arc::new(Budget::new(
            budget::Config { ratio: Ratio::ZERO, floor_per_second: 1, window: Duration::from_secs(1) },
            now,
        ));
        let verdict = config().decide(&ask, &budget, now, &mut StdRng::seed_from_u64(1));
        let Verdict::Refuse(Refused::Deadline { wait, left }) = verdict else { panic!("{verdict:?}") };
        assert!(wait >= left && left == Duration::from_secs(30), "{wait:?} of {left:?}");
        check(|c| c.ask.outcome = asking(Pushback::Unreadable), Err(Some(Refused::Pushback)));
        let now = Instant::now();
        let ask = Ask { outcome: asking(Pushback::After(Duration::from_secs(2))), ..case(now).ask };
        let budget = Arc::new(Budget::new(
            budget::Config { ratio: Ratio::ZERO, floor_per_second: 100, window: Duration::from_secs(1) },
            now,
        ));
        for seed in 0..50 {
            let verdict = config().decide(&ask, &budget, now, &mut StdRng::seed_from_u64(seed));
            let Verdict::Retry { wait, .. } = verdict else { panic!("{verdict:?}") };
            assert!((Duration::from_secs(2)..=Duration::from_secs(3)).contains(&wait), "{wait:?}");
        }
    }
}
