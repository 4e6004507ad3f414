//! `[….breaker]` of an upstream or a route, and `[upstreams.NAME.endpoint_breaker]`.
//!
//! The lease of a probe must be longer than whatever the breaker counts. How long that may take is known only when all routes have been read, so a
//! breaker is read as a [`BreakerDraft`] and finished later.

use std::num::NonZeroU32;
use std::time::Duration;

use outrigger_policy::breaker::Config;

use crate::config::duration::show_duration;
use crate::config::fault::Collector;
use crate::config::file::{Key, Settled, Table};

use super::units::{HOUR, millis, percent, secs};

/// How much longer than what it watches the lease of a probe is by default: time for the verdict to arrive.
const LEASE_MARGIN: Duration = secs(5);

/// A breaker whose lease is not settled yet.
pub(super) struct BreakerDraft {
    is_enabled: bool,
    config: Config,
    lease: Key<Duration>,
    /// The lease that the upstream sets, for a route that sets none.
    inherited_lease: Option<Duration>,
}

/// What applies to the keys of a breaker that are not set.
pub(super) struct BreakerBase {
    is_enabled: bool,
    config: Config,
    lease: Option<Duration>,
}

impl BreakerBase {
    /// What applies to an upstream or an endpoint that sets no key.
    pub(super) const DEFAULT: BreakerBase = BreakerBase {
        is_enabled: true,
        config: Config {
            window: secs(10),
            failure_ratio: percent(50),
            volume_min: 100,
            admitting_min: percent(50),
            consecutive_failures: NonZeroU32::MIN.saturating_add(19),
            open_base: millis(500),
            open_cap: secs(2),
            open_jitter: percent(20),
            probes: NonZeroU32::MIN,
            // `BreakerDraft::finish` settles it.
            probe_lease: Duration::ZERO,
        },
        lease: None,
    };

    /// What applies to the routes of an upstream.
    pub(super) fn of_routes(upstream: &BreakerDraft) -> BreakerBase {
        let lease = upstream.lease.written().map(|(lease, _)| *lease);
        BreakerBase { is_enabled: upstream.is_enabled, config: upstream.config, lease }
    }
}

impl BreakerDraft {
    pub(super) fn read(table: &mut Table<'_>, base: &BreakerBase) -> BreakerDraft {
        let open_cap = table.duration("open_cap", millis(100)..=HOUR).settle(base.config.open_cap);
        let open_base = table.duration("open_base", millis(100)..=HOUR);
        BreakerDraft {
            is_enabled: table.boolean("enabled").or(base.is_enabled),
            config: Config {
                window: table.duration("window", secs(1)..=HOUR).or(base.config.window),
                failure_ratio: table.ratio_above_zero("failure_ratio", 1.0).or(base.config.failure_ratio),
                volume_min: table.integer("volume_min", 1..=100_000).or(base.config.volume_min),
                admitting_min: table.ratio("admitting_min", 0.0..=1.0).or(base.config.admitting_min),
                consecutive_failures: table
                    .positive("consecutive_failures", 100_000)
                    .or(base.config.consecutive_failures),
                open_base: open_base.at_most(base.config.open_base, &open_cap, table.faults).value,
                open_cap: open_cap.value,
                open_jitter: table.ratio("open_jitter", 0.0..=1.0).or(base.config.open_jitter),
                probes: table.positive("probes", 1_000).or(base.config.probes),
                probe_lease: base.config.probe_lease,
            },
            lease: table.duration("probe_lease", millis(100)..=2 * HOUR),
            inherited_lease: base.lease,
        }
    }

    /// The breaker, or `None` if it is switched off. What it counts takes at most `longest`.
    pub(super) fn finish(&self, longest: &Settled<Duration>, faults: &Collector<'_>) -> Option<Config> {
        let probe_lease = match self.lease.written() {
            Some((lease, place)) => {
                if *lease <= longest.value && !longest.is_wrong() {
                    let lease = show_duration(*lease);
                    faults.add_relation(place, format!("{lease} is not longer than {}", longest.described(faults)));
                }
                *lease
            }
            None => {
                let inherited = self.inherited_lease.filter(|lease| *lease > longest.value);
                inherited.unwrap_or(longest.value + LEASE_MARGIN)
            }
        };
        self.is_enabled.then_some(Config { probe_lease, ..self.config })
    }
}
