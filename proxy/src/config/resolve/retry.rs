//! `[….retry]` of an upstream or a route: how often and when a request is sent again, and which requests may be.

use std::time::Duration;

use outrigger_policy::backoff::Backoff;
use outrigger_policy::retry::{Conditions, Config};

use crate::config::file::Table;
use crate::config::settings::Repeat;

use super::units::{KIB, MIB, MINUTE, millis};

/// What applies to an upstream that sets no key.
pub(super) fn default() -> (Config, Repeat) {
    let on =
        Conditions { connect_failure: true, reset: true, attempt_timeout: true, statuses: vec![500, 502, 503, 504] };
    let retry = Config { max_attempts: 3, on, backoff: Backoff { base: millis(25), cap: millis(250) } };
    (retry, Repeat { idempotent: false, idempotency_key: false, replay_bytes_max: 64 * KIB })
}

pub(super) fn read(table: &mut Table<'_>, (retry, repeat): &(Config, Repeat)) -> (Config, Repeat) {
    let statuses = table.integers("statuses", 400..=599);
    let statuses = statuses.map(|items| items.into_iter().map(|item| item.value).collect());
    let on = Conditions {
        connect_failure: table.boolean("connect_failure").or(retry.on.connect_failure),
        reset: table.boolean("reset").or(retry.on.reset),
        attempt_timeout: table.boolean("attempt_timeout").or(retry.on.attempt_timeout),
        statuses: statuses.or(retry.on.statuses.clone()),
    };
    let cap = table.duration("backoff_cap", Duration::ZERO..=5 * MINUTE).settle(retry.backoff.cap);
    let base = table.duration("backoff_base", Duration::ZERO..=MINUTE).at_most(retry.backoff.base, &cap, table.faults);
    let max_attempts = table.integer("max_attempts", 1..=10).or(retry.max_attempts);
    let repeat = Repeat {
        idempotent: table.boolean("idempotent").or(repeat.idempotent),
        idempotency_key: table.boolean("idempotency_key").or(repeat.idempotency_key),
        replay_bytes_max: table.size("replay_bytes_max", 0..=16 * MIB).or(repeat.replay_bytes_max),
    };
    (Config { max_attempts, on, backoff: Backoff { base: base.value, cap: cap.value } }, repeat)
}
