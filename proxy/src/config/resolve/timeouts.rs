//! `[….timeouts]` of an upstream or a route.

use std::time::Duration;

use crate::config::file::{Settled, Table};
use crate::config::settings::Timeouts;

use super::units::{GIB, HOUR, KIB, MINUTE, millis, secs};

/// What applies to an upstream that sets no key.
pub(super) const DEFAULT: Timeouts = Timeouts {
    request: secs(30),
    attempt: secs(10),
    connect: secs(1),
    idle_body: secs(30),
    upload: Duration::from_mins(5),
    upload_bytes_per_second_min: KIB,
    tunnel_idle: Duration::from_mins(10),
};

/// The timeouts, and where the two stand that the lease of a breaker's probe is compared with.
pub(super) struct TimeoutsDraft {
    pub(super) request: Settled<Duration>,
    pub(super) attempt: Settled<Duration>,
    pub(super) settings: Timeouts,
}

impl TimeoutsDraft {
    pub(super) fn read(table: &mut Table<'_>, base: &Timeouts) -> TimeoutsDraft {
        let request = table.duration("request", millis(10)..=HOUR).settle(base.request);
        let attempt = table.duration("attempt", millis(10)..=HOUR).at_most(base.attempt, &request, table.faults);
        let connect = table.duration("connect", millis(10)..=MINUTE).at_most(base.connect, &attempt, table.faults);
        let settings = Timeouts {
            request: request.value,
            attempt: attempt.value,
            connect: connect.value,
            idle_body: table.duration("idle_body", millis(100)..=HOUR).or(base.idle_body),
            upload: table.duration("upload", secs(1)..=24 * HOUR).or(base.upload),
            upload_bytes_per_second_min: table
                .size("upload_bytes_per_second_min", 0..=GIB)
                .or(base.upload_bytes_per_second_min),
            tunnel_idle: table.duration("tunnel_idle", secs(1)..=24 * HOUR).or(base.tunnel_idle),
        };
        TimeoutsDraft { request, attempt, settings }
    }
}
