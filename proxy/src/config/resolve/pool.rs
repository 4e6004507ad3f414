//! `[upstreams.NAME.pool]`.

use crate::config::file::Table;
use crate::config::settings::Pool;

use super::units::{HOUR, MINUTE, millis, secs};

pub(super) fn read(table: &mut Table<'_>) -> Pool {
    Pool {
        idle_max: table.integer("idle_max", 0..=10_000).or(64),
        idle_timeout: table.duration("idle_timeout", millis(100)..=HOUR).or(secs(4)),
        age_max: table.duration("age_max", secs(1)..=24 * HOUR).or(5 * MINUTE),
    }
}
