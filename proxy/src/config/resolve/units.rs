//! Short names for the durations, sizes and ratios in ranges and defaults.

use std::time::Duration;

use outrigger_policy::units::Ratio;

pub(super) const MINUTE: Duration = Duration::from_mins(1);
pub(super) const HOUR: Duration = Duration::from_hours(1);
pub(super) const KIB: usize = 1 << 10;
pub(super) const MIB: usize = 1 << 20;
pub(super) const GIB: usize = 1 << 30;

pub(super) const fn secs(secs: u64) -> Duration {
    Duration::from_secs(secs)
}

pub(super) const fn millis(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

/// Up to 100.
pub(super) const fn percent(percent: u32) -> Ratio {
    match Ratio::from_ppm(percent * 10_000) {
        Some(ratio) => ratio,
        None => Ratio::MAX,
    }
}
