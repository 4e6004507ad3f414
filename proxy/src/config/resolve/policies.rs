//! The settings that an upstream has and a route may change: timeouts, retry, budget, breaker and upgrade.
//!
//! One set of readers serves both. What an upstream does not set is the default of each section; what a route does not set comes from its upstream.

use outrigger_policy::breaker::Config as Breaker;
use outrigger_policy::budget::Config as Budget;
use outrigger_policy::retry::Config as Retry;

use crate::config::fault::quoted;
use crate::config::file::Table;
use crate::config::settings::{Policies, Repeat, Timeouts};

use super::breaker::{BreakerBase, BreakerDraft};
use super::timeouts::TimeoutsDraft;
use super::{budget, retry, timeouts};

/// The policies of an upstream or a route, before the lease of its breaker is known.
pub(super) struct Draft {
    pub(super) timeouts: TimeoutsDraft,
    pub(super) breaker: BreakerDraft,
    pub(super) has_own_budget: bool,
    pub(super) has_own_breaker: bool,
    retry: (Retry, Repeat),
    budget: Budget,
    upgrade: Vec<String>,
}

/// What applies to keys that are not set.
pub(super) struct Base {
    timeouts: Timeouts,
    retry: (Retry, Repeat),
    budget: Budget,
    breaker: BreakerBase,
    upgrade: Vec<String>,
}

impl Base {
    /// What applies to upstreams.
    pub(super) fn of_upstreams() -> Base {
        Base {
            timeouts: timeouts::DEFAULT,
            retry: retry::default(),
            budget: budget::DEFAULT,
            breaker: BreakerBase::DEFAULT,
            upgrade: Vec::new(),
        }
    }

    /// What applies to the routes of an upstream.
    pub(super) fn of_routes(upstream: &Draft) -> Base {
        Base {
            timeouts: upstream.timeouts.settings,
            retry: upstream.retry.clone(),
            budget: upstream.budget,
            breaker: BreakerBase::of_routes(&upstream.breaker),
            upgrade: upstream.upgrade.clone(),
        }
    }
}

impl Draft {
    /// Reads the sections that upstreams and routes have in common.
    pub(super) fn read(table: &mut Table<'_>, base: &Base) -> Draft {
        let timeouts = table.section("timeouts", |table| TimeoutsDraft::read(table, &base.timeouts));
        let retry = table.section("retry", |table| retry::read(table, &base.retry));
        let (budget, has_own_budget) =
            table.section("budget", |table| (budget::read(table, base.budget), table.has_keys()));
        let (breaker, has_own_breaker) =
            table.section("breaker", |table| (BreakerDraft::read(table, &base.breaker), table.has_keys()));
        let upgrade = table.texts("upgrade", "a protocol", 0..=10, parse_protocol);
        let upgrade = upgrade.map(|items| items.into_iter().map(|item| item.value).collect()).or(base.upgrade.clone());
        Draft { timeouts, breaker, has_own_budget, has_own_breaker, retry, budget, upgrade }
    }

    /// The policies, with the breaker that applies.
    pub(super) fn finish(self, breaker: Option<Breaker>) -> Policies {
        let Draft { timeouts, retry: (retry, repeat), budget, upgrade, .. } = self;
        Policies { timeouts: timeouts.settings, retry, repeat, budget, breaker, upgrade }
    }
}

/// A protocol that a request may upgrade to. Names of protocols ignore case (RFC 9110 §7.8).
fn parse_protocol(text: &str) -> Result<String, String> {
    let found = quoted(text);
    let protocol = text.to_ascii_lowercase();
    if matches!(protocol.as_str(), "h2c" | "h2") {
        return Err(format!("{found} is HTTP/2, which is not forwarded (requests in it would pass unseen)"));
    }
    let is_token = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    let is_protocol = !text.is_empty() && text.len() <= 64 && text.bytes().all(is_token);
    is_protocol.then_some(protocol).ok_or_else(|| format!("{found} is not a protocol (write \"websocket\")"))
}
