//! `[drain]`.

use std::time::Duration;

use crate::config::file::Table;
use crate::config::settings::Drain;

use super::units::{HOUR, MINUTE, secs};

pub(super) fn read(table: &mut Table<'_>) -> Drain {
    let timeout = table.duration("timeout", Duration::ZERO..=HOUR).settle(secs(25));
    let grace = table.duration("grace", Duration::ZERO..=HOUR).at_most(secs(5), &timeout, table.faults);
    let silence = table.duration("silence", Duration::ZERO..=5 * MINUTE).or(secs(3));
    let quit = table.boolean("quit").or(false);
    Drain { silence, timeout: timeout.value, grace: grace.value, quit }
}
