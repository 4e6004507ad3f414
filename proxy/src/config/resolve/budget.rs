//! `[….budget]` of an upstream or a route.

use outrigger_policy::budget::Config;

use crate::config::file::Table;

use super::units::{MINUTE, percent, secs};

/// What applies to an upstream that sets no key.
pub(super) const DEFAULT: Config = Config { ratio: percent(20), floor_per_second: 10, window: secs(10) };

pub(super) fn read(table: &mut Table<'_>, base: Config) -> Config {
    Config {
        ratio: table.ratio("ratio", 0.0..=10.0).or(base.ratio),
        floor_per_second: table.integer("floor_per_second", 0..=10_000).or(base.floor_per_second),
        window: table.duration("window", secs(1)..=5 * MINUTE).or(base.window),
    }
}
